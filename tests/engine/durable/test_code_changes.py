"""New code for runs that are stored: versions, parameters, and code that has changed (D9)."""

import asyncio
import importlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cascade as cs
from cascade.adapters.stores import open_store
from cascade.runtime import events
from cascade.spec.errors import ArgumentError, CodeChangedError, DefinitionError
from cascade.spec.run_rows import RunStatus
from cascade.spec.run_store import RunStore

#: Loads a module with this text in place of the one before.
Deploy = Callable[[str], Any]


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, store_url: Callable[[str], str]) -> Iterator[RunStore]:
    store = open_store(store_url(request.param))
    yield store
    store.close()


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploy]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # files of the same second
    sys.modules.pop("deployed", None)

    def load(text: str) -> ModuleType:
        (tmp_path / "deployed.py").write_text("import cascade as cs\n" + text)
        importlib.invalidate_caches()
        sys.modules.pop("deployed", None)
        return importlib.import_module("deployed")

    yield load
    sys.modules.pop("deployed", None)


AGENT = """
@cs.task({options})
async def agent(n, {parameters}):
    if n == 1 and {fails}:
        raise OSError("no network")
    return [n, {result}] if n == 0 else agent.tail(n - 1, {given})

@cs.task
def start(x):
    return agent(3, x)
"""


def _interrupted(module: Any, store: RunStore, target: Any) -> None:
    with pytest.raises(OSError, match="no network"):
        cs.run(target, run_id="r", store=store)


def _agent(**parts: str) -> str:
    given = {"options": "", "parameters": "a", "fails": "False", "result": "a", "given": "a"}
    return AGENT.format(**(given | parts))


# -- versions -------------------------------------------------------------------------------------


def test_the_same_version_goes_on(store: RunStore, deploy: Deploy) -> None:
    old = deploy(_agent(options="version='1'", fails="True"))
    _interrupted(old, store, old.agent(3, "x"))
    new = deploy(_agent(options="version='1'"))
    assert cs.run(new.agent(3, "x"), run_id="r", store=store) == [0, "x"]


def test_stored_arguments_are_migrated_to_the_present_version(
    store: RunStore, deploy: Deploy
) -> None:
    old = deploy(_agent(options="version='1'", fails="True"))
    _interrupted(old, store, old.agent(3, "x"))
    new = deploy(
        _agent(options="version='2'", parameters="b, c=0", result="b, c", given="b, c")
        + """
given = []
@agent.migrate("1")
def _(args):
    given.append(dict(args))
    return {"n": args["n"], "b": args["a"].upper(), "c": 7}
"""
    )
    assert cs.run(new.agent(3, "x"), run_id="r", store=store) == [0, "X", 7]
    assert new.given == [{"n": 1, "a": "x"}]


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("version='1'", "version='2'", r"had the version '1', and now it has '2'.*migrate\('1'\)"),
        ("", "version='2'", r"had no version, and now it has '2'.*migrate\(None\)"),
        ("version='1'", "", r"had the version '1', and now it has none"),
    ],
)
def test_another_version_without_a_migration_is_refused(
    store: RunStore, deploy: Deploy, before: str, after: str, text: str
) -> None:
    old = deploy(_agent(options=before, fails="True"))
    _interrupted(old, store, old.agent(3, "x"))
    new = deploy(_agent(options=after))
    with pytest.raises(CodeChangedError, match=f"task 'agent' .*{text}") as caught:
        cs.run(new.agent(3, "x"), run_id="r", store=store)
    assert caught.value.task == "agent"
    again = deploy(_agent(options=before))  # the old code can still finish it
    assert cs.run(again.agent(3, "x"), run_id="r", store=store) == [0, "x"]


PLAN = """
@cs.task
def fragile(x):
    if {fails}:
        raise OSError("no network")
    return x

@cs.task({options})
def part({parameters}):
    return {result}

@cs.task
def plan(x):
    return part(fragile(x), 2)
"""


