"""LocalExecutor: behaviour beyond the protocol (tests/contracts/test_executor.py)."""

import gc
import threading
import time
import weakref

import pytest

from cascade.adapters.executors.local import LocalExecutor
from cascade.spec.errors import ArgumentError, RunError


def threads_named(name):
    return [t for t in threading.enumerate() if t.name.startswith(name)]


def test_threads_are_daemons_with_a_name():
    executor = LocalExecutor(2, name="cascade-test")
    thread = executor.submit(threading.current_thread).result(10)

    assert thread.daemon
    assert thread.name == "cascade-test-0"
    executor.shutdown()


def test_threads_are_started_as_they_are_needed():
    executor = LocalExecutor(4, name="cascade-needed")
    assert threads_named("cascade-needed") == []

    barrier = threading.Barrier(2)
    futures = [executor.submit(barrier.wait, 10) for _ in range(2)]
    for future in futures:
        future.result(10)
    assert len(threads_named("cascade-needed")) == 2
    executor.shutdown()


def test_an_idle_thread_is_used_again():
    executor = LocalExecutor(8, name="cascade-idle")
    idents = set()
    for _ in range(50):
        idents.add(executor.submit(threading.get_ident).result(10))
        while not executor._pool.spare:  # the thread is idle just after the result is there
            time.sleep(0)

    assert len(idents) == 1
    executor.shutdown()


def test_there_are_never_more_threads_than_max_workers():
    executor = LocalExecutor(3, name="cascade-most")
    barrier = threading.Barrier(3)
    futures = [executor.submit(barrier.wait, 10) for _ in range(9)]
    for future in futures:
        future.result(10)

    assert len(threads_named("cascade-most")) == 3
    executor.shutdown()


@pytest.mark.parametrize("most", [0, -1, True, "4", 2.5, None])
def test_it_needs_a_thread(most):
    message = f"^max_workers must be an int ≥ 1, but is {most!r}$"
    with pytest.raises(ArgumentError, match=message):
        LocalExecutor(most)


def test_dropping_it_ends_its_threads():
    """Without a shutdown."""
    executor = LocalExecutor(2, name="cascade-dropped")
    executor.submit(int).result(10)
    (thread,) = threads_named("cascade-dropped")
    del executor
    gc.collect()
    thread.join(10)

    assert not thread.is_alive()


def test_an_idle_thread_keeps_nothing_alive():
    class Value:
        pass

    executor = LocalExecutor(1)
    value = Value()
    kept = weakref.ref(value)
    executor.submit(lambda x: x, value).result(10)
    executor.submit(int).result(10)
    del value
    gc.collect()

    assert kept() is None
    executor.shutdown()


def test_shutdown_from_one_of_its_threads_does_not_wait_for_itself():
    executor = LocalExecutor(1)
    executor.submit(executor.shutdown).result(10)
    with pytest.raises(RunError):
        executor.submit(int)
