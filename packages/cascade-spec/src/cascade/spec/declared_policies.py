"""Policies that a task declares, as defaults of its calls: ``@task(retry=3, timeout=5)`` (R10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from cascade.spec.checks import (
    check_flag,
    check_priority,
    check_seconds,
    is_amount,
    is_count,
    no_amount,
)
from cascade.spec.errors import ArgumentError, DefinitionError
from cascade.spec.policies import ENGINES_CACHE, PLAIN_CALLS, CallPolicies
from cascade.spec.retry import Retry
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.spec.caching import CachePolicy
    from cascade.spec.protocols import CacheBackend

#: A number of attempts, or all conditions of further attempts.
RetryOption: TypeAlias = "int | Retry | None"
CacheOption: TypeAlias = "CachePolicy | CacheBackend | None"


def declared_by(
    task: str,
    retry: RetryOption,
    timeout: float | None,
    cache: CacheOption,
    capacities: Mapping[str, float] | None,
    priority: int,
    pure: bool = False,
) -> CallPolicies:
    """The policies that these options of the task ``task`` mean.

    Raises:
        DefinitionError: An option is invalid.
    """
    try:
        check_flag("pure", pure)
        return _declared(retry, timeout, cache, capacities, priority, pure)
    except ArgumentError as error:
        raise DefinitionError(f"task '{task}': {error}") from None


def _declared(
    retry: RetryOption,
    timeout: float | None,
    cache: CacheOption,
    capacities: Mapping[str, float] | None,
    priority: int,
    pure: bool,
) -> CallPolicies:
    check_priority("priority", priority)
    given = (retry, timeout, cache, capacities)
    if not (priority or pure or any(option is not None for option in given)):
        return PLAIN_CALLS
    if timeout is not None:
        check_seconds("timeout", timeout)
        timeout = float(timeout)
    policy: CachePolicy | None = ENGINES_CACHE if pure else None
    if cache is not None:
        # Not at the top: see PolicyMethods.with_cache.
        from cascade.spec.caching import cache_policy

        policy = cache_policy(cache, None, (), "")
    plain = CallPolicies(_retry(retry), timeout, policy, priority=priority)
    return plain if capacities is None else plain.with_capacities(_amounts(capacities))


def _retry(retry: Any) -> Retry | None:
    if retry is None or isinstance(retry, Retry):
        return retry
    if not is_count(retry):
        raise ArgumentError(
            f"retry takes the number of attempts, an int ≥ 1, or a cs.Retry, but is {short(retry)}"
            "\n    right:  retry=cs.Retry(3, delay=1, on=OSError)"
        )
    return Retry(retry)


def _amounts(capacities: Any) -> Mapping[str, float]:
    if not isinstance(capacities, Mapping):
        raise ArgumentError(
            f"capacities takes amounts by name, but is {short(capacities)}\n"
            "    right:  capacities={'gpu': 1}"
        )
    for name, amount in capacities.items():
        if not isinstance(name, str):
            raise ArgumentError(f"capacities takes names of capacities, but got {short(name)}")
        if not is_amount(amount):
            raise no_amount("capacities", name, amount)
    return dict(capacities)
