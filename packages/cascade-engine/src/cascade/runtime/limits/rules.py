"""Constraints as people write them, and the state of each while it is in force."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cascade.spec.checks import check_count, check_seconds, is_count, is_number
from cascade.spec.errors import ArgumentError
from cascade.spec.nearby import did_you_mean
from cascade.spec.wording import short

if TYPE_CHECKING:
    from cascade.runtime.limits.permits import Holding

PAUSE: Final = "pause"
CONCURRENCY: Final = "concurrency"
RATE_LIMIT: Final = "rate_limit"
KINDS = (PAUSE, CONCURRENCY, RATE_LIMIT)
GLOBAL: Final = "global"
_TASK = "task:"
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*/\s*([smhd])\s*")
#: Seconds that a wake-up may be late: the calls that a rate allows in this time may come at once.
SLACK = 0.01
#: Seconds by which a timer may be early.
EARLY = 1e-6
#: An upper bound of seconds, calls and bursts, far above useful values; floats can still add it.
_TOO_MUCH = 1e15
#: A lower bound of calls per second, far below useful values; one can still divide by it.
_TOO_LITTLE = 1e-12
#: Most characters of the name of a shared limit.
_MOST_OF_A_NAME = 200
#: Most characters of a rate.
_MOST_OF_A_RATE = 100


@dataclass(frozen=True, slots=True)
class Constraint:
    """A rule for the attempts of tasks, from outside the program.

    Attributes:
        scope: ``"global"``, or ``"task:"`` and a pattern for names of tasks, such as
            ``"task:fetch_*"``: ``*``, ``?`` and ``[…]`` as in a shell, case-sensitive.
        kind: ``"pause"``: no attempt starts. ``"concurrency"``: at most ``value`` run at the same
            time. ``"rate_limit"``: at most ``value`` start, such as ``"10/s"``, ``"300/m"``,
            ``"1000/h"``, ``"5000/d"``.
        value: None for a pause.
        burst: For a rate limit: how many may start at once after a quiet time.
        ttl: Seconds after which it expires; None for never.
        shared: For a rate limit: the name under which all processes that use the store of the
            engine's capacities keep it together, whatever their scopes are.

    Raises:
        ArgumentError: A field is invalid.
    """

    scope: str
    kind: str
    value: int | str | None = None
    burst: int = 1
    ttl: float | None = None
    shared: str | None = None

    def __post_init__(self) -> None:
        check_scope(self.scope)
        if self.kind not in KINDS:
            hint = did_you_mean(self.kind, KINDS) if isinstance(self.kind, str) else ""
            raise ArgumentError(
                f"the kind of a constraint is one of {', '.join(map(repr, KINDS))}, but got "
                f"{short(self.kind)}{hint}"
            )
        if self.kind == PAUSE and self.value is not None:
            raise ArgumentError(f"a pause takes no value, but got {short(self.value)}")
        if self.kind == CONCURRENCY:
            _check_concurrency(self.value)
        if self.kind == RATE_LIMIT:
            per_second(self.value)
        check_count("burst", self.burst)
        if self.burst >= _TOO_MUCH:
            raise ArgumentError(f"burst must be less than 1e15, but is {short(self.burst)}")
        if self.shared is not None:
            _check_shared(self.shared, self.kind)
        if self.ttl is not None:
            check_seconds("ttl", self.ttl)
            if self.ttl >= _TOO_MUCH:
                raise ArgumentError(
                    f"ttl takes seconds, less than 1e15, but got {short(self.ttl)}; leave it out "
                    "for a constraint without an end"
                )

    @property
    def key(self) -> tuple[str, str]:
        """Scope and kind: of each pair at most one constraint is in force, the last."""
        return self.scope, self.kind

    def __str__(self) -> str:
        value = "" if self.value is None else f" {self.value}"
        shared = "" if self.shared is None else f" shared as {self.shared!r}"
        return f"{self.kind} {self.scope}{value}{shared}"


def _check_shared(name: Any, kind: str) -> None:
    if kind != RATE_LIMIT:
        raise ArgumentError(
            f"only a rate limit can be shared, but this is '{kind}'; to share how many attempts "
            "run at once, let their tasks take a capacity: cs.Capacities({…}, store=…)"
        )
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _MOST_OF_A_NAME:
        raise ArgumentError(
            f"shared= takes a name of 1 to {_MOST_OF_A_NAME} characters, such as 'openai', but got "
            f"{short(name)}"
        )


def _check_concurrency(value: Any) -> None:
    if not is_count(value):
        raise ArgumentError(
            f"the value of 'concurrency' must be an int ≥ 1, but is {short(value)}; to let "
            "nothing begin, set a pause"
        )
    if value >= _TOO_MUCH:
        raise ArgumentError(f"concurrency must be less than 1e15, but is {short(value)}")


def check_scope(scope: Any) -> None:
    """Refuse an invalid scope.

    Raises:
        ArgumentError: It is neither ``"global"`` nor ``"task:…"``.
    """
    if isinstance(scope, str) and (scope == GLOBAL or (scope.startswith(_TASK) and scope != _TASK)):
        return
    hint = ""
    if isinstance(scope, str):
        near = did_you_mean(scope, [GLOBAL])
        hint = near or (f" (did you mean 'task:{scope}'?)" if scope.isidentifier() else "")
    raise ArgumentError(
        f"a scope is 'global' or 'task:' and a pattern for names of tasks, but got "
        f"{short(scope)}{hint}"
    )


def per_second(rate: Any) -> float:
    """``"300/m"`` → 5.0.

    Raises:
        ArgumentError: It is not a rate.
    """
    short_enough = isinstance(rate, str) and len(rate) <= _MOST_OF_A_RATE
    found = _RATE.fullmatch(rate) if short_enough else None
    speed = float(found[1]) / _SECONDS[found[2]] if found else 0.0
    if not _TOO_LITTLE <= speed < _TOO_MUCH:
        hint = ""
        if is_number(rate, 0) and _TOO_LITTLE <= rate < _TOO_MUCH:
            hint = f"; for {rate:g} in a second write '{rate:g}/s'"
        raise ArgumentError(
            "a rate is a number > 0 per unit of time, such as '10/s', '300/m', '1000/h' or "
            "'5000/d', but "
            f"got {short(rate)}{hint}"
        )
    return speed


def matcher(scope: str) -> Callable[[str], Any]:
    """A function that tells whether a scope includes a task of this name."""
    if scope == GLOBAL:
        return lambda _: True
    pattern = scope[len(_TASK) :]
    if not any(special in pattern for special in "*?["):
        return pattern.__eq__  # compiling a pattern takes a tenth of a millisecond
    return re.compile(translate(pattern)).match


class BaseRule:
    """A constraint in force. Its methods are called under the lock of the queue.

    Attributes:
        constraint: The constraint.
        expires: When it expires, on the clock of the manager.
        matches: Tells whether it applies to a task of that name.
    """

    __slots__ = ("constraint", "expires", "matches")

    def __init__(self, constraint: Constraint, expires: float) -> None:
        self.constraint = constraint
        self.expires = expires
        self.matches = matcher(constraint.scope)

    def room(self, now: float) -> float:
        """How many calls may begin now; less than 1 for none."""
        raise NotImplementedError

    def enter(self, permit: Holding) -> None:
        """Admit a permit, for ``permit.calls`` calls."""

    def leave(self, permit: Holding, unused: int) -> None:
        """End a permit that has not made ``unused`` of its calls."""

    def opens(self, now: float) -> float:
        """When there will be room; inf if that depends on other permits."""
        return math.inf

    def holders(self) -> tuple[str, ...]:
        """The names of the tasks that waiting permits wait for."""
        return ()

    def has(self, permit: Holding) -> bool:
        """Whether a permit keeps others out while it is in."""
        return False

    def succeed(self, before: Any, now: float) -> None:
        """Take the place of a rule of the same kind; the permits that it admitted still count."""

    def shift(self, seconds: float) -> None:
        """Adapt to a clock that shows ``seconds`` more."""
        self.expires += seconds


class PauseRule(BaseRule):
    """No call begins."""

    __slots__ = ()

    def room(self, now: float) -> float:
        return 0


class ConcurrencyRule(BaseRule):
    """A number of calls at the same time."""

    __slots__ = ("_inside", "_limit")

    def __init__(self, constraint: Constraint, expires: float) -> None:
        super().__init__(constraint, expires)
        assert isinstance(constraint.value, int)
        self._limit = constraint.value
        self._inside: dict[Holding, None] = {}

    def room(self, now: float) -> float:
        return math.inf if len(self._inside) < self._limit else 0

    def enter(self, permit: Holding) -> None:
        self._inside[permit] = None

    def leave(self, permit: Holding, unused: int) -> None:
        self._inside.pop(permit, None)

    def has(self, permit: Holding) -> bool:
        return permit in self._inside

    def holders(self) -> tuple[str, ...]:
        return tuple([permit.task for permit in self._inside])

    def succeed(self, before: Any, now: float) -> None:
        self._inside = before._inside


class RateRule(BaseRule):
    """A number of calls per time: a bucket that fills steadily; each call takes one token out.

    In any time t at most ``size + t * rate`` calls begin. ``size`` is the burst, or the tokens of a
    hundredth of a second if that is more: threads cannot be woken more often.
    """

    __slots__ = ("_at", "_lent", "_rate", "_tokens", "_total_lent", "size")

    def __init__(self, constraint: Constraint, expires: float) -> None:
        super().__init__(constraint, expires)
        self._rate = per_second(constraint.value)
        self.size = max(float(constraint.burst), self._rate * SLACK)
        self._tokens = self.size
        #: Permits inside → tokens of each that may come back. Tokens for which the full bucket
        #: would have had no room do not; otherwise a batch that ends late would give a second
        #: burst.
        self._lent: OrderedDict[Holding, float] = OrderedDict()
        self._total_lent = 0.0
        self._at = -math.inf

    def room(self, now: float) -> float:
        if now > self._at:
            self._tokens = min(self.size, self._tokens + (now - self._at) * self._rate)
            self._at = now
            self._write_off(self._tokens + self._total_lent - self.size)
        # A timer may come early by the resolution of its clock, and would be the last one.
        return self._tokens + self._rate * EARLY

    def enter(self, permit: Holding) -> None:
        self._tokens -= permit.calls
        self._lent[permit] = permit.calls
        self._total_lent += permit.calls

    def leave(self, permit: Holding, unused: int) -> None:
        lent = self._lent.pop(permit, 0.0)
        self._total_lent = self._total_lent - lent if self._lent else 0.0
        self._tokens += min(unused, lent)

    def _write_off(self, tokens: float) -> None:
        """Let ``tokens`` tokens not come back, of the permits that were admitted first."""
        while tokens > 0 and self._lent:
            permit, lent = self._lent.popitem(last=False)
            gone = min(lent, tokens)
            self._total_lent -= gone
            tokens -= gone
            if gone < lent:
                self._lent[permit] = lent - gone
                self._lent.move_to_end(permit, last=False)

    def opens(self, now: float) -> float:
        return now + (1 - self._tokens) / self._rate

    def succeed(self, before: Any, now: float) -> None:
        before.room(now)  # tokens until now came at its rate
        self._at = before._at
        self._tokens = min(before._tokens, self.size)

    def shift(self, seconds: float) -> None:
        super().shift(seconds)
        self._at += seconds


Rule: TypeAlias = BaseRule

_RULES: dict[str, type[BaseRule]] = {
    PAUSE: PauseRule,
    CONCURRENCY: ConcurrencyRule,
    RATE_LIMIT: RateRule,
}


def expiry(constraint: Constraint, now: float) -> float:
    """When a constraint that is set now expires; inf for never."""
    return math.inf if constraint.ttl is None else now + constraint.ttl


def rule_for(constraint: Constraint, now: float) -> Rule:
    """The state of ``constraint`` from now on."""
    return _RULES[constraint.kind](constraint, expiry(constraint, now))
