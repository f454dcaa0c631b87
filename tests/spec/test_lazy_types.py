"""LazyResult: identity, its call site, policies, and errors of misuse."""

import copy
import os
import re
import sys
import weakref
from pathlib import Path
from weakref import WeakKeyDictionary

import pytest

from cascade.spec.callsite import CallSite
from cascade.spec.errors import ArgumentError, CycleError, LazyUseError
from cascade.spec.lazy_types import LazyResult, MappedLazyResult, gather
from cascade.spec.operation import Operation
from cascade.spec.params import Env, Param
from cascade.spec.routing import Router
from cascade.spec.task import task


@task
def load(path="a.csv"):
    return path


@task
def deploy(*inputs): ...


def line() -> int:
    """The caller's line."""
    return sys._getframe(1).f_lineno


# -- identity -------------------------------------------------------------------------------------


def test_users_see_the_names_that_are_for_them():
    data = {"task", "args", "kwargs", "name", "callsite", "id", "number"}
    names = {name for name in dir(load()) if not name.startswith(("_", "with_"))}

    assert names == data | {"run_if", "after", "keep", "named", "or_else", "catch"}


def test_a_lazy_value_is_small():
    lazy = load()

    assert not hasattr(lazy, "__dict__")
    assert sys.getsizeof(lazy) <= 160
    with pytest.raises(AttributeError):
        lazy.anything = 1


def test_lazy_values_live_in_sets_and_dicts_by_identity():
    a, b = load(), load()

    assert (a == a) is True
    assert (a != a) is False
    assert {a: "a", b: "b"}[b] == "b"
    assert WeakKeyDictionary({a: "a", b: "b"})[b] == "b"
    assert len({a, b, a}) == 2
    assert a in {b, a}


def test_lazy_values_can_be_referred_to_weakly():
    lazy = load()
    reference = weakref.ref(lazy)
    assert reference() is lazy
    del lazy

    assert reference() is None


def test_numbers_ascend_in_the_order_of_creation():
    lazies = [load(), deploy(load()), gather(load()), Param("p"), load.map(path=["x"])]
    numbers = [lazy.number for lazy in lazies]

    assert numbers == sorted(set(numbers))


def test_an_input_has_a_lower_number_than_its_user():
    lazy = deploy([load(), {"k": (load(),)}], load())

    assert all(inner.number < lazy.number for inner in lazy._dependencies)


def test_the_id_is_unique_and_stable():
    a, b = load(), load()

    assert a.id == a.id == a._uuid
    assert a.id != b.id
    assert re.fullmatch("[0-9a-f]{32}", a.id)


def test_repr_names_the_task_and_the_place():
    lazy = load(); here = line()  # noqa: E702 # fmt: skip

    assert repr(lazy) == f"<lazy load at {lazy.callsite}>"
    assert str(lazy.callsite).endswith(f"test_lazy_types.py:{here}")


def test_repr_of_an_operation():
    assert repr(Operation(len, "size")) == "<operation size>"
    assert repr(load) == "<task load>"


# -- where it was made ----------------------------------------------------------------------------


def test_every_kind_of_lazy_value_remembers_the_line_of_the_user():
    made = [
        (load(), line()),
        (gather(1), line()),
        (load.map(path=[1]), line()),
        (Param("p"), line()),
        (Env("HOME"), line()),
        (Router(selector=1, routes={1: 2}), line()),
        (deploy([load()])._dependencies[0], line()),
    ]

    assert [lazy.callsite.lineno for lazy, _ in made] == [number for _, number in made]
    assert {lazy.callsite.filename for lazy, _ in made} == {__file__}


def test_a_call_over_several_lines_is_at_its_first():
    first = line() + 1
    lazy = deploy(
        load(),
        1,
        load("b"),
    )

    assert lazy.callsite.lineno == first
    assert [inner.callsite.lineno for inner in lazy._dependencies] == [first + 1, first + 3]


def test_a_call_site_in_a_loop_and_in_a_comprehension():
    lazies = [load(i) for i in range(3)]; here = line()  # noqa: E702 # fmt: skip

    assert {lazy.callsite.lineno for lazy in lazies} == {here}


def test_a_call_site_survives_the_frame_and_code_without_source():
    namespace = {"load": load}
    exec(compile("\n\nlazy = load()", "<made up>", "exec"), namespace)
    callsite = namespace["lazy"].callsite

    assert callsite == ("<made up>", 3)
    assert str(callsite) == f"{os.path.join('<made up>')}:3"
    assert callsite.source == ""


def test_a_path_is_shown_relative_to_the_working_directory_where_that_is_shorter(
    tmp_path, monkeypatch
):
    inside = tmp_path / "app" / "flow.py"
    monkeypatch.chdir(tmp_path)
    assert str(CallSite(str(inside), 7)) == f"{Path('app', 'flow.py')}:7"

    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert str(CallSite(str(inside), 7)) == f"{inside}:7"


