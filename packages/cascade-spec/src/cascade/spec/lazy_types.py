"""Lazy values: calls of tasks before a run has made them.

A LazyResult is one node of a program: the operation, its arguments, and the lazy values among them.
It has no value; a run computes one, once, however many nodes use it (rule R3). Lazy values are
immutable except for their policies (``run_if``, ``after``), compare by identity and are hashable,
so that they live in sets and dicts.

The class combines its data (``lazy_value``), its policies (``policy_methods``), its operators
(``arithmetic``) and its refusals (``misuse``). Arguments become nodes in this module too: an
operator makes a node for a container among its operands, and a container is a node.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import CodeType, MethodType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, final, overload

from cascade.spec.arithmetic import Arithmetic
from cascade.spec.blueprint import Literal, TailCall
from cascade.spec.containers import (
    ARGUMENT_MARKS,
    ATOMS,
    GATHER,
    RESULT_MARKS,
    Marks,
    holds_marks,
    is_container,
    recipe_of,
    refused,
)
from cascade.spec.dropped_calls import refuse_uncalled
from cascade.spec.errors import ArgumentError, LazyUseError
from cascade.spec.fallbacks import (
    CATCH,
    ITS_ERROR,
    NOT_GIVEN,
    OR_ELSE,
    Errors,
    Fallback,
    Joins,
    Kept,
    alternative,
    catching,
)
from cascade.spec.injection import Inject
from cascade.spec.lazy_value import LITERALS, NO_KWARGS, RESOURCES, LazyValue
from cascade.spec.misuse import Misuse, compared, described, misused, written
from cascade.spec.operation import FallbackOperation, Operation
from cascade.spec.policies import PLAIN_CALLS, CallPolicies, Policies
from cascade.spec.policy_methods import PolicyMethods
from cascade.spec.unpacking import unpack

if TYPE_CHECKING:
    from cascade.spec.task_class import Task

R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
E = TypeVar("E", bound=Exception)


class LazyResult(PolicyMethods, Arithmetic[R_co], Misuse, Generic[R_co]):
    """The value of a call that a run has yet to make.

    Made by calling a Task. Not thread-safe while its policies are being set; immutable after.
    """

    __slots__ = ()

    _dependencies: tuple[LazyResult[Any], ...]
    _policies: Policies[LazyResult[Any]] | None

    @property
    def _conditions(self) -> tuple[LazyResult[Any], ...]:
        """The conditions given to ``run_if``; the node runs only if all are truthy."""
        return () if self._policies is None else self._policies.conditions

    @property
    def _predecessors(self) -> tuple[LazyResult[Any], ...]:
        """The nodes given to ``after``: they end first, and hand over no data."""
        return () if self._policies is None else self._policies.predecessors

    @property
    def _amounts(self) -> Mapping[str, LazyResult[Any]]:
        """The lazy amounts given to ``with_capacity``; those of a map apply to its items."""
        if self._policies is None or self.task.structural:
            return {}
        return self._policies.amounts

    @property
    def _calls(self) -> CallPolicies:
        """The policies of the node's calls; those of a map apply to its items."""
        if self._policies is None or self.task.structural:
            return PLAIN_CALLS
        return self._policies.calls

    @property
    def _choices(self) -> Sequence[tuple[object, LazyResult[Any]]]:
        """The lazy values besides its inputs that it may continue as, each with the reason.

        As far as they are known before a run: the routes of a router, fallbacks.
        """
        return ()

    @overload  # an own overload: from a lazy value no checker infers S by the second one
    def or_else(self, value: LazyResult[S]) -> LazyResult[R_co | S]: ...
    @overload
    def or_else(self, value: S) -> LazyResult[R_co | S]: ...
    def or_else(self, value: Any) -> LazyResult[Any]:
        """A new lazy value: that of this one, or ``value`` where this one was skipped (M26).

        This lazy value itself stays as it is, with its policies; its other users are skipped.

        >>> from cascade.spec.task import task
        >>> @task
        ... def report(weekend): ...
        >>> @task
        ... def mail(text): ...
        >>> mail(report(True).or_else("nothing new")).name
        'mail'

        Args:
            value: A value; or a lazy value, which runs only where it is needed. Containers are
                searched for lazy values as the arguments of a task are.

        Raises:
            ArgumentError: ``value`` is a task that was not called, a tail call, or an
                ``inject(…)``.
        """
        frame = sys._getframe(1)
        code, lasti = frame.f_code, frame.f_lasti
        instead = alternative(value, as_lazy, code, lasti)
        return with_fallback(self, OR_ELSE, Fallback(instead), code, lasti)

    @overload
    def catch(self, errors: type[E] | tuple[type[E], ...]) -> LazyResult[R_co | E]: ...
    @overload
    def catch(self, errors: Errors, handler: Task[..., S]) -> LazyResult[R_co | S]: ...
    @overload
    def catch(self, errors: Errors, handler: LazyResult[S]) -> LazyResult[R_co | S]: ...
    @overload
    def catch(self, errors: Errors, handler: S) -> LazyResult[R_co | S]: ...
    def catch(self, errors: Any, handler: Any = ITS_ERROR) -> LazyResult[Any]:
        """A new lazy value: that of this one, or of ``handler`` where this one failed (M27).

        This lazy value itself stays as it is, with its policies: it is tried again and reported as
        failed before its error is caught. The error may also come from what it continues as, and
        from inputs that no other node needs; an error that another node needs ends the run.

        >>> from cascade.spec.task import task
        >>> @task
        ... def fetch(url): ...
        >>> @task
        ... def log(error): ...
        >>> fetch("…").with_retry(2).catch(OSError, log).name
        'catch'

        Args:
            errors: A type of Exceptions, or several. Cycles, and errors of the run as a whole
                (deadlines, ``max_steps``), are never caught.
            handler: A task, which is called with the error; or a value, or a lazy one, as in
                ``or_else``. Without a handler the error itself is the value.

        Raises:
            ArgumentError: ``errors`` are not types of errors that can be caught; or the handler is
                a function that is no task, or a task that does not take one argument.
        """
        frame = sys._getframe(1)
        code, lasti = frame.f_code, frame.f_lasti
        fallback = catching(errors, handler, as_lazy, code, lasti)
        return with_fallback(self, CATCH, fallback, code, lasti)

    def _combine(
        self, func: Callable[..., Any], args: tuple[Any, ...], code: CodeType, lasti: int
    ) -> LazyResult[Any]:
        args, _, dependencies, special = settle(args, {}, code, lasti)
        operation = Operation(func, func.__name__)
        return LazyResult(operation, args, {}, dependencies, special, code, lasti)

    @property
    def _unpacks(self) -> LazyResult[Any]:
        """The node whose task declares the number of values."""
        return self

    @overload  # of any type: a tuple has one for each part
    def __iter__(self: LazyResult[tuple[Any, ...]]) -> Iterator[LazyResult[Any]]: ...
    @overload
    def __iter__(self: LazyResult[Iterable[S]]) -> Iterator[LazyResult[S]]: ...
    def __iter__(self) -> Iterator[LazyResult[Any]]:
        if self._unpacks.task.nout is not None:
            frame = sys._getframe(1)
            return self._unpacked(self._unpacks.task.nout, frame.f_code, frame.f_lasti)
        name = written(self)
        right = [f"work.map(item={name})      # one node for each item"]
        if not self.task.structural:
            right.append(f"@cs.task(nout=2) on {self.name}, and then  a, b = {name}")
        wrong = f"for item in {name}: work(item)"
        raise misused(self, LazyUseError, "cannot be iterated", wrong, *right)

    def _unpacked(self, nout: int, code: CodeType, lasti: int) -> Iterator[LazyResult[Any]]:
        """A node for each of the ``nout`` values."""
        name = self._unpacks.name
        nodes = [self._combine(unpack, (self, i, nout, name), code, lasti) for i in range(nout)]
        return iter(nodes)


