"""Engine: semantics on both paths, errors, several runs, blueprints, its end."""

import asyncio
import gc
import inspect
import threading
import traceback
import weakref
from unittest.mock import AsyncMock, MagicMock, patch

import pytest
from tests.sample_tasks import add, add_async

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.adapters.solvers.native import NativeSolver
from cascade.adapters.state import InMemoryStateBackend
from cascade.graph import compiler
from cascade.graph.compiler import BlueprintBuilder
from cascade.runtime.blueprint import TailCall
from cascade.runtime.bus import MessageBus
from cascade.runtime.engine import Engine
from cascade.runtime.events import Event, TaskStarted
from cascade.spec.resource import ResourceDefinition


@cs.task
def countdown(n: int):
    return TailCall(kwargs={"n": n - 1}) if n > 0 else "Liftoff"


@cs.task
def fail(message="wrong"):
    raise ValueError(message)


@cs.task
async def fail_async(message="wrong"):
    await asyncio.sleep(0)
    raise ValueError(message)


async def reached(event):
    assert await asyncio.to_thread(event.wait, 10)


# -- the parts that can be replaced -----------------------------------------------------------


async def test_use_vm_compiles_the_target_and_executes_the_blueprint():
    """The names that the engine looks up in its own module at run time, and their calls."""
    engine = Engine(solver=NativeSolver(), executor=LocalExecutor(), bus=MessageBus())
    target = add(a=10)
    blueprint = MagicMock()
    with (
        patch("cascade.runtime.engine.BlueprintBuilder") as builder,
        patch("cascade.runtime.engine.VirtualMachine") as machine,
    ):
        builder.return_value.build.return_value = blueprint
        machine.return_value.execute = AsyncMock(return_value=11)

        assert await engine.run(target, use_vm=True) == 11

    builder.return_value.build.assert_called_once_with(target)
    machine.return_value.execute.assert_awaited_once()
    call = machine.return_value.execute.await_args
    assert call.args == (blueprint,)
    assert call.kwargs["initial_args"] == []
    assert call.kwargs["initial_kwargs"] == {"a": 10}


async def test_the_graph_path_compiles_nothing(engine):
    with patch("cascade.runtime.engine.BlueprintBuilder") as builder:
        assert await engine.run(add(1, 2)) == 3

    builder.assert_not_called()


async def test_a_recursive_task_runs_on_the_vm_without_mocks():
    executor = LocalExecutor()
    engine = Engine(solver=NativeSolver(), threads=executor, bus=MessageBus())

    assert await engine.run(countdown(n=5), use_vm=True) == "Liftoff"
    executor.shutdown()


async def test_every_part_has_a_default():
    async with cs.Engine() as engine:
        assert await engine.run(add(1)) == 1
        assert isinstance(engine.bus, MessageBus)


# -- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [7, None, "text", [1, 2], {"a": 1}, object()])
async def test_a_plain_value_is_itself(run, value):
    """R1."""
    assert await run(value) is value


async def test_a_literal_is_its_value(run):
    lazy = add(1)

    assert await run(cs.literal(lazy)) is lazy


async def test_a_task_that_was_not_called_is_refused(run):
    with pytest.raises(
        cs.errors.DefinitionError, match=r"^task 'add' was passed to run\(\) itself"
    ):
        await run(add)


async def test_containers_of_lazy_values(run):
    """M15: cs.run takes containers."""
    target = {"sum": add(1, 2), "both": [add(1), (add_async(2), 3)], "plain": {4}}

    assert await run(target) == {"sum": 3, "both": [1, (2, 3)], "plain": {4}}


async def test_lazy_values_inside_arguments(run):
    """R2."""

    @cs.task
    def total(items, by_name):
        return sum(items) + sum(by_name.values())

    assert await run(total([1, add(2)], by_name={"x": add_async(3), "y": 4})) == 10


async def test_a_literal_argument_is_not_searched(run):
    """R2."""

    @cs.task
    def kind(value):
        return cs.literal(value), type(value[0]) is cs.LazyResult

    lazies = [add(1)]
    found, is_lazy = await run(kind(cs.literal(lazies)))

    assert found is lazies
    assert is_lazy


async def test_a_task_that_returns_a_lazy_value_in_a_literal_is_refused(run):
    """R4: nothing could tell it from one to continue as."""

    @cs.task
    def give():
        return cs.literal(add(1))

    with pytest.raises(
        cs.errors.ArgumentError, match=r"cs.literal\(\) of the lazy value <lazy add"
    ):
        await run(give())


