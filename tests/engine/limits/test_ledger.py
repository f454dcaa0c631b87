"""The ledger of shared limits: whose turn it is, for members that speak in any order."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from cascade.runtime.limits.ledger import BUCKET, Ledger, Rate, Statement
from cascade.spec.errors import StoreError

TOTALS = {"gpu": 2, "memory": Fraction("1.5")}
API = BUCKET + "api"
SLOW = {"api": Rate(1.0, 1.0, "1/s with burst 1")}
WIDE = {"api": Rate(10.0, 20.0, "10/s with burst 20")}


class Table:
    """A ledger in a document, as a store keeps it, and what its members use."""

    def __init__(self, rates=None, totals=TOTALS):
        self.body = None
        self.now = 0.0
        self.rates = rates or {}
        self.totals = totals
        self.held = {}
        self._beat = 0

    def say(self, name, *wants, extras=None, held=None):
        """The answer to a statement; what was granted is held from now on."""
        self._beat += 1
        mine = self.held.setdefault(name, {})
        if held is not None:
            mine.clear()
            mine.update(held)
        ledger = Ledger.read(self.body)
        statement = Statement(
            self._beat, 10.0, self.totals, self.rates, dict(mine), wants, extras or {}
        )
        answer = ledger.state(name, statement, self.now)
        self.body = ledger.write()
        for amounts in answer.granted:
            for what, amount in amounts.items():
                if not what.startswith(BUCKET):
                    mine[what] = mine.get(what, 0) + amount
        return answer

    def forget(self, name):
        ledger = Ledger.read(self.body)
        assert ledger.forget([name])
        self.body = ledger.write()

    def granted(self, name, *wants, **others):
        return list(self.say(name, *wants, **others).granted)


def gpu(amount=1, **others):
    return {"gpu": amount, **others}


def test_what_is_free_is_granted_all_at_once_or_not_at_all():
    table = Table()
    half = gpu(1, memory=Fraction("0.1"))
    assert table.granted("a", half, gpu(2), half) == [half]  # the second keeps the rest for itself
    answer = table.say("b", {"memory": 1})
    assert list(answer.granted) == [{"memory": 1}]
    assert answer.free == {"gpu": 1, "memory": Fraction("0.4")}
    assert answer.others_wait
    assert answer.holders == {"gpu": ["a"], "memory": ["a"]}


def test_tickets_are_granted_in_the_order_in_which_they_came():
    table = Table()
    assert table.granted("a", gpu(2)) == [gpu(2)]
    assert table.granted("b", gpu(2)) == []
    assert table.granted("c", gpu()) == []
    table.say("a", held={})

    assert table.granted("c", gpu()) == []  # the share of b is reserved, though it has not asked
    assert table.granted("b", gpu(2)) == [gpu(2)]
    table.say("b", held={})
    assert table.granted("c", gpu()) == [gpu()]


def test_who_needs_something_else_overtakes():
    table = Table()
    table.say("a", gpu(2))
    assert table.granted("b", gpu()) == []
    assert table.granted("c", {"memory": 1}) == [{"memory": 1}]


def test_a_member_keeps_its_places_for_whatever_it_wants_now():
    table = Table()
    table.say("a", gpu(2))
    table.say("b", gpu(), gpu())
    table.say("c", gpu(2))
    table.say("b", {"memory": 1}, gpu(2))  # has other attempts now, at the places of the old ones
    table.say("a", held={})

    assert table.granted("c", gpu(2)) == []
    assert table.granted("b", gpu(2)) == [gpu(2)]


def test_a_ticket_that_is_no_longer_wanted_lets_others_pass():
    table = Table()
    table.say("a", gpu(2))
    table.say("b", gpu(2))
    table.say("a", held={})
    assert table.granted("c", gpu()) == []
    table.say("b")
    assert table.granted("c", gpu()) == [gpu()]


def test_a_lost_answer_is_set_right_by_the_next_statement():
    table = Table()
    assert table.granted("a", gpu(2)) == [gpu(2)]
    table.held["a"].clear()  # it has never heard of it

    assert table.granted("a", gpu(2)) == [gpu(2)]
    assert table.granted("b", gpu()) == []


def test_what_a_forgotten_member_held_is_free():
    table = Table()
    table.say("a", gpu(2))
    table.say("b", gpu())
    table.forget("a")
    assert table.granted("b", gpu()) == [gpu()]


def test_nothing_is_granted_on_top_of_what_a_member_from_the_dead_uses():
    table = Table()
    table.say("a", gpu(2))
    table.forget("a")
    assert table.granted("b", gpu(2)) == [gpu(2)]
    answer = table.say("a", gpu())
    assert not answer.granted
    assert answer.free["gpu"] == -2
    table.say("b", held={})
    assert table.granted("a", gpu()) == []
    table.say("a", held={})
    assert table.granted("a", gpu()) == [gpu()]


def test_totals_and_rates_are_the_same_for_all():
    table = Table(SLOW)
    table.say("a")
    ledger = Ledger.read(table.body)

    assert ledger.conflict("b", {"gpu": 2, "other": 7}, SLOW) is None
    assert ledger.conflict("a", {"gpu": 3}, WIDE) is None  # its own
    found = ledger.conflict("b", {"gpu": 3}, {})
    assert (found.member, found.limit, found.ours, found.theirs) == ("a", "gpu", 3, 2)
    found = ledger.conflict("b", {}, WIDE)
    assert (found.limit, found.ours) == (API, "10/s with burst 20")
    ledger.forget(["a"])
    assert ledger.conflict("b", {"gpu": 3}, WIDE) is None


def test_a_statement_that_changes_nothing_says_so():
    table = Table()
    assert table.say("a", gpu(3)).changed
    assert not table.say("a", gpu(3)).changed
    assert table.say("a", gpu(2)).changed


@pytest.mark.parametrize("body", [b"{", b"[]", b"[1, 2, 3, 4]", b'[1, 0, {"a": [1]}, {}]', b"7"])
def test_a_document_of_something_else_is_refused(body):
    with pytest.raises(StoreError, match="cannot be read"):
        Ledger.read(body)


def test_a_document_of_another_version_is_refused():
    with pytest.raises(StoreError, match="version 2, but this Cascade knows only 1"):
        Ledger.read(b"[2, 0, {}, {}]")


# -- rates -----------------------------------------------------------------------------------------


def token(count=1):
    return {API: count}


def test_a_bucket_begins_full_and_fills_with_time():
    table = Table(SLOW)
    answer = table.say("a", token(), token())
    assert (len(answer.granted), answer.wait) == (1, 1.0)
    table.now = 0.75
    assert table.say("a", token()).wait == 0.25
    table.now = 1.0
    assert table.granted("a", token()) == [token()]
    table.now = 100.0
    assert len(table.granted("a", token(), token())) == 1


def test_tokens_are_granted_in_the_order_of_tickets():
    table = Table(SLOW)
    table.say("a", token())
    assert table.say("b", token()).wait == 1.0
    assert table.say("c", token()).wait == 2.0
    table.now = 1.0
    assert table.say("c", token()).wait == 1.0
    assert table.granted("b", token()) == [token()]
    assert table.say("c", token()).wait == 1.0


def test_a_ticket_for_tokens_and_amounts_takes_both_or_none():
    table = Table(SLOW)
    table.say("a", gpu(2))
    both = gpu(1) | token()
    answer = table.say("b", both)
    assert not answer.granted
    assert answer.wait is None  # not a matter of time alone
    table.say("a", held={})
    assert table.granted("b", both) == [both]
    assert table.say("b", token()).wait == 1.0


def test_tokens_are_lent_only_if_no_ticket_needs_them():
    table = Table(WIDE)
    assert table.say("a", token(), extras={"api": 5}).extras == {"api": 5}
    assert table.say("b", *[token()] * 10, extras={"api": 5}).extras == {"api": 4}
    assert table.say("a", token(), extras={"api": 5}).extras == {}
    table.now = 0.4
    # Of the four that have come, one is for the ticket of a.
    assert table.say("b", token(), extras={"api": 5}).extras == {"api": 2}


def test_tokens_are_lent_only_beside_one_that_is_granted():
    """An attempt that waits for an amount would not use them in time, and ask again and again."""
    table = Table(WIDE)
    table.say("a", gpu(2))
    assert table.say("b", gpu(1) | token(), extras={"api": 5}).extras == {}
    assert table.say("b", gpu(1), extras={"api": 5}).extras == {}
    table.say("a", held={})
    assert table.say("b", gpu(1) | token(), extras={"api": 5}).extras == {"api": 5}


def test_a_clock_that_is_set_back_fills_nothing():
    table = Table(SLOW)
    table.now = 1000.0
    table.say("a", token())
    table.now = 10.0
    assert table.say("a", token()).wait == 1.0
    table.now = 11.0
    assert table.granted("a", token()) == [token()]


def test_a_bucket_stays_until_it_is_full_when_all_have_left():
    table = Table(SLOW)
    table.say("a", token())
    table.forget("a")
    table.now = 0.5
    assert table.say("b", token()).wait == 0.5
    table.forget("b")
    table.rates = {}
    table.now = 2.0
    table.say("c")
    assert "api" not in table.body.decode()


# -- any order -------------------------------------------------------------------------------------


#: How many orders, each with a seed of its own.
some_or_many = pytest.mark.parametrize(
    "cases", [10, pytest.param(3_000, marks=[pytest.mark.thorough, pytest.mark.timeout(0)])]
)


@some_or_many
def test_never_more_than_the_total_and_every_ticket_gets_its_turn(cases):
    """Members come and go, die, and lose answers; each ticket is granted in the end."""
    for seed in range(cases):
        use_amounts(random.Random(seed))


def use_amounts(chance):
    table = Table(totals={"gpu": 4, "memory": 10})
    names = [f"m{n}" for n in range(chance.randint(2, 6))]
    left = {name: chance.randint(3, 12) for name in names}
    wants = {name: [] for name in names}
    for _ in range(10_000):
        alive = [name for name in names if left[name] or wants[name] or table.held.get(name)]
        if not alive:
            break
        name = chance.choice(alive)
        held = table.held.setdefault(name, {})
        if held and chance.random() < 0.5:
            held.clear()  # its calls have ended
        while left[name] and len(wants[name]) < 3 and chance.random() < 0.7:
            need = {"gpu": chance.randint(1, 4)} if chance.random() < 0.8 else {}
            need |= {"memory": chance.randint(1, 10)} if not need or chance.random() < 0.5 else {}
            wants[name].append(need)
            left[name] -= 1
        granted = table.granted(name, *wants[name])
        if chance.random() < 0.1:  # the answer is lost
            for amounts in granted:
                for what, amount in amounts.items():
                    held[what] -= amount
        else:
            for amounts in granted:
                wants[name].remove(amounts)
        if chance.random() < 0.02:  # it dies, and begins anew
            table.forget(name)
            held.clear()
        for what, total in table.totals.items():
            assert sum(each.get(what, 0) for each in table.held.values()) <= total
    else:
        raise AssertionError(f"{wants} wait with {table.held} in use")


@some_or_many
def test_no_more_tokens_than_the_rate_allows_in_any_time(cases):
    """Also when members die with what was lent to them."""
    for seed in range(cases):
        take_tokens(random.Random(seed))


def take_tokens(chance):
    speed, size = chance.choice([0.5, 10, 100]), chance.choice([1, 2.5, 20])
    table = Table({"api": Rate(speed, size, "")})
    taken = []
    for _ in range(300):
        table.now += chance.choice([0, 0.1, 0.5, 3]) * chance.random() * size / speed
        name = f"m{chance.randrange(4)}"
        wants = [token()] * chance.randint(0, 4)
        answer = table.say(name, *wants, extras={"api": chance.randint(0, 5)})
        count = len(answer.granted) + answer.extras.get("api", 0)
        taken += [table.now] * count
        if chance.random() < 0.1:
            table.forget(name)
    for first, begin in enumerate(taken):
        for last in range(first, min(first + 60, len(taken))):
            allowed = size + (taken[last] - begin) * speed
            assert last - first + 1 <= allowed + 1e-6
