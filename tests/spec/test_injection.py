"""Injected parameters, by default and by annotation."""

import functools
from typing import Annotated, Any

import pytest

from cascade.spec.errors import DefinitionError
from cascade.spec.injection import Inject
from cascade.spec.parameters import Parameters
from cascade.spec.resource import inject, resource
from cascade.spec.task import task


@resource
def database():
    yield "db"


Database = Annotated[str, inject(database)]
DB = inject(database)


def injections(func):
    return {n: i.resource_name for n, i in Parameters(func, "work").injections.items()}


def test_an_annotation_injects_as_a_default_does():
    def work(n: int, db: Annotated[str, DB], *, log: Annotated[Any, "doc", inject("log")]): ...

    assert injections(work) == {"db": "database", "log": "log"}
    assert task(work)(1).kwargs == {"db": DB, "log": task(work).parameters.injections["log"]}


def test_an_argument_takes_the_place_of_an_injection():
    @task
    def work(n: int, db: Database): ...

    assert work(1, "other").args == (1, "other")
    assert work(1, db="other").kwargs == {"db": "other"}
    assert work(n=1).kwargs["db"] is Database.__metadata__[0]


def test_an_alias_may_be_shared_and_annotated_further():
    def work(one: Database, two: Annotated[Database, "doc"]): ...

    assert injections(work) == {"one": "database", "two": "database"}


@pytest.mark.parametrize(
    "text",
    [
        "Database",
        "Annotated[str, inject(database)]",
        "Annotated[Database, 'doc']",
        "Annotated[str, DB]",
    ],
)
def test_annotations_may_be_text(text):
    """As ``from __future__ import annotations`` makes them."""

    def work(db): ...

    work.__annotations__["db"] = text

    assert injections(work) == {"db": "database"}
    assert injections(functools.partial(work)) == {"db": "database"}


def test_a_textual_annotation_sees_the_closure_of_the_function():
    local = inject("local")

    def work(db):
        return local

    work.__annotations__["db"] = "Annotated[str, local]"

    assert injections(work) == {"db": "local"}


class Work:
    def __call__(self, db: "Database"): ...

    def method(self, db: "Database"): ...


@pytest.mark.parametrize(
    "func", [Work(), Work().method, functools.wraps(Work().method)(lambda *_: 1)]
)
def test_any_callable_may_be_annotated(func):
    assert injections(func) == {"db": "database"}


@pytest.mark.parametrize(
    "text", ["OnlyForCheckers", "missing.Name", "Annotated[Missing, 1]", "list[Missing]", "1 +", ""]
)
def test_text_that_is_for_checkers_only_is_left_alone(text):
    def work(db=1): ...

    work.__annotations__["db"] = text

    assert injections(work) == {}


def test_annotations_that_cannot_inject_are_not_evaluated():
    """It might cost much, or have effects."""
    evaluated = []

    def work(a, b):
        return evaluated

    work.__annotations__ = {"a": "list[evaluated.append(1)]", "b": "int | evaluated.append(1)"}

    assert injections(work) == {}
    assert evaluated == []


def test_text_that_injects_and_cannot_be_evaluated_is_refused():
    def work(db): ...

    work.__annotations__["db"] = "Annotated[str, cs.inject(nowhere)]"

    with pytest.raises(DefinitionError) as caught:
        task(work)
    assert str(caught.value) == (
        "'work': the annotation of 'db' cannot be evaluated (NameError: name 'cs' is not defined); "
        "with 'from __future__ import annotations' all its names must be global, also when the "
        "program runs; or write db=cs.inject(…)"
    )


def refused(func, match):
    with pytest.raises(DefinitionError, match=match):
        task(func)


def test_a_default_besides_the_annotation_is_refused():
    def work(db: Database = "other"): ...

    refused(work, "'db' is injected by its annotation, and has the default 'other' as well")


def test_several_resources_for_one_parameter_are_refused():
    def work(db: Annotated[Database, inject("log")]): ...

    refused(work, r"several resources, inject\('database'\), inject\('log'\); keep one")


def test_a_marker_without_annotated_is_refused():
    def work(db: DB): ...

    refused(work, r"the annotation of 'db' is inject\('database'\) itself; write db=cs\.inject")


def test_any_number_of_arguments_cannot_be_injected():
    def work(*dbs: Database): ...

    refused(work, "takes any number of arguments and cannot be injected")


def test_an_injected_parameter_stands_last():
    def work(db: Database, table): ...

    refused(work, "'db' stands before 'table', which has no default; put injected parameters last")

    def fine(db: Database, table="t", *, limit): ...

    assert injections(fine) == {"db": "database"}


def test_a_positional_only_parameter_cannot_be_injected():
    def work(db: Database, /): ...

    refused(work, "the positional-only parameter 'db' cannot be injected")


def test_providers_are_annotated_in_the_same_way():
    @resource
    def users(db: Database, log: Annotated[str, inject("log")], size=3):
        yield

    assert {n: i.resource_name for n, i in users.needs.items()} == {"db": "database", "log": "log"}

    def positional(db: Database, /):
        yield

    with pytest.raises(DefinitionError, match="'db' cannot be injected; move it behind the '/'"):
        resource(positional)


def test_the_repr_of_a_marker_names_the_resource():
    assert repr(Inject("db", None)) == "inject('db')"
