"""Loops by tail calls and their baselines, for programs and tests alike.

Each loop is written four times: as a task, as a bare ``while``, as an ``asyncio`` loop that yields
at each step, and as the trampoline that a programmer without a virtual machine would write. The
task and the trampoline share the task's function, so they make the same TailCall objects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import Any

from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.task import Task, task

# -- countdown: one argument, by position ---------------------------------------------------------


@task
def count_down(left: int) -> int:
    """The smallest possible loop."""
    if left:
        return count_down.tail(left - 1)
    return 0


def count_down_by_while(left: int) -> int:
    """``count_down`` without a framework."""
    while left:
        left = left - 1
    return 0


def count_down_by_counting(left: int) -> int:
    """``count_down_by_while`` that asks before each step whether it may make it."""
    for _ in repeat(None):
        if left:
            left = left - 1
            continue
        return 0
    return left


async def count_down_by_turns(left: int) -> int:
    """``count_down`` with a turn of the event loop at each step."""
    while left:
        left = left - 1
        await asyncio.sleep(0)
    return 0


# -- logistic map: arguments by keyword, one of them kept -----------------------------------------


@task
def iterate(left: int, x: float, r: float = 3.9) -> float:
    """The logistic map: some arithmetic, and an argument that keeps its value."""
    if left:
        return iterate.tail(left=left - 1, x=r * x * (1 - x))
    return x


def iterate_by_while(left: int, x: float, r: float = 3.9) -> float:
    """``iterate`` without a framework."""
    while left:
        left, x = left - 1, r * x * (1 - x)
    return x


async def iterate_by_turns(left: int, x: float, r: float = 3.9) -> float:
    """``iterate`` with a turn of the event loop at each step."""
    while left:
        left, x = left - 1, r * x * (1 - x)
        await asyncio.sleep(0)
    return x


# -- Collatz: two branches that continue, and a condition within the arguments --------------------


@task
def collatz(n: int, start: int, length: int) -> int:
    """The lengths of the Collatz sequences from ``start`` down to 1, in all."""
    if n > 1:
        return collatz.tail(n // 2 if n % 2 == 0 else 3 * n + 1, start, length + 1)
    if start > 1:
        return collatz.tail(start - 1, start - 1, length)
    return length


def collatz_by_while(n: int, start: int, length: int) -> int:
    """``collatz`` without a framework."""
    while True:
        if n > 1:
            n, length = n // 2 if n % 2 == 0 else 3 * n + 1, length + 1
        elif start > 1:
            n = start = start - 1
        else:
            return length


async def collatz_by_turns(n: int, start: int, length: int) -> int:
    """``collatz`` with a turn of the event loop at each step."""
    while True:
        if n > 1:
            n, length = n // 2 if n % 2 == 0 else 3 * n + 1, length + 1
        elif start > 1:
            n = start = start - 1
        else:
            return length
        await asyncio.sleep(0)


@cache
def _collatz_of(steps: int) -> tuple[int, int]:
    """The start from which ``collatz`` makes at least ``steps`` steps, and their exact number."""
    start, made = 1, 0
    while made < steps:
        start += 1
        made += 1 + collatz_by_while(start, 1, 0)
    return start, made


# -- even and odd: two tasks that continue as each other ------------------------------------------


@task
def is_even(n: int) -> bool:
    """Whether ``n`` is even; continues as ``is_odd``."""
    if n:
        return is_odd.tail(n - 1)
    return True


@task
def is_odd(n: int) -> bool:
    """Whether ``n`` is odd; continues as ``is_even``."""
    if n:
        return is_even.tail(n - 1)
    return False


def is_even_by_while(n: int) -> bool:
    """``is_even`` without a framework."""
    even = True
    while n:
        n, even = n - 1, not even
    return even


def is_even_by_counting(n: int) -> bool:
    """``is_even_by_while`` that asks before each step whether it may make it."""
    even = True
    for _ in repeat(None):
        if n:
            n, even = n - 1, not even
            continue
        return even
    return even


async def is_even_by_turns(n: int) -> bool:
    """``is_even`` with a turn of the event loop at each step."""
    even = True
    while n:
        n, even = n - 1, not even
        await asyncio.sleep(0)
    return even


# -- trampolines ----------------------------------------------------------------------------------


def by_position(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Follow tail calls that give all arguments by position."""
    result = function(*arguments.values())
    while type(result) is TailCall:
        result = function(*result.args)
    return result


