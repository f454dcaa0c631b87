"""``cs.explain_cache``: hits, and what has changed for the other nodes, down to the line."""

from __future__ import annotations

import sys
import types

import pytest

import cascade as cs
from cascade.spec.errors import ArgumentError

HELPERS = """\
FACTOR = 2


def factor():
    return FACTOR


def scale(x):
    return x * factor()


class Model:
    rate = 1

    def fit(self, x):
        return x * self.rate
"""
FLOW = """\
import cascade as cs
import explained_helpers as helpers


class HttpClient:
    pass


client = HttpClient()


@cs.task(pure=True)
def load(n):
    return [n, n + 1]


@cs.task(pure=True)
def clean(rows, by=1):
    return [helpers.scale(row) * by for row in rows]


@cs.task(pure=True)
def fitted(rows):
    return [helpers.Model().fit(row) for row in rows]


@cs.task(pure=True)
def total(rows):
    client
    return sum(rows)


@cs.task
def publish(value):
    return value


def report(n=1):
    return publish(total(clean(load(n))))
"""


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def cache(clock):
    return cs.ByCode("memory:", now=clock)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Imports the flow, with edits: file, old, new."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def load(*edits):
        made = {}
        for name, text in (("explained_helpers", HELPERS), ("explained_flow", FLOW)):
            for file, old, new in edits:
                if file == name:
                    assert old in text
                    text = text.replace(old, new, 1)
            path = tmp_path / f"{name}.py"
            path.write_text(text)
            module = types.ModuleType(name)
            module.__file__ = str(path)
            monkeypatch.setitem(sys.modules, name, module)
            exec(compile(text, str(path), "exec"), vars(module))
            made[name] = module
        return made["explained_flow"]

    return load


HELP, FLOWS = "explained_helpers", "explained_flow"


def lines(explanation):
    """Task → status and reason; the tasks that are alike together."""
    return {node.task: (node.status, node.reason) for node in explanation.nodes}


def test_at_first_all_is_computed(load, cache):
    told = cs.explain_cache(load().report(), cache=cache)

    assert str(told) == (
        "load     computed     the cache has no value of this task\n"
        "clean    computed     it needs the value of 'load', which is computed\n"
        "total    computed     it needs the value of 'clean', which is computed\n"
        "publish  no cache     it is called in each run\n"
        "         not tracked  explained_flow:client (HttpClient)"
    )


def test_after_a_run_all_are_hits(load, cache, clock):
    flow = load()
    cs.run(flow.report(), cache=cache)
    clock.seconds += 7200 + 60
    told = cs.explain_cache(flow.report(), cache=cache)

    assert str(told) == (
        "load     hit          computed 2 h 1 min ago\n"
        "clean    hit          computed 2 h 1 min ago\n"
        "total    hit          computed 2 h 1 min ago\n"
        "publish  no cache     it is called in each run\n"
        "         not tracked  explained_flow:client (HttpClient)"
    )


EDITS = [
    ((HELP, "x * factor()", "x + factor()"), "clean", "explained_helpers.scale changed "
     "(explained_helpers.py:8), used by explained_flow.clean"),
    ((HELP, "return FACTOR", "return FACTOR + 1"), "clean", "explained_helpers.factor changed "
     "(explained_helpers.py:4), used by explained_flow.clean -> explained_helpers.scale"),
    ((HELP, "FACTOR = 2", "FACTOR = 3"), "clean", "explained_helpers.FACTOR changed "
     "(explained_helpers.py:1), used by explained_flow.clean -> explained_helpers.scale -> "
     "explained_helpers.factor"),
    ((FLOWS, "return [n, n + 1]", "return [n, n + 2]"), "load", "explained_flow.load changed "
     "(explained_flow.py:12)"),
    ((FLOWS, "def load(n):", "def load(n, m=3):"), "load", "explained_flow.load changed "
     "(explained_flow.py:12); explained_flow.load (default 0) is new (explained_flow.py:12), "
     "used by explained_flow.load"),
    ((HELP, "return x * self.rate", "return x"), "fitted", "explained_helpers.Model.fit changed "
     "(explained_helpers.py:15), used by explained_flow.fitted -> explained_helpers.Model"),
    ((HELP, "rate = 1", "rate = 2"), "fitted", "explained_helpers.Model.rate changed "
     "(explained_helpers.py:13), used by explained_flow.fitted -> explained_helpers.Model"),
    ((FLOWS, "sum(rows)", "max(rows)"), "total", "explained_flow.total changed "
     "(explained_flow.py:27)"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "task", "reason"), EDITS, ids=[e[0][2] for e in EDITS])
def test_an_edit_is_told_with_its_line_and_the_way_to_it(load, cache, edit, task, reason):
    flow = load()
    cs.run([flow.report(), flow.fitted(flow.load(1))], cache=cache)
    flow = load(edit)
    told = lines(cs.explain_cache([flow.report(), flow.fitted(flow.load(1))], cache=cache))

    assert told[task] == ("computed", reason)
    expected = {"load": {"clean", "total", "fitted"}, "clean": {"total"}}.get(task, set()) | {task}
    assert {name for name, (status, _) in told.items() if status == "computed"} == expected


def test_an_argument_that_changed_is_named(load, cache):
    flow = load()
    cs.run([flow.clean([1]), flow.clean([2], by=3)], cache=cache)

    told = cs.explain_cache([flow.clean([1], by=3), flow.clean([9], by=3)], cache=cache)
    assert lines(told) == {"clean": ("computed", "its argument 'rows' changed")}
    told = cs.explain_cache(flow.clean([8], by=8), cache=cache)
    assert lines(told)["clean"] == ("computed", "its arguments 'by' and 'rows' changed")


