"""Capacities: their amounts, their holders, and refusals."""

import functools
import itertools
import random
import sys
import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.limits.fakes import Limits

import cascade as cs
from cascade.runtime.limits.amounts import exact
from cascade.runtime.limits.permits import INSIDE, OUT
from cascade.spec.errors import ArgumentError, CapacityError

# -- amounts --------------------------------------------------------------------------------------


def test_ten_tenths_are_one():
    limits = Limits({"disk": 1})
    permits = [limits.enter(disk=0.1) for _ in range(10)]
    assert all(is_in for _, is_in in permits)
    assert limits.resources.available == {"disk": 0}
    assert limits.enter(disk=0.1)[1] is False
    for permit, _ in permits:
        limits.resources.leave(permit)
    assert limits.resources.available == {"disk": 0.9}  # the eleventh is in
    assert limits.told == ["work"]


@given(st.lists(st.decimals("0.001", "10", places=3), min_size=1, max_size=30), st.randoms())
def test_returned_amounts_add_up_to_the_total(amounts, chance):
    total = float(sum(amounts))
    limits = Limits({"disk": total})
    permits = [limits.enter(disk=float(amount)) for amount in amounts]
    # `total` is the float nearest to the sum, and may be less.
    taken = sum(Fraction(amount) for amount, (_, in_) in zip(amounts, permits, strict=True) if in_)
    assert taken <= exact(total)
    chance.shuffle(permits)
    for permit, _ in permits:
        limits.resources.leave(permit)
    assert limits.resources.available == {"disk": total}


def test_amounts_of_other_libraries_are_numbers_too():
    limits = Limits({"disk": np.float64(0.3)})
    permits = [limits.enter(disk=np.float64(0.1))[0] for _ in range(3)]
    assert {permit.state for permit in permits} == {INSIDE}
    assert limits.resources.available == {"disk": 0}


@pytest.mark.parametrize("amount", [0, -1, True, "1", None, float("inf"), float("nan"), 1j])
def test_invalid_amounts_are_refused(amount):
    with pytest.raises(ArgumentError):
        cs.Capacities({"gpu": amount})


@pytest.mark.parametrize("name", ["", "a b", "1a", 1, None, "a-b"])
def test_names_are_those_of_arguments(name):
    with pytest.raises(ArgumentError, match="the name of a capacity"):
        cs.Capacities({name: 1})


@pytest.mark.parametrize("given", [[("gpu", 1)], "gpu", 3])
def test_capacities_are_a_mapping(given):
    with pytest.raises(ArgumentError, match="capacities takes a dict"):
        cs.Capacities(given)


def test_totals_cannot_be_changed_from_outside():
    given = {"gpu": 1}
    manager = cs.Capacities(given)
    given["gpu"] = 2
    manager.total["gpu"] = 3
    manager.available["gpu"] = 4
    assert (manager.total, manager.available) == ({"gpu": 1}, {"gpu": 1})


def test_capacities_are_empty_by_default():
    assert cs.Capacities().total == cs.Capacities(None).available == {}


# -- amounts that can never be granted ------------------------------------------------------------


def test_more_than_there_is_is_refused_with_the_numbers():
    manager = cs.Capacities({"bytes": 16_000_000_000})
    with pytest.raises(CapacityError) as caught:
        manager.check([("bytes", 16_000_000_001)], "task 'load'")
    assert "takes 16000000001 of" in str(caught.value)
    assert "the engine has only 16000000000" in str(caught.value)
    assert caught.value.capacity == "bytes"


def test_amounts_that_no_float_can_tell_are_refused_too():
    manager = cs.Capacities({"big": int(1e23)})
    with pytest.raises(CapacityError):
        manager.check([("big", 10**400)], "task 'load'")
    with pytest.raises(CapacityError):
        manager.check([("big", 1e23)], "task 'load'")  # as it is written, that is a little more


@pytest.mark.parametrize(
    ("capacities", "name", "says"),
    [
        ({"gpu": 1}, "gpus", "has 'gpu'; set"),
        ({"gpu": 1, "disk": 1}, "gpus", r"has 'gpu', 'disk' \(did you mean 'gpu'\?\); set"),
        ({"gpu": 1, "disk": 1}, "cpu", "has 'gpu', 'disk'; set"),
        ({"gpu": 1, "disk": 2}, "x", "has 'gpu', 'disk'; set"),
        ({}, "gpu", "has none; set its amount: Engine"),
    ],
)
def test_an_unknown_capacity_is_refused_with_a_list_of_the_known_ones(capacities, name, says):
    manager = cs.Capacities(capacities)
    with pytest.raises(CapacityError, match=says):
        manager.check([(name, 1)], "task 'load'")


# -- holders --------------------------------------------------------------------------------------


def test_holders_are_named_in_the_order_in_which_they_came():
    limits = Limits({"gpu": 3, "disk": 1})
    a, _ = limits.enter("a", gpu=1)
    limits.enter("b", gpu=1, disk=1)
    limits.enter("c", gpu=2)
    assert limits.resources.holders("gpu") == ("a", "b")
    assert limits.resources.holders("disk") == ("b",)
    assert limits.resources.holders("unknown") == ()
    limits.resources.leave(a)
    assert limits.resources.holders("gpu") == ("b", "c")


