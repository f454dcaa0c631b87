"""Programs take every Param that a run may read, wherever it stands (M22)."""

import asyncio

import pytest

import cascade as cs


@cs.task
def add(a, b=1):
    return a + b


@cs.task
def yes(_value):
    return True


@cs.task
def hand_over(value):
    return value


@cs.task
def count(n, total=0):
    return count.tail(n - 1, cs.Param("extra", type=int)) if n else total


@cs.task
def return_param():
    return cs.Param("extra", type=int)


@cs.task
def return_call():
    return add(add(cs.Param("extra", type=int)))


p = cs.Param("p", type=int)
TARGETS = {
    "a route": cs.Router(selector=yes(0), routes={True: add(p), False: 0}),
    "a route that is not chosen": cs.Router(selector=yes(0), routes={True: 1, False: add(p)}),
    "a route of a route": cs.Router(
        selector=yes(0), routes={True: cs.Router(selector=yes(0), routes={True: add(p)})}
    ),
    "a selector": cs.Router(selector=yes(p), routes={True: add(1)}),
    "a map's list": add.map(a=[p, 1]),
    "a map's amount": add.map(a=[1, 2]).with_capacity(s=add(p)),
    "a map's condition": add.map(a=[1, 2]).run_if(yes(p)),
    "a literal": hand_over(cs.literal(add(p))),
    "a literal for all items": add.map(a=[1, 2], b=cs.literal(p)),
    "a condition": add(0).run_if(yes(p)),
    "an after": add(0).after(add(p)),
    "an amount": add(0).with_capacity(s=add(p)),
    "an input of a route": add(cs.Router(selector=yes(0), routes={True: [p], False: []})[0]),
}


@pytest.fixture
async def engine():
    async with cs.Engine(capacities={"s": 10}) as engine:
        yield engine


@pytest.mark.parametrize("name", TARGETS)
async def test_a_program_takes_a_param_wherever_it_stands(name, engine, use_vm):
    target = TARGETS[name]
    program = engine.compile(target)
    assert "p" in program.inputs
    assert await program.run(p=5) == await engine.run(target, {"p": 5}, use_vm=use_vm)


@pytest.mark.parametrize("target", [count(3), return_param(), return_call()])
async def test_a_param_in_a_returned_value_must_be_named_at_compile(target, engine, use_vm):
    program = engine.compile(target, params=["extra"])
    value = await engine.run(target, {"extra": 5}, late_params=["extra"], use_vm=use_vm)
    assert await program.run(extra="5") == value


async def test_the_error_for_an_unknown_input_says_how_to_name_such_a_param(engine):
    program = engine.compile(return_param())
    with pytest.raises(cs.errors.ArgumentError, match=r"engine\.compile\(…, params=\['extra'\]\)"):
        await program.run(extra=5)


@pytest.mark.parametrize("params", ["extra", [1], [p]])
async def test_compile_takes_names_only(params, engine):
    with pytest.raises(cs.errors.ArgumentError, match="takes names of parameters, but got params="):
        engine.compile(return_param(), params=params)


# -- names that the target does not have ------------------------------------------------------


reached = cs.Param("reached", 0, type=int)
table = {"inner": add(cs.Param("in_a_table", 0, type=int))}


@cs.task
def return_global():
    return reached


@cs.task
def return_for(_item):
    return reached


@cs.task
def return_from_table():
    return [table["inner"]]


@cs.task
def call_other():
    return return_global()


REACHING = {
    "a global": (return_global(), "reached"),
    "a global of a task that a task calls": (call_other(), "reached"),
    "the tasks of a route": (cs.Router(selector=yes(0), routes={True: call_other()}), "reached"),
    "the task of a map": (return_for.map(_item=[1]), "reached"),
    "an argument of a lazy value in a container": (return_from_table(), "in_a_table"),
}


@pytest.mark.parametrize("name", REACHING)
async def test_a_param_that_a_function_can_reach_is_known(name, engine, use_vm):
    target, param = REACHING[name]
    program = engine.compile(target)
    assert param in program.inputs
    value = await engine.run(target, {param: "7"}, use_vm=use_vm)
    assert value != await engine.run(target, use_vm=use_vm)
    assert await program.run(**{param: "7"}) == value


@pytest.mark.parametrize("name", TARGETS)
async def test_a_name_that_no_param_has_is_refused_before_any_call(name, engine, use_vm):
    with pytest.raises(cs.errors.ParameterError, match=r"has no parameter 'pp'.*; it has 'p'") as e:
        await engine.run(TARGETS[name], {"p": 5, "pp": 1}, use_vm=use_vm)
    assert e.value.name == "pp"


