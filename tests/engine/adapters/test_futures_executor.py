"""FuturesExecutor: calls that pools make again, or lose. The contract has the rest."""

import multiprocessing
import os
import threading
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from tests import remote_tasks as tasks
from tests.memory_files import memory_files

import cascade as cs
from cascade.runtime.elsewhere import marks
from cascade.spec.errors import WorkerLostError


class Repeating:
    """A pool that makes each turn twice, as if the first worker had died at its end."""

    def __init__(self):
        self.threads = ThreadPoolExecutor(1)

    def submit(self, call, /, *args):
        return self.threads.submit(self._make, call, *args)

    def _make(self, call, *args):
        call(*args)
        return call(*args)


def run_map(pool, path, count):
    executor = cs.FuturesExecutor(pool, max_workers=1)
    target = tasks.effect.map(path=cs.literal(path), text=range(count), return_exceptions=True)
    try:
        return cs.run(target, executor=executor)
    finally:
        executor.shutdown()


def test_a_pool_that_repeats_calls_begins_each_once(path):
    made = run_map(Repeating(), path, 20)
    assert all(isinstance(one, WorkerLostError) for one in made)
    assert sorted(map(int, tasks.lines(path))) == [*range(20)]


def test_a_retry_begins_a_call_again(path):
    executor = cs.FuturesExecutor(Repeating(), max_workers=1)
    with pytest.raises(WorkerLostError, match="a worker had begun it before"):
        cs.run(tasks.effect(path).with_retry(2, delay=0), executor=executor)
    assert len(tasks.lines(path)) == 2
    executor.shutdown()


def test_without_marks_the_pool_decides(path, monkeypatch):
    """As on other machines, whose workers do not find the file."""
    monkeypatch.setattr(marks, "_opened", lambda place: None)
    assert run_map(Repeating(), path, 3) == [0, 1, 2]
    assert len(tasks.lines(path)) == 6


class Losing:
    """A pool that loses a worker in the middle of its longest turn so far, and goes on."""

    def __init__(self):
        self.threads, self.has_lost = ThreadPoolExecutor(1), False

    def submit(self, call, /, tasks, calls, place):
        if len(calls) > 3 and not self.has_lost:
            self.has_lost = True
            return self.threads.submit(self._lose, call, tasks, calls, place)
        return self.threads.submit(call, tasks, calls, place)

    def _lose(self, call, tasks, calls, place):
        call(tasks, calls[:2], place)
        raise EOFError("the worker is gone")


class Locked:
    """A pool that tells of a lost worker while it holds the lock that ``submit`` takes."""

    def __init__(self):
        self.threads, self.has_lost, self.lock = ThreadPoolExecutor(1), False, threading.Lock()

    def submit(self, call, /, *given):
        with self.lock:
            told = Future()
            self.threads.submit(self._make, told, call, *given)
            return told

    def _make(self, told, call, *given):
        if self.has_lost:
            told.set_result(call(*given))
            return
        self.has_lost = True
        with self.lock:
            told.set_exception(EOFError("the worker is gone"))


def test_a_pool_may_tell_of_a_loss_under_the_lock_of_submit(path):
    """That of the standard library does so on Python 3.13."""
    made = run_map(Locked(), path, 40)
    lost = [one for one in made if isinstance(one, WorkerLostError)]
    assert 0 < len(lost) < 40
    assert len(tasks.lines(path)) == 40 - len(lost)


def test_calls_that_had_not_begun_are_made_after_a_loss(path):
    pool = Losing()
    made = run_map(pool, path, 40)
    assert pool.has_lost
    lost = [one for one in made if isinstance(one, WorkerLostError)]
    assert len(lost) == 2
    assert sorted(map(int, tasks.lines(path))) == [*range(40)]


def test_a_process_that_dies_has_begun_each_call_once(path):
    """The other calls of its turn fail as well, because the pool takes no more calls."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        executor = cs.FuturesExecutor(pool)
        calls = [tasks.effect(path, 1), tasks.dies(path), tasks.effect(path, 2)]
        with pytest.raises((WorkerLostError, ExceptionGroup)):
            cs.run(calls, executor=executor, fail_fast=False)
        executor.shutdown()
    assert len(tasks.lines(path)) == len({*tasks.lines(path)})


def test_a_call_of_a_turn_that_is_withdrawn_does_not_begin():
    marked = marks.Marks(1)
    place = marked.place()
    marked.withdraw(place, 1)
    turn = marks.TurnMarks(place)
    assert [turn.refusal(call) for call in range(3)] == [None, b"withdrawn", None]
    assert marked.is_seen(place)
    marked.forget(place)
    assert turn.refusal(3) == b"begun"
    marked.close()


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memfd on this system")
def test_nothing_is_left_of_the_marks():
    before = memory_files("cascade-marks")
    executor = cs.FuturesExecutor(ThreadPoolExecutor(1))
    assert memory_files("cascade-marks") > before
    executor.shutdown()
    assert memory_files("cascade-marks") == before
