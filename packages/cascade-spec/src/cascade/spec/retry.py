"""Retry: the conditions for another attempt after a failed one (rule R10)."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from typing import Any, TypeAlias

from cascade.spec.checks import check_count, is_amount, is_number
from cascade.spec.errors import ArgumentError, TaskStopIterationError
from cascade.spec.lazy_value import LazyValue
from cascade.spec.operation import Operation
from cascade.spec.wording import short

#: Which errors are worth another attempt: a type of exception, several, or a function.
RetryOn: TypeAlias = (
    type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
)
#: Seconds before another attempt, or a function of the error and of the number of the attempt that
#: failed (from 1). It returns the seconds, or None if there is to be no other attempt.
RetryDelay: TypeAlias = float | Callable[[Any, int], float | None]


_RIGHT = "delay=lambda error, attempt: error.retry_after      # seconds, or None to give up"


class Retry:
    """The conditions and delays of further attempts: ``@cs.task(retry=cs.Retry(5, delay=1))``.

    ``lazy.with_retry`` takes the same options. A Retry does not change.

    Attributes:
        max_attempts: Attempts in all, the first included.
        delay: Seconds before the second attempt, or a function that returns the seconds before each
            one; see ``RetryDelay``.
        backoff: Each later delay is the one before it times this.
        max_delay: Longest delay in seconds, before jitter.
        jitter: Up to this fraction of the delay is added at random.
        on: Which errors are worth another attempt.
    """

    __slots__ = ("backoff", "delay", "jitter", "max_attempts", "max_delay", "on")

    def __init__(
        self,
        max_attempts: int = 3,
        delay: RetryDelay = 0.0,
        backoff: float = 1.0,
        max_delay: float = float("inf"),
        jitter: float = 0.0,
        on: RetryOn = Exception,
    ) -> None:
        check_count("max_attempts", max_attempts)
        if callable(delay):
            _check_delay(delay, backoff)
        elif not is_number(delay, 0):
            raise ArgumentError(
                f"delay must be a number ≥ 0 or a function, but is {short(delay)}\n"
                f"    right:  {_RIGHT}"
            )
        for name, value, least in (
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
        """Seconds to wait after attempt number ``attempt`` (from 1) failed; None to give up.

        Raises:
            ArgumentError: The function ``delay`` returned something else than seconds or None.
            TaskStopIterationError: ``on`` or ``delay`` let a StopIteration escape (M13).
            Exception: Another error of these functions.
        """
        if attempt >= self.max_attempts or not isinstance(error, Exception):
            return None
        if not self._worth_it(error):
            return None
        pause = self._delay(attempt, error)
        if pause is None:
            return None
        return min(pause, self.max_delay) * (1 + self.jitter * random.random())

    def _delay(self, attempt: int, error: Exception) -> float | None:
        if not callable(self.delay):
            try:
                return self.delay * self.backoff ** (attempt - 1)
            except OverflowError:
                return float("inf")
        try:
            seconds = self.delay(error, attempt)
        except StopIteration as failure:
            raise TaskStopIterationError.of(self.delay) from failure
        if seconds is None or is_amount(seconds):
            return seconds
        if inspect.iscoroutine(seconds):
            seconds.close()  # otherwise Python warns that it was never awaited
        raise ArgumentError(
            f"the delay of a retry, {_named(self.delay)}, must return seconds ≥ 0, or None for no "
            f"other attempt, but after attempt {attempt} it returned {short(seconds)}"
        )

    def _worth_it(self, error: BaseException) -> bool:
        if isinstance(self.on, (type, tuple)):
            return isinstance(error, self.on)
        try:
            return bool(self.on(error))
        except StopIteration as failure:
            raise TaskStopIterationError.of(self.on) from failure


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


def _check_delay(delay: Any, backoff: Any) -> None:
    # Types, lazy values and tasks are callable, but compute no delay.
    if isinstance(delay, (type, LazyValue, Operation)) or inspect.iscoroutinefunction(delay):
        raise ArgumentError(
            f"delay must be a number ≥ 0 or a plain function, but is {short(delay)}\n"
            f"    right:  {_RIGHT}"
        )
    if is_number(backoff, 1) and backoff != 1:
        raise ArgumentError(
            f"backoff={short(backoff)} multiplies a delay in seconds, but delay is a function; "
            "compute the delay there: it gets the error and the number of the attempt"
        )
    try:
        inspect.signature(delay).bind(None, 1)
    except TypeError:
        raise ArgumentError(
            f"delay is called with the error and the number of the attempt, but {_named(delay)} "
            f"does not take two arguments\n    right:  {_RIGHT}"
        ) from None
    except ValueError:  # a builtin without a signature
        pass


def _named(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    return f"the function '{name}'" if isinstance(name, str) else short(function)
