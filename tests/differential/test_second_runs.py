"""Second runs of random programs with a cache that knows nodes before a run (R10).

Such a run enters only the nodes that have no entry. It has the value of the first one, and makes no
call that the first one did not make, on either path.
"""

from __future__ import annotations

import asyncio
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import sampled_from
from tests.differential.build import Build
from tests.differential.harness import by_engine
from tests.differential.programs import Box, Call, Const, Give, Job, Pack, Program
from tests.differential.strategies import Profile, programs

import cascade as cs

_THOROUGH = settings.get_current_profile_name() == "thorough"
_COUNT = settings().max_examples if _THOROUGH else 4
examples = settings(
    settings() if _THOROUGH else settings(derandomize=True, database=None),
    deadline=None,
    max_examples=_COUNT,
    suppress_health_check=[*HealthCheck],
)
pytestmark = [pytest.mark.timeout(0)] if _THOROUGH else []


PATHS = sampled_from([(None, None), (None, "auto"), ("auto", None), ("interpreted", "auto")])
STORES = sampled_from(["memory:", "sqlite:///{}/cache.db"])


class Seen:
    """A cache, and how often a run had a value before it began."""

    def __init__(self, url: str) -> None:
        self.cache = cs.ByCode(url)
        self.hits = 0
        load = self.cache.load_plan

        def counting(plan: Any) -> tuple[bool, Any]:
            self.hits += 1
            return load(plan)

        self.cache.load_plan = counting  # type: ignore[method-assign]


def hold(program: Program, paths: tuple[Any, Any], store: str = "memory:") -> Seen:
    with TemporaryDirectory(prefix="cs-") as folder:
        seen = Seen(store.format(folder))

        def made(cs: Any) -> Build:
            return Build(program, cs, seen.cache)

        first = asyncio.run(by_engine(made, paths[0]))
        second = asyncio.run(by_engine(made, paths[1]))
        if first.error is None:
            assert second.error is None, f"{program}\n{second.error!r}"
            assert second.value == first.value, f"{program}\n{first}\n{second}"
            assert second.effects <= first.effects, f"{program}\n{first}\n{second}"
        assert second.opened == second.closed
        seen.cache.close()
    return seen


@examples
@given(programs(Profile()), PATHS, STORES)
def test_a_second_run_has_the_same_value_and_no_other_calls(program, paths, store):
    hold(program, paths, store)


@examples
@given(programs(Profile(fails=8, joins=True)), PATHS, STORES)
def test_so_it_does_where_errors_are_caught(program, paths, store):
    hold(program, paths, store)


def test_the_generator_meets_values_that_are_known_before_a_run():
    job = Job("any", None, Pack())
    inner = Call(job, (Const(1),))
    program = Program((), (), Call(Job("any", None, Give(Const(3))), (Box(list, (inner, inner)),)))

    assert hold(program, (None, None)).hits == 1
