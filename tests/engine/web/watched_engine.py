"""The program that the tests of the web view look at; it obeys lines on its standard input."""

import asyncio
import logging
import sys
from dataclasses import dataclass

import cascade as cs

broken = asyncio.Event()


@cs.task
async def fetch(page):
    await asyncio.sleep(3600)
    return page


@cs.task
async def clean(text):
    return text


@cs.task
async def report(*parts):
    return parts


@cs.task
async def agent(name, n=0):
    await asyncio.sleep(0.05)
    return agent.tail(name, n + 1)


@cs.task
async def breaks():
    await broken.wait()
    raise ValueError("no shop <img src=x onerror=alert(1)>")


@cs.task
async def leaf(n):
    await asyncio.sleep(3600)


@cs.task
async def clean_up(n=0):
    await asyncio.sleep(0.05)
    return clean_up.tail(n + 1)


@dataclass
class Approval:
    ok: bool
    copies: int = 1


@cs.task
async def publish(letter: str, approval: Approval) -> int:
    return approval.copies


def flow():
    return report(clean(fetch("front")), clean.map(text=fetch.map(page=list("abcdef"))))


async def main():
    reading = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reading), sys.stdin)
    async with (
        cs.Engine(capacities={"gpu": 2}) as engine,
        cs.ControlPlane(engine, name="shop-engine", every=0.3),
    ):
        engine.constraints.limit_concurrency("task:fetch", 2)
        for number in range(20):
            engine.start(agent(f"a{number}"), run_id=f"agent-{number}")
        engine.start(flow(), run_id="flow")
        engine.start(report(breaks(), clean("x")), run_id="broken")
        engine.start(report(*[leaf(n) for n in range(5000)], clean("x")), run_id="wide")
        engine.start(agent("c"), run_id="to-cancel")
        engine.start(clean_up(), run_id="cleaner")
        engine.start(publish("dear", cs.wait_for("approval")), run_id="letter-1")
        print("ready", flush=True)
        while line := await reading.readline():
            if line == b"break\n":
                broken.set()
                print("broken", flush=True)
            else:
                logging.getLogger("shop").warning("only <b>%d</b> left", 3)
                print("logged", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
