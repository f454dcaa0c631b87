"""``cascade run --run-id``, ``cascade runs`` and ``cascade work``: durable runs in their store."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.graph.codec import Codec
from cascade.spec.errors import CapacityError
from cascade.spec.run_rows import Lease, RunStatus

HERE = Path(__file__).parent
REPORT = "durable_flows.py:report"


@cs.task
def nothing() -> None: ...


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """The names of the tasks that were called since the last look."""
    file = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(file))

    def read() -> list[str]:
        lines = file.read_text().split() if file.exists() else []
        file.unlink(missing_ok=True)
        return sorted(lines)

    return read


@pytest.fixture(autouse=True)
def url(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/runs.db?synchronous=normal"
    monkeypatch.setenv("CASCADE_STORE", url)
    monkeypatch.delenv("CASCADE_SIGNING_KEY", raising=False)
    return url


@pytest.fixture
def store(url):
    store = open_store(url)
    yield store
    store.close()


@pytest.fixture
def failed(cascade, calls):
    """A run 'one' that has failed in its last task."""
    outcome = cascade("run", REPORT, "--scale", "-1", "--run-id", "one")
    assert outcome.code == 1
    assert "ValueError: scale is -1" in outcome.err
    assert calls() == ["double", "double", "double", "load", "total"]


@pytest.fixture
def succeeded(cascade, calls):
    assert cascade("run", REPORT, "--run-id", "one").out == "6\n"
    calls()


@pytest.mark.usefixtures("succeeded")
def test_a_second_run_with_its_id_prints_the_stored_value(cascade, calls):
    assert cascade("run", REPORT, "--run-id", "one") == (0, "6\n", "")
    assert calls() == []


@pytest.mark.usefixtures("succeeded")
def test_a_run_of_another_target_is_refused(cascade):
    outcome = cascade("run", "durable_flows.py:nightly", "--run-id", "one")
    assert outcome.code == 1
    assert "run 'one' in the store is of another target, 'total'" in outcome.err


def test_a_store_without_an_id_is_misuse(cascade):
    outcome = cascade("run", REPORT, "--store", "sqlite:///other.db")
    assert outcome == (2, "", "cascade: --store needs --run-id, which names the run in the store\n")
    assert not (HERE / "other.db").exists()


@pytest.mark.usefixtures("failed")
def test_list_shows_the_newest_first(cascade):
    assert cascade("run", "durable_flows.py:nightly", "--run-id", "two").code == 0
    lines = [line.split() for line in cascade("runs", "list").out.splitlines()]
    assert [line[:3] for line in lines] == [
        ["run", "target", "status"],
        ["two", "nightly", "succeeded"],
        ["one", "total", "failed"],
    ]
    listed = json.loads(cascade("runs", "list", "--status", "failed", "--json").out)
    assert [run["run_id"] for run in listed] == ["one"]
    listed = json.loads(cascade("runs", "list", "--target", "nightly", "--json").out)
    assert [(run["run_id"], run["status"]) for run in listed] == [("two", "succeeded")]


@pytest.mark.usefixtures("store")
def test_an_empty_list_says_so(cascade):
    assert cascade("runs", "list").out == "no runs\n"
    assert cascade("runs", "list", "--json").out == "[]\n"


@pytest.mark.parametrize(
    "words", [["list"], ["show", "one"], ["steps", "one"], ["resume", "one"], ["gc"]]
)
def test_commands_that_look_make_no_store(cascade, tmp_path, words):
    there = tmp_path / "typo.db"
    outcome = cascade("runs", *words, "--store", f"sqlite:///{there}")
    assert (outcome.code, outcome.out) == (1, "")
    assert f"there is no file '{there}'" in outcome.err
    assert not there.exists()


@pytest.mark.usefixtures("failed")
def test_show_shows_the_state_the_parameters_and_the_error(cascade):
    lines = dict(line.split(maxsplit=1) for line in cascade("runs", "show", "one").out.splitlines())
    assert lines["run"] == "one"
    assert lines["status"] == "failed"
    assert lines["params"] == "{'scale': '-1'}"
    assert lines["steps"] == "4 done, 0 continued"
    assert lines["error"] == "ValueError: scale is -1"
    shown = json.loads(cascade("runs", "show", "one", "--json").out)
    assert (shown["status"], shown["steps"], shown["params"]) == ("failed", 4, {"scale": "-1"})


@pytest.mark.usefixtures("failed")
def test_steps_lists_what_is_done(cascade):
    lines = [line.split() for line in cascade("runs", "steps", "one").out.splitlines()]
    assert lines[0] == ["key", "task", "state", "when"]
    assert [line[1:3] for line in lines[1:5]] == [["load", "done"], *[["double", "done"]] * 3]
    listed = json.loads(cascade("runs", "steps", "one", "--json").out)
    assert listed[0]["key"].startswith(lines[1][0])
    assert listed[0]["time"].startswith("20")


@pytest.mark.usefixtures("failed")
def test_steps_says_what_an_ended_run_does_not_keep(cascade):
    assert "are kept until that task, or that step, is done" in " ".join(
        cascade("runs", "steps", "one").out.split()
    )


@pytest.mark.usefixtures("succeeded")
def test_resume_prints_the_value_of_a_finished_run(cascade, calls):
    assert cascade("runs", "resume", "one") == (0, "6\n", "")
    assert cascade("runs", "resume", "one", "--json") == (0, "6\n", "")
    assert calls() == []


@pytest.mark.usefixtures("failed")
@pytest.mark.parametrize("place", ["durable_flows.py", "durable_flows", REPORT])
def test_resume_calls_only_what_failed(cascade, calls, place, store):
    assert "ValueError: scale is -1" in cascade("runs", "resume", "one", place).err
    assert calls() == ["total"]
    assert store.find("one").epoch == 2


@pytest.mark.usefixtures("failed")
def test_resume_tells_which_module_it_needs(cascade, monkeypatch):
    monkeypatch.delitem(sys.modules, "durable_flows")
    outcome = cascade("runs", "resume", "one")
    assert outcome.code == 2
    assert outcome.err.endswith(": cascade runs resume one durable_flows\n")


@pytest.mark.usefixtures("succeeded")
def test_fork_calls_again_what_is_named(cascade, calls):
    outcome = cascade("runs", "fork", "one", "two", "--again", "total", "--set", "scale=5")
    assert outcome == (0, "two\n", "")
    assert cascade("runs", "resume", "two", "durable_flows.py").out == "30\n"
    assert calls() == ["total"]
    assert "fork of  one\n" in cascade("runs", "show", "two").out
    new = json.loads(cascade("runs", "fork", "two", "--json").out)["run_id"]
    assert cascade("runs", "resume", new, "durable_flows.py").out == "30\n"


@pytest.mark.usefixtures("succeeded")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--again", "totl"], "the run has no node 'totl' (did you mean 'total'?)"),
        (["--set", "scale"], "--set takes NAME=JSON, but got 'scale'"),
        (["--set", "scale=x"], "--set scale takes JSON"),
        (["--set", "scal=1"], "the run has no parameter 'scal' (did you mean 'scale'?)"),
    ],
)
def test_a_wrong_fork_is_misuse(cascade, words, said):
    outcome = cascade("runs", "fork", "one", "two", *words)
    assert outcome.code == 2
    assert said in outcome.err


def test_cancel_ends_a_run_that_waits(cascade, store):
    cs.enqueue(store, nothing(), run_id="waits")
    assert cascade("runs", "cancel", "waits") == (0, "run waits is cancelled\n", "")
    assert store.find("waits").status is RunStatus.CANCELLED
    again = cascade("runs", "cancel", "waits")
    assert again == (1, "", "cascade: run 'waits' has ended already (cancelled)\n")
    cs.enqueue(store, nothing(), run_id="runs")
    store.claim_run("runs", Lease("host/1", 60))
    assert cascade("runs", "cancel", "runs").out == "run runs will be cancelled by host/1\n"
    assert store.find("runs").cancelling


def test_signal_puts_a_value_into_the_inbox(cascade, store):
    cs.enqueue(store, nothing(), run_id="one")
    assert cascade("runs", "signal", "one", "go", '{"by": "ada"}').out == "run one got go\n"
    assert cascade("runs", "signal", "one", "go").code == 0
    signals = store.signals(store.find("one").number)
    assert [Codec().loads(sent.body) for sent in signals] == [{"by": "ada"}, None]
    assert cascade("runs", "signal", "one", "go", "ada").code == 2


@pytest.mark.usefixtures("succeeded")
def test_gc_deletes_what_ended_long_ago(cascade):
    assert cascade("runs", "gc").out == "deleted 0 runs\n"
    assert cascade("runs", "gc", "--older", "0s", "--status", "failed").out == "deleted 0 runs\n"
    assert json.loads(cascade("runs", "gc", "--older", "0s", "--json").out) == {"deleted": 1}
    assert cascade("runs", "list").out == "no runs\n"
    assert cascade("runs", "gc", "--older", "soon").code == 2


@pytest.mark.parametrize(
    "words", [["show"], ["steps"], ["resume"], ["cancel"], ["fork"], ["signal", "go"]]
)
@pytest.mark.usefixtures("succeeded")
def test_an_unknown_run_is_told_with_the_near_one(cascade, words):
    outcome = cascade("runs", words[0], "onee", *words[1:])
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.endswith("has no run 'onee' (did you mean 'one'?)\n")


def test_a_command_without_a_store_is_misuse(cascade, monkeypatch):
    monkeypatch.delenv("CASCADE_STORE")
    for words in (["runs", "list"], ["work"], ["run", REPORT, "--run-id", "one"]):
        outcome = cascade(*words)
        assert outcome.code == 2
        assert "no store is named: give --store sqlite:///runs.db" in outcome.err
    assert cascade("runs", "list", "--store", "memory:").out == "no runs\n"
    assert cascade("runs", "list", "--store", "sqllite:///x").code == 2


@pytest.mark.parametrize(
    "name", ["list", "show", "steps", "resume", "cancel", "signal", "fork", "gc"]
)
def test_every_command_of_runs_has_a_page(cascade, name):
    page = cascade("runs", name, "--help")
    assert page.code == 0
    assert page.out.startswith(f"Usage: cascade runs {name}")
    assert max(map(len, page.out.splitlines())) <= 80


# -- cascade work ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-runs", "0"], "--max-runs must be an int ≥ 1, but is 0"),
        (["--keep", "succeeded"], "--keep takes STATUS=AGE, as succeeded=7d"),
        (["--keep", "succeded=7d"], "no status 'succeded' (did you mean 'succeeded'?)"),
        (["--share-capacities"], "--share-capacities needs capacities: --capacity NAME=AMOUNT"),
        (["no_such_module"], "there is no module no_such_module"),
    ],
)
def test_wrong_options_of_a_worker_are_misuse(cascade, words, said):
    outcome = cascade("work", *words)
    assert outcome.code == 2
    assert said in outcome.err


async def another_total(store):
    """In an event loop, where this does not wait for a sign that the worker lives."""
    cs.Capacities({"gpu": 3}, store=store)


@pytest.mark.skipif(not hasattr(signal, "SIGTERM") or os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_executes_what_is_due_until_a_signal(url, store, tmp_path, monkeypatch, number):
    monkeypatch.syspath_prepend(HERE)
    import durable_flows  # type: ignore[import-not-found]

    cs.enqueue(store, durable_flows.report, run_id="one")
    changed = threading.Event()
    unsubscribe = store.subscribe(changed.set)
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "cascade", "work", "durable_flows.py", "--store", url),
            *("--capacity", "gpu=2", "--share-capacities"),
        ],
        cwd=HERE,
        env={**os.environ, "CALLS": str(tmp_path / "calls")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while store.find("one").status is not RunStatus.SUCCEEDED:
            changed.wait(1)
            changed.clear()
        with pytest.raises(CapacityError, match="'gpu' is 3 here, but 2 in process"):
            asyncio.run(another_total(store))
        worker.send_signal(number)
        _, err = worker.communicate()
    finally:
        worker.kill()
        unsubscribe()
        sys.modules.pop("durable_flows", None)
    assert worker.returncode == 0, err
    assert "INFO serving SQLiteStore" in err
