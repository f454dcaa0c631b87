"""Program: a target that was compiled runs as ``Engine.run`` would run it, each time."""

import asyncio
import contextvars
import gc
import threading
import traceback
import weakref

import pytest
from tests.sample_tasks import add, add_async

import cascade as cs
from cascade.adapters.state import InMemoryStateBackend
from cascade.runtime.events import Event
from cascade.runtime.execution import fairness

colour = contextvars.ContextVar("colour", default="none")


@cs.task
def echo(value):
    return value


@cs.task
def collect(*args, **kwargs):
    return args, kwargs


@cs.task
def fail(n, kind=ValueError):
    raise kind(f"no {n}")


@cs.task
def paint(name):
    before = colour.get()
    colour.set(name)
    return before


@cs.task
def see(*_after):
    return colour.get()


@cs.task
def loop(n):
    return loop.tail(n - 1) if n else "end"


@cs.task
def climb(n, top):
    return climb(add(n, 1), top) if n < top else n


async def outcome(work):
    """Its value, or everything known of its error."""
    try:
        return await work
    except BaseException as error:
        return described(error)


def described(error):
    frames = [f.name for f in traceback.extract_tb(error.__traceback__) if f.filename == __file__]
    cause = error.__cause__ and described(error.__cause__)
    return type(error), str(error), getattr(error, "__notes__", []), frames, cause


async def check(engine, make, **params):
    """Run the target of ``make`` in both ways, the program twice; returns all results."""
    target = make()
    async with cs.Engine(tier="interpreted") as other:
        expected = await outcome(other.run(target, params, use_vm=True))
    assert await outcome(engine.run(target, params, use_vm=True)) == expected
    program = engine.compile(target)
    cs.verify(program.blueprint, strict=True)
    assert await outcome(program.run(**params)) == expected
    assert await outcome(program.run(**params)) == expected
    return expected


# -- runs -------------------------------------------------------------------------------------

LOCAL = "a-b, c=1"
SHARED = add(1, 2)
TARGETS = {
    "one call": lambda: add(1, 2),
    "defaults": lambda: add(add(1)),
    "names": lambda: add(b=add(b=1, a=2), a=3),
    "a node twice": lambda: add(SHARED, b=SHARED),
    "containers": lambda: echo([add(1), {"k": (add(2), {add(3)})}]),
    "a container at the root": lambda: [add(1), (add(2),)],
    "arithmetic": lambda: add(1) * 2 + add(3),
    "a map": lambda: add.map(a=[1, 2, 3], b=add(1)),
    "a map at run time": lambda: add.map(a=echo([1, 2, 3]), b=cs.literal(5)),
    "a map of failures": lambda: noted(fail.map(n=[1, 2], return_exceptions=True)),  # type: ignore[has-type]
    "a router": lambda: cs.Router(selector=echo("x"), routes={"x": add(1), "y": fail(1)}),
    "coroutines": lambda: add(add_async(1, add(2)), add_async(3)),
    "a coroutine at the root": lambda: add_async(add(1), add(2)),
    "retries": lambda: add(add(1).with_retry(2), 2),
    "a timeout": lambda: add(add(1).with_timeout(10), 2),
    "a cache": lambda: add(add(1).with_cache(cs.LRUCache()), 2),
    "a condition": lambda: add(add(1).run_if(echo(True)), 2),
    "a skipped node": lambda: add(add(1).run_if(echo(0)), 2),
    "a parameter": lambda: add(cs.Param("p", default=3, type=int), 2),
    "a parameter with a condition": lambda: echo(cs.Param("p", default=3).run_if(echo(0))),
    "a lazy default": lambda: collect(cs.Param("p", default=add(1, 2), type=lambda x: x)),
    "a parameter at the root": lambda: cs.Param("p", default="x"),
    "a missing parameter": lambda: add(cs.Param("missing"), 2),
    "literals": lambda: echo(cs.literal([add])),
    "any arguments": lambda: collect(1, add(2), x=3, y=add(4)),
    "any arguments inside": lambda: echo(collect(1, add(2), x=3, y=add(4))),
    "names that are none": lambda: echo(
        collect(**{LOCAL: 1, "class": add(2), "__debug__": 3, "ﬁ": 4, "": 5, "'": 6})
    ),
    "a tail call at the root": lambda: loop(5),
    "a tail call inside": lambda: echo(loop(add(2))),
    "a lazy value at the root": lambda: climb(0, 6),
    "a lazy value inside": lambda: add(climb(add(0), 6), climb(1, 5)),
    "a lazy value of the graph": lambda: echo(again(SHARED)),  # type: ignore[has-type]
    "a failure": lambda: add(add(1), fail(2)),
    "a failure at the root": lambda: fail(add(1)),
    "a failure below": lambda: add(add(add(fail(2)))),
    "a failure of a container": lambda: echo({echo([])}),
    "a failure of arithmetic": lambda: echo(1 / add(0)),
    "a failure later": lambda: add(into_failure(add(1))),  # type: ignore[has-type]
    "a StopIteration": lambda: add(fail(1, StopIteration)),
    "a SystemExit": lambda: add(fail(1, SystemExit)),
    "a KeyboardInterrupt": lambda: add(fail(1, KeyboardInterrupt)),
    "a CancelledError": lambda: add(fail(1, asyncio.CancelledError)),
    "a coroutine by mistake": lambda: echo(mistaken()),  # type: ignore[has-type]
    "a coroutine by mistake at the root": lambda: mistaken(add(1)),  # type: ignore[has-type]
    "a context": lambda: see(paint("red"), see(paint("blue"))),
    "a value that is not comparable": lambda: [see(paint(Odd())) == see(), see()],
}


