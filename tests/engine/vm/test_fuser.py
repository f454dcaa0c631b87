"""Fused and generated loops: every tier gives the same as the interpreter, step for step.

The bodies are in bodies.py, random ones come from random_bodies.py; the differential suite compares
whole programs.
"""

import asyncio
import functools
import importlib.util
import inspect
import itertools
import linecache
import random
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from tests.engine.vm import bodies, other_bodies
from tests.engine.vm.random_bodies import Writer, modules

import cascade as cs
from cascade.graph.compiler import template_of
from cascade.runtime.loops.fused import is_traced
from cascade.spec.callsite import CallSite

TIERS = {"fused": ("generated", "auto", "fused"), "generated": ("generated", "auto")}
_BODIES = (bodies.__file__, other_bodies.__file__)

untraced = pytest.mark.skipif(
    is_traced(), reason="a debugger or coverage traces lines, so nothing is fused"
)


def tiers_of(task):
    """The tiers that can be asked for by name, besides the interpreter."""
    return TIERS.get(cs.explain(task).tier, ("auto",))


def told(error, files):
    """All parts of an error, with its cause; None if there is no error."""
    if error is None:
        return None
    return (
        type(error).__name__,
        str(error),
        getattr(error, "__notes__", None),
        frames_of(error, files),
        told(error.__cause__, files),
        told(error.__context__, files),
    )


def frames_of(error, files):
    """The user's frames of a traceback: line, columns, and name."""
    frames = traceback.extract_tb(error.__traceback__)
    # Which column CPython tells for an unbound name depends on how often the code has run; for 3.11
    # the line as well.
    certain = not isinstance(error, UnboundLocalError)
    known = certain or sys.version_info >= (3, 12)
    return [
        (f.filename, f.lineno * known, *(f.end_lineno, f.colno, f.end_colno) * certain, f.name)
        for f in frames
        if f.filename in files
    ]


def as_told(found, like):
    """``found``, with the names of frames that tasks share as they are in ``like``."""
    if not (is_error(found) and is_error(like)) or len(found[3]) != len(like[3]):
        return found
    frames = [
        (*frame[:-1], other[-1] if other[-1] in frame[-1].split("/") else frame[-1])
        for frame, other in zip(found[3], like[3], strict=True)
    ]
    return (*found[:3], frames, *map(as_told, found[4:], like[4:]))


def is_error(outcome):
    """Whether it is one of ``told``."""
    return isinstance(outcome, tuple) and len(outcome) == 6 and isinstance(outcome[3], list)


