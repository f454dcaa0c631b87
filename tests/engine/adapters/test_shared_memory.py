"""Large values of a ProcessExecutor: through shared memory, of which nothing is left."""

import asyncio
from array import array
from multiprocessing import Pipe

import pytest
from tests import remote_tasks as tasks
from tests.memory_files import memory_files, wait_until_closed

import cascade as cs
from cascade.adapters.executors import shared_memory
from cascade.adapters.executors.shared_memory import Parcel, packed, received
from cascade.spec.wire import SHARED_ABOVE, dumps, loads

pytestmark = pytest.mark.skipif(not shared_memory.CAN_SHARE, reason="no memfd on this system")
SIZE = SHARED_ABOVE + 5


@pytest.fixture(scope="module")
def pool():
    with cs.ProcessExecutor(1) as pool:
        cs.run(tasks.add(1), executor=pool)
        yield pool


def grid(number=1):
    return tasks.Grid(bytearray([number]) * SIZE)


def files():
    return memory_files("cascade")


def sent(value):
    """A value as another process would get it."""
    beside = []
    here, there = Pipe()
    with here, there:
        parcel = packed(dumps(value, beside), beside)
        assert isinstance(parcel, Parcel)
        parcel.send(here)
        spans = parcel.spans
        parcel.close()
        data, buffers = received(there, spans)
        return loads(data, buffers=buffers)


@pytest.mark.parametrize(
    "value",
    [
        bytes(SIZE),
        bytearray(SIZE),
        "ä" * SIZE,
        array("d", [0.5]) * (SIZE // 8),
        grid(),
        {"a": [grid(1), grid(2), b"small"]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_large_values_arrive(value):
    before = files()
    assert sent(value) == value
    wait_until_closed("cascade", before)


def test_a_value_can_be_changed_where_it_arrives():
    value = grid()
    there = sent(value)
    there.content[0] = 7
    assert value.content[0] == 1


@pytest.mark.parametrize("most", [0, 1])
def test_without_a_descriptor_values_are_copied(monkeypatch, most):
    """At most so many wait, or are mapped, at the same time."""
    kept = sent(grid()), sent(grid())
    monkeypatch.setattr(shared_memory, "_MOST", most)
    if most:
        assert sent(grid(3)) == grid(3)
    else:
        beside = []
        data = packed(dumps(grid(3), beside), beside)
        assert isinstance(data, bytes)
        copy = loads(data)
        copy.content[0] = 4
        assert copy.content[1] == 3
    assert kept[0] == kept[1]


def test_small_values_stay_in_their_pickle():
    beside = []
    data = dumps(tasks.Grid(bytearray(SHARED_ABOVE - 1)), beside)
    assert beside == []
    assert isinstance(packed(b"small", ()), bytes)
    assert loads(data).content.nbytes == SHARED_ABOVE - 1


def test_there_and_back(pool):
    before, value = files(), grid()
    result = cs.run(tasks.doubled(value), executor=pool)
    assert (value.content[0], result.content[0], result.content[1]) == (1, 2, 1)
    assert cs.run(tasks.same(bytes(SIZE)), executor=pool) == bytes(SIZE)
    result.content[0] = 9
    del result
    wait_until_closed("cascade", before)


async def test_an_argument_is_what_it_was_at_the_call(pool, tmp_path, monkeypatch):
    """Changes that the driver makes while the call waits for a worker are not seen."""
    path, value = str(tmp_path / "effects"), grid()
    submit, submitted = pool.submit_call, []

    def noted(call):
        submit(call)
        submitted.append(call.name)

    monkeypatch.setattr(pool, "submit_call", noted)
    async with cs.Engine(executor=pool) as engine:
        run = engine.start([tasks.holds(path), tasks.doubled(value)])
        await asyncio.to_thread(tasks.wait_until, lambda: "doubled" in submitted)
        value.content[0] = 50
        tasks.note(path, "go")
        _, made = await run.result()
    assert (value.content[0], made.content[0]) == (50, 2)


def test_a_call_is_sent_again_when_its_process_dies(pool, tmp_path):
    before = files()
    call = tasks.doubled(grid(), str(tmp_path / "effects")).with_retry(2)
    assert cs.run(call, executor=pool).content[0] == 2
    wait_until_closed("cascade", before)


def test_calls_that_are_withdrawn_leave_nothing():
    before = files()
    with cs.ProcessExecutor(1) as pool:
        failing = tasks.fails(1)
        with pytest.raises(ValueError, match="no 1"):
            cs.run([failing, *(tasks.doubled(grid(n)) for n in range(8))], executor=pool)
    wait_until_closed("cascade", before)