class Odd:
    """Like an array: comparing gives no bool."""

    def __eq__(self, _other):
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


@cs.task
def again(_value):
    return SHARED


@cs.task
def noted(errors):
    return [(repr(error), error.__notes__) for error in errors]


@cs.task
def into_failure(n):
    return fail(add(n))


@cs.task
def mistaken(*_after):
    async def work():
        pass

    return work()


@pytest.mark.parametrize("name", TARGETS)
async def test_a_program_gives_the_same_as_a_run(engine, name):
    await check(engine, TARGETS[name])


@pytest.mark.parametrize("name", TARGETS)
async def test_an_interpreted_program_means_the_same(name):
    async with cs.Engine(tier="interpreted") as engine:
        await check(engine, TARGETS[name])


@pytest.mark.parametrize("tier", ["generated", "fused"])
async def test_a_tier_by_name_is_refused_as_in_a_run(tier):
    @cs.task
    def work(*values):
        return values

    async with cs.Engine(tier=tier) as engine:
        program = engine.compile(work(add(1)))
        expected = await outcome(engine.run(program.target, use_vm=True))
        assert [await outcome(program.run()) for _ in range(4)] == [expected] * 4
        assert expected[0] is cs.errors.TierError


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "a cache"])
async def test_a_program_publishes_the_same_events(name):
    async with cs.Engine() as engine:
        target, seen = TARGETS[name](), []

        def told(event):
            skipped = {"run_id", "at", "seconds", "error", "duration"}
            fields = {n: v for n, v in vars_of(event).items() if n not in skipped}
            if "node" in fields:  # which of equal nodes it is depends on the order
                fields["node"] = bool(fields["node"])
            seen.append((type(event).__name__, repr(fields)))

        engine.bus.subscribe(Event, told)
        program = engine.compile(target)
        await outcome(engine.run(target, use_vm=True))
        expected = seen.copy()
        seen.clear()
        await outcome(program.run())

    # Independent calls overlap, and steps are told of now and then.
    assert sorted(e for e in seen if e[0] != "StepsMade") == sorted(
        e for e in expected if e[0] != "StepsMade"
    )
    assert seen


def vars_of(event):
    return {n: getattr(event, n) for n in getattr(event, "__dataclass_fields__", ())}


@pytest.mark.parametrize(
    "name", ["containers", "a failure", "a skipped node", "a lazy value inside"]
)
async def test_outcomes_are_kept_for_later(name):
    async with cs.Engine(state_backend=InMemoryStateBackend()) as engine:
        target = TARGETS[name]()
        await outcome(engine.compile(target).run())
        state = engine.state_backend
        found = kept(state, target)
        engine.state_backend = again = InMemoryStateBackend()
        await outcome(engine.run(target, use_vm=True))

    assert found == kept(again, target)


def kept(state, target):
    """Leftovers of it and of its inputs."""
    return [
        repr(state.get_result(lazy.id)) if state.has_result(lazy.id) else None
        for lazy in (target, *target._dependencies)
    ]


# -- resources --------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["run", "task"])
async def test_resources_are_opened_for_each_run(engine, scope):
    log = []

    @cs.resource(scope=scope)
    def connection():
        log.append("open")
        yield len(log)
        log.append("close")

    @cs.task
    def use(a, resource=cs.inject(connection)):
        return a, resource

    engine.register(connection)
    program = engine.compile(echo(use(add(1))))

    assert [await program.run(), await program.run()] == [(1, 1), (1, 3)]
    assert log == ["open", "close"] * 2


async def test_an_unknown_resource_is_told_when_it_is_compiled(engine):
    @cs.task
    def use(resource=cs.inject("nowhere")):
        return resource

    with pytest.raises(cs.errors.ResourceNotFoundError):
        engine.compile(echo(use()))


