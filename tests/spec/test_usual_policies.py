"""Policies that many nodes have alike are made once, and keep nothing alive."""

import gc
import weakref

import pytest

import cascade as cs


@cs.task
def work(n=0):
    return n


class Backend:
    def get(self, key):
        return False, None

    def put(self, key, value, ttl=None): ...


@pytest.mark.parametrize(
    "give",
    [
        lambda lazy: lazy.with_retry(3, delay=1),
        lambda lazy: lazy.with_capacity(gpu=1),
        lambda lazy: lazy.with_timeout(2.5),
    ],
)
def test_equal_ones_are_shared(give):
    assert give(work())._calls is give(work())._calls
    assert give(work())._calls == give(work().with_priority(0))._calls


def test_numbers_that_are_equal_and_of_another_type_are_refused_all_the_same():
    work().with_retry(1)
    with pytest.raises(cs.errors.ArgumentError, match="max_attempts must be an int"):
        work().with_retry(True)
    with pytest.raises(cs.errors.ArgumentError, match="max_attempts must be an int"):
        work().with_retry(1.0)
    work().with_capacity(gpu=1)
    with pytest.raises(cs.errors.ArgumentError, match="'gpu' is True"):
        work().with_capacity(gpu=True)
    with pytest.raises(cs.errors.ArgumentError, match="'gpu' is -1"):
        work().with_capacity(gpu=-1)


def test_an_option_of_another_type_is_an_error_and_not_one_of_hashes():
    with pytest.raises(cs.errors.ArgumentError, match="backoff must be a number"):
        work().with_retry(3, backoff=[2])


def test_a_cache_has_one_policy_for_all_nodes_and_is_let_go_with_them():
    backend = Backend()
    first, second = work().with_cache(backend), work().with_cache(backend)
    assert first._calls is second._calls
    assert first._calls is not work().with_cache(backend, ttl=1)._calls
    assert first._calls is not work().with_cache(Backend())._calls
    alive = weakref.ref(backend)
    del backend, first, second
    gc.collect()
    assert alive() is None


def test_a_policy_of_its_own_is_found_again_too():
    policy = work().with_cache(Backend())._calls.cache
    first = work().with_cache(policy)
    assert first._calls.cache is policy
    assert work().with_cache(policy)._calls is first._calls