@pytest.mark.parametrize("inside", [cs.TailCall((1,)), cs.inject("name")], ids=["tail", "inject"])
async def test_what_only_a_whole_result_can_be_is_refused_in_a_returned_container(run, inside):
    """R4."""

    @cs.task
    def give():
        return [add(1), {"deep": [inside]}]

    with pytest.raises(cs.errors.ArgumentError, match="stands inside a container") as caught:
        await run(give())
    assert "in task 'give'" in caught.value.__notes__[0]


async def test_the_object_that_a_task_has_returned_is_not_changed(run):
    """R4: a copy goes on, so that the task's own object holds what it held."""
    own = [1, add(1, 1)]

    @cs.task
    def give():
        return own

    @cs.task
    async def agive():
        return own

    assert await run([give(), agive()]) == [[1, 2], [1, 2]]
    assert type(own[1]) is cs.LazyResult


async def test_a_container_of_values_that_a_task_returns_is_the_same_object(run):
    """R1."""
    rows = [(1, 2), [3, {"four": 4}]]

    @cs.task
    def give():
        return rows

    assert await run(give()) is rows


async def test_a_node_is_computed_once_however_many_use_it(run):
    """R3."""
    calls = []

    @cs.task
    def once():
        calls.append(1)
        return 1

    shared = once()

    assert await run([shared, add(shared, shared), add(add_async(shared), shared)]) == [1, 2, 2]
    assert calls == [1]


async def test_a_node_is_computed_anew_in_each_run(run):
    calls = []

    @cs.task
    def count():
        calls.append(1)
        return len(calls)

    lazy = count()

    assert [await run(lazy), await run(lazy)] == [1, 2]


async def test_a_returned_lazy_continues_the_task(run):
    """R4."""

    @cs.task
    def outer(n):
        return add(outer(n - 1), n) if n else 0

    assert await run(outer(10)) == 55


async def test_a_lazy_met_again_in_a_task_is_not_computed_again(run):
    """M14."""
    calls = []

    @cs.task
    def once():
        calls.append(1)
        return 5

    shared = once()

    @cs.task
    def first():
        return shared

    @cs.task
    async def second():
        return add(shared, 1)

    assert await run([first(), second(), shared]) == [5, 6, 5]
    assert calls == [1]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_tail_call_keeps_arguments_that_it_does_not_name(run, asynchronous):
    """R5, M1."""

    def loop(n, step=1, *, log):
        log.append(n)
        return TailCall(kwargs={"n": n - step}) if n > 0 else log

    async def loop_async(n, step=1, *, log):
        return loop(n, step, log=log)

    task = cs.task(loop_async if asynchronous else loop)

    assert await run(task(6, 2, log=cs.literal([]))) == [6, 4, 2, 0]


async def test_a_tail_call_to_another_task_starts_from_its_defaults(run):
    """M1."""

    @cs.task
    def even(n, note="even"):
        return odd.tail(n - 1) if n else note

    @cs.task
    async def odd(n, note="odd"):
        return even.tail(n - 1) if n else note

    assert await run(even(10, note="given")) == "even"
    assert await run(even(7)) == "odd"
    assert await run(even(0, note="given")) == "given"


async def test_a_tail_calls_lazy_arguments_are_resolved_first(run):
    """M2."""

    @cs.task
    def loop(n, total=0):
        return loop.tail(add(n, -1), total=add_async(total, n)) if n else total

    assert await run(loop(4)) == 10


async def test_a_tail_call_is_of_its_own_node_only(run):
    """M3."""

    @cs.task
    def down(n):
        return down.tail(n - 1) if n > 0 else "end"

    @cs.task
    async def down_async(n):
        return down_async.tail(n - 1) if n > 0 else "END"

    @cs.task
    def join(*parts):
        return " ".join(parts)

    assert await run(join(down(3), down_async(2), down(add(1)))) == "end END end"


async def test_mutual_recursion_by_blueprint_id(engine, use_vm):
    @cs.task
    def ping(n, log):
        log.append("ping")
        return TailCall([n - 1, log], target_blueprint_id="pong") if n else log

    @cs.task
    async def pong(n, log):
        log.append("pong")
        return TailCall(kwargs={"n": n - 1, "log": log}, target_blueprint_id="ping") if n else log

    engine.register_blueprint("ping", BlueprintBuilder().build(ping(0, [])))
    engine.register_blueprint("pong", BlueprintBuilder().build(pong(0, [])))

    assert await engine.run(ping(3, []), use_vm=use_vm) == ["ping", "pong", "ping", "pong"]


