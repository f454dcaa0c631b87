"""History: durable runs in their store, for people: listed, inspected, compared, and steered.

All methods wait for the store, so pages call them on threads.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import time
from traceback import format_exception
from typing import Any, Final

from cascade.adapters.processes import dead_among, own_name
from cascade.command.run_views import stored_text
from cascade.graph.codec import Codec
from cascade.graph.durations import duration_text
from cascade.runtime.durable.forking import fork, graphs_of
from cascade.runtime.durable.rows import BLOB
from cascade.runtime.durable.stored_graphs import StoredGraphs
from cascade.runtime.options import new_id
from cascade.spec.errors import CascadeError, RunConflictError, SerializationError, StoredError
from cascade.spec.run_rows import (
    FINISHED,
    Change,
    Commit,
    Filter,
    Lease,
    Loaded,
    RunRecord,
    RunStatus,
)
from cascade.spec.run_store import RunStore
from cascade.spec.wording import short

#: Most steps of a run that are shown, and of two runs that are compared.
MOST_STEPS: Final = 500
#: Seconds for handing a run over to the workers.
_LEASE: Final = 10.0
#: Digits of a key that people see.
_DIGITS: Final = 12

#: Whether something was done, and a line for people.
Answer = tuple[bool, str]


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A run in the list."""

    number: int
    run: str
    target: str
    status: str
    created: float
    #: Seconds until it ended; None if it has not.
    took: float | None
    progress: int
    parent: str


@dataclass(frozen=True, slots=True)
class StoredStep:
    """A node of a run with an outcome or a record."""

    key: str
    task: str
    state: str
    value: str
    #: When it was written, in seconds after the creation of the run; None if it has no outcome.
    after: float | None


@dataclass(frozen=True, slots=True)
class StoredRunView:
    """One run.

    Attributes:
        row: As in the list.
        facts: What there is to know, by name.
        params: Name of a parameter → its value as text.
        steps: Its nodes, the first MOST_STEPS.
        more: Number of further nodes.
        outcome: Its value or error as text; empty if it has none. An error has several lines: with
            the task that failed, the place of its call, and the errors that caused it.
        signals: Names of the signals that it has not yet taken.
    """

    row: StoredRow
    facts: Mapping[str, str]
    params: Mapping[str, str]
    steps: Sequence[StoredStep]
    more: int
    outcome: str
    signals: Sequence[str]

    @property
    def can_resume(self) -> bool:
        """Whether it has ended without a value, so that workers can go on with it."""
        ended = {RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.DEAD}
        return self.row.status in {str(status) for status in ended}

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self.row.status in {str(status) for status in FINISHED}


@dataclass(frozen=True, slots=True)
class Difference:
    """A node of two runs."""

    task: str
    left: str
    right: str

    @property
    def kind(self) -> str:
        """``"same"``, ``"differs"``, ``"only left"`` or ``"only right"``."""
        if self.left == self.right:
            return "same"
        if not self.right:
            return "only left"
        return "differs" if self.left else "only right"


