"""The errors of lazy values that are used as if they had their value already.

Each message shows the line that is wrong and a line that is right. Most of the methods are hidden
from type checkers, which report ``int(lazy)`` and ``await lazy`` as errors themselves.
"""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

from cascade.spec.callsite import CallSite, users_frame
from cascade.spec.errors import LazyAttributeError, LazyUseError
from cascade.spec.expressions import expression, is_comparison, is_equality, is_operator
from cascade.spec.lazy_value import LazyValue
from cascade.spec.nearby import did_you_mean

E = TypeVar("E", bound=LazyUseError)
_Refusal: TypeAlias = Callable[..., NoReturn]


def written(lazy: LazyValue) -> str:
    """The source text of ``lazy``: ``load(…)``, ``score(…) > 5``."""
    return expression(lazy)


def described(lazy: LazyValue) -> str:
    """``lazy`` in a message: ``task 'load' (called at flow.py:3)``."""
    if is_operator(lazy):
        return f"`{written(lazy)}` (written at {lazy.callsite})"
    if lazy.task.structural:
        return f"'{lazy.name}' (made at {lazy.callsite})"
    return f"task '{lazy.name}' (called at {lazy.callsite})"


def compared(wrong: str, *right: str) -> str:
    """The end of a message: the wrong line, and one or several right ones."""
    rights = "\n    or:     ".join(right)
    return f"\n    wrong:  {wrong}\n    right:  {rights}"


def misused(lazy: Any, kind: type[E], fault: str, wrong: str, *right: str) -> E:
    """The error for a method of ``lazy`` that Python calls on behalf of the user's code.

    Args:
        lazy: The misused value.
        kind: Class of the error.
        fault: What it lacks or cannot do before a run.
        wrong: Shown if the line of the user's code is not available.
        right: Lines to write instead.
    """
    frame = users_frame(sys._getframe(2))
    here = CallSite(frame.f_code.co_filename, frame.f_lineno)
    return kind(
        f"the result of {described(lazy)} {fault} before a run; it was asked for at {here}"
        + compared(here.source or wrong, *right)
    )


def _refusal(fault: str, wrong: str, *right: str) -> _Refusal:
    """A method that raises; ``{}`` in ``wrong`` and ``right`` stands for the lazy value."""

    def method(self: Any, *_args: Any, **_kwargs: Any) -> NoReturn:
        name = written(self)
        raise misused(
            self, LazyUseError, fault, wrong.format(name), *(way.format(name) for way in right)
        )

    return method


class Misuse:
    """The operations that lazy values refuse: a mixin of LazyResult."""

    __slots__ = ()

    # Not NoReturn: mypy would take the code after ``if lazy:`` for unreachable, and not check it.
    def __bool__(self: Any) -> None:
        name = written(self)
        right = [f"deploy().run_if({name})      # or test it inside a task"]
        if is_comparison(self) and not is_equality(self):
            right.append("(a < b) & (b < c)      # instead of  a < b < c  and of  and")
        if is_equality(self):
            right.append("a is b      # whether they are the same lazy value")
            right.append("any(x is y for y in items)      # instead of  x in items, items.index(x)")
        raise misused(self, LazyUseError, "has no truth value", f"if {name}: deploy()", *right)

    def __format__(self: Any, spec: str) -> NoReturn:
        name = written(self)
        raise misused(
            self,
            LazyUseError,
            "cannot be put into a text",
            f'f"{{{name}}}"',
            f'cs.task("…{{}}…".format)({name})      # a task that makes the text',
            f"{{{name}!r}}      # its description, for a log",
        )

    def __reduce_ex__(self: Any, _protocol: object) -> NoReturn:
        raise LazyUseError(
            f"the result of {described(self)} cannot be pickled before a run: it is a node of a "
            "program in this process, known by its identity and by the code that made it"
            + compared(
                f"pickle.dumps({written(self)})",
                f"pickle.dumps(cs.run({written(self)}))      # its value",
                f"to_json({written(self)})      # the program; see cascade.graph.serialize",
            )
        )

    def __copy__(self: Any) -> Any:
        twin = object.__new__(type(self))
        for name in copyreg._slotnames(type(self)):  # type: ignore[attr-defined]
            if hasattr(self, name):
                setattr(twin, name, getattr(self, name))
        return twin

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        return self  # a copy of a container needs its value as well, and it is computed once (R3)

    if not TYPE_CHECKING:
        __len__ = _refusal(
            "has no length", "len({})", "cs.task(len)({})      # a task that takes the length"
        )
        # Left to __iter__, its error would be replaced by Python's "argument is not iterable".
        __contains__ = _refusal(
            "cannot be searched",
            "if item in {}: deploy()",
            "cs.task(operator.contains)({}, item)      # a task that searches",
        )
        __int__ = _refusal(
            "cannot be converted to an int",
            "int({})",
            "cs.task(int)({})      # a task that converts it",
        )
        __float__ = _refusal(
            "cannot be converted to a float",
            "float({})",
            "cs.task(float)({})      # a task that converts it",
        )
        __index__ = _refusal(
            "cannot be used as an index or a size",
            "items[{}]",
            "cs.task(operator.getitem)(items, {})      # a task that looks it up",
            "cs.task(range)({})      # where it is a size",
        )
        __call__ = _refusal(
            "cannot be called",
            "{}()",
            "cs.run({})      # its value; if it is a function, call it inside a task",
        )
        __await__ = _refusal(
            "cannot be awaited",
            "await {}",
            "await cs.run_async({})      # in a task: return it, or take it as an argument",
        )
        __enter__ = __aenter__ = _refusal(
            "cannot be entered",
            "with {} as value: ...",
            "work({})      # a task that enters it",
            "@cs.resource      # for an object that is opened before tasks and closed after them",
        )

        __aiter__ = _refusal(
            "cannot be iterated",
            "async for item in {}: work(item)",
            "work({})      # a task that goes over it",
        )
        __setitem__ = __delitem__ = _refusal(
            "cannot be changed",
            "{}[key] = value",
            "change({})      # a task that returns a changed copy",
        )
        __fspath__ = _refusal(
            "cannot be used as a path",
            "open({})",
            "read({})      # a task that opens it",
        )
        __bytes__ = _refusal(
            "cannot be converted to bytes",
            "bytes({})",
            "cs.task(bytes)({})      # a task that converts it",
        )

        def __exit__(self, *_args: Any) -> None:
            """Never called; without it Python would not ask for ``__enter__``."""

        __aexit__ = __exit__

        if sys.version_info >= (3, 12):
            # In 3.11 this would make all attributes of the class four times as slow, and a node of
            # a run a fifth slower. There Python's own message stands, which shows no alternative.

            def __getattr__(self, name: str) -> NoReturn:
                # An attribute that is not set yet, or that copy, inspect and similar modules look
                # up.
                if name.startswith("_") or hasattr(type(self), name):
                    problem = f"'{type(self).__name__}' object has no attribute '{name}'"
                    raise AttributeError(problem, name=name, obj=self)
                known = [known for known in dir(type(self)) if not known.startswith("_")]
                lazy = written(self)
                raise misused(
                    self,
                    LazyAttributeError,
                    f"has no attribute '{name}'{did_you_mean(name, known)}",
                    f"{lazy}.{name}",
                    f"cs.task(lambda value: value.{name})({lazy})      # or in a task of its own",
                )
