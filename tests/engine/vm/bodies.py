"""Task bodies that are hard to turn into a loop: they must give the same on every tier.

Each case is a task with the call to start from, the tier that it should get, and for each better
tier a part of the reason against it; the line of the reason is marked ``# <-`` in the source.
"""
# ruff: noqa: B006, B012, C416, E731, F821, F841, RET502

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.engine.vm import other_bodies

import cascade as cs

#: The effects of the bodies, for comparison.
LOG: list[Any] = []
#: The variables of ``global`` statements.
counter = 0


@dataclass
class Case:
    """One program."""

    name: str
    task: Any
    target: Callable[[], Any]
    tier: str = "fused"
    #: Part of the first reason against the best tier.
    why: str | None = None


CASES: dict[str, Case] = {}


def case(
    target: Callable[[Any], Any] = lambda task: task(9),
    tier: str = "fused",
    why: str | None = None,
    name: str | None = None,
) -> Callable[[Any], Any]:
    """Register the task that this decorates."""

    def register(task: Any) -> Any:
        known_as = name or task.name
        assert known_as not in CASES
        CASES[known_as] = Case(known_as, task, lambda: target(task), tier, why)
        return task

    return register


def reset() -> None:
    """As if no body had been executed yet."""
    global counter
    counter = 0
    LOG.clear()
    Fragile.alive = 0


def log(what: Any, value: Any = None) -> Any:
    """Note an effect; gives ``value``."""
    LOG.append(what)
    return value


@cs.task
def one(value: Any) -> Any:
    return value


@cs.task
def plus(a: Any, b: Any) -> Any:
    return a + b


class Fragile:
    """Counts its living instances."""

    alive = 0

    def __init__(self) -> None:
        type(self).alive += 1

    def __del__(self) -> None:
        type(self).alive -= 1


class Door:
    """A context manager that fails or swallows when it is left."""

    def __init__(self, fails: bool = False, swallows: bool = False) -> None:
        self.fails = fails
        self.swallows = swallows

    def __enter__(self) -> str:
        LOG.append("in")
        return "inside"

    def __exit__(self, kind: Any, *_: Any) -> bool:
        LOG.append(("out", kind and kind.__name__))
        if self.fails:
            raise ValueError("the door fails")
        return self.swallows