class History:
    """The durable runs of one store.

    Args:
        store: The store.
        codec: Reads values; it imports no modules.
    """

    def __init__(self, store: RunStore, codec: Codec) -> None:
        self._store = store
        self._codec = codec

    def runs(
        self,
        statuses: Collection[str] = (),
        target: str = "",
        before: int | None = None,
        limit: int = 50,
    ) -> list[StoredRow]:
        """Runs, the newest first; ``before``: the number of the last one of the page before."""
        wanted = [RunStatus(status) for status in statuses]
        where = Filter(wanted, target or None, before=before, limit=limit)
        return [_row(run) for run in self._store.runs(where)]

    def run(self, run_id: str) -> StoredRunView | None:
        """One run; None if there is none.

        Raises:
            SerializationError: It is damaged, or signed with another key.
        """
        found = self._store.find(run_id)
        if found is None:
            return None
        loaded = self._store.load(found.number)
        steps = self._steps(loaded)
        params = self._codec.loads(loaded.params) if loaded.params else {}
        return StoredRunView(
            _row(loaded.run),
            _facts(loaded.run),
            {name: stored_text(self._codec, self._codec.dumps(v)) for name, v in params.items()},
            steps[:MOST_STEPS],
            max(0, len(steps) - MOST_STEPS),
            _outcome(self._codec, loaded.result),
            [signal.name for signal in loaded.signals],
        )

    def compare(self, left: str, right: str) -> list[Difference]:
        """The nodes of two runs, those first that differ. Nodes of one key are compared by value.

        Raises:
            RunNotFoundError: There is no such run.
            SerializationError: One is damaged, or signed with another key.
        """
        sides = [self._by_name(run) for run in (left, right)]
        names = list(dict.fromkeys([*sides[0], *sides[1]]))
        found = [Difference(n[0], sides[0].get(n, ""), sides[1].get(n, "")) for n in names]
        return sorted(found, key=lambda one: one.kind == "same")[:MOST_STEPS]

    def fork(self, run_id: str, again: Sequence[str], params: Mapping[str, Any]) -> Answer:
        """Create a run from the outcomes of another one; its id, if that was done."""
        with _refusals() as answer:
            made = fork(self._store, self._codec, run_id, new_id(), again=again, params=params)
            answer[:] = True, made.run_id
        return answer[0], answer[1]

    def resume(self, run_id: str) -> Answer:
        """Give a run that has ended without a value to the workers."""
        with _refusals() as answer:
            lease = Lease(own_name(), _LEASE)
            found = self._store.find(run_id)
            if found is not None and not found.portable:
                raise RunConflictError(
                    f"the target of run {run_id!r} is not stored; run the same target again with "
                    f"run_id={run_id!r}",
                    run_id,
                )
            dead = dead_among(self._store.owners())
            run = self._store.claim_run(run_id, lease, again=True, dead=dead)
            given = Commit(run.number, run.epoch, change=Change(RunStatus.ENQUEUED))
            self._store.commit([given], seconds=_LEASE)
            answer[:] = True, f"{run_id} waits for a worker: cascade work MODULE --store …"
        return answer[0], answer[1]

    def cancel(self, run_id: str) -> Answer:
        """Ask a run to end."""
        with _refusals() as answer:
            run = self._store.cancel(run_id, dead=dead_among(self._store.owners()))
            is_over = run.status is RunStatus.CANCELLED
            answer[:] = True, f"{run_id} is cancelled" if is_over else f"{run_id} is asked to end"
        return answer[0], answer[1]

    def signal(self, run_id: str, name: str, value: Any) -> Answer:
        """Send a signal to a run."""
        with _refusals() as answer:
            self._store.send(run_id, name, self._codec.dumps(value))
            answer[:] = True, f"{run_id} got {name}"
        return answer[0], answer[1]

    def _graphs(self, loaded: Loaded) -> StoredGraphs:
        return graphs_of(self._codec, loaded)

    def _steps(self, loaded: Loaded) -> list[StoredStep]:
        graphs = self._graphs(loaded)
        values = self._values(loaded, graphs)
        return [
            StoredStep(
                step.key.hex()[:_DIGITS],
                step.task or "–",
                f"{step.state} × {step.step:,}" if step.step else step.state,
                values.get(step.key, ""),
                None if step.time is None else max(0.0, step.time - loaded.run.created),
            )
            for step in graphs.steps()
        ]

    def _values(self, loaded: Loaded, graphs: StoredGraphs) -> dict[bytes, str]:
        """Key of a node → its value as text; of the first ones."""
        rows = graphs.rows[:MOST_STEPS]
        apart = {bytes.fromhex(row.body.decode()) for row in rows if row.kind == BLOB}
        blobs = self._store.blobs(loaded.run.number, apart) if apart else {}
        found = {}
        for row in rows:
            body = row.body if row.kind != BLOB else blobs.get(bytes.fromhex(row.body.decode()))
            found[row.key] = stored_text(self._codec, body)
        return found

    def _by_name(self, run_id: str) -> dict[tuple[str, str], str]:
        """Task and key of a node → its state and value."""
        view = self.run(run_id)
        if view is None:
            raise RunConflictError(f"there is no run {run_id!r}", run_id)
        return {(s.task, s.key): s.value or s.state for s in view.steps}


@contextmanager
def _refusals() -> Iterator[list[Any]]:
    """A list for the answer; what a store refuses becomes one."""
    answer: list[Any] = [False, ""]
    try:
        yield answer
    except (CascadeError, ValueError) as error:
        answer[:] = False, str(error)


def _outcome(codec: Codec, body: bytes | None) -> str:
    """A value in a line, or an error with all that the store has of it."""
    if not body:
        return ""
    try:
        value = codec.loads(body)
    except SerializationError:  # mostly: the module of its class is not imported here
        with suppress(ValueError, TypeError, LookupError, AttributeError):
            return "\n".join(_error_lines(json.loads(codec.unseal(body))))
        return stored_text(codec, body)
    if isinstance(value, StoredError):
        return "\n".join([value.traceback.rstrip(), *getattr(value, "__notes__", ())])
    if isinstance(value, BaseException):
        return "".join(format_exception(value)).rstrip()
    return stored_text(codec, body)


def _error_lines(form: dict[str, Any]) -> Iterator[str]:
    """The lines of an error in its stored form; see ``cascade.graph.forms``."""
    kind, args, state, cause = form["$error"]
    if cause is not None:
        yield from _error_lines(cause)
        yield "\nThe above exception was the direct cause of the following exception:\n"
    said = args[0] if len(args) == 1 and isinstance(args[0], str) else short(tuple(args))
    yield f"{kind.replace(':', '.')}: {said}" if args else kind.replace(":", ".")
    yield from state.get("__notes__", ())


def _row(run: RunRecord) -> StoredRow:
    took = None if run.ended is None else max(0.0, run.ended - run.created)
    status = "cancelling" if run.cancelling and run.status not in FINISHED else str(run.status)
    parent = run.parent or ""
    return StoredRow(
        run.number, run.run_id, run.target, status, run.created, took, run.progress, parent
    )


def _facts(run: RunRecord) -> dict[str, str]:
    silent = run.status is RunStatus.RUNNING and run.lease_until < time()
    owner = f"{run.owner}, which is silent" if silent else run.owner or ""
    facts = {
        "target": run.target if run.portable else f"{run.target}, which is not stored",
        "created": f"{duration_text(max(0.0, time() - run.created))} ago",
        "took": "" if run.ended is None else duration_text(max(0.0, run.ended - run.created)),
        "owner": owner,
        "due": "" if run.due is None else _when(run.due),
        "priority": str(run.priority or ""),
        "progress": f"{run.progress:,}" if run.progress else "",
        "fork of": run.parent or "",
        "taken over": f"{run.recoveries} times without a commit" if run.recoveries > 1 else "",
    }
    return {name: text for name, text in facts.items() if text}


def _when(moment: float) -> str:
    left = moment - time()
    return f"in {duration_text(left)}" if left > 0 else "now"
