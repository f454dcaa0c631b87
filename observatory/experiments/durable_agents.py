"""Three agents that survive `kill -9`, each with a step that a person has to approve.

    hatch run agents
    hatch run agents --approve lakes
    hatch run agents --yes
    hatch run agents --again

Each agent collects notes about its topic, one tool call a step, and then waits for an approval; an
approved report is published once. Everything that the agents know is in a file, so the program may
be killed at any moment and started again: no tool is called twice, and an agent that was waiting
goes on waiting. Approve from another terminal with ``--approve TOPIC``, or at once with ``--yes``.
``--again`` deletes the file first.
"""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cascade as cs
from cascade.observatory.command_line import INTERRUPTED, Parser
from cascade.spec.errors import RunConflictError, RunNotFoundError

TOPICS = ("tides", "lakes", "rivers")
#: Notes of each agent.
NOTES = 5
#: Seconds that a tool takes. It may differ from one process to the next: the environment is read
#: anew, while the arguments of a run belong to it.
PAUSE = cs.Env("AGENTS_PAUSE", default="0.3")


@cs.task
async def look_up(topic: str, part: int, pause: str) -> str:
    """A tool: slow, and not to be called twice."""
    await asyncio.sleep(float(pause))
    print(f"{topic}: looked up part {part}", flush=True)
    return f"part {part} of {topic}"


@cs.task
async def publish(topic: str, notes: Sequence[str], approval: dict[str, Any]) -> str:
    """What the approval is for."""
    by = approval["by"]
    print(f"{topic}: published, approved by {by}", flush=True)
    return f"{topic}: {len(notes)} notes, approved by {by}"


@cs.task
async def agent(topic: str, notes: Sequence[str] = ()) -> Any:
    """One step: look something up; at last, ask for the approval."""
    if len(notes) < NOTES:
        return agent.tail(topic, [*notes, look_up(topic, len(notes) + 1, PAUSE)])
    return publish(topic, notes, cs.wait_for("approval"))


def tell_of_wait(event: cs.events.TaskWaiting) -> None:
    """Say what an agent waits for, also one that has begun to wait in an earlier process."""
    if event.reason == "signal approval":
        topic = event.run_id
        print(f"{topic}: waits for an approval (hatch run agents --approve {topic})", flush=True)


async def live(store: str, yes: bool) -> list[str]:
    """Begin the agents, or go on with them; their reports."""
    async with cs.Engine(store=store) as engine:
        engine.bus.subscribe(cs.events.TaskWaiting, tell_of_wait)
        handles = [engine.start(agent(topic), run_id=topic) for topic in TOPICS]
        for topic in TOPICS if yes else ():
            with suppress(RunConflictError):  # an earlier process has ended this agent
                await engine.signal(topic, "approval", {"by": "--yes"})
        return [await handle.result() for handle in handles]


def command_line() -> Parser:
    """The options."""
    parser = Parser(description="Three agents that survive kill -9, each with an approval.")
    default = Path("build/agents.db")
    told = f"the file with the agents ({default})"
    parser.add_argument("--file", type=Path, default=default, metavar="PATH", help=told)
    parser.add_argument("--approve", choices=TOPICS, metavar="TOPIC", help="approve one's report")
    parser.add_argument("--by", default="you", metavar="NAME", help="name of the approver (you)")
    parser.add_argument("--yes", action="store_true", help="approve all of them at once")
    parser.add_argument("--again", action="store_true", help="delete the file first")
    return parser


def approve(store: str, topic: str, by: str) -> int:
    """Approve the report of one agent; the exit status."""
    try:
        cs.signal(store, topic, "approval", {"by": by})
    except RunNotFoundError:
        print(f"{topic}: no agent has this topic yet; start the agents by: hatch run agents")
        return 1
    except RunConflictError:
        print(f"{topic}: the report is published already")
        return 1
    print(f"{topic}: approved")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agents, or approve the report of one; returns the exit status."""
    options: Namespace = command_line().parse_args(arguments)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    if options.again:
        for ending in ("", "-wal", "-shm"):
            options.file.with_name(options.file.name + ending).unlink(missing_ok=True)
    store = f"sqlite:///{options.file}"
    if options.approve is not None:
        return approve(store, options.approve, options.by)
    try:
        for report in asyncio.run(live(store, options.yes)):
            print(report)
    except KeyboardInterrupt:
        print("interrupted; start it again, and it goes on")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
