"""OpenTelemetry: spans and metrics of the runs of an engine; needs ``cascade-engine[otel]``.

The span of a run is the child of the caller's; it is current from the start of the run to its end,
so that a run that a task starts belongs to that task. The span of a node is the child of the node
whose call has returned it, otherwise of the run. The span of an attempt is the child of its node,
and current during the call: spans of the user's own code are its children.

Spans of runs begin and end with events on the bus, those of attempts in a middleware.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from dataclasses import dataclass
from time import monotonic, perf_counter, time_ns
from typing import TYPE_CHECKING, Any, Final

from cascade.runtime.bus import MessageBus
from cascade.runtime.events import (
    Event,
    RunFinished,
    RunStarted,
    StepsMade,
    TaskCached,
    TaskFailed,
    TaskFinished,
    TaskRetrying,
    TaskSkipped,
)
from cascade.runtime.middleware import TaskCall
from cascade.runtime.telemetry.base import Subscriber
from cascade.runtime.telemetry.wording import error_text
from cascade.spec.blueprint import TailCall
from cascade.spec.containers import ATOMS
from cascade.spec.lazy_types import goes_on

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, SpanContext, TracerProvider

try:
    from opentelemetry import context, metrics, trace
except ImportError:  # pragma: no cover - one of the two environments
    context = metrics = trace = None  # type: ignore[assignment]

_NAME: Final = "cascade"
#: Steps of a node that have a span each; later ones only at intervals.
_FIRST_STEPS: Final = 16
#: Nodes that have returned others, of which a run remembers the span.
_MOST_PARENTS: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class OpenTelemetry:
    """How an engine reports to OpenTelemetry: ``cs.Engine(otel=OpenTelemetry(…))``.

    ``cs.Engine(otel=True)`` uses the global providers, and the defaults.

    Attributes:
        tracer_provider: Makes the tracer; the global provider by default.
        meter_provider: Makes the instruments of the metrics; the global one by default.
        steps: Whether steps of loops have spans: the first sixteen of a node, and later ones at
            least ``step_interval`` apart, each linked to the one before. Such loops are not
            compiled. If false, loops are compiled, and spans of the user's code inside of compiled
            steps are children of the run.
        step_interval: Seconds.
    """

    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    steps: bool = True
    step_interval: float = 1.0


class _Node:
    """The span of a node under way.

    Attributes:
        span, within: The span, and a context in which it is current.
        last: The span of the last step that had one.
        next_step: When a further step has a span again, on the clock of ``perf_counter``.
    """

    __slots__ = ("last", "next_step", "span", "within")

    def __init__(self, span: Span, within: Context) -> None:
        self.span, self.within = span, within
        self.last: SpanContext | None = None
        self.next_step = 0.0


class _Run:
    """The span of a run under way, its nodes under way, and the contexts of all its nodes."""

    __slots__ = ("nodes", "parents", "span", "steps", "target", "token", "within")

    def __init__(self, span: Span, within: Context, target: str) -> None:
        self.span, self.within, self.target = span, within, target
        self.token = context.attach(within)
        self.nodes: dict[int, _Node] = {}
        #: The last nodes that have returned others, which are their children.
        self.parents: dict[int, Context] = {}
        self.steps = 0

    def within_node(self, number: int) -> Context:
        """The context of a node that has returned others."""
        node = self.nodes.get(number)
        return self.parents.get(number, self.within) if node is None else node.within

    def returns_others(self, number: int) -> None:
        """A node ends, and others begin that it has returned."""
        if number in self.nodes:
            if len(self.parents) >= _MOST_PARENTS:
                del self.parents[next(iter(self.parents))]
            self.parents[number] = self.nodes[number].within


class Tracing(Subscriber):
    """Reports the runs on a bus; its ``middleware`` the attempts.

    Args:
        bus: The engine's bus.
        options: See there.

    Raises:
        ImportError: OpenTelemetry is not installed.
    """

    def __init__(self, bus: MessageBus, options: OpenTelemetry) -> None:
        if trace is None:
            raise ImportError('otel= needs OpenTelemetry: pip install "cascade-engine[otel]"')
        super().__init__(bus)
        self._tracer = trace.get_tracer(_NAME, tracer_provider=options.tracer_provider)
        self._figures = _Figures(metrics.get_meter(_NAME, meter_provider=options.meter_provider))
        self._interval = options.step_interval
        self.middleware = _Attempts(self, options.steps)
        self._runs: dict[str, _Run] = {}
        self._listen(RunStarted, self._run_started)
        self._listen(TaskFinished, self._finished)
        self._listen(TaskFailed, self._failed)
        self._listen(RunFinished, self._run_finished)
        self._listen(StepsMade, self._steps_made)
        self._listen(TaskRetrying, self._figures.retried)
        self._listen(TaskSkipped, self._figures.skipped)
        self._listen(TaskCached, self._figures.cached)

    # -- runs ---------------------------------------------------------------------------------

    def _run_started(self, event: RunStarted) -> None:
        attributes = {
            "cascade.run_id": event.run_id,
            "cascade.target": event.target,
            "cascade.strategy": event.strategy,
        }
        span = self._tracer.start_span(
            f"run {event.target}", attributes=attributes, start_time=_ns(event)
        )
        within = trace.set_span_in_context(span)
        self._runs[event.run_id] = _Run(span, within, event.target)
        self._figures.active.add(1)

    def _run_finished(self, event: RunFinished) -> None:
        run = self._runs.pop(event.run_id, None)
        if run is None:
            return
        context.detach(run.token)
        for node in run.nodes.values():  # cancelled ones
            node.span.set_attribute("cascade.outcome", "cancelled")
            node.span.end()
        run.span.set_attributes({"cascade.status": event.status, "cascade.steps": event.steps})
        if event.status == "failed" and event.error is not None:
            run.span.set_status(trace.StatusCode.ERROR, error_text(event.error))
        run.span.end(_ns(event))
        self._figures.run_ended(run, event)

    # -- nodes --------------------------------------------------------------------------------

    def node(self, call: TaskCall) -> _Node | None:
        """The node of a call that begins; None if its run began before this listened."""
        run = self._runs.get(call.run_id)
        if run is None:
            return None
        node = run.nodes.get(call.node)
        if node is None:
            within = run.within if call.parent is None else run.within_node(call.parent)
            node = run.nodes[call.node] = self._begun(run, call.task, call.node, call.item, within)
        return node

    def _begun(
        self,
        run: _Run,
        task: str,
        number: int,
        item: int | None,
        within: Context,
        start: int | None = None,
    ) -> _Node:
        attributes: dict[str, Any] = {"cascade.task": task, "cascade.node": number}
        if item is not None:
            attributes["cascade.item"] = item
        span = self._tracer.start_span(
            task, context=within, attributes=attributes, start_time=start
        )
        return _Node(span, trace.set_span_in_context(span, within))

    def returns_others(self, call: TaskCall) -> None:
        """The call has returned something that may be, or have, nodes of its own."""
        run = self._runs.get(call.run_id)
        if run is not None:
            run.returns_others(call.node)

    def _finished(self, event: TaskFinished) -> None:
        node = self._ended(event)
        if node is not None:
            node.span.end(_ns(event))

    def _failed(self, event: TaskFailed) -> None:
        node = self._ended(event)
        if node is not None:
            node.span.set_status(trace.StatusCode.ERROR, error_text(event.error))
            node.span.end(_ns(event))

    def _ended(self, event: TaskFinished | TaskFailed) -> _Node | None:
        """The node of an event, which is under way no more."""
        run = self._runs.get(event.run_id)
        if run is None:
            return None
        node = run.nodes.pop(event.node, None)
        if node is None:  # all of its calls were steps of a compiled loop
            start = _ns(event) - int((event.duration + event.waited) * 1e9)
            item = None if event.item is None else event.item.index
            node = self._begun(run, event.task, event.node, item, run.within, start)
        if event.waited:
            node.span.set_attribute("cascade.waited", event.waited)
        self._figures.task_ended(event)
        return node

    def _steps_made(self, event: StepsMade) -> None:
        run = self._runs.get(event.run_id)
        if run is not None:
            self._figures.made(run, event.steps)

    # -- attempts -----------------------------------------------------------------------------

    def attempt(self, call: TaskCall, node: _Node) -> Span | None:
        """The span of an attempt that begins; None for a step without one."""
        links: tuple[trace.Link, ...] = ()
        if call.step:
            now = perf_counter()
            if call.step >= _FIRST_STEPS and now < node.next_step:
                return None
            node.next_step = now + self._interval
            if node.last is not None and call.attempt == 1:
                links = (trace.Link(node.last),)
        attributes = {"cascade.attempt": call.attempt, "cascade.step": call.step}
        span = self._tracer.start_span(
            f"{call.task} attempt", context=node.within, attributes=attributes, links=links
        )
        node.last = span.get_span_context()
        return span


class _Attempts:
    """The middleware that makes the spans of attempts.

    Attributes:
        each_step: See ``Middlewares``.
    """

    def __init__(self, tracing: Tracing, each_step: bool) -> None:
        self._tracing = tracing
        self.each_step = each_step

    def __call__(self, call: TaskCall) -> Generator[None, Any, Any]:
        tracing = self._tracing
        node = tracing.node(call)
        if node is None:
            return (yield)
        span = tracing.attempt(call, node)
        within = node.within if span is None else trace.set_span_in_context(span, node.within)
        token = context.attach(within)
        try:
            value = yield
        except asyncio.CancelledError:
            if span is not None:
                span.set_attribute("cascade.outcome", "cancelled")
            raise
        except BaseException as error:
            if span is not None:
                span.record_exception(error)
                span.set_status(trace.StatusCode.ERROR, error_text(error))
            raise
        else:
            if type(value) is TailCall:
                if span is not None:
                    span.set_attribute("cascade.outcome", "continues")
            elif type(value) not in ATOMS and goes_on(value):
                tracing.returns_others(call)
            return value
        finally:
            context.detach(token)
            if span is not None:
                span.end()


class _Figures:
    """The metrics of an engine."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.active = meter.create_up_down_counter("cascade.runs.active", "{run}", "Runs under way")
        self._runs = meter.create_histogram("cascade.run.duration", "s", "Duration of runs")
        self._tasks = meter.create_histogram(
            "cascade.task.duration", "s", "Duration of the calls of a node"
        )
        self._waits = meter.create_histogram(
            "cascade.task.wait", "s", "Waits of a node for limits and further attempts"
        )
        self._retries = meter.create_counter(
            "cascade.task.retries", "{attempt}", "Attempts that failed and were followed by another"
        )
        self._uncalled = meter.create_counter(
            "cascade.task.uncalled", "{node}", "Nodes that were skipped or found in a cache"
        )
        self._steps = meter.create_counter(
            "cascade.steps", "{step}", "Tail calls and returned lazy values"
        )

    def run_ended(self, run: _Run, event: RunFinished) -> None:
        self.active.add(-1)
        self.made(run, event.steps)
        named = {"cascade.target": run.target, "cascade.status": event.status}
        self._runs.record(event.duration, named)

    def made(self, run: _Run, steps: int) -> None:
        """``run`` has made so many steps by now."""
        if steps > run.steps:
            self._steps.add(steps - run.steps, {"cascade.target": run.target})
            run.steps = steps

    def task_ended(self, event: TaskFinished | TaskFailed) -> None:
        outcome = "finished" if isinstance(event, TaskFinished) else "failed"
        self._tasks.record(event.duration, {"cascade.task": event.task, "cascade.outcome": outcome})
        if event.waited:
            self._waits.record(event.waited, {"cascade.task": event.task})

    def retried(self, event: TaskRetrying) -> None:
        self._retries.add(1, {"cascade.task": event.task})

    def skipped(self, event: TaskSkipped) -> None:
        self._uncalled.add(1, {"cascade.task": event.task, "cascade.outcome": "skipped"})

    def cached(self, event: TaskCached) -> None:
        self._uncalled.add(1, {"cascade.task": event.task, "cascade.outcome": "cached"})


def _ns(event: Event) -> int:
    """The time of an event, in nanoseconds since 1970."""
    return time_ns() - int((monotonic() - event.at) * 1e9)
