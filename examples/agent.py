"""An agent with tools, an approval by a person, and a restart after a crash.

    python examples/agent.py "Is the library open? If so, book room 4."
    python examples/agent.py --approve yes       # from another terminal; or: no

Kill it at any moment, and start it again with the same command: finished calls of tools and of the
model are not made again, and an agent that was waiting for a person goes on waiting. The model here
is a script, so that the example runs anywhere; put the client of a real one into ``model``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import cascade as cs

Message = dict[str, Any]
RUN = "librarian"


class ScriptedModel:
    """In place of the client of a model: it asks for two tools and then answers."""

    async def complete(self, messages: list[Message]) -> Message:
        await asyncio.sleep(float(os.environ.get("MODEL_SECONDS", "0.3")))
        results = [message["content"] for message in messages if message["role"] == "tool"]
        if not results:
            return {"role": "assistant", "tool": "opening_hours", "arguments": {"day": "today"}}
        if len(results) == 1:
            return {"role": "assistant", "tool": "book_room", "arguments": {"room": 4}}
        return {"role": "assistant", "content": f"{results[0]}. {results[1]}."}


@cs.resource
async def model() -> AsyncIterator[ScriptedModel]:
    yield ScriptedModel()


@cs.task(retry=cs.Retry(4, delay=1, backoff=2, on=(ConnectionError, TimeoutError)), timeout=60)
async def think(messages: list[Message], client: Any = cs.inject(model)) -> Message:
    """One call of the model. It is stored: a restart does not pay for it again."""
    print("thinking", flush=True)
    reply: Message = await client.complete(messages)
    return reply


@cs.task
async def opening_hours(day: str) -> str:
    print("looking up the opening hours", flush=True)
    return f"The library is open until 20:00 {day}"


@cs.task
async def book_room(room: int, key: str = cs.inject(cs.idempotency_key)) -> str:
    print("booking", flush=True)
    return f"Room {room} is booked"  # a real service gets the key, and so books once


@cs.task
def if_approved(approved: bool, tool: str, arguments: dict[str, Any]) -> Any:
    return TOOLS[tool](**arguments) if approved else "A person has refused this"


TOOLS: dict[str, Callable[..., Any]] = {"opening_hours": opening_hours, "book_room": book_room}
NEEDS_APPROVAL = {"book_room"}


def use(tool: str, arguments: dict[str, Any]) -> Any:
    """The call of a tool, at once or when a person has approved it."""
    if tool not in NEEDS_APPROVAL:
        return TOOLS[tool](**arguments)
    print(f"approve {tool} {arguments}? python examples/agent.py --approve yes", flush=True)
    return if_approved(cs.wait_for("approval"), tool, arguments)


@cs.task
async def message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


@cs.task
async def agent(messages: list[Message]) -> Any:
    """One step: use the tool that the model has asked for, or ask the model what to do."""
    last = messages[-1]
    if last["role"] != "assistant":
        return agent.tail([*messages, think(messages)])
    if "tool" in last:
        result = use(last["tool"], last["arguments"])
        return agent.tail([*messages, message("tool", result)])
    return last["content"]


def main() -> None:
    parser = argparse.ArgumentParser(description="An agent that survives its process.")
    parser.add_argument("question", nargs="?", default="Is the library open? If so, book room 4.")
    parser.add_argument("--approve", choices=["yes", "no"])
    parser.add_argument("--store", default="sqlite:///agent.db")
    options = parser.parse_args()
    if options.approve:
        cs.signal(options.store, RUN, "approval", options.approve == "yes")
        return
    question = [{"role": "user", "content": options.question}]
    print(cs.run(agent(question), run_id=RUN, store=options.store))


if __name__ == "__main__":
    main()
