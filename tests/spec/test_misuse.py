"""The errors of a lazy value that is used as if it had its value already."""

import copy
import inspect
import linecache
import operator
import pickle
import sys
import time
import typing
from collections.abc import Awaitable
from unittest import mock

import pytest

from cascade.spec.blueprint import Call, Register, TailCall, literal
from cascade.spec.errors import LazyAttributeError, LazyUseError
from cascade.spec.lazy_types import LazyResult, gather
from cascade.spec.params import Param
from cascade.spec.routing import Router
from cascade.spec.task import task


@task
def load(path="a.csv"):
    return path


@task
def deploy(*inputs): ...


@task(nout=2)
def split(): ...


def line() -> int:
    """The caller's line."""
    return sys._getframe(1).f_lineno


async def awaited(value):
    return await value


def entered(value):
    with value:
        raise AssertionError


async def iterated_async(value):
    async for _ in value:
        raise AssertionError


async def entered_async(value):
    async with value:
        raise AssertionError


def finish(coroutine):
    """Run a coroutine that should end at once."""
    try:
        coroutine.send(None)
    finally:
        coroutine.close()


def test_a_lazy_value_has_no_truth():
    made_at = line() + 1
    lazy = load()
    with pytest.raises(LazyUseError) as caught:
        if lazy: deploy()  # noqa: E701 # fmt: skip
    asked_at = line() - 1
    place = str(lazy.callsite).rpartition(":")[0]

    assert str(caught.value) == (
        f"the result of task 'load' (called at {place}:{made_at}) has no truth value before a run; "
        f"it was asked for at {place}:{asked_at}\n"
        "    wrong:  if lazy: deploy()  # noqa: E701 # fmt: skip\n"
        "    right:  deploy().run_if(load(…))      # or test it inside a task"
    )


@pytest.mark.parametrize(
    "use", [lambda x: x and 1, lambda x: not x, lambda x: bool(x), lambda x: any([x])]
)
def test_truth_is_refused_however_it_is_asked_for(use):
    with pytest.raises(TypeError, match="has no truth value before a run"):
        use(load())


def test_a_lazy_value_cannot_be_iterated():
    lazy = load()
    with pytest.raises(LazyUseError) as caught:
        for item in lazy:
            deploy(item)

    assert "the result of task 'load' (called at " in str(caught.value)
    assert "cannot be iterated before a run" in str(caught.value)
    assert "\n    wrong:  for item in lazy:\n" in str(caught.value)
    assert "    right:  work.map(item=load(…))      # one node for each item" in str(caught.value)


@pytest.mark.parametrize("use", [iter, lambda x: [*x], tuple, set, lambda x: deploy(*x)])
def test_iteration_is_refused_however_it_is_asked_for(use):
    """Some ask for a length first, as a hint."""
    with pytest.raises(LazyUseError, match=r"(cannot be iterated|has no length) before a run"):
        use(load())


def test_a_lazy_value_cannot_be_searched():
    lazy = load()
    with pytest.raises(LazyUseError) as caught:
        assert 1 in lazy

    assert "cannot be searched before a run" in str(caught.value)
    assert (
        "\n    wrong:  assert 1 in lazy\n    right:  cs.task(operator.contains)(load(…), item)"
        in (str(caught.value))
    )


def test_a_lazy_value_has_no_length():
    lazy = load()
    with pytest.raises(LazyUseError) as caught:
        len(lazy)

    assert "has no length before a run" in str(caught.value)
    assert "\n    wrong:  len(lazy)\n    right:  cs.task(len)(load(…)) " in str(caught.value)


def test_the_wrong_line_is_generated_if_there_is_no_source():
    with pytest.raises(LazyUseError, match=r"wrong:  if load\(…\): deploy\(\)\n"):
        exec("if lazy: pass", {"lazy": load()})


def test_code_of_exec_has_no_source_line_of_the_command_line():
    """``python -c`` and each ``exec`` have the same file name."""
    exec("def bare(): return load()", code := {"load": load})
    linecache.cache["<string>"] = 9, None, ["not this line\n"], "<string>"
    try:
        assert code["bare"]().callsite.source == ""
    finally:
        del linecache.cache["<string>"]


def test_maps_routers_and_params_have_no_truth_value():
    for lazy in (load.map(path=[1]), Router(selector=1, routes={1: 2}), Param("p"), gather()):
        with pytest.raises(LazyUseError, match="has no truth value"):
            bool(lazy)


