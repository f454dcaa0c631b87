"""Long-lived agents: coroutine tasks that await and tail-call, thousands of them on one loop."""

import asyncio
import gc
import tracemalloc

import pytest

import cascade as cs
from cascade.runtime.clock import run_virtually

ROUNDS = 3


@cs.task
async def pass_on(inbox, outbox, left):
    """Take the token from one neighbour and give it to the next, so many times."""
    token = await inbox.get()
    outbox.put_nowait(token + 1)
    if left > 1:
        return pass_on.tail(left=left - 1)
    return token


@cs.task
async def start(queue):
    queue.put_nowait(0)


@cs.task
async def beat(times, period):
    """Wait for a timer, again and again."""
    await asyncio.sleep(period)
    return beat.tail(times - 1, period) if times > 1 else period


@pytest.fixture(params=[400, pytest.param(5_000, marks=pytest.mark.thorough)], ids=str)
def agents(request):
    return request.param


def a_ring(agents):
    queues = [asyncio.Queue() for _ in range(agents)]
    return queues, [
        pass_on(queues[place], queues[(place + 1) % agents], ROUNDS) for place in range(agents)
    ]


def test_agents_are_fused():
    assert cs.explain(pass_on).tier == cs.explain(beat).tier == "fused"


@pytest.mark.parametrize("tier", ["interpreted", "generated", "auto"])
async def test_hundreds_in_one_run(tier, agents):
    """M5: all of them are under way at once, or the token would never come round."""
    queues, ring = a_ring(agents)
    async with cs.Engine(tier=tier) as engine:
        tokens = await engine.run([start(queues[0]), *ring], use_vm=True)
    assert tokens[1:] == [agents * (ROUNDS - 1) + place for place in range(agents)]


async def test_each_in_a_run_of_its_own(agents):
    queues, ring = a_ring(agents)
    async with cs.Engine() as engine:
        queues[0].put_nowait(0)
        tokens = await asyncio.gather(*(engine.run(agent, use_vm=True) for agent in ring))
        assert engine.runs() == []
    assert tokens == [agents * (ROUNDS - 1) + place for place in range(agents)]


@pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])
def test_timers_in_virtual_time(use_vm):
    async def main():
        async with cs.Engine() as engine:
            agents = [beat(100, period) for period in range(1, 101)]
            loop = asyncio.get_running_loop()
            began = loop.time()
            assert await engine.run(agents, use_vm=use_vm) == list(range(1, 101))
            return loop.time() - began

    assert run_virtually(main) == pytest.approx(100 * 100)


async def test_an_agent_that_waits_ends_when_it_is_cancelled():
    inbox, outbox = asyncio.Queue(), asyncio.Queue()
    async with cs.Engine() as engine:
        agent = asyncio.create_task(engine.run(pass_on(inbox, outbox, 10**9), use_vm=True))
        for token in range(5):
            inbox.put_nowait(token)
            assert await outbox.get() == token + 1
        assert [run.target for run in engine.runs()] == ["pass_on"]
        agent.cancel()
        with pytest.raises(asyncio.CancelledError):
            await agent
        assert engine.runs() == []


async def test_memory_stays_flat():
    """However long an agent lives."""
    inbox = asyncio.Queue()

    def kept():
        """Bytes that Cascade and this file hold; a cluster of other tests allocates on its own."""
        gc.collect()
        ours = [tracemalloc.Filter(True, name) for name in ("*/cascade/*", __file__)]
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(ours).traces)

    class Outbox:
        taken = before = after = 0

        def put_nowait(self, token):
            self.taken += 1
            inbox.put_nowait(token)
            if self.taken == 2_000:
                self.before = kept()
            if self.taken == 11_999:
                self.after = kept()

    outbox = Outbox()
    inbox.put_nowait(0)
    tracemalloc.start()
    try:
        async with cs.Engine() as engine:
            await engine.run(pass_on(inbox, outbox, 12_000), use_vm=True)
    finally:
        tracemalloc.stop()
    assert outbox.taken == 12_000
    assert 0 < outbox.after < outbox.before + 16 * 1024
