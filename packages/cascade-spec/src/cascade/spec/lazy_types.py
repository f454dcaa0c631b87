"""Lazy values: what a call of a task gives before anything runs.

A LazyResult is one node of a program: the operation, its arguments, and the lazy values among
them. It has no value; a run computes one, once, however many nodes use it (rule R3). Lazy values
are immutable but for their policies (``run_if``, ``after``), compare by identity and are hashable,
so that they live in sets and dicts.

State vocabulary:

- *operation*: what the node calls, an Operation; a Task for everything that users write;
- *dependencies*: the lazy values among the arguments, found when the call was made (rule R2);
- *number*: position in the order of creation. A node can only be called after its arguments exist,
  so ascending numbers are a topological order of the data edges (edges added later by ``run_if``
  and ``after`` may point to younger nodes).
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import CodeType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, final

from cascade.spec.arithmetic import Arithmetic
from cascade.spec.callsite import CallSite, line_of
from cascade.spec.checks import is_amount, is_number, no_amount
from cascade.spec.errors import ArgumentError, CycleError, LazyUseError
from cascade.spec.misuse import Misuse, compared, described, misused, written
from cascade.spec.policies import PLAIN_CALLS, CallPolicies, Policies
from cascade.spec.retry import Retry, RetryOn
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.caching import CachePolicy
    from cascade.spec.protocols import CacheBackend

R_co = TypeVar("R_co", covariant=True)

next_number = itertools.count(1).__next__  # in events 0 stands for no node
#: The ``kwargs`` of all calls without any; one object, and nobody changes it.
NO_KWARGS: dict[str, Any] = {}


class Operation:
    """What a node calls: a function, its name, and whether it is a coroutine function.

    Plain operations are the nodes that Cascade itself adds (containers, maps, routes,
    parameters); what users write is the subclass Task. ``structural`` tells them apart, so that
    events and drawings can leave the first kind out.
    """

    __slots__ = ("__weakref__", "func", "is_async", "name", "plain")

    structural = True
    #: How many values a call gives, where it was said; they can be unpacked before a run.
    nout: int | None = None
    #: Where a plain function is called; see ``task``.
    mode = "auto"

    def __init__(self, func: Callable[..., Any], name: str, is_async: bool = False) -> None:
        self.func = func
        self.name = name
        self.is_async = is_async
        #: Whether a call is a call and no more: no coroutine, no thread of its own choice.
        self.plain = not is_async

    def __repr__(self) -> str:
        return f"<operation {self.name}>"


class LazyResult(Arithmetic, Misuse, Generic[R_co]):
    """The value that a call will have, once a run has made it.

    Made by calling a Task. Not thread-safe while its policies are being set; immutable after.
    """

    __slots__ = (
        "__weakref__",
        "_code",
        "_id",
        "_lasti",
        "args",
        "dependencies",
        "kwargs",
        "number",
        "plain",
        "policies",
        "special",
        "task",
    )

    task: Operation
    #: Positional arguments; a container that held lazy values is replaced by one lazy value.
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    #: The lazy values among args and kwargs, in order, repeated where they are used twice.
    dependencies: tuple[LazyResult[Any], ...]
    #: True when a run has to look at the arguments before the call: a ``Literal`` or ``Inject`` to
    #: unwrap, a parameter to check.
    special: bool
    #: Whether all there is to it is a call of a plain operation: nothing special, no policies. What
    #: the fast lane asks, twice for each node.
    plain: bool
    #: What ``run_if``, ``after`` and their like were given; None as long as there is nothing.
    policies: Policies | None
    #: Position in the order of creation, over all lazy values of the process.
    number: int

    def __init__(
        self,
        task: Operation,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        dependencies: tuple[LazyResult[Any], ...],
        special: bool,
        code: CodeType,
        lasti: int,
    ) -> None:
        """Make a node; ``code`` and ``lasti`` are the user's frame's, see ``callsite``."""
        # Task.__call__ sets the same attributes by itself, to save a call.
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.dependencies = dependencies
        self.special = special
        self.plain = task.plain and not special
        self.policies = None
        self._code = code
        self._lasti = lasti
        self.number = next_number()

    # -- what it is ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the operation, as errors, events and drawings show it."""
        return self.task.name

    @property
    def callsite(self) -> CallSite:
        """File and line where this lazy value was made."""
        return CallSite(self._code.co_filename, line_of(self._code, self._lasti))

    @property
    def id(self) -> str:
        """A unique id, made when first asked for and stable from then on."""
        try:
            return self._id
        except AttributeError:
            self._id: str = os.urandom(16).hex()
            return self._id

    @property
    def _uuid(self) -> str:
        return self.id

    @property
    def conditions(self) -> tuple[LazyResult[Any], ...]:
        """What ``run_if`` was given; the node runs only if all are truthy."""
        return () if self.policies is None else self.policies.conditions

    @property
    def predecessors(self) -> tuple[LazyResult[Any], ...]:
        """What ``after`` was given: nodes that end first, without handing over data."""
        return () if self.policies is None else self.policies.predecessors

    @property
    def amounts(self) -> Mapping[str, LazyResult[Any]]:
        """What ``with_constraints`` was given that is lazy; of a map, that is for its items."""
        if self.policies is None or self.task.structural:
            return {}
        return self.policies.amounts

    @property
    def calls(self) -> CallPolicies:
        """How its calls are made; what a map was given is for its items."""
        if self.policies is None or self.task.structural:
            return PLAIN_CALLS
        return self.policies.calls

    def __repr__(self) -> str:
        return f"<lazy {self.name} at {self.callsite}>"

    # -- policies -----------------------------------------------------------------------------

    def run_if(self, condition: LazyResult[Any]) -> Self:
        """Skip this node, and what depends on its value, unless ``condition`` is truthy.

        Rules R6 and M16: the node's inputs still run; a skipped condition skips; a node that is
        only ordered ``after`` a skipped one runs. Called twice, both conditions must hold.

        Args:
            condition: A lazy value. A plain bool is refused, because ``lazy == 1`` compares
                identity and would silently be False; write ``cs.eq(lazy, 1)``.

        Returns:
            This lazy value itself, changed.

        Raises:
            LazyUseError: ``condition`` is not lazy.
        """
        if not isinstance(condition, LazyResult):
            _refuse_task("run_if", self, condition)
            raise LazyUseError(
                f"run_if() of {described(self)} takes a lazy condition, but got "
                f"{short(condition)}, which is known already"
                + compared("…run_if(score == 1)", "…run_if(cs.eq(score, 1))")
            )
        self._refuse_itself("run_if", condition)
        self._own_policies().conditions += (condition,)
        return self

    def after(self, *lazies: LazyResult[Any]) -> Self:
        """Run this node only once ``lazies`` have ended, without using their values.

        A skipped predecessor counts as ended (M16).

        Returns:
            This lazy value itself, changed.

        Raises:
            LazyUseError: An argument is not lazy.
            CycleError: An argument is this lazy value itself.
        """
        for lazy in lazies:
            if not isinstance(lazy, LazyResult):
                _refuse_task("after", self, lazy)
                raise LazyUseError(
                    f"after() of {described(self)} takes lazy values, but got "
                    f"{short(lazy)}" + compared("b.after([a1, a2])", "b.after(a1, a2)")
                )
            self._refuse_itself("after", lazy)
        self._own_policies().predecessors += lazies
        return self

    def with_retry(
        self,
        max_attempts: int = 3,
        delay: float = 0.0,
        backoff: float = 1.0,
        *,
        max_delay: float = float("inf"),
        jitter: float = 0.0,
        on: RetryOn = Exception,
    ) -> Self:
        """Try again when an attempt fails (R10); of a map, each item for itself.

        An attempt is one call, with its task-scoped resources. In a loop of tail calls every step
        has its own attempts. Waiting for the next attempt holds no thread and no resource.

        Args:
            max_attempts: Attempts in all, the first included.
            delay: Seconds before the second attempt.
            backoff: Each later delay is the one before it times this.
            max_delay: Longest delay in seconds, before jitter.
            jitter: Up to this fraction of the delay is added at random.
            on: Types of errors that are worth another attempt, or a function of the error.

        Returns:
            This lazy value itself, changed.

        Raises:
            ArgumentError: A number or type that makes no sense.
            LazyUseError: The node is none of a task's, so there is nothing to try again.
        """
        retry = Retry(max_attempts, delay, backoff, max_delay, jitter, on)
        self._calls_with("with_retry", retry=retry)
        return self

    def with_timeout(self, seconds: float) -> Self:
        """Let an attempt fail with a TaskTimeoutError after ``seconds`` (R10); of a map, each item.

        The time of an attempt is that of its call: opening its resources and waiting for a thread
        are not counted. A coroutine is cancelled. A plain function runs on a thread of its own, on
        both paths; nothing can stop it (M8), so it is abandoned: its thread is replaced, its late
        result dropped, its task-scoped resources stay open until it ends.

        Returns:
            This lazy value itself, changed.

        Raises:
            ArgumentError: ``seconds`` is no positive number.
            LazyUseError: The node is none of a task's.
        """
        if not is_number(seconds, 0) or not seconds:
            raise ArgumentError(
                f"with_timeout() of {described(self)} takes seconds, more than 0, but got "
                f"{short(seconds)}"
            )
        self._calls_with("with_timeout", timeout=float(seconds))
        return self

    def with_cache(
        self,
        cache: CachePolicy | CacheBackend,
        *,
        ttl: float | None = None,
        ignore: Iterable[str] = (),
        version: str = "",
    ) -> Self:
        """Take the value from ``cache`` where it is known there, else keep it there (R10).

        The node as a whole is kept: its first arguments, and its value after all tail calls.
        Failures and skips are never kept, and equal calls of a run that are under way at the same
        time are made once.

        Args:
            cache: A policy; or a backend such as ``cs.LRUCache()``, and values are kept there by
                task and arguments.
            ttl: Seconds for which a backend keeps the value; None for as long as there is room.
            ignore: Names of arguments that make no difference.
            version: Part of the key; change it when the task's code changes its meaning.

        Returns:
            This lazy value itself, changed.

        Raises:
            ArgumentError: ``cache`` is neither, or a policy is given what is for backends.
            LazyUseError: The node is none of a task's.
        """
        from cascade.spec.caching import cache_policy  # which needs this module

        policy = cache_policy(cache, ttl, ignore, version)
        self._calls_with("with_cache", cache=policy)
        return self

    def with_constraints(self, /, **amounts: float | LazyResult[Any]) -> Self:
        """Take so much of the engine's capacities for each attempt (R10); of a map, each item.

        ``Engine(system_resources={"gpu": 2, "memory_gb": 16})`` says how much there is. An attempt
        begins when all that it takes is there at once, and first come is first served; it gives
        everything back when its call ends, also by a tail call or a returned lazy value, so that
        in a loop every step takes it anew. Waiting for another attempt holds nothing.

        Args:
            amounts: By name of a capacity, 0 or more; a lazy value stands for the number that it
                gives. Called twice, the later amount of a name counts.

        Returns:
            This lazy value itself, changed.

        Raises:
            ArgumentError: An amount is no number from 0 up.
            LazyUseError: The node is none of a task's.
            CycleError: An amount is this lazy value itself.
        """
        fixed: dict[str, float] = {}
        lazy: dict[str, LazyResult[Any]] = {}
        for name, amount in amounts.items():
            if isinstance(amount, LazyResult):
                self._refuse_itself("with_constraints", amount)
                lazy[name] = amount
            elif is_amount(amount):
                fixed[name] = amount
            else:
                raise no_amount(f"with_constraints() of {described(self)}", name, amount)
        self._calls_with("with_constraints")
        policies = self._own_policies()
        kept = {n: a for n, a in policies.calls.capacities if n not in amounts}
        policies.calls = policies.calls.with_capacities({**kept, **fixed})
        others = {n: a for n, a in policies.amounts.items() if n not in amounts}
        policies.amounts = {**others, **lazy}
        self.special = True  # what the engine does not have is refused before the run
        return self

    def keep(self) -> Self:
        """Keep the value until the run ends, instead of releasing it after its last use (M21).

        For a value that a task may ask for later, by returning this lazy value or one that needs
        it, in a way that the run does not see. Of itself it keeps what its task functions can
        name: by closures, globals, defaults and literals.

        Returns:
            This lazy value itself, changed.
        """
        self._own_policies().keeps = True
        return self

    def _calls_with(self, method: str, **changes: Any) -> None:
        if self.task.structural and not isinstance(self, MappedLazyResult):
            raise LazyUseError(
                f"{described(self)} calls no task, so {method}() has no meaning for it; give it to "
                "the lazy values that it is made of"
            )
        if changes:
            policies = self._own_policies()
            policies.calls = replace(policies.calls, **changes)

    def _own_policies(self) -> Policies:
        if self.policies is None:
            self.policies = Policies()
            self.plain = False
        return self.policies

    def _refuse_itself(self, method: str, other: LazyResult[Any]) -> None:
        if other is self:
            raise CycleError(
                f"{method}() of {described(self)} got the same lazy value: it would wait for "
                "itself for ever",
                [self.name, self.name],
            )

    def _combine(
        self, func: Callable[..., Any], args: tuple[Any, ...], code: CodeType, lasti: int
    ) -> LazyResult[Any]:
        from cascade.spec.containers import settle  # which needs this module

        args, _, dependencies, special = settle(args, {}, code, lasti)
        operation = Operation(func, func.__name__)
        return LazyResult(operation, args, {}, dependencies, special, code, lasti)

    def __iter__(self) -> Iterator[Any]:
        if self.task.nout is not None:
            from cascade.spec.unpacking import unpacked  # which needs this module

            frame = sys._getframe(1)
            return unpacked(self, self.task.nout, frame.f_code, frame.f_lasti)
        name = written(self)
        right = [f"work.map(item={name})      # one node for each item"]
        if not self.task.structural:
            right.append(f"@cs.task(nout=2) on {self.name}, and then  a, b = {name}")
        wrong = f"for item in {name}: work(item)"
        raise misused(self, LazyUseError, "cannot be iterated", wrong, *right)


@final
class MappedLazyResult(LazyResult[list[R_co]]):
    """The lazy list that ``task.map(…)`` gives: one node per item, in the items' order (R8)."""

    __slots__ = ("factory", "mapping_kwargs")

    factory: Callable[..., LazyResult[R_co]]
    mapping_kwargs: Mapping[str, Any]

    def _own_policies(self) -> Policies:
        # The plan of the map, its first argument, takes them along to where the items are made.
        policies = self.args[0].policies = super()._own_policies()
        return policies


def _refuse_task(method: str, lazy: LazyResult[Any], given: Any) -> None:
    if isinstance(given, Operation):
        raise LazyUseError(
            f"{method}() of {described(lazy)} got the task '{given.name}' itself; call it: "
            f"{given.name}()"
        )