def test_a_file_that_changed_is_an_argument_that_changed(load, cache, tmp_path):
    flow, path = load(), tmp_path / "data.txt"
    path.write_text("one")
    cs.run(flow.load(1), cache=cache)

    @cs.task(pure=True)
    def read(source):
        with open(source) as file:
            return file.read()

    cs.run(read(cs.FileContent(path)), cache=cache)
    path.write_text("two")
    told = cs.explain_cache(read(cs.FileContent(path)), cache=cache)
    assert lines(told) == {"read": ("computed", "its argument 'source' changed")}


def test_an_entry_that_has_ended_is_told(load, clock):
    flow, brief = load(), cs.ByCode("memory:", ttl=60, now=clock)
    cs.run(flow.load(1), cache=brief)
    clock.seconds += 61

    assert lines(cs.explain_cache(flow.load(1), cache=brief)) == {
        "load": ("computed", "expired 1.0 s ago")
    }


def test_a_node_with_equal_inputs_is_a_hit_whatever_computed_them(load, cache):
    """Early cut-off: what its inputs are made of has changed, and their values have not."""
    flow = load()
    cs.run([flow.load(1), flow.total([4, 2])], cache=cache)

    told = cs.explain_cache([flow.total([flow.load(1)[0] * 4, 2])], cache=cache)
    assert lines(told)["total"][0] == "hit"


def test_what_only_hits_need_is_not_needed(load, cache):
    flow = load()
    cs.run(flow.report(), cache=cache)
    cache.entries.clear("explained_flow:load")

    told = lines(cs.explain_cache(flow.report(), cache=cache))
    assert told["load"] == ("not needed", "all that needs it is a hit")
    assert told["clean"][0] == told["total"][0] == "hit"


def test_nodes_that_are_alike_are_told_together(load, cache):
    flow = load()
    cs.run([flow.load(n) for n in range(3)], cache=cache)
    told = cs.explain_cache([flow.load(n) for n in range(5)], cache=cache)

    assert str(told) == (
        "load  3 ×  hit       computed 0 µs ago\n"
        "load  2 ×  computed  its argument 'n' changed, such as 3"
    )


def test_items_of_a_map_are_told_each_for_itself(load, cache):
    flow = load()
    cs.run(flow.load.map(n=[1, 2]), cache=cache)
    told = cs.explain_cache(flow.clean.map(rows=flow.load.map(n=[1, 2, 3])), cache=cache)

    assert [(node.task, node.status, node.count) for node in told.nodes] == [
        ("load", "hit", 2),
        ("load", "computed", 1),
        ("clean", "computed", 1),
    ]
    assert told.nodes[2].reason == "it needs the value of 'load', which is computed"


def test_the_list_of_a_map_is_known_if_all_its_items_are_hits(load, cache):
    flow = load()
    target = flow.clean.map(rows=flow.load.map(n=[1, 2]))
    cs.run(target, cache=cache)

    told = cs.explain_cache(target, cache=cache)
    assert [(node.task, node.status, node.count) for node in told.nodes] == [
        ("load", "hit", 2),
        ("clean", "hit", 2),
    ]


def test_params_have_their_values(load, cache):
    flow = load()
    target = flow.load(cs.Param("n", type=int))
    cs.run(target, {"n": 4}, cache=cache)

    assert lines(cs.explain_cache(target, {"n": 4}, cache=cache))["load"][0] == "hit"
    assert lines(cs.explain_cache(target, {"n": 5}, cache=cache))["load"] == (
        "computed",
        "its argument 'n' changed",
    )
    assert lines(cs.explain_cache(target, cache=cache))["load"] == (
        "computed",
        "it needs the value of 'param n', which is computed",
    )


def test_other_caches_are_asked_in_a_run(load):
    told = cs.explain_cache(load().load(1).with_cache(cs.LRUCache()))

    (node,) = told.nodes
    assert node.status == "unknown"
    assert "ByArguments" in node.reason


def test_another_python_is_told(load, cache, monkeypatch):
    flow = load()
    cs.run(flow.load(1), cache=cache)
    flow = load()
    monkeypatch.setattr("importlib.util.MAGIC_NUMBER", b"\x01\x02")

    (status, reason) = lines(cs.explain_cache(flow.load(1), cache=cache))["load"]
    assert status == "computed"
    assert reason.startswith("it was computed by cpython with the bytecode ")
    assert reason.endswith(", and this is cpython with the bytecode 0102")


def test_an_argument_without_content_is_told(load, cache):
    flow = load()
    (status, reason) = lines(cs.explain_cache(flow.load(object()), cache=cache))["load"]

    assert status == "computed"
    assert "the argument 'n' cannot be part of a cache key: it is a object" in reason


def test_nothing_is_called(load, cache):
    flow = load((FLOWS, "return [n, n + 1]", "raise AssertionError(n)"))

    cs.explain_cache(flow.report(), cache=cache)


@pytest.mark.parametrize("target", [3, "text", [1]])
def test_a_target_without_a_lazy_value_is_refused(target):
    with pytest.raises(ArgumentError, match="explain_cache\\(\\) takes a lazy value, but got"):
        cs.explain_cache(target)


def test_a_target_without_tasks_has_nothing_to_explain():
    assert str(cs.explain_cache(cs.Param("n"))) == "it calls no task"
