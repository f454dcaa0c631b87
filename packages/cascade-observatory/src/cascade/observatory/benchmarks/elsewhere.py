"""Fused loops on another Python, measured in a process of that Python.

``python3.13 -m cascade.observatory.benchmarks.elsewhere STEPS ROUNDS SECONDS`` prints the samples
as JSON. It needs no library, so the source trees on PYTHONPATH are enough: no environment for each
Python.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cascade.observatory.benchmarks.contenders import Cascade
from cascade.observatory.benchmarks.loops import LOOPS, Loop
from cascade.observatory.benchmarks.rounds import Contender, Samples, measure
from cascade.runtime.loops.tiers import Tier

FUSED: Tier = "fused"
WHILE = "bare while"


class CannotMeasure(Exception):
    """Another Python does not run the loops; the text says why."""


def fused_loops(steps: int, rounds: int, seconds: float) -> dict[str, Samples]:
    """Name of a loop → its samples, fused and as a bare ``while``, on this Python."""
    with Cascade(tier=FUSED) as engine:
        return {
            loop.name: measure(
                _contenders(engine, loop, steps), rounds, seconds_at_most=seconds / len(LOOPS)
            )
            for loop in LOOPS
        }


def _contenders(engine: Cascade, loop: Loop, size: int) -> list[Contender]:
    arguments, steps = loop.arguments(size), loop.steps(size)
    author, by_while = partial(loop.task, **arguments), partial(loop.plain, **arguments)
    value = by_while()
    return [
        Contender(FUSED, partial(engine.run, author, use_vm=True), steps, value),
        Contender(WHILE, by_while, steps, value),
    ]


def measured_by(python: Path, steps: int, rounds: int, seconds: float) -> Mapping[str, Samples]:
    """``fused_loops`` in a process of another Python.

    Raises:
        CannotMeasure: It fails there.
    """
    package = sys.modules["cascade"]  # no layer imports the facade; it lies in one tree a layer
    trees = [str(Path(folder).parent) for folder in package.__path__]
    command = [str(python), "-P", "-m", __name__, str(steps), str(rounds), str(seconds)]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(trees)},
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise CannotMeasure(str(error)) from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise CannotMeasure(lines[-1])
    return {name: Samples(**fields) for name, fields in json.loads(done.stdout).items()}


if __name__ == "__main__":
    how_much, how_often, how_long = sys.argv[1:]
    found = fused_loops(int(how_much), int(how_often), float(how_long))
    print(json.dumps({name: dataclasses.asdict(one) for name, one in found.items()}))
