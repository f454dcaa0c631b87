"""Other task graphs in Python, and other libraries that loop over steps, if installed.

They are imported by name on demand, so nothing here depends on them. Each authors, plans and runs a
graph as its documentation shows.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, TypeVar

from cascade.observatory.benchmarks.contenders import EventLoop, System, repeated
from cascade.observatory.benchmarks.rounds import Contender
from cascade.observatory.benchmarks.shapes import CHAIN, PLAIN, Functions, Shape

T = TypeVar("T", covariant=True)


class Dask:
    """``dask.delayed``, computed by dask's threaded scheduler."""

    distribution = "dask"

    def __init__(self) -> None:
        self._dask = import_module("dask")
        self.name = f"dask {version(self.distribution)}"

    def largest(self, shape: Shape) -> int:
        return 10**3

    def contender(self, shape: Shape, size: int, name: str | None = None) -> Contender:
        delayed = self._dask.delayed
        functions = Functions(delayed(PLAIN.leaf), delayed(PLAIN.step), delayed(PLAIN.add))

        def once() -> Any:
            graph = shape.calls(functions, size)
            (value,) = self._dask.compute(graph, scheduler="threads")
            return value

        return repeated(name or self.name, once, shape, size, times=1)


class Hamilton:
    """Hamilton's driver over a module whose nodes ``@parameterize`` makes."""

    distribution = "sf-hamilton"

    def __init__(self) -> None:
        self._driver = import_module("hamilton.driver")
        self._modules = import_module("hamilton.ad_hoc_utils")
        self._modifiers = import_module("hamilton.function_modifiers")
        self.name = f"hamilton {version(self.distribution)}"

    def largest(self, shape: Shape) -> int:
        return 100 if shape is CHAIN else 10**3  # it walks the graph by recursion

    def contender(self, shape: Shape, size: int, name: str | None = None) -> Contender:
        def once() -> Any:
            return self._compute(shape, size)

        return repeated(name or self.name, once, shape, size, times=1)

    def _compute(self, shape: Shape, size: int) -> Any:
        nodes: dict[str, dict[str, dict[str, Any]]] = {"leaf": {}, "step": {}, "add": {}}
        levels = shape.levels(size)
        results: Sequence[Any] | None = None
        made = 0
        while True:
            try:
                function, columns = next(levels) if results is None else levels.send(results)
            except StopIteration as end:
                target = end.value
                break
            results = []
            for arguments in zip(*columns, strict=True):
                name = f"node_{made}"
                nodes[function][name] = self._bound(function, arguments)
                results.append(name)
                made += 1
        return self._execute(nodes, target)

    def _bound(self, function: str, arguments: Sequence[Any]) -> dict[str, Any]:
        """Argument → the node that gives its value; a string is the name of a node."""
        parameters = ("left", "right") if function == "add" else ("value",)
        source, value = self._modifiers.source, self._modifiers.value
        return {
            parameter: source(argument) if isinstance(argument, str) else value(argument)
            for parameter, argument in zip(parameters, arguments, strict=True)
        }

    def _execute(self, nodes: dict[str, dict[str, dict[str, Any]]], target: Any) -> Any:
        # The decorators leave notes in the function, so each graph needs new functions.
        def leaf(value: int) -> int:
            return value

        def step(value: int) -> int:
            return value + 1

        def add(left: int, right: int) -> int:
            return left + right

        functions = [
            self._modifiers.parameterize(**nodes[function.__name__])(function)
            for function in (leaf, step, add)
            if nodes[function.__name__]
        ]
        for function in functions:
            # Postponed annotations are strings, and Hamilton needs the types.
            function.__annotations__ = dict.fromkeys(function.__annotations__, int)
        module = self._modules.create_temporary_module(*functions)
        try:
            driver = self._driver.Builder().with_modules(module).build()
            names = [target] if isinstance(target, str) else target
            values = driver.execute(names)
        finally:
            sys.modules.pop(module.__name__, None)
        return values[target] if isinstance(target, str) else [values[name] for name in names]


class _Peer(Protocol[T]):
    """A class of peers; ``distribution`` must be installed for it."""

    distribution: str

    def __call__(self) -> T: ...


def installed(kinds: Sequence[_Peer[T]]) -> tuple[list[T], list[str]]:
    """One instance of each installed kind, and the missing distributions."""
    peers = []
    absent = []
    for peer in kinds:
        try:
            version(peer.distribution)
        except PackageNotFoundError:
            absent.append(peer.distribution)
        else:
            peers.append(peer())
    return peers, absent


