"""Unrolled loops: several steps of a fused loop for each turn of its ``for``.

A step that only computes, with numbers, texts and other atoms, costs little more than the ``for``
around it. Where such a step ends in a tail call, the next one is written in its place::

    def f(steps, state, n):
        for _ in steps:
            if n:
                n = n - 1
                if n:
                    n = n - 1
                    continue
                return "done", 0, n
            return "done", 1, n          # the second step was not made
        return PAUSED, 0, n

Tasks that continue as each other follow each other there, without a test of which one is next.

Only steps that call nothing are unrolled. Such a step cannot wait, set a context variable, bind a
name or cancel its run, so that nothing can happen within a turn that a step of it must notice (M9).
The number of steps stays exact: the loop returns how many of its last turn were not made, in one
number with the state, and for an error the place of the instruction tells it.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any

from cascade.runtime.loops.ast_walk import children
from cascade.runtime.loops.fused_codegen import STATE, LoopWriter
from cascade.runtime.loops.tail_call_analysis import Body

#: Most steps of a turn. With more, the ``for`` costs too little of a step to matter.
_MOST_STEPS = 4
#: Most nodes of the syntax tree of all steps: each tail call of a step has a next step of its own.
_MOST_NODES = 300


class Unrolled:
    """An unrolled loop of fused tasks.

    Attributes:
        loop: The function to enter, with atoms only. It takes what other loops take; ``state`` in
            its result is that of ``place_of``.
        steps: Number of steps for each item of its iterator.
    """

    def __init__(self, loop: FunctionType, steps: int, tasks: int, places: Sequence[int]) -> None:
        self.loop = loop
        self.steps = steps
        self._tasks = tasks
        #: By instruction; see ``_Writer``.
        self._places = places

    def place_of(self, place: int) -> tuple[int, int]:
        """The steps of the last turn that were not made, and the state."""
        return divmod(place, self._tasks)

    def failed_at(self, error: BaseException, entered: int) -> tuple[int, int]:
        """The same for an error that was raised in the loop, entered in the state ``entered``."""
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code is self.loop.__code__:
                place = self._places[trace.tb_lasti // 2]
                if place >= 0:
                    return self.place_of(place)
                return 0, trace.tb_frame.f_locals.get(STATE, entered) or 0  # between two turns
            trace = trace.tb_next
        return 0, entered


def unrolled(
    bodies: Sequence[Body],
    parameters: Sequence[str],
    function_of: Callable[[LoopWriter], FunctionType],
) -> Unrolled | None:
    """The unrolled loop of bodies; None if their steps may call something, or are too long.

    Args:
        bodies: By state.
        parameters: The parameters of all bodies.
        function_of: Compiles the loop of a writer.
    """
    first = _Writer(bodies, parameters, 1)
    if not first.only_computes():
        return None
    steps = _MOST_STEPS
    while _size(bodies, steps) > _MOST_NODES:
        steps -= 1
    if steps < 2:
        return None
    loop = function_of(_Writer(bodies, parameters, steps))
    marked = function_of(_Writer(bodies, parameters, steps, marks=True)).__code__
    if marked.co_code != loop.__code__.co_code:
        return None
    places = [-1 if at is None else at for _, _, at, _ in marked.co_positions()]
    return Unrolled(loop, steps, len(bodies), places)


def _size(bodies: Sequence[Body], steps: int) -> int:
    """The number of nodes of the bodies, with so many steps of each turn."""
    own = {body.task: len(body.inner) for body in bodies}
    sizes = dict.fromkeys(own, 0)
    for _ in range(steps):
        sizes = {
            body.task: own[body.task] + sum(sizes.get(t.target, 0) for t in body.tails.values())
            for body in bodies
        }
    return sum(sizes.values())


class _Writer(LoopWriter):
    """Writes an unrolled loop.

    Args:
        bodies: By state.
        parameters: The parameters of all bodies.
        steps: Number of steps of a turn.
        marks: Whether to write, in place of the column of each instruction, its place: the steps
            of the turn that come after its own, times the number of bodies, plus its state. The
            compiler makes the same instructions, so that these are the places of the true loop's.
    """

    def __init__(
        self, bodies: Sequence[Body], parameters: Sequence[str], steps: int, marks: bool = False
    ) -> None:
        super().__init__(bodies, parameters, careful=False)
        self._steps = steps
        self._marks = marks
        #: Number of the present step in its turn.
        self._depth = 0
        #: The state at the beginning of the turn.
        self._head = 0
        #: The statements that have marks.
        self._marked: dict[int, ast.stmt] = {}

    def only_computes(self) -> bool:
        """Whether no step of the loop calls anything."""
        return not self._bodies[0].task.is_async and all(map(self._calls_nothing, self._bodies))

    def _body(self, state: int) -> list[ast.stmt]:
        before, self._state = self._state, state
        self._head = self._head if self._depth else state
        self._depth += 1
        written: list[ast.stmt] = [self._placed(one) for one in super()._body(state)]
        self._depth -= 1
        if self._marks:
            written = copy.deepcopy(written, dict(self._marked))  # the steps share their nodes
            self._mark(written, (self._steps - self._depth - 1) * len(self._bodies) + state)
        self._state = before
        return written

    def _mark(self, written: Sequence[ast.stmt], place: int) -> None:
        todo: list[ast.AST] = [*written]
        while todo:
            node: Any = todo.pop()
            if id(node) not in self._marked:
                todo.extend(children(node))
                if node._attributes:
                    node.col_offset = node.end_col_offset = place
        self._marked |= {id(statement): statement for statement in written}

    def _next_step(self, state: int) -> Iterator[ast.stmt]:
        if self._depth < self._steps:
            yield from self._body(state)
            return
        if state != self._head:
            yield self._in_state(state)
        yield ast.Continue()

    def _place(self, state: int) -> int:
        left = self._steps - self._depth if self._depth else 0
        return left * len(self._bodies) + state
