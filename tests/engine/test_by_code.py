"""``cs.ByCode`` on both paths: what is called again, what is loaded, and what is refused (R10)."""

from __future__ import annotations

import dataclasses
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pydantic
import pytest

import cascade as cs
from cascade.adapters.cache.sql_entries import SqlEntries
from cascade.runtime.events import NodesPlanned, TaskCached, TaskStarted
from cascade.spec import file_content
from cascade.spec.errors import ArgumentError
from cascade.testing import run_virtually


class Calls:
    """Counts calls; it has no content, so that the count is no part of a key."""

    def __init__(self):
        self.made = []

    def __call__(self, name):
        self.made.append(name)

    def taken(self):
        made, self.made = self.made, []
        return made


calls = Calls()


@pytest.fixture(autouse=True)
def no_calls():
    calls.taken()


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/cache.db"


@pytest.fixture(params=["graph", "vm"])
def run(request, url):
    """Runs a target with the cache for pure tasks; its value, and the names of the calls made."""

    def run(target, params=None, cache=url, **options):
        use_vm = request.param == "vm"
        value = cs.run(target, params, use_vm=use_vm, cache=cache, **options)
        return value, calls.taken()

    return run


@cs.task(pure=True)
def double(n):
    calls("double")
    return n * 2


@cs.task(pure=True)
def total(numbers):
    calls("total")
    return sum(numbers)


@cs.task(pure=True)
def parity(n):
    calls("parity")
    return n % 2


@cs.task(pure=True)
def describe(word):
    calls("describe")
    return f"it is {word}"


@cs.task
def effect(n):
    calls("effect")
    return n


# -- what is called --------------------------------------------------------------------------------


def test_the_second_run_calls_nothing(run):
    target = [double(1), total([double(1), double(2)])]

    assert run(target) == ([2, 6], ["double", "double", "total"])
    assert run(target) == ([2, 6], [])


def test_one_path_finds_what_the_other_has_kept(url):
    target = total([double(1), double(2)])

    assert cs.run(target, cache=url) == cs.run(target, cache=url, use_vm=True) == 6
    assert calls.taken() == ["double", "double", "total"]


def test_only_what_depends_on_the_changed_argument_is_called(run):
    assert run(total([double(n) for n in range(5)])) == (20, ["double"] * 5 + ["total"])
    assert run(total([double(n) for n in [0, 1, 2, 3, 9]])) == (30, ["double", "total"])


def test_without_a_cache_pure_tasks_are_called_each_time(run):
    assert run(double(1), cache=None) == (2, ["double"])
    assert run(double(1), cache=None) == (2, ["double"])


def test_tasks_that_are_not_pure_are_called_each_time(run):
    assert run(double(effect(1))) == (2, ["effect", "double"])
    assert run(double(effect(1))) == (2, ["effect"])


def test_a_node_may_have_a_cache_of_its_own_or_none(run, tmp_path):
    own = cs.ByCode("memory:")
    for made in (["double"], []):
        assert run(double(1).with_cache(own), cache=None) == (2, made)
    for _ in range(2):
        assert run(double(1).with_cache(None)) == (2, ["double"])


def test_a_node_that_is_computed_again_with_an_equal_value_stops_there(run):
    """Early cut-off."""
    assert run(describe(parity(double(3) + 1)))[1] == ["double", "parity", "describe"]
    assert run(describe(parity(double(4) + 1)))[1] == ["double", "parity"]


def test_an_unchanged_graph_loads_one_value(run, url, monkeypatch):
    target = total([double(n) for n in range(50)])
    run(target)
    loads = []
    got = SqlEntries._got
    monkeypatch.setattr(SqlEntries, "_got", lambda *given: loads.append(1) or got(*given))

    assert run(target) == (2450, [])
    assert len(loads) == 1


def test_a_changed_graph_loads_what_the_changed_nodes_need(run, monkeypatch):
    numbers = [total([double(n), double(n + 100)]) for n in range(5)]
    run(total(numbers))
    loads = []
    got = SqlEntries._got
    monkeypatch.setattr(SqlEntries, "_got", lambda *given: loads.append(1) or got(*given))
    changed = [*numbers[:4], total([double(4), double(999)])]

    value, made = run(total(changed))
    expected = sum(2 * n + 2 * (n + 100) for n in range(4)) + 8 + 1998
    assert (value, sorted(made)) == (expected, ["double", "total", "total"])
    # The values of four sums and of one double.
    assert len(loads) == 4 + 1