@final
class MappedLazyResult(LazyResult[list[R_co]]):
    """The lazy list that ``task.map(…)`` gives: one node per item, in the items' order (R8)."""

    __slots__ = ("factory", "mapping_kwargs")

    factory: Callable[..., LazyResult[R_co]]
    mapping_kwargs: Mapping[str, Any]

    _makes_calls = True

    @property
    def _choices(self) -> Sequence[tuple[object, LazyResult[Any]]]:
        fallbacks: Sequence[Kept] = self.args[0].fallbacks
        return [(f.label, lazy) for _, f in fallbacks for lazy in f.lazies]

    def _own_policies(self) -> Policies[Any]:
        # The plan of the map, its first argument, carries them to the place that makes the items.
        policies = self.args[0].policies = super()._own_policies()
        return policies


@final
class FallbackResult(LazyResult[R_co]):
    """The lazy value that ``or_else`` or ``catch`` gives: a node with a fallback (M26, M27)."""

    __slots__ = ()

    @property
    def _choices(self) -> Sequence[tuple[object, LazyResult[Any]]]:
        fallback: Fallback = self.args[0]
        return [(fallback.label, lazy) for lazy in fallback.lazies]

    @property
    def _unpacks(self) -> LazyResult[Any]:
        source: LazyResult[Any] = self.args[1]
        return source._unpacks

    def run_if(self, condition: LazyValue) -> NoReturn:
        """Refused: a condition belongs to the node before the fallback."""
        raise self._misplaced("run_if")

    def after(self, *lazies: LazyValue) -> NoReturn:
        """Refused: an order belongs to the node before the fallback."""
        raise self._misplaced("after")

    def _refuse_structural(self, method: str) -> NoReturn:
        raise self._misplaced(method)

    def _misplaced(self, method: str) -> LazyUseError:
        source: LazyResult[Any]
        source, fallbacks = self, ""
        while isinstance(source, FallbackResult):
            fallbacks = source.task.written + fallbacks
            source = source.args[1]
        return LazyUseError(
            f"{method}() of {described(self)}: policies belong to the lazy value before its "
            f"fallbacks; put it before .{self.task.name}"
            + compared(f"{written(self)}.{method}(…)", f"{written(source)}.{method}(…){fallbacks}")
        )