async def test_an_unknown_blueprint_id_names_the_task_and_the_known_ids(engine, use_vm):
    @cs.task
    def ping():
        return TailCall(target_blueprint_id="pnog")

    engine.register_blueprint("pong", BlueprintBuilder().build(ping()))

    with pytest.raises(
        cs.errors.UnknownBlueprintError, match=r"task 'ping' goes to the blueprint 'pnog'.*'pong'"
    ):
        await engine.run(ping(), use_vm=use_vm)


async def test_a_tail_call_that_does_not_fit_names_both_tasks(run):
    """M1."""

    @cs.task
    def first(n):
        return TailCall(args=[1, 2, 3], target=second)

    @cs.task
    def second(a, b): ...

    with pytest.raises(cs.errors.ArgumentError, match=r"task 'first' to 'second' does not fit"):
        await run(first(1))


async def test_a_tail_call_to_itself_that_does_not_fit_says_so(run):
    @cs.task
    def loop(n):
        return TailCall(kwargs={"m": 1})

    with pytest.raises(cs.errors.ArgumentError, match=r"task 'loop' to itself does not fit.*'m'"):
        await run(loop(1))


async def test_a_tail_call_to_another_task_must_give_arguments_without_defaults(run):
    @cs.task
    def first():
        return second.tail()

    @cs.task
    def second(needed): ...

    with pytest.raises(
        cs.errors.ArgumentError, match=r"task 'first' to 'second' does not fit.*'needed'"
    ):
        await run(first())


@pytest.mark.parametrize("lazy", [add, add_async])
async def test_a_tail_call_with_lazy_arguments_that_does_not_fit_says_so(run, lazy):
    @cs.task
    async def loop(n):
        return TailCall(kwargs={"m": lazy(1)})

    with pytest.raises(cs.errors.ArgumentError, match=r"task 'loop' to itself does not fit.*'m'"):
        await run(loop(1))


# -- conditions, order, routes, maps ----------------------------------------------------------


async def test_a_falsy_condition_skips_the_node_and_its_users(run):
    """R6, M16."""
    ran = []

    @cs.task
    def note(name, *inputs):
        ran.append(name)
        return name

    skipped = note("skipped", note("input")).run_if(add(0))
    user = note("user", skipped)
    behind = note("behind").after(skipped, user)

    assert await run(behind) == "behind"
    assert ran == ["input", "behind"]


async def test_a_truthy_condition_runs_the_node(run):
    assert await run(add(1, 2).run_if(add_async(1))) == 3


@pytest.mark.parametrize("condition", [add, add_async])
async def test_a_skipped_target_raises_and_names_the_condition(run, condition):
    """R6."""
    name = condition.name

    with pytest.raises(
        cs.errors.DependencyMissingError, match=rf"'add' .*has no value.*'{name}' was falsy"
    ) as error:
        await run(add(1).run_if(condition(0)))
    assert error.value.condition == name


async def test_a_skipped_condition_skips(run):
    """M16."""
    skipped = add(1).run_if(add(0))

    with pytest.raises(cs.errors.DependencyMissingError, match="'add' was falsy"):
        await run(fail().run_if(skipped))


async def test_a_condition_is_asked_once_for_a_loop(run):
    """R10: run_if is for the node as a whole."""
    asked = []

    @cs.task
    def ask():
        asked.append(1)
        return True

    assert await run(countdown(5).run_if(ask())) == "Liftoff"
    assert asked == [1]


async def test_after_orders_without_data(run):
    log = []

    @cs.task
    async def slow():
        await asyncio.sleep(0)
        log.append("slow")

    @cs.task
    def quick():
        log.append("quick")

    await run(quick().after(slow()))

    assert log == ["slow", "quick"]


async def test_after_may_point_to_a_younger_node(run):
    log = []

    @cs.task
    def note(name):
        log.append(name)

    old = note("old")
    young = note("young")
    await run([old.after(young), young])

    assert log == ["young", "old"]


@pytest.mark.parametrize(("key", "value"), [("a", 1), ("b", 2), ("c", "plain")])
async def test_a_router_runs_the_chosen_route_only(run, key, value):
    """R7, M16."""
    ran = []

    @cs.task
    def route(name, value):
        ran.append(name)
        return value

    routes = {"a": route("a", route("a1", 1)), "b": route("b", 2), "c": "plain"}

    @cs.task
    def select():
        return key

    assert await run(cs.Router(selector=select(), routes=routes)) == value
    assert ran == {"a": ["a1", "a"], "b": ["b"], "c": []}[key]


