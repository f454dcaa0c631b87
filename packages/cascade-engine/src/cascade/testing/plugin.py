"""The plugin for pytest. It imports nothing of Cascade before a test takes one of its fixtures."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cascade.testing.engines import VirtualEngine
    from cascade.testing.events import EventRecorder
    from cascade.testing.overrides import override
    from cascade.testing.virtual import VirtualTime


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("cascade").addoption(
        "--record-runs",
        action="store_true",
        help="write the recordings of the fixture recorded_run anew, and compare nothing",
    )


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """End the test run if SIGTERM or SIGHUP has ended a ``cs.run`` in a test.

    pytest takes the SystemExit for a failure of that one test, and would go on.
    """
    interrupts, doctest = map(sys.modules.get, ("cascade.runtime.execution.interrupts", "doctest"))
    if interrupts is None or call.excinfo is None:
        return
    error: Any = call.excinfo.value
    if doctest is not None and isinstance(error, doctest.UnexpectedException):
        error = error.exc_info[1]  # raised by an example in a docstring
    if isinstance(error, interrupts.Terminated):
        item.session.shouldstop = f"{error.signal.name} has ended {item.nodeid}"


@pytest.fixture
def virtual_time(request: pytest.FixtureRequest) -> VirtualTime:
    """Virtual time from 0, with random numbers from seed 0.

    For other seeds: ``@pytest.mark.parametrize("virtual_time", [1, 2, 3], indirect=True)``.
    """
    from cascade.testing.virtual import VirtualTime

    return VirtualTime(getattr(request, "param", 0))


@pytest.fixture
def make_virtual_engine() -> Iterator[Callable[..., VirtualEngine]]:
    """``make_virtual_engine(**options)``: an engine in virtual time, closed after the test."""
    from cascade.testing.engines import VirtualEngine

    with ExitStack() as stack:
        yield lambda seed=0, **options: stack.enter_context(VirtualEngine(seed, **options))


@pytest.fixture
def virtual_engine(make_virtual_engine: Callable[..., VirtualEngine]) -> VirtualEngine:
    """An engine in virtual time, with the options that engines have by default."""
    return make_virtual_engine()


@pytest.fixture
def override_tasks() -> Iterator[Callable[..., override]]:
    """``override_tasks(target, value=…)``: an ``override`` until the end of the test."""
    from cascade.testing.overrides import override

    with ExitStack() as stack:
        yield lambda target, **by: stack.enter_context(override(target, **by))


@pytest.fixture
def record_events() -> Iterator[Callable[[Any], EventRecorder]]:
    """``record_events(engine)``: a recorder of its events until the end of the test."""
    from cascade.testing.events import EventRecorder

    with ExitStack() as stack:
        yield lambda engine: stack.enter_context(EventRecorder(engine.bus))


@pytest.fixture
def recorded_run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """``recorded_run(target, params, …)``: runs a target, and compares it with its recording.

    The recording is a file beside the test, ``recordings/test_module/test_name.json``; ``pytest
    --record-runs`` writes it. Arguments: ``name`` of the file if a test has several; ``replay``,
    names of tasks whose values come from the recording; ``run``, by default ``cs.run``; and options
    of that.
    """
    folder = request.path.parent / "recordings" / request.path.stem
    given = re.sub(r"[^\w.=,-]+", "-", request.node.name).strip("-")
    writes = request.config.getoption("record_runs")

    def run_it(
        target: Any,
        params: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        replay: Collection[str] = (),
        **options: Any,
    ) -> Any:
        from cascade.testing.recording import Recording, record_run

        file = folder / f"{name or given}.json"
        if writes:
            made, value = record_run(target, params, **options)
            made.save(file)
            return value
        if not file.exists():
            pytest.fail(f"there is no recording {file}; write it: pytest --record-runs", False)
        recording = Recording.load(file)
        with recording.replaying(*replay):
            now, value = record_run(target, params, **options)
        try:
            recording.assert_same(now, f"the run of {request.node.name}")
        except AssertionError as error:
            pytest.fail(f"{error}\nif that is right: pytest --record-runs", False)
        return value

    return run_it
