"""Collects only importable tests: `hatch test --all` also runs without the upper layers.

And the servers that tests of several folders talk to.
"""

import faulthandler
import gc
import logging
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from tests.services import Mosquitto, Postgres, running_mosquitto, running_postgres

import cascade

if TYPE_CHECKING:
    from tests.engine.durable.nursery import Nursery

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
    "examples": "runtime",
}

collect_ignore = [
    folder for folder, layer in _NEEDS.items() if find_spec(f"{cascade.__name__}.{layer}") is None
]

# Hypothesis draws a quarter of the usual number of examples; all of them every night, and with
# `--hypothesis-profile=full`. None has a deadline, nor has the drawing of examples: a busy machine
# misses any.
_patient: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("full", settings(), **_patient)
settings.register_profile("some", settings(), max_examples=25, **_patient)
settings.load_profile("some")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A file for the effects of tasks in other processes; see ``remote_tasks.note``."""
    return str(tmp_path / "effects")


@pytest.fixture(scope="session")
def dask_cluster() -> Iterator[Any]:
    """A Dask cluster of two worker processes."""
    distributed = pytest.importorskip("distributed", reason="pip install 'cascade-engine[dask]'")
    import dask

    # A worker that was killed may take longer to start again on a busy machine; after 15 s the
    # cluster would give it up.
    patient = dask.config.set({"distributed.deploy.lost-worker-timeout": "300s"})
    with (
        patient,
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="session")
def ray_cluster() -> int:
    """The number of CPUs of a Ray cluster that an executor starts."""
    pytest.importorskip("ray", reason="pip install 'cascade-engine[ray]'")
    # By default 15, so that all other programs of a busy machine come before the workers.
    os.environ.setdefault("RAY_worker_niceness", "0")
    return 2


def pytest_configure() -> None:
    """Have Ctrl-C back where a shell has started the tests in the background, and ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Keep the half million objects made by collecting out of the tests' garbage collections."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "run one test in N of each file, the first at least"
    parser.addoption("--one-in", type=int, default=1, metavar="N", help=told)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if sys.platform == "win32" and item.get_closest_marker("posix") is not None:
        pytest.skip("it uses processes or signals that Windows does not have")
    if item.get_closest_marker("thorough") is not None:
        # Such a test may well take longer, and a dump reads the stacks of threads that go on, which
        # has ended a process. pytest-timeout writes them, too, at the limit of the test.
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(trylast=True)  # after markers have deselected others
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that ``--one-in`` selects; all files are imported nonetheless."""
    every = config.getoption("one_in")
    if every == 1:
        return
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    seen: Counter[Path] = Counter()
    for item in sorted(items, key=lambda item: item.nodeid):
        (left_out if seen[item.path] % every else kept).append(item)
        seen[item.path] += 1
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


class Sample:
    """One in some numbers of a range, beginning at a place that depends on the name of the test.

    So the cases of a parametrised test look at different points.
    """

    def __init__(self, every: int, name: str) -> None:
        self._every = every
        self._chance = random.Random(name)

    def __call__(self, start: int, stop: int, step: int = 1) -> range:
        """``range(start, stop, step)``, or some of it."""
        return range(start + step * self._chance.randrange(self._every), stop, step * self._every)


@pytest.fixture(
    params=[20, pytest.param(1, marks=[pytest.mark.thorough, pytest.mark.timeout(0)])],
    ids=["some", "all"],
)
def sample(request: pytest.FixtureRequest) -> Sample:
    """Draws one in twenty points of a run, all of them with ``-m thorough``."""
    return Sample(request.param, request.node.name)


@pytest.fixture(params=[3_000, pytest.param(100_000, marks=pytest.mark.thorough)], ids=str)
def many(request: pytest.FixtureRequest) -> int:
    """How many nodes a graph has that no recursion could walk: thrice Python's limit, or more."""
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


@pytest.fixture(autouse=True, scope="session")
def own_runtime_folder() -> Iterator[None]:
    """Engines and commands meet only those of this process, not those of a user."""
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory(prefix="cs-") as folder:
        patch.setenv("XDG_RUNTIME_DIR", folder)  # a path for a socket has to be short
        patch.delenv("CASCADE_MQTT_URL", raising=False)
        yield


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """An MQTT broker of the test's own, which it may stop and start."""
    with running_mosquitto(tmp_path) as broker:
        yield broker


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that all tests of a process share."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Nursery]":
    """Starts processes that have imported the engine already."""
    from tests.engine.durable.nursery import Nursery

    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """``store_url("sqlite")``: where a store of this kind is, without any runs."""

    def url(kind: str) -> str:
        if kind == "memory":
            return "memory:"
        if kind == "sqlite":
            # Whether commits reach the disk is tested elsewhere; here they are many.
            return f"sqlite:///{tmp_path}/runs.db?synchronous=normal"
        pytest.importorskip(
            "psycopg", reason="needs psycopg: pip install 'cascade-engine[postgres]'"
        )
        return str(request.getfixturevalue("postgres_url"))

    return url


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A database without any runs."""
    yield postgres.url
    postgres.clear()
