"""Collects only what can be imported: `hatch test --all` also runs without the upper layers.

And the servers that tests of several folders talk to.
"""

import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.services import Mosquitto, running_mosquitto

import cascade

# What each folder needs. A path given on the command line is collected all the same, so that an
# environment that has lost its own layer fails instead of testing nothing.
_NEEDS = {
    "spec": "spec",
    "graph": "graph",
    "engine": "runtime",
    "observatory": "observatory",
    "contracts": "runtime",
    "differential": "runtime",
    "end_to_end": "observatory",
}

collect_ignore = [
    folder for folder, layer in _NEEDS.items() if find_spec(f"{cascade.__name__}.{layer}") is None
]


@pytest.fixture(params=[10_000, pytest.param(100_000, marks=pytest.mark.thorough)], ids=str)
def many(request: pytest.FixtureRequest) -> int:
    """How many nodes a graph has that no recursion could walk: a tenth of what it is about."""
    return int(request.param)


@pytest.fixture(autouse=True)
def runs_hold_nothing_when_they_end() -> Iterator[None]:
    """No run has kept a capacity, or a place under a constraint, beyond its end."""
    said: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("cascade.limits")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    assert not said


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """An MQTT broker of the test's own, which it may stop and start."""
    with running_mosquitto(tmp_path) as broker:
        yield broker
