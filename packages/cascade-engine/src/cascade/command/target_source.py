"""The targets of a module and the options of a target, from its source."""

from __future__ import annotations

import ast
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Final

from cascade.spec.typing.stubs import task_functions

Function = ast.FunctionDef | ast.AsyncFunctionDef
#: Most seconds for an import.
_PATIENCE: Final = 2.0
#: The depth of options of fields, as ``object_options`` has it.
_DEEPEST: Final = 4
_HAS_FIELDS: Final = ("dataclass", "BaseModel")


def targets_in(place: str) -> list[str]:
    """The names of the targets that a module's source shows.

    Raises:
        OSError, SyntaxError: The source cannot be read.
    """
    tree = _tree(place)
    tasks = {task.name for task in task_functions(tree, tree.body)}
    names: list[str] = []
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            is_plain = isinstance(statement, ast.FunctionDef) and not statement.decorator_list
            if statement.name in tasks or (is_plain and not _needed(statement)):
                names.append(statement.name)
        elif isinstance(statement, ast.Assign) and _is_lazy(statement.value, {*tasks, *names}):
            names += [t.id for t in statement.targets if isinstance(t, ast.Name)]
    return [name for name in dict.fromkeys(names) if not name.startswith("_")]


def options_in(target: str) -> list[str]:
    """The options of a target.

    Raises:
        OSError, SyntaxError: The source cannot be read.
    """
    place, _, name = target.rpartition(":")
    tree = _tree(place)
    task = next((one for one in task_functions(tree, tree.body) if one.name == name), None)
    if task is not None:
        return [*_options_of(task, tree)]
    try:
        return _options_of_imported(target)
    except BaseException:  # of the user's module, which may do anything
        return [*_options_of_params(tree)]


def _tree(place: str) -> ast.Module:
    """The source of a file or of a dotted name, parsed."""
    path = Path(place)
    if path.suffix != ".py":
        path = Path(*place.split(".")).with_suffix(".py")
        if not path.is_file():
            path = path.with_suffix("") / "__init__.py"
    return ast.parse(path.read_text(encoding="utf-8"))


def _needed(function: Function) -> bool:
    """Whether it cannot be called without arguments."""
    arguments = function.args
    positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    return positional > 0 or None in arguments.kw_defaults


def _is_lazy(value: ast.expr, tasks: set[str]) -> bool:
    """Whether it is an expression with a call of one of the module's tasks."""
    return any(isinstance(n, ast.Name) and n.id in tasks for n in ast.walk(value)) and any(
        isinstance(n, ast.Call) for n in ast.walk(value)
    )


def _options_of(task: Function, tree: ast.Module) -> Iterator[str]:
    arguments = task.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    pairs = [
        *zip(positional, [*defaults, *arguments.defaults], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        injected = isinstance(default, ast.Call) and _last(default.func) == "inject"
        if not injected:
            yield from _flags(f"--{_dashed(argument.arg)}", argument.annotation, tree, 0)


def _flags(flag: str, annotation: ast.expr | None, tree: ast.Module, depth: int) -> Iterator[str]:
    yield flag
    names = {n.id for n in ast.walk(annotation or ast.Constant(None)) if isinstance(n, ast.Name)}
    if names == {"bool"}:
        yield f"--no-{flag[2:]}"
    if len(names) != 1 or depth == _DEEPEST:
        return
    (name,) = names
    classes = [s for s in tree.body if isinstance(s, ast.ClassDef) and s.name == name]
    for found in classes:
        marks = {_last(mark) for mark in (*found.decorator_list, *found.bases)}
        if not marks.intersection(_HAS_FIELDS):
            continue
        for field in found.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                own = f"{flag}.{_dashed(field.target.id)}"
                yield from _flags(own, field.annotation, tree, depth + 1)


def _options_of_params(tree: ast.Module) -> Iterator[str]:
    """An option for each ``Param("name")`` in the source."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        if _last(call.func) == "Param" and call.args:
            name = call.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield f"--{_dashed(name.value)}"


def _options_of_imported(target: str) -> list[str]:
    from cyclopts import Group

    from cascade.command.target_options import options_of
    from cascade.command.targets import find

    with _quiet():
        lazy = find(target).lazy()
    flags: list[str] = []
    for option in options_of(lazy, ()):
        for parameter in option.parameters(Group("")):
            told = parameter.annotation.__metadata__[0]
            flags += [*told.name, *(told.negative or ())]
    return flags


def _last(expression: ast.expr) -> str:
    """``inject`` for ``cs.inject``, ``dataclass`` for ``dataclass(frozen=True)``."""
    if isinstance(expression, ast.Call):
        return _last(expression.func)
    return str(getattr(expression, "attr", None) or getattr(expression, "id", ""))


def _dashed(name: str) -> str:
    return "-".join(name.replace("_", " ").split()) or "param"


@contextmanager
def _quiet() -> Iterator[None]:
    """No output of the process, and an error after some seconds."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError("the module takes too long")

    sys.stdout.flush()
    kept, nothing = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_RDWR)
    has_timer = hasattr(signal, "setitimer")
    before = signal.signal(signal.SIGALRM, stop) if has_timer else None
    try:
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        if has_timer:
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        if has_timer:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        for place, copy in enumerate(kept, 1):
            os.dup2(copy, place)
            os.close(copy)
        os.close(nothing)
