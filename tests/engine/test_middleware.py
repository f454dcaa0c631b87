"""Middleware: functions of the user around each call of a task, on both paths."""

from __future__ import annotations

import asyncio
import contextvars
import traceback
from contextlib import contextmanager
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.graph.compiler import BlueprintBuilder
from cascade.runtime.middleware import TaskCall
from cascade.spec.errors import ArgumentError, DefinitionError, TaskTimeoutError

PATHS = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


class Seen:
    """A middleware that notes what it sees."""

    def __init__(self) -> None:
        self.calls: list[TaskCall] = []
        self.outcomes: list[Any] = []

    def __call__(self, call: TaskCall) -> Any:
        self.calls.append(call)
        try:
            value = yield
        except BaseException as error:
            self.outcomes.append(error)
            raise
        self.outcomes.append(value)
        return value


@cs.resource(scope="task")
def held():
    yield 1


@cs.resource(scope="run")
def shared():
    yield 1


@cs.resource(scope="run", thread_bound=True)
def bound():
    yield 1


@cs.task
def plain(x):
    return x


@cs.task(mode="inline")
def inline(x):
    return x


@cs.task
async def at_once(x):
    return x


@cs.task
async def later(x):
    await asyncio.sleep(0)
    return x


@cs.task
def with_held(x, given=cs.inject(held)):
    return x * given


@cs.task
async def later_with_held(x, given=cs.inject(held)):
    await asyncio.sleep(0)
    return x * given


@cs.task
def with_shared(x, given=cs.inject(shared)):
    return x * given


@cs.task
def with_bound(x, given=cs.inject(bound)):
    return x * given


@cs.task(timeout=10)
def timed(x):
    return x


@cs.task(timeout=10)
async def later_timed(x):
    await asyncio.sleep(0)
    return x


@cs.task(retry=2, capacities={"slot": 1})
def limited(x):
    return x


@cs.task(mode="process")
def elsewhere(x):
    return 120 / x


KINDS = [plain, inline, at_once, later, with_held, later_with_held, with_shared, with_bound, timed]
KINDS += [later_timed, limited]


@cs.task
def doubled(x):
    return 2 * x


@PATHS
@pytest.mark.parametrize("task", KINDS, ids=lambda task: task.name)
def test_it_is_around_each_call_of_any_kind(task: Any, use_vm: bool) -> None:
    seen, target = Seen(), doubled(task(21))
    value = cs.run(
        target,
        middleware=[seen],
        use_vm=use_vm,
        resources=[held, shared, bound],
        capacities={"slot": 1},
        run_id="one",
    )
    assert value == 42
    assert [(c.task, c.run_id, c.is_async) for c in seen.calls] == [
        (task.name, "one", task.is_async),
        ("doubled", "one", False),
    ]
    assert [call.node for call in seen.calls] == [target.args[0].number, target.number]
    assert seen.calls[0].args[0] == 21
    assert seen.outcomes == [21, 42]


def test_it_is_around_calls_that_other_processes_make() -> None:
    seen = Seen()

    def adds(call: TaskCall) -> Any:
        call.args = [call.args[0] and call.args[0] + 1]
        value = yield
        return value + 10

    def unless_three(call: TaskCall) -> Any:
        if call.args[0] == 3:
            return "three"
        return (yield)

    target = [
        elsewhere(1),
        elsewhere(0).with_retry(2).catch(ZeroDivisionError, "zero"),
        elsewhere(3),
    ]
    found = cs.run(target, middleware=[seen, unless_three, adds])
    assert found == [60.0 + 10, "zero", "three"]
    assert sorted((c.args[0], c.attempt) for c in seen.calls) == [(0, 1), (0, 2), (2, 1), (3, 1)]
    assert sorted(map(repr, seen.outcomes)) == [
        "'three'",
        "70.0",
        "ZeroDivisionError('division by zero')",
        "ZeroDivisionError('division by zero')",
    ]


@PATHS
def test_it_is_around_each_step_of_a_loop(use_vm: bool) -> None:
    @cs.task
    def count(n, total=0):
        return count.tail(n - 1, total + n) if n else total

    @cs.task
    async def later_count(n):
        return later_count.tail(n - 1) if n else "end"

    for target, most in ((count(40), 40), (later_count(30), 30)):
        seen = Seen()
        assert cs.run(target, middleware=[seen], use_vm=use_vm) in (820, "end")
        assert [call.step for call in seen.calls] == list(range(most + 1))
        assert {call.node for call in seen.calls} == {target.number}


@PATHS
def test_it_is_around_the_calls_that_a_task_returns(use_vm: bool) -> None:
    @cs.task
    def both(x):
        return [plain(x), doubled.map(x=[x, x + 1])]

    seen, target = Seen(), both(5)
    assert cs.run(target, middleware=[seen], use_vm=use_vm) == [5, [10, 12]]
    first, *others = seen.calls
    assert (first.task, first.parent) == ("both", None)
    assert {(c.task, c.item, c.parent) for c in others} == {
        ("plain", None, target.number),
        ("doubled", 0, target.number),
        ("doubled", 1, target.number),
    }