def test_a_call_in_a_returned_graph_is_migrated(store: RunStore, deploy: Deploy) -> None:
    text = PLAN.format(fails="True", options="version='1'", parameters="x, y", result="x, y")
    old = deploy(text)
    _interrupted(old, store, old.plan(1))
    text = PLAN.format(fails="False", options="version='2'", parameters="both", result="both")
    migration = '\n@part.migrate("1")\ndef _(args):\n    return {"both": [args["x"], args["y"]]}\n'
    new = deploy(text + migration)
    assert cs.run(new.plan(1), run_id="r", store=store) == [1, 2]


def test_a_call_in_a_returned_graph_with_another_version_is_refused(
    store: RunStore, deploy: Deploy
) -> None:
    text = PLAN.format(fails="True", options="", parameters="x, y", result="x, y")
    old = deploy(text)
    _interrupted(old, store, old.plan(1))
    new = deploy(PLAN.format(fails="False", options="version='2'", parameters="x, y", result="x"))
    with pytest.raises(CodeChangedError, match="'part' was stored when that had no version"):
        cs.run(new.plan(1), run_id="r", store=store)


def test_a_migration_has_to_return_arguments(store: RunStore, deploy: Deploy) -> None:
    old = deploy(_agent(fails="True"))
    _interrupted(old, store, old.agent(3, "x"))
    new = deploy(_agent(options="version='2'") + "\nagent.migrate(None)(lambda args: None)\n")
    with pytest.raises(CodeChangedError, match="return the arguments by name, as a dict"):
        cs.run(new.agent(3, "x"), run_id="r", store=store)


@cs.task(version="2")
def versioned(x: int) -> int:
    return x


@versioned.migrate("1")
def _first(args: dict[str, Any]) -> dict[str, Any]:
    return args


@pytest.mark.parametrize(("version", "text"), [("1", "is a function"), ("2", "version now")])
def test_a_version_has_one_migration(version: str, text: str) -> None:
    with pytest.raises(DefinitionError, match=text):
        versioned.migrate(version)


@pytest.mark.parametrize("version", [2, ""])
def test_a_version_is_a_text(version: Any) -> None:
    with pytest.raises(DefinitionError, match="a version is a text such as '2'"):
        cs.task(version=version)(lambda x: x)
    with pytest.raises(DefinitionError, match="a version is a text such as '2'"):
        versioned.migrate(version)


# -- parameters -----------------------------------------------------------------------------------


def test_a_new_parameter_with_a_default_goes_on(store: RunStore, deploy: Deploy) -> None:
    old = deploy(_agent(fails="True"))
    _interrupted(old, store, old.agent(3, "x"))
    new = deploy(_agent(parameters="a, b=5", result="a, b", given="a, b"))
    assert cs.run(new.agent(3, "x"), run_id="r", store=store) == [0, "x", 5]


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"parameters": "a, b", "given": "a, b"}, "its new parameter 'b' has no default"),
        ({"parameters": "b=0", "result": "b", "given": "b"}, "no longer takes the argument 'a'"),
    ],
)
def test_other_parameters_are_refused(
    store: RunStore, deploy: Deploy, parts: dict[str, str], text: str
) -> None:
    old = deploy(_agent(fails="True"))
    _interrupted(old, store, old.start("x"))
    new = deploy(_agent(**parts))
    with pytest.raises(CodeChangedError, match=f"task 'agent' .*{text}"):
        cs.run(new.start("x"), run_id="r", store=store)


@pytest.mark.parametrize("parameters", ["x", "x, y, z", "*, x, y"])
def test_a_call_in_a_returned_graph_has_to_fit(
    store: RunStore, deploy: Deploy, parameters: str
) -> None:
    old = deploy(PLAN.format(fails="True", options="", parameters="x, y", result="x, y"))
    _interrupted(old, store, old.plan(1))
    new = deploy(PLAN.format(fails="False", options="", parameters=parameters, result="x"))
    with pytest.raises(CodeChangedError, match="call of task 'part' does not fit it any more"):
        cs.run(new.plan(1), run_id="r", store=store)


# -- code -----------------------------------------------------------------------------------------

PRICES = """
RATE = {rate}
cache = {{}}

def scaled(x):
    cache[x] = True
    return x * RATE

@cs.task
def price(x):
    return scaled(x)

@cs.task
def total(prices):
    if {fails}:
        raise OSError("no network")
    return prices{more}

@cs.task
def done(x):
    return {done}
"""