async def test_a_router_without_the_route_says_which_there_are(run):
    with pytest.raises(cs.errors.RouteError, match=r"gave 3, but its routes are 1, 2"):
        await run(cs.Router(selector=add(3), routes={1: add(1), 2: add(2)}))


async def test_a_map_over_a_list_made_by_the_run_keeps_order_and_nests(run):
    """R8."""

    @cs.task
    def numbers(n):
        return list(range(n))

    @cs.task
    async def row(n):
        return add.map(a=numbers(n), b=cs.literal(10))

    assert await run(row.map(n=numbers(4))) == [[], [10], [10, 11], [10, 11, 12]]


async def test_a_map_item_loops_alone(run):
    """M3."""
    assert await run(countdown.map(n=[0, 3, 1])) == ["Liftoff"] * 3


async def test_a_map_of_unequal_lengths_is_an_error_of_the_run(run):
    """M17."""

    @cs.task
    def two():
        return [1, 2]

    with pytest.raises(cs.errors.ArgumentError, match="'a' has 2, 'b' has 3 items"):
        await run(add.map(a=two(), b=[1, 2, 3]))


async def test_params(run):
    target = add(cs.Param("n", type=int), cs.Param("m", default=1, type=int))

    assert await run(target, {"n": "41"}) == 42


async def test_a_missing_param_is_refused_before_anything_runs(run):
    ran = []

    @cs.task
    def note(*_):
        ran.append(1)

    with pytest.raises(cs.errors.ParameterError, match="'n'"):
        await run(note(note(), cs.Param("n")))
    assert not ran


async def test_an_environment_variable_is_read(run, monkeypatch):
    monkeypatch.setenv("CASCADE_TEST", "here")

    assert await run([cs.Env("CASCADE_TEST"), cs.Env("CASCADE_NO", default="there")]) == [
        "here",
        "there",
    ]


@pytest.mark.parametrize("n", [3000])
async def test_depth_is_no_matter(run, n):
    lazy = add(0)
    for _ in range(n):
        lazy = add(lazy, 1)

    @cs.task
    def nest(n):
        return add(nest(n - 1), 1) if n else 0

    @cs.task
    def deep(n):
        return deep(n - 1) if n else 0

    assert await run([lazy, nest(n), deep(n)]) == [n, n, 0]


# -- errors (R9) ------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [fail, fail_async])
async def test_an_error_is_raised_as_it_is_with_one_note(run, failing):
    """R9: task, file:line of the call, path."""
    here = inspect.currentframe().f_lineno
    inner = failing("no luck")
    target = add(add_async(inner, 1), 2)

    with pytest.raises(ValueError, match="no luck") as caught:
        await run(target)

    assert str(caught.value) == "no luck"
    (note,) = caught.value.__notes__
    assert note == (
        f"cascade: in task '{failing.name}', called at {inner.callsite}, "
        f"on the path add → add_async → {failing.name}"
    )
    assert f"test_engine.py:{here + 1}" in note


async def test_an_error_of_the_target_itself_has_no_path(run):
    target = fail()

    with pytest.raises(ValueError, match="wrong") as caught:
        await run(target)
    assert caught.value.__notes__ == [f"cascade: in task 'fail', called at {target.callsite}"]


async def test_the_note_of_a_returned_lazy_has_the_path_to_it(run):
    @cs.task
    def outer():
        return add(fail(), 1)

    with pytest.raises(ValueError, match="wrong") as caught:
        await run(add(outer(), 1))

    (note,) = caught.value.__notes__
    assert note.endswith("on the path add → outer → add → fail")


async def test_the_note_of_a_mapped_item_names_the_map(run):
    with pytest.raises(ValueError, match="wrong") as caught:
        await run(add(fail.map(message=["wrong"])))

    assert "in task 'fail'" in caught.value.__notes__[0]
    assert "on the path add → fail" in caught.value.__notes__[0]


async def test_the_note_of_a_tail_call_names_the_task_that_ran(run):
    @cs.task
    def begin():
        return fail.tail("in the end")

    with pytest.raises(ValueError, match="in the end") as caught:
        await run(begin())
    assert "in task 'fail'" in caught.value.__notes__[0]


@pytest.mark.parametrize("failing", [fail, fail_async])
async def test_the_traceback_shows_the_users_frame(run, failing):
    """R9."""
    with pytest.raises(ValueError, match="wrong") as caught:
        await run(add(failing()))

    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == failing.name