def test_the_source_of_a_call_site_is_the_stripped_line():
    lazy = load("x")  # this very line

    assert lazy.callsite.source == 'lazy = load("x")  # this very line'


# -- policies -------------------------------------------------------------------------------------


def test_policies_change_the_lazy_value_and_return_it():
    """M17."""
    lazy, ready, first = deploy(), load(), load()

    assert lazy.run_if(ready) is lazy
    assert lazy.after(first) is lazy
    assert lazy._conditions == (ready,)
    assert lazy._predecessors == (first,)
    assert lazy._dependencies == ()


def test_conditions_and_predecessors_add_up():
    """R6: two conditions must both hold."""
    a, b, c = load(), load(), load()
    lazy = deploy().run_if(a).run_if(b).after(a, b).after().after(c)

    assert lazy._conditions == (a, b)
    assert lazy._predecessors == (a, b, c)


def test_every_kind_of_lazy_value_takes_policies():
    kinds = [load.map(path=[1]), gather(1), Param("p"), Router(selector=1, routes={1: 2})]
    ready = load()
    for lazy in kinds:
        assert lazy.run_if(ready).after(ready)._conditions == (ready,)


@pytest.mark.parametrize("condition", [True, False, 1, None, [1], "yes"])
def test_run_if_refuses_a_value_that_is_known_already(condition):
    lazy = deploy()
    with pytest.raises(LazyUseError, match=r"^run_if\(\) of task 'deploy' \(called at ") as caught:
        lazy.run_if(condition)

    assert "a plain value" in str(caught.value)
    assert f"wrong:  …run_if({condition!r})" in str(caught.value)
    assert "right:  if condition: …" in str(caught.value)
    assert lazy._conditions == ()


def test_a_long_plain_condition_is_cut_in_the_message():
    with pytest.raises(LazyUseError, match=r"but got 'x{20,30}\.\.\.x{20,30}', a plain"):
        deploy().run_if("x" * 10_000)


@pytest.mark.parametrize("method", ["run_if", "after"])
def test_a_task_that_was_not_called_is_refused(method):
    lazy = deploy()
    message = (
        rf"^{method}\(\) of task 'deploy' \(called at .*\) got the task 'load' itself; call it: "
    )
    with pytest.raises(LazyUseError, match=message + r"load\(\)$"):
        getattr(lazy, method)(load)

    assert lazy._conditions == lazy._predecessors == ()


def test_after_refuses_values_that_are_not_lazy_and_changes_nothing():
    lazy = deploy()
    with pytest.raises(LazyUseError, match=r"^after\(\) of task 'deploy'.* but got \[<lazy load"):
        lazy.after(load(), [load()])

    assert lazy._predecessors == ()


@pytest.mark.parametrize("method", ["run_if", "after"])
def test_a_lazy_value_does_not_wait_for_itself(method):
    lazy = deploy()
    with pytest.raises(CycleError, match=rf"^{method}\(\) of task 'deploy'.*for ever$") as caught:
        getattr(lazy, method)(lazy)

    assert caught.value.cycle == ("deploy", "deploy")
    assert lazy._conditions == lazy._predecessors == ()


def test_amounts_of_capacities_are_merged_by_name():
    lazy, amount = load(), load()

    assert lazy.with_capacity(gpu=1, memory_gb=2.5) is lazy
    lazy.with_capacity(memory_gb=amount, disk=0)
    assert lazy._calls.capacities == (("gpu", 1),)
    assert lazy._amounts == {"memory_gb": amount}
    lazy.with_capacity(memory_gb=4, gpu=amount)
    assert lazy._calls.capacities == (("memory_gb", 4),)
    assert lazy._amounts == {"gpu": amount}
    lazy.with_capacity(gpu=0, memory_gb=0)
    assert lazy._calls.capacities == ()
    assert lazy._amounts == {}


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), True, "2", None, load])
def test_an_amount_is_a_number_from_0_up(amount):
    lazy = load()

    with pytest.raises(ArgumentError, match=r"with_capacity\(\) of task 'load'.*'gpu' is "):
        lazy.with_capacity(gpu=amount)
    assert lazy._policies is None


def test_amounts_are_for_calls_of_tasks():
    with pytest.raises(LazyUseError, match="calls no task"):
        (load() + 1).with_capacity(gpu=1)
    lazy = load()
    with pytest.raises(CycleError, match="wait for itself"):
        lazy.with_capacity(gpu=lazy)


# -- MappedLazyResult -----------------------------------------------------------------------------


def test_a_map_is_a_lazy_list():
    lazy = load.map(path=["a", "b"])

    assert type(lazy) is MappedLazyResult
    assert isinstance(lazy, LazyResult)
    assert lazy.factory is load
    assert lazy.mapping_kwargs == {"path": ["a", "b"]}


def test_a_shallow_copy_is_another_node():
    lazy = load()
    twin = copy.copy(lazy)

    assert twin is not lazy