def by_keyword(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Follow tail calls by keyword; arguments that they do not name keep their values."""
    kwargs = dict(arguments)
    result = function(**kwargs)
    while type(result) is TailCall:
        kwargs.update(result.kwargs)
        result = function(**kwargs)
    return result


def checked_by_position(task: Task[..., Any], arguments: Mapping[str, Any]) -> Any:
    """``by_position`` with all that a loop must know of each step.

    That is: whether it may make the step (``max_steps``, cancels), whether the tail call is one of
    this task (R5), and that no argument is lazy (M2). This is the floor of the generated tier,
    which must know the same: a trampoline without these looks keeps fewer promises. One written
    with ``ATOMS.issuperset(map(type, args))`` takes longer for so few arguments.

    Raises:
        TypeError: A step is for the engine.
    """
    function = task.func
    args: Sequence[Any] = tuple(arguments.values())
    for _ in repeat(None):
        result = function(*args)
        if type(result) is not TailCall:
            return result
        if result.target is not task or result.kwargs or result.target_blueprint_id is not None:
            raise TypeError
        args = result.args
        for value in args:
            if type(value) not in ATOMS:
                raise TypeError
    return None


def checked_by_keyword(task: Task[..., Any], arguments: Mapping[str, Any]) -> Any:
    """``by_keyword`` with the same checks.

    Raises:
        TypeError: A step is for the engine.
    """
    function, kwargs = task.func, dict(arguments)
    for _ in repeat(None):
        result = function(**kwargs)
        if type(result) is not TailCall:
            return result
        if result.target is not task or result.args or result.target_blueprint_id is not None:
            raise TypeError
        for value in result.kwargs.values():
            if type(value) not in ATOMS:
                raise TypeError
        kwargs.update(result.kwargs)
    return None


def by_target(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Follow tail calls by position to the task that they name."""
    result = function(*arguments.values())
    while type(result) is TailCall:
        assert result.target is not None
        result = result.target.func(*result.args)
    return result


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop, in its four notations.

    Attributes:
        name: Its name in tables.
        task: The task.
        arguments: Arguments for all four notations, for about so many steps.
        steps: The exact number of tail calls with these arguments.
        plain: The bare ``while``.
        turns: The asyncio loop.
        trampoline: Takes the task's function and the arguments.
        checked: Takes the task and the arguments; the trampoline with the checks of a loop.
        counted: The bare ``while`` as a ``for`` over the steps that it may make; None if not
            written.
    """

    name: str
    task: Task[..., Any]
    arguments: Callable[[int], dict[str, Any]]
    steps: Callable[[int], int]
    plain: Callable[..., Any]
    turns: Callable[..., Coroutine[Any, Any, Any]]
    trampoline: Callable[[Callable[..., Any], Mapping[str, Any]], Any] = by_position
    checked: Callable[[Task[..., Any], Mapping[str, Any]], Any] = checked_by_position
    counted: Callable[..., Any] | None = None

    def bounce(self, size: int) -> Any:
        """The loop on its trampoline."""
        return self.trampoline(self.task.func, self.arguments(size))

    def bounce_checked(self, size: int) -> Any:
        """``bounce`` with the checks of a loop."""
        return self.checked(self.task, self.arguments(size))


def _collatz_arguments(size: int) -> dict[str, Any]:
    start, _ = _collatz_of(size)
    return {"n": start, "start": start, "length": 0}


COUNTDOWN = Loop(
    "countdown",
    count_down,
    lambda size: {"left": size},
    lambda size: size,
    count_down_by_while,
    count_down_by_turns,
    counted=count_down_by_counting,
)
LOGISTIC = Loop(
    "logistic map",
    iterate,
    lambda size: {"left": size, "x": 0.4},
    lambda size: size,
    iterate_by_while,
    iterate_by_turns,
    by_keyword,
    checked_by_keyword,
)
COLLATZ = Loop(
    "Collatz length",
    collatz,
    _collatz_arguments,
    lambda size: _collatz_of(size)[1],
    collatz_by_while,
    collatz_by_turns,
)
EVEN_ODD = Loop(
    "even and odd",
    is_even,
    lambda size: {"n": size},
    lambda size: size,
    is_even_by_while,
    is_even_by_turns,
    by_target,
    counted=is_even_by_counting,
)
LOOPS = (COUNTDOWN, LOGISTIC, COLLATZ, EVEN_ODD)


# -- recursion on the graph path ------------------------------------------------------------------

#: Nodes of the chain that each step of ``descend_by_chains`` makes.
CHAIN_NODES = 11


@task
def descend(left: int) -> Any:
    """Returns a lazy call of itself, ``left`` times."""
    return descend(left - 1) if left else 0


@task
def same(value: int) -> int:
    """A small task."""
    return value


@task
def descend_by_chains(left: int) -> Any:
    """Returns a call of itself that depends on the end of a chain of small tasks."""
    if not left:
        return 0
    value: Any = left - 1
    for _ in range(CHAIN_NODES):
        value = same(value)
    return descend_by_chains(value)


def descend_by_calls(left: int) -> int:
    """``descend`` by plain calls, one after the other: so many cannot be nested."""

    def once(left: int) -> int:
        return left - 1

    while left:
        left = once(left)
    return left


# -- agents: coroutine functions that await something at each step --------------------------------


@task
async def take_turns(left: int) -> int:
    """An agent that waits for a turn of the event loop at each step."""
    if not left:
        return 0
    await asyncio.sleep(0)
    return take_turns.tail(left - 1)


async def take_turns_by_hand(left: int) -> int:
    """``take_turns`` without a framework."""
    while left:
        await asyncio.sleep(0)
        left = left - 1
    return 0


@task
async def read_inbox(left: int, inbox: asyncio.Queue[int], total: int = 0) -> int:
    """An agent whose next message is always ready; it puts the message back."""
    if not left:
        return total
    message = await inbox.get()
    inbox.put_nowait(message)
    return read_inbox.tail(left=left - 1, total=total + message)


async def read_inbox_by_hand(left: int, inbox: asyncio.Queue[int], total: int = 0) -> int:
    """``read_inbox`` without a framework."""
    while left:
        message = await inbox.get()
        inbox.put_nowait(message)
        left, total = left - 1, total + message
    return total


def inbox_of(message: int) -> asyncio.Queue[int]:
    """A queue with one message, so that an agent that puts it back never waits."""
    inbox: asyncio.Queue[int] = asyncio.Queue()
    inbox.put_nowait(message)
    return inbox


# -- a body of some ten lines, to measure the cost of making its loop -----------------------------


@task
def root_of(value: float, guess: float = 1.0, left: int = 50) -> float:
    """The square root by Newton's method."""
    if value < 0:
        raise ValueError(f"{value} has no root")
    if not left:
        return guess
    better = (guess + value / guess) / 2
    change = abs(better - guess)
    if change < 1e-12 * better:
        return better
    left -= 1
    return root_of.tail(value, better, left)
