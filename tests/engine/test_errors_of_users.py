"""Errors of tasks reach the caller as they are, whatever their class does with attributes."""

import asyncio
import dataclasses
import io

import pytest

import cascade as cs
from cascade.runtime.diagnostics.error_notes import add_note, notes_of

# -- kinds of errors ------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses all attributes, also ``__traceback__`` and ``__context__``; here not hashable."""

    keys: list


class Slotted(Exception):
    __slots__ = ("place",)


class RefusesAttributes(Exception):
    def __setattr__(self, name, value):
        raise RuntimeError(f"{name} cannot be set")


class Falsy(Exception):
    def __bool__(self):
        return False


class Empty(Exception):
    def __len__(self):
        return 0


class NoTruthValue(Exception):
    def __bool__(self):
        raise RuntimeError("no truth value")


class NoEquality(Exception):
    def __eq__(self, other):
        raise RuntimeError("not compared")


class EqualsAll(Exception):
    def __eq__(self, other):
        return True


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class OddNotes(Exception):
    __notes__ = None  # type: ignore[assignment]  # a user may


class NotesFail(Exception):
    @property
    def __notes__(self):
        raise RuntimeError("no notes")


class MixedNotes(Exception):
    def __init__(self, *args):
        self.__notes__ = [1, None]


class OwnMethods(Exception):
    def add_note(self, note):
        raise RuntimeError("no note")

    def with_traceback(self, trace):
        raise RuntimeError("no traceback")


KINDS = [
    *(Frozen, Slotted, RefusesAttributes, Falsy, Empty, NoTruthValue, NoEquality, EqualsAll),
    *(NoText, OddNotes, NotesFail, MixedNotes, OwnMethods),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


# -- tasks that raise them ------------------------------------------------------------------------


@cs.task
def fail(kind):
    raise kind(["x"])


@cs.task
async def fail_async(kind):
    await asyncio.sleep(0)
    raise kind(["x"])


@cs.task
def loop(kind, n):
    if n:
        return loop.tail(n=n - 1)
    raise kind(["x"])


@cs.task
async def loop_async(kind, n):
    if n:
        return loop_async.tail(n=n - 1)
    raise kind(["x"])


@cs.task
def both(*values):
    return values


@cs.task
async def fail_when_cancelled(kind):
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise kind(["x"]) from None


@cs.resource
def breaks_on_opening(kind=None):
    raise BREAKS[0](["x"])
    yield


@cs.resource
def breaks_on_closing():
    yield "open"
    raise BREAKS[0](["x"])


@cs.resource
async def breaks_on_closing_async():
    yield "open"
    raise BREAKS[0](["x"])


#: The errors of the providers above.
BREAKS = [Exception]


@cs.task
def use(kind, value):
    return value


@cs.task
def use_and_fail(kind, value):
    raise kind(["x"])


TARGETS = {
    "a task": lambda kind: fail(kind),
    "a coroutine task": lambda kind: fail_async(kind),
    "a loop": lambda kind: loop(kind, 3),
    "a coroutine loop": lambda kind: loop_async(kind, 3),
    "an input": lambda kind: both(fail(kind), 1),
    "two at once": lambda kind: both(fail_async(kind), fail_async(kind)),
    "a retried task": lambda kind: fail(kind).with_retry(2),
    "a retried coroutine task": lambda kind: fail_async(kind).with_retry(2),
    "a map": lambda kind: fail.map(kind=[kind, kind]),
    "a task with a timeout": lambda kind: fail(kind).with_timeout(60),
    "a coroutine task with a timeout": lambda kind: fail_async(kind).with_timeout(60),
    "a provider that opens": lambda kind: use(kind, cs.inject(breaks_on_opening)),
    "a provider that closes": lambda kind: use(kind, cs.inject(breaks_on_closing)),
    "a task and a provider": lambda kind: use_and_fail(kind, cs.inject(breaks_on_closing)),
    "and an async one": lambda kind: use_and_fail(kind, cs.inject(breaks_on_closing_async)),
}


@pytest.fixture
def targets(kind, monkeypatch):
    monkeypatch.setattr(f"{__name__}.BREAKS", [kind])
    return {name: make(kind) for name, make in TARGETS.items()}


@pytest.fixture
async def engine():
    resources = [breaks_on_opening, breaks_on_closing, breaks_on_closing_async]
    async with cs.Engine(resources=resources) as engine:
        yield engine


def is_one(error, kind):
    """``type``, as ``isinstance`` and comparisons are the error's own."""
    return type(error) is kind and error.args == (["x"],)


async def raised_by(work):
    try:
        await work
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


# -- tests ----------------------------------------------------------------------------------------


async def test_the_error_is_raised(kind, targets, run):
    for name, target in targets.items():
        assert is_one(await raised_by(run(target)), kind), name


async def test_the_error_is_in_the_group_of_a_run_that_goes_on(kind, targets, engine, use_vm):
    for name, target in targets.items():
        error = await raised_by(engine.run(target, use_vm=use_vm, fail_fast=False))
        if type(error) is ExceptionGroup:
            assert all(is_one(one, kind) for one in error.exceptions), name
        else:  # closing a resource of the run is after all tasks
            assert is_one(error, kind), name


async def test_a_program_raises_the_error(kind, targets, engine):
    for name, target in targets.items():
        assert is_one(await raised_by(engine.compile(target).run()), kind), name


async def test_the_error_is_raised_while_events_are_written(kind, targets, engine, use_vm):
    with cs.LineWriter(engine.bus, io.StringIO()), cs.show_progress(engine.bus, io.StringIO()):
        for name, target in targets.items():
            assert is_one(await raised_by(engine.run(target, use_vm=use_vm)), kind), name


async def test_an_item_has_the_error_as_its_value(kind, run):
    values = await run(fail.map(kind=[kind, kind], return_exceptions=True))
    assert all(is_one(value, kind) for value in values)


@pytest.mark.parametrize("options", [{}, {"log_format": "json", "progress": True}])
def test_a_script_sees_the_error(kind, use_vm, options, capsys):
    try:
        cs.run(both(fail(kind)), use_vm=use_vm, **options)
    except BaseException as error:
        found = error
    assert is_one(found, kind)


async def test_an_error_of_a_task_that_a_timeout_cancels_is_raised(kind, run):
    target = fail_when_cancelled(kind).with_timeout(0.01)
    assert is_one(await raised_by(run(target)), kind)


async def test_an_error_of_a_task_that_a_deadline_cancels_is_raised_or_replaced(
    kind, engine, use_vm
):
    target = fail_when_cancelled(kind)
    error = await raised_by(engine.run(target, use_vm=use_vm, deadline=0.01))
    assert type(error) in (kind, cs.errors.DeadlineError)


def test_a_note_is_added_where_it_can_be():
    noted, frozen, odd = ValueError(), Frozen([]), OddNotes()
    for error in (noted, frozen, odd):
        add_note(error, "a note")
        add_note(error, "a note")
    assert [notes_of(error) for error in (noted, frozen, odd)] == [["a note"], [], []]
