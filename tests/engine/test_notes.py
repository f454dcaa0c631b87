"""The one note that Cascade adds to a task's error (R9)."""

import cascade as cs
from cascade.runtime.notes import annotate


@cs.task
def fetch(): ...


def test_the_note_says_task_place_and_path():
    lazy = fetch()
    error = ValueError()
    annotate(error, "fetch", lazy, ["report", "parse", "fetch"])

    assert error.__notes__ == [
        f"cascade: in task 'fetch', called at {lazy.callsite}, on the path report → parse → fetch"
    ]


def test_what_is_not_known_is_left_out():
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


def test_a_long_path_is_shortened_in_the_middle_and_not_changed():
    path = [f"t{n}" for n in range(100)]
    error = ValueError()
    annotate(error, "t99", None, path)

    shown = error.__notes__[0].partition("path ")[2].split(" → ")
    assert shown == [*path[:6], "… 88 more …", *path[-6:]]
    assert len(path) == 100


def test_a_path_that_just_fits_is_shown_whole():
    path = [f"t{n}" for n in range(12)]
    error = ValueError()
    annotate(error, "t11", None, path)

    assert error.__notes__[0].endswith(" → ".join(path))