async def test_it_is_around_the_calls_of_programs_and_of_blueprints_by_hand() -> None:
    seen = Seen()
    async with cs.Engine(middleware=[seen]) as engine:
        program = engine.compile(doubled(plain(cs.Param("x", type=int))))
        assert [await program.run(x=n) for n in (1, 2)] == [2, 4]
        blueprint = BlueprintBuilder().build(doubled(plain(4)))
        engine.register_blueprint("twice", blueprint)
        assert await engine.run(enter(), use_vm=True) == 8
    assert [call.task for call in seen.calls] == ["plain", "doubled"] * 2 + [
        "enter",
        "plain",
        "doubled",
    ]


@cs.task
def enter():
    return cs.TailCall(target_blueprint_id="twice")


@PATHS
def test_cascades_own_operations_are_no_calls(use_vm: bool) -> None:
    seen = Seen()
    chosen = cs.Router(selector=plain("a"), routes={"a": plain(3), "b": plain(5)})
    target = [plain(1) + plain(2), chosen, cs.gather(plain(4))]
    assert cs.run(target, middleware=[seen], use_vm=use_vm) == [3, 3, [4]]
    assert sorted(str(call.args[0]) for call in seen.calls) == ["1", "2", "3", "4", "a"]


@PATHS
def test_the_first_of_the_list_is_the_outermost(use_vm: bool) -> None:
    order: list[str] = []

    def named(name: str) -> Any:
        def middleware(call: TaskCall) -> Any:
            order.append(name)
            value = yield
            order.append(name.upper())
            return value

        return middleware

    cs.run(plain(1), middleware=[named("a"), named("b")], use_vm=use_vm)
    assert order == ["a", "b", "B", "A"]


@PATHS
@pytest.mark.parametrize("task", [plain, later], ids=lambda task: task.name)
def test_it_may_change_arguments_and_value(task: Any, use_vm: bool) -> None:
    def changes(call: TaskCall) -> Any:
        call.args, call.kwargs = [], {"x": call.args[0] + 1}
        value = yield
        return [value]

    assert cs.run(task(1), middleware=[changes], use_vm=use_vm) == [2]


@PATHS
@pytest.mark.parametrize("task", [plain, later], ids=lambda task: task.name)
def test_it_may_give_a_value_without_the_call(task: Any, use_vm: bool) -> None:
    def instead(call: TaskCall) -> Any:
        if call.args[0] == 1:
            return "instead"
        return (yield)

    seen = Seen()
    found = cs.run([task(1), task(2)], middleware=[instead, seen], use_vm=use_vm)
    assert found == ["instead", 2]
    assert len(seen.calls) == 1


@PATHS
def test_it_sees_each_attempt_and_may_replace_the_error(use_vm: bool) -> None:
    answers = [OSError("a"), OSError("b"), 3]

    @cs.task
    def flaky():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def replaces(call: TaskCall) -> Any:
        try:
            return (yield)
        except OSError as error:
            raise ConnectionError(str(error)) from error

    seen = Seen()
    target = flaky().with_retry(3, on=ConnectionError)
    assert cs.run(target, middleware=[seen, replaces], use_vm=use_vm) == 3
    assert [call.attempt for call in seen.calls] == [1, 2, 3]
    assert [type(one) for one in seen.outcomes] == [ConnectionError, ConnectionError, int]


@PATHS
@pytest.mark.parametrize("task", [plain, later], ids=lambda task: task.name)
def test_its_own_error_is_that_of_the_attempt(task: Any, use_vm: bool) -> None:
    def refuses(call: TaskCall) -> Any:
        if call.attempt == 1:
            raise PermissionError("not you")
        return (yield)

    seen = Seen()
    options: Any = {"middleware": [seen, refuses], "use_vm": use_vm}
    with pytest.raises(PermissionError, match="not you"):
        cs.run(task(1), **options)
    assert cs.run(task(1).with_retry(2), **options) == 1
    assert [type(one) for one in seen.outcomes] == [PermissionError, PermissionError, int]


@PATHS
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_an_error_that_passes_has_the_frames_of_the_task_only(is_async: bool, use_vm: bool) -> None:
    if is_async:

        @cs.task
        async def broken():
            raise KeyError("x")
    else:

        @cs.task
        def broken():
            raise KeyError("x")

    with pytest.raises(KeyError) as caught:
        cs.run(broken(), middleware=[Seen(), Seen()], use_vm=use_vm)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names == [test_an_error_that_passes_has_the_frames_of_the_task_only.__name__, "broken"]
    assert len(caught.value.__notes__) == 1