def with_fallback(
    lazy: LazyResult[Any],
    operation: FallbackOperation,
    fallback: Fallback,
    code: CodeType,
    lasti: int,
) -> FallbackResult[Any]:
    """The node for ``lazy`` with ``fallback``; ``code`` and ``lasti`` locate the expression."""
    return FallbackResult(operation, (fallback, lazy), NO_KWARGS, (lazy,), 0, code, lasti)


@overload
def gather(*values: LazyResult[S]) -> LazyResult[list[S]]: ...
@overload
def gather(
    *values: Any,
    return_exceptions: bool = False,
    skipped: Any = NOT_GIVEN,
    catch: tuple[Errors, Any] | None = None,
) -> LazyResult[list[Any]]: ...
def gather(
    *values: Any,
    return_exceptions: bool = False,
    skipped: Any = NOT_GIVEN,
    catch: tuple[Errors, Any] | None = None,
) -> LazyResult[list[Any]]:
    """Make one lazy list of many values, lazy or not, in their order.

    Containers among the values are searched as the arguments of a task are (R2). The options are
    those of ``Task.map``, for each of the values; a container counts as one value.

    Args:
        values: Lazy values, or values.
        return_exceptions: Put the error of a value that fails into the list, and go on.
        skipped: Put this into the list in place of values that are skipped (M26).
        catch: ``(errors, handler)``, for values that fail with one of ``errors`` (M27).

    Raises:
        ArgumentError: A value is a task itself, or an ``inject(…)``; or an option does not fit.
    """
    frame = sys._getframe(1)
    code, lasti = frame.f_code, frame.f_lasti
    if return_exceptions is False and skipped is NOT_GIVEN and catch is None:
        return gathered(list(values), code, lasti)
    joins = Joins(return_exceptions, skipped, catch)
    joins.check("cs.gather()")
    items = [as_lazy(value, code, lasti) for value in values]
    for operation, fallback in joins.fallbacks(as_lazy, code, lasti):
        items = [
            with_fallback(item, operation, fallback, code, lasti)
            if isinstance(item, LazyResult)
            else item
            for item in items
        ]
    return gathered(items, code, lasti)


def gathered(
    container: Any, code: CodeType, lasti: int, marks: Marks = ARGUMENT_MARKS
) -> LazyResult[Any]:
    """The node that rebuilds ``container``; ``code`` and ``lasti`` locate the expression."""
    recipe, leaves = recipe_of(container, marks)
    # Special if it hides lazy values in literals, which a run must know of (M21, M22).
    special = LITERALS if recipe.literals else 0
    return LazyResult(GATHER, (recipe, *leaves), NO_KWARGS, leaves, special, code, lasti)