class Number:
    """Arithmetic of the user's: gives a lazy value now and then."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __sub__(self, other: int) -> Any:
        LOG.append(("minus", self.value))
        less = Number(self.value - other)
        return one(less) if self.value % 3 == 0 else less

    def __bool__(self) -> bool:
        return self.value > 0


# -- shapes of tail calls -------------------------------------------------------------------------


@case()
@cs.task
def by_position(n, acc=0):
    return by_position.tail(n - 1, acc + n) if n else acc


@case()
@cs.task
def by_name(n, acc=0):
    if n:
        return by_name.tail(acc=acc + n, n=n - 1)
    return acc


@case()
@cs.task
def by_hand(n, acc=0):
    if n:
        return cs.TailCall(args=[n - 1], kwargs={"acc": acc + n})
    return acc


@case()
@cs.task
def by_hand_the_other_way_round(n, acc=None):
    if n:
        return cs.TailCall(kwargs={"acc": log(("acc", n))}, args=(log(("n", n), n - 1),))
    return acc


@case()
@cs.task
def by_hand_with_a_target(n):
    if n:
        return cs.TailCall((n - 1,), None, None, by_hand_with_a_target)
    return "end"


@case()
@cs.task
def nested_conditions(n, way=""):
    return (
        nested_conditions.tail(n - 3, way + "a")
        if n > 6
        else nested_conditions.tail(n - 2, way + "b")
        if n > 3
        else (nested_conditions.tail(n - 1, way=way + "c") if n else way)
    )


@case()
@cs.task
def condition_with_a_walrus(n):
    return condition_with_a_walrus.tail(m) if (m := n - 2) > 0 else (n, m)


@case(lambda task: task(1, 2, 10))
@cs.task
def swapped(a, b, n):
    return swapped.tail(b, a, n - 1) if n else (a, b)


@case(lambda task: task(1, 2, 3, 10))
@cs.task
def rotated(a, b, c, n):
    return rotated.tail(b, c, a + b, n=n - 1) if n else (a, b, c)


@case()
@cs.task
def keeps_last_values(n, kept=7, other=1):
    kept = kept * 2
    other += kept
    if n:
        return keeps_last_values.tail(n - 1)
    return kept, other


@case()
@cs.task
def keeps_some(n, a=1, b=2):
    a, b = b, a + b
    if n % 2:
        return keeps_some.tail(n - 1, b=b)
    if n:
        return keeps_some.tail(n - 1, a=a)
    return a, b


@case()
@cs.task
def deletes_a_parameter(n, kept=5):
    value = kept + n
    del kept
    if n:
        return deletes_a_parameter.tail(n - 1)
    return value


@case()
@cs.task
def uses_a_deleted_parameter(n, m=1):
    if n == 4:
        del n
    return uses_a_deleted_parameter.tail(n, m) if m > 50 else uses_a_deleted_parameter.tail(n - 1)


@case(lambda task: task(9, key=1))
@cs.task
def positional_and_keyword_only(n, /, m=0, *, key, other="o"):
    if n > 5:
        return positional_and_keyword_only.tail(n - 1, m + 1, key=key * 2)
    if n:
        return positional_and_keyword_only.tail(n - 1, other=other + "!")
    return m, key, other


@case()
@cs.task
def nothing_given(n, seen=[]):
    seen.append(n)
    if len(seen) % 5:
        return nothing_given.tail()
    return len(seen) % 5


@case(lambda task: task(), "fused")
@cs.task
def no_parameters():
    global counter
    counter += 1
    return no_parameters.tail() if counter < 10 else counter


@case(lambda task: task(9, 1, 2, x=3), "interpreted", "it takes * or ** arguments")
@cs.task
def starred(n, *rest, **named):
    return starred.tail(n - 1, *rest, n, **{**named, "y": n}) if n else (rest, named)


@case(why="are not written out one by one", tier="generated")
@cs.task
def starred_tail_call(n, m=0):
    return starred_tail_call.tail(*(n - 1, m + n)) if n else m  # <-


@case(why="are not written out one by one", tier="generated")
@cs.task
def tail_call_with_a_variable(n, m=0):
    given = {"n": n - 1, "m": m + n}
    return cs.TailCall(kwargs=given) if n else m  # <-


@case(why="it returns no tail call that names its task", tier="generated")
@cs.task
def tail_call_in_a_variable(n, m=0):  # <-
    following = tail_call_in_a_variable.tail(n - 1, m + n)
    return following if n else m


@case(why="do not fit", tier="generated")
@cs.task
def does_not_fit(n):
    return does_not_fit.tail(n - 1, nonsense=n)  # <-


@case()
@cs.task
def evaluation_order(n, a=0, b=0):
    if not n:
        return a, b
    return evaluation_order.tail(b=log("b", n), a=log("a", n), n=log("n", n - 1))


@case()
@cs.task
def failing_argument(n, a=0):
    return failing_argument.tail(log("n", n - 1), log("a", 1 // (n - 4)))


# -- statements -----------------------------------------------------------------------------------


@case()
@cs.task
def early_returns(n):
    """Has a docstring.

    And lines in it.
    """
    if n == 0:
        return
    for item in range(n):
        if item == 7:
            continue
        if item > n + 2:
            return item
    while True:
        break
    return early_returns.tail(n - 1)


@case()
@cs.task
def returns_in_inner_loops(n):
    for item in range(20):
        for inner in "abc":
            while item + n == 10 and inner == "b":
                return item, inner, n
    return returns_in_inner_loops.tail(n - 1)


@case()
@cs.task
def loops_with_else(n, acc=0):
    while n > 5:
        acc += 1
        if acc > 100:
            break
        n -= 1
    else:
        for item in range(n):
            if item > 50:
                break
            acc += item
        else:
            return loops_with_else.tail(n - 1, acc) if n else (n, acc)
    return "broken off"


@case(why="it is in an inner loop", tier="generated")
@cs.task
def tail_call_in_an_inner_loop(n):
    for item in range(3):
        if item == 1 and n:
            return tail_call_in_an_inner_loop.tail(n - 1)  # <-
    return n


@case()
@cs.task
def exceptions(n, caught=""):
    try:
        value = 1 // (n % 3)
    except ZeroDivisionError as error:
        return exceptions.tail(n - 1, caught + str(error)[:1]) if n else (caught, repr(error))
    else:
        if n % 2:
            return exceptions.tail(n - 1, caught + "e")
    return exceptions.tail(n - 1)


@case()
@cs.task
def caught_in_the_arguments(n, m=0):
    try:
        return caught_in_the_arguments.tail(n - 1, 1 // (n - 3))
    except ZeroDivisionError:
        return n, m


@case()
@cs.task
def exception_groups(n):
    try:
        if n == 2:
            raise ExceptionGroup("two", [ValueError(n), TypeError(n)])
    except* ValueError as group:
        LOG.append(len(group.exceptions))
    return exception_groups.tail(n - 1)


@case(why="a 'finally' follows it", tier="generated")
@cs.task
def finally_after_it(n):
    try:
        if n:
            return finally_after_it.tail(n - 1)  # <-
        return "end"
    finally:
        n = LOG.append(n)


@case()
@cs.task
def finally_before_it(n, m=1):
    try:
        if n == 0:
            return m
        m += 1
    finally:
        m *= 2
        LOG.append(m)
    return finally_before_it.tail(n - 1, m)


@case(why="it is in a 'finally'", tier="generated")
@cs.task
def finally_with_a_return(n):
    try:
        n = n - 1
        1 // 0
    finally:
        return finally_with_a_return.tail(n) if n else "end"  # <-


@case()
@cs.task
def within_with(n):
    with Door() as door:
        LOG.append((door, n))
        if n:
            return within_with.tail(n - 1)
    return door


@case()
@cs.task
def with_that_fails(n):
    with Door(fails=n == 3):
        return with_that_fails.tail(n - 1)


@case()
@cs.task
def with_that_swallows(n, m=0):
    with Door(swallows=True):
        return with_that_swallows.tail(n - 1, 1 // (n - 4))
    return "after", n, m


@case(why="whose failure may be caught", tier="generated")
@cs.task
def with_that_fails_in_a_try(n):
    try:
        with Door(fails=n == 2):
            return with_that_fails_in_a_try.tail(n - 1)  # <-
    except ValueError:
        return n


@case(why="whose failure may be caught", tier="generated")
@cs.task
def with_that_fails_in_another(n):
    with contextlib.suppress(ValueError), Door(fails=n == 2):
        return with_that_fails_in_another.tail(n - 1)  # <-
    return n


@case(why="whose failure may be caught", tier="generated")
@cs.task
def with_that_fails_deeper_in_another(n):
    with contextlib.suppress(ValueError):
        if n:
            with Door(fails=n == 2):
                return with_that_fails_deeper_in_another.tail(n - 1)  # <-
    return n


@case()
@cs.task
def try_in_a_with(n, m=0):
    with Door():
        try:
            return try_in_a_with.tail(n - 1, 1 // (n - 3))
        except ZeroDivisionError:
            return n, m


@case(lambda task: task({"n": 9}))
@cs.task
def matches(value):
    match value:
        case {"n": int(n), **rest} if n:
            return matches.tail([n - 1, *rest, "x"])
        case [0, *others]:
            return others
        case [int() as n, *others]:
            return matches.tail({"n": n, **dict.fromkeys(others)})
        case _:
            return value, "else"


@case()
@cs.task
def locals_of_some_steps(n):
    if n == 7:
        sometimes = n
    if n < 5:
        return sometimes
    return locals_of_some_steps.tail(n - 1)


@case()
@cs.task
def locals_of_some_steps_in_a_tail_call(n, m=0):
    if n > 5:
        sometimes = n
    return locals_of_some_steps_in_a_tail_call.tail(n - 1, sometimes)


@case()
@cs.task
def names_of_statements(n):
    if n == 6:
        import math as imported
    if n == 5:

        class Local:
            value = 1

    if n == 4:

        def local():
            return 1

    if n == 3:
        with Door() as entered:
            pass
    if n == 1:
        for name in ("imported", "Local", "local", "entered"):
            LOG.append(name)
        return imported, Local, local, entered
    return names_of_statements.tail(n - 1)


@case()
@cs.task
def names_of_handlers(n):
    try:
        if n == 4:
            raise ValueError(n)
    except ValueError as error:
        kept = error.args
    if n == 2:
        return error
    return names_of_handlers.tail(n - 1)


@case()
@cs.task
def annotated(n: int, acc: list[Undefined] = []) -> Undefined:  # type: ignore[name-defined]
    more: Undefined = [*acc, n]  # type: ignore[name-defined]
    only: int
    if n:
        return annotated.tail(n - 1, more)
    return only


@case()
@cs.task
def global_statements(n):
    global counter
    counter += n
    if n == 3:
        global made
        made = counter
    return global_statements.tail(n - 1) if n else (counter, made)


# -- functions within -----------------------------------------------------------------------------


@case()
@cs.task
def inner_functions(n):
    def inner(a, b=1):
        return a + b

    if n == 3:
        inner()
    return inner_functions.tail(inner(n, -1))


@case()
@cs.task
def lambdas(n, found=()):
    key = lambda item: -item
    return lambdas.tail(n - 1, (*found, sorted([n, 5], key=key)[0])) if n else (found, key.__name__)


@case()
@cs.task
def inner_class(n):
    class Inner:
        size = 3

        def method(self):
            return type(self).__qualname__

    return inner_class.tail(n - Inner.size) if n > 0 else (Inner().method(), Inner.method)


@case(why="uses its variable 'n'", tier="generated")
@cs.task
def closure_over_a_parameter(n, seen=()):
    seen = (*seen, lambda: n)  # <-
    return closure_over_a_parameter.tail(n - 1, seen) if n else [f() for f in seen]


@case()
@cs.task
def comprehensions(n, seen=[]):
    seen = [item for item in seen if item > 1]
    pairs = {item: {i for i in range(item)} for item in range(n)}
    seen += [len(pairs), sum(i for i in range(n))]
    return comprehensions.tail(n - 1, seen) if n else (seen, pairs)


@case(why="uses its variable 'n'", tier="generated")
@cs.task
def generator_over_a_parameter(n, acc=0):
    acc = sum(i * n for i in range(5)) + acc  # <-
    return generator_over_a_parameter.tail(n - 1, acc) if n else acc


@case(why="it uses 'locals', which sees the loop", tier="generated")
@cs.task
def reads_its_frame(n):
    return reads_its_frame.tail(n - 1) if n else sorted(locals())  # <-


@case(why="names that begin with '__cs_'", tier="generated")
@cs.task
def our_names(n):
    __cs_was_n = n
    return our_names.tail(n - 1) if n else __cs_was_n


@case(name="builtin names", why="uses its variable 'type'", tier="generated")
@cs.task
def builtin_names(n, type="t", len="l", isinstance=3, *, repr=4):
    seen = lambda: type  # <-
    if n % 2:
        return builtin_names.tail(n - 1, len=len + "!", repr=repr + 1)
    return builtin_names.tail(n - 1, type + "?") if n else (seen(), len, isinstance, repr)


# -- objects --------------------------------------------------------------------------------------


@case()
@cs.task
def locals_end_with_the_step(n, left=None):
    LOG.append((Fragile.alive, left and left()))
    mine = Fragile()
    return locals_end_with_the_step.tail(n - 1, weakref.ref(mine)) if n else Fragile.alive


@case(tier="generated", why="a 'finally' follows it")
@cs.task
def locals_end_with_the_step_of_a_loop(n):
    LOG.append(Fragile.alive)
    mine = Fragile()
    try:
        return locals_end_with_the_step_of_a_loop.tail(n - 1) if n else Fragile.alive  # <-
    finally:
        pass


@case(lambda task: task(9, [], {}))
@cs.task
def changes_its_arguments(n, items, named):
    items.append(n)
    named[n] = len(items)
    if n % 2:
        items = list(items)
    return changes_its_arguments.tail(n - 1) if n else (items, named)


SENTINEL = "".join(["not", "interned", " "])


@case(lambda task: one_of_two(9), name="defaults on a switch")  # type: ignore[has-type]
@cs.task
def defaults(n, mark=SENTINEL, size=10**6, items=LOG):
    LOG.append((mark is SENTINEL, size, items is LOG))
    return one_of_two.tail(n - 1)


@cs.task
def one_of_two(n, kept=0):
    kept += 1
    return defaults.tail(n - 1) if n > 0 else kept


@case()
@cs.task
def raises_stop_iteration(n):
    if n == 3:
        next(iter(()))
    return raises_stop_iteration.tail(n - 1)


@case(lambda task: task(Number(9)))
@cs.task
def arithmetic_of_the_users(n, count=0):
    return arithmetic_of_the_users.tail(n - 1, count + 1) if n else (n.value, count)


# -- lazy values (M2) -----------------------------------------------------------------------------


@case()
@cs.task
def lazy_arguments(n, acc=0):
    if n % 3 == 0:
        return lazy_arguments.tail(plus(n, -1), one(acc)) if n else acc
    return lazy_arguments.tail(n - 1, acc=plus(acc, n))


@case()
@cs.task
def lazy_positional_only(n, /, m=0):
    return lazy_positional_only.tail(one(n - 1), plus(m, 1)) if n else m


@case()
@cs.task
def lazy_sums(n, acc=0):
    return lazy_sums.tail(n - 1, acc + one(n)) if n else (acc, type(acc).__name__)


@case()
@cs.task
def lazy_comparisons(n, acc=()):
    less = [one(n)] < [one(n + 1)]
    return lazy_comparisons.tail(n - 1, less) if n else type(acc).__name__


@case()
@cs.task
def lazy_now_and_then(n, acc=0):
    more = one(n) if n == 4 else n
    kind = type(acc).__name__
    return lazy_now_and_then.tail(n - 1, more) if n else (acc, kind)


@case()
@cs.task
def lazy_that_is_kept(n, acc=0):
    if n == 5:
        acc = one(99)
        return lazy_that_is_kept.tail(n - 1, acc)
    acc = type(acc).__name__, acc
    return lazy_that_is_kept.tail(n - 1) if n else acc


@case()
@cs.task
def lazy_in_a_container(n, acc=None):
    return lazy_in_a_container.tail(n - 1, [one(n)]) if n else type(acc[0]).__name__


@case()
@cs.task
def literals(n, acc=None):
    if not n:
        return type(acc).__name__
    return literals.tail(n - 1, cs.literal(one(n)) if n == 1 else cs.literal(n))


@case()
@cs.task
def failing_lazy_argument(n):
    return failing_lazy_argument.tail(plus(n, "") if n == 4 else n - 1)


@case()
@cs.task
def returns_lazy_values(n):
    if n == 4:
        return plus(returns_lazy_values(2), " of ends")
    return returns_lazy_values.tail(n - 1) if n else "end"


# -- several tasks --------------------------------------------------------------------------------


@case()
@cs.task
def ping(n, trace=""):
    return pong.tail(m=n - 1, so_far=trace + "i") if n else trace


@cs.task
def pong(m, so_far, extra="o"):
    trace = so_far + extra
    return ping.tail(m, trace) if m != 4 else pong.tail(m - 1, extra="x")


@case()
@cs.task
def first(a, x=1):
    x += a
    return second.tail(a - 1, x) if a else x


@cs.task
def second(b, y, z=2):
    y, z = z, y
    return third.tail(c=b, w=y + z)


@cs.task
def third(c, w, x=5):
    return first.tail(c, x + w)


@case()
@cs.task
def fails_in_the_other(n):
    return failing_other.tail(n - 1)


@cs.task
def failing_other(m):
    value = 1 // (m - 2)
    return fails_in_the_other.tail(m - 1)


case(lambda task: task(8), name="fails in the task that it began with")(failing_other)


@case()
@cs.task
def locals_of_the_other(n):
    if n > 5:
        m = n
    return other_locals.tail(n - 1, m)


@cs.task
def other_locals(n, m):
    return locals_of_the_other.tail(n)


@case()
@cs.task
def parameter_deleted_before_a_switch(n):
    if n == 5:
        del n
    return after_the_switch.tail(n)


@cs.task
def after_the_switch(n):
    return parameter_deleted_before_a_switch.tail(n - 1) if n else "end"


@case()
@cs.task
def global_of_both(n):
    global counter
    counter += 1
    return other_with_global.tail(n - 1) if n else counter


@cs.task
def other_with_global(n):
    before = counter
    global made
    made = before
    return global_of_both.tail(n - 1) if n else counter


variable = "global"


@case(why="cannot share a loop", tier="generated")
@cs.task
def variable_of_one(n):  # <-
    variable = n
    return variable_within_the_other.tail(variable - 1)


@cs.task
def variable_within_the_other(n):
    return variable_of_one.tail(n - 1) if n > 1 else [variable for _ in range(2)]


@case(why="a 'with' is left after it", tier="generated")
@cs.task
def switch_within_with(n):
    with Door(fails=n == 3):
        return back_to_with.tail(n)  # <-


@cs.task
def back_to_with(n):
    return switch_within_with.tail(n - 1)


@case(why="one is missing", tier="generated")
@cs.task
def missing_on_a_switch(n):
    return needs_two.tail(n)  # <-


@cs.task
def needs_two(a, b):
    return missing_on_a_switch.tail(a)


@case(why="do not come back", tier="generated")
@cs.task
def across_files(n):  # <-
    return other_bodies.back.tail(n - 1, across_files) if n else "end"


@case()
@cs.task
def leaves_for_another_file(n):
    return leaves_for_another_file.tail(n - 1) if n else other_bodies.count_down.tail(5)


@case(lambda task: task(4, "blueprint"))
@cs.task
def to_a_blueprint(n, way):
    if n:
        return to_a_blueprint.tail(n - 1)
    return cs.TailCall(kwargs={"n": 3}, target_blueprint_id="count_down")


# -- callables ------------------------------------------------------------------------------------


def doubling(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):  # <-
        LOG.append("wrapper")
        return function(*args, **kwargs)

    return wrapper


@case(why="another function in its place", tier="generated")
@cs.task
@doubling
def wrapped(n, m=0):
    return wrapped.tail(n - 1, m + 1) if n else m


a_lambda = cs.task(lambda n, m=0: a_lambda.tail(n - 1, m=m + n) if n else m)  # type: ignore[has-type]  # <-
case(tier="generated", why="it is a lambda", name="lambda")(a_lambda)


def _with_a_base(base, n, acc=0):
    return a_partial.tail(n - 1, acc + base) if n else acc


a_partial = cs.task(functools.partial(_with_a_base, 3))
case(tier="generated", why="it is no function written in Python", name="partial")(a_partial)

a_builtin = cs.task(divmod)
case(lambda task: task(9, 2), "generated", "it is no function written in Python", name="builtin")(
    a_builtin
)


class Counting:
    """Has tasks as static methods and as instances that are called."""

    __step = 1

    @cs.task
    @staticmethod
    def private(n):
        return Counting.private.tail(n - Counting.__step) if n else "end"

    @cs.task
    def plain(n):  # <-
        return Counting.plain.tail(n - 1) if n else "end"  # type: ignore[truthy-bool]

    def __call__(self, n):
        return instance.tail(n - 1) if n else "end"


instance = cs.task(Counting(), name="instance")  # type: ignore[call-overload]
case(tier="generated", why="no function written in Python", name="instance")(instance)
case(tier="generated", why="a private name of its class", name="private names")(Counting.private)
case(tier="generated", why="no tail call that names its task", name="method")(Counting.plain)


def make_closure(step):
    count = 0

    @cs.task
    def closure(n):
        nonlocal count
        count += 1

        def inner(a):
            return a - step

        if n == 2:
            inner()
        return closure.tail(inner(n)) if n else count

    return closure


case(lambda _: make_closure(3)(9), name="closure")(make_closure(3))
case(lambda _: make_closure(1)(9), name="closure that fails")(make_closure(1))


def make_pair():
    seen = []

    @cs.task
    def even(n):
        nonlocal seen
        seen = [*seen, n]
        return odd.tail(n - 1) if n else seen

    @cs.task
    def odd(n):
        nonlocal seen
        seen = [*seen, -n]
        return even.tail(n - 1) if n else seen

    return even


case(lambda _: make_pair()(9), name="pair of closures")(make_pair())


@case(lambda task: task(9).with_retry(2), name="policies of steps")
@cs.task
def with_policies(n):
    LOG.append(n)
    if n == 5 and LOG.count(5) == 1:
        raise OSError(n)
    return with_policies.tail(n - 1) if n else "end"


@case(tier="interpreted", why="resources are injected")
@cs.task
def injected(n, tool=cs.inject("tool")):
    return injected.tail(n - 1) if n else tool


@case(tier="interpreted", why="its mode is 'blocking'")
@cs.task(mode="blocking")
def blocking(n):
    return blocking.tail(n - 1) if n else "end"


@case()
@cs.task(mode="inline", name="another name")
def inline(n):
    return inline.tail(n - 1) if n != 2 else 1 // 0


# -- coroutine functions --------------------------------------------------------------------------


@case()
@cs.task
async def coroutine(n, acc=0):
    await asyncio.sleep(0)
    return coroutine.tail(n - 1, acc + n) if n else acc


@case()
@cs.task
async def coroutine_that_awaits_arguments(n, acc=()):
    queue = asyncio.Queue()
    queue.put_nowait(n)
    if n:
        return coroutine_that_awaits_arguments.tail(n - 1, (*acc, await queue.get()))
    return acc


@case()
@cs.task
async def coroutine_that_fails(n):
    async def inner():
        await asyncio.sleep(0)
        raise ValueError("inner")

    if n == 3:
        await inner()
    return coroutine_that_fails.tail(n - 1)


@case()
@cs.task
async def coroutine_that_stops(n):
    if n == 3:
        raise StopIteration(n)
    return coroutine_that_stops.tail(n - 1)


@contextlib.asynccontextmanager
async def async_door():
    LOG.append("in")
    await asyncio.sleep(0)
    try:
        yield "door"
    finally:
        await asyncio.sleep(0)
        LOG.append("out")


@case(why="an 'async with' is left after it", tier="generated")
@cs.task
async def async_with(n):
    async with async_door() as door:
        if n:
            return async_with.tail(n - 1)  # <-
    return door


@case()
@cs.task
async def async_with_before(n):
    async with async_door() as door:
        LOG.append(n)
        if not n:
            return door
    return async_with_before.tail(n - 1)


async def numbers(n):
    for item in range(n):
        await asyncio.sleep(0)
        yield item


@case()
@cs.task
async def async_for(n, acc=0):
    async for item in numbers(n):
        if item > 50:
            return "never"
        acc += item
    else:
        return async_for.tail(n - 1, acc) if n else (acc, [i async for i in numbers(2)])


@case()
@cs.task
async def own_timeout(n):
    try:
        async with asyncio.timeout(0):
            await asyncio.get_running_loop().create_future()
    except TimeoutError:
        LOG.append(n)
    return own_timeout.tail(n - 1) if n else "end"


@case()
@cs.task
async def async_ping(n, a=1):
    await asyncio.sleep(0)
    return async_pong.tail(n - 1, a) if n else a


@cs.task
async def async_pong(m, b):
    if m == 0:
        raise KeyError(b)
    return async_ping.tail(m - 1, b * 2)


@cs.task
async def async_other_begins(n):
    return async_other_stops.tail(n - 1)


@cs.task
async def async_other_stops(n):
    if n < 4:
        raise StopIteration(n)
    return async_other_begins.tail(n - 1)


@case(why="cannot share a loop", tier="generated")
@cs.task
async def async_and_plain(n):  # <-
    return plain_and_async.tail(n - 1) if n else "end"


@cs.task
def plain_and_async(n):
    return async_and_plain.tail(n - 1) if n else "end"


# -- lines and columns ----------------------------------------------------------------------------


class Wrong:
    def __bool__(self):
        raise RuntimeError("neither true nor false")


@case(lambda task: task(0, 3, None), name="line 0")
@case(lambda task: task(1, 3, None), name="line 1")
@case(lambda task: task(2, 3, None), name="line 2")
@case(lambda task: task(3, 3, None), name="line 3")
@case(lambda task: task(4, 3, None), name="line 4")
@case(lambda task: task(5, 3, None), name="line 5")
@case(lambda task: task(6, 3, None), name="line 6")
@case(lambda task: task(7, 3, None), name="line 7")
@case(lambda task: task(8, 3, None), name="line 8")
@case(lambda task: task(9, 3, None), name="line 9")
@case(lambda task: task(10, 3, None), name="line 10")
@cs.task
def lines(way, n, nothing):
    wrong = Wrong()
    if n:
        return lines.tail(way, n - 1)
    ü = "wide: 日本"
    nothing = nothing or (way == 0 and ü.missing)
    if way == 1 and (
        ü
        and nothing.missing
    ):  # fmt: skip
        return 1
    for item in nothing if way == 2 else ():
        return item
    while way == 3 and len(nothing):
        return 3
    with contextlib.nullcontext() if way != 4 else nothing:
        LOG.append(way)
    try:
        if way == 5:
            raise ValueError("five")
    except ValueError as error:
        raise KeyError(way) from error
    match way:
        case 6 if wrong:
            return 6
    if way == 10:
        del nothing[way], item
    assert way != 7, "seven"
    if way == 8:
        return lines.tail(
            way,
            nothing.n,
        )  # fmt: skip
    return (
        lines.tail(way, n, nothing)
        if way == 9 and
        wrong
        else nothing[way]
    )  # fmt: skip