def test_leaving_twice_returns_the_permit_once():
    limits = Limits({"gpu": 1})
    permit, _ = limits.enter(gpu=1)
    limits.resources.leave(permit)
    limits.resources.leave(permit)
    assert (limits.resources.available, permit.state) == ({"gpu": 1}, OUT)


def test_a_cancelled_request_lets_later_ones_go():
    limits = Limits({"gpu": 2})
    limits.enter("holder", gpu=1)
    large, _ = limits.enter("large", gpu=2)
    _, is_in = limits.enter("small", gpu=1)
    assert not is_in  # its rest is reserved for the large one
    limits.resources.leave(large)
    assert limits.told == ["small"]


def test_later_requests_may_take_the_unreserved_rest():
    """``large`` is short of one capacity only; of the other its amount is kept."""
    limits = Limits({"gpu": 1, "disk": 3})
    limits.enter("holder", gpu=1)
    limits.enter("large", gpu=1, disk=2)
    _, one = limits.enter("one", disk=1)
    _, another = limits.enter("another", disk=1)
    assert (one, another) == (True, False)


def test_a_permit_may_leave_inside_its_callback():
    limits = Limits({"gpu": 1})
    first, _ = limits.enter("first", gpu=1)
    permits = []

    def leave_at_once(n):
        limits.told.append(n)
        limits.resources.leave(permits[n])

    for n in range(5):
        told = functools.partial(leave_at_once, n)
        permits.append(limits.enter(f"n{n}", gpu=1, on_admitted=told)[0])
    limits.resources.leave(first)
    assert limits.told == [0, 1, 2, 3, 4]
    assert limits.resources.available == {"gpu": 1}


def test_why_one_waits_is_told_of_those_behind_it_too():
    limits = Limits({"gpu": 1})
    limits.enter("holder", gpu=1)
    waiting = [limits.enter("w", gpu=1)[0] for _ in range(3)]
    for permit in waiting:
        assert limits.resources.why(permit) == ("capacity gpu", ("holder",))
    limits.resources.leave(waiting[0])
    assert limits.resources.why(waiting[0]) is None
    assert [t for t, _, _ in limits.resources.waiting(limits.run)] == waiting[1:]
    assert limits.resources.waiting(object()) == []


# -- threads --------------------------------------------------------------------------------------


@pytest.fixture
def often():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(works):
    """Call all of ``works`` at once; the errors."""
    errors, start = [], threading.Barrier(len(works))

    def call(work):
        start.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("seed", range(3))
def test_many_threads_take_and_give_back(seed):
    limits = Limits({"gpu": 2, "disk": 1.5})
    inside, seen = {"gpu": 0, "disk": 0}, threading.Lock()

    def work(number):
        chance = random.Random(f"{seed} {number}")
        for _ in range(150):
            amounts = {
                name: amount
                for name, amount in {"gpu": chance.choice([1, 2]), "disk": 0.5}.items()
                if chance.random() < 0.7
            }
            told = threading.Event()
            permit = limits.permit(f"t{number % 3}", on_admitted=told.set, **amounts)
            gives_up = chance.random() < 0.3
            is_in = limits.resources.enter(permit)
            if not is_in and not gives_up and told.wait(20):
                is_in = limits.resources.begin(permit)
            if not is_in:
                limits.resources.leave(permit)
                assert gives_up, "it was never let in"
                continue
            with seen:
                for name, amount in amounts.items():
                    inside[name] += amount
                    assert inside[name] <= limits.resources.total[name]
            with seen:
                for name, amount in amounts.items():
                    inside[name] -= amount
            limits.resources.leave(permit)

    assert in_threads([lambda n=n: work(n) for n in range(8)]) == []
    assert limits.resources.available == limits.resources.total
    assert limits.resources.waiting(limits.run) == []


@pytest.mark.usefixtures("often")
def test_constraints_may_change_while_all_threads_ask():
    limits = Limits({"gpu": 4})
    changed = threading.Event()

    def ask(number):
        for n in itertools.count():
            if changed.is_set():
                return
            limits.constraints.governs(f"task{number} {n}")  # not looked up before
            limits.constraints.alike([f"task{number}", "other"])
            limits.constraints.active()
            permit = limits.permit(f"task{number}", gpu=1)
            limits.resources.enter(permit)
            limits.resources.leave(permit)

    def change():
        try:
            for n in range(60):
                limits.constraints.pause(f"task:other{n}")
            for n in range(400):
                limits.constraints.limit_concurrency(f"task:task{n % 5}*", 1 + n % 3)
                limits.constraints.pause("task:task1", ttl=1)
                limits.constraints.limit_rate("global", "100/s")
                limits.constraints.remove(f"task:task{(n + 2) % 5}*")
                if n % 7 == 0:
                    limits.constraints.clear()
        finally:
            changed.set()

    assert in_threads([change, *(lambda n=n: ask(n) for n in range(6))]) == []
    limits.constraints.clear()
    assert not limits.constraints.any
    assert limits.resources.available == {"gpu": 4}
    assert limits.resources.waiting(limits.run) == []
