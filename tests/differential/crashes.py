"""Random programs as durable runs: killed at drawn points, resumed, held against the evaluator.

Each life of a run has an engine, a making of the program, and a view of the store of its own. A
crash ends the view, as the end of a process would: nothing is written any more, and functions do
nothing any more. What the engine has under way then ends with StoreError.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, cast
from unittest import mock

from tests.differential import naive
from tests.differential.build import Build, canon
from tests.differential.harness import (
    PATIENCE,
    Given,
    Outcome,
    by_naive,
    executor,
    faults_of,
)
from tests.differential.programs import (
    CAPACITIES,
    PARAMS,
    Job,
    Loop,
    Program,
    handlers_of,
    jobs_of,
    refs_of,
)
from tests.engine.durable.leftovers import left_in

import cascade
from cascade.adapters.stores.memory import MemoryStore
from cascade.graph import running_code
from cascade.graph.codehash import CodeHash, code_hash
from cascade.graph.compiler import BlueprintBuilder
from cascade.graph.readings import Readings
from cascade.runtime.durable.journal import Journal
from cascade.runtime.durable.rows import ERROR
from cascade.runtime.engine import Engine
from cascade.runtime.loops.tiers import Tier
from cascade.runtime.options import Durability
from cascade.runtime.semantics.outcomes import Missing
from cascade.spec.errors import NotStorableError, SerializationError, StoreError, TierError
from cascade.spec.lazy_types import LazyResult
from cascade.spec.run_rows import Chunk, Commit, Lease, Receipt
from cascade.spec.run_store import RunStore
from cascade.spec.task_class import Task

#: Where the tasks of the present making have their names, as those of a module of users.
_present = sys.modules["tests.differential.present"] = ModuleType("tests.differential.present")
_RUN_ID = "program"
#: The tasks of programs.
_CALLED = re.compile(r"(t\d+|loop\d+\.\d+|late|truth)$")


@dataclass(frozen=True)
class Crash:
    """The end of a life.

    Attributes:
        point: Before or after a commit is written; before a call, or in one.
        count: How many such points have passed before.
        tier: Of the life that it ends: None for the graph path.
    """

    point: str
    count: int
    tier: Tier | None = None


POINTS = ("commit", "committed", "call", "called")


class KilledError(Exception):
    """A call in a process that does not live any more."""


class Life:
    """The time from one start of a run to its end or crash.

    Attributes:
        is_over: Whether it has crashed.
        kept: Number of calls of tasks whose results were committed.
    """

    def __init__(self, crash: Crash | None) -> None:
        self._left = {} if crash is None else {crash.point: crash.count}
        self._lock = threading.Lock()
        self.is_over = False
        self.kept = 0

    def passes(self, point: str) -> bool:
        """Note a point; whether the life goes on after it."""
        with self._lock:
            left = self._left.get(point)
            if left is not None:
                self._left[point] = left - 1
                self.is_over = self.is_over or not left
            return not self.is_over


class View:
    """The store as one life sees it."""

    def __init__(self, store: MemoryStore, life: Life) -> None:
        self._store = store
        self._life = life
        #: How often a commit at once was asked for.
        self._asked = 0
        #: Node → its last step with a record.
        self._steps: dict[bytes, int] = {}

    def commit(self, batch: Sequence[Commit], *, seconds: float) -> Sequence[Receipt]:
        writes = any(commit.writes for commit in batch)
        if not self._life.passes("commit" if writes else "renewal"):
            raise _gone()
        receipts = self._store.commit(batch, seconds=seconds)
        self._count(batch)
        if writes and not self._life.passes("committed"):
            raise _gone()
        return receipts

    may_commit_at_once = True

    def commit_at_once(
        self, batch: Sequence[Commit], *, seconds: float
    ) -> Sequence[Receipt] | None:
        self._asked += 1
        if self._life.is_over or self._asked % 3 == 0:
            return None  # left to the thread of the writer
        return self.commit(batch, seconds=seconds)

    def _count(self, batch: Sequence[Commit]) -> None:
        """Count the calls whose results are committed; of a node's last call, if it is the only."""
        for commit in batch:
            for record in commit.records:
                self._life.kept += record.step - self._steps.get(record.key, 0)
                self._steps[record.key] = record.step
            for chunk in commit.chunks:
                for key, task in _named_in(chunk):
                    self._life.kept += key not in self._steps and bool(_CALLED.match(task))

    def load(self, run: int) -> Any:
        loaded = self._store.load(run)
        self._steps = {record.key: record.step for record in loaded.records}
        return loaded

    def create(self, runs: Any, *, lease: Lease | None = None, dead: Collection[str] = ()) -> Any:
        return self._store.create(runs, lease=lease, dead=self._store.owners())

    def claim_run(self, run_id: str, lease: Lease, **options: Any) -> Any:
        options["dead"] = self._store.owners()
        return self._store.claim_run(run_id, lease, **options)


