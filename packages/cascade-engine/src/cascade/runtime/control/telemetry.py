"""Telemetry: the events of an engine, published on ``<prefix>/telemetry/<run>/<group>/<event>``.

Each is a JSON object, made by ``cascade.runtime.telemetry.wording.as_data``, with ``time``, a Unix
time, and without the arguments of items. Events outside of runs have the engine's name in place of
the run. Loops report their steps at intervals by ``StepsMade``. If a group has thousands of events
per second, some are left out and counted: more would be of no use to a reader, and a run must not
wait for a network.
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

#: Group → its types of events; a subclass belongs to the group of its base.
GROUPS: Final[dict[str, tuple[type[Event], ...]]] = {
    "run": (events.RunStarted, events.RunFinished, events.NodesPlanned, events.CodeChanged),
    "task": (events.TaskEvent,),
    "resource": (events.ResourceEvent,),
    "steps": (events.StepsMade,),
    "constraint": (events.ConstraintEvent,),
    "control": (events.ControlEvent,),
}
#: The groups that are published by default. An event for each call, as those of ``task`` are, costs
#: several times as much as a trivial call.
USUAL: Final = tuple(group for group in GROUPS if group != "task")
#: Most published events of a group per second.
MOST_PER_SECOND = 500


class Telemetry:
    """Publishes events until it is closed. In the loop's thread.

    Args:
        bus: The source of the events.
        connector: Publishes them.
        prefix: First levels of the topics.
        name: The name of the engine.
        groups: Names in GROUPS.
        texts: Redacts each text before it is published.

    Attributes:
        left_out: Events that were not published because there were too many.

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
        #: Group → number of its events in the current second.
        self._came: Counter[str] = Counter()
        groups = check_groups(groups)
        self._cancels: list[Callable[[], object]] = [
            bus.subscribe(kind, self._teller(group)) for group in groups for kind in GROUPS[group]
        ]

    def close(self) -> None:
        """Publish no more events."""
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
            if "item" in data:
                del data["item"]["arguments"]  # which this does not publish
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
        ArgumentError: A name is unknown.
    """
    found = (groups,) if isinstance(groups, str) else tuple(dict.fromkeys(groups))
    for group in found:
        if group not in GROUPS:
            hint = did_you_mean(group, GROUPS) if isinstance(group, str) else ""
            raise ArgumentError(
                f"the groups of telemetry are {', '.join(map(repr, GROUPS))}, but got "
                f"{short(group)}{hint}"
            )
    return found
