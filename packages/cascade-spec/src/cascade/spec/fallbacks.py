"""Fallbacks: replacements for an input that was skipped or failed (M26, M27).

``lazy.or_else(value)`` and ``lazy.catch(errors, handler)`` are new nodes with ``lazy`` as their
input. Where ``lazy`` has a value, the node has the same one. Where it was skipped, or failed, the
node continues as its fallback (R4), which runs only then. A run therefore begins such a node
although its input is missing, if the fallback covers that.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, Final, TypeAlias

from cascade.spec.blueprint import Literal, TailCall
from cascade.spec.containers import is_container, refused
from cascade.spec.errors import (
    ArgumentError,
    CycleError,
    DeadlineError,
    LeaseLostError,
    StepLimitError,
)
from cascade.spec.injection import Inject
from cascade.spec.lazy_value import LazyValue
from cascade.spec.operation import FallbackOperation, Operation
from cascade.spec.wording import short

#: Errors of the run as a whole. A cycle is one too: timing decides which node reports it.
NEVER_CAUGHT: Final = (CycleError, DeadlineError, LeaseLostError, StepLimitError)
#: Types of errors, as ``catch`` takes them.
Errors: TypeAlias = type[Exception] | tuple[type[Exception], ...]
#: Makes one lazy value of a container that holds some; ``lazy_types.as_lazy``.
AsLazy: TypeAlias = Callable[[Any, CodeType, int], Any]


class NotGiven:
    """A value that stands for none; no user has it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


#: The default of options for which every value is a fallback.
NOT_GIVEN: Final = NotGiven("(not given)")
#: The default of handlers: the error is the value.
ITS_ERROR: Final = NotGiven("(the error)")


class Fallback:
    """The replacement for an input that was skipped: the first argument of ``or_else``.

    Hidden from the search for lazy values, as routes are: it may not run.
    """

    __slots__ = ("instead",)

    #: The types of errors that it covers.
    errors: tuple[type[Exception], ...] = ()

    def __init__(self, instead: Any) -> None:
        #: A lazy value, or a value; a Literal for one that is not to be searched.
        self.instead = instead

    @property
    def label(self) -> str:
        """When it is used, in lists and drawings."""
        return "skipped"

    @property
    def lazies(self) -> tuple[Any, ...]:
        """The lazy value that it continues as, if there is one."""
        return (self.instead,) if isinstance(self.instead, LazyValue) else ()

    def covers(self, error: Exception | None) -> bool:
        """Whether it stands in for a node that failed with ``error``; None: that was skipped."""
        return error is None

    def result(self, error: Exception | None) -> Any:
        """The value, or the lazy value to continue as."""
        return self.instead.value if type(self.instead) is Literal else self.instead

    def __cascade_digest__(self) -> Any:
        return (self.instead,)

    def __repr__(self) -> str:
        return f"<fallback {short(self.instead)}>"


class Catch(Fallback):
    """The replacement for an input that failed: the first argument of ``catch``.

    Args:
        errors: The types of errors that it covers.
        handler: As a Fallback keeps it; or a task, which is called with the error; or ITS_ERROR.
        code, lasti: The place of the expression, for the call of the handler.
    """

    __slots__ = ("code", "errors", "lasti")

    def __init__(
        self, errors: tuple[type[Exception], ...], handler: Any, code: CodeType, lasti: int
    ) -> None:
        super().__init__(handler)
        self.errors = errors
        self.code = code
        self.lasti = lasti

    @property
    def label(self) -> str:
        return ", ".join(kind.__name__ for kind in self.errors)

    def covers(self, error: Exception | None) -> bool:
        return isinstance(error, self.errors) and not isinstance(error, NEVER_CAUGHT)

    def result(self, error: Exception | None) -> Any:
        if self.instead is ITS_ERROR:
            return error
        if isinstance(self.instead, Operation):
            given = Literal(error) if is_container(type(error)) else error
            handler: Any = self.instead
            return handler.make((given,), {}, self.code, self.lasti)
        return super().result(error)

    def __cascade_digest__(self) -> Any:
        handler = () if self.instead is ITS_ERROR else (self.instead,)
        return *self.errors, *handler


def alternative(
    value: Any, as_lazy: AsLazy, code: CodeType, lasti: int, role: str = "a fallback"
) -> Any:
    """The ``value`` that a node may continue as: a fallback, or the route of a router.

    Raises:
        ArgumentError: It is a task that was not called, a tail call, an ``inject(…)``, or a literal
            of nothing but a lazy value.
    """
    if isinstance(value, (Operation, TailCall)):
        raise refused(value)
    if isinstance(value, Literal) and isinstance(value.value, LazyValue):
        raise ArgumentError(
            f"cs.literal() of the lazy value {value.value!r} was given as {role}, where a literal "
            "cannot keep it from being computed\n"
            "    right:  [cs.literal(lazy)]      # the lazy value, in a list\n"
            "    or:     lazy      # continue as its value"
        )
    if isinstance(value, Inject):
        raise ArgumentError(
            f"{value!r} was given as {role}, but resources are injected only into calls of "
            "tasks; give a call of a task that takes the resource"
        )
    return as_lazy(value, code, lasti)


