"""The providers of markers in a run, and refusals before the run starts."""

import asyncio
import itertools
import sqlite3
import threading
from typing import Annotated

import pytest

import cascade as cs
from cascade.graph.build import build_graph
from cascade.runtime.resources.container import ResourceContainer
from cascade.spec.resource import Inject


@cs.resource
def database():
    yield "real"


@cs.task
def use(n, db: Annotated[str, cs.inject(database)]):
    return n, db


@cs.task
def by_name(db=cs.inject("database")):
    return db


def fake():
    yield "fake"


def other():
    yield "other"


# -- annotations ------------------------------------------------------------------------------


async def test_an_annotation_injects(run):
    assert await run(use(1)) == (1, "real")
    assert await run(use(1, "given")) == (1, "given")
    assert await run(use.map(n=[1, 2])) == [(1, "real"), (2, "real")]


async def test_an_annotation_injects_in_loops_and_providers(run):
    @cs.resource(scope="task")
    def cursor(db: Annotated[str, cs.inject(database)]):
        yield f"cursor of {db}"

    @cs.task
    def loop(n, cursor: Annotated[str, cs.inject(cursor)]):
        return loop.tail(n - 1) if n else cursor

    @cs.task
    def switch(n):
        return loop.tail(n)

    assert await run(loop(3)) == "cursor of real"
    assert await run(switch(3)) == "cursor of real"


# -- overrides --------------------------------------------------------------------------------


def test_an_override_is_for_the_runs_of_its_block(use_vm):
    with cs.override_resource(database, fake):
        assert cs.run(use(1), use_vm=use_vm) == (1, "fake")
        with cs.override_resource("database", other):
            assert cs.run(use(1), use_vm=use_vm) == (1, "other")
        assert cs.run(use.map(n=[1]), use_vm=use_vm) == [(1, "fake")]
    assert cs.run(use(1), use_vm=use_vm) == (1, "real")


async def test_an_override_of_the_process_wins_over_that_of_an_engine(engine, run):
    engine.register(database)
    engine.override_resource_provider("database", other)

    assert await run(by_name()) == "other"
    with cs.override_resource(database, fake):
        assert await run(by_name()) == "fake"
        assert engine.get_resource_provider("database") is fake
    assert await run(by_name()) == "other"


async def test_an_override_of_an_unregistered_resource(run):
    with pytest.raises(cs.errors.ResourceNotFoundError):
        await run(by_name())
    with cs.override_resource("database", fake):
        assert await run(by_name()) == "fake"


async def test_an_override_holds_for_programs_and_other_threads(engine):
    program = engine.compile(use(1))
    with cs.override_resource(database, fake):
        assert await program.run() == (1, "fake")
        assert await asyncio.to_thread(cs.run, use(1)) == (1, "fake")
    assert await program.run() == (1, "real")


@pytest.mark.parametrize("way", ["block", "engine", "register"])
async def test_a_run_keeps_its_providers(engine, use_vm, way):
    begun, go = asyncio.Event(), asyncio.Event()
    engine.register(database)

    @cs.task
    async def wait():
        begun.set()
        await go.wait()

    running = asyncio.ensure_future(engine.run(by_name().after(wait()), use_vm=use_vm))
    await begun.wait()
    overriding = cs.override_resource(database, fake)
    with overriding:
        match way:
            case "engine":
                engine.override_resource_provider("database", fake)
            case "register":
                engine.register(cs.resource("database")(fake))
        go.set()
        assert await running == "real"
        assert await engine.run(by_name(), use_vm=use_vm) == "fake"


async def test_an_override_of_two_of_one_name_has_one_instance_for_each(run):
    """Each inherits the scope of the provider that it replaces."""
    opened = []

    @cs.resource("database", scope="task")
    def other_database():
        yield

    def counted():
        opened.append(1)
        yield len(opened)

    @cs.task
    def pair(_, of_run=cs.inject(database), of_task=cs.inject(other_database)):
        return of_run, of_task

    with cs.override_resource("database", counted):
        assert await run(pair(pair(None))) == (1, 3)


# -- refusals ---------------------------------------------------------------------------------


@pytest.fixture
def ran():
    return []


@pytest.fixture
def note(ran):
    @cs.task
    def note():
        ran.append(1)
        return [1]

    return note


