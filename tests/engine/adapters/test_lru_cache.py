"""LRUCache: behaviour beyond the protocol (tests/contracts)."""

from __future__ import annotations

import gc
import threading
import weakref
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.adapters.cache import LRUCache
from cascade.spec.errors import ArgumentError


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def hits(cache, keys):
    """The keys that are hits, without making any of them the latest used of all."""
    return [key for key in keys if cache.get(key)[0]]


def test_the_least_recently_used_value_gives_way():
    cache = LRUCache(max_entries=2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.get("a")
    cache.put("c", 3)

    assert hits(cache, "abc") == ["a", "c"]


def test_a_value_put_again_is_the_latest_used():
    cache = LRUCache(max_entries=2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.put("a", 10)
    cache.put("c", 3)

    assert hits(cache, "abc") == ["a", "c"]


def test_a_miss_changes_nothing():
    cache = LRUCache(max_entries=2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.get("x")
    cache.put("c", 3)

    assert hits(cache, "abc") == ["b", "c"]


def test_expired_values_give_way_before_valid_ones():
    clock = Clock()
    cache = LRUCache(max_entries=3, now=clock)
    cache.put("old", 1)
    cache.put("brief", 2, ttl=10)
    cache.put("new", 3, ttl=100)
    clock.seconds = 10
    cache.put("more", 4)

    assert hits(cache, ["old", "brief", "new", "more"]) == ["old", "new", "more"]


def test_a_value_put_again_expires_at_its_new_time():
    clock = Clock()
    cache = LRUCache(max_entries=2, now=clock)
    cache.put("a", 1, ttl=10)
    cache.put("a", 2, ttl=100)
    cache.put("b", 3)
    clock.seconds = 50

    assert len(cache) == 2
    assert cache.get("a") == (True, 2)


def test_the_length_is_that_of_the_hits():
    clock = Clock()
    cache = LRUCache(now=clock)
    assert len(cache) == 0
    cache.put("a", 1, ttl=10)
    cache.put("b", 2)
    assert len(cache) == 2

    clock.seconds = 10
    assert len(cache) == 1


def test_clearing_forgets_everything():
    cache = LRUCache()
    cache.put("a", 1, ttl=10)
    cache.put("b", 2)
    cache.clear()

    assert len(cache) == 0
    assert hits(cache, "ab") == []


def test_the_default_clock_goes_on():
    cache = LRUCache()
    cache.put("a", 1, ttl=3600)
    cache.put("b", 2, ttl=0)

    assert hits(cache, "ab") == ["a"]


@pytest.mark.parametrize("most", [0, -1, True, "3", None])
def test_a_bound_must_leave_room(most):
    message = f"^max_entries must be an int ≥ 1, but is {most!r}$"
    with pytest.raises(ArgumentError, match=message):
        LRUCache(most)


class Thing:
    """A value that can be watched."""


def test_the_cache_keeps_no_reference_to_removed_values():
    cache = LRUCache(max_entries=1)
    thing = Thing()
    watched = weakref.ref(thing)
    cache.put("a", thing)
    del thing
    cache.put("b", 1)
    gc.collect()

    assert watched() is None


def test_overwriting_for_ever_takes_no_memory():
    """Each put with a time leaves a note of that time, and those have to go too."""
    clock = Clock()
    cache = LRUCache(max_entries=10, now=clock)
    keys = [Thing() for _ in range(1000)]
    watched = weakref.WeakSet(keys)
    for _ in range(3):
        for key in keys:
            cache.put(key, "value", ttl=3600)
    del key
    keys.clear()
    gc.collect()

    assert len(cache) == 10
    assert len(watched) <= 30


@pytest.mark.parametrize("seed", range(5))
def test_its_length_is_right_however_often_values_are_put_again(seed):
    """So often that the notes of times that no longer hold are cleared away, many times over."""
    clock, random = Clock(), Random(seed)
    cache = LRUCache(max_entries=20, now=clock)
    deadlines = {}
    for turn in range(1000):
        key, ttl = random.randrange(20), random.randrange(1, 100)
        cache.put(key, turn, ttl)
        deadlines[key] = clock.seconds + ttl
        clock.seconds += random.random()

        if turn % 10 == 0:
            assert len(cache) == sum(clock.seconds < deadline for deadline in deadlines.values())


def test_a_finalizer_may_use_the_cache():
    """The finalizer of a removed value may look into the cache."""
    cache = LRUCache(max_entries=1)
    seen = []
    thing = Thing()
    weakref.finalize(thing, lambda: seen.append(cache.get("b")))
    cache.put("a", thing)
    del thing
    cache.put("b", 1)
    gc.collect()

    assert seen == [(True, 1)]


def test_many_threads_never_make_it_larger_than_it_may_be():
    cache = LRUCache(max_entries=16)
    together = threading.Barrier(8)
    failures = []

    def work(thread: int) -> None:
        try:
            together.wait(10)
            for turn in range(500):
                key = (thread * 31 + turn) % 64
                hit, value = cache.get(key)
                assert value == (key if hit else None)
                cache.put(key, key, ttl=60 if turn % 3 else None)
                assert len(cache) <= 16
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert not failures
    assert len(cache) == 16


_steps = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 5), st.none() | st.integers(1, 6)),
    st.tuples(st.just("get"), st.integers(0, 5), st.none()),
    st.tuples(st.just("wait"), st.integers(1, 4), st.none()),
)


@given(st.lists(_steps, max_size=60), st.integers(1, 4))
def test_it_behaves_like_a_list_in_order_of_use(steps, room):
    clock = Clock()
    cache = LRUCache(room, now=clock)
    model = []  # (key, value, deadline), the latest used at the end

    for number, (what, key, ttl) in enumerate(steps):
        if what == "wait":
            clock.seconds += key
        elif what == "get":
            found = [row for row in model if row[0] == key and clock.seconds < row[2]]
            assert cache.get(key) == ((True, found[0][1]) if found else (False, None))
            model = [row for row in model if row[0] != key] + found
        else:
            deadline = float("inf") if ttl is None else clock.seconds + ttl
            cache.put(key, number, ttl)
            model = [row for row in model if row[0] != key and clock.seconds < row[2]]
            model = [*model, (key, number, deadline)][-room:]
    assert len(cache) == sum(clock.seconds < deadline for _, _, deadline in model)