def value_told(value):
    """The value; functions and similar objects by their text, because each run makes new ones."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(value_told, value))
    if inspect.isfunction(value) or inspect.isclass(value):
        return type(value), value.__qualname__, value.__module__
    return repr(value) if isinstance(value, BaseException) else value


@cs.resource(name="tool")
def a_tool():
    yield "a tool"


async def outcome(target, tier, files):
    """The result and effects of a program on the virtual machine; without a tier, as a graph."""
    bodies.reset()
    async with cs.Engine(tier=tier or "auto", resources=[a_tool]) as engine:
        engine.register_blueprint("count_down", template_of(other_bodies.count_down))
        try:
            found = value_told(await engine.run(target(), use_vm=tier is not None))
        except Exception as error:
            found = told(error, files)
    return found, list(map(repr, bodies.LOG))


@pytest.mark.parametrize("case", bodies.CASES.values(), ids=lambda case: case.name)
async def test_a_body_gives_the_same_on_every_tier(case):
    expected, effects = await outcome(case.target, "interpreted", _BODIES)
    for tier in tiers_of(case.task):
        found, done = await outcome(case.target, tier, _BODIES)
        assert as_told(found, expected) == expected, tier
        assert done == effects, tier


@untraced
def test_capacities_do_not_change_the_tier():
    """Limits are asked for once per batch."""
    limited = bodies.ping(3).with_capacity(gpu=1, disk=bodies.ping(1))
    assert cs.explain(limited) == cs.explain(bodies.ping)


@untraced
@pytest.mark.parametrize("case", bodies.CASES.values(), ids=lambda case: case.name)
def test_the_tier_is_explained(case):
    explanation = cs.explain(case.task)
    assert explanation.tier == case.tier, f"{explanation}"
    if case.why is None:
        assert not explanation.refusals
        return
    refusal = explanation.refusals[0]
    assert case.why in refusal.reason
    if refusal.line is not None:
        assert refusal.file == bodies.__file__
        assert "# <-" in linecache.getline(refusal.file, refusal.line), f"{explanation}"


@untraced
async def test_a_tier_that_is_not_to_be_had_is_refused_with_the_reason():
    case = bodies.CASES["finally_after_it"]
    line = cs.explain(case.task).refusals[0].line
    async with cs.Engine(tier="fused") as engine:
        with pytest.raises(cs.errors.TierError, match="a 'finally' follows it") as info:
            await engine.run(case.target(), use_vm=True)
    assert f"({CallSite(bodies.__file__, line)})" in str(info.value)


@untraced
def test_tasks_that_share_a_loop_are_told():
    assert cs.explain(bodies.ping).shares_with == ("pong",)
    assert set(cs.explain(bodies.first).shares_with) == {"second", "third"}
    assert not cs.explain(bodies.by_position).shares_with


#: Programs of several loops, and more than their values.
PROGRAMS = {
    "items of a map that fail": lambda: bodies.failing_other.map(
        m=[2, 4, 8], return_exceptions=True
    ),
    "all that fail": lambda: cs.gather(
        bodies.fails_in_the_other(7), bodies.ping(5), bodies.failing_other(6), bodies.lines(7, 3, 0)
    ),
    "loops around loops": lambda: bodies.plus(
        bodies.by_position(bodies.by_name(4), acc=bodies.first(3)),
        bodies.plus(bodies.coroutine(7), bodies.keeps_last_values(3)[0]),
    ),
    "loops with conditions": lambda: cs.gather(
        bodies.by_name(9).run_if(bodies.by_hand(3)),
        bodies.by_name(9).after(bodies.coroutine(3)).with_retry(2),
    ),
}


def is_raised(value):
    return isinstance(value, BaseException)


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
async def test_effects_of_loops_are_the_same_on_every_tier(program):
    seen = []
    for tier in ("interpreted", "auto"):
        bodies.reset()
        async with cs.Engine(tier=tier) as engine:
            try:
                value = await engine.run(program(), use_vm=True, fail_fast=False)
                values = value if isinstance(value, list) else [value]
            except ExceptionGroup as group:
                values = group.exceptions
        seen.append([repr(told(v, _BODIES)[:3]) if is_raised(v) else repr(v) for v in values])
    assert seen[0] == seen[1]


# -- random bodies --------------------------------------------------------------------------------

_numbers = itertools.count()


@settings(derandomize=True, deadline=None, database=None)
@given(source=modules())
def test_a_random_body_gives_the_same_on_every_tier(tmp_path_factory, source):
    hold(tmp_path_factory.getbasetemp(), source)


@pytest.mark.thorough
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(20))
def test_thousands_of_random_bodies_give_the_same_on_every_tier(tmp_path, part):
    """1,000 of each part; not drawn by hypothesis, which would take most of the time."""
    for seed in range(1_000 * part, 1_000 * (part + 1)):
        hold(tmp_path, Writer(random.Random(seed).randrange).module())


def hold(folder, source):
    """Assert that the graph path and every tier agree on a module."""
    path = folder / f"random_{next(_numbers)}.py"
    path.write_text(source)
    module = imported(path)

    def seen(tier):
        module.total = 0
        found, effects = asyncio.run(outcome(lambda: module.f(6), tier, (str(path),)))
        return found, effects, getattr(module, "total", None)

    expected = seen("interpreted")
    for tier in tiers_of(module.f):
        found, *effects = seen(tier)
        assert (as_told(found, expected[0]), *effects) == expected, f"{tier}\n{source}"
    found, *effects = seen(None)
    if is_error(found) and is_error(expected[0]):
        # Of several nodes that fail it is the error of one of them (M13).
        places = 0 if "on the path" in str(expected[0][2]) else 2
        found, expected = found[:places], (expected[0][:places], *expected[1:])
    assert (found, *effects) == expected, f"graph\n{source}"
    path.unlink()


def imported(path):
    """The module of a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- debuggers and coverage -----------------------------------------------------------------------


@pytest.fixture
def trace():
    """Lines of the bodies that are executed, once ``sys.settrace`` gets its ``function``."""
    before = sys.gettrace()
    yield Trace()
    sys.settrace(before)


class Trace:
    def __init__(self):
        self.lines = []
        self.file = bodies.__file__

    def function(self, frame, event, _argument):
        """To be set; looks at one file only."""
        if frame.f_code.co_filename != self.file:
            return None
        if event == "line":
            self.lines.append((frame.f_code.co_name, frame.f_lineno))
        return self.function


NAMES = ["by_name", "loops_with_else", "exceptions", "within_with", "ping", "coroutine", "matches"]


