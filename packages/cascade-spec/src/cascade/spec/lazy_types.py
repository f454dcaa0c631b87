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
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, MethodType
from typing import Any, Generic, TypeVar, final

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
from cascade.spec.errors import ArgumentError, LazyUseError
from cascade.spec.forgotten import refuse_uncalled
from cascade.spec.injection import Inject
from cascade.spec.lazy_value import NO_KWARGS, LazyValue
from cascade.spec.misuse import Misuse, misused, written
from cascade.spec.operation import Operation
from cascade.spec.policies import PLAIN_CALLS, CallPolicies, Policies
from cascade.spec.policy_methods import PolicyMethods
from cascade.spec.unpacking import unpack

R_co = TypeVar("R_co", covariant=True)


class LazyResult(PolicyMethods, Arithmetic, Misuse, Generic[R_co]):
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

    def _combine(
        self, func: Callable[..., Any], args: tuple[Any, ...], code: CodeType, lasti: int
    ) -> LazyResult[Any]:
        args, _, dependencies, special = settle(args, {}, code, lasti)
        operation = Operation(func, func.__name__)
        return LazyResult(operation, args, {}, dependencies, special, code, lasti)

    def __iter__(self) -> Iterator[Any]:
        if self.task.nout is not None:
            frame = sys._getframe(1)
            return self._unpacked(self.task.nout, frame.f_code, frame.f_lasti)
        name = written(self)
        right = [f"work.map(item={name})      # one node for each item"]
        if not self.task.structural:
            right.append(f"@cs.task(nout=2) on {self.name}, and then  a, b = {name}")
        wrong = f"for item in {name}: work(item)"
        raise misused(self, LazyUseError, "cannot be iterated", wrong, *right)

    def _unpacked(self, nout: int, code: CodeType, lasti: int) -> Iterator[LazyResult[Any]]:
        """A node for each of the ``nout`` values."""
        name = self.name
        nodes = [self._combine(unpack, (self, i, nout, name), code, lasti) for i in range(nout)]
        return iter(nodes)


@final
class MappedLazyResult(LazyResult[list[R_co]]):
    """The lazy list that ``task.map(…)`` gives: one node per item, in the items' order (R8)."""

    __slots__ = ("factory", "mapping_kwargs")

    factory: Callable[..., LazyResult[R_co]]
    mapping_kwargs: Mapping[str, Any]

    _makes_calls = True

    def _own_policies(self) -> Policies[Any]:
        # The plan of the map, its first argument, carries them to the place that makes the items.
        policies = self.args[0].policies = super()._own_policies()
        return policies


def gather(*values: Any) -> LazyResult[list[Any]]:
    """Make one lazy list of many values, lazy or not, in their order.

    Containers among the values are searched as the arguments of a task are (R2).

    Raises:
        ArgumentError: A value is a task itself, or an ``inject(…)``.
    """
    frame = sys._getframe(1)
    return gathered(list(values), frame.f_code, frame.f_lasti)


def gathered(
    container: Any, code: CodeType, lasti: int, marks: Marks = ARGUMENT_MARKS
) -> LazyResult[Any]:
    """The node that rebuilds ``container``; ``code`` and ``lasti`` locate the expression."""
    recipe, leaves = recipe_of(container, marks)
    # Special if it hides lazy values in literals, which a run must know of (M21, M22).
    special = bool(recipe.literals)
    return LazyResult(GATHER, (recipe, *leaves), NO_KWARGS, leaves, special, code, lasti)


def settle(
    args: tuple[Any, ...], kwargs: dict[str, Any], code: CodeType, lasti: int
) -> tuple[tuple[Any, ...], dict[str, Any], tuple[LazyResult[Any], ...], bool]:
    """Find the lazy values among a call's arguments.

    Returns:
        ``args`` and ``kwargs`` with containers that hold lazy values replaced by one lazy value,
        the lazy values among them, and whether a Literal or Inject is left to unwrap.

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
    return args, kwargs or NO_KWARGS, args if same else tuple(dependencies), False


def _settle_any(
    args: tuple[Any, ...], kwargs: dict[str, Any], code: CodeType, lasti: int
) -> tuple[tuple[Any, ...], dict[str, Any], tuple[LazyResult[Any], ...], bool]:
    dependencies: list[LazyResult[Any]] = []
    special = False

    def settled(value: Any) -> Any:
        nonlocal special
        if issubclass(type(value), LazyValue):
            dependencies.append(value)
        elif issubclass(type(value), (Literal, Inject)):
            special = True
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
                f"a task returned cs.literal() of the lazy value {value.value!r}, which would be "
                "taken for one to continue as wherever it is handed on\n"
                "    right:  return [cs.literal(lazy)]      # in a container\n"
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