def settle(
    args: tuple[Any, ...], kwargs: dict[str, Any], code: CodeType, lasti: int
) -> tuple[tuple[Any, ...], dict[str, Any], tuple[LazyResult[Any], ...], int]:
    """Find the lazy values among a call's arguments.

    Returns:
        ``args`` and ``kwargs`` with containers that hold lazy values replaced by one lazy value,
        the lazy values among them, and whether they have LITERALS or RESOURCES.

    Raises:
        ArgumentError: An argument is a task that was not called, or a tail call.
    """
    # Most calls have only atoms and calls of tasks, which need no rewriting.
    dependencies: list[LazyResult[Any]] = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        kind = type(value)
        if kind is LazyResult:
            dependencies.append(value)
        elif kind not in ATOMS:
            return _settle_any(args, kwargs, code, lasti)
    # One tuple for both if possible: the fast lane tests that, and it saves memory.
    same = len(dependencies) == len(args) and not kwargs
    return args, kwargs or NO_KWARGS, args if same else tuple(dependencies), 0


def _settle_any(
    args: tuple[Any, ...], kwargs: dict[str, Any], code: CodeType, lasti: int
) -> tuple[tuple[Any, ...], dict[str, Any], tuple[LazyResult[Any], ...], int]:
    dependencies: list[LazyResult[Any]] = []
    special = 0

    def settled(value: Any) -> Any:
        nonlocal special
        if issubclass(type(value), LazyValue):
            dependencies.append(value)
        elif issubclass(type(value), Literal):
            special |= LITERALS
        elif issubclass(type(value), Inject):
            special |= RESOURCES
        elif is_container(type(value)):
            if holds_marks(value):
                value = gathered(value, code, lasti)
                dependencies.append(value)
        elif issubclass(type(value), (Operation, TailCall)):
            raise refused(value)
        return value

    new_args = tuple([v if type(v) in ATOMS else settled(v) for v in args])
    new_kwargs = {k: v if type(v) in ATOMS else settled(v) for k, v in kwargs.items()}
    same = len(dependencies) == len(new_args) and not kwargs
    return (
        new_args,
        new_kwargs or NO_KWARGS,
        new_args if same else tuple(dependencies),
        special,
    )


def goes_on(value: Any) -> bool:
    """Whether a task that returns ``value``, of no type in ATOMS, continues as another value (R4).

    So it does where ``value`` is refused: ``result_of`` raises the error.

    Called for each result that is no atom: about 0.1 µs, and 15 ns per item of a container.
    """
    kind = type(value)
    if kind is Literal or issubclass(kind, (LazyValue, Operation)):
        return True
    if kind is MethodType:  # the ``tail`` of a task, which is to be refused
        return issubclass(type(value.__self__), Operation)
    return is_container(kind) and holds_marks(value, RESULT_MARKS)


def result_of(value: Any, task: Operation, code: CodeType, lasti: int) -> Any:
    """The continuation of ``task``, which returns ``value``: a lazy value, or ``value`` (R4).

    Raises:
        ArgumentError: It is a task that was not called, or its ``tail``.
        ArgumentError: A container holds a tail call or an ``inject(…)``; or it holds a lazy value
            and cannot be rebuilt; or a literal holds nothing but a lazy value.
    """
    kind = type(value)
    if kind is Literal:
        if issubclass(type(value.value), LazyValue):
            raise ArgumentError(
                f"a task returned cs.literal() of the lazy value {value.value!r}, but a literal "
                "cannot keep a lazy value that is returned from being computed\n"
                "    right:  return [cs.literal(lazy)]      # the lazy value, in a list\n"
                "    or:     return lazy      # continue as its value"
            )
        return value.value
    if is_container(kind) and holds_marks(value, RESULT_MARKS):
        return gathered(value, code, lasti, RESULT_MARKS)
    if kind is MethodType or issubclass(kind, Operation):
        refuse_uncalled(value, task)
    return value


def as_lazy(value: Any, code: CodeType, lasti: int) -> Any:
    """A container that holds lazy values as one lazy value; anything else as it is.

    Raises:
        ArgumentError: The container holds a task that was not called.
    """
    if is_container(type(value)) and holds_marks(value):
        return gathered(value, code, lasti)
    return value
