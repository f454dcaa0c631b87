"""Expressions of a body that can never give a lazy value, or a container with one inside (M2).

Lazy values among the arguments of a tail call are computed before the next step. A fused loop
therefore checks every argument, unless the check is proven unnecessary. There are two proofs, for
names and for expressions of them. Both start with all names as proven and remove those with an
unproven binding, until nothing changes:

- *never lazy*: a parameter. The loop is entered without lazy arguments and checks new ones. The
  last step's objects are not searched again;
- *atomic*: the value is an atom, such as a number or a text, or a tuple of atoms, like constants
  and arithmetic of such values. For parameters this holds only if the values at the entry are
  atoms: ``needs`` lists the ones to check. A list or dict with a name proves nothing, because
  anything may be put into it; as an argument written in place, it is as safe as its items.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any

from cascade.runtime.loops.ast_walk import children, nodes
from cascade.runtime.loops.verified_source import builtins_of

#: Builtins that return an atom or a range, whose items are atoms.
_SAFE_CALLS = frozenset(
    {"bool", "bytes", "chr", "float", "hash", "id", "int", "isinstance"}
    | {"len", "ord", "range", "repr", "str"}
)
_BUILTINS = {name: getattr(builtins, name) for name in _SAFE_CALLS}
_ATOMS = (ast.Constant, ast.JoinedStr)
#: Syntax that runs no code of others, if all names stand for atoms.
_OPERATORS = (
    *(ast.Return, ast.If, ast.Assign, ast.AugAssign, ast.Pass),
    *(
        ast.Name,
        ast.Constant,
        ast.Tuple,
        ast.BinOp,
        ast.UnaryOp,
        ast.BoolOp,
        ast.Compare,
        ast.IfExp,
    ),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context),
)
_ASKS = (ast.Is, ast.IsNot, ast.In, ast.NotIn)
#: Syntax that may bind names; the rest of a body is passed over.
_BINDING = frozenset(
    {ast.Name, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr, ast.For, ast.alias}
    | {ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping}
    | {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef}
)


class LazinessAnalysis:
    """The proofs about names and expressions of one or several bodies.

    Args:
        bodies: All nodes of the bodies of functions that share their names.
        parameters: The parameters of these functions.
        names: All their variables, including the parameters.
        handed: Parameter → its arguments in the fused tail calls.
        stands: Whether a name that is no variable means Python's own builtin, in all bodies.
    """

    def __init__(
        self,
        bodies: Iterable[Sequence[ast.AST]],
        parameters: Iterable[str],
        names: Iterable[str],
        handed: Mapping[str, Sequence[ast.expr]],
        stands: Callable[[str], bool],
    ) -> None:
        self._stands = stands
        #: Builtins that the proofs depend on: their names must keep their meaning.
        self.builtins: set[str] = set()
        self._parameters = set(parameters)
        self._names = set(names)
        bound = bindings(bodies)
        #: Names that a body binds, including the variables of comprehensions.
        self._bound = bound.keys()
        #: The variables of the functions that a body binds.
        self.rebound = bound.keys() & self._names
        self._from = _sources(bound, handed)
        self._atomic = set(self._names)
        self._settle(self._atomic, bound, handed, self._is_atomic)
        self._never_lazy = set(self._names)
        self._settle(self._never_lazy, bound, {}, self._is_never_lazy)
        #: Parameters that need a builtin type for what was proven.
        self.needs: set[str] = set()

    def proves(self, expression: ast.expr) -> bool:
        """Whether its value is never lazy; adds the conditions to ``needs``."""
        if isinstance(expression, ast.Name) and expression.id in self._never_lazy:
            return True
        if not (self._is_atomic(expression) or self._is_new(expression)):
            return False
        self.needs |= self._parameters & self._origins(expression)
        return True

    def _origins(self, expression: ast.expr) -> set[str]:
        """The names that the type of a value depends on, through others and over several steps."""
        seen: set[str] = set()
        todo = _names_in(expression)
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo |= self._from.get(name, set())
        return seen

    def always(self, expression: ast.expr) -> bool:
        """Whether the value is never lazy, whatever values its names have."""
        if isinstance(expression, ast.Name):
            return expression.id in self._never_lazy
        return isinstance(expression, _ATOMS) or _asks(expression)

    def calls_nothing(self, body: Sequence[ast.stmt], ends: Collection[ast.expr]) -> bool:
        """Whether statements run no code but operators of atoms; adds the conditions to ``needs``.

        Args:
            body: The statements of a body.
            ends: Its tail calls: only their arguments are evaluated.
        """
        found: set[str] = set()
        todo: list[ast.AST] = [*body]
        while todo:
            node = todo.pop()
            if node in ends:
                assert isinstance(node, ast.Call)
                todo += [*node.args, *(keyword.value for keyword in node.keywords)]
            elif not isinstance(node, _OPERATORS):
                return False
            elif isinstance(node, ast.Name):
                found.add(node.id)
            else:
                todo += children(node)
        if not found <= self._atomic:
            return False
        for name in found:
            self.needs |= self._parameters & self._origins(ast.Name(name, ast.Load()))
        return True

    def _settle(
        self,
        proven: set[str],
        bound: Mapping[str, Sequence[ast.expr | None]],
        handed: Mapping[str, Sequence[ast.expr]],
        holds: Any,
    ) -> None:
        changed = True
        while changed:
            refuted = {
                name
                for name in proven
                for value in (*bound.get(name, ()), *handed.get(name, ()))
                if value is None or not holds(value)
            }
            proven -= refuted
            changed = bool(refuted)

    def _is_never_lazy(self, value: ast.expr) -> bool:
        if isinstance(value, ast.Name) and value.id in self._never_lazy:
            return True
        return self.always(value)

    def _is_atomic(self, value: ast.expr) -> bool:
        if isinstance(value, _ATOMS) or _asks(value):
            return True
        if isinstance(value, ast.Name):
            return value.id in self._atomic
        if isinstance(value, ast.Tuple):
            return all(map(self._is_atomic, value.elts))
        if isinstance(value, ast.IfExp):
            return self._is_atomic(value.body) and self._is_atomic(value.orelse)
        if isinstance(value, ast.Call):
            return self._is_safe(value.func)
        operands: Sequence[ast.expr]
        if isinstance(value, ast.BinOp):
            operands = (value.left, value.right)
        elif isinstance(value, ast.UnaryOp):
            operands = (value.operand,)
        elif isinstance(value, ast.BoolOp):
            operands = value.values
        elif isinstance(value, ast.Compare):
            operands = (value.left, *value.comparators)
            if not all(map(_is_told, value.ops, operands, operands[1:])):
                return False
        else:
            return False
        return all(map(self._is_atomic, operands))

    def _is_new(self, value: ast.expr) -> bool:
        """Whether it makes a list, set or dict of atoms, which no other name refers to yet."""
        if isinstance(value, (ast.List, ast.Set)):
            return all(map(self._is_atomic, value.elts))
        if isinstance(value, ast.Dict):
            return all(key is not None and self._is_atomic(key) for key in value.keys) and all(
                map(self._is_atomic, value.values)
            )
        return False

    def _is_safe(self, func: ast.expr) -> bool:
        if not isinstance(func, ast.Name) or func.id not in _SAFE_CALLS:
            return False
        if func.id in self._names or func.id in self._bound or not self._stands(func.id):
            return False
        self.builtins.add(func.id)
        return True


def is_builtin(name: str, func: FunctionType) -> bool:
    """Whether a name that is no variable of ``func`` means Python's own builtin there."""
    if name in func.__globals__ or name in func.__code__.co_freevars:
        return False
    return builtins_of(func).get(name) is _BUILTINS[name]


