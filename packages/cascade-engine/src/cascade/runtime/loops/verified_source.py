"""The source of a function, with a proof that it is the source (M10).

A function's lines are found by its file and line number, which prove nothing: the file may have
been edited since, a decorator may have replaced the function, an import hook may have rewritten it.
So the lines are compiled again, unchanged. They are the source only if the result is the function's
code byte for byte, including its line table.
"""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import itertools
import linecache
import operator
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple, TypeAlias

from cascade.runtime.current import uses_current
from cascade.runtime.loops.ast_walk import children, nodes
from cascade.spec.task import Task

#: ``__name`` in the class ``Class``, as Python writes it in the code of methods.
_PRIVATE = re.compile(r"_[^_]\w*__\w*[^_]_?$")
FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_FUTURES = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
_OUTER = "__cs_outer"
#: Most names in a function that are guessed to be imported, against appearances.
_MOST_GUESSED = 2


class Unfit(Exception):
    """The reason why a function cannot be fused.

    Attributes:
        reason: A clause.
        line: The line in its file; None if it does not concern a line.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


def refuse(task: Task[..., Any]) -> None:
    """Refuse tasks whose steps are more than calls with named arguments, in one context.

    Raises:
        Unfit: The task is such a one.
    """
    refuse_other_calls(task)
    written = _context_variable(task.func)
    if written is not None:
        raise Unfit(f"it sets the context variable '{written}', which its next step must not see")
    if any(name.startswith("__cs_") for name in task.parameters.signature.parameters):
        raise Unfit("it has names that begin with '__cs_', which a loop needs for itself")


def refuse_other_calls(task: Task[..., Any]) -> None:
    """Refuse tasks whose steps are more than calls with named arguments.

    Raises:
        Unfit: The task is such a one.
    """
    parameters = task.parameters
    if type(task) is not Task:
        raise Unfit(f"it is a {type(task).__name__}")
    if parameters.injections:
        raise Unfit("resources are injected into it, for each step anew")
    if task.mode == "blocking":
        raise Unfit("its mode is 'blocking', so each step has a thread")
    if task.mode == "process":
        raise Unfit("its mode is 'process', so its loop runs in a worker process")
    if parameters.var_positional is not None or parameters.var_keyword is not None:
        raise Unfit("it takes * or ** arguments")
    if task.supplied:
        raise Unfit("a default of it is a lazy value")
    if uses_current(task):
        raise Unfit("it uses cs.current(), for which its steps are told apart")


def _context_variable(func: Any) -> str | None:
    """The name of a context variable that a function sets, as far as its own code shows.

    A variable set elsewhere is noticed after the loop's first batch, which is a single step.
    """
    if not isinstance(func, FunctionType) or "set" not in func.__code__.co_names:
        return None
    closed = zip(func.__code__.co_freevars, func.__closure__ or (), strict=True)
    for name in func.__code__.co_names:
        if isinstance(func.__globals__.get(name), ContextVar):
            return name
    for name, cell in closed:
        try:
            if isinstance(cell.cell_contents, ContextVar):
                return name
        except ValueError:  # not bound yet
            continue
    return None


class Source(NamedTuple):
    """The source of a function.

    Attributes:
        node: Its syntax tree, with the line numbers and columns of its file.
        inner: All nodes of its body.
        imported: The names that were imported when it was compiled: see ``compiled``.
    """

    node: FunctionNode
    inner: Sequence[ast.AST]
    imported: tuple[str, ...]


def builtins_of(func: Any) -> dict[str, Any]:
    """The meanings of names in a function that its module does not define."""
    found: dict[str, Any] = func.__builtins__
    return found


def source_of(func: Any) -> Source:
    """The source of a function, proven.

    Raises:
        Unfit: It has no source, or the source does not give its code.

    Cost: some tenths of a millisecond, for reading and compiling it.
    """
    if not isinstance(func, FunctionType):
        raise Unfit(f"it is no function written in Python, but a {type(func).__name__}")
    code = func.__code__
    if code.co_name == "<lambda>":
        raise Unfit("it is a lambda", code.co_firstlineno)
    for node in _parsed(func):
        inner = nodes(*node.body)
        for names in _imports(inner, func):
            if compiled(node, code, imported=names) == code:
                return Source(node, inner, names)
    private = next(filter(_PRIVATE.match, (*code.co_names, *code.co_freevars)), None)
    if private is not None:  # compiled outside of the class, it would have another name
        raise Unfit(f"it uses '{private}', a private name of its class")
    raise Unfit(
        "its lines are not what it was compiled from: the file was changed since, or "
        "something has rewritten the function",
        code.co_firstlineno,
    )


def compiled(
    node: FunctionNode,
    like: CodeType,
    free: Iterable[str] | None = None,
    imported: Iterable[str] = (),
) -> CodeType:
    """The code of ``node``, compiled as ``like`` was.

    Args:
        node: Its decorators count as its first lines, and are not evaluated. Its type parameters
            are variables of a function around it.
        like: Provides the file, the imports from ``__future__``, and whether it is nested.
        free: Names that are variables of enclosing functions; those of ``like`` by default.
        imported: Names that its module has imported.
    """
    body: list[ast.stmt] = [_without_type_parameters(node)]
    if like.co_flags & inspect.CO_NESTED:
        free = like.co_freevars if free is None else free
        names = [ast.copy_location(ast.arg(name), node) for name in free]
        around = ast.arguments([], names, None, [], [], None, [])
        outer = ast.FunctionDef(_OUTER, around, body, [], None, None)
        if sys.version_info >= (3, 12):
            outer.type_params = []
        body = [ast.copy_location(outer, node)]
    for name in imported:
        alias = ast.copy_location(ast.alias(name, None), node)
        body.insert(0, ast.copy_location(ast.Import([alias]), node))
    module = compile(
        ast.Module(body, []),
        like.co_filename,
        "exec",
        flags=like.co_flags & _FUTURES,
        dont_inherit=True,
    )
    return _code_in(module, node.name)


def _imports(inner: Iterable[ast.AST], func: FunctionType) -> Iterator[tuple[str, ...]]:
    """Guesses about which of its names the module has imported, the best one first.

    The compiler treats ``name.attribute()`` differently if ``name`` was imported (according to its
    symbol table), though the effect is the same.
    """
    bases = dict.fromkeys(
        call.func.value.id
        for call in inner
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in func.__globals__
    )
    here = func.__globals__.get("__name__")
    values = {name: func.__globals__[name] for name in bases}
    best = tuple(
        name
        for name, value in values.items()
        if isinstance(value, ModuleType) or getattr(value, "__module__", here) != here
    )
    yield best
    for count in range(min(len(bases), _MOST_GUESSED) + 1):
        yield from (names for names in itertools.combinations(bases, count) if names != best)


def _parsed(func: FunctionType) -> Iterator[FunctionNode]:
    """The syntax trees of lines that may be the source of ``func``, the best guess first.

    Raises:
        Unfit: There are no more.
    """
    code = func.__code__
    lines = linecache.getlines(code.co_filename, func.__globals__)[code.co_firstlineno - 1 :]
    # Statements that the compiler has left out may follow; a search for the end takes much longer.
    named = lines[: _last_line(code) + 1 - code.co_firstlineno]
    node = _function_in(named, code)
    if node is not None:
        yield node
    with suppress(SyntaxError, tokenize.TokenError):
        block = inspect.getblock(lines)
        if node is None or block != named:
            node = _function_in(block, code)
            if node is not None:
                yield node
    if node is None:
        raise Unfit("its source is not at hand", code.co_firstlineno)


def _last_line(code: CodeType) -> int:
    """The last line that belongs to an instruction of a function, or of its inner functions."""
    ends = [end for _, end, _, _ in code.co_positions() if end is not None]
    ends += [_last_line(inner) for inner in code.co_consts if isinstance(inner, CodeType)]
    return max(ends, default=code.co_firstlineno)


def _function_in(block: Sequence[str], code: CodeType) -> FunctionNode | None:
    if not block:
        return None
    indented = block[0][:1].isspace()
    # Columns and continued strings stay unchanged; dedenting would change them.
    above = code.co_firstlineno - 1 - indented
    text = "\n" * above + ("if 1:\n" if indented else "") + "".join(block)
    try:
        tree = ast.parse(text, code.co_filename)  # the file name is for filters of warnings
    except SyntaxError:
        return None
    for node in (*tree.body, *(child for statement in tree.body for child in children(statement))):
        if isinstance(node, FunctionNode) and node.name == code.co_name:
            return node
    return None


def _without_type_parameters(node: FunctionNode) -> FunctionNode:
    if not getattr(node, "type_params", None):
        return node
    fields = {**dict(ast.iter_fields(node)), "type_params": []}
    return ast.copy_location(type(node)(**fields), node)


def _code_in(module: CodeType, name: str) -> CodeType:
    todo = [module]
    while todo:
        for constant in todo.pop().co_consts:
            if isinstance(constant, CodeType):
                if constant.co_name == name:
                    return constant
                if constant.co_name == _OUTER:
                    todo.append(constant)
    raise Unfit("its source does not compile to a function of its name")
