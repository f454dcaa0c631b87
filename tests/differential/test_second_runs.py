"""Second runs of random programs with a cache that knows nodes before a run (R10).

Such a run enters only the nodes that have no entry. It has the value of the first one, and makes no
call that the first one did not make, on either path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import sampled_from
from tests.differential.build import Build
from tests.differential.harness import by_engine
from tests.differential.programs import Box, Call, Const, Give, Job, Pack, Program
from tests.differential.strategies import Profile, programs

from cascade.spec.caching import counting
from cascade.spec.digest import Digester, digest

_THOROUGH = settings.get_current_profile_name() == "thorough"
_COUNT = settings().max_examples if _THOROUGH else 12
examples = settings(
    settings() if _THOROUGH else settings(derandomize=True, database=None),
    deadline=None,
    max_examples=_COUNT,
    suppress_health_check=[*HealthCheck],
)
pytestmark = [pytest.mark.timeout(0)] if _THOROUGH else []


class Key:
    """The key of a call, with the objects among its arguments that have no content."""

    is_kept = False
    ends = None

    def __init__(self, content: bytes, objects: Collection[Any]) -> None:
        self.digest = content
        self._parts = (content, *objects)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)


class ByName:
    """The contract of planned caches in a few lines; of the code, the name of a task counts.

    The tasks of the generator are made by closures that have no content, and their names differ.
    """

    ignored: frozenset[str] = frozenset()
    lasts = True

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}
        self.known: dict[bytes, Any] = {}
        self.hits = 0

    @property
    def plans(self) -> ByName:
        return self

    def key(self, task: Any, arguments: Mapping[str, Any]) -> Key:
        writer = Digester([])
        for name, value in sorted(counting(task, arguments, ()).items()):
            writer.write((name, value) if not isinstance(value, dict) else [name, value])
        content = blake2b(digest(task.name) + b"".join(writer.parts), digest_size=16).digest()
        return Key(content, writer.objects or ())

    def load(self, key: Key, arguments: Any) -> tuple[bool, Any]:
        key.is_kept = key in self.values and not key._parts[1:]
        return (True, self.values[key]) if key in self.values else (False, None)

    def save(self, key: Key, arguments: Any, value: Any) -> None:
        self.values[key] = value
        key.is_kept = not key._parts[1:]

    def head(self, task: Any) -> bytes:
        return digest(task.name)

    def find_plans(self, plans: Collection[bytes]) -> Mapping[bytes, Any]:
        return {plan: self.known[plan] for plan in plans if plan in self.known}

    def load_plan(self, plan: Any) -> tuple[bool, Any]:
        self.hits += 1
        return True, self.values[Key(plan.key, ())]

    def keep_plans(self, plans: Iterable[tuple[bytes, bytes, float | None]]) -> None:
        self.known.update({plan: _Plan(key, end) for plan, key, end in plans})


class _Plan(NamedTuple):
    key: bytes
    expires: float | None


PATHS = sampled_from([(None, None), (None, "auto"), ("auto", None), ("interpreted", "auto")])


def hold(program: Program, paths: tuple[Any, Any]) -> ByName:
    cache = ByName()

    def made(cs: Any) -> Build:
        return Build(program, cs, cache)

    first = asyncio.run(by_engine(made, paths[0]))
    known = dict(cache.values)
    second = asyncio.run(by_engine(made, paths[1]))
    if first.error is None:
        assert second.error is None, f"{program}\n{second.error!r}"
        assert second.value == first.value, f"{program}\n{first}\n{second}"
        assert second.effects <= first.effects, f"{program}\n{first}\n{second}"
    assert all(cache.values[key] is value for key, value in known.items()), program
    assert second.opened == second.closed
    return cache


@examples
@given(programs(Profile()), PATHS)
def test_a_second_run_has_the_same_value_and_no_other_calls(program, paths):
    hold(program, paths)


@examples
@given(programs(Profile(fails=8, joins=True)), PATHS)
def test_so_it_does_where_errors_are_caught(program, paths):
    hold(program, paths)


def test_the_generator_meets_values_that_are_known_before_a_run():
    job = Job("any", None, Pack())
    inner = Call(job, (Const(1),))
    program = Program((), (), Call(Job("any", None, Give(Const(3))), (Box(list, (inner, inner)),)))

    cache = hold(program, (None, None))
    assert (len(cache.known), cache.hits) == (2, 1)
