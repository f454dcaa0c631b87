"""Resources: found, opened at first use, closed once, in reverse order (R9, M7)."""

import asyncio
import contextvars
import inspect
import sqlite3
import threading

import pytest

import cascade as cs
from cascade.graph.build import build_graph
from cascade.runtime.events import ResourceAcquired, ResourceReleased
from cascade.runtime.resources.container import ResourceContainer
from cascade.spec.resource import Inject


@pytest.fixture
def log():
    """Notes of providers and tasks, from any thread."""
    return []


def provider(name, log, scope="run", needs=(), kind="plain", **options):
    """A resource that writes down when it is opened and closed."""
    if kind == "async":

        async def provide(**_):
            log.append(f"open {name}")
            await asyncio.sleep(0)
            yield name
            await asyncio.sleep(0)
            log.append(f"close {name}")
    else:

        def provide(**_):
            log.append(f"open {name}")
            yield name
            log.append(f"close {name}")

    provide.__signature__ = inspect.Signature(
        [
            inspect.Parameter(f"p{i}", inspect.Parameter.KEYWORD_ONLY, default=cs.inject(need))
            for i, need in enumerate(needs)
        ]
    )
    return cs.resource(name=name, scope=scope, **options)(provide)


kinds = pytest.mark.parametrize("kind", ["plain", "async", "bound"])


def of_kind(name, log, kind, **options):
    if kind == "bound":
        return provider(name, log, thread_bound=True, **options)
    return provider(name, log, kind=kind, **options)


# -- the container ----------------------------------------------------------------------------


def test_scan_names_the_resources_of_a_graph(log):
    database = provider("database", log)

    @cs.task
    def use(a, db=cs.inject(database), log=cs.inject("log")): ...

    @cs.task
    def plain(a): ...

    graph = build_graph(plain(use(use(1, cs.inject("other")))))

    assert ResourceContainer().scan(graph) == {"database", "log", "other"}


def test_other_objects_than_resources_are_not_registered():
    def provide():
        yield

    with pytest.raises(cs.errors.DefinitionError, match="decorated with @resource"):
        ResourceContainer().register(provide)


def test_an_unknown_name_is_an_error_with_known_and_similar_names(log):
    container = ResourceContainer()
    with pytest.raises(cs.errors.ResourceNotFoundError, match="the engine has none") as error:
        container.get_provider("databse")
    assert error.value.name == "databse"

    container.register(provider("database", log))
    container.register(provider("cache", log))
    with pytest.raises(NameError, match=r"'cache', 'database'.*did you mean 'database'"):
        container.get_provider("databse")
    with pytest.raises(NameError) as error:
        container.get_provider("zzz")
    assert "did you mean" not in str(error.value)


def test_a_later_registration_replaces_an_earlier_one(log):
    container = ResourceContainer()
    first, second = provider("a", log), provider("a", log)
    container.register(first)
    container.register(second)

    assert container.get_provider("a") is second.func


def test_an_override_keeps_scope_and_thread(log):
    container = ResourceContainer()
    container.register(provider("a", log, scope="task", thread_bound=True))

    def other():
        yield

    container.override_provider("a", other)

    found = container.providers().definition(Inject("a", None))
    assert (found.func, found.scope, found.thread_bound) == (other, "task", True)


def test_an_override_with_a_definition_brings_its_own_scope(log):
    container = ResourceContainer()
    container.register(provider("a", log, scope="task"))
    container.override_provider("a", provider("b", log, scope="run"))

    assert container.providers().definition(Inject("a", None)).scope == "run"


def test_an_override_of_a_provider_that_is_injected_itself_keeps_its_scope(log):
    container = ResourceContainer()
    original = provider("a", log, scope="task")

    def other():
        yield

    container.override_provider("a", other)

    assert container.providers().definition(Inject("a", original)).func is other
    assert container.providers().definition(Inject("a", original)).scope == "task"


def test_an_override_must_be_a_generator_function(log):
    container = ResourceContainer()
    with pytest.raises(cs.errors.DefinitionError, match="does not yield"):
        container.override_provider("a", lambda: 5)