def test_params_count_by_their_values(run):
    target = double(cs.Param("n", type=int))

    assert run(target, {"n": 2}) == (4, ["double"])
    assert run(target, {"n": 3}) == (6, ["double"])
    assert run(target, {"n": 2}) == (4, [])


def test_items_of_a_map_are_cached_each_for_itself(run):
    assert run(total(double.map(n=[1, 2, 3])))[1] == ["double"] * 3 + ["total"]
    assert run(total(double.map(n=[1, 2, 3])))[1] == []
    assert run(total(double.map(n=[1, 2, 4])))[1] == ["double", "total"]


def test_operators_and_parts_of_values_are_looked_through(run):
    target = lambda n: total([double(n) + 1, {"a": double(n)}["a"], double([n, 7])[1]])  # noqa: E731

    assert len(run(target(3))[1]) == 3
    assert run(target(3))[1] == []


@cs.task(pure=True)
def flaky(n):
    calls("flaky")
    raise ValueError(n)


def test_failures_are_not_kept(run):
    for _ in range(2):
        with pytest.raises(ValueError, match="1"):
            run(flaky(1))
        assert calls.taken() == ["flaky"]


def test_what_catches_an_error_is_called_again_with_it(run):
    """Its value would else outlive the failure."""
    for made in (["flaky", "double"], ["flaky"]):
        assert run(double(flaky(1).catch(ValueError, 5))) == (10, made)


def test_a_skipped_node_is_not_kept(run):
    target = lambda on: double(1).run_if(effect(on)).or_else(0)  # noqa: E731

    assert run(target(False)) == (0, ["effect"])
    assert run(target(True)) == (2, ["effect", "double"])
    assert run(target(True)) == (2, ["effect"])
    assert run(target(False)) == (0, ["effect"])


@cs.task(pure=True)
def countdown(n, sum=0):
    calls("countdown")
    return countdown.tail(n - 1, sum + n) if n else sum


@cs.task(pure=True)
def grows(n):
    calls("grows")
    return total([double(n), double(n + 1)])


def test_a_loop_and_a_graph_that_a_task_returns_are_one_value(run):
    assert run([countdown(3), grows(1)])[0] == [6, 6]
    assert run([countdown(3), grows(1)]) == ([6, 6], [])
    assert run(grows(2)) == (10, ["grows", "double", "total"])


shared = double(21)


@cs.task
def returns_shared(_):
    calls("returns_shared")
    return shared


def test_a_lazy_value_that_was_left_out_is_found_when_a_task_returns_it(run):
    """M14: it belongs to the graph, but a hit above it has kept it out of the run."""
    target = [total([shared]), returns_shared(1)]

    assert run(target)[0] == [42, 42]
    assert run(target) == ([42, 42], ["returns_shared"])


def test_equal_calls_of_one_run_are_made_once(run):
    assert run([double(5), double(5), double(n=5)]) == ([10, 10, 10], ["double"])


def test_a_cached_target_may_be_a_coroutine(run):
    @cs.task(pure=True)
    async def later(n):
        calls("later")
        return n + 1

    assert run(total([later(1), later(2)])) == (5, ["later", "later", "total"])
    assert run(total([later(1), later(2)])) == (5, [])


def test_a_program_that_was_compiled_finds_its_values(url):
    async def main():
        async with cs.Engine(cache=url) as engine:
            program = engine.compile(total([double(1), double(2)]))
            values = [await program.run(), await program.run()]
        return values, calls.taken()

    import asyncio

    values, made = asyncio.run(main())
    assert (values, sorted(made)) == ([6, 6], ["double", "double", "total"])