async def test_the_cause_and_the_context_of_an_error_stay(run):
    @cs.task
    def chained():
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    @cs.task
    def silent():
        raise ValueError("alone")

    with pytest.raises(ValueError, match="outer") as caught:
        await run(chained())
    assert isinstance(caught.value.__cause__, KeyError)

    with pytest.raises(ValueError, match="alone") as caught:
        await run(silent())
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_an_exception_group_of_a_task_is_raised_as_it_is(run):
    group = ExceptionGroup("several", [ValueError(1), KeyError(2)])

    @cs.task
    async def several():
        raise group

    with pytest.raises(ExceptionGroup) as caught:
        await run(add(several()))
    assert caught.value is group


async def test_a_stop_iteration_becomes_an_error_that_names_the_task(run):
    """M13."""

    @cs.task
    def first(items):
        return next(iter(items))

    with pytest.raises(cs.errors.TaskStopIterationError, match="first' raised StopIteration"):
        await run(add(first([])))


async def test_a_failed_run_keeps_nothing_of_itself_alive(run):
    """The error's traceback and frames must not form cycles that hold the values."""

    class Value:
        pass

    value = Value()
    kept = weakref.ref(value)

    @cs.task
    def use(value):
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await run(use(value))
    del value
    async with asyncio.timeout(10):
        while kept() is not None:
            gc.collect()
            await asyncio.sleep(0)


@pytest.mark.parametrize("failing", [fail, fail_async])
async def test_the_first_error_cancels_running_coroutines(run, failing):
    """R9."""
    begun = asyncio.Event()
    log = []

    @cs.task
    async def wait():
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    @cs.task
    async def when_begun():
        await begun.wait()

    with pytest.raises(ValueError, match="wrong"):
        await run([wait(), wait(), failing().after(when_begun())])
    assert log == ["cancelled"] * 2


async def test_an_error_during_cancelling_does_not_replace_the_first_error(run):
    """R9: the first error wins."""
    begun = asyncio.Event()

    @cs.task
    async def worse():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("second")

    @cs.task
    async def first():
        await begun.wait()
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        await run([worse(), first()])


async def test_two_failures_give_one_of_them(run):
    """M13."""

    @cs.task
    async def bad(n):
        raise ValueError(n)

    with pytest.raises(ValueError) as caught:  # noqa: PT011 — which of them is open
        await run([bad(1), bad(2), fail(3)])
    assert len(caught.value.__notes__) == 1


async def test_a_failed_run_starts_nothing_more(run):
    ran = []

    @cs.task
    def late(_):
        ran.append(1)

    with pytest.raises(ValueError, match="wrong"):
        await run(late(fail()))
    assert not ran


async def test_an_error_releases_resources_in_reverse_order_once(run):
    """R9."""
    log = []

    @cs.resource
    def base():
        log.append("open base")
        yield "base"
        log.append("close base")

    @cs.resource
    async def top(base=cs.inject(base)):
        log.append("open top")
        yield "top"
        log.append("close top")

    @cs.resource(scope="task")
    def own(base=cs.inject(base)):
        log.append("open own")
        yield "own"
        log.append("close own")

    @cs.task
    def use(top=cs.inject(top), own=cs.inject(own)):
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await run(use())
    assert log == ["open base", "open top", "open own", "close own", "close top", "close base"]


async def test_a_failed_run_waits_for_plain_calls_that_run(engine, held):
    """M8."""
    begun = threading.Event()
    ended = []

    @cs.task
    def slow():
        begun.set()
        held.wait(10)
        ended.append(1)

    @cs.task
    async def bad():
        await reached(begun)
        raise ValueError("wrong")

    running = asyncio.ensure_future(engine.run([slow(), bad()]))
    await reached(begun)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not running.done()
    held.set()

    with pytest.raises(ValueError, match="wrong"):
        await running
    assert ended == [1]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["target", "inner", "coroutine", "with resource", "provider"])
def test_an_interrupt_in_a_task_ends_the_run_and_closes_resources(use_vm, kind, where):
    """R9, also for a BaseException."""
    log = []

    @cs.resource
    def tool():
        log.append("open")
        yield
        log.append("close")

    @cs.resource
    async def broken(tool=cs.inject(tool)):
        raise kind("stop")
        yield

    @cs.task
    def touch(tool=cs.inject(tool)):
        return 1

    @cs.task
    def stop(_):
        raise kind("stop")

    @cs.task
    async def stop_async(_):
        await asyncio.sleep(0)
        raise kind("stop")

    @cs.task
    def stop_with(_, tool=cs.inject(tool)):
        raise kind("stop")

    @cs.task
    def provide(_, broken=cs.inject(broken)): ...

    touched = touch()
    target = {
        "target": lambda: stop(touched),
        "inner": lambda: add(stop(touched), 1),
        "coroutine": lambda: add(stop_async(touched), add_async(touched)),
        "with resource": lambda: add(stop_with(touched)),
        "provider": lambda: add(provide(touched)),
    }[where]()

    with pytest.raises(kind, match="stop"):
        cs.run(target, use_vm=use_vm)
    assert log == ["open", "close"]


