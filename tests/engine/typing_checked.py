"""What checkers make of engines, runs and their options. Checked by mypy, never run.

An ``ignore`` that is not needed is an error, so that each also says: this is refused.
"""

from typing import Any, Unpack, assert_type

import cascade as cs
from cascade.runtime.engine_options import ScriptOptions
from cascade.runtime.handle import RunHandle
from cascade.runtime.options import RunOptions
from cascade.runtime.program import Program


@cs.task
def add(a: int, b: int = 2) -> int:
    return a + b


def run_gives_the_type_of_its_target() -> None:
    assert_type(cs.run(add(1)), int)
    assert_type(cs.run(add(1), {"n": 1}, use_vm=True, deadline=5, capacities={"gpu": 1}), int)
    assert_type(cs.run([add(1), add(2)]), list[int])
    assert_type(cs.run((add(1), cs.gather(add(2)))), tuple[int, list[int]])
    assert_type(cs.run({"a": add(1)}, progress=True, threads=4), dict[str, int])
    assert_type(cs.run([add(1), 2]), Any)


def options_are_checked() -> None:
    cs.run(add(1), deadlin=5)  # type: ignore[call-overload]
    cs.run(add(1), deadline="5 s")  # type: ignore[call-overload]
    cs.Engine(thread=4)  # type: ignore[call-arg]
    cs.Engine(threads="many")  # type: ignore[arg-type]


async def so_do_engines_programs_and_handles() -> None:
    async with cs.Engine(threads=4, tier="auto", executor=None) as engine:
        assert_type(await engine.run(add(1), max_steps=10, max_rounds=5, priority=1), int)
        assert_type(await engine.run([add(1)], fail_fast=False), list[int])
        handle = engine.start(add(1), run_id="one")
        assert_type(handle, RunHandle[int])
        assert_type(await handle.result(), int)
        assert_type(engine.start([add(1)]), RunHandle[Any])
        program = engine.compile(add(1), deadline=5)
        assert_type(program, Program[int])
        assert_type(await program.run(a=1), int)
        engine.compile(add(1), use_vm=True)  # type: ignore[call-arg]
    assert_type(await cs.run_async(add(1), use_vm=True), int)


def options_are_passed_on(**options: Unpack[ScriptOptions]) -> int:
    return cs.run(add(1), **options)


async def also_those_of_a_run(engine: cs.Engine, **options: Unpack[RunOptions]) -> int:
    return await engine.run(add(1), **options)
