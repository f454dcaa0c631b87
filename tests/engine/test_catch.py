"""``lazy.catch(errors, handler)``, and the same for items of maps and of ``cs.gather`` (M27)."""

import asyncio
import functools
import traceback
from dataclasses import dataclass

import pytest
from tests.engine import json_trips

import cascade as cs
from cascade.adapters.state import InMemoryStateBackend
from cascade.graph.naming import node_keys
from cascade.graph.serialize import to_json
from cascade.spec.task import task
from cascade.testing import run_virtually


@task
def same(value):
    return value


@task
async def asame(value):
    return value


@task
def pair(a, b=None):
    return [a, b]


@task
def fail(text="bad", kind=ValueError):
    raise kind(text)


@task
async def afail(text="bad"):
    raise ValueError(text)


@task
def told(error):
    return f"told {type(error).__name__} {error}"


@task
async def atold(error):
    await asyncio.sleep(0)
    return f"told {type(error).__name__} {error}"


@task
def returns(kind):
    if kind == "loop":
        return returns.tail("fails")
    if kind == "fails":
        return fail("in a loop")
    return [same(1), {"inner": pair(1, fail("in a container"))}]


def skipped():
    return same(1).run_if(same(False))


@pytest.fixture(params=["graph", "vm", "program"])
def run_on(request):
    """``run_on(target)``: its value on a path, or as a program."""

    async def value(target, **options):
        async with cs.Engine() as engine:
            if request.param == "program":
                return await engine.compile(target, **options).run()
            return await engine.run(target, use_vm=request.param == "vm", **options)

    return lambda target, **options: asyncio.run(value(target, **options))


def virtually(target, use_vm, **options):
    """Its value, in virtual time."""

    async def value():
        async with cs.Engine() as engine:
            return await engine.run(target, use_vm=use_vm, **options)

    return run_virtually(value)


# -- handlers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [fail, afail])
@pytest.mark.parametrize("handler", [told, atold])
def test_a_handler_gets_the_error_and_gives_the_value(run_on, failing, handler):
    target = pair(failing("x").catch(ValueError, handler), same(2))
    assert run_on(target) == ["told ValueError x", 2]


def test_a_node_that_does_not_fail_keeps_its_value(run_on):
    assert run_on(same(1).catch(ValueError, told)) == 1


def test_a_handler_may_be_a_value(run_on):
    values = [1, 2]
    assert run_on(fail().catch(ValueError, None)) is None
    assert run_on(fail().catch(ValueError, values)) is values
    assert run_on(fail().catch(ValueError, cs.literal(same))) is same


def test_a_lazy_handler_runs_only_where_it_is_needed(run_on):
    log = []
    noted = cs.task(lambda value: log.append(value) or value)
    target = [fail().catch(ValueError, [noted("a"), 2]), same(1).catch(ValueError, noted("b"))]

    assert run_on(target) == [["a", 2], 1]
    assert log == ["a"]


def test_without_a_handler_the_error_is_the_value(run_on):
    error = run_on(fail("x").catch(ValueError))
    assert (type(error), str(error)) == (ValueError, "x")
    assert error.__notes__[0].startswith("cascade: in task 'fail', called at ")


def test_only_the_named_errors_are_caught(run_on):
    assert run_on(fail(kind=KeyError).catch((OSError, LookupError), 1)) == 1
    with pytest.raises(KeyError) as caught:
        run_on(pair(fail(kind=KeyError).catch((OSError, ValueError), 1)))
    assert "on the path pair → fail" in caught.value.__notes__[0]


def test_the_innermost_handler_for_an_error_gets_it(run_on):
    lazy = fail().catch(KeyError, 1).catch(ValueError, 2).catch(Exception, 3)
    assert run_on(lazy) == 2


def test_a_handler_may_continue_as_other_nodes(run_on):
    @cs.task
    def loop(error, n=3):
        return loop.tail(error, n - 1) if n else pair(told(error))

    assert run_on(fail("x").catch(ValueError, loop)) == ["told ValueError x", None]


def test_a_handler_may_use_a_resource(run_on):
    @cs.resource
    def book():
        yield "book"

    @cs.task
    def note(error, book=cs.inject(book)):
        return f"{error} in a {book}"

    assert run_on(fail("x").catch(ValueError, note)) == "x in a book"


