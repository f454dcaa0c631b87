"""``cascade.runtime.clock``: virtual time."""

from __future__ import annotations

import asyncio
import threading

import pytest

from cascade.runtime import clock
from cascade.runtime.clock import VirtualLoop, run_virtually
from cascade.spec.errors import StalledError


def test_sleeping_takes_virtual_time_only():
    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(86_400)
        return loop.time()

    assert run_virtually(main) == 86_400


def test_timers_fire_in_order_at_exactly_their_times():
    async def main():
        loop = asyncio.get_running_loop()
        seen = []

        async def after(delay):
            await asyncio.sleep(delay)
            seen.append((delay, loop.time()))

        await asyncio.gather(*(after(delay) for delay in (3.5, 0.25, 7200, 0.25)))
        return seen

    assert run_virtually(main) == [(0.25, 0.25), (0.25, 0.25), (3.5, 3.5), (7200, 7200)]


def test_timers_fire_after_years():
    """Where a nanosecond more is the same number."""

    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(3600)
        return loop.time()

    for years in (0.5, 0.6, 1, 100, 10_000):
        start = years * 365 * 86_400
        assert run_virtually(main, start=start) == pytest.approx(start + 3600, abs=0.001)


def test_timeouts_are_in_virtual_time():
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_virtually(main, start=1000.0) == 1060


def test_a_wait_that_nothing_can_end_is_an_error_that_names_the_task(monkeypatch):
    monkeypatch.setattr(clock, "GRACE", 0.01)

    async def main():
        asyncio.current_task().set_name("the waiting one")
        await asyncio.Event().wait()

    with pytest.raises(StalledError, match="wait for ever; pending are the waiting one"):
        run_virtually(main)


def test_time_stands_still_while_a_thread_works():
    started, go_on = threading.Event(), threading.Event()

    async def main():
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)

        def work():
            with loop.busy("digging"):
                started.set()
                assert go_on.wait(30)
            return "done"

        timer = loop.call_later(5, lambda: None)
        working = loop.run_in_executor(None, work)
        assert started.wait(30)
        # The loop may not jump to the timer before the thread has ended.
        loop.call_soon(go_on.set)
        result = await working
        timer.cancel()
        return result, loop.time()

    result, now = run_virtually(main)
    assert result == "done"
    assert now in (0.0, 5.0)  # the jump may come between the thread's end and the await's


def test_a_thread_that_takes_too_long_is_named(monkeypatch):
    monkeypatch.setattr(clock, "STALL_AFTER", 0.01)
    let_go = threading.Event()

    async def main():
        loop = asyncio.get_running_loop()
        started = threading.Event()

        def work():
            with loop.busy("task 'mine'"):
                started.set()
                let_go.wait(30)

        loop.run_in_executor(None, work)
        assert started.wait(30)
        try:
            await asyncio.sleep(1)
        finally:
            let_go.set()

    try:
        with pytest.raises(StalledError, match=r"waited 0\.01 real seconds for task 'mine'"):
            run_virtually(main)
    finally:
        let_go.set()


class EndsLate:
    """A selector that lets a thread report and end between two looks of the event loop."""

    def __init__(self, real, report):
        self._real, self._report = real, report

    def select(self, timeout=None):
        if timeout != 0:
            self._tell()
        found = self._real.select(timeout)
        if timeout == 0 and not found:
            self._tell()
        return found

    def _tell(self):
        report, self._report = self._report, None
        if report is not None:
            thread = threading.Thread(target=report)
            thread.start()
            thread.join()

    def __getattr__(self, name):
        return getattr(self._real, name)


def test_time_does_not_jump_past_a_threads_last_report():
    """The loop finds nothing, the thread reports and ends, and the loop finds no thread at work."""
    times = []

    async def main():
        loop = asyncio.get_running_loop()
        release = loop.hold("work")

        def report():
            loop.call_soon_threadsafe(lambda: times.append(loop.time()))
            release()

        loop._jumping._real = EndsLate(loop._jumping._real, report)
        await asyncio.sleep(10)

    run_virtually(main)
    assert times == [0]