async def test_a_cycle_is_refused_before_anything_runs(run):
    ran = []

    @cs.task
    def note(*_):
        ran.append(1)

    first = note()
    second = note(first)
    first.after(second)

    with pytest.raises(cs.errors.CycleError, match="wait for each other"):
        await run(note(second))
    assert not ran


async def test_a_task_that_returns_its_own_lazy_is_refused(run):
    made = []

    @cs.task
    def snake():
        return made[0]

    made.append(snake())

    with pytest.raises(cs.errors.CycleError, match="snake"):
        await run(made[0])


async def test_tasks_that_return_each_other_are_refused(run):
    made = []

    @cs.task
    async def first():
        return made[1]

    @cs.task
    async def second():
        return made[0]

    made += [first(), second()]

    with pytest.raises(cs.errors.CycleError):
        await run(made)


# -- several runs, the end --------------------------------------------------------------------


async def test_several_runs_at_once_on_one_engine(engine, use_vm):
    """Each has its own params, resources and values."""
    barrier = asyncio.Barrier(8)
    opened = []

    @cs.resource
    async def tool():
        opened.append(1)
        yield object()

    @cs.task
    async def meet(n, tool=cs.inject(tool)):
        await barrier.wait()
        return n, tool

    target = meet(cs.Param("n", type=int))
    results = await asyncio.gather(
        *[engine.run(target, {"n": i}, use_vm=use_vm or i % 2 == 0) for i in range(8)]
    )

    assert [n for n, _ in results] == list(range(8))
    assert len({id(tool) for _, tool in results}) == len(opened) == 8


async def test_a_failing_run_leaves_the_others_alone(engine, use_vm):
    begun, go = asyncio.Event(), asyncio.Event()

    @cs.task
    async def wait():
        begun.set()
        await go.wait()
        return "done"

    waiting = asyncio.ensure_future(engine.run(wait(), use_vm=use_vm))
    await begun.wait()
    with pytest.raises(ValueError, match="wrong"):
        await engine.run(fail(), use_vm=use_vm)
    go.set()

    assert await waiting == "done"


def test_an_engine_may_serve_one_loop_after_the_other(use_vm):
    engine = cs.Engine()
    try:
        for n in range(3):
            assert asyncio.run(engine.run(add(add_async(n), n), use_vm=use_vm)) == 2 * n
    finally:
        asyncio.run(engine.close())


async def test_a_run_inside_of_a_coroutine_task(engine, use_vm):
    """An engine may be used by tasks; a run in a run has its own params."""

    @cs.task
    async def outer():
        return await engine.run(cs.Param("n", type=int), {"n": 2}, use_vm=use_vm)

    assert await engine.run([outer(), cs.Param("n", type=int)], {"n": 1}, use_vm=use_vm) == [2, 1]


async def test_closing_ends_the_threads_of_the_engine():
    others = threading.enumerate()
    async with cs.Engine() as engine:
        await engine.run(add(1, 2))
        threads = [t for t in threading.enumerate() if t not in others]
        assert threads

    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


async def test_closing_leaves_an_executor_that_was_given_alone():
    executor = LocalExecutor(2, name="cascade-mine")
    async with cs.Engine(threads=executor) as engine:
        await engine.run(add(1, 2))

    assert executor.submit(lambda: 7).result(10) == 7
    executor.shutdown()


async def test_a_closed_engine_runs_nothing_more():
    engine = cs.Engine()
    await engine.close()
    await engine.close()

    with pytest.raises(cs.errors.RunError, match="closed"):
        await engine.run(add(1))
    with pytest.raises(cs.errors.RunError, match="closed"):
        async with engine:
            pass


@pytest.mark.timeout(10)
async def test_an_executor_that_is_shut_down_is_an_error_and_no_hang(use_vm):
    executor = LocalExecutor()
    executor.shutdown()

    @cs.resource
    def tool():
        yield

    @cs.task
    def use(tool=cs.inject(tool)): ...

    async with cs.Engine(threads=executor) as engine:
        with pytest.raises(RuntimeError, match="shut down"):
            await engine.run(use(), use_vm=use_vm)
        if not use_vm:
            with pytest.raises(RuntimeError, match="shut down"):
                await engine.run(add(1))


