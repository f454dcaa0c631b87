"""Many trials: ``python -m tests.engine.durable.lives.series --sqlite 3000 --postgres 1000``.

Prints what happened, and each fault with the seed that has it: ``--seed 17 --sqlite 1`` tries that
one again.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from tests.engine.durable.lives.broken import BREAKS
from tests.engine.durable.lives.databases import File, Server
from tests.engine.durable.lives.trial import Trial

#: What processes import when they need it: once, in the process that is forked.
_ALSO = ("cascade.runtime.durable.serving", "cascade.runtime.engine", "cronsim", "asyncio")


def main() -> int:
    """Try; the exit status is 1 after a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    for kind in ("sqlite", "postgres"):
        parser.add_argument(f"--{kind}", type=int, default=0, metavar="TRIALS")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--jobs", type=int, default=4, help="processes that try at the same time")
    parser.add_argument("--broken", choices=BREAKS, help="break the engine, which has to be found")
    parser.add_argument("--keep", default="", help="a folder for the notes of trials with faults")
    given = parser.parse_args()
    if given.broken:
        BREAKS[given.broken][0]()
    for name in _ALSO:
        import_module(name)
    gc.collect()
    gc.freeze()  # else each fork copies the pages of all objects when it collects
    found = 0
    for kind in ("sqlite", "postgres"):
        if trials := getattr(given, kind):
            seeds = range(given.seed, given.seed + trials)
            found += _tried(kind, seeds, min(given.jobs, trials), given.keep)
    return 1 if found else 0


def _tried(kind: str, seeds: range, jobs: int, keep: str) -> int:
    """Try all seeds; the number of those with faults."""
    began, counts = time.monotonic(), Counter[str]()
    for told in _counts(kind, seeds, jobs, keep):
        counts.update(told)
    print(f"{kind}: {len(seeds)} trials in {time.monotonic() - began:.0f} s")
    for name, count in sorted(counts.items()):
        print(f"  {count:7,} {name}")
    missing = len(seeds) - counts["trials"]
    if missing:
        print(f"  {missing:7,} trials did not end")
    print(f"  {counts['faulty trials']:7,} trials with faults", flush=True)
    return counts["faulty trials"] + missing


def _counts(kind: str, seeds: range, jobs: int, keep: str) -> Iterator[dict[str, int]]:
    """What has happened in each trial, as they end."""
    reader, writer = os.pipe()
    workers = []
    for job in range(jobs):
        pid = os.fork()
        if not pid:
            os.close(reader)
            _be_job(kind, seeds[job::jobs], writer, keep)
        workers.append(pid)
    os.close(writer)
    with os.fdopen(reader) as lines:
        yield from map(json.loads, lines)
    for pid in workers:
        os.waitpid(pid, 0)


def _be_job(kind: str, seeds: range, writer: int, keep: str) -> None:
    """Try some of the seeds, and end this process."""
    code = 1
    try:
        with tempfile.TemporaryDirectory(prefix="cascade-lives-") as made:
            folder = Path(made)
            os.environ["XDG_RUNTIME_DIR"] = made
            folder.chmod(0o755)  # the server has a user of its own
            (folder / "database").mkdir()
            database = (File if kind == "sqlite" else Server)(folder / "database")
            try:
                typical: dict[str, float] = {}
                for seed in seeds:
                    _try(seed, database, folder / "trial", typical, writer, keep)
            finally:
                database.close()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _try(
    seed: int,
    database: File | Server,
    folder: Path,
    typical: dict[str, float],
    writer: int,
    keep: str,
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    counts: Counter[str] = Counter(trials=1)
    trial = Trial(seed, database, folder, counts, typical)
    try:
        faults = trial.run()
    except Exception:
        faults = [f"{traceback.format_exc()[-2000:]} {trial.said()}"]
    if faults:
        counts["faulty trials"] = 1
        shown = [each[:3000] for each in faults[:5]]
        orders = replace(trial.orders, url=database.url)
        print("\n    ".join([f"seed {seed}: {orders}", *shown, trial.said()]), flush=True)
        if keep:
            shutil.copytree(folder, f"{keep}/{seed}", dirs_exist_ok=True)
    os.write(writer, (json.dumps(counts) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
