"""Contexts: tasks do not see each other's context variables, in any way of running (M12)."""

from contextvars import ContextVar, copy_context

import pytest

import cascade as cs
from cascade.adapters.executors.local import LocalExecutor
from cascade.runtime.execution.contexts import differs, held_in, is_written

level: ContextVar[object] = ContextVar("level")
other: ContextVar[object] = ContextVar("other", default=None)


class EqualToAll:
    def __eq__(self, _other):
        return True

    __hash__ = None  # type: ignore[assignment]


class Incomparable:
    def __eq__(self, _other):
        raise ValueError("cannot be compared")

    __hash__ = None  # type: ignore[assignment]


class Elementwise:
    """Like arrays: their ``==`` returns an object without a truth value."""

    def __eq__(self, _other):
        return Incomparable()

    def __bool__(self):
        raise ValueError("no truth value")

    __hash__ = None  # type: ignore[assignment]


#: The caller's value, and a task's value that is equal to it, or claims to be.
PAIRS = {
    "a number": (1, True),
    "a list": ([], []),
    "equal to all": ("the caller's", EqualToAll()),
    "the caller's is equal to all": (EqualToAll(), "a task's"),
    "incomparable": (Incomparable(), Incomparable()),
    "elementwise": (Elementwise(), Elementwise()),
    "the same": ("the caller's", "the caller's"),
}


@pytest.fixture(params=[*PAIRS.values()], ids=[*PAIRS])
def values(request):
    """The caller's value, which is set, and a task's."""
    token = level.set(request.param[0])
    yield request.param
    level.reset(token)


@pytest.fixture(params=["graph", "interpreted", "generated", "auto", "program"])
async def way(request):
    """Runs a target in one of all ways, with a single worker."""
    executor = LocalExecutor(1)
    tier = request.param if request.param in ("interpreted", "generated") else "auto"
    async with cs.Engine(threads=executor, tier=tier) as engine:

        async def run(make):
            if request.param == "program":
                return await engine.compile(make()).run()
            return await engine.run(make(), use_vm=request.param != "graph")

        yield run
    executor.shutdown()


def bind(value):
    """As libraries for logs and traces do, on behalf of a task."""
    level.set(value)


def is_callers(values):
    return level.get() is values[0] and other.get() is None


# -- the comparison -------------------------------------------------------------------------------


def test_a_copy_is_as_the_original(values):
    clean = copy_context()
    assert not is_written(clean.copy(), len(clean), held_in(clean))


def test_an_equal_value_is_another_one(values):
    clean = copy_context()
    copied = clean.copy()
    copied.run(level.set, values[1])
    assert is_written(copied, len(clean), held_in(clean)) == (values[1] is not values[0])


def test_a_value_that_is_set_back_is_not_written(values):
    clean = copy_context()
    copied = clean.copy()
    token = copied.run(level.set, "for a moment")
    copied.run(level.reset, token)
    assert not is_written(copied, len(clean), held_in(clean))


def test_a_variable_that_the_caller_has_not_set_is_written():
    clean = copy_context()
    copied = clean.copy()
    copied.run(other.set, None)
    assert is_written(copied, len(clean), held_in(clean))


def test_variables_of_the_run_are_left_out():
    context = copy_context()
    before = held_in(context)
    context.run(other.set, 1)
    assert held_in(context, (other,)) == before
    assert not differs(context, held_in(context))


# -- on all ways ----------------------------------------------------------------------------------


async def test_a_graph(way, values):
    """Calls that come one after the other on one worker, or in straight-line code."""

    @cs.task
    def sets(_before=None):
        seen = is_callers(values)
        bind(values[1])
        return seen

    @cs.task
    def both(before, x):
        return before and x and is_callers(values)

    def make():
        first = sets()
        return both(sets(first), both(first, sets(sets(first))))

    for _ in range(4):  # code for a shape is written when that was met a few times
        assert await way(make)
    assert is_callers(values)


async def test_calls_returned_by_tasks_have_separate_contexts(way, values):
    """Chains of plain calls, which are made one after the other."""

    @cs.task
    def sets(n):
        seen = is_callers(values)
        bind(values[1])
        return seen and n

    @cs.task
    def goes_on(n):
        if n is False or not is_callers(values):
            return False
        bind(values[1])
        return goes_on(sets(sets(n - 1))) if n else "end"

    # sets() hands a number on as long as it sees the caller's value
    assert await way(lambda: goes_on(12)) == "end"


CALLERS = ["the caller's"]


@cs.task
def returns_one(n):
    return binds_in_each(n)


@cs.task
def binds_in_each(n):
    if not is_callers(CALLERS):
        return "another's"
    bind(n)
    return binds_in_each.tail(n - 1) if n % 20 else returns_one(n - 1) if n else "end"


async def test_a_loop_that_sets_a_variable_in_every_step_is_noticed(way):
    """After as many steps as may have been made before it."""
    token = level.set(CALLERS[0])
    try:
        assert await way(lambda: returns_one(400)) == "end"
    finally:
        level.reset(token)
