"""The harness measures and computes correctly; no test checks how fast anything is.

The shapes are pytest-benchmarks as well: ``hatch test tests/observatory/test_benchmarks.py
--benchmark-enable --benchmark-only`` times them.
"""

import dataclasses
import gc
import io
import re
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tests.observatory.reports import check_printed, report_of

from cascade.observatory.benchmarks import (
    graphs,
    imports,
    limits,
    nodes,
    small_runs,
    steps,
)
from cascade.observatory.benchmarks.contenders import (
    AsyncioGather,
    Cascade,
    PlainCalls,
    ThreadPool,
    repetitions,
)
from cascade.observatory.benchmarks.environment import commit_of, environment
from cascade.observatory.benchmarks.findings import (
    Findings,
    missed_by,
    read,
    samples_as_json,
    target_cells,
    write,
)
from cascade.observatory.benchmarks.pages import charts_in
from cascade.observatory.benchmarks.peers import installed_peers
from cascade.observatory.benchmarks.rounds import Contender, Samples, Summary, measure, summarise
from cascade.observatory.benchmarks.shapes import PLAIN, SHAPES, TREE
from cascade.observatory.benchmarks.tables import Table, samples_table

PROGRAMS = [module.PROGRAM for module in (graphs, imports, limits, nodes, small_runs, steps)]


class Track:
    """Contenders that take the seconds they are told to, on a clock of their own."""

    def __init__(self):
        self.now = 0.0
        self.order = []

    def clock(self):
        return self.now

    def contender(self, name, *seconds, operations=1):
        left = [0.0, *seconds]  # the first run is not timed

        def run():
            self.order.append(name)
            self.now += left.pop(0)
            return name

        return Contender(name, run, operations, expected=name)


def samples_of(**seconds):
    return Samples(
        seconds=seconds,
        operations=dict.fromkeys(seconds, 10),
        collections={name: [1, 0, 0] for name in seconds},
        collector_enabled=True,
        collector_thresholds=(700, 10, 10),
    )


def printed(table, width=80):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


# -- rounds ---------------------------------------------------------------------------------------


def test_each_round_runs_every_contender_once_in_an_order_that_rotates():
    track = Track()
    measure([track.contender(name, 1, 1, 1, 1) for name in "abc"], 4, clock=track.clock)

    assert "".join(track.order) == "abc" + "abc" + "bca" + "cab" + "abc"


def test_times_are_per_operation_and_the_first_run_is_not_timed():
    track = Track()
    samples = measure(
        [track.contender("a", 8, 4, operations=4), track.contender("b", 1, 3)],
        2,
        clock=track.clock,
    )

    assert samples.seconds == {"a": [2, 1], "b": [1, 3]}
    assert samples.operations == {"a": 4, "b": 1}


def test_a_ratio_is_taken_within_rounds_so_that_a_slow_round_cancels():
    samples = samples_of(base=[1.0, 100.0, 2.0], twice=[2.0, 200.0, 4.0])

    assert samples.ratio("twice", "base") == Summary(2, 2, 2)
    assert samples.ratio("base", "base") == Summary(1, 1, 1)
    assert samples.cost("twice").median == 4


def test_the_median_of_ratios_is_not_the_ratio_of_medians():
    samples = samples_of(base=[1.0, 2.0, 4.0], other=[4.0, 2.0, 4.0])

    assert samples.ratio("other", "base").median == 1
    assert samples.cost("other").median / samples.cost("base").median == 2


def test_no_round_begins_when_time_is_up_but_the_first_three():
    track = Track()
    samples = measure([track.contender("a", *[10] * 9)], 9, clock=track.clock, seconds_at_most=5)
    assert samples.seconds == {"a": [10, 10, 10]}
    track = Track()
    samples = measure([track.contender("a", *[10] * 9)], 9, clock=track.clock, seconds_at_most=45)
    assert len(samples.seconds["a"]) == 5
    track = Track()
    assert len(measure([track.contender("a", 1, 1)], 2, clock=track.clock).seconds["a"]) == 2


def test_what_long_runs_have_more_than_short_ones_is_taken_within_rounds():
    """Seconds per operation come in; what both need once goes out."""
    samples = Samples(
        seconds={"long": [0.3, 0.6], "short": [1.0, 2.0], "other": [7.0, 7.0]},
        operations={"long": 10, "short": 2, "other": 1},
        collections={"long": [1], "short": [2], "other": [3]},
        collector_enabled=True,
        collector_thresholds=(700, 10, 10),
    ).beyond({"step": ("long", "short")})
    assert samples.operations == {"step": 8}
    assert samples.seconds["step"] == [pytest.approx(1 / 8), pytest.approx(2 / 8)]
    assert samples.collections == {"step": [1]}