# -- blueprints -------------------------------------------------------------------------------


async def test_a_run_compiles_no_instructions(engine, monkeypatch):
    """A blueprint compiles them when somebody looks."""
    compiled = []
    original = compiler._compiled
    monkeypatch.setattr(
        compiler, "_compiled", lambda *details: compiled.append(1) or original(*details)
    )

    assert await engine.run(add(add(1, 2), 3), use_vm=True) == 6
    assert not compiled
    assert len(BlueprintBuilder().build(add(add(1, 2), 3)).instructions) == 2
    assert compiled


async def test_the_blueprint_of_a_replaced_builder_is_executed(engine, monkeypatch):
    @cs.task
    def shifted(a):
        return a + 100

    class Other(BlueprintBuilder):
        def build(self, target, template=True):
            return super().build(shifted(*target.args), template)

    monkeypatch.setattr("cascade.runtime.engine.BlueprintBuilder", Other)

    assert await engine.run(add(1), use_vm=True) == 101


async def test_targets_with_and_without_inner_nodes_are_kept_apart(engine):
    for n in range(3):
        assert await engine.run(add(add(n), n), use_vm=True) == 2 * n
        assert await engine.run(add(n, n), use_vm=True) == 2 * n


# -- resources and state through the engine ---------------------------------------------------


async def test_registering_finding_and_overriding_a_resource(engine, use_vm):
    @cs.resource(name="tool")
    def original():
        yield "original"

    def replacement():
        yield "replacement"

    @cs.task
    def use(tool=cs.inject("tool")):
        return tool

    engine.register(original)
    assert engine.get_resource_provider("tool") is original.func
    assert await engine.run(use(), use_vm=use_vm) == "original"

    engine.override_resource_provider("tool", replacement)
    assert engine.get_resource_provider("tool") is replacement
    assert await engine.run(use(), use_vm=use_vm) == "replacement"


async def test_resources_given_to_the_engine(use_vm):
    def provider():
        yield 5

    definition = ResourceDefinition(provider, "five")

    async with cs.Engine(resources=[definition]) as engine:
        assert await engine.run(add(cs.inject("five"), 1), use_vm=use_vm) == 6


async def test_an_unknown_resource_is_refused_before_anything_runs(run):
    ran = []

    @cs.task
    def note():
        ran.append(1)

    @cs.task
    def use(_, tool=cs.inject("tool")): ...

    with pytest.raises(
        cs.errors.ResourceNotFoundError, match="the resource 'tool' is needed"
    ) as error:
        await run(use(note()))
    assert isinstance(error.value, NameError)
    assert "asked for by task 'use', called at" in "".join(error.value.__notes__)
    assert not ran


async def test_a_state_backend_keeps_results_and_reasons(use_vm):
    state = InMemoryStateBackend()

    @cs.task
    def outer():
        return add(1, 1)

    inner, coroutine = add(1, 2), add_async(3)
    skipped = add(inner).run_if(add(0))
    returning = outer()
    async with cs.Engine(state_backend=state) as engine:
        target = add(add(inner, coroutine).after(skipped), returning)
        await engine.run(target, use_vm=use_vm)

    assert state.get_result(inner.id) == 3
    assert state.get_result(coroutine.id) == 3
    assert state.get_result(returning.id) == 2
    assert state.get_result(target.id) == 8
    assert not state.has_result(skipped.id)
    assert "'add'" in state.get_skip_reason(skipped.id)


async def test_a_state_backend_keeps_the_target_that_continues_as_another(use_vm):
    state = InMemoryStateBackend()

    @cs.task
    def outer(n):
        return outer(n - 1) if n else "end"

    target = outer(3)
    async with cs.Engine(state_backend=state) as engine:
        await engine.run(target, use_vm=use_vm)

    assert state.get_result(target.id) == "end"


# -- events -----------------------------------------------------------------------------------


async def test_events_without_subscribers_are_not_built(run, monkeypatch):
    """Only subscribed events cost something."""

    def refuse(self, *args, **kwargs):
        raise AssertionError("an event was built")

    monkeypatch.setattr(Event, "__init__", refuse)
    kinds = Event.__subclasses__()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        monkeypatch.setattr(kind, "__init__", refuse)

    assert await run([add(1), add_async(2), countdown(2), add.map(a=[1])]) == [1, 2, "Liftoff", [1]]