# -- inputs -----------------------------------------------------------------------------------


@cs.task
def by_place(a, b=2, /, c=3, *, d=4):
    return a, b, c, d


@cs.task
def its_name_is_self(self, n=0):
    return self, n


async def test_inputs_are_the_parameters_of_the_target(engine):
    program = engine.compile(by_place(add(1), 5))

    assert program.inputs == ("a", "b", "c", "d")
    assert await program.run() == (1, 5, 3, 4)
    assert await program.run(b=6) == (1, 6, 3, 4)
    assert await program.run(a=0, b=6, c=7, d=8) == (0, 6, 7, 8)
    assert await program.run(d=8) == (1, 5, 3, 8)
    assert await program.run() == (1, 5, 3, 4)


async def test_inputs_may_be_positional_only_in_all_ways(engine):
    short, long = engine.compile(by_place(1, 5)), engine.compile(by_place(1))

    for program in (short, long):
        assert await program.run(a=0, b=6) == (0, 6, 3, 4)
        with pytest.raises(cs.errors.ArgumentError, match="has no input '#0'"):
            await program.run(**{"#0": 1})


async def test_an_input_may_be_called_self(engine):
    program = engine.compile(its_name_is_self(1))

    assert await program.run(self=2) == (2, 0)
    assert await program.run(self=3, n=4) == (3, 4)


async def test_an_input_in_the_place_of_a_lazy_value_is_not_computed(engine):
    ran = []

    @cs.task
    def costly():
        ran.append(1)
        return 1

    program = engine.compile(add(costly(), 2))

    assert await program.run(a=5) == 7
    assert ran == []
    assert await program.run(b=5) == 6
    assert ran == [1]


@pytest.mark.parametrize("argument", [1, add(1)], ids=["plain", "lazy"])
async def test_inputs_are_plain_values(engine, argument):
    program = engine.compile(echo(argument))

    with pytest.raises(cs.errors.ArgumentError, match=r"input 'value'.*given the lazy value"):
        await program.run(value=add(1))
    assert await program.run(value=cs.literal(3)) == 3
    with pytest.raises(
        cs.errors.ArgumentError, match=r"input 'value'.*given the lazy value \[<lazy add"
    ):
        await program.run(value=[add(1)])
    assert await program.run(value=[1, [2]]) == [1, [2]]


async def test_parameters_and_inputs_together(engine):
    program = engine.compile(add(cs.Param("p", type=int), 1))

    assert program.inputs == ("p", "a", "b")
    assert await program.run(p="4") == 5
    assert await program.run(p=4, b=2) == 6
    assert await program.run(p=4, a=2) == 3


async def test_a_name_that_is_both_is_the_parameters(engine):
    program = engine.compile(add(1, cs.Param("a", type=int)))

    assert program.inputs == ("a", "b")
    assert await program.run(a=5) == 6


async def test_an_unknown_input_is_an_error_that_names_the_next(engine):
    program = engine.compile(add(cs.Param("region"), 1))

    with pytest.raises(cs.errors.ArgumentError, match=r"no input 'regoin'.*'region'"):
        await program.run(regoin="eu")
    with pytest.raises(cs.errors.ArgumentError, match="no input 'c'"):
        await program.run(region="eu", c=1)


@pytest.mark.parametrize("target", [add.map(a=[1]), cs.gather(add(1)), collect(1, x=2)])
async def test_a_target_without_inputs_takes_no_inputs(engine, target):
    program = engine.compile(target)

    assert program.inputs == ()
    with pytest.raises(cs.errors.ArgumentError, match="it takes none"):
        await program.run(a=1)


@pytest.mark.parametrize("given", [{}, {"p": "x"}, {"p": None}, {"p": 1.5}])
async def test_parameters_are_read_as_in_a_run(engine, given):
    target = add(cs.Param("p", type=int), 1)

    expected = await outcome(engine.run(target, given, use_vm=True))
    assert await outcome(engine.compile(target).run(**given)) == expected


async def test_the_error_for_a_missing_parameter_lists_only_given_params(engine):
    program = engine.compile(add(cs.Param("p"), 1))

    with pytest.raises(cs.errors.ParameterError, match="was given none"):
        await program.run(b=1)


async def test_a_lazy_value_as_parameter_is_computed(engine):
    target = collect(cs.Param("p", type=lambda value: value))

    assert await check(engine, lambda: target, p=add(1, 2)) == ((3,), {})


async def test_an_environment_variable_is_read_for_each_run(engine, monkeypatch):
    program = engine.compile(echo(cs.Env("CASCADE_TEST_COLOUR", default="none")))
    before = await program.run()
    monkeypatch.setenv("CASCADE_TEST_COLOUR", "red")

    assert (before, await program.run()) == ("none", "red")


