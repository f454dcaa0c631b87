"""Fixtures of the tests of durable runs."""

from collections.abc import Iterator

import pytest
from tests.engine.durable import tasks

from cascade.adapters.stores import open_store
from cascade.spec.run_store import RunStore


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    """The tasks of all tests have not been called, and do not fail."""
    tasks.calls.clear()
    tasks.fails["left"] = 0


@pytest.fixture
def store() -> Iterator[RunStore]:
    """A store in memory without any runs."""
    store = open_store("memory:")
    yield store
    store.close()