def test_dependencies_are_the_injected_parameters(log):
    @cs.resource
    def top(base=cs.inject("base"), size=5):
        yield

    assert list(top.needs) == ["base"]


async def test_providers_that_need_each_other_are_refused_before_anything_runs(engine, use_vm, log):
    engine.register(provider("a", log, needs=["b"]))
    engine.register(provider("b", log, needs=["c"]))
    engine.register(provider("c", log, needs=["b"]))

    @cs.task
    def use(_, a=cs.inject("a")): ...

    @cs.task
    def note():
        log.append("ran")

    with pytest.raises(cs.errors.CycleError, match="b ← c ← b") as error:
        await engine.run(use(note()), use_vm=use_vm)
    assert error.value.cycle == ("b", "c", "b")
    assert log == []


async def test_a_run_resource_that_needs_a_task_resource_is_refused(engine, use_vm, log):
    inner = provider("inner", log, scope="task")
    outer = provider("outer", log, needs=[inner])

    @cs.task
    def use(_, outer=cs.inject(outer)): ...

    @cs.task
    def note():
        log.append("ran")

    with pytest.raises(cs.errors.ResourceError, match=r"'outer' lives as long as the run.*'inner'"):
        await engine.run(use(note()), use_vm=use_vm)
    assert log == []


async def test_resources_needed_by_resources_must_be_registered(run, log):
    outer = provider("outer", log, needs=["nowhere"])

    @cs.task
    def use(outer=cs.inject(outer)): ...

    with pytest.raises(cs.errors.ResourceNotFoundError, match="'nowhere'"):
        await run(use())


@pytest.mark.parametrize("nested", [False, True])
async def test_a_coroutine_task_cannot_use_a_thread_bound_resource(run, log, nested):
    """M7."""
    bound = provider("bound", log, thread_bound=True)

    @cs.task
    async def use(bound=cs.inject(bound)): ...

    @cs.task
    def outer():
        return use()

    with pytest.raises(cs.errors.ResourceError, match=r"coroutine task 'use'.*'bound'"):
        await run(outer() if nested else use())
    assert log == []


# -- one run ----------------------------------------------------------------------------------


@kinds
async def test_a_run_resource_is_opened_once_at_first_use_and_closed_at_the_end(run, log, kind):
    resource = of_kind("db", log, kind)

    @cs.task
    def use(n, db=cs.inject(resource)):
        log.append(f"use {db}")
        return n

    @cs.task
    def before():
        log.append("before")

    first = use(1).after(before())
    await run(use(use(first)))

    assert log == ["before", "open db", "use db", "use db", "use db", "close db"]


@kinds
async def test_a_task_resource_is_one_per_attempt(run, log, kind):
    """M7."""
    resource = of_kind("db", log, kind, scope="task")

    @cs.task
    def use(n, db=cs.inject(resource)):
        log.append(f"use {db}")
        return n

    await run(use(use(1)))

    assert log == ["open db", "use db", "close db"] * 2


@kinds
async def test_a_task_resource_is_one_per_step_of_a_loop(run, log, kind):
    """R10."""
    resource = of_kind("db", log, kind, scope="task")

    @cs.task
    def loop(n, db=cs.inject(resource)):
        log.append(n)
        return loop.tail(n - 1) if n else "end"

    assert await run(loop(2)) == "end"
    assert log == [x for n in (2, 1, 0) for x in ("open db", n, "close db")]


async def test_a_run_resource_serves_all_steps_of_a_loop(run, log):
    resource = provider("db", log, kind="async")

    @cs.task
    async def loop(n, db=cs.inject(resource)):
        log.append(n)
        return loop.tail(n - 1) if n else "end"

    await run(loop(2))
    assert log == ["open db", 2, 1, 0, "close db"]


