"""The queue of limits, driven at random, agrees with a model that looks at every permit."""

import math
import random
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
)
from tests.engine.limits.fakes import Limits

from cascade.runtime.limits.permits import INSIDE, OUT, WAITING
from cascade.runtime.limits.rules import (
    CONCURRENCY,
    KINDS,
    PAUSE,
    RATE_LIMIT,
    Constraint,
    matcher,
)

CAPACITIES = {"gpu": 2, "disk": 1.5, "net": 8}
TASKS = ["fetch_a", "fetch_b", "train"]
SCOPES = ["global", "task:fetch_*", "task:train", "task:fetch_a"]
#: Of one second; all that happens does so at a multiple of it, so that floats are exact.
TICK = 0.25
THOROUGH = settings.get_current_profile_name() == "thorough"
RATES = {"1/s": 1, "2/s": 2, "4/s": 4, "30/m": Fraction(1, 2), "800/s": 800}


class Waiter:
    """One permit, and its state in the model."""

    def __init__(self, number, engine, task, amounts, most, permit):
        self.number, self.engine, self.task, self.most = number, engine, task, most
        self.amounts, self.permit = amounts, permit
        self.state, self.calls = WAITING, 0
        self.kinds = ()
        self.was_short = False

    @property
    def alike(self):
        return self.engine, self.task, tuple(sorted(self.amounts.items()))


class Bound:
    """A constraint in force, as the model has it."""

    def __init__(self, constraint, now):
        self.constraint = constraint
        self.matches = matcher(constraint.scope)
        self.expires = math.inf if constraint.ttl is None else now + constraint.ttl
        self.inside = set()
        self.begun = []
        self.since = now
        if constraint.kind == RATE_LIMIT:
            self.rate = Fraction(RATES[constraint.value])
            self.size = max(Fraction(constraint.burst), self.rate / 100)
            self.tokens, self.lent, self.at = self.size, {}, Fraction(now)

    def fill(self, now):
        if self.constraint.kind == RATE_LIMIT:
            self.tokens = min(self.size, self.tokens + (Fraction(now) - self.at) * self.rate)
            self.at = Fraction(now)
            over = self.tokens + sum(self.lent.values()) - self.size
            for waiter, lent in self.lent.items():  # the bucket would be full
                self.lent[waiter] = lent - min(lent, max(over, 0))
                over -= lent

    def room(self):
        if self.constraint.kind == PAUSE:
            return 0
        if self.constraint.kind == CONCURRENCY:
            return math.inf if len(self.inside) < self.constraint.value else 0
        return math.floor(self.tokens)

    def succeed(self, before, now):
        before.fill(now)
        self.inside = before.inside
        if self.constraint.kind == RATE_LIMIT:
            self.tokens = min(before.tokens, self.size)


