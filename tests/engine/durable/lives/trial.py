"""One trial: some runs, and processes that execute them until they are killed, by a seed."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.engine.durable.lives.databases import File, Server
from tests.engine.durable.lives.judge import Judge
from tests.engine.durable.lives.life import POINTS, SENDING, Orders, Wanted, live, send
from tests.engine.durable.lives.processes import Child
from tests.engine.durable.lives.programs import LIMITED, TARGETS

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.graph.codec import Codec
from cascade.runtime.durable.handles import StoredRun
from cascade.runtime.options import Durability
from cascade.spec.errors import RunConflictError, RunNotFoundError
from cascade.spec.run_rows import FINISHED

#: Seconds for all runs of a trial to end, on a busy machine too.
PATIENCE = 60.0
_DURABILITIES: tuple[Durability, ...] = ("sync",) * 8 + ("async", "exit")
#: Seconds of a lease, where processes stand still for longer, and where they do not.
_SHORT, _LONG = 0.4, 30.0


class Trial:
    """Runs in a database, and the processes that execute them.

    Args:
        seed: Decides everything but the moments at which the system gives processes their turns.
        database: Where the runs are.
        folder: For notes, and for what processes say. It is empty.
        counts: What happens is counted here.
        typical: Kind of process → seconds that one took which was not killed; learnt here.
    """

    def __init__(
        self,
        seed: int,
        database: File | Server,
        folder: Path,
        counts: Counter[str],
        typical: dict[str, float],
    ) -> None:
        self.chance = chance = random.Random(seed)
        self._database = database
        self._counts = counts
        self._typical = typical
        self._errors = folder / "errors"
        self._judge = Judge(folder / "notes")
        self._living: list[Child] = []
        self._to_send: list[tuple[str, int]] = []
        self._stands_still = chance.random() < 0.12
        self._copies = not self._stands_still and chance.random() < 0.05
        self.orders = self._drawn(folder / "notes")

    def _drawn(self, notes: Path) -> Orders:
        """Which runs there are, and how they are executed."""
        chance, limits = self.chance, self.chance.random() < 0.15
        kinds = [kind for kind in TARGETS if kind not in LIMITED]
        chosen = chance.choices([*kinds, "buyer"], k=chance.randint(1, 4)) + ["held"] * limits
        wanted = tuple(
            Wanted(
                f"{kind}-{number}",
                kind,
                length=chance.randint(2, 6),
                priority=chance.randint(-1, 1),
                later=chance.choice([0.0, 0.0, 0.15]),
            )
            for number, kind in enumerate(chosen)
        )
        for run in wanted:
            if run.kind == "asker":
                self._to_send += [(run.run_id, chance.getrandbits(32)) for _ in range(run.length)]
        serves = chance.random() < 0.5
        return Orders(
            url="",
            notes=notes,
            wanted=wanted,
            serves=serves,
            use_vm=chance.random() < 0.5,
            tier=chance.choice(["auto", "auto", "generated", "interpreted"]),
            durability=chance.choice(_DURABILITIES),
            lease=_SHORT if self._stands_still else _LONG,
            limits=limits,
            slow=chance.choice([0.0, 0.02]),
            minute=0.25 if serves and chance.random() < 0.15 else 0.0,
        )

    def run(self) -> list[str]:
        """What was wrong."""
        try:
            self._database.clear(synchronous=self.chance.choice(["normal", "normal", "full"]))
            self.orders = replace(self.orders, url=self._database.url)
            for _ in range(self.chance.randint(1, 4)):
                self._disturb()
            return self._finished()
        finally:
            for child in self._living:
                child.kill()

    # -- processes ---------------------------------------------------------------------------------

    def _start(self, *, dies: bool = False, **orders: Any) -> Child:
        given = replace(self.orders, url=self._database.url, **orders)
        if dies:
            given = replace(given, kill_at=(self.chance.choice(POINTS), self._count()))
        child = Child(partial(live, given), self._errors)
        self._living.append(child)
        self._counts["processes"] += 1
        return child

    def _count(self) -> int:
        return int(12 * self.chance.random() ** 2)

    @property
    def _while(self) -> float:
        """Some part of the time that a process takes."""
        return self.chance.random() * self._typical.get(self._kind, 0.1) * 1.1

    @property
    def _kind(self) -> str:
        return "serves" if self.orders.serves else "runs"

    def _disturb(self) -> None:
        """Have one or two processes execute the runs, and do something to them."""
        self._send_some()
        draw = self.chance.random()
        dies = draw < 0.5
        while len(self._living) < self.chance.choice([1, 1, 2]):
            self._start(dies=dies)
        if self.chance.random() < 0.15:
            self._living[0].wait(self._while)
            self._cancel()
        child = self.chance.choice(self._living)
        if self._stands_still:
            self._stand_still(child)
        elif self._copies:
            self._go_on_with_a_copy()
        elif self._database.can_restart and draw > 0.85:
            self._restart()
        elif dies:
            self._await_kill(child)
        else:
            child.wait(self._while)
            self._kill(child, "killed at any time")
        self._judge.look(self._database.url)

    def _await_kill(self, child: Child) -> None:
        """Wait until a process kills itself; it may not come to that point."""
        code = child.wait(4 * self._typical.get(self._kind, 0.1) + 0.2)
        if code == -signal.SIGKILL:
            self._counts["killed at a point"] += 1
            self._living.remove(child)
        else:
            self._kill(child, "killed late")

    def _kill(self, child: Child, how: str) -> None:
        if child.poll() is None:
            child.kill()
        if child.code == -signal.SIGKILL:
            self._counts[how] += 1
        elif child.code != 0:
            raise AssertionError(f"a process has ended with {child.code}: {self.said()}")
        self._living.remove(child)

    def _stand_still(self, child: Child) -> None:
        """Stop a process, let another one take over, and let the first one go on."""
        child.wait(self._while)
        if not self._stop(child):
            return
        self._counts["stood still"] += 1
        self._judge.stopped |= {each.pid for each in self._living}
        other = self._start()
        self._judge.stopped.add(other.pid)  # on a busy machine a short lease may end by itself
        noted, until = self._judge.size(), time.monotonic() + 3 * _SHORT
        while self._judge.size() == noted and time.monotonic() < until:
            other.wait(0.01)  # until it has taken over, or found nothing to do
        other.wait(self._while / 2)
        self._judge.look(self._database.url)
        child.send(signal.SIGCONT)
        child.wait(self._while)
        if self.chance.random() < 0.5:
            self._kill(self.chance.choice(self._living), "killed at any time")

    def _stop(self, child: Child) -> bool:
        """Let a process stand still where it does not keep all others from writing."""
        while child.poll() is None:
            child.stop()
            if child.poll() is None and not self._database.is_locked():
                return True
            child.send(signal.SIGCONT)
            time.sleep(0.001)
        return False

    def _go_on_with_a_copy(self) -> None:
        """As after a loss of power, or from a backup: what was committed by then is there."""
        self._living[0].wait(self._while)
        for child in self._living:
            child.stop()
        with self._database.copied():
            for child in [*self._living]:
                self._kill(child, "killed at any time")
        self._counts["copies"] += 1

    def _restart(self) -> None:
        assert isinstance(self._database, Server)
        self._living[0].wait(self._while)
        mode: Any = self.chance.choice(["fast", "immediate", "kill"])
        self._database.restart(mode, away=self.chance.random() * 0.1)
        self._counts[f"restarts ({mode})"] += 1

    # -- signals -----------------------------------------------------------------------------------

    def _send_some(self, most: int = 3) -> None:
        """Send signals that are left, as far as their runs are there."""
        left = self.chance.randint(0, most) if most else len(self._to_send)
        missing: set[str] = set()
        for run_id, value in [*self._to_send]:
            if not left:
                return
            if run_id in missing:
                continue
            if not self._has_sent(run_id, value):
                missing.add(run_id)
                continue
            left -= 1
            self._to_send.remove((run_id, value))
            self._judge.sent[run_id].append(value)
            self._counts["signals"] += 1

    def _has_sent(self, run_id: str, value: int) -> bool:
        """Send a signal; whether the store has it now. Some senders are killed meanwhile."""
        if self.chance.random() < 0.4:
            return self._has_sent_before_kill(run_id, value)
        try:
            cs.signal(self._database.url, run_id, "go", value)
        except (RunNotFoundError, RunConflictError):
            return False
        return True

    def _has_sent_before_kill(self, run_id: str, value: int) -> bool:
        before = self._inbox(run_id)
        if before is None:
            return False
        at = self.chance.choice(SENDING), self.chance.randint(0, 20)
        if not at[0].startswith("statement"):
            at = at[0], 0
        orders = replace(self.orders, url=self._database.url, kill_at=at)
        child = Child(partial(send, orders, run_id, value), self._errors)
        code = child.wait(PATIENCE)
        child.kill()
        after = self._inbox(run_id)
        if code not in (0, -signal.SIGKILL) or after is None:
            raise AssertionError(f"a sender has ended with {code}: {self.said()}")
        was_sent = after[0] - before[0]
        if code:
            self._counts["senders killed"] += 1
            self._counts["signals of killed senders"] += was_sent
        elif not was_sent and not after[1]:
            raise AssertionError(f"a signal to {run_id} is not in the store (D11)")
        if was_sent not in (0, 1):
            raise AssertionError(f"a signal to {run_id} was sent {was_sent} times (D11)")
        return was_sent == 1

    def _inbox(self, run_id: str) -> tuple[int, bool] | None:
        """How many signals a run has got, and whether it has ended; None if it is not there."""
        with self._opened() as store:
            run = store.find(run_id)
        return None if run is None else (run.inbox, run.status in FINISHED)

    def _cancel(self) -> None:
        """Cancel one of the runs, whether a process executes it or not."""
        run_id = self.chance.choice(self.orders.wanted).run_id
        with self._opened() as store, suppress(RunNotFoundError, RunConflictError):
            if StoredRun(store, Codec(), run_id, "").cancel():
                self._judge.cancelled.add(run_id)
                self._counts["cancels"] += 1

    # -- the end -----------------------------------------------------------------------------------

    def _finished(self) -> list[str]:
        """Bring everything to its end, and judge it."""
        if self.chance.random() < 0.7 or self.orders.minute:
            for child in [*self._living]:
                self._kill(child, "killed at any time")
        began = time.monotonic()
        last = self._start(is_last=True, minute=0.0)
        while last.wait(0.01 if self._to_send else PATIENCE) is None:
            if time.monotonic() > began + PATIENCE:
                return [f"not all runs have ended: {self._left()} {self.said()}"]
            self._send_some(0)
        self._typical[self._kind] = 0.8 * self._typical.get(self._kind, 0.1) + 0.2 * (
            time.monotonic() - began
        )
        if last.code != 0:
            return [f"the last process has ended with {last.code}: {self.said()}"]
        self._living.remove(last)
        for child in [*self._living]:
            if child.wait(PATIENCE) is None:
                return [f"a process goes on for ever: {self.said()}"]
            self._kill(child, "killed at a point")
        return [*self._faults()]

    def _faults(self) -> list[str]:
        database, judge = self._database, self._judge
        wanted = [run.run_id for run in self.orders.wanted]
        faults = [
            *judge.faults(
                database.url,
                wanted,
                database.bookings(),
                self.orders.durability == "sync",
                self.orders.serves,
            )
        ]
        with self._opened() as store:
            for run in store.runs():
                self._counts["runs"] += 1
                with suppress(RunConflictError):  # it has an owner still, which is a fault of above
                    store.delete(run.run_id)
        faults += [f"left after all runs are deleted: {left}" for left in database.rows_left()]
        self._counts["calls"] += sum(note.kind in ("call", "step") for note in judge.notes())
        return faults

    def _opened(self) -> Any:
        return closing(open_store(self._database.url))

    def _left(self) -> list[str]:
        with self._opened() as store:
            return [str(run) for run in store.runs()]

    def said(self) -> str:
        """What the processes have said last."""
        return self._errors.read_text()[-3000:] if self._errors.exists() else ""
