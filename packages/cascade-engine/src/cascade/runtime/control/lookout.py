"""Lookout: shows an engine to views in other processes, while they ask for it.

It takes at most ``SHARE`` of the event loop's time, in slices of a millisecond or so: a large graph
is shown less often, and does not stop the loop. Without a view it has no task and no subscription.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import time
from typing import Any, Final

from cascade.adapters.connectors.pacing import Allowance
from cascade.runtime.control.ended_runs import EndedRuns
from cascade.runtime.control.log_lines import LogLines
from cascade.runtime.control.looks import Look, Order, read_look, read_order, write_part
from cascade.runtime.control.messages import RefusedMessageError
from cascade.runtime.control.orders import obey
from cascade.runtime.control.run_views import RunView, row_of
from cascade.runtime.engine import Engine
from cascade.runtime.run import Run
from cascade.runtime.telemetry.texts import Texts

_log = logging.getLogger("cascade.control")
#: Share of the loop's time for showing.
SHARE: Final = 0.02
#: Seconds of work at once after a quiet time, and those that a byte takes on its way out.
_BURST, _SENDING = 0.01, 1e-8
#: Least seconds between two looks at the same thing.
_EVERY = 0.5
#: Most views at the same time, and most messages of views that wait to be read.
_MOST_VIEWS, _MOST_WAITING = 16, 64
#: Most rows of runs, logs and ended runs in a message.
_ROWS = 200
#: Marks the end of a round.
_OVER: Final = object()


class Lookout:
    """Shows one engine. Used in the event loop's thread.

    Args:
        engine: The engine.
        show: Publishes a part, by its name.
        texts: Redacts all texts.
        refuse: Called with the reason why a message was refused.
    """

    def __init__(
        self,
        engine: Engine,
        show: Callable[[str, bytes], object],
        texts: Texts,
        refuse: Callable[[str], object],
    ) -> None:
        self._engine = engine
        self._publish = show
        self._texts = texts
        self._refuse = refuse
        self._asked: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._orders: deque[bytes] = deque(maxlen=_MOST_WAITING)
        #: Name of a view → its look, and the time at which it ends.
        self._looks: dict[str, tuple[Look, float]] = {}
        self._views: dict[str, RunView] = {}
        self._ended: EndedRuns | None = None
        self._logs: LogLines | None = None
        self._sweep = 0
        self._serving: asyncio.Task[None] | None = None
        self._allowance: Allowance | None = None

    def ask(self, _topic: str, payload: bytes) -> None:
        """Handle a message of a view that looks."""
        self._asked.append(payload)
        self._wake()

    def order(self, _topic: str, payload: bytes) -> None:
        """Handle an order of a view."""
        self._orders.append(payload)
        self._wake()

    def close(self) -> None:
        """Show nothing any more."""
        if self._serving is not None:
            self._serving.cancel()
        self._rest()

    def _wake(self) -> None:
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve(), name="views of an engine")

    async def _serve(self) -> None:
        """Serve the requests of views, until no view has asked for a while."""
        loop = asyncio.get_running_loop()
        allowance = self._allowance = Allowance(SHARE, loop.time, _BURST)
        try:
            while True:
                began, steps = loop.time(), self._round(loop.time())
                while True:
                    with allowance.spending():
                        step = next(steps, _OVER)
                    if step is _OVER:
                        break
                    await asyncio.sleep(allowance.pause)
                if not (self._looks or self._asked or self._orders):
                    return
                await asyncio.sleep(max(_EVERY - (loop.time() - began), allowance.pause))
        except Exception:  # an error of this library; the engine must go on
            _log.exception("an engine cannot be shown")
        finally:
            self._serving = None
            self._rest()

    def _rest(self) -> None:
        self._looks.clear()
        self._views.clear()
        self._want_ended(False)
        self._want_logs(False)

    # -- what is wanted -----------------------------------------------------------------------

    def _round(self, now: float) -> Iterator[None]:
        """One look at all that is wanted, a slice at a time."""
        yield from self._obey()
        anew = self._read(now)
        looks = [look for look, _ in self._looks.values()]
        self._want_ended(bool(looks))
        self._want_logs(any(look.logs for look in looks))
        self._want_views({run for look in looks for run in look.run}, anew)
        if self._ended is not None:
            yield from self._show_ended(self._ended)
        if any(look.runs for look in looks):
            yield from self._show_runs()
        if self._logs is not None:
            yield from self._show_logs(self._logs)
        for view in list(self._views.values()):
            for part in view.look():
                if part is not None:
                    self._show(*part)
                yield

    def _read(self, now: float) -> set[str]:
        """Take over the requests of views; returns the runs that are to be shown anew."""
        anew: set[str] = set()
        while self._asked:
            try:
                look = read_look(self._asked.popleft())
            except RefusedMessageError as refusal:
                self._refuse(str(refusal))
                continue
            if look.view in self._looks or len(self._looks) < _MOST_VIEWS:
                self._looks[look.view] = look, now + look.seconds
                anew.update(look.run if look.anew else ())
        self._looks = {name: pair for name, pair in self._looks.items() if pair[1] > now}
        return anew

    def _want_ended(self, wanted: bool) -> None:
        runs = self._engine.engine_runs
        if wanted and self._ended is None:
            self._ended = EndedRuns(self._texts)
            runs.on_end = self._note_end
        elif not wanted and self._ended is not None:
            self._ended = runs.on_end = None

    def _note_end(self, run: Run, *details: Any) -> None:
        assert self._ended is not None
        self._ended.note(run, *details)
        view = self._views.get(run.id)
        if view is not None:
            view.let_go()

    def _want_logs(self, wanted: bool) -> None:
        if wanted and self._logs is None:
            self._logs = LogLines(self._texts)
            self._logs.open()
        elif not wanted and self._logs is not None:
            logs, self._logs = self._logs, None
            logs.close()

    def _want_views(self, wanted: set[str], anew: set[str]) -> None:
        for run_id in [*self._views]:
            if run_id not in wanted or run_id in anew:
                del self._views[run_id]
        for run_id in wanted:
            if run_id not in self._views:
                self._views[run_id] = RunView(self._engine, run_id, self._texts)

    # -- what is shown ------------------------------------------------------------------------

    def _show(self, part: str, body: dict[str, Any]) -> None:
        payload = write_part(body)
        self._publish(part, payload)
        if self._allowance is not None:
            self._allowance.spend(len(payload) * _SENDING)

    def _show_runs(self) -> Iterator[None]:
        engine, self._sweep = self._engine, self._sweep + 1
        runs = engine.engine_runs
        permits = {permit.run: why for permit, *why in engine.capacities.waiting(None)}
        active = list(runs.active)
        yield
        for first in range(0, max(len(active), 1), _ROWS):
            rows = [
                row_of(info, permits.get(run), run, self._texts)
                for run in active[first : first + _ROWS]
                if (info := runs.info(run)) is not None
            ]
            body = {"sweep": self._sweep, "time": time(), "first": first, "of": len(active)}
            self._show("runs", body | {"rows": rows})
            yield

    def _show_ended(self, ended: EndedRuns) -> Iterator[None]:
        while rows := ended.take(_ROWS // 10):
            self._show("ended", {"rows": rows, "left_out": ended.left_out})
            yield

    def _show_logs(self, logs: LogLines) -> Iterator[None]:
        while rows := logs.take(_ROWS):
            self._show("logs", {"rows": rows, "left_out": logs.left_out})
            yield

    def _obey(self) -> Iterator[None]:
        while self._orders:
            try:
                order = read_order(self._orders.popleft())
            except RefusedMessageError as refusal:
                self._refuse(str(refusal))
                continue
            obey(self._engine, order, self._answer)
            yield

    def _answer(self, order: Order, done: bool, text: str) -> None:
        body = {"to": order.view, "number": order.number, "done": done, "text": text}
        with suppress(Exception):  # the connection may be closed by now
            self._show("done", body)
