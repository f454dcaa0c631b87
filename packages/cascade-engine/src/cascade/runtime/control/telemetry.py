"""Telemetry: the events of an engine, told on ``<prefix>/telemetry/<run>/<group>/<event>``.

Each is a JSON object, as ``cascade.runtime.telemetry.wording.as_data`` makes it, with ``time``, a
Unix time. What happens outside of a run stands under the engine's name. Loops tell of their steps
as ``StepsMade`` does, now and then. Of a group whose events come by the thousand some are left
out, and counted: nobody reads more, and a run must not wait for a network.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from cascade.runtime import events
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import Event
from cascade.runtime.telemetry.texts import Texts
from cascade.runtime.telemetry.wording import as_data
from cascade.spec.errors import ArgumentError
from cascade.spec.nearby import did_you_mean
from cascade.spec.protocols import Connector
from cascade.spec.wording import short

#: Group → what it has; a subclass of one of these has its group.
GROUPS: Final[dict[str, tuple[type[Event], ...]]] = {
    "run": (events.RunStarted, events.RunFinished, events.NodesPlanned),
    "task": (events.TaskEvent,),
    "resource": (events.ResourceEvent,),
    "steps": (events.StepsMade,),
    "constraint": (events.ConstraintEvent,),
    "control": (events.ControlEvent,),
}
#: Events of one group that are told in a second.
MOST_PER_SECOND = 500


class Telemetry:
    """Tells of what happens, until it is closed. In the loop's thread.

    Args:
        bus: Has the events.
        connector: Gets them.
        prefix: Of the topics.
        name: Of the engine.
        groups: Which of GROUPS.
        texts: What is done to each text before it leaves.

    Attributes:
        left_out: Events that were not told of, because there were too many.

    Raises:
        ArgumentError: There is no such group.
    """

    def __init__(
        self,
        bus: MessageBus,
        connector: Connector,
        prefix: str,
        name: str,
        groups: Iterable[str],
        texts: Texts | None = None,
    ) -> None:
        self._texts = Texts() if texts is None else texts
        self._connector = connector
        self._prefix = f"{prefix}/telemetry"
        self._name = name
        self.left_out = 0
        self._second = 0
        #: Group → how many of its events came in that second.
        self._came: Counter[str] = Counter()
        groups = check_groups(groups)
        self._cancels: list[Callable[[], object]] = [
            bus.subscribe(kind, self._teller(group)) for group in groups for kind in GROUPS[group]
        ]

    def close(self) -> None:
        """Tell of nothing any more."""
        for cancel in self._cancels:
            cancel()
        self._cancels.clear()

    def _teller(self, group: str) -> Callable[[Event], None]:
        def tell(event: Event) -> None:
            now = time.time()
            if not self._may_tell(group, int(now)):
                self.left_out += 1
                return
            about = event.run_id or self._name
            topic = f"{self._prefix}/{about}/{group}/{type(event).__name__}"
            data = as_data(event)
            named = {"event": data.pop("event"), "run_id": data.pop("run_id")}
            body = {**named, **self._texts.data(data), "time": now}
            self._connector.publish(topic, json.dumps(body, allow_nan=False).encode())

        return tell

    def _may_tell(self, group: str, second: int) -> bool:
        if second != self._second:
            self._second, self._came = second, Counter()
        self._came[group] += 1
        return self._came[group] <= MOST_PER_SECOND


def check_groups(groups: Iterable[str]) -> tuple[str, ...]:
    """The names of groups, each once.

    Raises:
        ArgumentError: One is none.
    """
    found = (groups,) if isinstance(groups, str) else tuple(dict.fromkeys(groups))
    for group in found:
        if group not in GROUPS:
            hint = did_you_mean(group, GROUPS) if isinstance(group, str) else ""
            raise ArgumentError(
                f"telemetry has the groups {', '.join(map(repr, GROUPS))}, but got "
                f"{short(group)}{hint}"
            )
    return found
