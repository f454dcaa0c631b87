"""RunView: the nodes of one run for views in other processes; and the rows of all runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from time import time
from typing import Any, Final, TypeAlias

from cascade.runtime.control.forms import form_of
from cascade.runtime.engine import Engine
from cascade.runtime.engine_runs import RunInfo
from cascade.runtime.execution.waiting import held_by
from cascade.runtime.graph_path.observing import (
    FewObserved,
    FoundNode,
    NodeChange,
    Observed,
    awaited,
    observed,
)
from cascade.runtime.run import Run
from cascade.runtime.telemetry.texts import Texts

#: Most nodes of a run that are shown at the same time.
MOST_NODES: Final = 20_000
#: Nodes that are looked at in one slice, and found in one.
_SLICE, _FOUND = 500, 100
#: Most signals that are shown of one run.
_SIGNALS: Final = 50
#: Most bytes of a name, and of a note.
_MOST_OF_A_NAME, _MOST_OF_A_NOTE = 200, 300
#: Name and body of a part, if there is something to show.
Part: TypeAlias = tuple[str, dict[str, Any]] | None


class RunView:
    """The nodes of one run and their states, as far as they were not shown before.

    Args:
        engine: The engine.
        run_id: The id of the run.
        texts: Redacts names and notes.
    """

    def __init__(self, engine: Engine, run_id: str, texts: Texts) -> None:
        self._engine = engine
        self._run_id = run_id
        self._texts = texts
        self._observed: Observed | FewObserved | None = None
        #: The parts of the run that are observed.
        self._inside: Any = None
        self._told_left_out = False

    def let_go(self) -> None:
        """Hold no node any more: the run has ended."""
        self._observed = self._inside = None

    def look(self) -> Iterator[Part]:
        """The changes, a slice at a time; None for a slice without changes."""
        run = self._engine.engine_runs.find(self._run_id)
        if run is None or run.inside is None:
            self._observed = self._inside = None
            return
        if run.inside is not self._inside:
            self._inside = run.inside
            self._observed = observed(run.inside, MOST_NODES)
        nodes = self._observed
        assert nodes is not None
        for part in chain(self._structure(nodes), self._states(nodes)):
            yield part
            if self._observed is not nodes:
                return  # the run has ended meanwhile
        signals = [
            {"node": one.number, "name": one.name, "form": form_of(one.annotation)}
            for one in awaited(run.inside)[:_SIGNALS]
        ]
        yield "signals", self._body(signals=signals)

    def _states(self, nodes: Observed | FewObserved) -> Iterator[Part]:
        for changes in nodes.sweep(_SLICE):
            told = [self._change(one) for one in changes]
            yield ("states", self._body(changes=told)) if told else None

    def _structure(self, nodes: Observed | FewObserved) -> Iterator[Part]:
        gone = nodes.gone()
        while found := nodes.find(_FOUND):
            rows = [self._node(node) for node in found]
            yield "graph", self._body(nodes=rows, gone=gone, left_out=nodes.left_out)
            gone = []
        if gone or nodes.left_out != self._told_left_out:
            self._told_left_out = nodes.left_out
            yield "graph", self._body(nodes=[], gone=gone, left_out=nodes.left_out)

    def _body(self, **parts: Any) -> dict[str, Any]:
        return {"run": self._run_id, "time": time(), **parts}

    def _node(self, node: FoundNode) -> list[Any]:
        clean = self._texts.clean
        name, site = clean(node.name, _MOST_OF_A_NAME), clean(node.callsite, _MOST_OF_A_NAME)
        item = clean(node.item, _MOST_OF_A_NAME)
        return [node.number, name, node.kind, site, node.segment, node.owner, item, node.inputs]

    def _change(self, change: NodeChange) -> list[Any]:
        note = self._texts.clean(change.note, _MOST_OF_A_NOTE) if change.note else ""
        return [change.number, change.state, note]


def row_of(info: RunInfo, permit: Sequence[Any] | None, run: Run, texts: Texts) -> list[Any]:
    """A run as a row: id, target, strategy, seconds, steps, steps per second, task, what it waits
    for. In the loop's thread.

    Args:
        info: Its progress.
        permit: The limit that one of its calls waits for, and the tasks that hold it.
        run: The run.
        texts: Redacts names.
    """
    reason = ""
    if permit is not None:
        reason = permit[0] + held_by(permit[1])
    elif (rest := run.first_rest()) is not None:
        reason = rest.reason
    clean = texts.clean
    return [
        info.run_id,
        clean(info.target, _MOST_OF_A_NAME),
        info.strategy,
        round(info.seconds, 3),
        info.steps,
        round(info.steps_per_second, 2),
        None if info.task is None else clean(info.task, _MOST_OF_A_NAME),
        clean(reason, _MOST_OF_A_NOTE),
    ]
