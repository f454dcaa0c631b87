"""The nodes of a run, put together from what its engine shows; their places, their times."""

from collections import Counter

from cascade.web.model.layout import COLUMN, ROW, laid_out
from cascade.web.model.nodes import Ended, RunNode, RunNodes, Stretch, worst
from cascade.web.model.timeline import timeline


def row(number, name="t", inputs=(), segment=1, owner=0, item=""):
    return [number, name, "task", f"f.py:{number}", segment, owner, item, list(inputs)]


def graph(*rows, gone=(), time=0.0, left_out=False):
    return {"nodes": rows, "gone": gone, "time": time, "left_out": left_out}


def states(*changes, time=0.0):
    return {"changes": [[*change, ""][:3] for change in changes], "time": time}


def ended(status="succeeded", traceback="", time=9.0):
    return Ended("r", "t", status, 9.0, 0, time, "E", traceback)


def test_a_node_is_planned_until_its_engine_says_more():
    nodes = RunNodes()
    nodes.add(graph(row(1), row(2, inputs=(1,))))
    nodes.change(states((1, "running")))
    assert nodes.counts() == Counter(running=1, planned=1)
    assert nodes.nodes[2].inputs == (1,)


def test_a_state_of_another_version_and_of_an_unknown_node_are_left_out():
    nodes = RunNodes()
    nodes.add(graph(row(1)))
    nodes.change(states((1, "dancing"), (7, "running")))
    assert nodes.counts() == Counter(planned=1)


def test_items_are_counted_below_their_map_also_when_they_are_gone():
    nodes = RunNodes()
    nodes.add(graph(row(1, "map")))
    nodes.add(graph(*(row(n, segment=2, owner=1, item=f"item {n}") for n in (2, 3, 4))))
    nodes.change(states((2, "finished"), (3, "failed"), (4, "running")))
    assert nodes.below[1] == Counter(finished=1, failed=1, running=1, planned=0)
    assert [node.number for node in nodes.level()] == [1]
    assert [node.number for node in nodes.level(1)] == [2, 3, 4]
    nodes.add(graph(gone=[2]))
    assert nodes.level(1) == []
    assert +nodes.below[1] == Counter(finished=2, failed=1)


def test_a_path_leads_from_the_outermost_node_and_ends_although_nodes_own_each_other():
    nodes = RunNodes()
    nodes.add(graph(row(1), row(2, owner=1), row(3, owner=2)))
    assert [node.number for node in nodes.path(3)] == [1, 2, 3]
    nodes.add(graph(row(1, owner=3)))
    assert len(nodes.path(3)) == 3


def test_the_end_of_a_run_ends_its_nodes_and_marks_the_one_that_the_error_names():
    nodes = RunNodes()
    nodes.add(graph(row(1, "a"), row(2, "b"), row(3, "c", inputs=(1, 2))))
    nodes.change(states((1, "running"), (2, "running")))
    nodes.end(ended("failed", "…\ncascade: in task 'b', called at f.py:2, on the path c → b"))
    assert [node.state for node in nodes.nodes.values()] == ["cancelled", "failed", "cancelled"]
    nodes = RunNodes()
    nodes.add(graph(row(1)))
    nodes.end(ended())
    assert nodes.counts() == Counter(finished=1)


def test_changes_are_taken_once_and_name_the_owners_whose_counts_have_changed():
    nodes = RunNodes()
    nodes.add(graph(row(1), row(2, owner=1, segment=2)))
    nodes.take_changes()
    nodes.change(states((2, "running")))
    assert nodes.take_changes() == {1, 2}
    assert nodes.take_changes() == set()


def test_a_second_picture_of_the_same_nodes_keeps_their_states_and_its_shape():
    nodes = RunNodes()
    nodes.add(graph(row(1)))
    nodes.change(states((1, "running")))
    shape = nodes.shape
    nodes.add(graph(row(1)))
    assert nodes.shape == shape
    assert nodes.nodes[1].state == "running"


