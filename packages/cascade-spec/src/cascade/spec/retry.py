"""Retry: the conditions for another attempt after a failed one (rule R10)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeAlias

from cascade.spec.checks import check_count, is_number
from cascade.spec.errors import ArgumentError
from cascade.spec.lazy_value import LazyValue
from cascade.spec.operation import Operation
from cascade.spec.wording import short

#: Which errors are worth another attempt: a type of exception, several, or a function.
RetryOn: TypeAlias = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
)


class Retry:
    """The conditions and delays of further attempts: ``@cs.task(retry=cs.Retry(5, delay=1))``.

    ``lazy.with_retry`` takes the same options. A Retry does not change.

    Attributes:
        max_attempts: Attempts in all, the first included.
        delay: Seconds before the second attempt.
        backoff: Each later delay is the one before it times this.
        max_delay: Longest delay in seconds, before jitter.
        jitter: Up to this fraction of the delay is added at random.
        on: Which errors are worth another attempt.
    """

    __slots__ = ("backoff", "delay", "jitter", "max_attempts", "max_delay", "on")

    def __init__(
        self,
        max_attempts: int = 3,
        delay: float = 0.0,
        backoff: float = 1.0,
        max_delay: float = float("inf"),
        jitter: float = 0.0,
        on: RetryOn = Exception,
    ) -> None:
        check_count("max_attempts", max_attempts)
        for name, value, least in (
            ("delay", delay, 0),
            ("backoff", backoff, 1),
            ("max_delay", max_delay, 0),
            ("jitter", jitter, 0),
        ):
            if not is_number(value, least):
                raise ArgumentError(f"{name} must be a number ≥ {least}, but is {short(value)}")
        _check_on(on)
        self.max_attempts = max_attempts
        self.delay = delay
        self.backoff = backoff
        self.max_delay = max_delay
        self.jitter = jitter
        self.on = on

    @classmethod
    def of(cls, first: int | Retry | None, *options: Any) -> Retry | None:
        """``first`` itself if it is one; one with these options; or None for no retry.

        Raises:
            ArgumentError: An option is invalid, or a Retry comes with options.
        """
        if not isinstance(first, Retry):
            return None if first is None else cls(first, *options)
        if options and options != (0.0, 1.0, float("inf"), 0.0, Exception):
            raise ArgumentError(
                "with_retry() takes a cs.Retry, or the options of one, but got both\n"
                "    right:  with_retry(cs.Retry(3, delay=1))"
            )
        return first

    def pause(self, attempt: int, error: BaseException) -> float | None:
        """Seconds to wait after attempt number ``attempt`` (from 1) failed; None to give up."""
        if attempt >= self.max_attempts or not isinstance(error, Exception):
            return None
        if not self._worth_it(error):
            return None
        try:
            pause = min(self.delay * self.backoff ** (attempt - 1), self.max_delay)
        except OverflowError:
            pause = self.max_delay
        return pause * (1 + self.jitter * random.random())

    def _worth_it(self, error: BaseException) -> bool:
        if isinstance(self.on, (type, tuple)):
            return isinstance(error, self.on)
        return bool(self.on(error))


def _check_on(on: Any) -> None:
    kinds = on if isinstance(on, tuple) else (on,)
    # Types, lazy values and tasks are callable, but do not decide anything.
    if callable(on) and not isinstance(on, (type, LazyValue, Operation)):
        return
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ArgumentError(
                f"on takes types of exceptions or a function of the error, but got {short(kind)}"
            )
