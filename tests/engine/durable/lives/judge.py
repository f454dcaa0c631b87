"""What must not happen in a trial, by the notes of all processes and by what is in the store."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.engine.durable.leftovers import left_in
from tests.engine.durable.lives.programs import SPENDING

from cascade.adapters.stores import open_store
from cascade.graph.codec import Codec
from cascade.runtime.durable.rows import rows_of
from cascade.runtime.durable.runs import value_of
from cascade.spec.run_rows import Chunk, RunRecord, RunStatus
from cascade.spec.run_store import RunStore

#: Most calls of a run that may be under way in a process which stands still: those of one turn of
#: the event loop, and of its threads.
_UNDER_WAY = 8


class Note(NamedTuple):
    """A line of the notes."""

    kind: str
    pid: int
    what: list[Any]


class Call(NamedTuple):
    """A call, as its task has noted it."""

    pid: int
    run: str
    key: str | None
    step: int
    epoch: int | None
    task: str
    arguments: tuple[Any, ...]


class Seen(NamedTuple):
    """A run as its row and its journal were at a moment.

    Attributes:
        notes: How many notes there were just afterwards.
        done: Keys of finished nodes.
        steps: Keys of nodes in loops, and the steps that they had come to.
    """

    run: str
    epoch: int
    notes: int
    done: Collection[str]
    steps: dict[str, int]


class Judge:
    """Looks at a trial from outside.

    Args:
        notes: The file of notes.
    """

    def __init__(self, notes: Path) -> None:
        self._path = notes
        self._seen: list[Seen] = []
        #: Processes that have stood still: they may end the calls that were under way.
        self.stopped: set[int] = set()
        #: Run → the signals that were sent to it, in their order.
        self.sent: dict[str, list[int]] = defaultdict(list)
        #: Runs that were cancelled. Where they are run by their ids, they may go on.
        self.cancelled: set[str] = set()
        #: Run → how many notes there were when it was known to have ended as cancelled.
        self._stopped_at: dict[str, int] = {}

    def size(self) -> int:
        """Bytes of all notes so far."""
        return self._path.stat().st_size if self._path.exists() else 0

    def notes(self) -> list[Note]:
        """All notes so far."""
        if not self._path.exists():
            return []
        lines = map(json.loads, self._path.read_text().splitlines())
        return [Note(kind, pid, what) for kind, pid, *what in lines]

    def look(self, url: str) -> None:
        """Remember what is finished now: it must not be called again (D2)."""
        with closing(open_store(url)) as store:
            loaded = [store.load(run.number) for run in store.runs()]
        count = self._path.read_bytes().count(b"\n") if self._path.exists() else 0
        for each in loaded:
            rows = [row for chunk in each.chunks for row in rows_of(chunk)]
            done = {row.key.hex() for row in rows} | {each.key.hex() for each in each.outcomes}
            steps = {record.key.hex(): record.step for record in each.records}
            self._seen.append(Seen(each.run.run_id, each.run.epoch, count, done, steps))
            if each.run.status is RunStatus.CANCELLED:
                self._stopped_at.setdefault(each.run.run_id, count)

    # -- at the end --------------------------------------------------------------------------------

    def faults(
        self,
        url: str,
        wanted: Collection[str],
        rows: list[tuple[str, int, int]],
        in_order: bool,
        serves: bool,
    ) -> Iterator[str]:
        """Everything that should not have happened.

        Args:
            url: The store.
            wanted: The ids of the runs.
            rows: All bookings.
            in_order: Whether calls begin after the commits of what they depend on (D4, "sync").
            serves: Whether only workers have executed the runs, which leave cancelled ones alone.
        """
        notes = self.notes()
        calls = [(n, _call(note)) for n, note in enumerate(notes) if note.kind == "call"]
        yield from self._made_again(calls)
        if in_order:
            yield from _changed(call for _, call in calls)
            yield from self._steps(notes)
        if serves:
            yield from self._after_cancels(notes)
        yield from self._too_many(notes)
        with closing(open_store(url)) as store:
            runs = {run.run_id: run for run in store.runs()}
            if in_order:
                ended = {name for name, run in runs.items() if run.status is RunStatus.CANCELLED}
                yield from _badly_booked([call for _, call in calls], rows, ended)
            yield from [f"{run_id} is not in the store" for run_id in {*wanted} - {*runs}]
            for run in runs.values():
                yield from self._ends(store, run, notes, in_order)
            if owners := store.owners():
                yield f"runs have owners still: {owners}"

    def _made_again(self, calls: list[tuple[int, Call]]) -> Iterator[str]:
        """Calls of finished nodes, in whatever mode."""
        late: dict[tuple[int, str], set[int]] = defaultdict(set)
        for seen in self._seen:
            for at, call in calls[:]:
                if at < seen.notes or call.run != seen.run or call.key is None:
                    continue
                if call.key not in seen.done and call.step >= seen.steps.get(call.key, 0):
                    continue
                was_owner = call.epoch is None or call.epoch < seen.epoch
                if call.pid in self.stopped and was_owner:
                    late[call.pid, call.run].add(at)
                else:
                    yield f"note {at + 1}: a finished call was made again (D2): {call}"
        for (pid, run), found in late.items():
            if len(found) > _UNDER_WAY:
                yield f"process {pid} had lost {run}, and made {len(found)} finished calls (D6)"

    def _steps(self, notes: list[Note]) -> Iterator[str]:
        """Loops without names for their steps: their numbers go down."""
        last: dict[str, tuple[int, int]] = {}
        for at, note in enumerate(notes):
            if note.kind != "step":
                continue
            run, n, value = note.what
            before = last.get(run, (n, value))
            if n == before[0] and value != before[1]:
                yield f"note {at + 1}: a step had other arguments before (D4): {note}, {before}"
            elif n > before[0] and note.pid not in self.stopped:
                yield f"note {at + 1}: a finished step was made again (D2): {note}, {before}"
            if n <= before[0]:
                last[run] = n, value

    def _too_many(self, notes: list[Note]) -> Iterator[str]:
        """More holders of the shared capacity than there is of it."""
        holding: dict[int, int] = defaultdict(int)
        #: Processes that were killed in a call may not have noted its end.
        ended = {pid: count for pid, count in _unmatched(notes).items() if count}
        for at, note in enumerate(notes):
            if note.kind not in "+-" or note.pid in self.stopped or note.pid in ended:
                continue
            holding[note.pid] += 1 if note.kind == "+" else -1
            if sum(holding.values()) > 2:
                yield f"note {at + 1}: {dict(holding)} hold more than 2"
                return

    def _after_cancels(self, notes: list[Note]) -> Iterator[str]:
        """Calls of runs that have ended as cancelled."""
        for at, note in enumerate(notes):
            if note.kind not in ("call", "step") or note.pid in self.stopped:
                continue
            if at >= self._stopped_at.get(note.what[0], len(notes)):
                yield f"note {at + 1}: a call of a run that was cancelled: {note}"

    def _ends(
        self, store: RunStore, run: RunRecord, notes: list[Note], in_order: bool
    ) -> Iterator[str]:
        if run.status is RunStatus.CANCELLED and run.run_id in self.cancelled:
            values = [each for each in notes if each.kind == "value"]
            yield from [
                f"{run.run_id} was cancelled, but a process had {each}"
                for each in values
                if each.what[0] == run.run_id
            ]
            return
        if run.status is not RunStatus.SUCCEEDED:
            yield f"{run.run_id} has not succeeded: {run}"
            return
        loaded = store.load(run.number)
        value = value_of(Codec(), run, loaded.result)
        if in_order and (expected := self._expected(run.run_id, notes)) != value:
            yield f"{run.run_id} has the value {value}, and not {expected}"
        told = {
            each.what[1] for each in notes if each.kind == "value" and each.what[0] == run.run_id
        }
        if told - {value}:
            yield f"{run.run_id} has the value {value}, but processes had {told}"
        yield from (f"{run.run_id}: {left}" for left in left_in(store, run.run_id))
        outcomes = [row for each in loaded.outcomes for row in rows_of(Chunk(0, each.body))]
        left: list[Any] = [*loaded.signals, *(row for row in outcomes if row.owner is not None)]
        if left:
            yield f"{run.run_id} has left {left}"

    def _expected(self, run: str, notes: list[Note]) -> int:
        """The value of a run: what its last calls were given."""
        spent: dict[Any, int] = {}
        last = 0
        for note in notes:
            if note.kind != "call" or note.what[0] != run:
                continue
            call = _call(note)
            if call.task in SPENDING:
                spent[call.key, call.step] = call.arguments[-1]
            elif call.task == "keyed" and call.arguments[0] == 0:
                # The last step, and not the last note: a busy machine may halt a process for longer
                # than its lease, just before it makes an earlier step.
                last = call.arguments[1]
        if sent := self.sent.get(run):
            given = {
                n: v for note in notes if note.kind == "call" and note.what[0] == run
                for n, v in [_call(note).arguments] if _call(note).task == "spend"
            }  # fmt: skip
            if [given[n] for n in sorted(given, reverse=True)] != sent:
                return -1  # no value of a run is negative
        return last or sum(spent.values())


def _call(note: Note) -> Call:
    run, key, step, epoch, task, arguments = note.what
    return Call(note.pid, run, key, step, epoch, task, tuple(arguments))


def _changed(calls: Iterator[Call]) -> Iterator[str]:
    """Calls that were made with other arguments before."""
    first: dict[Any, Call] = {}
    for call in calls:
        if call.key is None:
            yield f"a call without a key: {call}"
            continue
        before = first.setdefault((call.run, call.key, call.step), call)
        if (before.task, before.arguments) != (call.task, call.arguments):
            yield f"a call had other arguments before (D4): {call}, {before}"


def _badly_booked(
    calls: list[Call], rows: list[tuple[str, int, int]], cancelled: Collection[str]
) -> Iterator[str]:
    """Each booking is made once, with the value that its task was given (D5).

    A call that a cancel has ended has made none.
    """
    made = {(call.run, *call.arguments) for call in calls if call.task == "book"}
    made = {each for each in made if each[0] not in cancelled or each in rows}
    if sorted(rows) != sorted(made):
        yield f"booked: {sorted(rows)}, but tasks were given {sorted(made)} (D5)"


def _unmatched(notes: list[Note]) -> dict[int, int]:
    """Process → how many of its calls have not noted their end."""
    counts: dict[int, int] = defaultdict(int)
    for note in notes:
        if note.kind in ("+", "-"):
            counts[note.pid] += 1 if note.kind == "+" else -1
    return counts