def test_stretches_are_the_times_at_work():
    nodes = RunNodes()
    nodes.add(graph(row(1)))
    for state, time in (("waiting", 1.0), ("running", 2.0), ("finished", 4.0)):
        nodes.change(states((1, state), time=time))
    assert nodes.stretches == [
        Stretch(1, "t", "waiting", 1.0, 2.0),
        Stretch(1, "t", "running", 2.0, 4.0),
    ]


def test_a_timeline_has_a_row_for_each_node_and_lets_open_stretches_last_until_now():
    found = timeline([Stretch(1, "a", "running", 10.0, 12.0), Stretch(2, "b", "running", 11.0)], 14)
    assert found.rows == ("a #1", "b #2")
    assert [(bar.row, bar.began, bar.seconds) for bar in found.bars] == [(0, 0, 2), (1, 1, 3)]
    assert found.seconds == 4


def test_a_timeline_keeps_the_nodes_that_have_worked_longest():
    stretches = [Stretch(n, "t", "running", 0.0, float(n)) for n in range(1, 6)]
    stretches.append(Stretch(9, "t", "waiting", 0.0, 100.0))
    found = timeline(stretches, 100.0, most=2)
    assert found.rows == ("t #4", "t #5")
    assert found.left_out == 4
    assert timeline([], 0.0).rows == ()


def nodes_of(**inputs):
    numbers = {name: number for number, name in enumerate(inputs, 1)}
    return [
        RunNode(numbers[name], name, "task", "", 1, 0, "", tuple(numbers[s] for s in sources))
        for name, sources in inputs.items()
    ]


def test_inputs_stand_to_the_left_of_their_users():
    picture = laid_out(nodes_of(a="", b="a", c="ab", d=""))
    x = {number: place[0] for number, place in zip(picture.numbers, picture.places, strict=True)}
    assert x == {1: 0, 2: COLUMN, 3: 2 * COLUMN, 4: 0}
    assert sorted(picture.lines) == [(0, 1), (0, 2), (1, 2)]
    assert len(set(picture.places)) == 4


def test_a_line_over_a_layer_passes_beside_its_nodes():
    picture = laid_out(nodes_of(a="", b="a", c="ab", d="ac"))
    ways = dict(zip(picture.lines, picture.ways, strict=True))
    assert ways[0, 1] == ways[1, 2] == ways[2, 3] == []
    ((one, _),) = ways[0, 2]
    assert one == COLUMN
    assert [x for x, _ in ways[0, 3]] == [COLUMN, 2 * COLUMN]
    assert ways[0, 2][0] == ways[0, 3][0]  # the lines from one node share their rows
    taken = [*picture.places, *{place for way in picture.ways for place in way}]
    assert len(set(taken)) == len(taken)


def test_lines_go_straight_where_a_layer_is_full_or_there_are_too_many():
    wide = [RunNode(n, "t", "task", "", 1, 0, "", (1,)) for n in range(2, 40)]
    first = RunNode(1, "t", "task", "", 1, 0, "", ())
    full = laid_out([first, *wide, RunNode(40, "t", "task", "", 1, 0, "", (1, 2))])
    assert not any(full.ways)
    long = [RunNode(n, "t", "task", "", 1, 0, "", tuple(range(1, n))) for n in range(1, 60)]
    assert not any(laid_out(long).ways)


def test_a_layer_of_thousands_is_wrapped_into_a_block():
    wide = [RunNode(n, "t", "task", "", 1, 0, "", ()) for n in range(1, 5001)]
    picture = laid_out([*wide, RunNode(5001, "all", "task", "", 1, 0, "", tuple(range(1, 5001)))])
    assert len(set(picture.places)) == 5001
    height = max(y for _, y in picture.places) - min(y for _, y in picture.places)
    assert height < 160 * ROW
    assert picture.places[-1][0] == max(x for x, _ in picture.places)


def test_nothing_and_inputs_that_are_not_there_can_be_laid_out():
    assert laid_out([]).places == []
    picture = laid_out([RunNode(1, "t", "task", "", 1, 0, "", (7,))])
    assert picture.lines == []


def test_the_state_that_matters_most_comes_first():
    assert worst(["finished", "running", "failed"]) == "failed"
    assert worst([]) == "planned"
