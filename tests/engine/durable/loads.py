"""Many runs, the processes that work on them, and what has to hold when all have ended."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.engine.durable import drawing
from tests.engine.durable.drawing import TARGETS
from tests.engine.durable.leftovers import left_in
from tests.engine.durable.nursery import Child, Nursery

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.graph.codec import Codec
from cascade.runtime.durable.runs import value_of
from cascade.spec.errors import RunConflictError, StoreError
from cascade.spec.run_rows import FINISHED, RunStatus

T = TypeVar("T")
#: Seconds for all runs of a load to end, on a busy machine too.
PATIENCE = 100.0


class Load:
    """Runs in a store, and workers that execute them.

    Args:
        url: The store.
        folder: Where the notes of calls are.
        nursery: Starts workers.
        env: Orders for the workers.
    """

    def __init__(self, url: str, folder: Path, nursery: Nursery | None = None, **env: str) -> None:
        self.url = url
        self.folder = folder
        self._calls = folder / "calls"
        self._env = {"CALLS": str(self._calls), "LEASE": "1", **env}
        self._nursery = nursery
        #: Those that live, as far as this process knows.
        self.workers: list[Child] = []
        self._children: list[Child] = []
        #: Process ids of workers that have stood still, so that others took their runs over.
        self.zombies: set[int] = set()
        self.ids: list[str] = []

    def enqueue(self, each: int, length: int, kinds: Collection[str] = (*TARGETS,)) -> None:
        """Enqueue ``each`` runs of each kind, of ``length`` steps."""
        with closing(open_store(self.url)) as store:
            for n in range(each):
                for kind in kinds:
                    run_id = f"{kind}-{n}"
                    cs.enqueue(store, TARGETS[kind](run_id, length), run_id=run_id)
                    self.ids.append(run_id)

    def start(self, **env: str) -> Child:
        """Start a worker."""
        assert self._nursery is not None
        worker = self._nursery.start(drawing.__name__, self.url, env={**self._env, **env})
        self._children.append(worker)
        self.workers.append(worker)
        return worker

    def kill(self, worker: Child) -> None:
        """Kill a worker."""
        self.workers.remove(worker)
        worker.kill()
        worker.wait()

    def close(self) -> None:
        for worker in [*self.workers]:
            self.kill(worker)

    def lines(self) -> list[list[str]]:
        """The notes of all workers so far, in their order."""
        text = self._calls.read_text() if self._calls.exists() else ""
        return [line.split() for line in text.splitlines()]

    def until_served(self) -> None:
        """Wait until all workers have opened the store."""
        wanted = {worker.pid for worker in self.workers}
        while not wanted <= {int(line[0]) for line in self.lines()}:
            assert all(worker.poll() is None for worker in self.workers), self.log()
            time.sleep(0.01)

    def until_noted(self, kind: str) -> None:
        """Wait for a note of a kind."""
        while not any(line[1] == kind for line in self.lines()):
            time.sleep(0.005)

    def until_calls(self, more: int) -> None:
        """Wait until so many more calls were made, or none was for a second."""
        made = len(self.lines())
        most, until = made + more, time.monotonic() + 1
        while (now := len(self.lines())) < most and time.monotonic() < until:
            if now > made:
                made, until = now, time.monotonic() + 1
            time.sleep(0.005)

    def has_ended(self) -> bool:
        """Whether all runs have ended; False while the store is away."""
        try:
            with closing(open_store(self.url)) as store:
                return all(run.status in FINISHED for run in store.runs())
        except StoreError:
            return False

    def say_go(self) -> None:
        """Send the signal that some runs wait for, however often the store is away."""
        for run_id in self.ids:
            if not run_id.startswith("asks"):
                continue
            with suppress(RunConflictError):  # it got one before, and has ended
                patiently(partial(cs.signal, self.url, run_id, "go", 0))

    def finish(self) -> None:
        """Wait for the end of all runs. None may need a new worker."""
        until = time.monotonic() + PATIENCE
        while not self.has_ended():
            assert time.monotonic() < until, self.report()
            assert all(worker.poll() is None for worker in self.workers), self.report()
            time.sleep(0.02)

    def report(self) -> str:
        """What is known about the runs that have not ended, and what workers have said."""
        with closing(open_store(self.url)) as store:
            runs = [str(run) for run in store.runs() if run.status is not RunStatus.SUCCEEDED]
        return "\n".join([*runs, self.log()])

    def log(self) -> str:
        """What the workers have said last."""
        return "\n".join(child.errors()[-3000:] for child in self._children[-5:])

    def check(self) -> None:
        """All runs have their values, no finished call was made again, and no row is left."""
        faults, totals = self._faults()
        with closing(open_store(self.url)) as store:
            for run_id in self.ids:
                run = store.find(run_id)
                if run is None or run.status is not RunStatus.SUCCEEDED:
                    faults.append(f"{run_id}: {run}")
                    continue
                value = value_of(Codec(), run, store.load(run.number).result)
                if value != totals[run_id]:
                    faults.append(f"{run_id} has the value {value}, not {totals[run_id]}")
                faults.extend(f"{run_id}: {left}" for left in left_in(store, run_id))
        assert not faults, "\n".join([*faults[:20], self.report()])

    def check_bookings(self, rows: Iterable[tuple[str, int, int]]) -> None:
        """Each was made once, with the value that its task was given (D5)."""
        spent = {
            (run, int(n), int(value))
            for _, kind, run, n, value in self.lines()
            if kind == "spend" and run.startswith("buyer")
        }
        assert sorted(rows) == sorted(spent)

    def _faults(self) -> tuple[list[str], dict[str, int]]:
        """Calls that should not have been made (D2, D4), and the totals of the last steps."""
        faults: list[str] = []
        totals: dict[str, int] = {}
        drawn: dict[tuple[str, int], set[int]] = {}
        given: dict[tuple[str, str, int], int] = {}
        #: Run → the number of its last step: all calls with higher numbers are finished.
        last: dict[str, int] = {}
        for line in self.lines():
            (pid, kind, run), (n, value) = line[:3], map(int, line[3:])
            if kind in ("serve", "stop"):
                continue
            found = []
            if n > last.get(run, n):
                found.append(f"a finished step was made again: {line} (D2)")
            elif kind == "draw" and ("spend", run, n) in given:
                found.append(f"a finished call was made again: {line} (D2)")
            elif kind == "spend" and value not in drawn[run, n]:
                found.append(f"a value that was not drawn: {line}")
            elif kind != "draw" and given.get((kind, run, n), value) != value:
                found.append(f"a call had other arguments before: {line} (D4)")
            if found:
                # What stood still may end its calls; their outcomes are not written (D6).
                faults.extend(found if int(pid) not in self.zombies else ())
            elif kind == "draw":
                drawn.setdefault((run, n), set()).add(value)
            else:
                given[kind, run, n] = value
                if kind == "step":
                    last[run], totals[run] = n, value
        spent = Counter(dict.fromkeys(self.ids, 0))
        for (kind, run, _), value in given.items():
            spent[run] += value if kind == "spend" else 0
        faults.extend(
            f"{run} has spent {spent[run]}, and ended with {totals.get(run)}"
            for run in self.ids
            if totals.get(run) != spent[run]
        )
        return faults, totals


def patiently(call: Callable[[], T]) -> T:
    """The result of a call that may find the store away."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except StoreError:
            assert time.monotonic() < until
            time.sleep(0.02)


@contextmanager
def loaded(
    url: str, folder: Path, nursery: Nursery, workers: int = 0, **env: str
) -> Iterator[Load]:
    """A load with so many workers, which are gone when the block ends."""
    load = Load(url, folder, nursery, **env)
    try:
        for _ in range(workers):
            load.start()
        load.until_served()
        yield load
    finally:
        load.close()
