"""The benchmark of durable runs computes correctly; no test looks at a time."""

import asyncio
import json
from argparse import Namespace
from contextlib import ExitStack, nullcontext

import pytest
from rich.console import Console
from tests.in_process import call

from cascade.observatory.benchmarks import durable, durable_peers, postgres, program
from cascade.observatory.benchmarks.pages import charts_in, write_page
from cascade.observatory.benchmarks.suites import SUITES, part_of
from cascade.runtime.engine import Engine


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What a small run of all sections wrote, and what it printed."""
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.json"
    options = ("--max", 100, "--rounds", 1, "--quick", "--json", path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "_CALLS", 1_000)
        patch.setattr(durable, "_AGENTS", 10)
        patch.setattr(durable, "_CROWD", 10)
        # Their own test counts with them; here they would take seconds.
        patch.setattr(durable, "installed_savers", lambda: ([], []))
        patch.setattr(durable, "installed_dbos", lambda: ([], []))
        patch.setattr(postgres, "running", lambda: nullcontext("memory:"))
        patch.setattr(postgres, "is_installed", lambda: True)
        done = call(lambda words: durable.PROGRAM.run(write_page, words), *options, cwd=folder)
    return json.loads(path.read_text(encoding="utf-8")), done.stdout


def test_it_measures_every_store(report):
    written, printed = report
    in_sqlite = {"wide", "resumed", "steps", "agents", "loop", "long agents", "a crowd"}
    in_postgres = {"steps, PostgreSQL", "a crowd, PostgreSQL"}
    assert set(written["measurements"]) == in_sqlite | in_postgres
    for title, one in written["measurements"].items():
        names = {contender["name"] for contender in one["contenders"]}
        stores = [durable.POSTGRES] if title in in_postgres else [*durable.STORES]
        stores = {"long agents": ["SQLite, async"], "resumed": ["SQLite"]}.get(title, stores)
        assert {durable.NOT_KEPT, *stores} <= names
        if title in ("wide", "steps"):
            assert {*durable.BY_HAND} <= names  # and so they compute the expected values
    assert all(one["figure"] in printed for one in written["targets"])


def test_the_report_is_a_suite_with_charts(report):
    for name in ("durable", "crowds"):
        (suite,) = (suite for suite in SUITES if suite.name == name)
        part = part_of(report[0], suite)
        assert part is not None
        assert part["targets"]
        assert charts_in(part)


def test_each_run_is_a_new_one(monkeypatch):
    """A second run with the same id would only read the value of the first."""
    ids = []
    run = Engine.run

    async def noting(self, target, *args, **options):
        ids.append(options["run_id"])
        return await run(self, target, *args, **options)

    monkeypatch.setattr(Engine, "run", noting)
    with durable.ExitStack() as stack:
        systems = durable._Systems(stack)
        assert systems.gathered("memory", agents=3, steps=2)() == 6
        assert systems.gathered(durable.NOT_KEPT, agents=2, steps=2)() == 4
    assert len(set(ids[:3])) == 3
    assert ids[3:] == [None, None]


def test_a_server_is_started_for_the_measurement():
    if not postgres.is_installed():
        pytest.skip("needs PostgreSQL and psycopg: apt-get install postgresql, pip install psycopg")
    with postgres.running() as url, ExitStack() as stack:
        systems = durable._Systems(stack, {durable.POSTGRES: (url, "sync")})
        assert systems.gathered(durable.POSTGRES, agents=3, steps=2)() == 6
        assert systems.commits[durable.POSTGRES] > 0


def test_without_a_server_nothing_is_measured_there(monkeypatch, capsys):
    monkeypatch.setattr(postgres, "is_installed", lambda: False)
    bench = program.Bench(Namespace(max=10, rounds=1, quick=True), Console(), 1)
    durable.in_postgres(bench)
    assert not bench.found.measurements
    assert "not installed: PostgreSQL" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [durable_peers.Dbos, durable_peers.LangGraphSaver])
def test_other_libraries_count(kind, tmp_path):
    name = "dbos" if kind is durable_peers.Dbos else "langgraph.checkpoint.sqlite"
    pytest.importorskip(name, reason="needs dbos and langgraph-checkpoint-sqlite: pip install them")
    saver = kind()
    saver.open(tmp_path)
    try:
        assert asyncio.run(saver.count(3)) == 3
    finally:
        saver.close()
    assert list(tmp_path.glob("*.db"))
