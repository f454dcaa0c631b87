"""The methods that set a node's policies: ``run_if``, ``after``, ``with_retry`` and others.

Each method changes the node's Policies and returns the node itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from cascade.spec import usual_policies as usual
from cascade.spec.checks import check_flag, check_priority, is_amount, is_number, no_amount
from cascade.spec.errors import ArgumentError, CycleError, LazyUseError
from cascade.spec.lazy_value import LIMITS, LazyValue
from cascade.spec.misuse import compared, described
from cascade.spec.operation import Operation
from cascade.spec.policies import PLAIN_CALLS, CallPolicies, Policies
from cascade.spec.repeatable import check_repeatable
from cascade.spec.retry import Retry, RetryDelay, RetryOn
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.caching import CachePolicy
    from cascade.spec.protocols import CacheBackend


class PolicyMethods(LazyValue):
    """The methods that give a node its policies: a base of LazyResult.

    Not thread-safe: a program is written by one thread.
    """

    __slots__ = ()

    #: Whether the node stands for calls of a task that are made later, as a map does.
    _makes_calls = False

    def run_if(self, condition: LazyValue) -> Self:
        """Skip this node, and every node that needs its value, unless ``condition`` is truthy.

        Rules R6 and M16: the node's inputs still run; a skipped condition skips; a node that is
        only ordered ``after`` a skipped one runs. Called twice, both conditions must hold.

        Args:
            condition: A lazy value, such as ``score > 0.8``. A value that is known already is
                refused: decide with ``if`` whether to make the node, or use a ``Param``.

        Returns:
            This lazy value itself, changed.

        Raises:
            LazyUseError: ``condition`` is not lazy.
        """
        if not isinstance(condition, LazyValue):
            _refuse_task("run_if", self, condition)
            raise LazyUseError(
                f"run_if() of {described(self)} takes a lazy condition, but got "
                f"{short(condition)}, a plain value"
                + compared(
                    f"…run_if({short(condition)})",
                    "if condition: …      # the value is known: an if statement decides",
                    '…run_if(cs.Param("name", type=bool))      # a value that is given to the run',
                )
            )
        self._refuse_itself("run_if", condition)
        self._own_policies().conditions += (condition,)
        return self

    def after(self, *lazies: LazyValue) -> Self:
        """Run this node only after ``lazies`` have ended, without using their values.

        A skipped predecessor counts as ended (M16).

        Returns:
            This lazy value itself, changed.

        Raises:
            LazyUseError: An argument is not lazy.
            CycleError: An argument is this lazy value itself.
        """
        for lazy in lazies:
            if not isinstance(lazy, LazyValue):
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
        max_attempts: int | Retry | None = 3,
        delay: RetryDelay = 0.0,
        backoff: float = 1.0,
        *,
        max_delay: float = float("inf"),
        jitter: float = 0.0,
        on: RetryOn = Exception,
    ) -> Self:
        """Try again when an attempt fails (R10); on a map, each item by itself.

        An attempt is one call, with its task-scoped resources. In a loop of tail calls every step
        has its own attempts. Waiting for the next attempt holds no thread and no resource.

        All attempts get the same arguments: a change that one makes to them is seen by the next
        (M23). Iterators among the arguments are refused, because the first attempt would use them
        up; ``cs.literal(x)`` as an argument hands over ``x`` nevertheless.

        >>> import cascade as cs
        >>> @cs.task
        ... def fetch(url):
        ...     return url
        >>> def retry_after(error, attempt):
        ...     return getattr(error, "retry_after", 2**attempt)
        >>> fetch("/news").with_retry(5, delay=retry_after, jitter=0.1)
        <lazy fetch at ...>

        Args:
            max_attempts: Attempts in all, the first included; or a ``cs.Retry`` with everything.
                With 1 or None there is no second attempt, whatever the task declares.
            delay: Seconds before the second attempt; or a function of the error and of the number
                of the attempt that failed (from 1), which returns the seconds before the next one,
                or None if there is to be none. If it raises, its error is the node's. It is a plain
                function, and quick: it may be called in the event loop's thread.
            backoff: Each later delay is the one before it times this; not with a function.
            max_delay: Longest delay in seconds, before jitter.
            jitter: Up to this fraction of the delay is added at random.
            on: Types of errors that are worth another attempt, or a function of the error.

        Returns:
            This lazy value itself, changed.

        Raises:
            ArgumentError: A number, type or function is invalid, or an argument of the call is or
                holds an iterator.
            LazyUseError: The node is not a call of a task, so there is nothing to try again.
        """
        calls = usual.retried(max_attempts, delay, backoff, max_delay, jitter, on)
        self._refuse_structural("with_retry")
        if calls.repeats:
            check_repeatable(self)
        policies = self._own_policies()
        policies.calls = (
            calls if policies.calls is PLAIN_CALLS else policies.calls.changed(retry=calls.retry)
        )
        return self

    def with_timeout(self, seconds: float | None) -> Self:
        """Fail an attempt with a TaskTimeoutError after ``seconds`` (R10); on a map, each item.

        The time counts while the call runs, not while resources open or the call waits for a
        thread. A coroutine is cancelled. A plain function runs on a worker thread, on both paths.
        It cannot be stopped (M8) and is abandoned: its thread is replaced, its late result
        dropped, and its task-scoped resources stay open until it ends.

        Args:
            seconds: None for no limit, whatever the task declares.

        Returns:
            This lazy value itself, changed.

        Raises:
            ArgumentError: ``seconds`` is not a positive number.
            LazyUseError: The node is not a call of a task.
        """
        if seconds is not None and not (is_number(seconds, 0) and seconds):
            raise ArgumentError(
                f"with_timeout() of {described(self)} takes seconds > 0, but got {short(seconds)}"
            )
        timeout = None if seconds is None else float(seconds)
        self._refuse_structural("with_timeout")
        policies = self._own_policies()
        policies.calls = (
            usual.timed(timeout)
            if policies.calls is PLAIN_CALLS
            else policies.calls.changed(timeout=timeout)
        )
        return self

    def with_cache(
        self,
        cache: CachePolicy | CacheBackend | None,
        *,
        ttl: float | None = None,
        ignore: Iterable[str] = (),
        version: str = "",
    ) -> Self:
        """Load the value from ``cache``, or compute it and save it there (R10).

        The entry belongs to the node as a whole: its key is made of the first arguments, its value
        is the one after all tail calls. Failures and skips are never kept. Equal calls that run at
        the same time in one run are made once.

        Args:
            cache: A policy; or a backend such as ``cs.LRUCache()``, with keys made of task and
                arguments. None for no cache, whatever the task declares.
            ttl: Seconds for which a backend keeps the value; None for as long as there is room.
            ignore: Names of arguments that are not part of the key.
            version: Part of the key; change it when the task's code changes its meaning.

        Returns:
            This lazy value itself, changed.

        Raises:
            ArgumentError: ``cache`` is neither, or a policy comes with options for backends.
            LazyUseError: The node is not a call of a task.
        """
        if self._policies is None and ttl is None and not version and ignore == ():
            known = usual.cached(cache)
            if known is not None:
                self._refuse_structural("with_cache")
                self._own_policies().calls = known
                return self
        if cache is None:
            self._calls_with("with_cache", cache=None)
            return self
        # Not at the top: `from cascade import task` would take a quarter longer (71 instead of 57
        # ms of processor time), because caching needs decimal, datetime and concurrent.futures.
        from cascade.spec.caching import cache_policy

        policy = cache_policy(cache, ttl, ignore, version)
        self._refuse_structural("with_cache")
        policies = self._own_policies()
        if policies.calls is not PLAIN_CALLS:
            policies.calls = policies.calls.changed(cache=policy)
            return self
        policies.calls = CallPolicies(cache=policy)
        if ttl is None and not version and ignore == ():
            usual.remember(cache, policies.calls)
        return self

    def with_capacity(self, /, **amounts: float | LazyValue) -> Self:
        """Take these amounts of the engine's capacities in each attempt (R10); on a map, each item.

        ``Engine(capacities={"gpu": 2, "memory_gb": 16})`` sets the totals. An attempt begins when
        it can take all of its amounts at once; permits are granted in FIFO order. It returns them
        when its call ends, also with a tail call or a lazy value, so each step of a loop takes
        them again. Waiting for another attempt holds no permits.

        Args:
            amounts: Capacity → amount ≥ 0, or a lazy value that gives one. If a capacity is named
                in two calls, or declared by the task, the later amount counts; 0 is none.

        Returns:
            This lazy value itself, changed.

        Raises:
            ArgumentError: An amount is not a number ≥ 0.
            LazyUseError: The node is not a call of a task.
            CycleError: An amount is this lazy value itself.
        """
        if len(amounts) == 1 and self._policies is None:  # as most calls
            (one,) = amounts.items()
            if type(one[1]) is int and 0 <= one[1] < usual.LARGE:
                self._refuse_structural("with_capacity")
                self._own_policies().calls = usual.taking(one)
                self._special |= LIMITS  # unknown capacities are refused before the run
                return self
        fixed: dict[str, float] = {}
        lazy: dict[str, LazyValue] = {}
        for name, amount in amounts.items():
            if isinstance(amount, LazyValue):
                self._refuse_itself("with_capacity", amount)
                lazy[name] = amount
            elif is_amount(amount):
                fixed[name] = amount
            else:
                raise no_amount(f"with_capacity() of {described(self)}", name, amount)
        self._refuse_structural("with_capacity")
        policies = self._own_policies()
        kept = {n: a for n, a in policies.calls.capacities if n not in amounts}
        policies.calls = policies.calls.with_capacities({**kept, **fixed})
        others = {n: a for n, a in policies.amounts.items() if n not in amounts}
        policies.amounts = {**others, **lazy}
        self._special |= LIMITS
        return self

    def with_priority(self, priority: int) -> Self:
        """Run before nodes of a lower priority that wait at the same time (M24); on a map, each
        item.

        The priority orders the nodes that wait for a worker thread or for capacities. It interrupts
        nothing that runs. Waiting adds 1 a second, so that a node of low priority gets its turn as
        well.

        Args:
            priority: 0 is that of all other nodes; a higher number comes first.

        Returns:
            This lazy value itself, changed.

        Raises:
            ArgumentError: ``priority`` is not an int.
            LazyUseError: The node is not a call of a task.
        """
        check_priority(f"with_priority() of {described(self)}", priority)
        self._calls_with("with_priority", priority=priority)
        return self

    def with_checkpoint(self, kept: bool = True, *, every: float | None = None) -> Self:
        """Set how often a durable run records this node (D4); on a map, each item.

        ``with_checkpoint(False)`` keeps nothing: after a crash the node is called again, if
        something unfinished needs its value. ``with_checkpoint(every=5)`` is for loops: after a
        crash they may repeat the last five seconds. Otherwise loops of coroutines are kept after
        each step, and those of plain functions once a second.

        Args:
            kept: Whether anything of the node is kept.
            every: Seconds between two snapshots of its loop; 0 for a snapshot of each step.

        Returns:
            This lazy value itself, changed.

        Raises:
            ArgumentError: ``kept`` is not a bool, ``every`` is not a number ≥ 0, or ``every`` is
                given for a node that is not kept.
        """
        whose = f"with_checkpoint() of {described(self)}"
        check_flag(f"the first argument of {whose}", kept)
        if every is not None and (not is_number(every, 0) or every == float("inf")):
            raise ArgumentError(f"{whose} takes every= in seconds ≥ 0, but got {short(every)}")
        if every is not None and not kept:
            raise ArgumentError(f"{whose} takes no every= if nothing of the node is kept")
        self._calls_with("with_checkpoint", checkpoint=every if kept else float("inf"))
        return self

    def keep(self) -> Self:
        """Keep the value until the run ends, instead of releasing it after its last use (M21).

        Use it for a value that a task may need later, by returning this lazy value or one that
        depends on it, in a way that the run cannot see. Without it, the run keeps the values that
        task functions can name: by closures, globals, defaults and literals.

        Returns:
            This lazy value itself, changed.
        """
        self._own_policies().keeps = True
        return self

    def named(self, name: str) -> Self:
        """Give the node a name that is part of its key in durable runs.

        Nodes with equal tasks and arguments are otherwise told apart by the function that made
        them and by the argument that they are for. A name keeps their keys when that changes.

        Args:
            name: A text that no equal node of the graph has. On a map, that of all its items.

        Returns:
            This lazy value itself, changed.

        Raises:
            ArgumentError: ``name`` is empty or no text.
        """
        if not isinstance(name, str) or not name:
            raise ArgumentError(
                f"named() of {described(self)} takes a text, and not an empty one, but got "
                f"{short(name)}"
            )
        self._own_policies().name = name
        return self

    def _begin_with(self, declared: CallPolicies) -> None:
        """Give a new node the policies that its task declares.

        Raises:
            ArgumentError: They have a retry, and an argument is or holds an iterator.
        """
        if declared.repeats:
            check_repeatable(self)
        self._own_policies().calls = declared
        if declared.capacities:
            self._special |= LIMITS  # unknown capacities are refused before the run

    def _calls_with(self, method: str, **changes: Any) -> None:
        self._refuse_structural(method)
        policies = self._own_policies()
        policies.calls = policies.calls.changed(**changes)

    def _refuse_structural(self, method: str) -> None:
        if self.task.structural and not self._makes_calls:
            raise LazyUseError(
                f"{described(self)} calls no task, so {method}() has no meaning for it; apply it "
                "to the lazy values that it is made of"
            )
        called: Any = self.task
        if self._makes_calls:
            called = getattr(self, "factory", called)  # of a map, the task of its items
        refused = getattr(called, "refuses", None)
        if refused and method in refused:
            raise LazyUseError(
                f"{described(self)} only waits, so {method}() has no meaning for it; wait_for() "
                "has a timeout of its own, and a wait takes no capacity and is always kept"
            )

    def _own_policies(self) -> Policies[Any]:
        if self._policies is None:
            self._policies = Policies()
            self._plain = False
        return self._policies

    def _refuse_itself(self, method: str, other: LazyValue) -> None:
        if other is self:
            raise CycleError(
                f"{method}() of {described(self)} got the same lazy value: it would wait for "
                "itself for ever",
                [self.name, self.name],
            )


def _refuse_task(method: str, lazy: LazyValue, given: Any) -> None:
    if isinstance(given, Operation):
        raise LazyUseError(
            f"{method}() of {described(lazy)} got the task '{given.name}' itself; call it: "
            f"{given.name}()"
        )