async def test_one_attempt_has_one_instance_however_often_it_is_asked_for(run, log):
    base = provider("base", log, scope="task")
    top = provider("top", log, scope="task", needs=[base])

    @cs.task
    def use(a=cs.inject(base), b=cs.inject(base), c=cs.inject(top)):
        return a, b, c

    assert await run(use()) == ("base", "base", "top")
    assert log == ["open base", "open top", "close top", "close base"]


async def test_nested_resources_close_in_reverse_order(run, log):
    a = provider("a", log)
    b = provider("b", log, needs=[a], kind="async")
    c = provider("c", log, needs=[b, a], thread_bound=True)
    d = provider("d", log, needs=[c], scope="task")

    @cs.task
    def use(d=cs.inject(d)):
        log.append("use")

    await run(use())

    assert log == [
        *["open a", "open b", "open c", "open d", "use"],
        *["close d", "close c", "close b", "close a"],
    ]


async def test_an_unused_resource_is_not_opened(engine, use_vm, log):
    resource = provider("db", log)
    engine.register(resource)

    @cs.task
    def use(db=cs.inject(resource)): ...

    @cs.task
    def no():
        return False

    @cs.task
    def end(): ...

    await engine.run(end().after(use().run_if(no())), use_vm=use_vm)
    assert log == []


async def test_a_resource_as_an_argument_of_a_call(run, log):
    resource = provider("db", log)

    @cs.task
    def use(anything):
        return anything

    assert await run([use(cs.inject(resource)), use(anything=cs.inject(resource))]) == ["db", "db"]
    assert log == ["open db", "close db"]


async def test_a_resource_asked_for_by_many_at_once_is_opened_once(run, log):
    resource = provider("db", log, kind="async")

    @cs.task
    async def use(n, db=cs.inject(resource)):
        return db

    assert await run(use.map(n=range(20))) == ["db"] * 20
    assert log == ["open db", "close db"]


async def test_a_returned_lazy_may_want_resources_of_its_own(run, log):
    resource = provider("db", log)

    @cs.task
    def outer():
        return inner()

    @cs.task
    def inner(db=cs.inject(resource)):
        return db

    assert await run(outer()) == "db"
    assert log == ["open db", "close db"]


async def test_a_tail_call_to_a_task_with_resources(run, log):
    resource = provider("db", log, scope="task")

    @cs.task
    def begin(n):
        return use.tail(n)

    @cs.task
    def use(n, db=cs.inject(resource)):
        return n, db

    assert await run(begin(1)) == (1, "db")
    assert log == ["open db", "close db"]


async def test_a_resource_can_be_any_value(run):
    values = [None, False, StopIteration(), cs.TailCall(), []]

    @cs.task
    def same(x):
        return cs.literal([x])

    for value in values:

        @cs.resource
        def provide(value=value):
            yield value

        ((found,),) = [await run(same(cs.inject(provide)))]
        assert found is value


async def test_thread_bound_things_and_their_users_share_one_thread(run):
    """M7: one sqlite3 connection, used by many mapped tasks."""
    threads = set()

    @cs.resource(thread_bound=True)
    def database():
        threads.add(threading.get_ident())
        connection = sqlite3.connect(":memory:")
        connection.execute("create table squares (n, square)")
        yield connection
        threads.add(threading.get_ident())
        connection.close()

    @cs.task
    def insert(n, db=cs.inject(database)):
        threads.add(threading.get_ident())
        db.execute("insert into squares values (?, ?)", (n, n * n))

    @cs.task
    def total(_, db=cs.inject(database)):
        return db.execute("select count(*), sum(square) from squares").fetchone()

    assert await run(total(insert.map(n=range(50)))) == (50, sum(n * n for n in range(50)))
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


async def test_an_override_of_a_thread_bound_resource_stays_bound(engine, use_vm):
    engine.override_resource_provider("db", lambda: (yield))

    @cs.resource(name="db", thread_bound=True)
    def database():
        yield "never"

    def replacement():
        connection = sqlite3.connect(":memory:")
        yield connection
        connection.close()

    engine.register(database)
    engine.override_resource_provider("db", replacement)

    @cs.task
    def one(db=cs.inject("db")):
        return db.execute("select 1").fetchone()

    assert await engine.run(one(), use_vm=use_vm) == (1,)


