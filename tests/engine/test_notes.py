"""The one note that Cascade adds to a task's error (R9)."""

import itertools

import pytest

import cascade as cs
from cascade.runtime.diagnostics.error_notes import TOP, PathToTarget, annotate


@cs.task
def fetch(): ...


def test_the_note_says_task_place_and_path():
    lazy = fetch()
    error = ValueError()
    annotate(error, "fetch", lazy, ["report", "parse", "fetch"])

    assert error.__notes__ == [
        f"cascade: in task 'fetch', called at {lazy.callsite}, on the path report → parse → fetch"
    ]


def test_unknown_parts_are_left_out_of_the_note():
    error = ValueError()
    annotate(error, "fetch", None, ["fetch"])

    assert error.__notes__ == ["cascade: in task 'fetch'"]


def test_the_first_note_stays():
    error = ValueError()
    annotate(error, "inner", None, [])
    annotate(error, "outer", None, [])

    assert error.__notes__ == ["cascade: in task 'inner'"]


def test_notes_of_others_stay_and_do_not_matter():
    error = ValueError()
    error.add_note("mine")
    annotate(error, "fetch", None, [])

    assert error.__notes__ == ["mine", "cascade: in task 'fetch'"]


def path_of(names):
    """The path above a node that stands below ``names``, the first of which is the target."""
    path, rest, lengths = TOP, list(names), itertools.cycle((1, 3, 0, 16))  # of stretches
    while rest:
        length = next(lengths)
        path, rest = PathToTarget(rest[:length], path), rest[length:]
    return path


@pytest.mark.parametrize("own", [1, 2])
@pytest.mark.parametrize("length", [13, 14, 100])
def test_a_long_path_is_shortened_in_the_middle(length, own):
    path = [f"t{n}" for n in range(length)]

    shown = path_of(path[:-own]).all_names(*path[-own:])

    assert shown == [*path[:6], f"… {length - 12} more …", *path[-6:]]


@pytest.mark.parametrize("length", [1, 2, 11, 12])
def test_a_path_that_just_fits_is_shown_whole(length):
    path = [f"t{n}" for n in range(length)]

    assert path_of(path[:-1]).all_names(path[-1]) == path


def test_nodes_added_by_cascade_are_not_on_the_path():
    assert PathToTarget(["b"], PathToTarget([], PathToTarget(["a"]), [ValueError])).all_names(
        "c"
    ) == ["a", "b", "c"]


def test_a_path_catches_where_any_node_on_it_does():
    assert PathToTarget(["b"], PathToTarget(["a"], TOP, [ValueError])).catches == (ValueError,)
    assert PathToTarget(["b"], PathToTarget(["a"])).catches == ()


def test_a_path_has_each_type_that_is_caught_once():
    """So that the types stay few, however many nodes catch them."""
    path = PathToTarget(["a"], TOP, [ValueError, KeyError])
    assert PathToTarget(["b"], path, [KeyError, OSError, OSError]).catches == (
        ValueError,
        KeyError,
        OSError,
    )
    assert PathToTarget(["b"], path, [ValueError]).catches is path.catches
