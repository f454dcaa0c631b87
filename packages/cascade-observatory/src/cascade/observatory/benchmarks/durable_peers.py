"""Other libraries whose agents survive their process, if installed: each counts up in steps."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from importlib import import_module
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from cascade.observatory.benchmarks.peers import installed


class Saver(Protocol):
    """Counts up, and saves each step in a database before the next one."""

    @property
    def name(self) -> str: ...

    def open(self, folder: Path) -> None:
        """Begin to save in a SQLite file in ``folder``."""

    async def count(self, steps: int) -> int: ...

    def close(self) -> None: ...


class Dbos:
    """DBOS: a workflow that calls a step again and again."""

    distribution = "dbos"

    def __init__(self) -> None:
        self._module = import_module("dbos")
        self.name = f"{self.distribution} {version(self.distribution)}"

    def open(self, folder: Path) -> None:
        self.open_database(f"sqlite:///{folder}/dbos.db")

    def open_database(self, url: str) -> None:
        """Begin to save in the database with this URL."""
        dbos = self._module.DBOS
        logging.getLogger("dbos").setLevel(logging.ERROR)
        dbos(config={
            "name": "count",
            "system_database_url": url,
            "run_admin_server": False,
            "log_level": "ERROR",
        })  # fmt: skip

        async def add_one(made: int) -> int:
            return made + 1

        step = dbos.step()(add_one)

        async def counting(steps: int) -> int:
            made = 0
            for _ in range(steps):
                made = await step(made)
            return made

        self._workflow = dbos.workflow()(counting)
        dbos.launch()

    async def count(self, steps: int) -> int:
        counted: int = await self._workflow(steps)
        return counted

    def close(self) -> None:
        self._module.DBOS.destroy(destroy_registry=True)


class LangGraphSaver:
    """LangGraph: a node with an edge back to itself, and a saver; ``durability="sync"``."""

    distribution = "langgraph-checkpoint-sqlite"

    def __init__(self) -> None:
        self._module = import_module("langgraph.graph")
        self._saving = import_module("langgraph.checkpoint.sqlite.aio")
        self.name = f"langgraph {version('langgraph')}"
        self._threads = count()

        async def add_one(state: Any) -> Any:
            return {"made": state["made"] + 1, "left": state["left"] - 1}

        graph, end = self._module.StateGraph(dict), self._module.END
        graph.add_node("count", add_one)
        graph.add_edge(self._module.START, "count")
        graph.add_conditional_edges("count", lambda state: "count" if state["left"] else end)
        self._graph = graph

    def open(self, folder: Path) -> None:
        self._file = str(folder / "langgraph.db")

    async def count(self, steps: int) -> int:
        async with AsyncExitStack() as stack:
            saver = self._saving.AsyncSqliteSaver.from_conn_string(self._file)
            compiled = self._graph.compile(checkpointer=await stack.enter_async_context(saver))
            config = {
                "configurable": {"thread_id": str(next(self._threads))},
                "recursion_limit": steps + 2,
            }
            state = await compiled.ainvoke({"made": 0, "left": steps}, config, durability="sync")
        counted: int = state["made"]
        return counted

    def close(self) -> None:
        """Nothing is left open between two counts."""


def installed_dbos() -> tuple[list[Dbos], list[str]]:
    """DBOS if it is installed, or its missing distribution. Only one can be open at a time."""
    return installed((Dbos,))


def installed_savers() -> tuple[list[Saver], list[str]]:
    """The installed peers, and the missing distributions."""
    return installed((Dbos, LangGraphSaver))