@pytest.mark.parametrize("name", NAMES)
async def test_lines_are_told_of_as_they_are(name, trace):
    """By whatever tier there is then: coverage and debuggers see the tasks' own functions."""
    case = bodies.CASES[name]
    await outcome(case.target, "auto", _BODIES)  # it is fused from now on, but not entered
    lines = {}
    for tier in ("interpreted", "auto"):
        trace.lines.clear()
        sys.settrace(trace.function)
        try:
            await outcome(case.target, tier, _BODIES)
        finally:
            sys.settrace(None)
        lines[tier] = list(trace.lines)
    assert lines["interpreted"]
    assert lines["auto"] == lines["interpreted"]


async def test_nothing_is_fused_while_lines_are_looked_at(trace):
    sys.settrace(trace.function)
    explanation = cs.explain(bodies.by_name)
    assert explanation.tier == "generated"
    assert "a debugger or coverage is looking at lines" in str(explanation)
    async with cs.Engine(tier="fused") as engine:
        with pytest.raises(cs.errors.TierError, match="a debugger or coverage"):
            await engine.run(bodies.by_name(3), use_vm=True)
    sys.settrace(None)


async def test_a_trace_that_is_set_on_the_way_sees_the_next_steps(trace):
    """Of the next batch at the latest."""

    trace.file = __file__

    @cs.task
    def watched(n):
        if n == 20:
            sys.settrace(trace.function)
        return n if trace.lines else watched.tail(n + 1)

    async with cs.Engine() as engine:
        assert await engine.run(watched(0), use_vm=True) > 20
    sys.settrace(None)
    first = watched.func.__code__.co_firstlineno
    assert trace.lines[:2] == [("watched", first + 2), ("watched", first + 4)]


@untraced
async def test_a_breakpoint_stops_at_true_lines(trace):
    """The effect of ``breakpoint()`` on the frame that calls it."""

    def look(frame, event, _argument):
        if event == "line" and frame.f_code.co_name == "stopped":
            trace.lines.append(frame.f_lineno)
        return look

    @cs.task
    def stopped(n, total=0):
        if n == 3:
            sys.settrace(look)
            sys._getframe().f_trace = look
        total += n
        if n == 1:
            sys.settrace(None)
            sys._getframe().f_trace = None
        return stopped.tail(n - 1, total) if n else total

    code = stopped.func.__code__
    lines = {line for *_, line in code.co_lines()} | {code.co_firstlineno + 1}  # that of ``def``
    async with cs.Engine() as engine:
        assert await engine.run(stopped(9), use_vm=True) == 45
    assert trace.lines
    assert set(trace.lines) <= lines


# -- changes during a loop ------------------------------------------------------------------------


@pytest.fixture
def names():
    """Restores names that the bodies of this module rebind."""
    before = globals().copy()
    yield
    globals().update(before)


@cs.task
def rebinds_another(n):
    if n == 40:
        globals()["rebound"] = instead
    return rebound.tail(n + 1)


@cs.task
def rebound(n):
    return rebinds_another.tail(n + 1)


@cs.task
def rebinds_itself(n):
    if n == 40:
        globals()["rebinds_itself"] = instead
    return rebinds_itself.tail(n + 1)


@cs.task
def instead(n):
    return "instead"


@pytest.mark.parametrize("tier", ["interpreted", "generated", "auto"])
@pytest.mark.parametrize("name", ["rebinds_another", "rebinds_itself"])
async def test_a_name_that_is_rebound_is_followed(names, tier, name):
    """By the next batch at the latest."""
    async with cs.Engine(tier=tier) as engine:
        assert await engine.run(globals()[name](0), use_vm=True) == "instead"


@cs.task
def with_an_old_error(n, error):
    if n == 0:
        raise error
    return has_failed_before.tail(n - 1, error)


@cs.task
def has_failed_before(m, error):
    if m == 0:
        raise StopIteration("old")
    return with_an_old_error.tail(m - 1, error)


async def test_an_error_that_was_raised_before_is_that_of_the_task_that_raises_it():
    """Its traceback has a frame of the same loop, of another run."""
    async with cs.Engine() as engine:
        with pytest.raises(cs.errors.TaskStopIterationError, match="'has_failed_before'") as old:
            await engine.run(with_an_old_error(5, None), use_vm=True)
        error = old.value.__cause__
        with pytest.raises(cs.errors.TaskStopIterationError, match="'with_an_old_error'"):
            await engine.run(with_an_old_error(6, error), use_vm=True)


