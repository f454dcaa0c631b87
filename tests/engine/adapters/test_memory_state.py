"""InMemoryStateBackend: behaviour beyond the protocol (tests/contracts)."""

import pytest

from cascade.adapters.state import InMemoryStateBackend
from cascade.spec.errors import ArgumentError


def test_the_oldest_give_way():
    state = InMemoryStateBackend(max_nodes=2)
    state.put_result("a", 1)
    state.put_skip_reason("b", "why")
    state.put_result("c", 3)

    assert not state.has_result("a")
    assert state.get_skip_reason("b") == "why"
    assert state.get_result("c") == 3


def test_a_result_put_again_is_the_newest():
    state = InMemoryStateBackend(max_nodes=2)
    state.put_result("a", 1)
    state.put_result("b", 2)
    state.put_result("a", 10)
    state.put_result("c", 3)

    assert state.get_result("a") == 10
    assert not state.has_result("b")


def test_without_a_bound_all_are_kept():
    state = InMemoryStateBackend()
    for n in range(1000):
        state.put_result(str(n), n)

    assert state.get_result("0") == 0


@pytest.mark.parametrize("most", [0, -1, True, "3", 0.5])
def test_a_bound_must_leave_room(most):
    with pytest.raises(ArgumentError, match=f"^max_nodes must be an int ≥ 1, but is {most!r}$"):
        InMemoryStateBackend(max_nodes=most)