class Model:
    """Everybody is looked at in the order of arrival, by the words of ``limits.resources``."""

    def __init__(self, engines):
        self.free = {name: Fraction(amount) for name, amount in CAPACITIES.items()}
        self.bounds = [{} for _ in range(engines)]
        self.queue = []
        self.inside = []
        self.now = 0.0

    def look(self):
        for bounds in self.bounds:
            for key in [key for key, bound in bounds.items() if bound.expires <= self.now]:
                del bounds[key]
            for bound in bounds.values():
                bound.fill(self.now)
        full, kept, blocked = set(), dict.fromkeys(CAPACITIES, Fraction()), set()
        for waiter in list(self.queue):
            if waiter.alike in blocked:
                continue
            if self.lets_in(waiter, full, kept):
                self.queue.remove(waiter)
                self.inside.append(waiter)
            else:
                blocked.add(waiter.alike)

    def lets_in(self, waiter, full, kept):
        bounds = [b for b in self.bounds[waiter.engine].values() if b.matches(waiter.task)]
        short = any(self.free[n] - kept[n] < amount for n, amount in waiter.amounts.items())
        if any(bound.constraint.kind == PAUSE for bound in bounds):
            return False
        closed = [bound for bound in bounds if bound in full or bound.room() < 1]
        full.update(closed)
        waiter.was_short |= short and not closed
        if closed and not waiter.was_short:
            return False
        if closed or short:
            for name, amount in waiter.amounts.items():
                enough = self.free[name] - kept[name] >= amount
                kept[name] = kept[name] + amount if enough else math.inf
            return False
        self.take(waiter, bounds)
        return True

    def take(self, waiter, bounds):
        waiter.calls = min([waiter.most, *(bound.room() for bound in bounds)])
        waiter.state, waiter.kinds = INSIDE, tuple(bounds)
        for name, amount in waiter.amounts.items():
            self.free[name] -= amount
        for bound in bounds:
            bound.inside.add(waiter)
            if bound.constraint.kind == RATE_LIMIT:
                bound.tokens -= waiter.calls
                bound.lent[waiter] = waiter.calls
                bound.begun.append([Fraction(self.now), waiter.calls, waiter])

    def leave(self, waiter, unused):
        if waiter.state == WAITING:
            self.queue.remove(waiter)
        elif waiter.state == INSIDE:
            self.inside.remove(waiter)
            for name, amount in waiter.amounts.items():
                self.free[name] += amount
            for bound in waiter.kinds:
                bound.inside.discard(waiter)
                if bound.constraint.kind == RATE_LIMIT:
                    bound.fill(self.now)
                    bound.tokens += min(unused, bound.lent.pop(waiter))
                    for begun in bound.begun:
                        begun[1] -= unused * (begun[2] is waiter)
        waiter.state = OUT


class Both:
    """The managers of two engines that share one Capacities, and the model of them."""

    def __init__(self):
        self.limits = Limits(CAPACITIES)
        self.managers = [self.limits.constraints, self.limits.engine()]
        self.model = Model(len(self.managers))
        self.waiters = []
        self.told = []

    # -- actions ------------------------------------------------------------------------------

    def enter(self, engine, task, amounts, most):
        number = len(self.waiters)

        def begin():
            self.told.append(number)
            assert self.limits.resources.begin(permit)

        permit = self.limits.permit(
            task,
            most=most,
            constraints=self.managers[engine],
            on_admitted=begin,
            **amounts,
        )
        taken = {name: Fraction(repr(amount)) for name, amount in amounts.items()}
        waiter = Waiter(number, engine, task, taken, most, permit)
        self.waiters.append(waiter)
        self.model.queue.append(waiter)
        self.model.look()
        self.told.clear()
        assert self.limits.resources.enter(permit) == (waiter.state == INSIDE)
        assert number not in self.told, "only those are told who had to wait"

    def leave(self, chance, unused):
        """One that waits gives up, one that is in is done, one that is out says so again."""
        here = [w for w in self.waiters if w.state != OUT] or self.waiters
        if not here:
            return
        waiter = here[chance % len(here)]
        unused = min(unused, max(waiter.calls - 1, 0)) if waiter.state == INSIDE else 0
        self.model.leave(waiter, unused)
        self.model.look()
        self.limits.resources.leave(waiter.permit, unused)

    def set(self, engine, constraint):
        self.managers[engine].set(constraint)
        bounds, now = self.model.bounds[engine], self.model.now
        before = bounds.get(constraint.key)
        bounds[constraint.key] = Bound(constraint, now)
        if before is not None and before.expires > now:
            bounds[constraint.key].succeed(before, now)
        self.model.look()

    def remove(self, engine, scope, kind):
        bounds = self.model.bounds[engine]
        gone = [key for key in bounds if key[0] == scope and kind in (None, key[1])]
        for key in gone:
            del bounds[key]
        self.model.look()
        assert self.managers[engine].remove(scope, kind) == bool(gone)

    def clear(self, engine):
        self.managers[engine].clear()
        self.model.bounds[engine].clear()
        self.model.look()

    def wait(self, ticks):
        for _ in range(ticks):
            self.limits.loop.advance(TICK)
            self.model.now += TICK
            self.model.look()

    # -- invariants ---------------------------------------------------------------------------

    def check(self):
        self.model_says_the_same()
        inside = [w for w in self.waiters if w.permit.state == INSIDE]
        for name, amount in CAPACITIES.items():
            assert sum(w.amounts.get(name, 0) for w in inside) <= Fraction(amount)
        for bounds in self.model.bounds:
            for bound in bounds.values():
                if bound.constraint.kind == RATE_LIMIT:
                    self.check_windows(bound)
        self.check_order()
        told = {t: limit for t, limit, _ in self.limits.resources.waiting(self.limits.run)}
        assert told.keys() == {w.permit for w in self.waiters if w.state == WAITING}
        assert all(told.values())

    def model_says_the_same(self):
        for waiter in self.waiters:
            assert waiter.permit.state == waiter.state, (waiter.number, waiter.task)
            assert waiter.state != INSIDE or waiter.permit.calls == waiter.calls
        free = {name: float(amount) for name, amount in self.model.free.items()}
        assert self.limits.resources.available == free
        for manager, bounds in zip(self.managers, self.model.bounds, strict=True):
            assert [i.constraint for i in manager.active()] == [
                bound.constraint for bound in bounds.values()
            ]

    def check_windows(self, bound):
        """In no time t do more than size + t * rate begin."""
        begun = bound.begun
        for first in range(len(begun)):
            count = 0
            for now, calls, waiter in begun[first:]:
                assert waiter.permit.state != WAITING
                count += calls
                assert count <= bound.size + (now - begun[first][0]) * bound.rate

    def check_order(self):
        """Equal permits come in their order."""
        waiting = set()
        for waiter in self.waiters:
            if waiter.permit.state == WAITING:
                waiting.add(waiter.alike)
            elif waiter.permit.state == INSIDE:
                assert waiter.alike not in waiting

    def end(self):
        for waiter in self.waiters:
            self.limits.resources.leave(waiter.permit)
        assert self.limits.resources.available == CAPACITIES
        assert self.limits.resources.waiting(self.limits.run) == []
        self.limits.loop.advance()
        assert self.limits.loop.pending == [], "no alarm is left"


