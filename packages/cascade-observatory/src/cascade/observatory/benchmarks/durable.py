"""Costs of durable runs: of a node, of an agent's step, and of a long loop.

Every run has a new id, so nothing is found in the store. The files lie in a folder of their own,
and are deleted with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cascade.adapters.stores import open_store
from cascade.observatory.benchmarks import postgres
from cascade.observatory.benchmarks.by_hand import ByHand
from cascade.observatory.benchmarks.contenders import Cascade, EventLoop
from cascade.observatory.benchmarks.durable_peers import installed_dbos, installed_savers
from cascade.observatory.benchmarks.program import REFERENCE, Bench, Program, Section
from cascade.observatory.benchmarks.rounds import Contender
from cascade.observatory.benchmarks.shapes import PLAIN, WIDE
from cascade.runtime.options import Durability
from cascade.spec.task import task

NOT_KEPT = "not kept"
#: Contender → the URL of its store, with the folder left out, and what its runs wait for.
STORES: Mapping[str, tuple[str, Durability]] = {
    "SQLite": ("sqlite:///{}/full.db", "sync"),
    "SQLite, normal": ("sqlite:///{}/normal.db?synchronous=normal", "sync"),
    "SQLite, async": ("sqlite:///{}/async.db", "async"),
    "memory": ("memory:", "sync"),
}
POSTGRES = "PostgreSQL"
#: Contender that writes the same rows without Cascade → SQLite's setting ``synchronous``.
BY_HAND: Mapping[str, str] = {"by hand": "full", "by hand, normal": "normal"}
#: The same with each commit on a thread that the event loop waits for.
ON_THREAD = "on a thread"
ON_THREADS: Mapping[str, str] = {ON_THREAD: "full", "on a thread, normal": "normal"}
#: The most µs at 25 M calls/s: what the journal adds to a node, and a step that is committed.
NODE_MOST, STEP_MOST = 4.0, 150.0
#: Target of a step that reaches the disk: µs at 25 M calls/s, on top of 1.2 commits.
FULL_MOST, _COMMITS = 100.0, 1.2
#: The most that snapshots may add to a loop, and a step without waiting to one that is not kept.
LOOP_MOST, ASYNC_MOST = 1.01, 1.3
#: Most seconds at 25 M calls/s until a run goes on of which so many nodes are done.
RESUME_MOST, _DONE = 0.5, 100_000
#: The most that a step may take of one of DBOS, both in PostgreSQL.
DBOS_MOST = 1 / 3
#: Least steps of agents that share a commit, where a thousand wait for one.
SHARED_LEAST = 25.0
_NODES, _STEPS, _AGENTS, _CROWD = 10_000, 200, 100, 1_000
#: Steps of each of these agents.
_EACH = 5
_ids = count()


@task
async def step(left: int, made: int = 0) -> Any:
    """An agent that only counts."""
    return made if left == 0 else step.tail(left - 1, made + 1)


@task
def turn(left: int, made: int = 0) -> Any:
    """The same as a computation."""
    return made if left == 0 else turn.tail(left - 1, made + 1)


@task
def number(value: int) -> int:
    """A node that is done."""
    return value


@task
def refuse(_values: list[int]) -> int:
    """Fail, so that the run can be resumed again and again (D8)."""
    raise _RefusedError


class _RefusedError(Exception):
    """Of ``refuse``."""


class _Systems:
    """An engine without a store, and one for each of ``stores``.

    Attributes:
        commits: Contender → how many commits its store has made.
    """

    def __init__(
        self, stack: ExitStack, stores: Mapping[str, tuple[str, Durability]] = STORES
    ) -> None:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="cascade-durable-")))
        self.folder = folder
        self.commits: Counter[str] = Counter()
        self.engines: dict[str, Cascade] = {NOT_KEPT: stack.enter_context(Cascade())}
        for name, (url, durability) in stores.items():
            store = stack.enter_context(closing(open_store(url.format(folder))))
            self._count_commits(name, store)
            engine = Cascade(store=store, durability=durability)
            self.engines[name] = stack.enter_context(engine)

    def _count_commits(self, name: str, store: Any) -> None:
        commit, at_once = store.commit, getattr(store, "commit_at_once", None)

        def counted(batch: Any, *, seconds: float) -> Any:
            self.commits[name] += 1
            return commit(batch, seconds=seconds)

        def counted_at_once(batch: Any, *, seconds: float) -> Any:
            assert at_once is not None
            receipts = at_once(batch, seconds=seconds)
            self.commits[name] += receipts is not None
            return receipts

        store.commit = counted
        if at_once is not None:
            store.commit_at_once = counted_at_once

    def contenders(
        self, author: Callable[[], Any], operations: int, expected: Any, **options: Any
    ) -> list[Contender]:
        """A run of what ``author`` makes, by each engine."""
        return [
            Contender(name, self._run(name, author, options), operations, expected)
            for name in self.engines
        ]

    def _run(
        self, name: str, author: Callable[[], Any], options: Mapping[str, Any]
    ) -> Callable[[], Any]:
        cascade = self.engines[name]
        return lambda: cascade.wait_for(lambda: _kept(name, cascade, author(), options))

    def gathered(self, name: str, agents: int, steps: int) -> Callable[[], Any]:
        """Agents at once, each a run of its own."""
        cascade = self.engines[name]

        async def together() -> int:
            runs = [_kept(name, cascade, step(steps), {}) for _ in range(agents)]
            return sum(await asyncio.gather(*runs))

        return lambda: cascade.wait_for(together)


def _by_hand(
    stack: ExitStack,
    folder: Path,
    run: Callable[[ByHand], Any],
    operations: int,
    expected: Any,
) -> list[Contender]:
    """The same rows and commits, written with ``sqlite3``."""
    found = []
    for name, synchronous in BY_HAND.items():
        hand = stack.enter_context(closing(ByHand(folder / f"{name}.db", synchronous)))
        found.append(Contender(name, partial(run, hand), operations, expected))
    return found


async def _kept(name: str, cascade: Cascade, target: Any, options: Mapping[str, Any]) -> Any:
    """The value of a run, which its store keeps if there is one."""
    run_id = None if name == NOT_KEPT else f"run-{next(_ids)}"
    return await cascade.engine.run(target, run_id=run_id, **options)


def nodes(bench: Bench) -> None:
    """A wide graph whose nodes are journaled.

    Its task can be imported by its name, so that the target is stored as well, as it is by hand:
    only then can another process go on with the run by its id.
    """
    size = min(bench.largest, _NODES)
    with ExitStack() as stack:
        systems = _Systems(stack)
        contenders = systems.contenders(
            lambda: [number(value) for value in range(size)], WIDE.nodes(size), WIDE.value(size)
        )
        contenders += _by_hand(
            stack,
            systems.folder,
            lambda hand: hand.nodes(PLAIN.leaf, size),
            WIDE.nodes(size),
            WIDE.value(size),
        )
        contenders.append(bench.reference())
        samples = bench.measure("wide", contenders, bench.rounds(size), NOT_KEPT, "node")
    bench.show(f"a node of {size}", {"": "wide"})
    for name in ("SQLite", "SQLite, async"):
        more = (
            samples.ratio(name, REFERENCE).median - samples.ratio(NOT_KEPT, REFERENCE).median
        ) / 25.0
        bench.found.target(
            f"a node: {name}, more than not kept, at 25 M calls/s", more, most=NODE_MOST, unit="µs"
        )


def resumed(bench: Bench) -> None:
    """A run whose nodes are done but for the last one: named, read, and gone on with."""
    size = min(bench.largest * 10, _DONE)
    name = "SQLite"
    with ExitStack() as stack:
        systems = _Systems(stack, {name: STORES[name]})
        kept, not_kept = systems.engines[name], systems.engines[NOT_KEPT]

        def author() -> Any:
            return refuse([number(value) for value in range(size)])

        async def refused(run: Awaitable[Any]) -> bool:
            try:
                await run
            except _RefusedError:
                return True
            return False

        def computed() -> Any:
            return not_kept.wait_for(lambda: refused(not_kept.engine.run(author())))

        def gone_on() -> Any:
            return kept.wait_for(lambda: refused(kept.engine.run(author(), run_id="resumed")))

        assert gone_on()  # the first time, it computes the nodes
        contenders = [
            Contender(NOT_KEPT, computed, size, True),
            Contender(name, gone_on, size, True),
            bench.reference(),
        ]
        samples = bench.measure("resumed", contenders, bench.rounds(size), NOT_KEPT, "node")
    bench.show(f"a done node of {size}", {"": "resumed"})
    seconds = samples.ratio(name, REFERENCE).median / 25.0 * _DONE / 1e6
    bench.found.target(
        f"to resume {_DONE:,} done nodes, at 25 M calls/s",
        seconds,
        most=RESUME_MOST,
        unit="s",
    )


def steps(bench: Bench) -> None:
    """An agent whose steps are committed, and others that do the same."""
    made = min(bench.largest, _STEPS)
    few = max(1, made // 10)
    with ExitStack() as stack:
        systems = _Systems(stack)
        contenders = systems.contenders(lambda: step(made), made, made)
        contenders += _by_hand(stack, systems.folder, lambda hand: hand.steps(made), made, made)
        loop = stack.enter_context(EventLoop())
        for name, synchronous in ON_THREADS.items():
            path = systems.folder / f"thread-{synchronous}.db"
            hand = stack.enter_context(closing(ByHand(path, synchronous)))
            counted = _counting(loop, hand.steps_on_a_thread, made)
            contenders.append(Contender(name, counted, made, made))
        for saver in bench.those_installed(installed_savers()):
            stack.callback(saver.close)
            saver.open(systems.folder)
            contenders.append(Contender(saver.name, _counting(loop, saver.count, few), few, few))
        contenders.append(bench.reference())
        samples = bench.measure("steps", contenders, bench.rounds(made), NOT_KEPT, "step")
    bench.show(f"a step of an agent of {made}", {"": "steps"})
    what = "a step: SQLite, normal, at 25 M calls/s"
    bench.target_at(what, samples, "SQLite, normal", REFERENCE, STEP_MOST)
    # A commit that waits for the disk may take as long as ten turns of an event loop may (M9), and
    # an engine's loop has other runs, and other code of its program. So the commit is made on a
    # thread, which *by hand* does without: the way there and back costs what lies between the two
    # rows. The second target has the same promise on both sides.
    for hand_made in ("by hand", ON_THREAD):
        more = samples.ratio("SQLite", REFERENCE).median
        more -= _COMMITS * samples.ratio(hand_made, REFERENCE).median
        what = f"a step: SQLite, less {_COMMITS} {hand_made}, at 25 M calls/s"
        bench.found.target(what, more / 25.0, most=FULL_MOST, unit="µs")


def long_agents(bench: Bench) -> None:
    """An agent with so many steps that the beginning and the end of its run do not count."""
    made = bench.largest * 100
    name = "SQLite, async"
    with ExitStack() as stack:
        systems = _Systems(stack, {name: STORES[name]})
        contenders = systems.contenders(lambda: step(made), made, made)
        samples = bench.measure("long agents", contenders, bench.rounds(made), NOT_KEPT, "step")
    bench.show(f"a step of an agent of {made}", {"": "long agents"})
    ratio = samples.ratio(name, NOT_KEPT).median
    what = f"a step of an agent of {made}: {name}, over not kept"
    bench.found.target(what, ratio, most=ASYNC_MOST)


def _counting(
    loop: EventLoop, count_up: Callable[[int], Awaitable[int]], made: int
) -> Callable[[], Any]:
    async def counted() -> int:
        return await count_up(made)

    return lambda: loop.wait_for(counted)


def agents(bench: Bench) -> None:
    """Agents at once on one store, whose steps share commits."""
    with ExitStack() as stack:
        _measure_agents(bench, _Systems(stack), min(bench.largest, _AGENTS), "agents")


def crowd(bench: Bench) -> None:
    """The same with a thousand of them."""
    with ExitStack() as stack:
        _measure_crowd(bench, _Systems(stack), "a crowd", "SQLite")


def _measure_agents(bench: Bench, systems: _Systems, many: int, title: str) -> None:
    steps = many * _EACH
    contenders = [
        Contender(name, systems.gathered(name, many, _EACH), steps, steps)
        for name in systems.engines
    ]
    bench.measure(title, contenders, bench.rounds(steps), NOT_KEPT, "step")
    bench.show(f"a step of {many} agents at once", {"": title})


def _measure_crowd(bench: Bench, systems: _Systems, title: str, what: str) -> None:
    """Measure many agents, and how many of their steps share a commit in the store ``what``."""
    many = min(bench.largest, _CROWD)
    steps = many * _EACH
    _measure_agents(bench, systems, many, title)
    systems.commits.clear()
    systems.gathered(what, many, _EACH)()
    bench.found.target(
        f"{many} agents at once: steps a commit, {what}",
        steps / systems.commits[what],
        least=SHARED_LEAST,
        unit="steps",
    )


def in_postgres(bench: Bench) -> None:
    """Agents whose steps are committed to a PostgreSQL server: one, and many at once."""
    if not postgres.is_installed():
        bench.console.print("not installed: PostgreSQL, or its driver psycopg")
        return
    made = min(bench.largest, _STEPS)
    few = max(1, made // 10)
    with ExitStack() as stack:
        url = stack.enter_context(postgres.running())
        systems = _Systems(stack, {POSTGRES: (url, "sync")})
        contenders = systems.contenders(lambda: step(made), made, made)
        loop = stack.enter_context(EventLoop())
        dbos = bench.those_installed(installed_dbos())
        for saver in dbos:
            stack.callback(saver.close)
            saver.open_database(url)
            contenders.append(Contender(saver.name, _counting(loop, saver.count, few), few, few))
        samples = bench.measure(
            "steps, PostgreSQL", contenders, bench.rounds(made), NOT_KEPT, "step"
        )
        bench.show(f"a step of an agent of {made}", {"": "steps, PostgreSQL"})
        for saver in dbos:
            ratio = samples.ratio(POSTGRES, saver.name).median
            bench.found.target(f"a step: {POSTGRES} over {saver.name}", ratio, most=DBOS_MOST)
        _measure_crowd(bench, systems, "a crowd, PostgreSQL", POSTGRES)


def loop(bench: Bench) -> None:
    """A fused loop with a record every second."""
    made = bench.largest * 2_000
    with ExitStack() as stack:
        systems = _Systems(stack)
        contenders = systems.contenders(lambda: turn(made), made, made, use_vm=True)
        samples = bench.measure("loop", contenders, bench.rounds(made), NOT_KEPT, "step")
    bench.show(f"a step of a loop of {made}", {"": "loop"})
    ratio = samples.ratio("SQLite", NOT_KEPT).median
    bench.found.target("a loop: SQLite over not kept", ratio, most=LOOP_MOST)


_STORES = "in a SQLite file whose commits reach the disk (*SQLite*) or only the system (*normal*), "

SECTIONS = (
    Section(
        "journal",
        "A node that is journaled",
        "A wide graph of plain functions, in a run without an id, and in durable runs: "
        + _STORES
        + "without waiting for commits (*async*), and in memory. *By hand* is a loop with "
        "`sqlite3` that makes the same digests, rows and commits, and nothing else.",
        nodes,
    ),
    Section(
        "durable resume",
        "A run that is resumed",
        f"A graph of up to {_DONE:,} plain nodes which are done, and one that fails each time; the "
        "store has the outcomes. For comparison, the same graph is computed without a store.",
        resumed,
    ),
    Section(
        "durable steps",
        "A step that is committed",
        "An agent that counts, each step of which is committed before the next begins. DBOS and "
        "LangGraph count in steps of their own, on SQLite files as they set them up. *By hand* is "
        "a loop with `sqlite3` that writes the same rows in as many commits; *on a thread*, where "
        "they leave the event loop free, as an engine has to. Without waiting "
        "(*async*), so few steps are mostly the two commits at the beginning and the end of the "
        "run; *A long agent* has the target of such a step.",
        steps,
    ),
    Section(
        "durable agents",
        "Agents that share commits",
        f"{_AGENTS} such agents at once, each a run of its own, on one engine and one store.",
        agents,
    ),
    Section(
        "durable loop",
        "A loop with records",
        "A fused loop of a plain function, whose arguments are recorded once a second.",
        loop,
    ),
    Section(
        "durable long",
        "A long agent",
        "An agent that counts, without waiting for commits. Its steps are so many that the "
        "beginning and the end of its run, which are committed, do not count.",
        long_agents,
    ),
    Section(
        "durable crowd",
        "A thousand agents that share commits",
        f"{_CROWD:,} agents at once, each a run of its own, on one engine and one store.",
        crowd,
    ),
    Section(
        "durable postgres",
        "Agents in PostgreSQL",
        "One agent that counts, beside DBOS on the same server; and a thousand agents at once. The "
        "server is local, and set up as it comes, so its commits reach the disk.",
        in_postgres,
    ),
)

PROGRAM = Program(
    "durable",
    "Costs of durable runs: of a node, of an agent's step, and of a long loop.",
    SECTIONS,
    most=10**4,
    quick=100,
    of="nodes",
)
