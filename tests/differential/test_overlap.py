"""Coroutine tasks overlap on both paths (M5), and sync ones do not stop them (M6)."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from cascade.runtime.engine import Engine
from cascade.runtime.vm import VirtualMachine
from cascade.spec.blueprint import Blueprint, Call, Register, TailCall, literal
from cascade.spec.errors import TaskCancelledError
from cascade.spec.task import task

both_paths = pytest.mark.parametrize("use_vm", [False, True], ids=["graph", "vm"])


@task
async def consume(queue: asyncio.Queue, count: int = 1) -> list:
    return [await queue.get() for _ in range(count)]


@task
async def produce(queue: asyncio.Queue, count: int = 1) -> str:
    for n in range(count):
        await queue.put(n)
    return "produced"


@task
def size(values: list) -> int:
    return len(values)


@task
def same(value: Any) -> Any:
    return value


@task
def pair(a: Any, b: Any) -> tuple:
    return a, b


@task
def consume_later(queue: asyncio.Queue):
    return size(consume(queue))


@task
def become_consumer(queue: asyncio.Queue):
    return consume(queue)


@task
def wait_in_an_argument(queue: asyncio.Queue, got: list | None = None):
    if got is None:
        return TailCall(kwargs={"got": consume(queue)})
    return got


@task
async def consume_in_a_loop(queue: asyncio.Queue, left: int = 3):
    await queue.get()
    return TailCall(kwargs={"left": left - 1}) if left else "consumed"


PROGRAMS: dict[str, Callable[[asyncio.Queue], Any]] = {
    "two arguments": lambda q: pair(consume(q, 3), produce(q, 3)),
    "the other order": lambda q: pair(produce(q, 3), consume(q, 3)),
    "the producer is made after a user of the consumer": lambda q: pair(
        size(consume(q)), produce(q)
    ),
    "the producer waits for a plain task": lambda q: pair(size(consume(q)), produce(same(q))),
    "the consumer is met during the run": lambda q: pair(consume_later(q), produce(q)),
    "a task continues as the consumer": lambda q: pair(become_consumer(q), produce(q)),
    "the consumer is a tail call's argument": lambda q: pair(wait_in_an_argument(q), produce(q)),
    "the consumer loops": lambda q: pair(consume_in_a_loop(q), produce(q, 4)),
    "in maps": lambda q: pair(consume.map(queue=[q, q, q]), produce.map(queue=[q, q, q])),
    "in containers": lambda q: pair([{"a": consume(q)}], (produce(q),)),
    "the consumer is a condition": lambda q: pair(same(1).run_if(consume(q)), produce(q)),
    "the consumer is a predecessor": lambda q: pair(same(1).after(consume(q)), produce(q)),
    "the consumer is shared": lambda q: (lambda c: pair([size(c), size(c)], produce(q)))(
        consume(q)
    ),
}


@both_paths
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
async def test_a_producer_and_a_consumer_do_not_wait_for_ever(program, use_vm: bool):
    queue: asyncio.Queue = asyncio.Queue(maxsize=1)
    async with Engine() as engine, asyncio.timeout(20):
        await engine.run(program(queue), use_vm=use_vm)
    assert queue.empty()


@both_paths
async def test_a_sync_task_may_wait_for_a_coroutine_that_is_under_way(use_vm: bool):
    """M6: inline it would stop the loop that the coroutine needs."""
    seen, event = threading.Event(), threading.Event()

    @task
    async def announce():
        while not seen.is_set():  # noqa: ASYNC110 - set in a thread
            await asyncio.sleep(0)
        event.set()
        return "announced"

    @task
    def wait():
        seen.set()
        return event.wait(20)

    async with Engine() as engine, asyncio.timeout(20):
        assert await engine.run(pair(announce(), wait()), use_vm=use_vm) == ("announced", True)


@pytest.mark.parametrize("shape", ["loop", "continuation", "instruction"])
async def test_a_sync_task_that_waits_for_another_run_keeps_it_waiting_once(shape: str):
    """M6: a call in the event loop's thread waits as long as it says, and the next ones do not."""
    event, late, outcomes = threading.Event(), [0.05], []

    @task
    def wait(n: int):
        outcomes.append(event.wait(late.pop() if late else 20))
        return wait.tail(n - 1) if shape == "loop" and n else n

    @task
    def go_on(n: int):
        return same(wait(n - 1)) if n > 1 else n

    @task
    async def let_go():
        while not outcomes:  # noqa: ASYNC110 - set in a thread
            await asyncio.sleep(0)
        event.set()

    programs = {
        "loop": lambda: wait(3),
        "continuation": lambda: [go_on(2), wait(1)],
        "instruction": lambda: [wait(1), wait(2)],
    }
    async with Engine() as engine, asyncio.timeout(20):
        running = engine.run(programs[shape](), use_vm=True)
        await asyncio.gather(running, engine.run(let_go(), use_vm=True))
    assert outcomes[0] in (False, True)  # it began before or after the other run had its turn
    assert all(outcomes[1:])


@both_paths
async def test_values_of_coroutines_that_ended_unread_are_found_later(use_vm: bool):
    """M5: awaited at first use, however long ago it ended."""

    @task
    async def after_turns(n: int):
        for _ in range(n):
            await asyncio.sleep(0)
        return n

    quick, slow = after_turns(0), after_turns(9)
    program = pair(same(slow), [same(quick), quick, literal(1)])
    async with Engine() as engine:
        assert await engine.run(program, use_vm=use_vm) == (9, [0, 0, 1])


@both_paths
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_a_task_that_raises_cancelled_error_fails(is_async, use_vm: bool):
    """M13: the run was not cancelled, so it is an error like any other, and nothing hangs."""

    def give_up():
        raise asyncio.CancelledError("given up")

    async def agive_up():
        give_up()

    async with Engine() as engine, asyncio.timeout(20):
        tired = task(agive_up if is_async else give_up)
        with pytest.raises(TaskCancelledError) as caught:
            await engine.run(pair(tired(), produce(asyncio.Queue())), use_vm=use_vm)
    assert str(caught.value.__cause__) == "given up"


async def test_a_blueprint_by_hand_may_use_a_register_for_several_values():
    """M5: instructions are put off only where no register is written twice."""

    async def slow():
        await asyncio.sleep(0)
        return 1

    async def quick():
        return 2

    def add(a, b):
        return a + b

    r = [Register(index) for index in range(4)]
    blueprint = Blueprint(
        [
            Call(slow, r[0]),
            Call(quick, r[1]),
            Call(add, r[2], [r[0], r[1]]),  # 3
            Call(slow, r[0]),
            Call(add, r[1], [r[0], r[2]]),  # 4
            Call(add, r[3], [r[1], r[0]]),
        ],
        register_count=4,
    )
    assert await VirtualMachine().execute(blueprint) == 5
