"""Other libraries that loop over steps, as far as they are installed: each counts down.

As in ``peers``, they are imported by name when asked for, and used the way their documentation
shows. A graph is built once, as a program would.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from importlib.metadata import version
from typing import Any, Protocol

from cascade.observatory.benchmarks.peers import installed


class Counter(Protocol):
    """Something that counts down, one step at a time."""

    @property
    def name(self) -> str: ...

    def count_down(self, left: int) -> int: ...


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
        async def run() -> Any:
            return await self._graph.run(inputs=left)

        result: int = asyncio.run(run())
        return result


class Burr:
    """Burr: an action with a transition to itself."""

    distribution = "burr"

    def __init__(self) -> None:
        self._core = import_module("burr.core")
        self.name = f"{self.distribution} {version(self.distribution)}"
        decorate = self._core.action

        def count(state: Any) -> Any:
            return state.update(left=state["left"] - 1)

        def done(state: Any) -> Any:
            return state

        self._actions = {
            "count": decorate(reads=["left"], writes=["left"])(count),
            "done": decorate(reads=["left"], writes=[])(done),
        }

    def count_down(self, left: int) -> int:
        application = (
            self._core.ApplicationBuilder()
            .with_actions(**self._actions)
            .with_transitions(("count", "count", self._core.expr("left > 0")), ("count", "done"))
            .with_state(left=left)
            .with_entrypoint("count")
            .build()
        )
        _, _, state = application.run(halt_after=["done"])
        result: int = state["left"]
        return result


class LangGraph:
    """LangGraph: a node with a conditional edge back to itself."""

    distribution = "langgraph"

    def __init__(self) -> None:
        module = import_module("langgraph.graph")
        self.name = f"{self.distribution} {version(self.distribution)}"
        graph = module.StateGraph(dict)
        graph.add_node("count", lambda state: {"left": state["left"] - 1})
        graph.add_edge(module.START, "count")
        graph.add_conditional_edges("count", lambda state: "count" if state["left"] else module.END)
        self._graph = graph.compile()

    def count_down(self, left: int) -> int:
        state = self._graph.invoke({"left": left}, {"recursion_limit": left + 2})
        result: int = state["left"]
        return result


def installed_counters() -> tuple[list[Counter], list[str]]:
    """The peers that are there, and the distributions of those that are not."""
    return installed((PydanticGraph, Burr, LangGraph))
