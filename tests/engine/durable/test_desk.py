"""The desk of a run: what threads add without a lock reaches the next commit, once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from cascade.graph.codec import Codec
from cascade.runtime.durable.desk import Desk
from cascade.runtime.durable.rows import Later, rows_of
from cascade.spec.run_rows import Chunk


class Told:
    """In place of the writer: how often it was told of news."""

    codec = Codec()
    safe = 1.0
    has_news = is_urgent = False

    def __init__(self) -> None:
        self.times = 0

    def news(self) -> None:
        self.times += 1

    def hurry(self, loop: object = None) -> None:
        raise AssertionError("nothing waits")


class Meanwhile(list[Later]):
    """A list to which another thread appends while the writer takes what is in it."""

    def __init__(self, *items: Later, then: Later) -> None:
        super().__init__(items)
        self.then: Later | None = then

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        if self.then is not None:
            self.append(self.then)
            self.then = None
        return found


def _later(number: int) -> Later:
    return number.to_bytes(16, "big"), "task", 1.5, number


def _chunks(desk: Desk) -> Iterator[Chunk]:
    found = desk.collect(0.0)
    if found is not None:
        yield from found[0].chunks


@pytest.fixture
async def told() -> Told:
    return Told()


@pytest.fixture
async def desk(told: Told) -> Desk:
    return Desk(told, 1, 1, 0.0, object())  # type: ignore[arg-type]  # tells no listener here


async def test_an_outcome_that_comes_while_others_are_taken_is_told_of(
    desk: Desk, told: Told
) -> None:
    """Its thread has not told of it, because it was not alone."""
    desk.later = Meanwhile(_later(1), then=_later(2))
    (first,) = _chunks(desk)
    assert [row.body for row in rows_of(first)] == [b"1"]
    assert told.times == 1
    assert not desk.is_clean
    (second,) = _chunks(desk)
    assert [row.body for row in rows_of(second)] == [b"2"]
    assert second.number == first.number + 1
    assert not [*_chunks(desk)]


async def test_each_outcome_that_threads_add_is_collected_once(desk: Desk) -> None:
    threads, each = 4, 3_000
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def add(first: int) -> None:
        for number in range(first, first + each):
            desk.later.append(_later(number))

    adding = [threading.Thread(target=add, args=(n * each,)) for n in range(threads)]
    found: list[int] = []
    try:
        for thread in adding:
            thread.start()
        while any(thread.is_alive() for thread in adding) or desk.later:
            found += [int(row.body) for chunk in _chunks(desk) for row in rows_of(chunk)]
    finally:
        sys.setswitchinterval(interval)
    assert sorted(found) == [*range(threads * each)]


async def test_a_chunk_is_kept_that_has_such_an_outcome_beside_one_that_is_dropped(
    desk: Desk,
) -> None:
    desk.later.append(_later(1))
    number = desk.outcome(b"k" * 16, b"[]\n0")
    assert [chunk.number for chunk in _chunks(desk)] == [number]
    desk.drop_chunk(number)
    assert desk.collect(0.0) is None
    desk.outcome(b"k" * 16, b"[]\n0")
    assert [chunk.number for chunk in _chunks(desk)] == [number + 1]
    desk.drop_chunk(number + 1)
    found = desk.collect(0.0)
    assert found is not None
    assert found[0].drop_chunks == [number + 1]
