"""The contract of CacheBackend, for every implementation."""

from __future__ import annotations

import threading

import pytest

import cascade as cs
from cascade.adapters.cache import LRUCache
from cascade.spec.protocols import CacheBackend


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class DictCache:
    """The shortest implementation of the protocol: the suite is checked against it."""

    def __init__(self, now):
        self._now = now
        self._lock = threading.Lock()
        self._kept = {}

    def get(self, key):
        with self._lock:
            value, deadline = self._kept.get(key, (None, float("-inf")))
        return (True, value) if self._now() < deadline else (False, None)

    def put(self, key, value, ttl=None):
        deadline = float("inf") if ttl is None else self._now() + ttl
        with self._lock:
            self._kept[key] = (value, deadline)


BACKENDS = [lambda now: LRUCache(now=now), DictCache]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=BACKENDS, ids=["lru", "dict"])
def cache(request, clock):
    return request.param(clock)


def test_it_is_a_cache_backend(cache):
    assert isinstance(cache, CacheBackend)


def test_a_key_that_was_never_put_is_a_miss(cache):
    cache.put("a", 1)

    assert cache.get("b") == (False, None)


@pytest.mark.parametrize("value", [None, False, 0, "", [], object(), {"a": (1,)}])
def test_a_value_is_the_very_object_that_was_put(cache, value):
    """None and falsy objects are values like any other."""
    cache.put("a", value)
    hit, kept = cache.get("a")

    assert hit is True
    assert kept is value


@pytest.mark.parametrize("key", ["a", 1, None, ("a", (1, None)), frozenset({1}), float])
def test_any_hashable_is_a_key(cache, key):
    cache.put(key, "value")

    assert cache.get(key) == (True, "value")


def test_keys_that_are_equal_are_one_key(cache):
    cache.put(frozenset({"a", "b"}), "first")
    cache.put(frozenset({"b", "a"}), "second")

    assert cache.get(frozenset({"a", "b"})) == (True, "second")


def test_the_latest_value_replaces_the_one_before(cache):
    cache.put("a", 1)
    cache.put("a", 2)
    cache.put("a", None)

    assert cache.get("a") == (True, None)


def test_a_value_is_kept_for_its_ttl(cache, clock):
    cache.put("a", 1, ttl=10)
    cache.put("b", 2, ttl=20)

    clock.seconds += 9.5
    assert cache.get("a") == (True, 1)
    clock.seconds += 0.5
    assert cache.get("a") == (False, None)
    assert cache.get("b") == (True, 2)


def test_reading_a_value_does_not_lengthen_its_time(cache, clock):
    cache.put("a", 1, ttl=10)
    for _ in range(9):
        clock.seconds += 1
        assert cache.get("a") == (True, 1)

    clock.seconds += 1
    assert cache.get("a") == (False, None)


def test_a_value_without_ttl_stays(cache, clock):
    cache.put("a", 1)
    clock.seconds += 1e12

    assert cache.get("a") == (True, 1)


@pytest.mark.parametrize(("ttl", "after"), [(None, True), (30, True), (5, False)])
def test_a_value_put_again_has_the_time_of_the_latest_put(cache, clock, ttl, after):
    cache.put("a", 1, ttl=10)
    cache.put("a", 2, ttl=ttl)
    clock.seconds += 20

    assert cache.get("a") == ((True, 2) if after else (False, None))


def test_an_expired_value_can_be_put_again(cache, clock):
    cache.put("a", 1, ttl=10)
    clock.seconds += 10
    cache.put("a", 2, ttl=10)

    assert cache.get("a") == (True, 2)


def test_it_may_be_used_from_many_threads(cache):
    """All start at once, over the same few keys; a key never has another one's value."""
    together = threading.Barrier(8)
    failures = []

    def work(thread: int) -> None:
        try:
            together.wait(10)
            for turn in range(500):
                key = turn % 7
                cache.put(key, (key, thread), ttl=None if turn % 2 else 60)
                hit, value = cache.get(key)
                assert hit
                assert value[0] == key
                mine = ("of", thread)
                cache.put(mine, turn)
                assert cache.get(mine) == (True, turn)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert not failures
    assert not any(thread.is_alive() for thread in threads)
    assert [cache.get(("of", n)) for n in range(8)] == [(True, 499)] * 8


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
async def test_an_engine_keeps_values_in_it(cache, clock, use_vm):
    """R10: until they expire; and nodes without a value are not kept."""
    made = []

    @cs.task
    def divide(a, b):
        made.append((a, b))
        return a / b

    async def divided(*args):
        return await engine.run(divide(*args).with_cache(cache, ttl=10), use_vm=use_vm)

    async with cs.Engine() as engine:
        assert [await divided(6, 2), await divided(6, 2), await divided(6, 3)] == [3, 3, 2]
        clock.seconds += 10
        assert await divided(6, 2) == 3
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await divided(6, 0)
    assert made == [(6, 2), (6, 3), (6, 2), (6, 0), (6, 0)]