@pytest.mark.parametrize(
    ("use", "fault", "right"),
    [
        (int, "cannot be converted to an int", "cs.task(int)(load(…)) "),
        (float, "cannot be converted to a float", "cs.task(float)(load(…)) "),
        (complex, "cannot be converted to a float", "cs.task(float)(load(…)) "),
        ("abc".__getitem__, "cannot be used as an index", "cs.task(operator.getitem)(items, load"),
        (operator.index, "cannot be used as an index", "cs.task(operator.getitem)(items, load(…))"),
        (range, "cannot be used as an index or a size", "cs.task(range)(load(…))"),
        (time.sleep, "cannot be used as an index or a size", "cs.task(range)(load(…))"),
        (lambda x: x(), "cannot be called", "cs.run(load(…)) "),
        (lambda x: x(1, a=2), "cannot be called", "cs.run(load(…)) "),
        (lambda x: finish(awaited(x)), "cannot be awaited", "await cs.run_async(load(…)) "),
        (entered, "cannot be entered", "work(load(…)) "),
        (lambda x: finish(entered_async(x)), "cannot be entered", "@cs.resource "),
        (lambda x: finish(iterated_async(x)), "cannot be iterated", "work(load(…)) "),
        (open, "cannot be used as a path", "read(load(…)) "),
        (bytes, "cannot be converted to bytes", "cs.task(bytes)(load(…)) "),
        (lambda x: operator.setitem(x, 1, 2), "cannot be changed", "change(load(…)) "),
        (lambda x: operator.delitem(x, 1), "cannot be changed", "change(load(…)) "),
    ],
)
def test_conversions_of_a_lazy_value_are_refused_with_the_task_that_makes_them(use, fault, right):
    with pytest.raises(LazyUseError) as caught:
        use(load())

    told = str(caught.value)
    assert told.startswith("the result of task 'load' (called at ")
    assert f") {fault}" in told
    assert " before a run; it was asked for at " in told
    assert "\n    wrong:  " in told
    assert right in told


def test_the_place_is_that_of_the_use_and_not_of_python():
    lazy, items = load(), [0, 1]
    with pytest.raises(LazyUseError) as caught:
        items[lazy]

    assert f"test_misuse.py:{line() - 2}\n" in str(caught.value)
    assert "\n    wrong:  items[lazy]\n" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "described", "written"),
    [
        (lambda: load() > 5, "`load(…) > 5` (written at ", "load(…) > 5"),
        (lambda: load()["k"], "`load(…)['k']` (written at ", "load(…)['k']"),
        (lambda: next(iter(split())), "`split(…)[0]` (written at ", "split(…)[0]"),
        (lambda: Param("p"), "'param p' (made at ", "cs.Param('p')"),
        (lambda: gather(1), "'gather' (made at ", "cs.gather(…)"),
    ],
)
def test_operators_and_params_are_shown_as_they_are_written(make, described, written):
    with pytest.raises(LazyUseError) as caught:
        bool(make())

    assert str(caught.value).startswith(f"the result of {described}")
    assert f"right:  deploy().run_if({written})      # or test it inside a task" in str(
        caught.value
    )


def test_a_chain_of_comparisons_is_told_of_the_one_that_works():
    with pytest.raises(LazyUseError) as caught:
        assert 0 < load() < 10

    assert "`load(…) > 0`" in str(caught.value)
    assert "\n    or:     (a < b) & (b < c)      # instead of  a < b < c" in str(caught.value)
    with pytest.raises(LazyUseError) as caught:
        bool(load() + 1)
    assert "a < b" not in str(caught.value)


def test_unpacking_suggests_nout_only_for_calls_of_tasks():
    with pytest.raises(LazyUseError) as caught:
        _a, _b = load()
    assert "or:     @cs.task(nout=2) on load, and then  a, b = load(…)" in str(caught.value)
    with pytest.raises(LazyUseError) as caught:
        _a, _b = load() + 1
    assert "nout" not in str(caught.value)


# -- attributes -----------------------------------------------------------------------------------


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="needs Python 3.12: before, it would cost too much"
)
def test_an_attribute_of_the_value_is_told_of_a_task():
    lazy = load()
    with pytest.raises(AttributeError) as caught:
        lazy.upper()

    assert type(caught.value) is LazyAttributeError
    assert isinstance(caught.value, LazyUseError)
    assert "the result of task 'load' (called at " in str(caught.value)
    assert ") has no attribute 'upper' before a run; it was asked for at " in str(caught.value)
    assert "\n    wrong:  lazy.upper()\n" in str(caught.value)
    assert "    right:  cs.task(lambda value: value.upper)(load(…)) " in str(caught.value)


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="needs Python 3.12: before, it would cost too much"
)
def test_a_misspelt_method_of_lazy_values_is_told_its_name():
    with pytest.raises(
        LazyAttributeError, match=r"'with_rety' \(did you mean 'with_retry'\?\) before"
    ):
        load().with_rety(3)