def test_the_error_for_a_misspelt_name_suggests_the_right_one(use_vm):
    target = add(cs.Param("limit", 10, type=int))
    with pytest.raises(cs.errors.ParameterError, match=r"'limti' \(did you mean 'limit'\?\)"):
        cs.run(target, {"limti": 5}, use_vm=use_vm)


def test_a_plain_target_has_no_parameters():
    with pytest.raises(cs.errors.ParameterError, match="a plain value has no parameter 'p'"):
        cs.run([1, 2], {"p": 1})
    with pytest.raises(cs.errors.ParameterError, match="a plain value has no parameter 'p'"):
        cs.run(cs.literal(add(p)), {"p": 1})
    assert cs.run([1, 2], {"p": 1}, late_params=["p"]) == [1, 2]
    with pytest.raises(cs.errors.ParameterError, match="a plain value has no parameter 'p'"):
        cs.run(cs.literal(add(p)), {"p": 1})


def test_a_name_that_is_no_text_is_refused(use_vm):
    with pytest.raises(cs.errors.ParameterError, match="has no parameter 1; it has 'p'"):
        cs.run(add(p), {"p": 1, 1: 2}, use_vm=use_vm)


async def test_start_refuses_an_unknown_name_at_once(engine):
    with pytest.raises(cs.errors.ParameterError, match="has no parameter 'q'"):
        engine.start(add(p), {"p": 1, "q": 2})
    assert await engine.start(add(p), {"p": 1, "q": 2}, late_params=("q",)).result() == 2


def test_an_environment_variable_is_no_parameter():
    with pytest.raises(cs.errors.ParameterError, match="has no parameter 'HOME'; it has none"):
        cs.run(add(cs.Env("HOME", "")), {"HOME": "x"})


def test_of_many_names_the_error_lists_some():
    target = cs.gather(*[cs.Param(f"name{i:02}", "") for i in range(30)])
    with pytest.raises(cs.errors.ParameterError, match="'name19', and 10 more"):
        cs.run(target, {"other": 1})


def test_a_target_whose_nodes_wait_for_each_other_is_searched_to_its_end():
    a, b = add(1), add(2)
    a.after(b)
    b.after(a)
    with pytest.raises(cs.errors.ParameterError, match="has no parameter 'q'"):
        cs.run(a, {"q": 1})


@pytest.mark.parametrize("names", ["extra", [1], [p], 5])
def test_late_params_are_names(names):
    with pytest.raises(cs.errors.ArgumentError, match="takes names of parameters, but got late_"):
        cs.run(return_param(), {"extra": 1}, late_params=names)


# -- params that are no mapping ---------------------------------------------------------------


@pytest.mark.parametrize("params", [["p"], "p", {"p"}, 5, 0, ""])
def test_params_that_are_no_mapping_are_refused(params, use_vm):
    with pytest.raises(
        cs.errors.ArgumentError, match="params takes a dict of names and values, but got"
    ):
        cs.run(add(p), params, use_vm=use_vm)


@pytest.mark.parametrize("second", [add(2), add])
def test_two_targets_are_refused_with_the_list_that_is_meant(second):
    with pytest.raises(cs.errors.ArgumentError) as caught:
        cs.run(add(1), second)
    assert "wrong:  cs.run(a, b)" in str(caught.value)
    assert "right:  cs.run([a, b])" in str(caught.value)


# -- the line that errors name ----------------------------------------------------------------


def names_this_file(error):
    return "test_params_of_programs.py:" in str(error)


def test_a_container_of_a_script_is_written_where_run_is_called():
    with pytest.raises(cs.errors.DependencyMissingError) as caught:
        cs.run([add(1).run_if(cs.eq(add(1), 0))])
    assert names_this_file(caught.value)


async def test_and_so_is_one_of_a_coroutine():
    with pytest.raises(cs.errors.DependencyMissingError) as caught:
        await cs.run_async([add(1).run_if(cs.eq(add(1), 0))])
    assert names_this_file(caught.value)


def test_a_lazy_value_as_a_flag_is_refused():
    with pytest.raises(cs.errors.ArgumentError, match="use_vm must be True or False, but is <lazy"):
        cs.run(add(1), use_vm=add(2))


async def test_parameters_are_read_before_a_program_hides_its_event_loop(engine):
    """Only calls of tasks that may start a loop need that; to read a value is no call."""
    harmless = engine.compile(add(cs.Param("value", type=int), 1))
    assert not harmless._straight.may_start_loop
    assert await harmless.run(value=1) == await harmless.run(value="1") == 2

    @cs.task
    def ask(value):
        return asyncio.run(asyncio.sleep(0, value))

    asking = engine.compile(ask(cs.Param("value", type=int)))
    assert asking._straight.may_start_loop
    assert await asking.run(value=1) == 1