def catching(errors: Any, handler: Any, as_lazy: AsLazy, code: CodeType, lasti: int) -> Catch:
    """The fallback for ``lazy.catch(errors, handler)``.

    Raises:
        ArgumentError: ``errors`` are not types of Exceptions that can be caught, or ``handler``
            takes no error, or is something that ``alternative`` refuses.
    """
    kinds = errors if isinstance(errors, tuple) else (errors,)
    if not kinds:
        raise ArgumentError("catch() takes one or several types of errors, but got none: ()")
    for kind in kinds:
        _check_error(kind)
    if isinstance(handler, Operation):
        _check_handler(handler)
    elif callable(handler) and not isinstance(handler, LazyValue):
        raise ArgumentError(
            f"the handler of catch() is {short(handler)}, which is no task, so it is not called\n"
            "    to call it with the error:    decorate it with @cs.task\n"
            "    to have it as the value:      cs.literal(…)"
        )
    elif handler is not ITS_ERROR:
        handler = alternative(handler, as_lazy, code, lasti)
    return Catch(kinds, handler, code, lasti)


def _check_error(kind: Any) -> None:
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise ArgumentError(f"catch() takes types of errors, but got {short(kind)}")
    if not issubclass(kind, Exception):
        raise ArgumentError(
            f"catch() takes types of errors, but got {kind.__name__}, which is no Exception and "
            "always ends the run"
        )
    if issubclass(kind, NEVER_CAUGHT):
        raise ArgumentError(
            f"catch() got {kind.__name__}, which is an error of the run as a whole and always ends "
            "it"
        )


def _check_handler(handler: Any) -> None:
    try:
        handler.parameters.bind((None,), {})
    except ArgumentError as error:
        raise ArgumentError(
            f"the handler of catch() is called with the error as its only argument: {error}"
        ) from None


def passed_on(fallback: Fallback, value: Any) -> Any:
    """The value of a node whose input has one."""
    return value


OR_ELSE = FallbackOperation(passed_on, "or_else", written=".or_else(…)")
CATCH = FallbackOperation(passed_on, "catch", written=".catch(…)")
#: A fallback, and the operation of the nodes that have it.
Kept: TypeAlias = tuple[FallbackOperation, Fallback]


class Joins:
    """The options of a list for items without a value; a map and ``cs.gather`` take the same.

    Args:
        return_exceptions: The error of an item is its value.
        skipped: The value of an item that was skipped; NOT_GIVEN for none.
        catch: Errors, and the handler for items that fail with one; None for none.
    """

    __slots__ = ("catch", "return_exceptions", "skipped")

    def __init__(self, return_exceptions: Any, skipped: Any, catch: Any) -> None:
        self.return_exceptions = return_exceptions
        self.skipped = skipped
        self.catch = catch

    def check(self, whose: str, names: Any = ()) -> None:
        """Refuse options that do not fit.

        Args:
            whose: The call, in messages.
            names: The parameters of the mapped task, whose values are columns.

        Raises:
            ArgumentError: An option has another type, or the name of a parameter.
        """
        if not isinstance(self.return_exceptions, bool):
            raise ArgumentError(
                f"{whose} takes return_exceptions=True or False, but got "
                f"{short(self.return_exceptions)}"
                + "; a parameter of that name cannot be mapped over"
                * bool(names)
            )
        given = (("skipped", self.skipped is not NOT_GIVEN), ("catch", self.catch is not None))
        for name, is_given in given:
            if is_given and name in names:
                raise ArgumentError(
                    f"{whose} takes {name}= itself, so a parameter of that name cannot be mapped "
                    "over"
                )
        if self.catch is not None and not (isinstance(self.catch, tuple) and len(self.catch) == 2):
            raise ArgumentError(
                f"{whose} takes catch=(errors, handler), but got {short(self.catch)}\n"
                "    right:  catch=(OSError, None)\n"
                "    or:     catch=((OSError, ValueError), handler)"
            )

    @property
    def catches(self) -> bool:
        """Whether the only option is that the error of an item is its value."""
        return self.return_exceptions is True and self.skipped is NOT_GIVEN and self.catch is None

    def fallbacks(self, as_lazy: AsLazy, code: CodeType, lasti: int) -> tuple[Kept, ...]:
        """The fallbacks of each item, the innermost one first.

        Errors come first, so that ``skipped`` also stands in for an item whose handler is skipped;
        ``return_exceptions`` comes last, so that it also covers the errors of these two.
        """
        kept: list[Kept] = []
        if self.catch is not None:
            kept.append((CATCH, catching(self.catch[0], self.catch[1], as_lazy, code, lasti)))
        if self.skipped is not NOT_GIVEN:
            kept.append((OR_ELSE, Fallback(alternative(self.skipped, as_lazy, code, lasti))))
        if self.return_exceptions:
            kept.append((CATCH, Catch((Exception,), ITS_ERROR, code, lasti)))
        return tuple(kept)