def test_the_error_of_a_handler_is_not_its_own(run_on):
    @cs.task
    def again(error):
        raise KeyError("again")

    lazy = fail().catch(Exception, again)
    with pytest.raises(KeyError, match="again") as caught:
        run_on(pair(lazy))
    assert "in task 'again'" in caught.value.__notes__[0]
    assert run_on(lazy.catch(KeyError, told)) == "told KeyError 'again'"


def test_a_handler_may_raise_the_error_again(run_on):
    @cs.task
    def raises(error):
        raise error

    with pytest.raises(ValueError, match="x") as caught:
        run_on(fail("x").catch(ValueError, raises))
    assert len(caught.value.__notes__) == 1


def test_a_lazy_handler_that_fails_is_not_caught_by_the_same_node(run_on):
    with pytest.raises(ValueError, match="second"):
        run_on(fail("first").catch(ValueError, fail("second")))


def test_an_error_with_lazy_values_inside_is_handed_over_as_it_is(run_on):
    lazy = same(5)

    @dataclass(eq=False)
    class Odd(Exception):
        inner: object

    @cs.task
    def odd():
        raise Odd(cs.literal(lazy))

    @cs.task
    def inner(error):
        return type(error.inner).__name__

    assert run_on(odd().catch(Odd, inner)) == "Literal"


def test_the_traceback_of_a_caught_error_has_only_frames_of_users(run_on):
    error = run_on(pair(same(fail())).catch(ValueError))
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)] == ["fail"]


# -- what is covered ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lazy", "text"),
    [
        (lambda: pair(1, b=[{"deep": fail("in an input")}]), "in an input"),
        (lambda: same(1).run_if(fail("in a condition")), "in a condition"),
        (lambda: same(1).after(fail("in a predecessor")), "in a predecessor"),
        (lambda: returns("loop"), "in a loop"),
        (lambda: returns("container"), "in a container"),
        (lambda: cs.Router(selector=same(1), routes={1: fail("in a route")}), "in a route"),
        (lambda: fail.map(text=["in an item"]), "in an item"),
        (lambda: same.map(value=pair(fail("in a column"))), "in a column"),
        (lambda: skipped().or_else(fail("in a fallback")), "in a fallback"),
        (lambda: pair(skipped(), fail("beside a skip")), "beside a skip"),
    ],
)
def test_errors_of_inputs_and_continuations_are_caught(run_on, lazy, text):
    assert run_on(lazy().catch(ValueError, told)) == f"told ValueError {text}"


def test_an_error_is_caught_after_its_attempts(run_on):
    calls = []

    @cs.task
    def flaky():
        calls.append(1)
        raise ConnectionError(f"attempt {len(calls)}")

    assert run_on(flaky().with_retry(3).catch(OSError, told)) == "told ConnectionError attempt 3"


def test_a_failure_is_not_cached_though_it_is_caught(run_on):
    calls = []
    cache = cs.LRUCache()

    @cs.task
    def once():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("first")
        return "second"

    targets = [once().with_cache(cache).catch(ValueError, "caught") for _ in range(2)]
    assert [run_on(target) for target in targets] == ["caught", "second"]


def test_an_input_that_another_node_needs_fails_the_run(run_on):
    shared = fail("shared")
    target = [pair(shared).catch(ValueError, 1), same(shared)]

    with pytest.raises(ValueError, match="shared"):
        run_on(target)
    with pytest.raises(ExceptionGroup) as group:
        run_on(target, fail_fast=False)
    assert [str(error) for error in group.value.exceptions] == ["shared"]


def test_an_input_whose_users_all_catch_its_error_fails_nothing(run_on):
    shared = fail("shared")
    target = [pair(shared).catch(ValueError, 1), same(shared).catch(Exception, 2), shared.catch(
        ValueError, told)]  # fmt: skip

    assert run_on(target) == [1, 2, "told ValueError shared"]
    assert run_on(target, fail_fast=False) == [1, 2, "told ValueError shared"]


def test_a_caught_error_is_in_no_group(run_on):
    with pytest.raises(ExceptionGroup) as group:
        run_on([fail("a").catch(ValueError, 1), fail("b")], fail_fast=False)
    assert [str(error) for error in group.value.exceptions] == ["b"]


@pytest.mark.parametrize("use_vm", [False, True])
def test_a_caught_error_cancels_no_sibling(use_vm):
    async def value():
        gate, entered = asyncio.Event(), asyncio.Event()

        @cs.task
        async def sibling():
            entered.set()
            await gate.wait()
            return "whole"

        @cs.task
        async def failing():
            await entered.wait()
            raise ValueError("bad")

        @cs.task
        async def opens(error):
            gate.set()
            return str(error)

        target = [sibling(), failing().catch(ValueError, opens)]
        async with cs.Engine() as engine:
            return await engine.run(target, use_vm=use_vm)

    assert asyncio.run(value()) == ["whole", "bad"]