async def test_a_subscriber_that_raises_does_not_fail_a_run(engine, use_vm, caplog):
    def broken(event):
        raise RuntimeError("subscriber")

    seen = []
    engine.bus.subscribe(Event, broken)
    engine.bus.subscribe(TaskStarted, seen.append)

    assert await engine.run(add(add_async(1), 2), use_vm=use_vm) == 3
    assert len(seen) == 2
    assert "failed on" in caplog.text


# -- odds and ends ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["plain", "coroutine", "inner plain", "inner coroutine"])
async def test_a_task_that_raises_cancelled_error_has_failed(run, where):
    """It is not taken for a cancel of the run, which would wait for ever (M13)."""

    @cs.task
    def plain():
        raise asyncio.CancelledError("mine")

    @cs.task
    async def coroutine():
        await asyncio.sleep(0)
        raise asyncio.CancelledError("mine")

    @cs.task
    async def wait():
        await asyncio.Event().wait()

    target = {"plain": plain, "coroutine": coroutine}[where.removeprefix("inner ")]()
    if where.startswith("inner"):
        target = [wait(), add(target)]

    with pytest.raises(cs.errors.TaskCancelledError) as caught:
        await run(target)
    assert repr(caught.value.__cause__) == "CancelledError('mine')"
    assert not asyncio.current_task().cancelling()


async def test_a_state_backend_that_fails_fails_the_run(use_vm):
    class Full(InMemoryStateBackend):
        def put_result(self, node_id, result):
            raise OSError("full")

    for target in (add(1), add(add(1)), add_async(add_async(1))):
        async with cs.Engine(state_backend=Full()) as engine:
            with pytest.raises(OSError, match="full"):
                await engine.run(target, use_vm=use_vm)


async def test_a_state_backend_that_fails_on_a_skip_fails_the_run(use_vm):
    class Full(InMemoryStateBackend):
        def put_skip_reason(self, node_id, reason):
            raise OSError("full")

    async with cs.Engine(state_backend=Full()) as engine:
        with pytest.raises(OSError, match="full"):
            await engine.run(add(1).after(add(1).run_if(add(0))), use_vm=use_vm)


def test_runs_in_several_threads_at_once(use_vm):
    """Tasks are shared by them, loops and engines are not."""
    barrier = threading.Barrier(4)
    results = []

    def work(n):
        barrier.wait(10)
        results.append(cs.run([add(add_async(n), n), countdown(n)], use_vm=use_vm))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert sorted(results) == [[2 * n, "Liftoff"] for n in range(4)]


def test_an_engine_that_is_dropped_ends_its_threads(use_vm):
    """Without a close."""
    others = threading.enumerate()
    engine = cs.Engine()
    asyncio.run(engine.run([add(1), add_async(1)], use_vm=use_vm))
    threads = [t for t in threading.enumerate() if t not in others]
    assert threads or use_vm
    del engine

    for thread in threads:
        for _ in range(100):
            gc.collect()  # not before the thread has let go of its last call
            thread.join(0.1)
            if not thread.is_alive():
                break
        assert not thread.is_alive()


async def test_an_executor_that_is_shut_down_during_a_run_ends_it(use_vm):
    executor = LocalExecutor()

    @cs.resource(scope="task")
    def tool():
        yield

    @cs.task
    def use(_, tool=cs.inject(tool)): ...

    @cs.task
    async def shut_down():
        executor.shutdown(wait=False)

    @cs.task
    async def wait():
        await asyncio.Event().wait()

    async with cs.Engine(threads=executor) as engine:
        with pytest.raises(RuntimeError, match="shut down"):
            await engine.run([wait(), add(use(shut_down()))], use_vm=use_vm)


async def test_an_error_that_is_raised_again_by_another_task_keeps_its_first_note(run):
    """R9: one note."""
    error = ValueError("wrong")

    @cs.task
    def raises():
        raise error

    with pytest.raises(ValueError, match="wrong") as caught:
        await run(add(raises()))
    assert caught.value is error
    assert len(error.__notes__) == 1


async def test_a_tail_call_with_lazies_to_a_blueprint_that_needs_more(engine, use_vm):
    """M2, M3: first its arguments, then the results of the blueprint's prologue."""

    @cs.task
    def go():
        return TailCall(kwargs={"b": add(1)}, target_blueprint_id="sum")

    for inner in (add, add_async):
        engine.register_blueprint("sum", BlueprintBuilder().build(add(inner(2), 10)))
        assert await engine.run(go(), use_vm=use_vm) == 3
        assert await engine.run(add(go(), 1), use_vm=use_vm) == 4
