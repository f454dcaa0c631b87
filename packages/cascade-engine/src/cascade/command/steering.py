"""``cascade pause``, ``resume`` and ``limit``: constraints for running engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from cascade.command.failures import UsageError
from cascade.command.remote import Broker, Patience, Prefix, engines_at, wait_for

if TYPE_CHECKING:
    from cascade.command.remote import Engines
    from cascade.runtime.control.status import EngineStatus
    from cascade.runtime.limits.rules import Constraint
    from cascade.spec.protocols import Connector

Scope = Annotated[
    str, Parameter(help="global, or task: and a pattern for names of tasks, such as task:fetch_*.")
]
Ttl = Annotated[
    float | None,
    Parameter(
        metavar="SECONDS", help="Remove it after so long; by default it stays until removed."
    ),
]
#: Most names of engines in a line.
_NAMES_SHOWN = 20
_RATE, _CONCURRENCY, _PAUSE = "rate_limit", "concurrency", "pause"


def pause(
    scope: Scope = "global",
    /,
    *,
    ttl: Ttl = None,
    broker: Broker = None,
    prefix: Prefix = "cascade",
    wait: Patience = 2.0,
) -> int:
    """Start no attempts of tasks and no steps of loops; running calls continue.

    Exit code 1 if no engine confirms it.
    """
    return _set(_constraint(scope, _PAUSE, None, ttl=ttl), broker, prefix, wait)


def resume(
    scope: Scope = "global",
    /,
    *,
    broker: Broker = None,
    prefix: Prefix = "cascade",
    wait: Patience = 2.0,
) -> int:
    """Remove the pause of exactly this scope."""
    return _remove(scope, [_PAUSE], broker, prefix, wait)


def concurrency(
    scope: Scope,
    most: Annotated[int, Parameter(help="Most attempts at the same time.")],
    /,
    *,
    ttl: Ttl = None,
    broker: Broker = None,
    prefix: Prefix = "cascade",
    wait: Patience = 2.0,
) -> int:
    """Run at most so many attempts at the same time."""
    return _set(_constraint(scope, _CONCURRENCY, most, ttl=ttl), broker, prefix, wait)


def rate(
    scope: Scope,
    value: Annotated[str, Parameter(name="RATE", help="Such as 10/s, 300/m, 1000/h or 5000/d.")],
    /,
    *,
    burst: Annotated[
        int, Parameter(metavar="COUNT", help="Most attempts that start at once after a quiet time.")
    ] = 1,
    ttl: Ttl = None,
    broker: Broker = None,
    prefix: Prefix = "cascade",
    wait: Patience = 2.0,
) -> int:
    """Start attempts, and steps of loops, at most at this rate."""
    return _set(_constraint(scope, _RATE, value, burst=burst, ttl=ttl), broker, prefix, wait)


def off(
    scope: Scope,
    kind: Annotated[
        Literal["concurrency", "rate"] | None, Parameter(help="Left out: both.")
    ] = None,
    /,
    *,
    broker: Broker = None,
    prefix: Prefix = "cascade",
    wait: Patience = 2.0,
) -> int:
    """Remove the limits of exactly this scope."""
    kinds = {"concurrency": [_CONCURRENCY], "rate": [_RATE], None: [_CONCURRENCY, _RATE]}[kind]
    return _remove(scope, kinds, broker, prefix, wait)


limit = App(name="limit", help="Limit how many tasks run at once, or how often.")
for _command in (concurrency, rate, off):
    limit.command(_command, name=_command.__name__)


def _constraint(
    scope: str, kind: str, value: int | str | None, burst: int = 1, ttl: float | None = None
) -> Constraint:
    from cascade.runtime.limits.rules import Constraint
    from cascade.spec.errors import ArgumentError

    try:
        return Constraint(scope, kind, value, burst, ttl)
    except ArgumentError as error:
        raise UsageError(str(error)) from None


def _set(constraint: Constraint, broker: str | None, prefix: str, wait: float) -> int:
    return wait_for(_publish(setting(constraint), broker, prefix, wait))


def _remove(scope: str, kinds: list[str], broker: str | None, prefix: str, wait: float) -> int:
    return wait_for(_publish(removing(scope, kinds), broker, prefix, wait))


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the constraints of all engines.

    Attributes:
        scope: Its scope.
        payloads: Kind → the message for it.
        holds: Whether an engine with a status has made the change.
        said: The change in words.
    """

    scope: str
    payloads: Mapping[str, bytes]
    holds: Callable[[EngineStatus], bool]
    said: str