def test_of_several_failed_inputs_the_first_argument_counts(run_on):
    def nested(*fails):
        a, b, c, d = fails
        return pair([a, (b, [c])], {"k": d})

    for place in range(4):
        fails = [fail(f"{n}") if n >= place else same(n) for n in range(4)]
        assert run_on(nested(*fails).catch(ValueError, told)) == f"told ValueError {place}"


def test_a_failed_input_that_only_another_error_displaces_counts_for_the_run(run_on):
    target = pair(fail("a"), fail("b", KeyError)).catch(ValueError, "caught")

    with pytest.raises((KeyError, ExceptionGroup)):
        run_on(target)
    with pytest.raises(ExceptionGroup) as group:
        run_on(target, fail_fast=False)
    assert [type(error) for error in group.value.exceptions] == [KeyError]


def test_a_skip_is_no_failure(run_on):
    assert run_on(skipped().catch(Exception, 1).or_else(2)) == 2
    with pytest.raises(cs.errors.DependencyMissingError):
        run_on(skipped().catch(Exception, 1))


def test_a_cancel_from_inside_is_caught(run_on):
    @cs.task
    async def cancels():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    assert type(run_on(cancels().catch(cs.errors.TaskCancelledError))).__name__ == (
        "TaskCancelledError"
    )


def test_a_timeout_is_caught(use_vm):
    @cs.task
    async def slow():
        await asyncio.sleep(90)

    lazy = slow().with_timeout(60).catch(TimeoutError, "late")
    assert virtually(lazy, use_vm) == "late"


def test_many_below_each_other_need_no_stack(run_on):
    lazy = fail("end")
    for n in range(3_000):
        lazy = same(lazy).catch(KeyError, n)
    assert run_on(lazy.catch(ValueError, told)) == "told ValueError end"

    @cs.task
    def deep(n):
        return deep(n - 1).catch(KeyError, 0) if n else fail("end")

    assert run_on(deep(1_000).catch(ValueError, told)) == "told ValueError end"


# -- what is never caught -------------------------------------------------------------------------


def test_the_limit_of_steps_is_never_caught(run_on):
    @cs.task
    def loop(n):
        return loop.tail(n + 1)

    with pytest.raises(cs.errors.StepLimitError):
        run_on(pair(loop(0).catch(Exception, 1)), max_steps=100)
    with pytest.raises(cs.errors.StepLimitError):
        run_on(loop.map(n=[0], return_exceptions=True), max_steps=100)


def test_the_deadline_is_never_caught(use_vm):
    @cs.task
    async def slow():
        await asyncio.sleep(90)

    with pytest.raises(cs.errors.DeadlineError):
        virtually(slow().catch(Exception, 1), use_vm, deadline=60)


def test_a_cycle_is_never_caught(run_on):
    lazies = []
    item = cs.task(lambda: lazies[0])
    lazies.append(same(item().catch(Exception, 1)))

    with pytest.raises(cs.errors.CycleError):
        run_on(lazies[0].catch(Exception, 2))


def test_a_base_exception_is_never_caught(run_on):
    class End(BaseException):
        pass

    @cs.task
    def ends():
        raise End

    with pytest.raises(End):
        run_on(pair(ends().catch(Exception, 1)))


@pytest.mark.parametrize("use_vm", [False, True])
def test_a_cancel_of_the_run_is_never_caught(use_vm):
    async def go():
        entered = asyncio.Event()

        @cs.task
        async def waits():
            entered.set()
            await asyncio.Event().wait()

        async with cs.Engine() as engine:
            target = waits().catch(Exception, 1)
            running = asyncio.create_task(engine.run(target, use_vm=use_vm))
            await entered.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running

    asyncio.run(go())


def test_what_a_run_refuses_before_it_begins_is_not_caught(run_on):
    with pytest.raises(cs.errors.ParameterError):
        run_on(cs.Param("n").catch(cs.errors.ParameterError, 1))