@PATHS
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_stop_iteration_of_a_task_is_named_as_without(is_async: bool, use_vm: bool) -> None:
    if is_async:

        @cs.task
        async def ends():
            raise StopIteration
    else:

        @cs.task
        def ends():
            raise StopIteration

    texts = []
    for middleware in ([], [Seen()]):
        with pytest.raises(cs.errors.TaskStopIterationError) as caught:
            cs.run(ends(), middleware=middleware, use_vm=use_vm)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert "ends" in texts[0]


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


@PATHS
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_its_context_variables_are_those_of_the_call(is_async: bool, use_vm: bool) -> None:
    if is_async:

        @cs.task
        async def read(x):
            await asyncio.sleep(0)
            return variable.get()
    else:

        @cs.task
        def read(x):
            return variable.get()

    def sets(call: TaskCall) -> Any:
        token = variable.set(call.task)
        try:
            return (yield)
        finally:
            variable.reset(token)

    assert cs.run(read.map(x=[1, 2]), middleware=[sets], use_vm=use_vm) == ["read", "read"]
    assert variable.get() == "none"


@PATHS
def test_it_knows_its_call_by_cs_current_too(use_vm: bool) -> None:
    found = []

    def looks(call: TaskCall) -> Any:
        found.append(cs.current())
        value = yield
        found.append(cs.current())
        return value

    for target in (plain(1), later(1), inline(1), timed(1)):
        found.clear()
        cs.run(target, middleware=[looks], use_vm=use_vm)
        assert [(here.task, here.node) for here in found] == [
            (target.task.name, target.number),
        ] * 2


@PATHS
def test_a_call_that_takes_too_long_is_cancelled_inside_of_it(use_vm: bool) -> None:
    @cs.task
    async def waits():
        await asyncio.Event().wait()

    seen = Seen()
    with pytest.raises(TaskTimeoutError):
        cs.run(waits().with_timeout(0.01), middleware=[seen], use_vm=use_vm)
    assert [type(one) for one in seen.outcomes] == [asyncio.CancelledError]


async def test_cancelling_the_run_ends_it_as_well() -> None:
    began = asyncio.Event()

    @cs.task
    async def waits():
        began.set()
        await asyncio.Event().wait()

    seen = Seen()
    async with cs.Engine(middleware=[seen]) as engine:
        handle = engine.start(waits())
        await began.wait()
        handle.cancel()
        with pytest.raises(cs.errors.RunCancelledError):
            await handle.result()
    assert [type(one) for one in seen.outcomes] == [asyncio.CancelledError]


@PATHS
def test_a_durable_run_calls_it_for_calls_that_are_made_and_not_for_kept_ones(use_vm: bool) -> None:
    store, seen = open_store("memory://"), Seen()
    options: Any = {"store": store, "run_id": "one", "use_vm": use_vm, "middleware": [seen]}
    assert cs.run(kept(plain(1)), **options) == 1
    assert cs.run(kept(plain(1)), **options) == 1
    assert [call.task for call in seen.calls] == ["plain", "kept"]


@cs.task
def kept(x):
    return x


def test_a_cached_value_is_no_call() -> None:
    seen, cache = Seen(), cs.LRUCache()
    for _ in range(2):
        cs.run(plain(1).with_cache(cache), middleware=[seen])
    assert len(seen.calls) == 1


def test_an_inner_run_of_the_engine_has_it_too() -> None:
    seen = Seen()

    async def main() -> Any:
        async with cs.Engine(middleware=[seen]) as engine:

            @cs.task
            async def outer():
                return await engine.run(plain(3))

            return await engine.run(outer())

    assert asyncio.run(main()) == 3
    assert [call.task for call in seen.calls] == ["outer", "plain"]
    assert seen.calls[0].run_id != seen.calls[1].run_id


@contextmanager
def refused(error: type[Exception], text: str) -> Any:
    with pytest.raises(error) as caught:
        yield
    assert text in str(caught.value)


def test_what_is_no_middleware_is_refused() -> None:
    def returns(call: TaskCall) -> Any:
        return call

    async def waits(call: TaskCall) -> Any:
        return call

    def twice(call: TaskCall) -> Any:
        yield
        yield

    def ignores(call: TaskCall) -> Any:
        yield

    def wraps(call, following):
        yield

    with refused(ArgumentError, "middleware= takes a list of generator functions, but is"):
        cs.Engine(middleware=twice)  # type: ignore[arg-type]
    with refused(ArgumentError, "but has 3"):
        cs.Engine(middleware=[3])  # type: ignore[list-item]
    with refused(DefinitionError, "is no generator function: it has returned"):
        cs.run(plain(1), middleware=[returns])
    with refused(ArgumentError, "waits is a coroutine function, but must be a generator"):
        cs.Engine(middleware=[waits])  # type: ignore[list-item]
    with refused(ArgumentError, "wraps(call, following) must take one argument, the call: missing"):
        cs.Engine(middleware=[wraps])  # type: ignore[list-item]
    for task in (plain, later):
        with refused(DefinitionError, "twice yields twice"):
            cs.run(task(1), middleware=[twice])
    assert cs.run(plain(1), middleware=[ignores]) is None  # it returns no value