def setting(constraint: Constraint) -> Change:
    """The change that sets a constraint."""
    from cascade.runtime.control.messages import payload_for

    def is_there(status: EngineStatus) -> bool:
        return any(
            (rule.scope, rule.kind, rule.value) == (*constraint.key, constraint.value)
            for rule in status.constraints
        )

    payloads = {constraint.kind: payload_for(constraint)}
    return Change(constraint.scope, payloads, is_there, str(constraint))


def removing(scope: str, kinds: Sequence[str]) -> Change:
    """The change that removes the constraints of a scope and of some kinds.

    Raises:
        UsageError: There is no such scope.
    """
    from cascade.runtime.control.messages import payload_for
    from cascade.runtime.limits.rules import check_scope
    from cascade.spec.errors import ArgumentError

    try:
        check_scope(scope)
    except ArgumentError as error:
        raise UsageError(str(error)) from None

    def is_gone(status: EngineStatus) -> bool:
        return not any(r.scope == scope and r.kind in kinds for r in status.constraints)

    said = f"no more {' or '.join(kinds)} {scope}"
    return Change(scope, {kind: payload_for(None) for kind in kinds}, is_gone, said)


async def _publish(change: Change, broker: str | None, prefix: str, wait: float) -> int:
    from cascade.command.failures import complain
    from cascade.command.output import show

    _topics(change, prefix)  # refuses before it connects
    async with engines_at(broker, prefix, wait) as (connector, engines):
        done, told = await made(change, connector, engines, prefix, wait)
    if not done:
        return complain(told, 1)
    show(told)
    return 0


async def made(
    change: Change, connector: Connector, engines: Engines, prefix: str, wait: float
) -> tuple[bool, str]:
    """Make a change, and wait for the engines to confirm it; whether that went well, in words.

    Raises:
        UsageError: The scope cannot be sent.
    """
    topics = _topics(change, prefix)
    asked = {status.engine for status in engines.alive}
    before = {status.engine: status.time for status in engines.alive}
    for topic, payload in topics.items():
        connector.publish(topic, payload, retain=True)
    obeyed = await _obeyed(engines, asked, before, change.holds, wait)
    have_ended = bool(asked - engines.known)
    asked &= engines.known
    told = f"{change.said}: {_told(asked, obeyed, have_ended)}"
    # A limit may be set for future engines; a pause is for running ones.
    return not (not obeyed and (asked or change.said.startswith(_PAUSE))), told


def _topics(change: Change, prefix: str) -> dict[str, bytes]:
    """Topic → message."""
    from cascade.runtime.control.messages import topic_for
    from cascade.spec.errors import ArgumentError

    try:
        return {
            topic_for(prefix, change.scope, kind): text for kind, text in change.payloads.items()
        }
    except ArgumentError as error:
        raise UsageError(str(error)) from None


async def _obeyed(
    engines: Engines,
    asked: set[str],
    before: dict[str, float],
    holds: Callable[[EngineStatus], bool],
    wait: float,
) -> set[str]:
    """The names of the engines that confirm it."""

    def obeying() -> set[str]:
        return {
            status.engine
            for status in engines.alive
            if status.engine in asked and status.time > before[status.engine] and holds(status)
        }

    # An engine that ends meanwhile need not confirm.
    await engines.until(lambda: obeying() >= asked & engines.known, wait)
    return obeying()


def _told(asked: set[str], obeyed: set[str], have_ended: bool = False) -> str:
    if not asked and have_ended:
        return "the engines have ended meanwhile; it is published, and holds for those that come"
    if not asked:
        return (
            "no engine is connected, so none confirms it; it is published, and holds for those "
            "that come"
        )
    silent = asked - obeyed
    if not obeyed:
        return f"no engine confirmed it; no answer from {_listed(silent)}"
    told = f"holds for {_listed(obeyed)}"
    return f"{told}; no answer yet from {_listed(silent)}" if silent else told


def _listed(names: set[str]) -> str:
    shown = sorted(names)[:_NAMES_SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