async def test_an_async_provider_has_one_task_and_one_context(run):
    """M7: cancel scopes and context variables around the yield work."""
    variable = contextvars.ContextVar("variable")
    tasks = []

    @cs.resource
    async def scope():
        tasks.append(asyncio.current_task())
        token = variable.set("inside")
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
            yield "scope"
        variable.reset(token)
        tasks.append(asyncio.current_task())

    @cs.task
    async def use(scope=cs.inject(scope)):
        tasks.append(asyncio.current_task())
        return variable.get("outside")

    assert await run([use(), use()]) == ["outside"] * 2
    assert tasks[0] is tasks[-1]
    assert tasks[0] not in tasks[1:-1]


async def test_a_plain_provider_has_one_context(run):
    variable = contextvars.ContextVar("variable")

    @cs.resource
    def scope():
        token = variable.set("inside")
        yield
        variable.reset(token)  # a ValueError in another Context

    @cs.task
    def use(scope=cs.inject(scope)):
        return variable.get("outside")

    assert await run(use()) == "outside"


async def test_plain_providers_do_not_hold_the_loop(run):
    begun = threading.Event()
    go = threading.Event()

    @cs.resource
    def slow():
        begun.set()
        assert go.wait(10)
        yield "slow"

    @cs.task
    async def use(slow=cs.inject(slow)):
        return slow

    running = asyncio.ensure_future(run(use()))
    assert await asyncio.to_thread(begun.wait, 10)
    go.set()
    assert await running == "slow"


# -- faults -----------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("scope", ["run", "task"])
async def test_an_error_while_opening_is_raised_and_the_rest_closed(run, log, kind, scope):
    base = provider("base", log, scope=scope)

    def plain(base=cs.inject(base)):
        raise ConnectionError("refused")
        yield

    async def coroutine(base=cs.inject(base)):
        raise ConnectionError("refused")
        yield

    func = coroutine if kind == "async" else plain
    broken = cs.resource(name="db", scope=scope, thread_bound=kind == "bound")(func)

    @cs.task
    def use(db=cs.inject(broken)):
        log.append("use")

    with pytest.raises(ConnectionError, match="refused") as caught:
        await run(use())
    opening, task = caught.value.__notes__
    assert opening == "while opening the resource 'db'"
    assert task.startswith("cascade: in task 'use', called at ")
    assert log == ["open base", "close base"]


async def test_a_resource_that_failed_to_open_fails_all_its_users(run):
    opened = []

    @cs.resource
    async def broken():
        opened.append(1)
        raise ConnectionError("refused")
        yield

    @cs.task
    async def use(n, db=cs.inject(broken)): ...

    with pytest.raises(ConnectionError, match="refused"):
        await run(use.map(n=range(5)))
    assert opened == [1]


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("scope", ["run", "task"])
async def test_a_provider_that_never_yields(run, kind, scope):
    def plain():
        return
        yield

    async def coroutine():
        return
        yield

    resource = cs.resource(name="db", scope=scope)(plain if kind == "plain" else coroutine)

    @cs.task
    def use(db=cs.inject(resource)): ...

    with pytest.raises(cs.errors.ResourceError, match="provider of 'db' did not yield"):
        await run(use())


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("scope", ["run", "task"])
async def test_a_provider_that_yields_twice(run, kind, scope):
    log = []

    def plain():
        try:
            yield 1
            yield 2
        finally:
            log.append("closed")

    async def coroutine():
        try:
            yield 1
            yield 2
        finally:
            log.append("closed")

    resource = cs.resource(name="db", scope=scope)(plain if kind == "plain" else coroutine)

    @cs.task
    def use(db=cs.inject(resource)):
        return db

    with pytest.raises(cs.errors.ResourceError, match="provider of 'db' yielded a second time"):
        await run(use())
    assert log == ["closed"]


