"""RunEvents: the events of a run, and the count of its steps, from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from cascade.graph.build import inputs_of
from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    Event,
    InputsAwaited,
    NodesPlanned,
    StepsMade,
    TaskFailed,
    TaskFinished,
    TaskSkipped,
    TaskStarted,
)
from cascade.runtime.execution.event_loop_calls import EventLoopCalls
from cascade.runtime.execution.finished_tasks import FinishedTasks
from cascade.runtime.execution.step_counter import Batch, Steps
from cascade.runtime.lazily import lazily
from cascade.runtime.options import RunSettings, new_id
from cascade.spec.lazy_types import LazyResult
from cascade.spec.map_items import item_of


class RunEvents:
    """Publishes the events of one run. Made in its event loop's thread.

    Args:
        settings: The run's options.
        bus: Publishes the events.
        step_interval: Least seconds between two StepsMade events.
    """

    # Class attributes, as few runs change them: an object with fewer attributes is made faster.
    _flush_planned = False
    _will_tell = False
    _next_tell: asyncio.TimerHandle | None = None

    def __init__(self, settings: RunSettings, bus: MessageBus, step_interval: float) -> None:
        self.settings = settings
        self.bus = bus
        self.loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._step_interval = step_interval
        self._began = self.loop.time()

    @property
    def fail_fast(self) -> bool:
        """Whether the first error ends the run (R9)."""
        return self.settings.fail_fast

    @property
    def max_rounds(self) -> int | None:
        """Most rounds of each node (M20), or None."""
        return self.settings.max_rounds

    @property
    def priority(self) -> int:
        """Added to the priorities of its nodes (M24)."""
        return self.settings.priority

    @lazily
    def id(self) -> str:
        """Names the run in events."""
        return self.settings.run_id or new_id()

    @lazily
    def event_loop_calls(self) -> EventLoopCalls:
        """The calls that threads hand to the event loop."""
        return EventLoopCalls(self.loop)

    @lazily
    def steps(self) -> Steps:
        """The steps of its loops."""
        every, clock = self._step_interval, self.loop.time
        return Steps(self.settings.max_steps, every, clock, self._began)

    @lazily
    def _published(self) -> deque[Event]:
        """Events that the loop's thread has yet to publish."""
        return deque()

    @lazily
    def _finished(self) -> FinishedTasks:
        """Counts the tasks that have finished, for subscribers of sums."""
        return FinishedTasks(self.id, self.bus, partial(self.call_in_loop, self._flush))

    def end_events(self) -> None:
        """Publish the last events; no step is reported any more. In the loop's thread."""
        if self._next_tell is not None:
            self._next_tell.cancel()
        if "_published" in self.__dict__ or "_finished" in self.__dict__:
            self._flush()

    def is_own_thread(self, ident: int) -> bool:
        """Whether ``ident`` is the thread of the run's event loop."""
        return ident == self._thread

    @property
    def watches_tasks(self) -> bool:
        """Whether events of tasks have subscribers, so that times must be measured."""
        wants = self.bus.wants
        return wants(TaskStarted) or wants(TaskFinished) or wants(TaskFailed) or wants(TaskSkipped)

    def publish(self, event_type: type[Event], *details: Any, **more: Any) -> None:
        """Publish an event of this run, from any thread, if there are subscribers.

        Handlers that take events at once are called now, and the others in the loop's thread, in
        the order of these calls.
        """
        if self.bus.is_silent or not self.bus.wants(event_type):
            return
        event = event_type(self.id, *details, **more)
        if self.bus.any_at_once and not self.bus.publish_at_once(event):
            return
        self._published.append(event)
        if threading.get_ident() == self._thread:
            self._flush()
        elif not self._flush_planned:
            self._flush_planned = True
            self.event_loop_calls.add_along(self._flush)

    def count_finished(self) -> Callable[[], None]:
        """A function that counts a finished task for ``TasksFinished``. From any thread."""
        return self._finished.one_more

    def _flush(self) -> None:
        self._flush_planned = False
        finished = self.__dict__.get("_finished")
        if finished is not None:
            finished.tell()
        while self._published:
            self.bus.publish_later(self._published.popleft())

    def call_in_loop(self, function: Callable[..., object], *args: Any) -> None:
        """Call ``function`` in the loop's thread, soon. From any thread."""
        if threading.get_ident() == self._thread:
            self.loop.call_soon(function, *args)
        else:
            self.event_loop_calls.add(function, *args)

    def step(self, task: str) -> None:
        """Count a step of ``task``. From any thread.

        Raises:
            StepLimitError: It is one too many.
        """
        if self.steps.one(task):
            self.tell_of_steps(task)
        elif not self.bus.is_silent:
            self.tell_soon(task)

    def made(self, count: int, task: str, batch: Batch) -> None:
        """Count the steps of a batch of a loop of ``task``. In the event loop's thread.

        Raises:
            StepLimitError: They are too many.
        """
        if self.steps.many(count, task, batch):
            self.tell_of_steps(task)

    def limits_changed(self) -> None:
        """End the batches of loops, so that the next ones obey new limits. From any thread."""
        steps = self.__dict__.get("steps")
        if steps is None:
            return
        if self.is_own_thread(threading.get_ident()):
            steps.end_batches()  # now; steps that are ready already were made before
            return
        with suppress(RuntimeError):  # the event loop is closed
            self.loop.call_soon_threadsafe(steps.end_batches)

    def tell_soon(self, task: str) -> None:
        """Report the steps of ``task`` at the next interval, whatever follows. From any thread."""
        if self._will_tell or not self.bus.wants(StepsMade):
            return
        self._will_tell = True
        if self.is_own_thread(threading.get_ident()):
            self._tell_later(task)
        else:
            self.event_loop_calls.add_along(self._tell_later, task)

    def _tell_later(self, task: str) -> None:
        self._next_tell = self.loop.call_later(self.steps.next_tell(), self._tell, task)

    def _tell(self, task: str) -> None:
        self._will_tell = False
        if self.steps.tell(task):
            self.tell_of_steps(task)

    def tell_of_steps(self, task: str) -> None:
        """Publish the number of steps, if there are subscribers."""
        if self.bus.wants(StepsMade):
            self.publish(StepsMade, task, self.steps.count, self.steps.per_second)

    def report_plan(self, nodes: Callable[[], Iterable[LazyResult[Any]]]) -> None:
        """Publish the nodes added to the run, if there are subscribers."""
        if self.bus.is_silent:
            return
        if self.bus.wants(NodesPlanned):
            self.publish(NodesPlanned, sum(not lazy.task.structural for lazy in nodes()))
        if self.bus.wants(InputsAwaited):
            for lazy in nodes():
                inputs = dict.fromkeys(source.name for source in inputs_of(lazy))
                if inputs and not lazy.task.structural:
                    self.publish(
                        InputsAwaited, lazy.name, lazy.number, tuple(inputs), item=item_of(lazy)
                    )