# -- contexts, the event loop's turns ---------------------------------------------------------


async def test_the_callers_context_is_seen_and_not_written_to(engine):
    program = engine.compile(echo([see(), see(paint("blue")), see()]))
    token = colour.set("red")
    try:
        seen = [await program.run(), colour.get(), await engine.run(program.target, use_vm=True)]
    finally:
        colour.reset(token)

    assert seen == [["red"] * 3, "red", ["red"] * 3]


async def test_a_node_that_takes_long_lets_the_event_loop_have_its_turn(engine, monkeypatch):
    """M9."""
    now, log = [0.0], []
    monkeypatch.setattr(fairness, "perf_counter", lambda: now[0])

    @cs.task
    def work(n, _after=None):
        log.append(n)
        now[0] += 60
        return n

    program = engine.compile(work(3, work(2, work(1))))
    asyncio.get_running_loop().call_soon(log.append, "turn")

    assert await program.run() == 3
    assert log == [1, "turn", 2, 3]


async def test_a_cancel_arrives_after_a_node_that_takes_long(engine, monkeypatch):
    now, log = [0.0], []
    monkeypatch.setattr(fairness, "perf_counter", lambda: now[0])

    @cs.task
    def work(n):
        log.append(n)
        now[0] += 60
        running.cancel()
        return n

    running = asyncio.create_task(engine.compile(work(work(1))).run())
    with pytest.raises(asyncio.CancelledError):
        await running
    assert log == [1]
    assert engine.runs() == []


# -- runs side by side, and their ends --------------------------------------------------------


async def test_concurrent_runs_know_nothing_of_each_other(engine):
    program = engine.compile(add(add_async(cs.Param("p", type=int), 1), add(1)))

    found = await asyncio.gather(*(program.run(p=n) for n in range(20)))

    assert found == [n + 2 for n in range(20)]


def test_a_program_runs_in_several_event_loops():
    engine = cs.Engine()
    short, long = engine.compile(add(add(1), 2)), engine.compile(add(add_async(1), 2))
    found, threads = [], []

    def work():
        found.append([asyncio.run(short.run(b=5)), asyncio.run(long.run(b=5))])

    for _ in range(3):
        threads.append(threading.Thread(target=work))
        threads[-1].start()
    for thread in threads:
        thread.join(10)
    asyncio.run(engine.close())

    assert found == [[6, 6]] * 3


@pytest.mark.parametrize("name", ["one call", "coroutines"])
async def test_a_closed_engine_runs_nothing(name):
    async with cs.Engine() as engine:
        program = engine.compile(TARGETS[name]())
        await program.run()

    with pytest.raises(cs.errors.RunError, match="closed"):
        await program.run()
    with pytest.raises(cs.errors.RunError, match="closed"):
        engine.compile(add(1))


async def test_a_program_can_be_cancelled(engine):
    log, reached = [], asyncio.Event()

    @cs.task
    async def wait(_after):
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            log.append("ended")

    running = asyncio.create_task(engine.compile(add(wait(add(1)))).run())
    await reached.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert log == ["ended"]
    assert engine.runs() == []


@pytest.mark.parametrize("last", [echo, add_async, climb, fail], ids=lambda task: task.name)
async def test_nothing_is_kept_after_a_run(engine, last):
    class Value(float):
        pass

    kept = []

    @cs.task
    def make(n):
        value = Value(n)
        kept.append(weakref.ref(value))
        return value

    more = (3,) if last is climb else ()
    program = engine.compile(echo([last(make(make(1)), *more)]))
    for _ in range(5):
        await outcome(program.run())
    gc.collect()

    assert len(kept) == 10
    assert [ref() for ref in kept] == [None] * 10


async def test_a_program_inside_of_a_task_is_like_a_run_there(engine):
    inner = add(add(1), 2)
    program = engine.compile(inner)

    @cs.task
    async def work(way):
        running = program.run() if way == "program" else engine.run(inner, use_vm=True)
        return await running

    for use_vm in (False, True):
        assert await engine.run([work("program"), work("run")], use_vm=use_vm) == [3, 3]


async def test_a_run_inside_of_a_programs_task_is_refused(engine):
    """M6."""

    @cs.task
    def nested(n):
        return cs.run(add(n))

    with pytest.raises(cs.errors.RunError):
        await engine.compile(echo(nested(1))).run()


async def test_policies_that_the_target_is_given_later_do_not_count(engine):
    target = add(add(1), 2)
    program = engine.compile(target)
    target.run_if(echo(0))

    assert await program.run() == 3


async def test_other_objects_than_lazy_values_are_not_compiled(engine):
    with pytest.raises(cs.errors.DefinitionError):
        engine.compile(5)