@kinds
@pytest.mark.parametrize("scope", ["run", "task"])
async def test_an_error_while_closing_is_raised_and_the_rest_closed(run, log, kind, scope):
    base = provider("base", log, scope=scope)

    def plain(base=cs.inject(base)):
        yield "db"
        raise OSError("stuck")

    async def coroutine(base=cs.inject(base)):
        yield "db"
        raise OSError("stuck")

    func = coroutine if kind == "async" else plain
    broken = cs.resource(name="db", scope=scope, thread_bound=kind == "bound")(func)

    @cs.task
    def use(db=cs.inject(broken)):
        return db

    with pytest.raises(OSError, match="stuck") as caught:
        await run(use())
    assert "while closing the resource 'db'" in caught.value.__notes__
    assert log == ["open base", "close base"]


@pytest.mark.parametrize("scope", ["run", "task"])
async def test_an_error_while_closing_is_a_note_on_the_error_of_the_task(run, log, scope):
    base = provider("base", log, scope=scope)

    @cs.resource(scope=scope)
    def broken(base=cs.inject(base)):
        yield
        raise OSError("stuck")

    @cs.task
    def use(db=cs.inject(broken)):
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong") as caught:
        await run(use())
    assert "also, while closing the resource 'broken': OSError: stuck" in caught.value.__notes__
    assert log == ["open base", "close base"]


async def test_several_errors_while_closing_are_raised_together(run):
    def failing(name):
        @cs.resource(name=name)
        def provide():
            yield name
            raise OSError(name)

        return provide

    @cs.task
    def use(a, b): ...

    with pytest.raises(ExceptionGroup, match="resources failed to close") as caught:
        await run(use(cs.inject(failing("a")), cs.inject(failing("b"))))
    assert [str(error) for error in caught.value.exceptions] == ["b", "a"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("scope", ["run", "task"])
def test_an_interrupt_while_closing_lets_the_rest_close(use_vm, log, kind, asynchronous, scope):
    base = provider("base", log, scope=scope)

    def plain(base=cs.inject(base)):
        yield
        raise kind("stop")

    async def coroutine(base=cs.inject(base)):
        yield
        raise kind("stop")

    broken = cs.resource(scope=scope)(coroutine if asynchronous else plain)

    @cs.task
    def use(db=cs.inject(broken)): ...

    with pytest.raises(kind, match="stop"):
        cs.run(use(), use_vm=use_vm)
    assert log == ["open base", "close base"]


# -- events -----------------------------------------------------------------------------------


async def test_opening_and_closing_are_told_with_names(engine, use_vm, log):
    events = []
    engine.bus.subscribe(ResourceAcquired, lambda e: events.append(f"+{e.resource_name}"))
    engine.bus.subscribe(ResourceReleased, lambda e: events.append(f"-{e.resource_name}"))
    base = provider("base", log)
    top = provider("top", log, scope="task", needs=[base])

    @cs.task
    def use(_, top=cs.inject(top)): ...

    await engine.run(use(use(1)), use_vm=use_vm)

    assert events == ["+base", "+top", "-top", "+top", "-top", "-base"]


async def test_a_failure_to_close_is_told_with_its_error(engine, use_vm):
    released = []
    engine.bus.subscribe(ResourceReleased, released.append)

    @cs.resource
    def broken():
        yield
        raise OSError("stuck")

    @cs.task
    def use(db=cs.inject(broken)): ...

    with pytest.raises(OSError, match="stuck") as caught:
        await engine.run(use(), use_vm=use_vm)
    assert [event.error for event in released] == [caught.value]


async def test_a_resource_that_did_not_open_is_not_reported_as_open(engine, use_vm):
    events = []
    engine.bus.subscribe(ResourceAcquired, events.append)
    engine.bus.subscribe(ResourceReleased, events.append)

    @cs.resource
    def broken():
        raise OSError("stuck")
        yield

    @cs.task
    def use(db=cs.inject(broken)): ...

    with pytest.raises(OSError, match="stuck"):
        await engine.run(use(), use_vm=use_vm)
    assert events == []