def test_a_disturbed_round_gives_no_cost_below_the_clock():
    samples = samples_of(long=[0.1], short=[5.0])
    samples = dataclasses.replace(samples, operations={"long": 20, "short": 10})
    (cost,) = samples.beyond({"step": ("long", "short")}).seconds["step"]
    assert 0 < cost < 1e-6


@given(st.lists(st.floats(1e-9, 1e3), min_size=1))
def test_quartiles_enclose_the_median(values):
    median, first, third = summarise(values)

    slack = 1e-9 * third
    assert min(values) - slack <= first <= median + slack
    assert median - slack <= third <= max(values) + slack


def test_a_wrong_result_is_refused_before_anything_is_timed():
    track = Track()
    wrong = Contender("wrong", lambda: "x" * 100, 1, expected=7)

    with pytest.raises(ValueError, match=r"^wrong returned 'x+…, but right is 7$"):
        measure([track.contender("a", 1), wrong], 1, clock=track.clock)
    assert track.order == ["a"]


def test_no_rounds_and_equal_names_are_refused():
    track = Track()
    with pytest.raises(ValueError, match=r"^at least 1 round is needed, but rounds is 0$"):
        measure([track.contender("a")], 0)
    with pytest.raises(ValueError, match=r"^contenders need names that differ, but these are"):
        measure([track.contender("a"), track.contender("a")], 1)


def test_the_collector_is_left_alone_and_its_state_is_noted():
    before, frozen = (gc.isenabled(), gc.get_threshold()), gc.get_freeze_count()
    samples = measure([Contender("busy", lambda: gc.collect(0) * 0, 1, 0)], 3)

    assert (gc.isenabled(), gc.get_threshold()) == before
    assert gc.get_freeze_count() <= frozen  # less if a frozen object has been freed meanwhile
    assert (samples.collector_enabled, samples.collector_thresholds) == before
    assert sum(samples.collections["busy"]) >= 3


# -- shapes and their contenders ------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("system", [Cascade, AsyncioGather, ThreadPool, PlainCalls])
def test_nodes_of_a_graph(benchmark, system, shape):
    benchmark.group = shape.name
    with ExitStack() as stack:
        made = system()
        if hasattr(made, "__enter__"):
            stack.enter_context(made)
        contender = made.contender(shape, 100)
        assert benchmark(contender.run) == contender.expected


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("size", [2, 3, 7, 64, 101])
def test_every_system_computes_every_shape(shape, size, few_nodes):
    systems = [Cascade(), AsyncioGather(), ThreadPool(2)]
    others = [PlainCalls(), *installed_peers()[0]]
    made = []
    for system in systems:
        with system:
            contender = system.contender(shape, size)
            assert contender.run() == contender.expected
            made.append(contender)
    for system in others:
        contender = system.contender(shape, size)
        assert contender.run() == contender.expected
    assert {c.operations for c in made} == {repetitions(size) * shape.nodes(size)}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@given(size=st.integers(2, 300))
def test_a_shape_has_as_many_nodes_as_it_says(shape, size):
    calls = 0

    def counted(function):
        def call(*arguments):
            nonlocal calls
            calls += 1
            return function(*arguments)

        return call

    value = shape.calls(type(PLAIN)(*map(counted, PLAIN)), size)

    assert calls == shape.nodes(size)
    assert value == shape.value(size)


def test_a_tree_is_of_the_size_asked_for_or_one_less():
    assert [TREE.nodes(size) for size in (99, 100, 10**6)] == [99, 99, 999_999]


# -- reports --------------------------------------------------------------------------------------


def target_of(what, measured, **bounds):
    found = Findings()
    found.target(what, measured, **bounds)
    (target,) = found.targets
    return target


@pytest.mark.parametrize(
    ("measured", "bound", "met", "by"),
    [
        (2.0, {"least": 2}, True, 1.0),
        (0.5, {"least": 2}, False, 4.0),
        (3.0, {"most": 2}, False, 1.5),
        (1.0, {"most": 2}, True, 0.5),
        (0.0, {"least": 2}, False, float("inf")),
    ],
)
def test_a_target_is_met_at_its_bound(measured, bound, met, by):
    target = target_of("x", measured, **bound)
    assert (target["met"], missed_by(target)) == (met, by)


def test_a_target_has_one_bound():
    for bounds in ({}, {"least": 1, "most": 2}):
        with pytest.raises(ValueError, match=r"^target 'x' needs either least or most$"):
            target_of("x", 1.0, **bounds)