# -- definitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "text"),
    [
        ((), "takes one or several types of errors, but got none"),
        ("ValueError", "takes types of errors, but got 'ValueError'"),
        (ValueError("x"), "takes types of errors, but got ValueError"),
        (int, "takes types of errors, but got <class 'int'>"),
        ([ValueError], "takes types of errors, but got "),
        ((ValueError, (KeyError,)), "takes types of errors, but got "),
        (BaseException, "BaseException, which is no Exception and always ends the run"),
        (KeyboardInterrupt, "KeyboardInterrupt, which is no Exception"),
        ((ValueError, cs.errors.DeadlineError), "DeadlineError, which is an error of the run"),
        (cs.errors.StepLimitError, "StepLimitError, which is an error of the run"),
        (cs.errors.CycleError, "CycleError, which is an error of the run"),
        (cs.errors.LeaseLostError, "LeaseLostError, which is an error of the run"),
    ],
)
def test_only_types_of_errors_that_can_be_caught_are_taken(errors, text):
    with pytest.raises(cs.errors.ArgumentError) as caught:
        same(1).catch(errors, 1)
    assert text in str(caught.value)


def test_a_handler_that_would_not_be_called_is_refused():
    for handler in (lambda error: None, print, str, functools.partial(print)):
        with pytest.raises(cs.errors.ArgumentError, match="no task, so it is not called"):
            same(1).catch(ValueError, handler)
    for handler in (same.tail(1), cs.inject("db")):
        with pytest.raises(cs.errors.ArgumentError):
            same(1).catch(ValueError, handler)


def test_a_handler_that_does_not_take_an_error_is_refused():
    @cs.task
    def none(): ...

    @cs.task
    def two(error, other): ...

    for handler in (none, two):
        with pytest.raises(cs.errors.ArgumentError, match="called with the error as its only arg"):
            same(1).catch(ValueError, handler)


def test_policies_belong_before_it():
    lazy = same(1).or_else(2).catch(ValueError, 3)
    for method, given in [
        ("run_if", same(1)),
        ("after", same(1)),
        ("with_retry", 2),
        ("with_timeout", 1),
        ("with_cache", cs.LRUCache()),
    ]:
        with pytest.raises(cs.errors.LazyUseError) as caught:
            getattr(lazy, method)(given)
        assert f"right:  same(…).{method}(…).or_else(…).catch(…)" in str(caught.value)
    with pytest.raises(cs.errors.LazyUseError, match=r"right:  same\(…\)\.with_capacity"):
        lazy.with_capacity(gpu=1)
    assert lazy.keep() is lazy


def test_the_parts_of_several_values_come_from_it(run_on):
    @cs.task(nout=2)
    def two():
        raise ValueError

    first, second = two().catch(ValueError, (3, 4))
    assert run_on([second, first]) == [4, 3]


# -- lists ----------------------------------------------------------------------------------------


@task
def item(n):
    return [same(0), skipped(), fail("bad"), fail("key", KeyError)][n]


def texts(values):
    return [str(value) for value in values]


def test_items_of_a_map_have_a_handler(run_on):
    assert texts(run_on(item.map(n=[0, 2], catch=(ValueError, told)))) == [
        "0",
        "told ValueError bad",
    ]
    assert run_on(item.map(n=[0, 2], catch=(ValueError, None))) == [0, None]
    with pytest.raises(KeyError):
        run_on(item.map(n=[0, 3], catch=(ValueError, told)))


def test_all_options_of_a_map_go_together(run_on):
    lazy = item.map(n=[0, 1, 2, 3], catch=(ValueError, told), skipped="s", return_exceptions=True)
    assert texts(run_on(pair(lazy))[0]) == ["0", "s", "told ValueError bad", "'key'"]


def test_skipped_stands_in_for_items_whose_handler_is_skipped(run_on):
    @cs.task
    def skips(error):
        return skipped()

    assert run_on(item.map(n=[0, 2], catch=(ValueError, skips), skipped="s")) == [0, "s"]


def test_errors_of_the_other_options_are_values_of_return_exceptions(run_on):
    values = run_on(item.map(n=[0, 1], skipped=fail("late"), return_exceptions=True))
    assert texts(values) == ["0", "late"]


def test_policies_of_a_map_are_those_of_its_items(run_on):
    calls = []

    @cs.task
    def flaky(n):
        calls.append(n)
        raise ConnectionError(str(n))

    lazy = flaky.map(n=[1, 2], catch=(OSError, told)).with_retry(2)
    assert run_on(lazy) == ["told ConnectionError 1", "told ConnectionError 2"]
    assert sorted(calls) == [1, 1, 2, 2]


