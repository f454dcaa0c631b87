"""Fixtures of the engine's tests: both paths, engines, and checks for leftovers."""

import asyncio
import gc
import logging
import sys
import threading
from contextlib import contextmanager

import pytest

import cascade as cs


@pytest.fixture
def url(tmp_path):
    """The address of a new store."""
    return f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture(params=[False, True], ids=["graph", "vm"])
def use_vm(request):
    """Each test that asks for it runs on both paths: one semantics, two strategies."""
    return request.param


@pytest.fixture
async def engine():
    """An engine; when the test is over, nothing that it started may be left."""
    async with cs.Engine() as engine:
        yield engine
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
def run(engine, use_vm):
    """``await run(target)``: its value on the path under test."""

    def run(target, params=None):
        return engine.run(target, params, use_vm=use_vm)

    return run


@pytest.fixture
def held():
    """An Event that tasks wait for, set at the latest when the test ends."""
    event = threading.Event()
    yield event
    event.set()


class Blocks:
    """Looks at the memory in use from inside of a loop that counts down to 0."""

    def __init__(self, steps):
        self.steps = steps
        self._seen = {}

    def look(self, n):
        if n in (self.steps * 9 // 10, self.steps // 10):
            gc.collect()
            self._seen[n] = sys.getallocatedblocks()

    @property
    def are_few(self):
        """Whether four fifths of the steps have left less than half a block each."""
        before, after = self._seen.values()
        return after - before < self.steps * 2 // 5


@pytest.fixture(params=[2_000, pytest.param(100_000, marks=pytest.mark.thorough)], ids=str)
def blocks(request):
    return Blocks(request.param)


@pytest.fixture
def full_disk():
    """``with full_disk():`` no file grows beyond 300 kB."""
    resource = pytest.importorskip("resource", reason="Windows has no limits of files")

    @contextmanager
    def full():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("cascade"):
            thread.join(10)
            assert not thread.is_alive(), f"{thread.name} is still alive"


@pytest.fixture(scope="module", autouse=True)
def asyncio_has_no_complaint():
    """No exception of a future is lost, no task destroyed while it is pending.

    Objects that the tests of a module leave alive (caches, code) are kept out of later garbage
    collections: tests of memory ask for hundreds of them.
    """
    complaints = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: complaints.append(record.getMessage())
    logger = logging.getLogger("asyncio")
    logger.addHandler(handler)
    yield
    gc.collect()
    gc.freeze()
    logger.removeHandler(handler)
    assert not complaints