def installed_peers() -> tuple[list[System], list[str]]:
    """The installed peers, and the missing distributions."""
    return installed((Dask, Hamilton))


# -- libraries that loop over steps: each counts down ---------------------------------------------


class Counter(Protocol):
    """Counts down, one step at a time: by plain functions, and by coroutines in an event loop."""

    @property
    def name(self) -> str: ...

    def count_down(self, left: int) -> int: ...

    async def count_down_in_loop(self, left: int) -> int: ...


class PydanticGraph:
    """pydantic-graph: a step and a decision that leads back to it."""

    distribution = "pydantic-graph"

    def __init__(self) -> None:
        module = import_module("pydantic_graph")
        self.name = f"{self.distribution} {version(self.distribution)}"
        builder = module.GraphBuilder(input_type=int, output_type=int)

        async def count(context: Any) -> Any:
            return context.inputs - 1

        step = builder.step(count)
        again = builder.match(int, matches=lambda left: left > 0).to(step)
        done = builder.match(int).to(builder.end_node)
        builder.add(
            builder.edge_from(builder.start_node).to(step),
            builder.edge_from(step).to(builder.decision().branch(again).branch(done)),
        )
        self._graph = builder.build()

    def count_down(self, left: int) -> int:
        return asyncio.run(self.count_down_in_loop(left))

    async def count_down_in_loop(self, left: int) -> int:
        result: int = await self._graph.run(inputs=left)
        return result


class Burr:
    """Burr: an action with a transition to itself."""

    distribution = "burr"

    def __init__(self) -> None:
        self._core = import_module("burr.core")
        self.name = f"{self.distribution} {version(self.distribution)}"

        def count(state: Any) -> Any:
            return state.update(left=state["left"] - 1)

        async def count_in_loop(state: Any) -> Any:
            return state.update(left=state["left"] - 1)

        def done(state: Any) -> Any:
            return state

        decorate, keys = self._core.action, ["left"]
        self._count = decorate(reads=keys, writes=keys)(count)
        self._count_in_loop = decorate(reads=keys, writes=keys)(count_in_loop)
        self._done = decorate(reads=keys, writes=[])(done)

    def _application(self, count: Any, left: int) -> Any:
        return (
            self._core.ApplicationBuilder()
            .with_actions(count=count, done=self._done)
            .with_transitions(("count", "count", self._core.expr("left > 0")), ("count", "done"))
            .with_state(left=left)
            .with_entrypoint("count")
        )

    def count_down(self, left: int) -> int:
        application = self._application(self._count, left).build()
        _, _, state = application.run(halt_after=["done"])
        result: int = state["left"]
        return result

    async def count_down_in_loop(self, left: int) -> int:
        application = await self._application(self._count_in_loop, left).abuild()
        _, _, state = await application.arun(halt_after=["done"])
        result: int = state["left"]
        return result


class LangGraph:
    """LangGraph: a node with a conditional edge back to itself."""

    distribution = "langgraph"

    def __init__(self) -> None:
        self._module = import_module("langgraph.graph")
        self.name = f"{self.distribution} {version(self.distribution)}"

        def count(state: Any) -> Any:
            return {"left": state["left"] - 1}

        async def count_in_loop(state: Any) -> Any:
            return {"left": state["left"] - 1}

        self._graph, self._in_loop = self._compiled(count), self._compiled(count_in_loop)

    def _compiled(self, count: Any) -> Any:
        graph, end = self._module.StateGraph(dict), self._module.END
        graph.add_node("count", count)
        graph.add_edge(self._module.START, "count")
        graph.add_conditional_edges("count", lambda state: "count" if state["left"] else end)
        return graph.compile()

    def count_down(self, left: int) -> int:
        state = self._graph.invoke({"left": left}, {"recursion_limit": left + 2})
        result: int = state["left"]
        return result

    async def count_down_in_loop(self, left: int) -> int:
        state = await self._in_loop.ainvoke({"left": left}, {"recursion_limit": left + 2})
        result: int = state["left"]
        return result


def installed_counters() -> tuple[list[Counter], list[str]]:
    """The installed peers, and the missing distributions."""
    return installed((PydanticGraph, Burr, LangGraph))


def counting(peer: Counter, loop: EventLoop, left: int, times: int = 1) -> Contender:
    """A peer that counts down by coroutines in an event loop; an operation is a countdown."""

    async def count() -> int:
        for _ in range(times - 1):
            await peer.count_down_in_loop(left)
        return await peer.count_down_in_loop(left)

    return Contender(peer.name, lambda: loop.wait_for(count), times, 0)