async def test_resources_of_map_items_are_checked_before_the_run_starts(run, note, ran):
    @cs.task
    def use(n, db=cs.inject("nowhere")): ...

    @cs.task
    def plain(n, db): ...

    for target in (use.map(n=note()), plain.map(n=note(), db=cs.inject("nowhere"))):
        with pytest.raises(cs.errors.ResourceNotFoundError, match="'nowhere'") as caught:
            await run(target)
        assert caught.value.__notes__[0].startswith(f"asked for by task '{target.factory.name}', ")
    assert ran == []
    assert ResourceContainer().scan(build_graph(use.map(n=note()))) == {"nowhere"}


async def test_a_map_over_an_injected_parameter_needs_no_resource(run):
    assert await run(by_name.map(db=["a", "b"])) == ["a", "b"]


async def test_a_tail_call_may_lead_to_an_unavailable_resource(engine, use_vm):
    @cs.resource
    def one(two=cs.inject("two")):
        yield

    @cs.resource
    def two(one=cs.inject("one")):
        yield

    @cs.resource(scope="task")
    def inner():
        yield

    @cs.resource
    def outer(inner=cs.inject(inner)):
        yield

    @cs.resource(thread_bound=True)
    def bound():
        yield

    @cs.task
    def use(a): ...

    @cs.task
    async def use_async(a): ...

    @cs.task
    def begin(number):
        _, _, target, wanted = cases[number]
        return target.tail(wanted)

    for definition in (one, two):
        engine.register(definition)
    cases = [
        (cs.errors.CycleError, "one ← two ← one", use, cs.inject(one)),
        (cs.errors.ResourceError, "'outer' lives as long as the run", use, cs.inject(outer)),
        (
            cs.errors.ResourceError,
            "coroutine task 'use_async' uses the",
            use_async,
            cs.inject(bound),
        ),
        (cs.errors.ResourceNotFoundError, "'nowhere'", use, cs.inject("nowhere")),
    ]
    for number, (error, match, *_) in enumerate(cases):
        with pytest.raises(error, match=match):
            await engine.run(begin(number), use_vm=use_vm)


async def test_an_async_provider_cannot_need_a_thread_bound_resource(run, note, ran):
    @cs.resource(thread_bound=True)
    def connection():
        yield

    @cs.resource
    async def session(connection=cs.inject(connection)):
        yield

    @cs.task
    def use(_, session=cs.inject(session)): ...

    with pytest.raises(
        cs.errors.ResourceError, match="async provider of 'session' needs the resource 'c"
    ):
        await run(use(note()))
    assert ran == []


async def test_a_provider_that_needs_a_bound_resource_is_bound_as_well(run):
    """M7: else a cursor would be made on another thread than its connection."""

    @cs.resource(thread_bound=True)
    def connection():
        connection = sqlite3.connect(":memory:")
        yield connection
        connection.close()

    @cs.resource(scope="task")
    def cursor(connection=cs.inject(connection)):
        cursor = connection.cursor()
        yield cursor
        cursor.close()

    threads = set()

    @cs.task
    def count(n, cursor=cs.inject(cursor)):
        threads.add(threading.get_ident())
        return cursor.execute("select ?", (n,)).fetchone()

    @cs.task
    async def count_async(cursor=cs.inject(cursor)): ...

    assert await run(count.map(n=range(5))) == [(n,) for n in range(5)]
    assert len(threads) == 1
    with pytest.raises(cs.errors.ResourceError, match="coroutine task 'count_async'"):
        await run(count_async())


def test_many_ways_to_one_resource_are_walked_once():
    """Two to the power of a hundred of them."""
    container = ResourceContainer()
    names = [f"r{number}" for number in range(100)]

    def level(below):
        def provide(left=cs.inject(below), right=cs.inject(below)):
            yield

        return provide

    container.register(cs.resource(names[0])(fake))
    for below, name in itertools.pairwise(names):
        container.register(cs.resource(name)(level(below)))

    assert not container.providers().is_bound(Inject(names[-1], None))


async def test_a_resource_may_need_another_of_its_name(run):
    @cs.resource("database")
    def wrapped(inner=cs.inject(database)):
        yield f"wrapped {inner}"

    assert await run(use(1, cs.inject(wrapped))) == (1, "wrapped real")
