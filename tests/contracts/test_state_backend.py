"""The contract of StateBackend, for every implementation."""

import threading

import pytest

import cascade as cs
from cascade.adapters.state import InMemoryStateBackend
from cascade.spec.protocols import StateBackend


class DictState:
    """The shortest implementation of the protocol: the suite is checked against it."""

    def __init__(self):
        self._kept = {}

    def put_result(self, node_id, result):
        self._kept[node_id] = (True, result)

    def get_result(self, node_id):
        if not self.has_result(node_id):
            raise KeyError(node_id)
        return self._kept[node_id][1]

    def has_result(self, node_id):
        return self._kept.get(node_id, (False,))[0]

    def put_skip_reason(self, node_id, reason):
        self._kept[node_id] = (False, reason)

    def get_skip_reason(self, node_id):
        has_result, reason = self._kept.get(node_id, (True, None))
        return None if has_result else reason

    def clear(self):
        self._kept.clear()


BACKENDS = [InMemoryStateBackend, DictState]


@pytest.fixture(params=BACKENDS, ids=["memory", "dict"])
def state(request):
    return request.param()


def test_it_is_a_state_backend(state):
    assert isinstance(state, StateBackend)


@pytest.mark.parametrize("value", [1, None, False, "text", [], {"a": (1,)}])
def test_a_result_is_kept(state, value):
    state.put_result("a", value)

    assert state.has_result("a")
    assert state.get_result("a") == value
    assert state.get_skip_reason("a") is None


def test_a_result_is_the_very_object_that_was_put(state):
    """In this process; errors that became values are results like any other."""
    for value in (object(), ValueError("a value"), [1], lambda: None):
        state.put_result("a", value)
        assert state.get_result("a") is value


def test_an_id_without_a_result_raises_key_error(state):
    state.put_result("a", 1)

    assert not state.has_result("b")
    assert state.get_skip_reason("b") is None
    with pytest.raises(KeyError, match="b"):
        state.get_result("b")


def test_a_skip_reason_is_kept_and_does_not_count_as_a_result(state):
    state.put_skip_reason("a", "the condition was falsy")

    assert state.get_skip_reason("a") == "the condition was falsy"
    assert not state.has_result("a")
    with pytest.raises(KeyError):
        state.get_result("a")


def test_the_latest_outcome_replaces_the_one_before(state):
    state.put_result("a", 1)
    state.put_result("a", 2)
    assert state.get_result("a") == 2

    state.put_skip_reason("a", "why")
    assert not state.has_result("a")

    state.put_result("a", 3)
    assert state.get_result("a") == 3
    assert state.get_skip_reason("a") is None


def test_clearing_forgets_everything(state):
    state.put_result("a", 1)
    state.put_skip_reason("b", "why")
    state.clear()

    assert not state.has_result("a")
    assert state.get_skip_reason("b") is None


def test_after_clearing_it_can_be_used_again(state):
    state.put_result("a", 1)
    state.clear()
    state.clear()
    state.put_result("a", 2)

    assert state.get_result("a") == 2


def test_it_may_be_used_from_many_threads(state):
    begin = threading.Barrier(8)
    failures = []

    def work(n):
        try:
            begin.wait(10)
            for i in range(200):
                state.put_result(f"{n}.{i}", (n, i))
                assert state.get_result(f"{n}.{i}") == (n, i)
                state.put_skip_reason(f"{n}.{i}", "why")
                assert not state.has_result(f"{n}.{i}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert not failures
    assert state.get_skip_reason("7.199") == "why"


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
async def test_an_engine_keeps_results_and_skip_reasons(state, use_vm):
    @cs.task
    def add(a, b=0):
        return a + b

    @cs.task
    async def zero():
        return 0

    first = add(1)
    condition = zero()
    skipped = add(first).run_if(condition)
    target = add(first, 2).after(skipped)
    async with cs.Engine(state_backend=state) as engine:
        await engine.run(target, use_vm=use_vm)

    assert state.get_result(first.id) == 1
    assert state.get_result(condition.id) == 0
    assert state.get_result(target.id) == 3
    assert not state.has_result(skipped.id)
    assert "zero" in state.get_skip_reason(skipped.id)


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
async def test_an_engine_keeps_no_outcome_of_failed_nodes_and_their_users(state, use_vm):
    """Nor of nodes that did not run for it; an error that is an item's value is one."""

    @cs.task
    def divide(n):
        return 6 / n

    bad = divide(0)
    user = divide(bad)
    caught = divide.map(n=[0], return_exceptions=True)
    async with cs.Engine(state_backend=state) as engine:
        with pytest.raises(ExceptionGroup):
            await engine.run([user, caught], use_vm=use_vm, fail_fast=False)

    for lazy in (bad, user):
        assert not state.has_result(lazy.id)
        assert state.get_skip_reason(lazy.id) is None
    assert [type(value) for value in state.get_result(caught.id)] == [ZeroDivisionError]


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
async def test_an_engine_keeps_results_that_came_from_a_cache(state, use_vm):
    @cs.task
    def one(n):
        return n

    cache = cs.LRUCache()
    first, equal = one(1).with_cache(cache), one(1).with_cache(cache)
    async with cs.Engine(state_backend=state) as engine:
        await engine.run([first, equal], use_vm=use_vm)

    assert state.get_result(first.id) == state.get_result(equal.id) == 1