def _prices(rate: float, fails: bool = False, more: str = "", done: str = "x") -> str:
    return PRICES.format(rate=rate, fails=fails, more=more, done=done)


def _resumed(store: RunStore, target: Any, **options: Any) -> tuple[Any, list[events.CodeChanged]]:
    seen: list[events.CodeChanged] = []

    async def main() -> Any:
        async with cs.Engine(store=store, **options) as engine:
            engine.bus.subscribe(events.CodeChanged, seen.append)
            return await engine.run(target, run_id="r")

    return asyncio.run(main()), seen


def _began(store: RunStore, deploy: Deploy) -> None:
    """A run in which ``price`` has its value, and ``total`` has failed."""
    old = deploy(_prices(2, fails=True))
    _interrupted(old, store, old.total([old.price(1), old.done(0)]))


def test_new_code_of_what_is_left_is_told_once(
    store: RunStore, deploy: Deploy, caplog: pytest.LogCaptureFixture
) -> None:
    _began(store, deploy)
    new = deploy(_prices(2, more="[0]"))
    value, seen = _resumed(store, new.total([new.price(1), new.done(0)]))
    assert value == 2
    (event,) = seen
    assert event.run_id == "r"
    assert event.changes == {"deployed:total": ["deployed:total changed"]}
    (warning,) = [r for r in caplog.records if r.name == "cascade.durable"]
    assert warning.levelno == logging.WARNING
    assert "'r' goes on with new code: task deployed:total (deployed:total changed)" in (
        warning.getMessage()
    )


def test_new_code_of_what_a_task_uses_is_told(store: RunStore, deploy: Deploy) -> None:
    old = deploy(_prices(2) + "\n@cs.task\ndef bad(x): raise OSError('no network')\n")
    _interrupted(old, store, old.price(old.bad(1)))
    new = deploy(_prices(3) + "\n@cs.task\ndef bad(x): return x\n")
    value, (event,) = _resumed(store, new.price(new.bad(1)))
    assert value == 3
    assert event.changes["deployed:price"] == [
        "deployed:RATE (value) changed, used by deployed:price -> deployed:scaled"
    ]
    assert set(event.changes) == {"deployed:price", "deployed:bad"}


def test_new_code_of_what_is_done_is_not_told(store: RunStore, deploy: Deploy) -> None:
    _began(store, deploy)
    new = deploy(_prices(3, fails=True, done="2 * x"))
    target = new.total([new.price(1), new.done(0)])
    with pytest.raises(OSError, match="no network"):
        _resumed(store, target, on_code_change="refuse")
    value, seen = _resumed(store, _retold(deploy))
    assert value == [2, 0]
    assert [set(event.changes) for event in seen] == [{"deployed:total"}]


def _retold(deploy: Deploy) -> Any:
    new = deploy(_prices(3, done="2 * x"))
    return new.total([new.price(1), new.done(0)])


def test_the_same_code_is_not_told_although_the_program_has_changed_values(
    store: RunStore, deploy: Deploy
) -> None:
    old = deploy(_prices(2, fails=True))
    old.cache[99] = True
    _interrupted(old, store, old.price(old.total(1)))
    same = deploy("# a comment\n" + _prices(2, fails=True))
    with pytest.raises(OSError, match="no network"):
        _resumed(store, same.price(same.total(1)), on_code_change="refuse")


def test_new_code_is_refused_and_the_old_code_can_go_on(store: RunStore, deploy: Deploy) -> None:
    _began(store, deploy)
    new = deploy(_prices(2, more="[0]"))
    target = new.total([new.price(1), new.done(0)])
    with pytest.raises(CodeChangedError, match=r"run 'r' began with other code.*total changed"):
        _resumed(store, target, on_code_change="refuse")
    (run,) = store.runs()
    assert run.status is RunStatus.ENQUEUED
    old = deploy(_prices(2, fails=True))
    with pytest.raises(OSError, match="no network"):
        _resumed(store, old.total([old.price(1), old.done(0)]), on_code_change="refuse")


# -- computing again ------------------------------------------------------------------------------