def test_a_gather_takes_the_same_options(run_on):
    lazies = [same(0), skipped(), fail("bad"), [fail("key", KeyError)], 4]
    lazy = cs.gather(*lazies, catch=(ValueError, told), skipped="s", return_exceptions=True)

    assert texts(run_on(pair(lazy))[0]) == ["0", "s", "told ValueError bad", "'key'", "4"]
    assert texts(run_on(cs.gather(same(0), fail("x"), return_exceptions=True))) == ["0", "x"]
    assert run_on(cs.gather(skipped(), [1], skipped=None)) == [None, [1]]


@pytest.mark.parametrize(
    "options", [{"return_exceptions": 1}, {"catch": ValueError}, {"catch": (int, 1)}]
)
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(cs.errors.ArgumentError):
        cs.gather(same(1), **options)
    with pytest.raises(cs.errors.ArgumentError):
        same.map(value=[1], **options)


# -- reports and other forms ----------------------------------------------------------------------


def test_the_failure_is_told_of_and_the_handler_too(use_vm):
    events = []

    async def value():
        async with cs.Engine() as engine:
            engine.bus.subscribe(cs.events.Event, events.append)
            return await engine.run(pair(fail().catch(ValueError, told)), use_vm=use_vm)

    assert asyncio.run(value()) == ["told ValueError bad", None]
    kinds = (cs.events.TaskFailed, cs.events.TaskFinished, cs.events.TaskSkipped)
    assert [(type(e).__name__, e.task) for e in events if isinstance(e, kinds)] == [
        ("TaskFailed", "fail"),
        ("TaskFinished", "told"),
        ("TaskFinished", "pair"),
    ]


def test_each_outcome_is_recorded(use_vm):
    state = InMemoryStateBackend()
    lazy = fail()
    caught = lazy.catch(ValueError, told)

    async def value():
        async with cs.Engine(state_backend=state) as engine:
            return await engine.run(pair(caught), use_vm=use_vm)

    asyncio.run(value())
    assert state.get_result(caught.id) == "told ValueError bad"
    assert not state.has_result(lazy.id)


def test_plans_and_drawings_name_the_errors_and_the_handler():
    lazy = pair(fail().catch((ValueError, KeyError), told), fail().catch(OSError, same(2)))

    plan = str(cs.dry_run(lazy))
    assert "catch ValueError, KeyError → told" in plan
    assert "if OSError: same" in plan
    assert '{{"catch OSError"}}' in cs.visualize(lazy)
    assert '-.->|"if OSError"|' in cs.visualize(lazy)


@task
def texts_of(values):
    return texts(values)


TARGETS = {
    "a handler": lambda: pair(fail("x").catch(ValueError, told)),
    "a value": lambda: fail("x").catch((ValueError, KeyError), {"a": (1, 2)}),
    "a lazy value": lambda: fail("x").catch(ValueError, [same(2), 3]),
    "a map": lambda: item.map(n=[0, 1, 2], catch=(ValueError, told), skipped=same("s")),
    "a gather": lambda: cs.gather(fail(), same(1), catch=(ValueError, None)),
    "errors": lambda: texts_of(cs.gather(fail(), return_exceptions=True)),
}


@pytest.mark.parametrize("make", TARGETS.values(), ids=TARGETS)
def test_a_graph_means_the_same_after_the_trip_through_json(run_on, make):
    json_trips.check_graph(make, run_on)


@pytest.mark.parametrize("make", TARGETS.values(), ids=TARGETS)
def test_a_blueprint_means_the_same_after_the_trip_through_json(make):
    target = make()
    inputs = () if target.task.structural else [cs.run(value) for value in target.args]
    json_trips.check_blueprint(make, inputs)


def test_an_error_that_cannot_be_imported_has_no_json_form():
    class Own(Exception):
        pass

    with pytest.raises(cs.errors.SerializationError, match="its error Own"):
        to_json(fail().catch(Own, 1))


def test_keys_tell_errors_and_handlers_apart():
    def key(lazy):
        return node_keys(lazy)[lazy]

    lazies = [
        fail().catch(ValueError, told),
        fail().catch(KeyError, told),
        fail().catch(ValueError, 1),
        fail().catch(ValueError),
        fail().catch(ValueError, same(1)),
        fail().catch(ValueError, same(2)),
        fail().or_else(1),
        fail(),
    ]
    assert len({key(lazy) for lazy in lazies}) == len(lazies)
    assert key(fail().catch(ValueError, same(1))) == key(fail().catch(ValueError, same(1)))
