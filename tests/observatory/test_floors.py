"""The unavoidable parts of a run, by hand: rows of benchmarks."""

import asyncio
import threading

import pytest

from cascade.observatory.benchmarks import small_runs
from cascade.observatory.benchmarks.awaiting import KINDS, leaf
from cascade.observatory.benchmarks.floors import BegunEarly, HandOff
from cascade.observatory.benchmarks.shapes import CHAIN, TREE, WIDE


def test_a_hand_off_calls_on_a_thread_of_its_own():
    with HandOff() as thread:
        here, there = threading.get_ident(), {thread.call(threading.get_ident) for _ in range(3)}
    assert len(there - {here}) == 1


@pytest.mark.parametrize("left", [None, leaf])
def test_the_calls_of_a_run_are_handed_off(left):
    with HandOff() as thread:
        assert asyncio.run(small_runs._handed_off(thread, left)) == 3


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("shape", [WIDE, CHAIN, TREE], ids=lambda shape: shape.name)
def test_coroutines_that_are_begun_early_have_their_values(kind, shape):
    with BegunEarly(kind.functions) as system:
        contender = system.contender(shape, 7)
        assert contender.run() == contender.expected
