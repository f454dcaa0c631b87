"""The protocols: implementations are recognised by ``isinstance`` (names of methods)."""

import inspect
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from cascade.spec import protocols
from cascade.spec.protocols import (
    CacheBackend,
    Connector,
    ExecutionStrategy,
    Executor,
    Solver,
    StateBackend,
)

SEAMS = [
    value
    for value in vars(protocols).values()
    if isinstance(value, type)
    and value.__module__ == protocols.__name__
    and getattr(value, "_is_runtime_protocol", False)
]


def test_the_seams_of_the_engine_are_here():
    assert {Solver, Executor, StateBackend, CacheBackend, Connector, ExecutionStrategy} <= {*SEAMS}


class OneStage:
    def resolve(self, graph):
        return [graph.nodes]


class Memory:
    def __init__(self):
        self.kept = {}

    def get(self, key):
        return (key in self.kept), self.kept.get(key)

    def put(self, key, value, ttl=None):
        self.kept[key] = value


def test_the_standard_librarys_pools_are_executors():
    with ThreadPoolExecutor(1) as pool:
        assert isinstance(pool, Executor)
    assert issubclass(ProcessPoolExecutor, Executor)


def test_no_base_class_is_needed():
    assert isinstance(OneStage(), Solver)
    assert isinstance(Memory(), CacheBackend)


@pytest.mark.parametrize("seam", SEAMS)
def test_something_else_does_not_fit(seam):
    assert not isinstance(object(), seam)
    assert sum(isinstance(thing, seam) for thing in (OneStage(), Memory())) <= 1


@pytest.mark.parametrize("seam", SEAMS)
def test_every_protocol_and_its_methods_have_docstrings(seam):
    methods = [m for n, m in vars(seam).items() if inspect.isfunction(m) and not n.startswith("_")]

    assert methods
    assert all(inspect.getdoc(method) for method in methods)
    assert inspect.getdoc(seam)


def test_a_seam_that_talks_to_the_outside_is_async():
    assert inspect.signature(ExecutionStrategy.execute).return_annotation == "Awaitable[Any]"
    for name in ("connect", "disconnect", "subscribe"):
        assert inspect.iscoroutinefunction(getattr(Connector, name))


def test_publish_is_a_plain_function_for_event_handlers_and_threads():
    assert not inspect.iscoroutinefunction(Connector.publish)