STEPS = """
called = []

@cs.task
def price(x):
    called.append("price")
    return {price}

@cs.task
def other(x):
    called.append("other")
    return x

@cs.task
def both(x, y):
    called.append("both")
    return x, y

@cs.task
def plan(x):
    called.append("plan")
    return both(price(x), {planned})

@cs.task
async def agent(left, *found):
    called.append("agent")
    return list(found) if left == 0 else agent.tail(left - 1, *found, {found})

@cs.task
def last(x):
    called.append("last")
    if {fails}:
        raise OSError("no network")
    return x
"""


def _steps(deploy: Deploy, **parts: Any) -> Any:
    given = {"price": "2 * x", "planned": "other(x)", "found": "other(left)", "fails": False}
    return deploy(STEPS.format(**(given | parts)))


def _again(store: RunStore, target: Any, use_vm: bool) -> tuple[Any, list[events.CodeChanged]]:
    seen: list[events.CodeChanged] = []

    async def main() -> Any:
        async with cs.Engine(store=store, on_code_change="recompute") as engine:
            engine.bus.subscribe(events.CodeChanged, seen.append)
            return await engine.run(target, run_id="r", use_vm=use_vm)

    return asyncio.run(main()), seen


@pytest.mark.parametrize("use_vm", [False, True])
def test_what_old_code_has_computed_is_computed_again_once(
    store: RunStore, deploy: Deploy, use_vm: bool
) -> None:
    """With all that needs it, and nothing else; a crash does not do it for the second time."""
    old = _steps(deploy, fails=True)
    _interrupted(old, store, old.last(old.both(old.price(1), old.other(1))))
    new = _steps(deploy, price="3 * x", fails=True)
    with pytest.raises(OSError, match="no network"):
        _again(store, new.last(new.both(new.price(1), new.other(1))), use_vm)
    assert new.called == ["price", "both", "last"]
    third = _steps(deploy, price="3 * x")
    value, (event,) = _again(store, third.last(third.both(third.price(1), third.other(1))), use_vm)
    assert value == (3, 1)
    assert third.called == ["last"]
    assert set(event.changes) == {"deployed:last"}
    run = store.find("r")
    assert run is not None
    assert not store.load(run.number).records


@pytest.mark.parametrize("use_vm", [False, True])
def test_a_returned_graph_of_old_code_is_made_again(
    store: RunStore, deploy: Deploy, use_vm: bool
) -> None:
    old = _steps(deploy, planned="last(x)", fails=True)
    _interrupted(old, store, old.plan(1))
    new = _steps(deploy, planned="last(x + 1)")
    assert _again(store, new.plan(1), use_vm)[0] == (2, 2)
    assert sorted(new.called) == ["both", "last", "plan", "price"]


@pytest.mark.parametrize("use_vm", [False, True])
def test_an_agent_goes_on_at_its_step_and_makes_its_calls_again(
    store: RunStore, deploy: Deploy, use_vm: bool
) -> None:
    old = _steps(deploy, found="both(price(left), last(left)) if left == 1 else price(left)",
                 fails=True)  # fmt: skip
    _interrupted(old, store, old.agent(3))
    new = _steps(deploy, price="100 * x", found="price(left)")
    assert _again(store, new.agent(3), use_vm)[0] == [6, 4, (100, 1)]
    assert sorted(new.called) == ["agent", "both", "last", "price"]


def test_all_is_computed_again_of_a_target_that_is_not_stored(
    store: RunStore, deploy: Deploy
) -> None:
    class Opaque:
        pass

    old = _steps(deploy, fails=True)
    _interrupted(old, store, old.last(old.both(old.price(1), old.other(Opaque()))))
    new = _steps(deploy, price="3 * x")
    target = new.last(new.both(new.price(1), new.other(Opaque())))
    assert _again(store, target, False)[0][0] == 3
    assert sorted(new.called) == ["both", "last", "other", "price"]


def test_an_unknown_policy_is_refused() -> None:
    options: Any = {"on_code_change": "ignore"}
    with pytest.raises(ArgumentError, match="on_code_change must be 'warn', 'refuse'"):
        cs.Engine(store="memory:", **options)


def test_a_run_without_a_store_looks_at_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from cascade.graph import running_code

    def never(_task: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(running_code, "code_hash", never)
    assert cs.run(versioned(1)) == 1