amounts = st.fixed_dictionaries(
    {},
    optional={
        "gpu": st.sampled_from([1, 2]),
        "disk": st.sampled_from([0.1, 0.5, 1.5]),
        "net": st.sampled_from([1, 8]),
    },
)
engines, scopes, most = st.integers(0, 1), st.sampled_from(SCOPES), st.sampled_from([1, 1, 1, 2, 5])
ttls = st.sampled_from([None, None, TICK, 1.0, 2.5])
constraints = st.one_of(
    st.builds(Constraint, scopes, st.just(PAUSE), ttl=ttls),
    st.builds(Constraint, scopes, st.just(CONCURRENCY), st.integers(1, 3), ttl=ttls),
    st.builds(
        Constraint,
        scopes,
        st.just(RATE_LIMIT),
        st.sampled_from(list(RATES)),
        st.integers(1, 3),
        ttls,
    ),
)


class Queue(RuleBasedStateMachine):
    """Both, driven by hypothesis: the shortest sequence that fails."""

    def __init__(self):
        super().__init__()
        self.both = Both()

    @rule(engine=engines, task=st.sampled_from(TASKS), amounts=amounts, most=most)
    def enter(self, **given):
        self.both.enter(**given)

    @rule(chance=st.integers(0, 20), unused=st.integers(0, 4))
    def leave(self, **given):
        self.both.leave(**given)

    @rule(engine=engines, constraint=constraints)
    def set(self, **given):
        self.both.set(**given)

    @rule(engine=engines, scope=scopes, kind=st.sampled_from([None, *KINDS]))
    def remove(self, **given):
        self.both.remove(**given)

    @rule(engine=engines)
    def clear(self, engine):
        self.both.clear(engine)

    @rule(ticks=st.integers(1, 12))
    def wait(self, ticks):
        self.both.wait(ticks)

    @invariant()
    def holds(self):
        self.both.check()

    def teardown(self):
        self.both.end()


Queue.TestCase.settings = settings(
    max_examples=settings().max_examples if THOROUGH else min(settings().max_examples, 60),
    stateful_step_count=40,
    deadline=None,
    derandomize=not THOROUGH,
    database=None,
)
TestQueue = pytest.mark.timeout(0)(Queue.TestCase)


