"""Fused loops: a task's tail calls become assignments, and its calls one loop.

The function defines the meaning of a body, and the loop must have the same meaning, step for step::

    def f(n, acc):                       def f(steps, state, n, acc):
        if not n:                            for _ in steps:
            return acc                           if not n:
        acc += n                                     return acc, 0, n, acc
        return f.tail(n - 1)                     saved = acc
                                                 acc += n
                                                 n, acc = n - 1, saved
                                                 continue
                                                 return None, 0, n, saved
                                             return PAUSED, 0, n, acc

- *Arguments not named keep their last value*: a parameter that the body changes is saved first.
- *Locals do not survive a step*: all of them are unbound at the head of each step.
- *Lazy arguments are computed first* (M2): an argument that is not proven plain is checked. If it
  is lazy, the tail call is made after all, for the node of the loop.
- *All other results of a step* go to the node, with the arguments of that step: an exit returns
  them with the value.
- *Mutual recursion*: tasks that continue as each other share one loop. A state tells whose body is
  next, and the tasks share variables, because only one of them is active.
- *Tracebacks are true*: lines, columns and file are the function's own. If several tasks share a
  loop, frames have the names of all.
- *The event loop has its turn* when ``steps`` is used up. Coroutine functions also check at each
  step whether they have swallowed a cancel.

All other functions are refused, with the reason and its line (``Unfit``): see
``tail_call_analysis`` and ``verified_source``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from types import CodeType, FunctionType
from typing import Any, Literal

from cascade.runtime.loops.fused_codegen import STATE, LoopWriter
from cascade.runtime.loops.laziness_analysis import is_builtin
from cascade.runtime.loops.protocol import LAZY
from cascade.runtime.loops.recursion_groups import members_of
from cascade.runtime.loops.scopes import own_names, scoped
from cascade.runtime.loops.tail_call_analysis import Body, looks_up
from cascade.runtime.loops.unrolled import Unrolled, unrolled
from cascade.runtime.loops.verified_source import Unfit, compiled
from cascade.spec.containers import ATOMS
from cascade.spec.task import Task

#: Fewest steps of a batch for an unrolled loop: such steps take less than a microsecond.
LONG = 1 << 12
#: Fewest steps of a batch for which one is made: it costs as much as some 500,000 steps gain.
VERY_LONG = 1 << 15


class Fused:
    """The loop of a task, or of several that continue as each other.

    Attributes:
        tasks: By state.
        parameters: Of all of them; the order in which values are handed over.
    """

    def __init__(self, bodies: Sequence[Body]) -> None:
        self.tasks = tuple(body.task for body in bodies)
        self.is_async = self.tasks[0].is_async
        self.parameters = tuple(dict.fromkeys(p for body in bodies for p in body.parameters))
        self._bodies = tuple(bodies)
        guards = [
            (body.func, path, value) for body in bodies for path, value in body.looked_up.items()
        ]
        #: The names that it relies on. Each entry looks them up: plain globals in their dict, which
        #: is most of the time that an entry takes otherwise.
        self._globals = [(f.__globals__, p[0], v) for f, p, v in guards if _is_global(f, p)]
        self._guards = [(f, p, v) for f, p, v in guards if not _is_global(f, p)]
        writer = LoopWriter(bodies, self.parameters, careful=False)
        self._trusting = self._function(writer)
        self._needs = tuple(sorted(map(self.parameters.index, writer.needs)))
        self._builtins = tuple(sorted(writer.builtins))
        self._careful: Callable[..., Any] | None = None
        self._unrolled: Unrolled | Literal[False] | None = None

    def state_of(self, task: Task[..., Any]) -> int:
        return self.tasks.index(task)

    def values(self, _task: Task[..., Any], named: Mapping[str, Any]) -> list[Any]:
        """The arguments of a task, in the loop's order."""
        return [named.get(name) for name in self.parameters]

    def named(self, state: int, values: Sequence[Any]) -> dict[str, Any]:
        """The arguments of the task of ``state``, by name, if the loop has them."""
        own = self.tasks[state].parameters.signature.parameters
        return {n: v for n, v in zip(self.parameters, values, strict=True) if n in own}

    def loop_for(self, values: Sequence[Any]) -> Callable[..., Any] | None:
        """The function to enter with ``values``, those of ``parameters``; None if there is none.

        It takes an iterator of the steps to make; the state; if it is a coroutine function, the
        count of ``cancelling`` of its asyncio task, and what else ``protocol`` lists; then the
        values. It returns the value of a step, or PAUSED; the state, and the values of that step.
        """
        for names, name, value in self._globals:
            if names.get(name) is not value:
                return None  # the name now means something else
        for func, path, value in self._guards:
            if looks_up(func, path) is not value:
                return None
        is_plain = ATOMS.issuperset(map(type, values))
        if not is_plain:
            if any(type(v) not in ATOMS and issubclass(type(v), LAZY) for v in values):
                return None
            is_plain = all(_is_atomic(values[place]) for place in self._needs)
        if is_plain and (not self._builtins or self._has_builtins()):
            return self._trusting
        if self._careful is None:
            writer = LoopWriter(self._bodies, self.parameters, careful=True)
            self._careful = self._function(writer)
        return self._careful

    def unrolled_for(self, values: Sequence[Any], most: int) -> Unrolled | None:
        """The loop for a batch of ``most`` steps that is entered with ``values``, or None.

        It may be entered where ``loop_for`` gives a function.

        Cost: a few milliseconds, once per task, when a batch has proven long.
        """
        if most < LONG or not ATOMS.issuperset(map(type, values)):
            return None
        if self._unrolled is None and most >= VERY_LONG:
            self._unrolled = unrolled(self._bodies, self.parameters, self._function) or False
        return self._unrolled or None

    def _has_builtins(self) -> bool:
        """Whether the names of builtins that it calls still mean these."""
        return all(is_builtin(name, body.func) for name in self._builtins for body in self._bodies)

    def state_at(self, error: BaseException, entered: int) -> int:
        """The state whose body raised ``error``, in a loop entered in the state ``entered``."""
        codes = (self._trusting.__code__, getattr(self._careful, "__code__", None))
        unrolled = self._unrolled or None
        trace = error.__traceback__
        while trace is not None:  # the first: an error may have an older traceback
            if trace.tb_frame.f_code in codes:
                return trace.tb_frame.f_locals.get(STATE, entered) or 0
            if unrolled is not None and trace.tb_frame.f_code is unrolled.loop.__code__:
                return unrolled.failed_at(error, entered)[1]
            trace = trace.tb_next
        return entered

    def _function(self, writer: LoopWriter) -> FunctionType:
        """The function of a loop, compiled."""
        first = self._bodies[0].func
        cells = {
            name: cell
            for body in self._bodies
            for name, cell in zip(
                body.func.__code__.co_freevars, body.func.__closure__ or (), strict=True
            )
        }
        node = writer.function()
        imported = dict.fromkeys(name for body in self._bodies for name in body.imported)
        code = compiled(node, first.__code__, cells, imported)
        inner = chain.from_iterable(body.inner for body in self._bodies)
        self._check_names(code, scoped(node, inner, code, first.__code__, cells))
        qualname = "/".join(body.func.__code__.co_qualname for body in self._bodies)
        loop = FunctionType(
            code.replace(co_qualname=qualname, co_consts=self._constants(code)),
            first.__globals__,
            node.name,
            None,
            tuple(cells[name] for name in code.co_freevars),
        )
        loop.__kwdefaults__ = writer.tools
        return loop

    def _check_names(self, code: CodeType, exact: CodeType) -> None:
        """Refuse a loop in which a name is another variable than in its task.

        Args:
            code: The loop.
            exact: The same, with comprehensions as functions. If a comprehension has a variable
                of a name that only inner functions close over, CPython 3.12 makes that a cell of
                the enclosing function itself.
        """
        own = {name for name in own_names(exact) if not name.startswith("__cs_")}
        if (
            own != {name for body in self._bodies for name in body.names}
            or not own.isdisjoint(code.co_cellvars)
            or set(code.co_freevars) != set(exact.co_freevars)
        ):
            raise Unfit("a name in it would be another variable in the loop")

    def _constants(self, code: CodeType) -> tuple[Any, ...]:
        """The constants of ``code``, with the tasks' own inner functions, for their full names.

        Raises:
            Unfit: An inner function differs from the task's own, so that a name in it means
                something else in the loop.
        """
        inner = {
            constant: constant
            for body in self._bodies
            for constant in body.func.__code__.co_consts
            if isinstance(constant, CodeType)
        }
        constants = []
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                if constant not in inner:
                    raise Unfit(
                        f"'{constant.co_name}' within it would be another function in the loop",
                        constant.co_firstlineno,
                    )
                constant = inner[constant]
            constants.append(constant)
        return tuple(constants)


