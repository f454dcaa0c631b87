"""Durable runs and caches, as the web view reads and changes them."""

import asyncio
import sys
from types import ModuleType

import pytest

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.graph.codec import Codec
from cascade.web.model.cache_views import CacheViews
from cascade.web.model.history import History
from cascade.web.site import READ_ONLY, Site

calls: list[str] = []


@cs.task
def load(shop):
    calls.append("load")
    return [1, 2, 3]


@cs.task
def total(values, scale):
    calls.append("total")
    if scale < 0:
        raise ValueError(f"scale is {scale}")
    return sum(values) * scale


@cs.task
async def letter(approval):
    return approval


@cs.task(pure=True)
def twice(n):
    return 2 * n


def report():
    return total(load(cs.Param("shop", "Oslo")), cs.Param("scale", 1, int))


@pytest.fixture(autouse=True)
def this_module_can_be_imported(monkeypatch):
    """As that of a program: stores name tasks by it."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or ModuleType(__name__))
    module = sys.modules[__name__]
    for name in ("load", "total", "letter", "twice", "report"):
        setattr(module, name, globals()[name])
    calls.clear()


@pytest.fixture
def store(tmp_path):
    with_runs = open_store(f"sqlite:///{tmp_path}/runs.db")
    yield with_runs
    with_runs.close()


@pytest.fixture
def history(store):
    return History(store, Codec(modules=()))


def run(store, run_id, **params):
    return cs.run(report(), params, run_id=run_id, store=store)


def test_runs_are_listed_by_status_and_target_a_page_after_the_other(store, history):
    for number in range(3):
        run(store, f"r{number}")
    with pytest.raises(ValueError, match="scale is -1"):
        run(store, "bad", scale=-1)
    assert [row.run for row in history.runs()] == ["bad", "r2", "r1", "r0"]
    assert [row.run for row in history.runs(["failed"])] == ["bad"]
    assert history.runs(target="nothing") == []
    first = history.runs(limit=2)
    assert [row.run for row in history.runs(before=first[-1].number)] == ["r1", "r0"]


def test_a_run_is_shown_with_its_steps_their_values_and_its_error(store, history):
    run(store, "good", scale=3)
    view = history.run("good")
    assert view.outcome == "18"
    assert view.params == {"scale": "3"}
    steps = {step.task: (step.state, step.value) for step in view.steps}
    assert steps["load"] == ("done", "[1, 2, 3]")
    assert view.has_ended
    assert not view.can_resume
    with pytest.raises(ValueError, match="scale is -1"):
        run(store, "bad", scale=-1)
    view = history.run("bad")
    said, note = view.outcome.splitlines()
    assert said == "ValueError: scale is -1"
    assert note.startswith("cascade: in task 'total', called at ")
    assert view.can_resume
    assert history.run("nothing") is None


class Unfit(Exception):
    """Not to be imported by a view."""


class Unkept(Exception):
    """Cannot be rebuilt from its arguments."""

    def __init__(self, code):
        super().__init__(f"code {code}")
        self.code = lambda: code


@cs.task
def refuse(kind):
    try:
        raise OSError("no disk")
    except OSError as error:
        raise {"unfit": Unfit("no", 1), "unkept": Unkept(3), "empty": Unfit()}[kind] from error


@pytest.mark.parametrize(
    ("kind", "said"),
    [("unfit", "Unfit: ('no', 1)"), ("unkept", "Unkept: code 3"), ("empty", "Unfit")],
)
def test_an_error_is_shown_with_its_cause_and_the_place_of_its_call(
    store, history, monkeypatch, kind, said
):
    module = sys.modules[__name__]
    for name in ("Unfit", "refuse"):
        monkeypatch.setattr(module, name, globals()[name], raising=False)
    with pytest.raises((Unfit, Unkept)):
        cs.run(refuse(kind), store=store, run_id=kind)
    monkeypatch.delitem(sys.modules, __name__)
    shown = history.run(kind).outcome
    lines = shown.splitlines()
    assert "OSError: no disk" in shown.partition("The above exception was the direct cause")[0]
    assert any(line.endswith(said) for line in lines)
    assert lines[-1].startswith("cascade: in task 'refuse', called at ")
    assert ("Traceback (most recent call last)" in shown) == (kind == "unkept")


def test_two_runs_are_compared_by_the_values_of_their_steps(store, history):
    run(store, "one", scale=1)
    run(store, "two", scale=2)
    found = history.compare("one", "two")
    assert found[0].kind != "same"
    assert ("load", "same") in [(one.task, one.kind) for one in found]
    with pytest.raises(cs.errors.RunConflictError, match="there is no run 'three'"):
        history.compare("one", "three")


def test_a_fork_calls_again_only_what_was_chosen_and_what_needs_it(store, history):
    run(store, "one")
    done, made = history.fork("one", ["total"], {"scale": 5})
    assert done
    calls.clear()
    assert cs.run(report(), {"scale": 5}, run_id=made, store=store) == 30
    assert calls == ["total"]
    done, said = history.fork("one", ["laod"], {})
    assert not done
    assert "did you mean 'load'" in said


async def test_a_failed_run_is_given_to_the_workers(store, history):
    with pytest.raises(ValueError, match="scale is -1"):
        await asyncio.to_thread(run, store, "bad", scale=-1)
    assert history.resume("bad")[0]
    assert history.run("bad").row.status == "enqueued"
    stop = asyncio.Event()
    async with cs.Engine(store=store) as engine:
        worker = asyncio.create_task(engine.serve(stop=stop))
        while history.run("bad").row.status != "failed":  # noqa: ASYNC110  # of another thread
            await asyncio.sleep(0.02)
        stop.set()
        await worker
    assert calls == ["load", "total", "total"]
    run_again = history.resume("nothing")
    assert run_again == (False, run_again[1])


async def test_a_waiting_run_gets_a_signal_and_another_one_is_cancelled(store, history):
    async with cs.Engine(store=store) as engine:
        first = engine.start(letter(cs.wait_for("go")), run_id="first")
        engine.start(letter(cs.wait_for("go")), run_id="second")
        while len(history.runs(["running"])) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert history.signal("first", "go", {"ok": True}) == (True, "first got go")
        assert await first.result() == {"ok": True}
        assert history.cancel("second") == (True, "second is asked to end")
        assert history.run("second").row.status == "cancelling"
    assert history.signal("first", "go", 1)[0] is False


async def test_a_view_that_may_only_look_changes_no_durable_run(store, history):
    await asyncio.to_thread(run, store, "one")
    site = Site(None, read_only=True, history=history)
    assert await site.fork_stored("one", [], {}) == READ_ONLY
    assert await site.resume_stored("one") == READ_ONLY
    assert await site.cancel_stored("one") == READ_ONLY
    assert await site.signal_stored("one", "go", 1) == READ_ONLY
    assert len(history.runs()) == 1
    assert await Site(None).fork_stored("one", [], {}) == (False, "this view has no store")
    done, made = await Site(None, history=history).fork_stored("one", [], {})
    assert done
    assert history.run(made).row.parent == "one"


def test_a_cache_tells_what_it_keeps_and_why_a_call_would_be_made(tmp_path, monkeypatch):
    file = tmp_path / "flows_of_a_cache.py"
    file.write_text(
        "import cascade as cs\n\n\n@cs.task(pure=True)\ndef twice(n):\n    return 2 * n\n\n\n"
        "def report():\n    return twice(21)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    url = f"sqlite:///{tmp_path}/cache.db"
    target = "flows_of_a_cache:report"
    views = CacheViews(url, [target])
    assert views.kept() == []
    ((node,), said) = views.why(target)
    assert (node.task, node.status, said) == ("twice", "computed", "")
    cs.run(sys.modules["flows_of_a_cache"].report(), cache=url)
    (kept,) = views.kept()
    assert (kept.task, kept.entries) == ("flows_of_a_cache:twice", 1)
    ((node,), _) = views.why(target)
    assert node.status == "hit"
    assert views.why("os:getcwd") == ([], "'os:getcwd' was not named on the command line")
    sys.modules.pop("flows_of_a_cache")