# -- sources --------------------------------------------------------------------------------------

EDITED = """\
import cascade as cs


@cs.task
def f(n):
    return f.tail(n - 1) if n else "end"
"""


@untraced
@pytest.mark.parametrize(
    ("source", "changed", "reason"),
    [
        (EDITED, EDITED, None),
        (EDITED, EDITED.replace("n - 1", "n - 2"), "not what it was compiled from"),
        (EDITED, EDITED.replace("    return", "    # more\n    return"), "not what it was"),
        (EDITED, "", "its source is not at hand"),
    ],
)
async def test_a_file_that_was_edited_is_no_source(tmp_path, source, changed, reason):
    path = tmp_path / "edited.py"
    path.write_text(source)
    module = imported(path)
    path.write_text(changed)
    explanation = cs.explain(module.f)
    if reason is None:
        assert explanation.tier == "fused"
    else:
        assert explanation.tier == "generated"
        assert reason in explanation.refusals[0].reason
    found, _ = await outcome(lambda: module.f(5), "auto", (str(path),))
    assert found == "end"


@untraced
@pytest.mark.parametrize(
    "end",
    [
        "    return 'end'  # and a comment",
        "    return str(\n        'end'\n    )",
        '    return "end"\n    """not\n    code"""',
        "    return 'end'\n    if 0:\n        pass",
        "    try:\n        return 'end'\n    finally:\n        pass",
        "    return (lambda:\n        'end'\n    )()",
    ],
)
@pytest.mark.parametrize("indent", ["", "    "])
def test_the_code_tells_where_the_lines_of_a_task_end(tmp_path, monkeypatch, end, indent):
    task = f"@cs.task\ndef f(n):\n    if n:\n        return f.tail(n - 1)\n{end}\n"
    inner = "".join(f"{indent}{line}" for line in task.splitlines(keepends=True))
    path = tmp_path / "ends.py"
    path.write_text(f"import cascade as cs\n{'if 1:' if indent else ''}\n{inner}\nother = f\n")
    module = imported(path)
    monkeypatch.setattr(inspect, "getblock", lambda _lines: [])  # which would take long
    assert cs.explain(module.f).tier == "fused"
    assert cs.run(module.f(5), use_vm=True) == "end"


def nested(blocks):
    """The source of a task with so many blocks in each other."""
    lines = [f"{'    ' * depth}for _ in range(1):" for depth in range(1, blocks + 1)]
    lines += [f"{'    ' * (blocks + 1)}pass", "    return f.tail(n - 1) if n else 'end'\n"]
    return "\n".join(["import cascade as cs", "", "@cs.task", "def f(n):", *lines])


def can_be_compiled(source):
    try:
        compile(source, "nested.py", "exec")
    except SyntaxError:
        return False
    return True


@untraced
async def test_as_many_blocks_as_there_can_be_leave_no_room_for_a_loop(tmp_path):
    """CPython compiles some twenty or forty nested blocks, and the loop would be one more."""
    path = tmp_path / "nested.py"
    path.write_text(next(s for s in map(nested, range(60, 10, -1)) if can_be_compiled(s)))
    module = imported(path)
    explanation = cs.explain(module.f)
    assert explanation.tier == "generated"
    assert "its loop cannot be compiled: too many statically nested" in f"{explanation}"
    found, _ = await outcome(lambda: module.f(1), "auto", (str(path),))
    assert found == "end"


@pytest.mark.parametrize("wrapped", [pow, functools.partial(pow, 2)], ids=["builtin", "partial"])
def test_a_task_without_a_python_function_is_explained(wrapped):
    task = cs.task(bodies.doubling(wrapped))
    refusal = cs.explain(task).refusals[0]
    assert "another function in its place" in refusal.reason
    assert refusal.file == bodies.__file__


@untraced
def test_the_file_of_a_reason_is_that_of_its_line():
    @bodies.doubling
    def function(n):
        return n

    refusal = cs.explain(cs.task(function)).refusals[0]
    assert Path(refusal.file) == Path(bodies.__file__)
    assert "# <-" in linecache.getline(refusal.file, refusal.line)


async def test_stop_iteration_names_the_task_of_a_shared_loop_that_raised_it():
    """M13, of coroutine functions; whichever of them a batch begins with."""
    async with cs.Engine() as engine:
        for steps in range(4, 12):
            with pytest.raises(
                cs.errors.TaskStopIterationError, match="'async_other_stops' raised"
            ):
                await engine.run(bodies.async_other_stops(steps), use_vm=True)