def _is_global(func: FunctionType, path: tuple[str, ...]) -> bool:
    name = path[0]
    closed = func.__code__.co_freevars
    return len(path) == 1 and name not in closed and func.__globals__.get(name) is not None


def _is_atomic(value: Any) -> bool:
    """Whether it is an atom, or a tuple of these."""
    kind = type(value)
    return kind in ATOMS or (kind is tuple and ATOMS.issuperset(map(type, value)))


def fuse(task: Task[..., Any]) -> Fused | Unfit:
    """The loop of ``task``, or the reason why there is none; determined once per task."""
    found: Fused | Unfit | None = task.derived.get("fused")
    if found is None:
        try:
            found = Fused(members_of(task))
        except Unfit as refusal:
            # Kept for long, so without the frames of its first caller.
            found = Unfit(refusal.reason, refusal.line)
        except (SyntaxError, RecursionError) as error:  # at most twenty blocks may be nested
            found = Unfit(f"its loop cannot be compiled: {error}")
        task.derived["fused"] = found
    return found


def is_traced() -> bool:
    """Whether a debugger or coverage traces lines, which must be the functions' own."""
    if sys.gettrace() is not None:
        return True
    if sys.version_info < (3, 12):
        return False
    tools = (sys.monitoring.DEBUGGER_ID, sys.monitoring.COVERAGE_ID)
    return any(sys.monitoring.get_tool(tool) is not None for tool in tools)
