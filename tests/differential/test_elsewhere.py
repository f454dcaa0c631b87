"""Programs whose calls are made in other processes mean what they mean in threads.

Each call of a task writes a line into a file when it begins. So a call that is made twice is found,
and one that is left out. Programs of plain functions, of ``mode="process"`` and of coroutines call
each other, on both paths, in pools whose processes go on from one program to the next.
"""

import asyncio
import multiprocessing
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import remote_tasks as tasks

import cascade as cs
from cascade.adapters.executors.inline import InlineExecutor
from cascade.spec.errors import CascadeError

_NAMED = settings.get_current_profile_name()
examples = (
    settings()
    if _NAMED in ("thorough", "brief")
    else settings(derandomize=True, deadline=None, database=None, max_examples=6)
)
#: For executors that are slower.
a_tenth = settings(examples, max_examples=max(examples.max_examples // 10, 2))
pytestmark = [pytest.mark.timeout(0)] if _NAMED == "thorough" else []

FAILING = ("bad", "catch", "errors")


class Node(NamedTuple):
    kind: str
    one: int
    other: int
    size: int


def nodes(kinds: Iterable[str]) -> st.SearchStrategy[list[Node]]:
    places = st.integers(0, 1 << 30)
    node = st.builds(Node, st.sampled_from([*kinds]), places, places, st.integers(0, 9))
    return st.lists(node, min_size=1, max_size=10)


def built(program: Sequence[Node], path: str) -> Any:
    """The target: the last nodes together."""
    made: list[Any] = [tasks.step(path, "first", 1)]
    for number, node in enumerate(program):
        a, b = made[node.one % len(made)], made[node.other % len(made)]
        made.append(MAKERS[node.kind](path, f"{node.kind}{number}", node.size, a, b))
    return made[-3:]


#: Kind → maker of a node from the path, its label, its size, and two earlier nodes.
MAKERS: dict[str, Callable[[str, str, int, Any, Any], Any]] = {
    "step": lambda path, name, n, a, b: tasks.step(path, name, a, b),
    "there": lambda path, name, n, a, b: tasks.step_elsewhere(path, name, {"a": [a]}, b),
    "async": lambda path, name, n, a, b: tasks.step_async(path, name, a, b),
    "loop": lambda path, name, n, a, b: tasks.loop(path, name, n, a),
    "swaps": lambda path, name, n, a, b: tasks.swaps(path, name, n, a),
    "grows": lambda path, name, n, a, b: tasks.grows(path, name, n % 4, a),
    "map": lambda path, name, n, a, b: tasks.step.map(
        path=cs.literal(path), label=[f"{name}.{i}" for i in range(n)]
    ),
    "if": lambda path, name, n, a, b: tasks.step(path, name, a).run_if(
        tasks.truthy(path, f"{name}.if", b)
    ),
    "else": lambda path, name, n, a, b: (
        tasks.step(path, name, a).run_if(tasks.truthy(path, f"{name}.if", n, b)).or_else(b)
    ),
    "box": lambda path, name, n, a, b: [a, (b, {name: a})],
    "tries": lambda path, name, n, a, b: tasks.tries(path, name, n % 3, a).with_retry(3),
    "bad": lambda path, name, n, a, b: tasks.bad(path, name, a),
    "catch": lambda path, name, n, a, b: tasks.bad(path, name, a).catch(tasks.OddError, b),
    "errors": lambda path, name, n, a, b: tasks.reciprocal.map(
        x=[n % 2, 2], return_exceptions=True
    ),
}


class Outcome(NamedTuple):
    value: str
    error: str
    effects: Counter[str]


async def run(target: Any, pool: Any, all_by: Any, **options: Any) -> Any:
    async with cs.Engine(executor=all_by) as engine:
        # For the tasks that ask for it; one of its own would have to start first.
        engine._lending.elsewhere._executor = pool
        return await engine.run(target, **options)


def outcome(program: Sequence[Node], pool: Any, all_by: Any = None, **options: Any) -> Outcome:
    """Of a run.

    Args:
        program: Its nodes.
        pool: Makes the calls of ``mode="process"``.
        all_by: Makes all others, too; None for threads.
        **options: Those of the run.
    """
    handle, path = tempfile.mkstemp()
    os.close(handle)
    try:
        value, error = "", ""
        try:
            value = repr(asyncio.run(run(built(program, path), pool, all_by, **options)))
        except (CascadeError, tasks.OddError, ExceptionGroup) as failure:
            error = described(failure)
        return Outcome(value.replace(path, "…"), error, Counter(tasks.lines(path)))
    finally:
        os.unlink(path)


def described(error: BaseException) -> str:
    """Type, text and notes; those of the members of a group in any order.

    Which of several paths to a node a note shows depends on the order of calls.
    """
    notes = "; ".join(re.sub(", on the path .*", "", n) for n in getattr(error, "__notes__", ()))
    if isinstance(error, ExceptionGroup):
        return f"{sorted(map(described, error.exceptions))} {notes}"
    return f"{type(error).__name__}: {error} {notes}"


@pytest.fixture(scope="session")
def pool() -> Iterator[cs.ProcessExecutor]:
    with cs.ProcessExecutor(2) as pool:
        yield pool


def _pool(stack: ExitStack) -> cs.FuturesExecutor:
    return cs.FuturesExecutor(stack.enter_context(ProcessPoolExecutor(2, _CONTEXT)))


def _loky(stack: ExitStack) -> cs.FuturesExecutor:
    pool = import_module("loky").ProcessPoolExecutor(2)
    stack.callback(pool.shutdown, kill_workers=True)
    return cs.FuturesExecutor(pool)


def _spawned(stack: ExitStack) -> cs.ProcessExecutor:
    return stack.enter_context(cs.ProcessExecutor(2, start_method="spawn"))


_CONTEXT = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
#: Executors beside the one of ``pool``; slow starters are for the thorough tests.
MADE: dict[str, Callable[[ExitStack], Any]] = {
    "inline": lambda stack: InlineExecutor(),
    "futures": _pool,
    "loky": _loky,
    "spawn": _spawned,
}
#: All values that may stay on a cluster do.
CLUSTERS: dict[str, Any] = {
    "dask": partial(cs.DaskExecutor, keep_above=0),
    "ray": partial(cs.RayExecutor, keep_above=0),
}
OTHERS = [
    pytest.param(one, marks=[pytest.mark.thorough] if one in ("loky", "spawn") else [])
    for one in (*MADE, *CLUSTERS)
]


@pytest.fixture(scope="session", params=OTHERS)
def other(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Another executor."""
    name = request.param
    with ExitStack() as stack:
        if name in MADE:
            yield MADE[name](stack)
        else:
            there = request.getfixturevalue(f"{name}_cluster")  # skips where it is not installed
            yield stack.enter_context(CLUSTERS[name](there))


def pool_of(executor: Any, pool: cs.ProcessExecutor) -> Any:
    """The executor of calls of ``mode="process"``, which that of a thread cannot be."""
    return pool if isinstance(executor, InlineExecutor) else executor


@examples
@given(nodes([kind for kind in MAKERS if kind not in FAILING]))
def test_programs_that_succeed(pool: cs.ProcessExecutor, program: list[Node]) -> None:
    expected = outcome(program, pool)
    for use_vm in (False, True):
        assert outcome(program, pool, pool, use_vm=use_vm) == expected


@examples
@given(nodes(MAKERS))
def test_programs_that_go_on_after_failures(pool: cs.ProcessExecutor, program: list[Node]) -> None:
    expected = outcome(program, pool, fail_fast=False)
    assert outcome(program, pool, pool, fail_fast=False) == expected


@examples
@given(nodes(MAKERS))
def test_programs_that_end_with_their_first_failure(
    pool: cs.ProcessExecutor, program: list[Node]
) -> None:
    """Which of several is the first one is open, and what has begun until then; but not twice."""
    whole = outcome(program, pool, fail_fast=False)
    found = outcome(program, pool, pool)
    assert bool(found.error) == bool(whole.error)
    assert found.effects <= whole.effects
    if not found.error:
        assert found == whole
    else:
        assert found.error.partition(" cascade: in task")[0] in whole.error


@a_tenth
@given(nodes([kind for kind in MAKERS if kind not in FAILING]))
def test_programs_that_succeed_on_others(
    pool: cs.ProcessExecutor, other: Any, program: list[Node]
) -> None:
    expected = outcome(program, pool)
    for use_vm in (False, True):
        assert outcome(program, pool_of(other, pool), other, use_vm=use_vm) == expected


@a_tenth
@given(nodes(MAKERS))
def test_programs_that_go_on_after_failures_on_others(
    pool: cs.ProcessExecutor, other: Any, program: list[Node]
) -> None:
    expected = outcome(program, pool, fail_fast=False)
    assert outcome(program, pool_of(other, pool), other, fail_fast=False) == expected
