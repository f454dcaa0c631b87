"""OpenTelemetry: the spans and the metrics of runs, as an exporter of the SDK gets them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import cascade as cs
from cascade.runtime.telemetry.otel import OpenTelemetry

pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk: pip install it")

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

PATHS = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


class Telemetry:
    """The providers of a test, and what they have received."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self.tracers.get_tracer("tests")

    def options(self, **more: Any) -> OpenTelemetry:
        return OpenTelemetry(tracer_provider=self.tracers, meter_provider=self.meters, **more)

    @property
    def spans(self) -> list[Any]:
        """All that have ended, in the order of their start."""
        return sorted(self._spans.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def way(self, span: Any) -> list[str]:
        """The names of a span and of those above it."""
        by_id = {one.context.span_id: one for one in self.spans}
        names = [span.name]
        while span.parent is not None:
            span = by_id[span.parent.span_id]
            names.append(span.name)
        return names

    def points(self, metric: str) -> dict[tuple[Any, ...], Any]:
        """Values of the attributes of a metric → its point."""
        data: Any = self._reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        (found,) = [one for one in metrics if one.name == metric]
        return {tuple(point.attributes.values()): point for point in found.data.data_points}


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.meters.shutdown()
    made.tracers.shutdown()


def code_of(span: Any) -> str:
    name: str = span.status.status_code.name
    return name


@cs.task
def plain(x):
    return x


@cs.task(mode="inline")
def inline(x):
    return x


@cs.task
async def later(x):
    await asyncio.sleep(0)
    return x


@PATHS
@pytest.mark.parametrize("task", [plain, inline, later], ids=lambda task: task.name)
def test_run_node_and_attempt_are_one_below_the_other(
    task: Any, use_vm: bool, telemetry: Telemetry
) -> None:
    node = task(1)
    cs.run(node, use_vm=use_vm, otel=telemetry.options(), run_id="one")
    name = task.name
    (attempt,) = telemetry.named(f"{name} attempt")
    assert telemetry.way(attempt) == [f"{name} attempt", name, f"run {name}"]
    assert dict(attempt.attributes) == {"cascade.attempt": 1, "cascade.step": 0}
    (span,) = telemetry.named(name)
    assert dict(span.attributes) == {"cascade.task": name, "cascade.node": node.number}
    (run,) = telemetry.named(f"run {name}")
    assert dict(run.attributes) == {
        "cascade.run_id": "one",
        "cascade.target": name,
        "cascade.strategy": "vm" if use_vm else "graph",
        "cascade.status": "succeeded",
        "cascade.steps": 0,
    }
    assert run.start_time <= span.start_time <= attempt.start_time
    assert attempt.end_time <= span.end_time <= run.end_time


@PATHS
def test_nodes_that_a_task_returns_are_below_it(use_vm: bool, telemetry: Telemetry) -> None:
    @cs.task
    def deeper(x):
        return [plain(x), later.map(x=[x])]

    @cs.task
    def outer(x):
        return [deeper(x)]

    cs.run(outer(1), use_vm=use_vm, otel=telemetry.options())
    for name in ("plain", "later"):
        (span,) = telemetry.named(name)
        assert telemetry.way(span) == [name, "deeper", "outer", "run outer"]
    (span,) = telemetry.named("later")
    assert span.attributes["cascade.item"] == 0


@PATHS
def test_nodes_that_a_tail_call_needs_are_below_its_node(
    use_vm: bool, telemetry: Telemetry
) -> None:
    @cs.task
    def agent(n, answer=None):
        return agent.tail(n - 1, answer=plain(n)) if n else answer

    assert cs.run(agent(2), use_vm=use_vm, otel=telemetry.options()) == 1
    ways = [telemetry.way(span) for span in telemetry.named("plain")]
    assert ways == [["plain", "agent", "run agent"]] * 2


@PATHS
@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_spans_of_the_users_code_are_below_the_attempt(
    is_async: bool, use_vm: bool, telemetry: Telemetry
) -> None:
    if is_async:

        @cs.task
        async def work(x):
            await asyncio.sleep(0)
            with telemetry.tracer.start_as_current_span("own"):
                await asyncio.sleep(0)
    else:

        @cs.task
        def work(x):
            with telemetry.tracer.start_as_current_span("own"):
                pass

    cs.run(work.map(x=[1, 2, 3]), use_vm=use_vm, otel=telemetry.options())
    ways = [telemetry.way(span) for span in telemetry.named("own")]
    assert ways == [["own", "work attempt", "work", "run work.map"]] * 3
    parents = {span.parent.span_id for span in telemetry.named("own")}
    assert len(parents) == 3


@PATHS
async def test_a_run_is_below_the_span_or_the_task_that_starts_it(
    use_vm: bool, telemetry: Telemetry
) -> None:
    async with cs.Engine(otel=telemetry.options()) as engine:

        @cs.task
        async def outer():
            handle = engine.start(later(1), use_vm=use_vm)
            return [await engine.run(plain(2), use_vm=use_vm), await handle.result()]

        with telemetry.tracer.start_as_current_span("request"):
            assert await engine.run(outer(), use_vm=use_vm) == [2, 1]
        assert trace.get_current_span() is trace.INVALID_SPAN
    above = ["outer attempt", "outer", "run outer", "request"]
    for name in ("plain", "later"):
        (run,) = telemetry.named(f"run {name}")
        assert telemetry.way(run) == [f"run {name}", *above]


@PATHS
def test_each_attempt_has_a_span_with_its_error(use_vm: bool, telemetry: Telemetry) -> None:
    errors = [OSError("a"), OSError("b"), None]

    @cs.task
    def flaky():
        error = errors.pop(0)
        if error is not None:
            raise error

    retry = cs.Retry(3, delay=0.01)
    cs.run(flaky().with_retry(retry), use_vm=use_vm, otel=telemetry.options())
    attempts = telemetry.named("flaky attempt")
    assert [span.attributes["cascade.attempt"] for span in attempts] == [1, 2, 3]
    assert [code_of(span) for span in attempts] == ["ERROR", "ERROR", "UNSET"]
    assert [event.name for event in attempts[0].events] == ["exception"]
    (node,) = telemetry.named("flaky")
    assert code_of(node) == "UNSET"
    assert node.attributes["cascade.waited"] >= 0.02


@PATHS
def test_a_failure_is_that_of_attempt_node_and_run(use_vm: bool, telemetry: Telemetry) -> None:
    @cs.task
    async def broken():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cs.run(broken(), use_vm=use_vm, otel=telemetry.options())
    for name in ("broken attempt", "broken", "run broken"):
        (span,) = telemetry.named(name)
        assert (code_of(span), span.status.description) == ("ERROR", "ValueError: no")


async def test_what_is_cancelled_ends_as_cancelled(telemetry: Telemetry) -> None:
    began = asyncio.Event()

    @cs.task
    async def waits():
        began.set()
        await asyncio.Event().wait()

    async with cs.Engine(otel=telemetry.options()) as engine:
        handle = engine.start(waits())
        await began.wait()
        handle.cancel()
        with pytest.raises(cs.errors.RunCancelledError):
            await handle.result()
    for name in ("waits attempt", "waits"):
        (span,) = telemetry.named(name)
        assert (code_of(span), span.attributes["cascade.outcome"]) == ("UNSET", "cancelled")
    (run,) = telemetry.named("run waits")
    assert run.attributes["cascade.status"] == "cancelled"


@PATHS
def test_steps_are_sampled_and_linked_to_the_one_before(use_vm: bool, telemetry: Telemetry) -> None:
    @cs.task
    def count(n):
        if n == 5:
            with telemetry.tracer.start_as_current_span("own"):
                pass
        return count.tail(n - 1) if n else None

    cs.run(count(100), use_vm=use_vm, otel=telemetry.options(step_interval=3600))
    steps = telemetry.named("count attempt")
    assert [span.attributes["cascade.step"] for span in steps] == list(range(16))
    links = [[link.context.span_id for link in span.links] for span in steps]
    assert links == [[], *([span.context.span_id] for span in steps[:-1])]
    assert {span.attributes["cascade.outcome"] for span in steps} == {"continues"}
    (own,) = telemetry.named("own")
    assert telemetry.way(own) == ["own", "count", "run count"]
    (run,) = telemetry.named("run count")
    assert run.attributes["cascade.steps"] == 100


def test_later_steps_have_spans_at_intervals(telemetry: Telemetry) -> None:
    @cs.task
    async def count(n):
        return count.tail(n - 1) if n else None

    cs.run(count(40), otel=telemetry.options(step_interval=0))
    assert len(telemetry.named("count attempt")) == 41


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_without_spans_of_steps_loops_are_compiled(is_async: bool, telemetry: Telemetry) -> None:
    if is_async:

        @cs.task
        async def count(n):
            await asyncio.sleep(0)
            return count.tail(n - 1) if n else trace.get_current_span()
    else:

        @cs.task
        def count(n):
            return count.tail(n - 1) if n else trace.get_current_span()

    target = count(100)
    current = cs.run(target, use_vm=True, otel=telemetry.options(steps=False))
    assert [span.name for span in telemetry.spans] == ["run count", "count"]
    run, node = telemetry.spans
    assert current.get_span_context() == run.context
    assert node.parent == run.context
    assert node.attributes["cascade.node"] == target.number
    assert run.start_time <= node.start_time < node.end_time <= run.end_time


def test_a_call_in_another_process_has_its_attempt_here(telemetry: Telemetry) -> None:
    cs.run(elsewhere(3), otel=telemetry.options())
    (attempt,) = telemetry.named("elsewhere attempt")
    assert telemetry.way(attempt) == ["elsewhere attempt", "elsewhere", "run elsewhere"]


@cs.task(mode="process")
def elsewhere(x):
    return x


@PATHS
def test_metrics_count_runs_tasks_steps_and_durations(use_vm: bool, telemetry: Telemetry) -> None:
    @cs.task
    def count(n):
        return count.tail(n - 1) if n else 0

    @cs.task(retry=cs.Retry(2, delay=0.01))
    def broken():
        raise OSError

    cached = plain(1).with_cache(cs.LRUCache())
    target = [later.map(x=[1, 2]), count(5), plain(1).run_if(count(0)).or_else(0), cached]
    target += [broken().catch(OSError)]
    cs.run(target, use_vm=use_vm, otel=telemetry.options())

    def counts(metric: str) -> dict[Any, int]:
        return {key: point.count for key, point in telemetry.points(metric).items()}

    def sums(metric: str) -> dict[Any, float]:
        return {key: point.value for key, point in telemetry.points(metric).items()}

    assert counts("cascade.run.duration") == {("gather", "succeeded"): 1}
    assert counts("cascade.task.duration") == {
        ("later", "finished"): 2,
        ("count", "finished"): 2,
        ("plain", "finished"): 1,
        ("broken", "failed"): 1,
    }
    assert sums("cascade.runs.active") == {(): 0}
    assert sums("cascade.task.retries") == {("broken",): 1}
    assert sums("cascade.task.uncalled") == {("plain", "skipped"): 1}
    assert telemetry.points("cascade.task.wait")["broken",].sum >= 0.01
    (steps,) = sums("cascade.steps").values()
    (run,) = telemetry.named("run gather")
    assert steps == run.attributes["cascade.steps"] >= 5


async def test_programs_and_many_runs_at_once_are_kept_apart(telemetry: Telemetry) -> None:
    async with cs.Engine(otel=telemetry.options()) as engine:
        program = engine.compile(plain(later(cs.Param("x", type=int))))
        found = await asyncio.gather(*(program.run(x=n) for n in range(20)))
    assert found == list(range(20))
    assert trace.get_current_span() is trace.INVALID_SPAN
    ways = {tuple(telemetry.way(span)) for span in telemetry.named("plain attempt")}
    assert ways == {("plain attempt", "plain", "run plain")}
    assert len({span.context.trace_id for span in telemetry.spans}) == 20


async def test_a_closed_engine_listens_no_more(telemetry: Telemetry) -> None:
    async with cs.Engine(otel=telemetry.options()) as engine:
        assert not engine.bus.is_silent
    assert engine.bus.is_silent


def test_the_middlewares_of_the_user_are_inside_of_the_attempt(telemetry: Telemetry) -> None:
    def notes(call):
        trace.get_current_span().set_attribute("noted", threading.current_thread().name)
        return (yield)

    cs.run(plain(1), middleware=[notes], otel=telemetry.options())
    (attempt,) = telemetry.named("plain attempt")
    assert "noted" in attempt.attributes


def test_other_values_of_the_option_are_refused() -> None:
    with pytest.raises(cs.errors.ArgumentError, match=r"otel= takes True or an OpenTelemetry"):
        cs.Engine(otel="yes")  # type: ignore[arg-type]


_WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
import cascade as cs
cs.Engine()
try:
    cs.Engine(otel=True)
except ImportError as error:
    print(error)
"""


def test_without_the_library_the_option_says_what_to_install() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _WITHOUT], capture_output=True, text=True, check=True
    )
    assert ran.stdout == 'otel= needs OpenTelemetry: pip install "cascade-engine[otel]"\n'


def test_an_engine_without_the_option_imports_nothing_of_it() -> None:
    script = (
        "import sys, cascade as cs; cs.run(cs.task(abs)(-1)); print('opentelemetry' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
