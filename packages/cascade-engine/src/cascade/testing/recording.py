"""Recordings: the calls of a run, kept in a file and compared with those of a later run."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any, Final, NamedTuple

from cascade.runtime.middleware import TaskCall
from cascade.runtime.overriding import Watch, in_force
from cascade.runtime.runners import run as run_script
from cascade.spec.errors import ArgumentError
from cascade.spec.nearby import did_you_mean
from cascade.testing.overrides import override
from cascade.testing.recorded_values import kept, restored, text_of

_VERSION: Final = 1
#: Lines around a change in a diff.
_CONTEXT = 3


@dataclass(frozen=True)
class RecordedCall:
    """One call of a recorded run.

    Attributes:
        task: The name of the task.
        depth: How many calls have returned the node: 0 for a node of the target.
        arguments: The arguments as text, in which addresses are left out.
        outcome: The value as text, or ``raises`` and the error.
        stored: The value, to be given again; None if it cannot be, or is in ``outcome``.
    """

    task: str
    depth: int
    arguments: str
    outcome: str
    stored: Any = None

    @property
    def line(self) -> str:
        """The call in one line: ``total(sales=[20, 4], scale=1.0) → 24.0``."""
        return f"{'  ' * self.depth}{self.task}({self.arguments}) → {self.outcome}"


@dataclass(frozen=True)
class Recording:
    """The calls of a run.

    Attributes:
        params: The parameters of the run.
        calls: Its calls, in an order that does not depend on threads: that in which the nodes were
            made, the calls that a call has returned below it. Each attempt and each step of a loop
            is one.
        value: The value of the target, as text; empty for a recording of several runs.
    """

    params: Mapping[str, Any]
    calls: Sequence[RecordedCall]
    value: str = ""

    @property
    def lines(self) -> list[str]:
        """The run as text, one line for each call."""
        given = [f"{name} = {text_of(value)}" for name, value in self.params.items()]
        return [*given, *(call.line for call in self.calls), *([self.value] if self.value else [])]

    def save(self, file: str | Path) -> None:
        """Write the recording as JSON, which a diff shows line by line; folders are made.

        Raises:
            OSError: The file cannot be written.
            NotStorableError: A parameter of the run has no stored form.
        """
        data = {
            "cascade recording": _VERSION,
            "params": {name: kept(value, name) for name, value in self.params.items()},
            "calls": [
                {name: value for name, value in vars(call).items() if value is not None}
                for call in self.calls
            ],
            "value": self.value,
        }
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: str | Path) -> Recording:
        """Read a file that ``save`` has written.

        Reading the values may import the modules of their classes.

        Raises:
            OSError: The file cannot be read.
            ArgumentError: It is no recording, or one of another version.
        """
        try:
            data = json.loads(Path(file).read_text(encoding="utf-8"))
            if data["cascade recording"] != _VERSION:
                raise KeyError(data["cascade recording"])
            params = {name: restored(form) for name, form in data["params"].items()}
            calls = [RecordedCall(**call) for call in data["calls"]]
            return cls(params, calls, data["value"])
        except (ValueError, KeyError, TypeError) as error:
            raise ArgumentError(f"{file} is no recording of this version: {error!r}") from error

    def as_test(self, target: str, file: str, *, replay: Collection[str] = ()) -> str:
        """The source of a test that compares the target with this recording.

        Args:
            target: ``MODULE:NAME``, importable by the test: a lazy value.
            file: The recording, beside the test.
            replay: See ``check``.

        Raises:
            ArgumentError: ``target`` is no such name.
        """
        module, colon, name = target.rpartition(":")
        names = [*module.split("."), name]
        if not colon or module.endswith(".py") or not all(part.isidentifier() for part in names):
            raise ArgumentError(
                f"as_test() takes MODULE:NAME, such as flows:report, but got {target!r}"
            )
        more = f", replay={sorted(replay)!r}" if replay else ""
        return (
            f"from pathlib import Path\n\nfrom cascade.testing import Recording\n"
            f"from {module} import {name}\n\nRECORDED = Path(__file__).parent / {file!r}\n\n\n"
            f"def test_{name}_is_as_recorded():\n"
            f"    Recording.load(RECORDED).check({name}{more})\n"
        )

    def assert_same(self, later: Recording, name: str = "the run") -> None:
        """Check that a later run made the same calls, with the same values.

        Args:
            later: The recording of that run.
            name: Its name in the error.

        Raises:
            AssertionError: It did not; the message is a diff.
        """
        old, new = self.lines, later.lines
        if old != new:
            diff = unified_diff(old, new, "recorded", "now", lineterm="", n=_CONTEXT)
            raise AssertionError("\n".join([f"{name} has changed since it was recorded:", *diff]))

    @contextmanager
    def replaying(self, *tasks: str) -> Iterator[None]:
        """In a ``with`` block, calls of these tasks give their recorded values.

        They are found by the text of their arguments; equal calls give their values in order, the
        last one again and again.

        Raises:
            ArgumentError: The recording has no call of such a task.
            AssertionError: From a call that was not recorded, or whose value cannot be given again.
        """
        with ExitStack() as stack:
            for task in tasks:
                calls = [call for call in self.calls if call.task == task]
                if not calls:
                    near = did_you_mean(task, {call.task for call in self.calls})
                    raise ArgumentError(f"the recording has no call of '{task}'{near}")
                stack.enter_context(_replay(task, calls))
            yield

    def check(
        self,
        target: Any,
        *,
        replay: Collection[str] = (),
        run: Callable[..., Any] = run_script,
        **options: Any,
    ) -> Any:
        """Run a target again, with the recorded parameters, and compare.

        Args:
            target: The target, as it is now.
            replay: Names of tasks that are not called: see ``replaying``.
            run: Runs it: ``cs.run``, or ``virtual_engine.run``.
            options: Those of ``run``.

        Returns:
            The value of the target.

        Raises:
            AssertionError: The calls or the value have changed.
            Exception: The error of the run.
        """
        with self.replaying(*replay):
            later, value = record_run(target, self.params, run=run, **options)
        self.assert_same(later)
        return value


class Recorded(NamedTuple):
    """A recording, and the value of the run."""

    recording: Recording
    value: Any


def record_run(
    target: Any,
    params: Mapping[str, Any] | None = None,
    *,
    run: Callable[..., Any] = run_script,
    **options: Any,
) -> Recorded:
    """Run a target, and record its calls.

    Args:
        target: The target.
        params: The parameters of the run.
        run: Runs it: ``cs.run``, or ``virtual_engine.run``.
        options: Those of ``run``, such as ``use_vm=True``.

    Raises:
        Exception: The error of the run.

    >>> import cascade as cs
    >>> @cs.task
    ... def double(n):
    ...     return 2 * n
    >>> recording, value = record_run(double.map(n=[1, cs.Param("n", type=int)]), {"n": 20})
    >>> for line in recording.lines: print(line)
    n = 20
    double(n=1) → 2
    double(n=20) → 40
    [2, 40]
    """
    with recording_calls() as calls:
        value = run(target, params, **options)
    return Recorded(Recording(dict(params or {}), calls(), text_of(value)), value)


@contextmanager
def recording_calls() -> Iterator[Callable[[], list[RecordedCall]]]:
    """Record the calls of all runs that begin in a ``with`` block, on any engine.

    The block gets a function that returns the calls so far. The runs use no cache, and compile no
    loops.
    """
    notes = _Notes()
    watch = Watch(notes.around)
    in_force.add(watch)
    try:
        yield notes.calls
    finally:
        in_force.remove(watch)


class _Note(NamedTuple):
    node: int
    parent: int | None
    number: int
    task: str
    arguments: str
    outcome: str
    stored: Any


class _Notes:
    """The calls of runs, as a middleware sees them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: list[_Note] = []

    def around(self, call: TaskCall) -> Generator[None, Any, Any]:
        arguments = ", ".join(
            [
                *map(text_of, call.args),
                *(f"{name}={text_of(value)}" for name, value in call.kwargs.items()),
            ]
        )
        try:
            value = yield
        except Exception as error:
            self._add(call, arguments, f"raises {text_of(error)}", None)
            raise
        outcome = text_of(value)
        self._add(call, arguments, outcome, kept(value, None, outcome))
        return value

    def _add(self, call: TaskCall, arguments: str, outcome: str, stored: Any) -> None:
        with self._lock:
            number = len(self._notes)
            note = _Note(call.node, call.parent, number, call.task, arguments, outcome, stored)
            self._notes.append(note)

    def calls(self) -> list[RecordedCall]:
        """The calls so far, those of a node below the one that has returned it."""
        with self._lock:
            notes = list(self._notes)
        parents = {note.node: note.parent for note in notes}

        def way(node: int) -> tuple[int, ...]:
            found = [node]
            while (above := parents.get(found[-1])) is not None and above in parents:
                found.append(above)
            return tuple(reversed(found))

        ways = {node: way(node) for node in parents}
        notes.sort(key=lambda note: (ways[note.node], note.number))
        return [
            RecordedCall(
                note.task, len(ways[note.node]) - 1, note.arguments, note.outcome, note.stored
            )
            for note in notes
        ]


def _replay(task: str, calls: Sequence[RecordedCall]) -> override:
    """An override that gives the values of recorded calls."""
    left: dict[str, list[RecordedCall]] = {}
    for call in calls:
        left.setdefault(call.arguments, []).append(call)
    lock = threading.Lock()

    def again(*args: Any, **kwargs: Any) -> Any:
        named = [f"{name}={text_of(value)}" for name, value in kwargs.items()]
        arguments = ", ".join([*map(text_of, args), *named])
        with lock:
            found = left.get(arguments)
            if not found:
                known = "".join(f"\n    {task}({one})" for one in left)
                raise AssertionError(
                    f"the recording has no call {task}({arguments}); it has{known}"
                )
            call = found.pop(0) if len(found) > 1 else found[0]
        if call.outcome.startswith("raises "):
            raise AssertionError(
                f"the recorded call {task}({arguments}) {call.outcome}, which a recording cannot "
                "give again; use override(…, error=…)"
            )
        return restored(call.stored, call.outcome)

    return override(task, function=again)