@pytest.mark.parametrize(
    "name", ["__wrapped__", "__array__", "_repr_html_", "_ipython_display_", "_anything"]
)
def test_attributes_that_tools_probe_raise_a_plain_attribute_error(name):
    lazy = load()
    assert not hasattr(lazy, name)
    with pytest.raises(AttributeError) as caught:
        getattr(lazy, name)

    assert type(caught.value) is AttributeError
    assert (caught.value.name, caught.value.obj) == (name, lazy)


def test_a_lazy_value_that_is_not_made_yet_has_no_attributes():
    """As copy makes one, before it is filled in; a message about it must not ask for more."""
    empty = LazyResult.__new__(LazyResult)
    for name in ("task", "name", "callsite", "_policies", "_id"):
        with pytest.raises(AttributeError) as caught:
            getattr(empty, name)
        assert type(caught.value) is AttributeError


def test_tools_of_the_standard_library_are_not_in_the_way():
    lazy = load()

    assert copy.copy(lazy).args == lazy.args
    assert dict(inspect.getmembers(lazy))["task"] is load
    assert inspect.unwrap(lazy) is lazy
    assert not inspect.iscoroutine(lazy)
    assert not inspect.iscoroutinefunction(lazy)
    assert not inspect.isroutine(lazy)
    assert mock.Mock(spec=lazy).name is not None
    assert typing.get_type_hints(LazyResult.run_if)
    assert copy.copy(lazy) is not lazy
    assert copy.deepcopy([lazy])[0] is lazy


def test_a_lazy_value_looks_awaitable_so_that_frameworks_get_the_error():
    assert isinstance(load(), Awaitable)


def test_rich_shows_it_as_it_is():
    pretty = pytest.importorskip(
        "rich.pretty", reason="needs rich: pip install 'cascade-engine[cli]'"
    )
    lazy = load()

    assert pretty.pretty_repr([lazy]) == f"[{lazy!r}]"


def test_pickling_is_refused_and_names_to_json():
    with pytest.raises(LazyUseError) as caught:
        pickle.dumps([load()])
    said = str(caught.value)
    assert "cannot be pickled before a run: it is a node of a program in this process" in said
    assert "to_json(load(…))" in said


@pytest.mark.parametrize("module", ["asyncio_tools", "cascade.runtimes", "cascade.specimens"])
def test_the_line_is_the_users_in_a_module_with_a_name_like_ours(module):
    code = compile("\n\nif lazy: pass", f"{module}.py", "exec")
    with pytest.raises(LazyUseError, match=rf"asked for at {module}\.py:3"):
        exec(code, {"__name__": module, "lazy": Param("p")})


@pytest.mark.parametrize(
    "ask",
    [
        lambda a, b: a in [b],
        lambda a, b: [b].index(a),
        lambda a, b: [a] == [b],
        lambda a, b: {"key": a} == {"key": b},
        lambda a, b: a in (1, 2),
    ],
)
def test_equality_that_python_needs_at_once_is_refused_and_points_to_identity(ask):
    with pytest.raises(LazyUseError, match="has no truth value before a run") as caught:
        ask(load("a"), load("b"))

    assert "a is b" in str(caught.value)
    assert "any(x is y for y in items)" in str(caught.value)
    assert "a < b < c" not in str(caught.value)


def test_a_lazy_value_cannot_be_put_into_a_text():
    with pytest.raises(LazyUseError, match="cannot be put into a text before a run") as caught:
        f"{load()}.csv"
    with pytest.raises(LazyUseError, match="cannot be put into a text"):
        "{}.csv".format(load())  # noqa: UP032

    assert """right:  cs.task("…{}…".format)(load(…))""" in str(caught.value)
    assert f"{load()!r}".startswith("<lazy load at ")
    assert str(load()) == repr(load())


def test_what_holds_lazy_values_is_compared_by_their_identity():
    a, b = load("a"), load("b")
    for make in (
        lambda lazy: TailCall((lazy,)),
        lambda lazy: TailCall(kwargs={"path": [lazy]}),
        lambda lazy: literal([lazy]),
        lambda lazy: literal(lazy),
        lambda lazy: Call(print, Register(0), (literal(lazy),)),
    ):
        assert make(a) == make(a)
        assert make(a) != make(b)
