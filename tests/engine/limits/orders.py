"""Orders: threads of which one goes on at a time, in an order that a seed decides.

A thread may lose its turn before each line (or each bytecode instruction) of the modules that are
watched, and where it wants a lock that another has. So what would take a busy machine and luck, one
thread overtaking another between two given lines, happens in one of some hundred orders, and again
with the same seed. Nothing in the code under test is changed, but the locks that it uses are.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterable
from types import CodeType, FrameType, ModuleType
from typing import Any


class Deadlock(AssertionError):
    """All threads wait for each other."""


class Orders:
    """One order of some functions, each in a thread of its own.

    Args:
        seed: Which one.
        watched: In the code of these modules a thread may lose its turn.
        fine: Before each bytecode instruction; else before each line.
        often: The chance that it does.
    """

    def __init__(
        self, seed: Any, watched: Iterable[ModuleType], *, fine: bool = False, often: float = 0.15
    ) -> None:
        self._chance = random.Random(seed)
        self._files = {module.__file__ for module in watched}
        self._fine = fine
        self._often = often
        self._turns: dict[int, threading.Semaphore] = {}
        self._ready: list[int] = []
        #: Threads that want a lock → that lock.
        self._blocked: dict[int, SteppedLock] = {}
        self._errors: list[BaseException] = []
        self._over = threading.Event()
        #: Turns that were taken from a thread.
        self.switches = 0

    def run(self, *functions: Callable[[], object]) -> None:
        """Call all of them; raises the first error that one of them has raised.

        Raises:
            Deadlock: They wait for each other.
        """
        begun = threading.Barrier(len(functions) + 1)
        threads = [
            threading.Thread(target=self._live, args=[function, begun], daemon=True)
            for function in functions
        ]
        for thread in threads:
            thread.start()
        begun.wait(20)
        self._ready.sort(key=[thread.ident for thread in threads].index)
        self._pass_on()
        assert self._over.wait(20), "a thread waits for something that is no lock of ours"
        if self._errors:
            raise self._errors[0]
        for thread in threads:
            thread.join(20)

    def lock(self) -> SteppedLock:
        """A lock for the code under test."""
        return SteppedLock(self)

    # -- in the threads -----------------------------------------------------------------------

    def _live(self, function: Callable[[], object], begun: threading.Barrier) -> None:
        me = threading.get_ident()
        turn = self._turns[me] = threading.Semaphore(0)
        self._ready.append(me)
        begun.wait(20)
        turn.acquire()
        sys.settrace(self._called)
        try:
            function()
        except BaseException as error:
            self._errors.append(error)
        finally:
            sys.settrace(None)
            self._ready.remove(me)
            self._pass_on()

    def _called(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        if not self._is_watched(frame.f_code):
            return None
        if self._fine:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._traced

    def _is_watched(self, code: CodeType) -> bool:
        return code.co_filename in self._files

    def _traced(self, _frame: FrameType, event: str, _arg: Any) -> Any:
        if event in ("line", "opcode") and self._chance.random() < self._often:
            self.give_way()
        return self._traced

    def give_way(self) -> None:
        """Let one that the seed decides go on, which may be the same."""
        me = threading.get_ident()
        if me not in self._turns:  # the test's own thread
            return
        self.switches += 1
        self._pass_on()
        self._turns[me].acquire()

    def wait_for(self, lock: SteppedLock) -> None:
        """Let others go on until somebody has released ``lock``."""
        me = threading.get_ident()
        assert me in self._turns, "the test's own thread wants a lock that it has"
        self._ready.remove(me)
        self._blocked[me] = lock
        self._pass_on()
        self._turns[me].acquire()

    def released(self, lock: SteppedLock) -> None:
        """Let threads that wait for it try again."""
        for waiting in [w for w, wanted in self._blocked.items() if wanted is lock]:
            del self._blocked[waiting]
            self._ready.append(waiting)

    def _pass_on(self) -> None:
        if self._ready:
            self._turns[self._chance.choice(self._ready)].release()
            return
        if self._blocked:
            self._errors.append(Deadlock("all threads wait for a lock that one of them has"))
        self._over.set()


class SteppedLock:
    """A lock that passes the turn on while a thread waits for it."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._taken = False

    def __enter__(self) -> None:
        while self._taken:
            self._orders.wait_for(self)
        self._taken = True

    def __exit__(self, *_error: object) -> None:
        self._taken = False
        self._orders.released(self)