def drawn_constraint(chance):
    kind, ttl = chance.choice(KINDS), chance.choice([None, None, TICK, 1.0, 2.5])
    value = {
        PAUSE: None,
        CONCURRENCY: chance.randint(1, 3),
        RATE_LIMIT: chance.choice(list(RATES)),
    }[kind]
    burst = chance.randint(1, 3) if kind == RATE_LIMIT else 1
    return Constraint(chance.choice(SCOPES), kind, value, burst, ttl)


def drawn_amounts(chance):
    possible = {"gpu": [1, 2], "disk": [0.1, 0.5, 1.5], "net": [1, 8]}
    return {name: chance.choice(some) for name, some in possible.items() if chance.random() < 0.4}


@pytest.mark.parametrize(
    "seed",
    [*range(12), *(pytest.param(n, marks=pytest.mark.thorough) for n in range(12, 100))],
)
def test_long_drives(seed):
    """As above, but longer, and with the queue kept busy, by chance that is the same each time."""
    chance = random.Random(seed)
    both = Both()
    steps = {"enter": 10, "leave": 9, "set": 2, "remove": 2, "clear": 0.1, "wait": 3}
    for _ in range(200):
        engine = chance.randint(0, 1)
        match chance.choices([*steps], [*steps.values()])[0]:
            case "enter":
                most = chance.choice([1, 1, 2, 5])
                both.enter(engine, chance.choice(TASKS), drawn_amounts(chance), most)
            case "leave":
                both.leave(chance.randrange(100), chance.randint(0, 4))
            case "set":
                both.set(engine, drawn_constraint(chance))
            case "remove":
                both.remove(engine, chance.choice(SCOPES), chance.choice([None, *KINDS]))
            case "clear":
                both.clear(engine)
            case "wait":
                both.wait(chance.randint(1, 4))
        both.check()
    both.end()


# -- everybody gets their turn --------------------------------------------------------------------


def test_a_large_one_gets_its_turn_under_a_stream_of_small_ones():
    limits = Limits({"gpu": 4})
    small = [limits.enter(f"small {n}", gpu=1)[0] for n in range(4)]
    large, is_in = limits.enter("large", gpu=4)
    assert not is_in
    for turn in range(4):
        small.append(limits.enter(f"late {turn}", gpu=1)[0])
        limits.resources.leave(small[turn])
    assert large.state == INSIDE
    assert [permit.state for permit in small[4:]] == [WAITING] * 4
    limits.resources.leave(large)
    assert limits.told == ["large", "late 0", "late 1", "late 2", "late 3"]


def test_one_that_needs_two_limits_gets_them_though_one_of_them_is_always_taken():
    """A constraint has room whenever the capacity has none, and vice versa."""
    limits = Limits({"gpu": 1})
    limits.constraints.limit_concurrency("task:a*", 1)
    a, _ = limits.enter("a 0")
    g, _ = limits.enter("g 0", gpu=1)
    both, _ = limits.enter("a both", gpu=1)
    for turn in range(1, 10):
        next_a, _ = limits.enter(f"a {turn}")
        limits.resources.leave(a)
        next_g, _ = limits.enter(f"g {turn}", gpu=1)
        limits.resources.leave(g)
        a, g = next_a, next_g
        if both.state == INSIDE:
            break
    assert both.state == INSIDE
    assert turn == 2  # `a` leaves first; then it is short, and keeps its reservation


def test_a_call_waiting_for_a_constraint_blocks_no_capacity():
    limits = Limits({"gpu": 1})
    limits.constraints.limit_concurrency("task:a", 1)
    limits.enter("a")
    _, first = limits.enter("a", gpu=1)
    _, second = limits.enter("b", gpu=1)
    assert (first, second) == (False, True)


def test_a_paused_call_blocks_nothing():
    limits = Limits({"gpu": 1})
    holder, _ = limits.enter("other", gpu=1)
    paused, _ = limits.enter("a", gpu=1)
    limits.constraints.pause("task:a")
    limits.resources.leave(holder)
    _, is_in = limits.enter("b", gpu=1)
    assert is_in
    assert paused.state == WAITING
