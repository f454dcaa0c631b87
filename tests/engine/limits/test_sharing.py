"""Capacities that are shared through a store: its failures, its end, and time."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import threading
import time

import pytest
from tests.engine.limits.fakes import Limits

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.adapters.stores.memory_limits import MemoryLimits
from cascade.runtime.limits import clerk, membership
from cascade.runtime.limits.ledger import Ledger
from cascade.runtime.limits.rules import Constraint
from cascade.runtime.limits.shared_rates import SharedRateRule
from cascade.spec.errors import ArgumentError, CapacityError, StoreError
from cascade.testing import VirtualTime


class Remote(MemoryLimits):
    """A store that might be far away: only some of what is asked of it succeeds.

    Attributes:
        fails: What to do: None, or an exception to raise before or after the revision.
    """

    local = False

    def __init__(self):
        super().__init__(time.monotonic)
        self.fails = None
        self.fails_after = None
        self.revisions = 0
        self.reads = 0

    def limits(self):
        return self

    def read(self, name):
        if self.fails is not None:
            raise self.fails
        self.reads += 1
        return super().read(name)

    def revise(self, name, revision):
        if self.fails is not None:
            raise self.fails
        self.revisions += 1
        super().revise(name, revision)
        if self.fails_after is not None:
            raise self.fails_after

    @property
    def ledger(self):
        return Ledger.read(self.read(clerk.DOCUMENT)[0])


@pytest.fixture
def remote():
    return Remote()


@pytest.fixture
def share():
    """Makes Capacities that end with the test."""
    made = []

    def share(totals=None, store="memory:", **options):
        capacities = cs.Capacities(totals, store=store, **options)
        made.append(capacities)
        return capacities

    yield share
    for capacities in made:
        capacities.end_sharing()


@cs.task(capacities={"gpu": 1})
async def work(n=0, pause=0.0):
    await asyncio.sleep(pause)
    return n


def until(condition):
    """Wait for what a thread does."""
    for _ in range(4_000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come true")


# -- arguments -------------------------------------------------------------------------------------


def test_a_store_that_keeps_no_limits_is_refused():
    with pytest.raises(ArgumentError, match=r"a store that keeps limits.*but got <object"):
        cs.Capacities({"gpu": 1}, store=object())
    with pytest.raises(ArgumentError, match="names no store"):
        cs.Capacities({"gpu": 1}, store="redis://host")
    with pytest.raises(StoreError, match="cannot be used"):
        cs.Capacities({"gpu": 1}, store="sqlite:////no/such/folder/limits.db")


@pytest.mark.parametrize("lease", [0, 0.1, -1, "10", float("nan")])
def test_a_lease_is_at_least_half_a_second(lease):
    with pytest.raises(ArgumentError, match="lease"):
        cs.Capacities({"gpu": 1}, store="memory:", lease=lease)


def test_amounts_that_cannot_be_are_errors_as_without_a_store(share):
    with pytest.raises(ArgumentError, match="0 of 'gpu'"):
        cs.Capacities({"gpu": 0}, store="memory:")
    with pytest.raises(CapacityError, match="has only 2"):
        cs.run(work().with_capacity(gpu=3), capacities=share({"gpu": 2}))
    with pytest.raises(CapacityError, match="but the engine has 'gpus'"):
        cs.run(work(), capacities=share({"gpus": 2}))


def test_only_a_rate_limit_can_be_shared():
    with pytest.raises(ArgumentError, match=r"only a rate limit .* 'concurrency'"):
        Constraint("global", "concurrency", 3, shared="api")
    for name in ("", 7, "a\nb", "x" * 201):
        with pytest.raises(ArgumentError, match="shared= takes a name"):
            Constraint("global", "rate_limit", "1/s", shared=name)
    told = str(Constraint("global", "rate_limit", "1/s", shared="api"))
    assert told == "rate_limit global 1/s shared as 'api'"


def test_a_rate_cannot_be_shared_without_a_store():
    engine = cs.Engine(capacities={"gpu": 1})
    with pytest.raises(ArgumentError, match=r"give its capacities a store: Engine\(capac"):
        engine.constraints.limit_rate("global", "1/s", shared="api")
    assert engine.constraints.active() == []


def test_engines_of_one_process_have_the_same_rate(share):
    capacities = share()
    one, other = cs.Engine(capacities=capacities), cs.Engine(capacities=capacities)
    one.constraints.limit_rate("global", "1/s", shared="api")
    with pytest.raises(ArgumentError, match=r"'api' is 2/s .* here, but 1/s .* in another engine"):
        other.constraints.limit_rate("global", "2/s", shared="api")
    one.constraints.limit_rate("global", "3/s", shared="api")  # it may change its own
    assert [info.constraint.value for info in one.constraints.active()] == ["3/s"]


# -- paths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_vm", [False, True])
def test_all_kinds_of_calls_take_shared_amounts(share, use_vm):
    @cs.task(capacities={"gpu": 1})
    def plain(n):
        return n

    @cs.task(capacities={"gpu": 2})
    def count(n):
        return count.tail(n - 1) if n else "counted"

    @cs.task(capacities={"gpu": 2})
    async def wait(n):
        await asyncio.sleep(0)
        return wait.tail(n - 1) if n else "waited"

    target = [plain.map(n=range(4)), count(20), wait(5), work(7).with_capacity(gpu=plain(2))]
    for store in ("memory:", Remote()):
        capacities = share({"gpu": 2}, store)
        value = cs.run(target, capacities=capacities, use_vm=use_vm)
        assert value == [[0, 1, 2, 3], "counted", "waited", 7]


def test_higher_priorities_come_first_within_a_process(share):
    seen = []

    @cs.task(capacities={"gpu": 1})
    async def note(n):
        seen.append(n)
        await asyncio.sleep(0.001)

    target = [note(n).with_priority(1000 * n) for n in range(5)]
    cs.run(target, capacities=share({"gpu": 1}))
    assert seen[1:] == sorted(seen[1:], reverse=True)


def test_a_pause_holds_for_shared_amounts_too(share):
    async def main():
        async with cs.Engine(capacities=share({"gpu": 1}, Remote())) as engine:
            engine.constraints.pause("task:work")
            running = engine.start(work(5))
            await asyncio.sleep(0.02)
            assert [each.reason for each in engine.waiting()] == ["pause task:work"]
            engine.constraints.resume("task:work")
            assert await running.result() == 5

    asyncio.run(main())


def test_amounts_come_back_when_calls_end(share, remote):
    capacities = share({"gpu": 2}, remote)
    cs.run(work.map(n=range(20)), capacities=capacities)
    until(lambda: not any(member.held for member in remote.ledger.members.values()))
    until(lambda: capacities.available == {"gpu": 2})


def test_calls_in_a_row_need_not_ask_for_each_token(share, remote):
    capacities = share(store=remote)

    async def main():
        async with cs.Engine(capacities=capacities) as engine:
            engine.constraints.limit_rate("global", "1000/s", burst=500, shared="api")
            before = remote.revisions
            for n in range(200):
                await engine.run(free(n))
            return remote.revisions - before

    @cs.task
    async def free(n):
        return n

    assert asyncio.run(main()) < 100


# -- a store that fails ----------------------------------------------------------------------------


def test_calls_wait_while_the_store_fails(share, remote, caplog):
    capacities = share({"gpu": 1}, remote)

    async def main():
        async with cs.Engine(capacities=capacities) as engine:
            assert await engine.run(work(1)) == 1
            remote.fails = StoreError("the disk is full")
            running = engine.start(work(2))
            await asyncio.to_thread(until, lambda: capacities.sharing.trouble and engine.waiting())
            assert [each.reason for each in engine.waiting()] == ["capacity gpu (its store fails)"]
            remote.fails = None
            assert await running.result() == 2
            until(lambda: not capacities.sharing.trouble)

    with caplog.at_level(logging.WARNING, "cascade.limits"):
        asyncio.run(main())
    assert [record.message for record in caplog.records] == [
        "calls that need shared limits wait: the disk is full",
        "shared limits can be used again: MemoryLimits()",
    ]


def test_what_was_granted_in_a_lost_answer_is_not_lost(share, remote):
    capacities = share({"gpu": 1}, remote)
    other = share({"gpu": 1}, remote)
    remote.fails_after = StoreError("the connection was lost")

    async def main(capacities):
        async with cs.Engine(capacities=capacities) as engine:
            running = engine.start(work(1))
            await asyncio.to_thread(until, lambda: capacities.sharing.trouble)
            remote.fails_after = None
            assert await running.result() == 1

    asyncio.run(main(capacities))
    asyncio.run(asyncio.wait_for(_run(other), 20))


async def _run(capacities):
    async with cs.Engine(capacities=capacities) as engine:
        return await engine.run(work(2))


def test_a_fault_in_a_round_is_logged_and_the_next_round_is_made(
    share, remote, caplog, monkeypatch
):
    monkeypatch.setattr(clerk, "_AFTER_A_FAULT", 0.01)
    capacities = share({"gpu": 1}, remote)
    remote.fails = ZeroDivisionError()
    capacities.sharing._said = None  # something to tell
    capacities.sharing._clerk.wake()
    until(lambda: "a round to the store of shared limits failed" in caplog.text)
    remote.fails = None
    assert asyncio.run(_run(capacities)) == 2


# -- leases ----------------------------------------------------------------------------------------


def test_a_lease_is_renewed_while_nothing_happens(share, remote):
    share({"gpu": 1}, remote, lease=0.5)
    (first,) = [member.beat for member in remote.ledger.members.values()]
    until(lambda: next(iter(remote.ledger.members.values())).beat >= first + 3)


def test_a_call_that_was_admitted_before_its_lease_ended_asks_again(share, remote, monkeypatch):
    """Its owner was told, and the process was stopped before the call began."""
    told = []
    limits = Limits()
    limits.resources = share({"gpu": 1}, remote)
    limits.constraints = limits.engine()
    permit = limits.permit(gpu=1, on_admitted=lambda: told.append("in"))
    limits.resources.enter(permit)
    until(lambda: told)

    with monkeypatch.context() as stopped:
        stopped.setattr(membership.Membership, "is_valid", False)
        assert not limits.resources.begin(permit)
    until(lambda: len(told) == 2)
    assert limits.resources.begin(permit)
    limits.resources.leave(permit)


def test_a_silent_process_is_taken_for_dead_after_its_lease(remote, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(clerk, "_clock", lambda: now[0])
    one = membership.Membership(remote, {"gpu": 1}, 10)
    other = membership.Membership(remote, {"gpu": 1}, 10)
    one.state(one.statement({"gpu": 1}, {}))
    want = other.statement({}, {})._replace(wants=[{"gpu": 1}])
    for _ in range(3):
        assert not other.state(want).granted
        now[0] += 5  # 15 s after one's last sign, but 10 s after other has seen it
    assert not one.is_valid
    now[0] += 2
    assert other.state(want).granted
    assert list(remote.ledger.members) == [other.name]


def test_one_that_joins_waits_for_a_sign_of_life_of_one_that_knows_another_total(
    remote, monkeypatch
):
    monkeypatch.setattr(membership, "_LOOK", 0.01)
    dead = membership.Membership(remote, {"gpu": 1}, 0.5)
    dead.join()
    started = time.monotonic()
    membership.Membership(remote, {"gpu": 2}, 10).join()
    assert time.monotonic() - started >= 0.5


def test_an_event_loop_does_not_stand_still_until_another_lease_ends(remote):
    membership.Membership(remote, {"gpu": 1}, 10).join()

    async def main():
        with pytest.raises(CapacityError, match=r"known after its lease.*asyncio\.to_thread"):
            cs.Capacities({"gpu": 2}, store=remote)

    asyncio.run(main())


def test_a_boot_clock_is_used_where_there_is_one(monkeypatch):
    assert clerk.clock() > 0
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    assert clerk._best_clock() is time.monotonic


# -- the end ---------------------------------------------------------------------------------------


def test_nothing_is_left_when_capacities_are_garbage(remote):
    capacities = cs.Capacities({"gpu": 1}, store=remote)
    asyncio.run(_run(capacities))
    assert len(remote.ledger.members) == 1
    names = {thread.name for thread in threading.enumerate()}
    assert "cascade-shared-limits" in names
    del capacities

    def has_left():
        gc.collect()  # each time: a round that is under way still refers to them
        return not remote.ledger.members

    until(has_left)


def test_calls_wait_when_sharing_has_ended(share):
    for store in ("memory:", Remote()):
        capacities = share({"gpu": 1}, store)

        async def main(capacities):
            async with cs.Engine(capacities=capacities) as engine:
                assert await engine.run(work(1)) == 1
                capacities.end_sharing()
                with pytest.raises(TimeoutError):
                    await engine.run(work(2), deadline=0.05)

        asyncio.run(main(capacities))


def test_capacities_without_a_store_have_no_sharing_to_end():
    capacities = cs.Capacities({"gpu": 1})
    capacities.end_sharing()
    assert capacities.sharing is None


# -- virtual time ----------------------------------------------------------------------------------


def test_engines_share_in_virtual_time():
    store, starts = open_store("memory:"), []

    @cs.task(capacities={"gpu": 1})
    async def train(n):
        await asyncio.sleep(3600)

    @cs.task
    async def ask(n):
        starts.append(asyncio.get_running_loop().time())

    async def main():
        engines = [cs.Engine(capacities=cs.Capacities({"gpu": 2}, store=store)) for _ in range(2)]
        for engine in engines:
            engine.constraints.limit_rate("task:ask", "1/h", burst=2, shared="api")
        targets = [[train.map(n=range(3)), ask.map(n=range(2))] for _ in engines]
        await asyncio.gather(*(e.run(t) for e, t in zip(engines, targets, strict=True)))
        for engine in engines:
            engine.capacities.end_sharing()

    clock = VirtualTime()
    clock.run(main)
    assert starts == pytest.approx([0, 0, 3600, 7200])
    assert clock.elapsed == pytest.approx(10800)  # 6 hours of 2 gpus


def test_virtual_time_stands_still_while_a_database_answers(share, remote, monkeypatch):
    """Also until the calls are told of the answer, however long a busy machine takes for that."""
    tell = cs.Capacities._tell

    def tell_late(self):
        time.sleep(0.01)
        tell(self)

    monkeypatch.setattr(cs.Capacities, "_tell", tell_late)

    @cs.task(capacities={"gpu": 1})
    async def sleep(n):
        await asyncio.sleep(60)
        return n

    async def main():
        capacities = share({"gpu": 1}, remote)
        async with cs.Engine(capacities=capacities) as engine:
            return await engine.run(sleep.map(n=range(3)), deadline=181)

    clock = VirtualTime()
    assert clock.run(main) == [0, 1, 2]
    assert clock.elapsed == pytest.approx(180)


def test_virtual_time_stands_still_for_calls_that_come_before_a_round_that_is_due(
    share, remote, monkeypatch
):
    """The thread that speaks with the database may be slow to wake."""
    wake = clerk.Clerk.wake
    monkeypatch.setattr(
        clerk.Clerk, "wake", lambda self: threading.Timer(0.05, wake, [self]).start()
    )

    @cs.task(capacities={"gpu": 1})
    async def sleep():
        await asyncio.sleep(60)

    async def main():
        capacities = share({"gpu": 1}, remote)
        async with cs.Engine(capacities=capacities) as engine:
            capacities.sharing.notice()  # no call waits yet
            await engine.run(sleep(), deadline=61)

    VirtualTime().run(main)


def test_tokens_are_asked_for_at_once_if_their_time_has_passed_meanwhile():
    """On a busy machine an answer is used late, and nothing else may tell of its tokens."""
    rule = SharedRateRule(
        Constraint("task:ask", "rate_limit", "10/s", shared="api"), math.inf, lambda now: now
    )
    rule.keep(50.0, 50.1)
    assert rule.opens(50.0) == 50.1
    assert rule.opens(50.2) == 50.2
    rule.keep(50.0, math.inf)  # a thread asks the store
    assert rule.opens(50.2) == math.inf
