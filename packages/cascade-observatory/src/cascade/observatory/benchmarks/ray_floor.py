"""The floor for Ray: turns by hand, which promise what Cascade's turns do, and nothing else.

A turn begins once, with the permission of an actor; each call has its value or its error, with the
traceback, and its duration; large values may stay. There is no graph, no limit, no retry, no event,
no cancel and no choice of the turn's size.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

#: The calls of a turn.
_TURN: Final = 125
#: Name → the actor, in a worker.
_known: Final[dict[str, Any]] = {}


class _Marks:
    """An actor with the turns that have begun."""

    def __init__(self) -> None:
        self._begun: set[int] = set()

    async def begin(self, turn: int) -> bool:
        """Whether a turn may begin."""
        is_new = turn not in self._begun
        self._begun.add(turn)
        return is_new


class RayFloor:
    """Turns by hand.

    Args:
        ray: The module; a cluster is connected.
    """

    name: Final = "turns by hand"

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._of = f"marks-{uuid4().hex}"
        self._marks = ray.remote(_Marks).options(num_cpus=0, name=self._of).remote()
        self._turn = ray.remote(_make).options(num_returns=2, max_retries=0)
        self._sent = 0

    def calls(self, func: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """The values of independent calls."""
        turns = [items[n : n + _TURN] for n in range(0, len(items), _TURN)]
        sent = [self._send([(func, pickle.dumps(item)) for item in turn])[0] for turn in turns]
        return [self._value(end) for ends in self._ray.get(sent) for end in ends]

    def chain(self, func: Callable[[Any], Any], first: Any, length: int) -> Any:
        """The value of calls that each take that of the one before."""
        calls = [(func, pickle.dumps(first)), *[(func, None)] * (length - 1)]
        return self._value(self._ray.get(self._send(calls)[0])[-1])

    def fan(self, make: Callable[[Any], Any], use: Callable[[Any], Any], of: Any) -> list[Any]:
        """The values of two calls that take that of another one, which stays there."""
        _, made = self._send([(make, pickle.dumps(of))], stays=True)
        ends = [self._send([(use, None)], made)[0] for _ in range(2)]
        return [self._value(end) for (end,) in self._ray.get(ends)]

    def _send(
        self, calls: list[tuple[Any, bytes | None]], given: Any = None, *, stays: bool = False
    ) -> Any:
        """References to the ends of the calls of a turn, and to its last value if that stays."""
        self._sent += 1
        return self._turn.remote(self._of, self._sent, pickle.dumps(calls, 5), given, stays)

    def _value(self, end: tuple[bytes, str | None, float]) -> Any:
        data, problem, _ = end
        if problem is not None:
            raise RuntimeError(problem)
        return pickle.loads(data)


def _make(
    of: str, turn: int, packed: bytes, value: Any, stays: bool
) -> tuple[list[tuple[bytes, str | None, float]], Any]:
    """The ends of the calls of a turn, and what stays."""
    ray: Any = import_module("ray")
    if of not in _known:
        _known[of] = ray.get_actor(of)
    if not ray.get(_known[of].begin.remote(turn)):
        raise RuntimeError(f"turn {turn} was begun before")
    ends = []
    for func, given in pickle.loads(packed):
        began, problem = perf_counter(), None
        try:
            value = func(value if given is None else pickle.loads(given))
        except BaseException:
            problem = traceback.format_exc()
        data = b"" if stays else pickle.dumps(value, 5)
        ends.append((data, problem, perf_counter() - began))
        if problem is not None:
            break
    return ends, value if stays else None