def test_the_tables_fit_80_columns_and_mark_missed_targets():
    def table_of(title, label, baseline, samples):
        measured = {"unit": "node", **samples_as_json(samples, baseline)}
        return samples_table(title, {label: measured}, "nodes")

    samples = samples_of(base=[1e-6, 2e-6, 3e-6], other=[2e-6, 4e-6, 6e-6])
    table = printed(table_of("wide", "100", "base", samples).rich())
    assert re.search(r"100 +base +2.00 +1.50–2.50 +500 k +1.00", table)
    assert re.search(r"other +4.00 +3.00–5.00 +250 k +2.00", table)

    big = samples_of(
        **{"asyncio.gather": [1.1e-5] * 2, "wide plain calls": [3e-8, 5e-8]},
        **{"hamilton 1.90.0": [1e-4, 3e-4]},
    )
    table = printed(table_of("tree", "1 000 000", "asyncio.gather", big).rich())
    assert "1 000 000 asyncio.gather" in table
    assert "…" not in table

    targets = [target_of("speed", 1.0, least=2), target_of("memory", 9, most=1024)]
    rows = [target_cells(target) for target in targets]
    table = printed(Table("targets", ("figure", "measured", "target", ""), rows).rich())
    assert re.search(r"speed +1.00 × +≥ 2 × +missed, 2.00 ×", table)
    assert re.search(r"memory +9.00 +≤ 1 024 +met", table)
    assert max(map(len, table.splitlines())) <= 80


def test_a_table_is_the_same_in_markdown_and_html():
    table = Table("<t>", ("program", "ms"), [("`a & b`", "1"), ("", "2")], caption="c")
    assert table.markdown() == "| program | ms |\n|---|--:|\n| `a & b` | 1 |\n|  | 2 |\n\nc"
    assert '<tr><td>a &amp; b</td><td class="n">1</td></tr>' in table.html()
    assert "<h3>&lt;t&gt;</h3>" in table.html()


def test_a_section_without_the_baseline_has_no_ratios():
    found = samples_as_json(samples_of(other=[1e-6]), "base")

    assert "1.00" in printed(samples_table("t", {"1": {"unit": "step", **found}}, "").rich())
    assert found["baseline"] is None
    assert found["contenders"][0]["ratio"] is None


def test_the_report_holds_figures_machine_commit_and_date(tmp_path):
    found = Findings()
    found.add("wide", samples_of(base=[1.0, 3.0], other=[2.0, 6.0]), "base", "node")
    found.target("speed", 3.0, least=2)
    path = tmp_path / "new" / "report.json"
    write(path, {**environment(tmp_path, now=datetime(2030, 1, 2, tzinfo=UTC)), **found.as_json()})
    report = read(path)

    assert report["date"] == "2030-01-02T00:00:00+00:00"
    assert report["machine"].keys() == {"cpu_count", "platform", "python", "implementation"}
    wide = report["measurements"]["wide"]
    assert wide["garbage_collector"] == {"enabled": True, "thresholds": [700, 10, 10]}
    other = wide["contenders"][1]
    assert other["seconds_per_operation"] == [2, 6]
    assert (other["median"], other["quartiles"]) == (4, [3, 5])
    assert other["ratio"] == {"median": 2, "quartiles": [2, 2]}
    assert report["targets"][0]["met"] is True


def test_the_commit_is_that_of_the_folder_or_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no git
    assert commit_of(tmp_path) is None


# -- the program ----------------------------------------------------------------------------------


@pytest.mark.timeout(180)  # where the machine is busy; else it takes some seconds
def test_the_benchmark_of_the_graph_path_runs_and_writes_its_report(
    few_nodes, tmp_path, monkeypatch
):
    monkeypatch.setattr(graphs, "_single", lambda _: 1_000)
    report = report_of(graphs.PROGRAM, tmp_path)
    written = report.written

    assert {"wide, 100 nodes", "chain, 100 nodes", "tree, 100 nodes"} <= set(
        written["measurements"]
    )
    names = [c["name"] for c in written["measurements"]["wide, 100 nodes"]["contenders"]]
    assert names[:4] == ["cascade", "asyncio.gather", "plain calls", "thread pool"]
    assert written["memory_bytes_per_node"].keys() == {"wide", "chain", "tree"}
    # A long name takes two lines of its cell where figures are wide, as on a busy machine.
    check_printed(report, characters=30)
    assert len(charts_in(written)) >= 6


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max", "10"], "--max must be at least 100, but is 10"),
        (["--rounds", "0"], "--rounds must be at least 1, but is 0"),
        (["--only=shaeps"], "--only: unknown section 'shaeps'"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_a_sentence(program, arguments, message, capsys):
    if not program.most and arguments[0] == "--max":
        message = "unrecognized arguments: --max 10"
    with pytest.raises(SystemExit, match="2"):
        program.options(arguments)
    printed = capsys.readouterr().err
    assert f": {message}" in printed
    assert printed.count("\n") == 1


def test_sections_are_run_in_the_order_of_the_program():
    options = graphs.PROGRAM.options(["--only=memory", "--only=shapes", "--quick"])
    assert options.only == ["shapes", "memory"]
    assert options.max == 10**4