def bindings(bodies: Iterable[Iterable[ast.AST]]) -> dict[str, list[ast.expr | None]]:
    """Name → expressions that it is bound to; None for a binding without an expression."""
    found: dict[str, list[ast.expr | None]] = {}
    plain: dict[int, ast.expr] = {}
    for body in bodies:
        for node in body:
            if type(node) not in _BINDING:
                continue
            for target, value in _simple_targets(node):
                plain[id(target)] = value
            for name in _bound_by(node):
                found.setdefault(name, []).append(plain.get(id(node)))
    return found


def _simple_targets(node: ast.AST) -> Iterable[tuple[ast.expr, ast.expr]]:
    """Names that get the value of an expression; a later part of the walk handles them."""
    if isinstance(node, ast.Assign):
        return [pair for target in node.targets for pair in _pairs(target, node.value)]
    if isinstance(node, ast.For) and _is_range(node.iter):
        return [(node.target, node.iter)]  # its items have a builtin type as well
    if isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        return [(node.target, node.value)]
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        before = ast.Name(node.target.id, ast.Load())
        return [(node.target, ast.BinOp(before, node.op, node.value))]
    return ()


def _pairs(target: ast.expr, value: ast.expr) -> Iterable[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        starred = any(isinstance(v, ast.Starred) for v in (*target.elts, *value.elts))
        if not starred and len(target.elts) == len(value.elts):
            return zip(target.elts, value.elts, strict=True)
    return [(target, value)]


def _is_range(value: ast.expr) -> bool:
    func = value.func if isinstance(value, ast.Call) else None
    return isinstance(func, ast.Name) and func.id == "range"


def _names_in(value: ast.expr | None) -> set[str]:
    return {n.id for n in nodes(value) if isinstance(n, ast.Name)} if value else set()


def _sources(*bound: Mapping[str, Sequence[ast.expr | None]]) -> dict[str, set[str]]:
    """Name → the names in the expressions that it is bound to."""
    found: dict[str, set[str]] = {}
    for one in bound:
        for name, values in one.items():
            found.setdefault(name, set()).update(*map(_names_in, values))
    return found


def _bound_by(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return (node.id,)
    if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        return (node.name,)
    if isinstance(node, ast.MatchMapping) and node.rest:
        return (node.rest,)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return (node.name,)
    if isinstance(node, ast.alias):
        return ((node.asname or node.name).partition(".")[0],)
    return ()


def _is_told(operator: ast.cmpop, left: ast.expr, right: ast.expr) -> bool:
    """Whether a comparison of builtin values gives a bool; for lists this depends on the items."""
    if isinstance(operator, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)):
        return isinstance(left, ast.Constant) or isinstance(right, ast.Constant)
    return True


def _asks(value: ast.expr) -> bool:
    """Whether it is a test whose result is always a bool."""
    if isinstance(value, ast.UnaryOp):
        return isinstance(value.op, ast.Not)
    return isinstance(value, ast.Compare) and all(isinstance(op, _ASKS) for op in value.ops)