def test_events_say_what_came_from_the_cache(url):
    from cascade.runtime.bus import MessageBus

    bus, seen = MessageBus(), []
    for kind in (TaskCached, TaskStarted):
        bus.subscribe(kind, lambda event: seen.append((type(event).__name__, event.task)))
    bus.subscribe(NodesPlanned, lambda event: seen.append(("NodesPlanned", event.count)))
    cs.run(total([double(1), double(2)]), cache=url)
    cs.run(total([double(1), double(2)]), cache=url, bus=bus)
    cs.run(total([double(1), double(3)]), cache=url, bus=bus)

    assert seen[:2] == [("TaskCached", "total"), ("NodesPlanned", 1)] or seen[:2] == [
        ("NodesPlanned", 1),
        ("TaskCached", "total"),
    ]
    assert ("TaskCached", "double") in seen[2:]
    assert [name for kind, name in seen[2:] if kind == "TaskStarted"] == ["double", "total"]


def test_a_state_backend_gets_every_value(url):
    from cascade.adapters.state.memory import InMemoryStateBackend

    inner = double(1)
    cs.run(total([inner]), cache=url)
    state = InMemoryStateBackend()
    cs.run(total([inner]), cache=url, state_backend=state)

    assert state.get_result(inner.id) == 2
    assert calls.taken() == ["double", "total"]


# -- arguments and values --------------------------------------------------------------------------


@dataclasses.dataclass
class Job:
    name: str
    parts: list[int]


class Model(pydantic.BaseModel):
    x: int
    y: list[float] = []


@cs.task(pure=True)
def same(value):
    calls("same")
    return value


VALUES: list[Any] = [
    float("nan"),
    [1, (2, {3}), {"a": {4: b"5"}}],
    Job("a", [1]),
    Model(x=1, y=[2.5]),
    np.arange(6.0).reshape(2, 3),
    np.float32(2.5),
    pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.to_datetime(["2020", "2021"])}),
    pd.Series([1.5, float("nan")], index=["a", "b"], name="s"),
    pl.DataFrame({"a": [1, None], "b": ["x", "y"], "c": [[1], [2, 3]]}),
    pl.Series("s", [1.5, None]),
]


@pytest.mark.parametrize("value", VALUES, ids=[type(value).__name__ for value in VALUES])
def test_a_value_counts_by_content_and_comes_back(value, url):
    kept = cs.run(same(value), cache=url)
    again = cs.run(same(pickle.loads(pickle.dumps(value))), cache=url)

    assert calls.taken() == ["same"]
    assert type(again) is type(kept)
    assert cs.ByCode(url).key(same, {"value": again}) == cs.ByCode(url).key(same, {"value": value})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([1, 2]), np.array([1, 2], dtype="int32")),
        (np.array([1, 2]), np.array([[1, 2]])),
        (np.array([1.0]), np.array([np.nan])),
        (np.array([1, 2]), [1, 2]),
        (np.array(["a", None], dtype=object), np.array(["a", 0], dtype=object)),
        (np.float64(1), 1.0),
        (np.float64(1), np.array(1.0)),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]}, index=[5])),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1.0]})),
        (pd.DataFrame({"a": ["x", None]}), pd.DataFrame({"a": ["x", "None"]})),
        (pd.Series([1], name="a"), pd.Series([1], name="b")),
        (pd.Series([1, 2]).astype("category"), pd.Series([1, 2])),
        (pd.Timestamp("2020"), pd.Timestamp("2020", tz="UTC")),
        (pd.NA, pd.NaT),
        (pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]})),
        (pl.DataFrame({"a": [1, None]}), pl.DataFrame({"a": [None, 1]})),
        (pl.Series("a", [1]), pl.Series("a", [1], dtype=pl.Int8)),
        (Model(x=1), Model(x=2)),
        (Job("a", [1]), Job("a", [True])),
    ],
)
def test_values_that_differ_have_other_keys(one, other):
    cache = cs.ByCode("memory:")

    assert cache.key(same, {"value": one}) != cache.key(same, {"value": other})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.arange(6).reshape(2, 3).T.copy(), np.arange(6).reshape(2, 3).T),
        (np.arange(9)[::2], np.array([0, 2, 4, 6, 8])),
        (np.array([1, 2], dtype=">i8"), np.array([1, 2], dtype="<i8")),
        (pd.DataFrame({"a": [1, 2, 3]})[1:].reset_index(drop=True), pd.DataFrame({"a": [2, 3]})),
        (pl.DataFrame({"a": ["x", "y"]})[1:], pl.DataFrame({"a": ["y"]})),
        (pl.concat([pl.Series([1]), pl.Series([2])]), pl.Series([1, 2])),
    ],
)
def test_how_a_library_lays_a_value_out_makes_no_difference(one, other):
    cache = cs.ByCode("memory:")

    assert cache.key(same, {"value": one}) == cache.key(same, {"value": other})