def _named_in(chunk: Chunk) -> Iterator[tuple[bytes, str]]:
    """The keys and the tasks of the values in a chunk; errors may come without a call."""
    for head in chunk.body.split(b"\n")[::2]:
        key, task, kind, *_ = json.loads(head)
        if kind != ERROR:
            yield bytes.fromhex(key), task


def _passed_on(name: str) -> Callable[..., Any]:
    own = View.__dict__.get(name)

    def method(view: Any, *args: Any, **kwargs: Any) -> Any:
        if view._life.is_over and name != "close":
            raise _gone()
        if own is not None:
            return own(view, *args, **kwargs)
        return getattr(view._store, name)(*args, **kwargs)

    return method


for _name in [name for name in vars(RunStore) if not name.startswith("_")]:
    setattr(View, _name, _passed_on(_name))


def _gone() -> StoreError:
    return StoreError("the process does not live any more")


class DurableBuild(Build):
    """A making whose tasks have names, and which fails as often as all lives together are to."""

    def __init__(self, program: Program, cs: ModuleType, life: Life, tried: Counter[Any]) -> None:
        self._life = life
        super().__init__(program, cs)
        self._tried = tried
        truth = cs.task(name="truth")(self._be_true)
        self._truth = truth
        if cs is cascade:
            members = [task for some in self._members.values() for task in some]
            for task in (*self._tasks.values(), *members, truth, self._late.task):
                name = task.name.replace(".", "_")
                task.__module__, task.__qualname__ = _present.__name__, name
                setattr(_present, name, task)

    def _be_true(self, value: Any) -> Any:
        self._begin(_TRUTH, "truth", value)
        return value

    def _begin(self, task: Job | Loop, label: str, arguments: Any) -> None:
        if not self._life.passes("call"):
            raise KilledError
        super()._begin(task, label, arguments)
        self._life.passes("called")


_TRUTH = Job("any", None, None)
_hashes: dict[Any, CodeHash] = {}


def _hash_of(task: Task[..., Any], readings: Readings | None = None) -> CodeHash:
    """``code_hash``, made once for functions of one ``def``: each life has new ones.

    They reach all of the evaluator, and so would take half of the time of these tests.
    """
    code = getattr(task.func, "__code__", None)
    if code is None:
        return code_hash(task, readings)
    if code not in _hashes:
        _hashes[code] = code_hash(task, readings)
    return _hashes[code]


def check_crashes(
    program: Program,
    crashes: Sequence[Crash],
    *,
    fail_fast: bool = True,
    durability: Durability = "sync",
    last: Tier | None = None,
) -> None:
    """Hold a run that crashes, and is resumed each time, against the naive evaluator.

    Args:
        program: The program.
        crashes: The ends of its lives; the one after these has the tier ``last``.
        fail_fast: Whether the first error ends the run.
        durability: What the engine waits for.
        last: See above.
    """
    given = Given(PARAMS, [*PARAMS])
    evaluator, expected = by_naive(
        lambda cs: DurableBuild(program, cs, Life(None), Counter()), given
    )
    if (evaluator.is_open and evaluator.has_caught) or _is_uncertain(program):
        return
    history = _History(program, evaluator, expected, fail_fast, durability)
    with mock.patch.object(running_code, "code_hash", _hash_of):
        outcome = _lived(history, (*crashes, Crash("", 0, last)))
    if history.refused or _is_lost(outcome.error):
        return
    faults = [*history.faults, *history.of(outcome)]
    if faults:
        where = traceback.format_exception(outcome.error) if outcome.error else []
        shown = [f"naive: {expected}", f"run: {outcome}", "".join(where)]
        lives = [f"life {n}: {log}" for n, log in enumerate(history.logs)]
        raise AssertionError("\n".join([*faults, f"{program}", f"{crashes}", *shown, *lives]))


def _lived(history: _History, ends: Sequence[Crash]) -> Outcome:
    """The outcome of the first life that does not crash."""
    for crash in ends:
        outcome = asyncio.run(history.live(crash))
        if outcome is not None and isinstance(outcome.error, TierError):
            # A function does not get that tier; the run has failed, and goes on as any other.
            outcome = asyncio.run(history.live(replace(crash, tier="auto")))
        if outcome is not None:
            return outcome
    raise AssertionError("the last life has crashed")


def _is_uncertain(program: Program) -> bool:
    """Whether a task fails in its first call of all, and is not tried again: as a handler.

    After a crash it may be called for the second time.
    """
    return any(
        handler.task is not None and handler.task.tries and not handler.task.tries.declared
        for handler in handlers_of(program)
    )


def _hands_out_shared(program: Program) -> bool:
    """Whether several calls may return one lazy value of a closure.

    In the records of an earlier life it belongs to the call that has mentioned it first. A call
    that mentions it in a later life makes it anew (D2), so one life may call its tasks twice.
    """
    bodies = [(job.body, getattr(job, "steps", ())) for job in jobs_of(program)]
    return bool(refs_of(bodies))


