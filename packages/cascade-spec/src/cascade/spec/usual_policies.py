"""Usual policies: those that many nodes have alike, made once.

Making policies takes longer than making a node. What is remembered here keeps no object of the
program alive.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final
from weakref import ref

from cascade.spec.policies import PLAIN_CALLS, CallPolicies
from cascade.spec.retry import Retry

#: Amounts of capacities from here on are not remembered.
LARGE: Final = 1_000_000
_NUMBERS: Final = frozenset({int, float})
#: Identity of a cache → policies with that cache alone, while any node has these. A
#: WeakValueDictionary takes twice as long.
_cached: dict[int, ref[CallPolicies]] = {}


@lru_cache(maxsize=256)
def timed(timeout: float | None) -> CallPolicies:
    """Policies with a timeout alone."""
    return CallPolicies(timeout=timeout)


def retried(first: Any, delay: Any, backoff: Any, max_delay: Any, jitter: Any, on: Any) -> Any:
    """Policies with a retry alone; see ``Retry.of``."""
    kinds = type(first), type(delay), type(backoff), type(max_delay), type(jitter)
    if on is Exception and _NUMBERS.issuperset(kinds):
        return _retried(first, delay, backoff, max_delay, jitter)
    return CallPolicies(retry=Retry.of(first, delay, backoff, max_delay, jitter, on))


@lru_cache(maxsize=256, typed=True)  # a float equals an int, and is refused as a number of attempts
def _retried(*options: Any) -> CallPolicies:
    return CallPolicies(retry=Retry(*options))


@lru_cache(maxsize=256)
def taking(amount: tuple[str, int]) -> CallPolicies:
    """Policies with an amount of a capacity alone."""
    return PLAIN_CALLS.with_capacities(dict([amount]))


def cached(cache: Any) -> CallPolicies | None:
    """Policies with a cache alone, without options, if any node has them now."""
    found = _cached.get(id(cache))
    known = None if found is None else found()
    if known is None:
        return None
    policy: Any = known.cache
    is_it = policy is cache or getattr(policy, "backend", None) is cache
    return known if is_it else None


def remember(cache: Any, calls: CallPolicies) -> None:
    """Let ``cached`` find these policies while any node has them."""
    place = id(cache)

    def forget(gone: object) -> None:
        if _cached.get(place) is gone:
            del _cached[place]

    _cached[place] = ref(calls, forget)