class Client:
    """It has no content."""


def test_an_argument_without_content_is_refused_with_its_place(run):
    value = {"jobs": [1, Job("a", [2, Client()])]}
    message = (
        r"task 'same': the argument 'value' cannot be part of a cache key: it holds a Client, a "
        r"type whose content is not defined; define it with cs.digestible "
        r"\(at value\['jobs'\]\[1\]\.parts\[1\]\); leave it out with ignore=\{'value'\}"
    )
    with pytest.raises(ArgumentError, match=message):
        run(same(value))


def test_content_may_be_defined_for_a_class():
    class Vector:
        def __init__(self, x):
            self.x = x

    cs.digestible(Vector, lambda vector: vector.x)
    cache = cs.ByCode("memory:")

    assert cache.key(same, {"value": Vector(1)}) == cache.key(same, {"value": Vector(1)})
    assert cache.key(same, {"value": Vector(1)}) != cache.key(same, {"value": Vector(2)})


def test_the_code_of_functions_among_the_arguments_counts():
    cache = cs.ByCode("memory:")
    keys = [
        cache.key(same, {"value": {"how": [function]}})
        for function in (lambda n: n + 1, lambda n: n + 1, lambda n: n + 2)
    ]

    assert keys[0] == keys[1] != keys[2]


_MARK = object()


@cs.task(pure=True)
def with_mark(n, default=_MARK, log=None):
    calls("with_mark")
    return n if default is _MARK else default


def test_a_default_without_content_is_a_default(run):
    for made in (["with_mark"], []):
        assert run(with_mark(1)) == (1, made)


def test_ignored_arguments_make_no_difference(run):
    cache = cs.ByCode("memory:", ignore={"log"})
    for log, made in ((Client(), ["with_mark"]), (Client(), []), (None, [])):
        assert run(with_mark(1, log=log).with_cache(cache)) == (1, made)


def test_functions_of_a_factory_differ_by_their_variables(run):
    def times(factor):
        @cs.task(pure=True)
        def scale(n):
            calls("scale")
            return n * factor

        return scale

    for made in (["scale", "scale"], []):
        assert run([times(2)(5), times(3)(5)]) == ([10, 15], made)
    with pytest.raises(ArgumentError, match="the variable 'factor' of its closure cannot be part"):
        run(times(Client())(5))


def test_a_value_that_cannot_be_stored_is_computed_each_time(run, caplog):
    @cs.task(pure=True)
    def client(n):
        calls("client")
        return Client()

    with caplog.at_level(logging.WARNING, "cascade.cache"):
        for _ in range(2):
            assert run([client(1), client(2)])[1] == ["client", "client"]
    warned = [r.getMessage() for r in caplog.records if "are not cached" in r.getMessage()]
    assert len(warned) == 2  # one for each of the two engines, which have a cache each
    assert "has no stored form" in warned[0]


def test_a_value_that_cannot_be_read_is_computed_again(run, url, caplog):
    assert run(double(1).with_cache(cs.ByCode(url, signing_key="a")))[1] == ["double"]
    assert run(double(1).with_cache(cs.ByCode(url, signing_key="a")))[1] == []
    assert run(double(1).with_cache(cs.ByCode(url, signing_key="b")))[1] == ["double"]
    assert "cannot be read, and is computed again: the signature" in caplog.text


def test_values_without_a_stored_form_may_be_pickled(run, url):
    cache = cs.ByCode(url, signing_key="a", serializer="pickle")
    for made in (["same"], []):
        assert run(same(1 + 2j).with_cache(cache)) == (1 + 2j, made)