def _is_lost(error: BaseException | None) -> bool:
    """Whether the value of a run that has succeeded had no stored form (D7)."""
    return isinstance(error, NotStorableError) and "has succeeded" in str(error)


class _History:
    """The lives of one run.

    Attributes:
        faults: What was wrong so far.
        logs: The calls of each life.
        refused: Whether a loop's arguments had no stored form (D7).
    """

    def __init__(
        self,
        program: Program,
        evaluator: naive.Naive,
        expected: Outcome,
        fail_fast: bool,
        durability: Durability,
    ) -> None:
        self._program = program
        self._evaluator, self._expected = evaluator, expected
        self._fail_fast = fail_fast
        self._durability = durability
        self._store = MemoryStore()
        self._tried: Counter[Any] = Counter()
        #: Number of calls that may be made again.
        self._in_flight = 0
        self.faults: list[str] = []
        self.refused = False
        self.logs: list[list[Any]] = []

    async def live(self, crash: Crash) -> Outcome | None:
        """The outcome of a life; None if it has crashed."""
        life = Life(crash if crash.point else None)
        made = DurableBuild(self._program, cascade, life, self._tried)
        with self._watched_journals():
            outcome = await self._run(made, cast(RunStore, View(self._store, life)), crash.tier)
        self.logs.append(made.log)
        if made.opened and Counter(made.opened) != Counter(made.closed):
            self.faults.append(f"opened {made.opened}, closed {made.closed} (R9)")
        if life.is_over or isinstance(outcome.error, TierError):
            self._in_flight += len(made.log) - life.kept
        if not life.is_over:
            return outcome
        if outcome.error is None:
            self.faults.append("it has a value that is not committed")
        return None

    async def _run(self, made: DurableBuild, store: RunStore, tier: Tier | None) -> Outcome:
        outcome = Outcome()
        engine = Engine(
            threads=executor,
            tier=tier or "auto",
            capacities=CAPACITIES,
            store=store,
            durability=self._durability,
        )
        async with engine:
            try:
                target = made.target()
                for definition in made.resources:
                    engine.register(definition)
                for name, lazy in made.blueprints.items():
                    engine.register_blueprint(name, BlueprintBuilder().build(lazy))
                async with asyncio.timeout(PATIENCE):
                    value = await engine.run(
                        target,
                        PARAMS,
                        run_id=_RUN_ID,
                        use_vm=tier is not None,
                        late_params=[*PARAMS],
                        fail_fast=self._fail_fast,
                    )
                outcome.value = canon(value)
            except TimeoutError:
                outcome.error = AssertionError("the run does not end")
            except Exception as error:
                outcome.error = error
        return outcome

    def of(self, outcome: Outcome) -> Iterator[str]:
        """The faults of all lives together."""
        made = Counter(entry for log in self.logs for entry in log)
        expected = self._expected.effects
        again = made - expected
        if strange := [entry for entry in again if entry not in expected]:
            yield f"calls that no life could make: {strange}"
        most = self._in_flight
        if _hands_out_shared(self._program):
            most += sum((Counter(log) - expected).total() for log in self.logs)
        if again.total() > most:
            yield f"{again.total()} calls were made again, but {most} were in flight (D2)"
        outcome.effects = made & expected
        outcome.opened = outcome.closed = self._expected.opened
        yield from faults_of(outcome, self._expected, self._evaluator, self._fail_fast, True)
        yield from left_in(self._store, _RUN_ID)

    @contextmanager
    def _watched_journals(self) -> Iterator[None]:
        """Note each finished node that is computed again (D2), and what journals refuse."""
        taken: set[bytes] = set()
        outcomes, record, goes_on = Journal.outcomes_of, Journal.record, Journal.goes_on
        handed = Journal.handed

        def outcomes_of(journal: Journal, lazies: Sequence[LazyResult[Any]]) -> Iterator[Any]:
            taken.update([journal.keys[lazy] for lazy in lazies])
            return outcomes(journal, lazies)

        def recorded(journal: Journal, node: LazyResult[Any], value: Any) -> None:
            named = journal.keys.named(node)
            is_finished = named is not None and named.key in journal._kept.done.keys() - taken
            if is_finished and not isinstance(value, Missing):
                self.faults.append(f"a finished node was computed again: {node!r} (D2)")
            record(journal, node, value)

        def going_on(journal: Journal, *given: Any, **more: Any) -> bool:
            try:
                return goes_on(journal, *given, **more)
            except NotStorableError:
                self.refused = True
                raise

        def handed_to(journal: Journal, lazy: LazyResult[Any]) -> Any:
            try:
                return handed(journal, lazy)
            except SerializationError as error:
                self.faults.append(f"a record cannot be read: {error}")
                raise

        new: Any = {
            "handed": handed_to,
            "outcomes_of": outcomes_of,
            "record": recorded,
            "goes_on": going_on,
        }
        with mock.patch.multiple(Journal, **new):
            yield
