"""Listeners to the news of a store, and the thread that looks for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from cascade.adapters.stores.listeners import Listeners


def test_whoever_closes_waits_for_a_thread_that_somebody_else_has_stopped() -> None:
    """It may be about to use what is closed next."""
    go_on, ended = threading.Event(), threading.Event()
    found: list[bool] = []
    begun: list[threading.Event] = []
    entered = threading.Event()

    def watch(stopping: threading.Event) -> Iterator[None]:
        begun.append(stopping)
        entered.set()
        go_on.wait()
        ended.set()
        yield None

    def close() -> None:
        listeners.close()
        found.append(ended.is_set())

    listeners = Listeners(watch)
    first = threading.Thread(target=listeners.add(lambda: None))
    entered.wait()
    first.start()
    begun[0].wait()  # the first has stopped the thread, and waits for it
    second = threading.Thread(target=close)
    second.start()
    second.join(0.05)
    go_on.set()
    first.join()
    second.join()
    assert found == [True]


def test_a_listener_that_comes_while_the_thread_ends_gets_another_one() -> None:
    begun: list[threading.Event] = []
    news = threading.Event()

    def watch(stopping: threading.Event) -> Iterator[None]:
        begun.append(stopping)
        yield None
        stopping.wait()

    listeners = Listeners(watch)
    listeners.add(lambda: None)()
    remove = listeners.add(news.set)
    assert news.wait(10)
    remove()
    assert len(begun) == 2
    listeners.close()
