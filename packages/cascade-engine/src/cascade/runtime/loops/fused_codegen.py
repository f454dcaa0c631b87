"""Code of fused loops: syntax trees, made of the bodies of their tasks."""

from __future__ import annotations

import ast
import builtins
import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cascade.runtime.execution.contexts import differs
from cascade.runtime.loops.ast_walk import children
from cascade.runtime.loops.laziness_analysis import LazinessAnalysis, is_builtin
from cascade.runtime.loops.protocol import PAUSED, is_lazy
from cascade.runtime.loops.tail_call_analysis import Body, Tail
from cascade.runtime.loops.verified_source import FunctionNode
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.task import Task

# The loop's own names end with underscores, so that they are no private names of a class: CPython
# 3.12 regards everything after a generic class as part of it.
STEPS, STATE, _TASK, _BEFORE = (
    "__cs_steps__",
    "__cs_state__",
    "__cs_task__",
    "__cs_before__",
)
_CONTEXT, _VARIABLES, _HELD = "__cs_context__", "__cs_variables__", "__cs_held__"


class LoopWriter:
    """Writes the loop of one group of bodies.

    Args:
        bodies: By state.
        parameters: The parameters of all bodies.
        careful: Whether to check all arguments that are not proven plain for every type.

    Attributes:
        needs: The parameters whose values must have builtin types at the entry.
        builtins: Names that must mean Python's own builtins.
        tools: Objects that the code uses without a name for them.
    """

    def __init__(self, bodies: Sequence[Body], parameters: Sequence[str], careful: bool) -> None:
        self._bodies = bodies
        self._parameters = parameters
        self._names = tuple(dict.fromkeys((*parameters, *(n for b in bodies for n in b.names))))
        self._states = {body.task: state for state, body in enumerate(bodies)}
        self._careful = careful
        self._laziness = LazinessAnalysis(
            [body.inner for body in bodies],
            parameters,
            self._names,
            self._handed(),
            lambda name: all(is_builtin(name, body.func) for body in bodies),
        )
        self.needs = self._laziness.needs
        self.builtins = self._laziness.builtins
        self.tools: dict[str, Any] = {}
        #: By name: ``global`` and ``nonlocal``, which must come before their variables' uses.
        self._declared: dict[str, ast.stmt] = {}
        self._state = 0
        self._first = bodies[0].node
        self._checked = [body.task.is_async and not self._calls_nothing(body) for body in bodies]

    def _calls_nothing(self, body: Body) -> bool:
        """Whether a step of ``body`` makes no call: nothing can change before the next one (M9).

        The loop of a ``careful`` writer takes values of any type, whose operators may be methods.
        """
        statements = _without_docstring(body.node.body)
        return not self._careful and self._laziness.calls_nothing(statements, body.tails)

    def _handed(self) -> dict[str, list[ast.expr]]:
        """Parameter → the expressions that tail calls give it, including defaults."""
        handed: dict[str, list[ast.expr]] = {}
        for body in self._bodies:
            for tail in body.tails.values():
                if tail.target not in self._states:
                    continue
                for name, value in tail.given:
                    handed.setdefault(name, []).append(value)
                for name, default in tail.target.parameters.defaults.items():
                    kind = ast.Constant(default) if type(default) in ATOMS else _name("?")
                    handed.setdefault(name, []).append(kind)
        return handed

    def function(self) -> FunctionNode:
        """The syntax tree of the loop."""
        leading = [STEPS, STATE]
        if self._bodies[0].task.is_async:
            leading += [_BEFORE, _TASK, _CONTEXT, _VARIABLES, _HELD]
        names = [ast.arg(name) for name in (*leading, *self._parameters)]
        step = ast.For(ast.Name("__cs_step__", ast.Store()), _name(STEPS), self._step(), [])
        written: list[ast.stmt] = [*self._declared.values(), step, self._pause()]
        if len(self._bodies) > 1:  # see ``_is_in``
            known = ast.BoolOp(ast.Or(), [_name(STATE), ast.Constant(None)])
            written.insert(0, _assign([STATE], [known]))
        tools = [ast.arg(name) for name in self.tools]
        arguments = ast.arguments([], names, None, tools, [None] * len(tools), None, [])
        made = type(self._first)(
            "/".join(body.node.name for body in self._bodies),
            arguments,
            written,
            list(self._first.decorator_list),  # they are the first lines of the function's code
            None,
            None,
        )
        made.name = made.name if len(self._bodies) > 1 else self._first.name
        if sys.version_info >= (3, 12):
            made.type_params = []
        placed: FunctionNode = self._placed(made)
        return placed

    def _step(self) -> list[ast.stmt]:
        if len(self._bodies) == 1:
            return self._body(0)
        last = len(self._bodies) - 1
        written = self._body(last)
        for state in reversed(range(last)):
            written = [ast.If(_is_in(state), self._body(state), written)]
        return written

    def _body(self, state: int) -> list[ast.stmt]:
        self._state = state
        body = self._bodies[state]
        written: list[ast.stmt] = []
        unbound = [name for name in self._names if name not in body.parameters]
        if unbound:  # bind them first, because only a bound name can be deleted
            targets: list[ast.expr] = [ast.Name(name, ast.Store()) for name in unbound]
            written.append(ast.Assign(targets, ast.Constant(None)))
            written.append(ast.Delete([ast.Name(name, ast.Del()) for name in unbound]))
        for name in self._changed(body):
            written.append(_assign([_saved(name)], [_name(name)]))
        written += self._statements(_without_docstring(body.node.body))
        written.append(self._exit(ast.Constant(None)))
        return written

    def _changed(self, body: Body) -> list[str]:
        return [name for name in body.parameters if name in self._laziness.rebound]

    # -- statements ---------------------------------------------------------------------------

    def _statements(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        return [written for statement in body for written in self._statement(statement)]

    def _statement(self, statement: ast.stmt) -> list[ast.stmt]:
        if isinstance(statement, ast.Return):
            value = statement.value
            return self._return(statement, ast.Constant(None) if value is None else value)
        if isinstance(statement, (ast.Global, ast.Nonlocal)):
            declared = type(statement)
            self._declared |= {name: declared([name]) for name in statement.names}
            return [ast.copy_location(ast.Pass(), statement)]
        parts: dict[str, Any] = {}
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return [statement]
        for name in ("body", "orelse", "finalbody"):
            if getattr(statement, name, None):
                parts[name] = self._statements(getattr(statement, name))
        for name in ("handlers", "cases"):
            if getattr(statement, name, None):
                parts[name] = [
                    _changed(inner, body=self._statements(inner.body))
                    for inner in getattr(statement, name)
                ]
        return [_changed(statement, **parts)] if parts else [statement]

    def _return(self, at: ast.stmt, value: ast.expr) -> list[ast.stmt]:
        tails = self._bodies[self._state].tails
        if isinstance(value, ast.IfExp) and self._has_tail(value):
            written = ast.If(
                value.test, self._return(at, value.body), self._return(at, value.orelse)
            )
            return [ast.copy_location(written, value)]
        tail = tails.get(value)
        if tail is None or tail.target not in self._states:
            return [self._placed(self._exit(value), at)]
        continued = [self._placed(written, value) for written in self._tail(tail)]
        if not self._checked[self._state]:
            return continued  # names are checked when the loop is entered, which is often enough
        leaves = self._placed(self._exit(copy.deepcopy(value)), at)
        return [self._placed(ast.If(self._rebound(tail), [leaves], []), value), *continued]

    def _has_tail(self, value: ast.expr) -> bool:
        if isinstance(value, ast.IfExp):
            return self._has_tail(value.body) or self._has_tail(value.orelse)
        tail = self._bodies[self._state].tails.get(value)
        return tail is not None and tail.target in self._states

    # -- ends of steps ------------------------------------------------------------------------

    def _tail(self, tail: Tail) -> Iterator[ast.stmt]:
        """Assign the parameters all at once, and continue."""
        body = self._bodies[self._state]
        state = self._states[tail.target]
        values = dict(tail.given)
        suspects = [name for name, value in tail.given if not self._is_plain(value)]
        arguments = {name: f"__cs_new_{name}__" for name in values}
        if suspects:
            # All are evaluated before any is checked, in the order of the source.
            yield _assign(list(arguments.values()), list(values.values()))
            values = {name: _name(argument) for name, argument in arguments.items()}
            given = dict(tail.given)
            asked = [self._is_lazy(values[name], given[name]) for name in suspects]
            yield ast.If(
                asked[0] if len(asked) == 1 else ast.BoolOp(ast.Or(), asked),
                [self._exit(self._made(tail, values))],
                [],
            )
        moved = self._moved(body, tail.target, values)
        if moved:
            yield _assign(list(moved), list(moved.values()))
        over = [*arguments.values()] if suspects else []
        if state != self._state:
            over += map(_saved, self._changed(body))  # the other task's steps must not keep them
        if over:
            yield ast.Delete([ast.Name(name, ast.Del()) for name in over])
        if self._checked[self._state]:
            yield ast.If(self._is_to_pause(), [self._pause(self._bodies[state])], [])
        yield from self._next_step(state)

    def _next_step(self, state: int) -> Iterator[ast.stmt]:
        """Go on in ``state``."""
        if state != self._state:
            yield self._in_state(state)
        yield ast.Continue()

    def _in_state(self, state: int) -> ast.stmt:
        return _assign([STATE], [ast.Constant(state or None)])

    def _place(self, state: int) -> int:
        """What the loop returns for its state."""
        return state

    def _is_lazy(self, value: ast.expr, written: ast.expr) -> ast.expr:
        """An expression: whether an argument that the step did not have is left to the node."""
        ask = ast.Call(self._tool("is_lazy", is_lazy), [value], [])
        if isinstance(written, (ast.Tuple, ast.List)):  # a new one: its items are tested in place
            kinds = ast.Call(self._tool("map", map), [self._tool("type", type), value], [])
            plain = ast.Call(self._tool("are_atoms", ATOMS.issuperset), [kinds], [])
            return ast.BoolOp(ast.And(), [ast.UnaryOp(ast.Not(), plain), ask])
        body = self._bodies[self._state]
        changed = self._changed(body)
        last = [_name(_saved(n) if n in changed else n) for n in body.parameters]
        kind = ast.Call(self._tool("type", type), [value], [])
        return ast.BoolOp(
            ast.And(),
            [
                ast.Compare(kind, [ast.NotIn()], [self._tool("atoms", ATOMS)]),
                *[ast.Compare(value, [ast.IsNot()], [known]) for known in last],
                ask,
            ],
        )

    def _is_to_pause(self) -> ast.expr:
        """An expression: whether a step has swallowed a cancel, or set a context variable."""
        length = ast.Call(self._tool("len", len), [_name(_CONTEXT)], [])
        cancelling = ast.Attribute(_name(_TASK), "cancelling", ast.Load())
        arguments: list[ast.expr] = [_name(_CONTEXT), _name(_HELD)]
        other = ast.Call(self._tool("differs", differs), arguments, [])
        return ast.BoolOp(
            ast.Or(),
            [
                ast.Compare(ast.Call(cancelling, [], []), [ast.NotEq()], [_name(_BEFORE)]),
                ast.Compare(length, [ast.NotEq()], [_name(_VARIABLES)]),
                ast.BoolOp(ast.And(), [_name(_HELD), other]),
            ],
        )

    def _rebound(self, tail: Tail) -> ast.expr:
        """An expression: whether a name in a tail call has got another meaning."""
        tests: list[ast.expr] = []
        for path, value in tail.names.items():
            for length in range(1, len(path) + 1):
                known = value[length - 1]
                place = f"named{len(self.tools)}"
                name: ast.expr = _name(path[0])
                for part in path[1:length]:
                    name = ast.Attribute(name, part, ast.Load())
                tests.append(ast.Compare(name, [ast.IsNot()], [self._tool(place, known)]))
        for builtin in sorted(self.builtins):  # the proofs depend on these
            known = self._tool(builtin, getattr(builtins, builtin))
            tests.append(ast.Compare(_name(builtin), [ast.IsNot()], [known]))
        return tests[0] if len(tests) == 1 else ast.BoolOp(ast.Or(), tests)

    def _moved(
        self, body: Body, target: Task[..., Any], given: Mapping[str, ast.expr]
    ) -> dict[str, ast.expr]:
        """The assignments for a tail call of ``body``: given arguments, and those left out."""
        changed = self._changed(body)
        if target is body.task:
            values = {**given, **{n: _name(_saved(n)) for n in changed if n not in given}}
        else:
            values = {**given, **self._defaults(target, given)}
        bound = set(body.parameters).difference(changed)  # in every path through the body
        return {
            name: value
            for name, value in values.items()
            if not (isinstance(value, ast.Name) and value.id == name and name in bound)
        }

    def _is_plain(self, value: ast.expr) -> bool:
        return self._laziness.always(value) if self._careful else self._laziness.proves(value)

    def _defaults(
        self, target: Task[..., Any], given: Mapping[str, ast.expr]
    ) -> dict[str, ast.expr]:
        """A switch to another task starts from its defaults (M1)."""
        values: dict[str, ast.expr] = {}
        for name, default in target.parameters.defaults.items():
            if name in given:
                continue
            if default is None or isinstance(default, bool):
                values[name] = ast.Constant(default)
            else:  # the same object, where a constant might be an equal one
                values[name] = self._tool(f"default{len(self.tools)}", default)
        return values

    def _made(self, tail: Tail, values: Mapping[str, ast.expr]) -> ast.expr:
        """The TailCall itself, made after all."""
        target = self._tool(f"task{self._states[tail.target]}", tail.target)
        named = ast.Dict([ast.Constant(name) for name in values], list(values.values()))
        return ast.Call(self._tool("tail_call", _tail_call), [named, target], [])

    def _exit(self, value: ast.expr) -> ast.stmt:
        """Return ``value`` and the arguments of this step."""
        body = self._bodies[self._state]
        changed = self._changed(body)
        return self._returning(
            value, self._state, body, lambda name: _saved(name) if name in changed else name
        )

    def _pause(self, body: Body | None = None) -> ast.stmt:
        """Return the arguments of the next step, which runs ``body``, or any."""
        if body is not None:
            paused = self._tool("paused", PAUSED)
            return self._returning(paused, self._states[body.task], body, lambda name: name)
        written: ast.stmt = self._pause(self._bodies[-1])
        for state in reversed(range(len(self._bodies) - 1)):
            written = ast.If(_is_in(state), [self._pause(self._bodies[state])], [written])
        return written

    def _returning(
        self, value: ast.expr, state: int, body: Body, named: Callable[[str], str]
    ) -> ast.stmt:
        values: list[ast.expr] = [
            _name(named(name)) if name in body.parameters else ast.Constant(None)
            for name in self._parameters
        ]
        place = ast.Constant(self._place(state))
        return ast.Return(ast.Tuple([value, place, *values], ast.Load()))

    def _tool(self, name: str, value: Any) -> ast.expr:
        """A name for an object that the body has no name for."""
        name = f"__cs_{name}__"
        self.tools[name] = value
        return _name(name)

    def _placed(self, node: Any, like: ast.AST | None = None) -> Any:
        """Give new nodes the position of ``like``; those from the source have their own."""
        like = self._first if like is None else like
        place = {name: getattr(like, name) for name in like._attributes}
        todo = [node]
        while todo:
            inner = todo.pop()
            own = inner.__dict__
            if "lineno" in own:
                continue
            todo.extend(children(inner))
            if inner._attributes:
                own.update(place)
        return node


def _tail_call(named: dict[str, Any], target: Task[..., Any]) -> TailCall:
    parameters = target.parameters
    unnamed = [n for n in parameters.positional if n in named and n not in parameters.keyword]
    return TailCall([named.pop(name) for name in unnamed], named, None, target)


def _is_in(state: int) -> ast.expr:
    """An expression: whether the loop is in a state; it has None for the first one."""
    if state:
        return ast.Compare(_name(STATE), [ast.Eq()], [ast.Constant(state)])
    return ast.Compare(_name(STATE), [ast.Is()], [ast.Constant(None)])  # the fastest test


def _saved(name: str) -> str:
    return f"__cs_was_{name}__"


def _name(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _assign(names: Sequence[str], values: Sequence[ast.expr]) -> ast.stmt:
    """``a, b = x, y``: all values are evaluated first."""
    targets: list[ast.expr] = [ast.Name(name, ast.Store()) for name in names]
    if len(names) == 1:
        return ast.Assign(targets, values[0])
    return ast.Assign([ast.Tuple(targets, ast.Store())], ast.Tuple(list(values), ast.Load()))


def _changed(node: Any, **parts: Any) -> Any:
    """A copy of ``node`` with some fields replaced."""
    fields = {name: getattr(node, name) for name in node._fields if hasattr(node, name)}
    return ast.copy_location(type(node)(**{**fields, **parts}), node)


def _without_docstring(body: Sequence[ast.stmt]) -> Sequence[ast.stmt]:
    first = body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] if is_text else body
