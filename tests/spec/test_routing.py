"""Router: one of several lazy values (R7)."""

import pytest

from cascade.spec.blueprint import literal
from cascade.spec.containers import GATHER
from cascade.spec.errors import ArgumentError, DefinitionError, RouteError
from cascade.spec.resource import inject
from cascade.spec.routing import ROUTE, Router, choose
from cascade.spec.task import task


@task
def kind(): ...


@task
def work(size=0): ...


def chosen(router, key):
    routes, _ = router.args
    return choose(routes, key)


def test_the_selector_is_an_input_and_the_routes_are_not():
    """R7: the other routes do not run."""
    selector, small, large = kind(), work(1), work(2)
    router = Router(selector=selector, routes={"s": small, "l": large})

    assert router._dependencies == (selector,)
    assert router.routes == {"s": small, "l": large}
    assert router.name == "router"
    assert router.task is ROUTE


def test_the_run_continues_as_the_chosen_route():
    """R4, R7."""
    small, large = work(1), work(2)
    router = Router(selector=kind(), routes={"s": small, 2: large, None: "plain", (1, 2): 3})

    assert chosen(router, "s") is small
    assert chosen(router, 2) is large
    assert chosen(router, None) == "plain"
    assert chosen(router, (1, 2)) == 3


@pytest.mark.parametrize("key", ["x", ["unhashable"], {}])
def test_a_key_without_a_route_is_named_with_the_known_ones(key):
    router = Router(selector=kind(), routes={"s": work(), 2: work()})
    with pytest.raises(
        LookupError, match=r"selector gave .*, but its routes are 's', 2$"
    ) as caught:
        chosen(router, key)

    assert type(caught.value) is RouteError
    assert repr(key) in str(caught.value)


def test_containers_with_lazy_values_are_routes_and_selectors():
    """R2."""
    a, b = kind(), work()
    router = Router(selector=(a, 1), routes={("x", 1): [b], "plain": [1]})

    assert router.selector.task is GATHER
    assert router._dependencies == (router.selector,)
    assert router.routes[("x", 1)]._dependencies == (b,)
    assert router.routes["plain"] == [1]


def test_the_routes_are_snapshotted():
    """M15."""
    routes = {"s": work()}
    router = Router(selector=kind(), routes=routes)
    routes.clear()

    assert list(router.routes) == ["s"]
    assert chosen(router, "s") is router.routes["s"]


def test_a_plain_selector_is_not_an_input():
    """R1."""
    router = Router(selector="s", routes={"s": work()})

    assert router._dependencies == ()
    assert not router._special
    assert router.args[1] == "s"


@pytest.mark.parametrize("selector", [literal("s"), inject("mode")])
def test_a_literal_or_injected_selector_marks_the_node_as_special(selector):
    router = Router(selector=selector, routes={"s": work()})

    assert router._special


def test_a_literal_route_is_its_value():
    """R2: its lazy values are not looked for."""
    value = [work()]
    router = Router(selector=kind(), routes={"s": literal(value)})

    assert chosen(router, "s") is value


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (literal(work()), "where a literal cannot keep it from being computed"),
        (inject("db"), "give a call of a task that takes the resource"),
        (work.tail(), "only a task can return it"),
    ],
)
def test_a_route_is_a_value_or_something_to_continue_as(route, text):
    with pytest.raises(ArgumentError, match=text):
        Router(selector=kind(), routes={"s": route})


@pytest.mark.parametrize("routes", [{}, None, [("s", 1)], "s"])
def test_a_router_needs_routes(routes):
    with pytest.raises(
        DefinitionError, match=r"^Router needs a dict of at least one route, but got"
    ):
        Router(selector=kind(), routes=routes)


def test_a_route_that_is_a_task_is_shown_how_to_be_called():
    with pytest.raises(
        TypeError, match=r"^route 'l' is the task 'work' itself; call it\n"
    ) as caught:
        Router(selector=kind(), routes={"s": work(), "l": work})

    assert "wrong:  routes={'l': work}\n    right:  routes={'l': work()}" in str(caught.value)


def test_the_arguments_have_names():
    with pytest.raises(TypeError, match="positional"):
        Router(kind(), {"s": work()})


def test_the_routes_show_their_keys():
    router = Router(selector=kind(), routes={"s": work(), 2: work()})

    assert repr(router.args[0]) == "<routes 's', 2>"