# -- files -----------------------------------------------------------------------------------------


@cs.task(pure=True)
def lines(source):
    calls("lines")
    with open(source) as file:
        return len(file.readlines())


def test_a_file_counts_by_its_content(run, tmp_path):
    path = tmp_path / "data.txt"
    path.write_text("a\nb\n")
    assert run(lines(cs.FileContent(path))) == (2, ["lines"])
    path.touch()
    assert run(lines(cs.FileContent(path))) == (2, [])
    path.write_text("a\nb\nc\n")
    assert run(lines(cs.FileContent(path))) == (3, ["lines"])
    path.write_text("a\nb\n")
    assert run(lines(cs.FileContent(path))) == (2, [])


def test_another_process_reads_only_files_that_have_changed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(file_content, "_COARSE", -1)
    paths = [tmp_path / f"{number}.txt" for number in range(3)]
    for path in paths:
        path.write_text("a\nb\n")
    target = lambda: total([lines(cs.FileContent(path)) for path in paths])  # noqa: E731
    assert run(target())[1] == ["lines"] * 3 + ["total"]
    read, files = file_content._read, []
    monkeypatch.setattr(file_content, "_read", lambda path: files.append(path) or read(path))

    for changed in ([], [str(paths[1])]):
        if changed:
            paths[1].write_text("a\nb\nc\n")
        file_content._known._digests.clear()
        assert len(run(target())[1]) == 2 * len(changed)
        assert {*files} == {*changed}


def test_a_file_that_is_not_there_is_named(run, tmp_path):
    with pytest.raises(ArgumentError, match=r"the file '.*gone\.txt' cannot be read: No such file"):
        run(lines(cs.FileContent(tmp_path / "gone.txt")))


@cs.task(pure=True)
def writes(text, path):
    calls("writes")
    with open(path, "w") as file:
        file.write(text)
    return cs.FileContent(path)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("x")])
def test_a_file_that_a_task_has_made_is_made_again_when_it_changed(run, tmp_path, damage):
    path = tmp_path / "out.txt"
    for made in (["writes"], []):
        value, called = run(writes("hello", str(path)))
        assert (value, called) == (cs.FileContent(str(path)), made)
    damage(path)

    assert run(writes("hello", str(path)))[1] == ["writes"]
    assert path.read_text() == "hello"


# -- time, size, backends --------------------------------------------------------------------------


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


def test_a_value_is_valid_for_its_ttl_also_for_what_depends_on_it(run, url):
    clock = Clock()
    brief = cs.ByCode(url, ttl="1m", now=clock)
    lasting = cs.ByCode(url, now=clock)

    def target():
        return total([double(1).with_cache(brief), double(2)]).with_cache(lasting)

    assert run(target())[1] == ["double", "double", "total"]
    clock.seconds += 59
    assert run(target())[1] == []
    clock.seconds += 1
    assert run(target())[1] == ["double"]  # its value is the same, so that the sum is a hit
    clock.seconds += 59
    assert run(target())[1] == []


def test_the_size_is_bounded_and_the_last_used_are_kept(url):
    clock = Clock()
    cache = cs.ByCode(url, max_size="2 kB", now=clock)

    def keep(number):
        key = cache.key(same, {"value": number})
        if not cache.load(key, {})[0]:
            cache.save(key, {}, f"{number}" + "x" * 100)

    for number in range(60):
        clock.seconds += 1
        keep(number)
        keep(0)

    (use,) = cache.entries.stats()
    assert use.size <= 2_000 + 2_000 // 20 + 110
    assert cache.load(cache.key(same, {"value": 0}), {})[0]


