"""Policies that tasks declare: what calls and maps make of them."""

from typing import Any

import pytest

from cascade.spec.caching import ByArguments
from cascade.spec.errors import DefinitionError
from cascade.spec.policies import PLAIN_CALLS
from cascade.spec.retry import Retry
from cascade.spec.task import task


class Kept(dict):
    def put(self, key, value, ttl):
        self[key] = value


STORE: Any = Kept()
POLITE = Retry(5, 1.0, 2.0, on=OSError)


@task(retry=POLITE, timeout=3, cache=STORE, capacities={"gpu": 1, "disk": 0}, priority=7)
def fetch(url, again=False):
    return url


@task
def plain(url):
    return url


@pytest.mark.parametrize("made", [lambda: fetch("a"), lambda: fetch("a", again=True)])
def test_a_call_has_what_its_task_declares(made):
    calls = made()._calls

    assert calls.retry is POLITE
    assert calls.timeout == 3.0
    assert calls.cache == ByArguments(STORE)
    assert calls.capacities == (("gpu", 1),)
    assert calls.priority == 7


def test_a_number_is_the_attempts_in_all():
    assert task(retry=4)(len)([])._calls.retry.max_attempts == 4


def test_a_map_has_it_for_its_items():
    lazy = fetch.map(url=["a", "b"])

    assert lazy._calls is PLAIN_CALLS  # of the node itself
    items = lazy.task.func(*lazy.args)._dependencies
    assert [item._calls.retry for item in items] == [POLITE, POLITE]
    assert [item._calls.capacities for item in items] == [(("gpu", 1),)] * 2
    assert all(item._special for item in items)  # unknown capacities are refused


def test_a_map_overrides_it_for_its_items():
    lazy = fetch.map(url=["a"]).with_retry(None).with_capacity(gpu=0, disk=2)
    (item,) = lazy.task.func(*lazy.args)._dependencies

    assert item._calls.retry is None
    assert item._calls.timeout == 3.0
    assert item._calls.priority == 7
    assert item._calls.capacities == (("disk", 2),)


def test_a_call_overrides_one_policy_and_keeps_the_others():
    calls = fetch("a").with_retry(2)._calls

    assert calls.retry.max_attempts == 2
    assert calls.timeout == 3.0
    assert fetch("a")._calls.retry is POLITE


def test_each_policy_can_be_switched_off():
    lazy = fetch("a").with_retry(None).with_timeout(None).with_cache(None).with_capacity(gpu=0)
    lazy.with_priority(0)

    assert lazy._calls == PLAIN_CALLS
    assert fetch("a").with_retry(1)._calls.retry.pause(1, OSError()) is None


def test_a_call_takes_a_whole_retry():
    assert plain("a").with_retry(POLITE)._calls.retry is POLITE


def test_a_task_that_declares_nothing_makes_nodes_without_policies():
    assert plain("a")._policies is None
    assert plain("a")._plain
    assert task(retry=None, timeout=None, cache=None, capacities=None)(len)([])._policies is None


def test_two_calls_share_no_policies():
    first, second = fetch("a"), fetch("a")
    first.with_timeout(9)
    first.run_if(plain(1))

    assert second._calls.timeout == 3.0
    assert second._conditions == ()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"retry": True}, "task 'len': retry takes the number of attempts"),
        ({"retry": "3"}, "retry takes the number of attempts"),
        ({"timeout": float("nan")}, "task 'len': timeout takes seconds > 0"),
        ({"capacities": {"gpu": -1}}, "which are numbers ≥ 0, but 'gpu' is -1"),
        ({"capacities": {1: 1}}, "names of capacities, but got 1"),
        ({"capacities": {"gpu": plain(1)}}, "which are numbers ≥ 0, but 'gpu' is <lazy plain"),
        ({"priority": 1.5}, "task 'len': priority takes an int, higher first"),
        ({"priority": None}, "task 'len': priority takes an int, higher first"),
        ({"cache": 3}, "task 'len': a cache is a CacheBackend"),
    ],
)
def test_impossible_declarations_are_refused(options, text):
    with pytest.raises(DefinitionError, match=text):
        task(**options)(len)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("retries", "has no option 'retries' \\(did you mean 'retry'\\?\\)"),
        ("time_out", "did you mean 'timeout'"),
        ("capacity", "did you mean 'capacities'"),
        ("func", "has no option 'func'"),
        ("xyz", "has no option 'xyz'; it has name, mode, nout, may_block, retry, timeout, cache"),
    ],
)
def test_an_unknown_option_is_refused_with_the_one_that_was_meant(name, text):
    with pytest.raises(DefinitionError, match=text):
        task(**{name: 3})


def test_calls_with_equal_timeouts_share_their_policies():
    """Making them takes longer than making the node."""

    @task
    def work():
        """Called."""

    first, second = work().with_timeout(5), work().with_timeout(5)

    assert first._calls is second._calls
    assert work().with_timeout(6)._calls.timeout == 6
    assert work().with_retry(2).with_timeout(5)._calls.retry is not None