def test_a_backend_gets_the_digests_of_keys(run):
    backend = cs.LRUCache()
    for made in (["double"], []):
        assert run(double(1).with_cache(cs.ByCode(backend))) == (2, made)

    (key,) = backend._entries
    assert type(key) is bytes
    assert len(key) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"store": 3}, "ByCode takes the URL of a store, such as 'sqlite:///cache.db', or a Cache"),
        ({"store": "cache.db"}, "'cache.db' names no cache; for a file: 'sqlite:///cache.db'"),
        ({"ttl": "soon"}, "ttl takes an age such as '12h', '7d' or '4w', or seconds, but got 'so"),
        ({"ttl": 0}, "ttl must be seconds > 0"),
        ({"max_size": "big"}, "max_size takes a size such as '10 GB' or '512 MiB', or a number of"),
        ({"max_size": 0}, "max_size takes a size"),
        ({"ignore": "log"}, "ignore takes names of parameters, but got one string"),
        ({"serializer": "pickle"}, "serializer='pickle' needs a signing_key"),
    ],
)
def test_invalid_options_are_refused(arguments, message):
    with pytest.raises(ArgumentError) as caught:
        cs.ByCode(**{"store": "memory:", **arguments})
    assert message in str(caught.value)


def test_a_cache_that_fails_at_the_end_of_a_run_does_not_take_its_value(run, monkeypatch, caplog):
    def fails(*_given):
        raise cs.errors.StoreError("the disk is full")

    monkeypatch.setattr(SqlEntries, "keep_plans", fails)
    assert run(double(1)) == (2, ["double"])
    assert run(double(1)) == (2, [])  # found by its arguments
    assert "which entries nodes have cannot be kept: the disk is full" in caplog.text


def test_an_engine_refuses_what_is_no_cache():
    with pytest.raises(ArgumentError, match="a cache is a CacheBackend, with get and put"):
        cs.Engine(cache=3)


def test_equal_policies_are_one_and_others_are_not(url):
    assert cs.ByCode(url) == cs.ByCode(url)
    assert hash(cs.ByCode(url, ttl=3)) == hash(cs.ByCode(url, ttl=3))
    assert cs.ByCode(url) != cs.ByCode(url, version="2")
    assert cs.ByCode("memory:") != cs.ByCode("memory:")


def test_its_repr_has_no_password():
    assert repr(cs.ByCode("postgresql://ada:secret@host/db")) == "ByCode('postgresql:…')"


_FLOW = """
import multiprocessing
import cascade as cs
import flow_helpers

@cs.task(pure=True)
def scaled(n):
    print("called", n, flush=True)
    return flow_helpers.scale(n)

def main():
    cache = cs.ByCode({url!r})
    print(cs.run([scaled(1).with_cache(cache), scaled(2).with_cache(cache)]), flush=True)

if __name__ == "__main__":
    # Such a child runs no exit handlers.
    child = multiprocessing.get_context("fork").Process(target=main)
    child.start()
    child.join()
"""


def test_another_process_finds_the_values_until_a_helper_changes(tmp_path, url, nursery):
    (tmp_path / "flow.py").write_text(_FLOW.format(url=url))

    def run_flow(helper):
        (tmp_path / "flow_helpers.py").write_text(f"def scale(n):\n    return {helper}\n")
        child = nursery.start("tests.cache_processes", "script", str(tmp_path / "flow.py"), env={})
        assert child.wait() == 0, child.errors()
        return child.output().splitlines()

    assert run_flow("n * 3") == ["called 1", "called 2", "[3, 6]"]
    assert run_flow("n * 3  # the same") == ["[3, 6]"]
    assert run_flow("n * 4") == ["called 1", "called 2", "[4, 8]"]


def test_in_virtual_time_it_is_used_too(url):
    async def main():
        async with cs.Engine(cache=url) as engine:
            return [await engine.run(double(4)), await engine.run(double(4))]

    assert run_virtually(main()) == [8, 8]
    assert calls.taken() == ["double"]


def test_a_file_without_a_folder_is_that_of_the_working_directory(tmp_path, monkeypatch):
    """Of the one in which the cache is first used, whatever it is later."""
    calls = str(tmp_path / "calls")

    @cs.task(pure=True)
    def note(name: str) -> str:
        with open(calls, "a", encoding="utf-8") as file:
            file.write(name)
        return name

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        cache = cs.ByCode("sqlite:///cache.db")
        assert cs.run(note("x"), cache=cache) == "x"
        monkeypatch.chdir(tmp_path)
        assert cs.run(note("x"), cache=cache) == "x"

    assert Path(calls).read_text(encoding="utf-8") == "xx"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "calls"]
