"""Resources as declared, and ``inject``."""

import functools

import pytest

from cascade.spec.errors import DefinitionError
from cascade.spec.resource import Inject, ResourceDefinition, inject, resource


def provider():
    yield "it"


async def async_provider():
    yield "it"


def test_a_provider_is_known_by_its_function():
    made = resource(provider)

    assert type(made) is ResourceDefinition
    assert (made.func, made.name, made.scope) == (provider, "provider", "run")
    assert (made.thread_bound, made.is_async) == (False, False)
    assert repr(made) == "<resource provider scope=run>"


def test_a_provider_can_be_an_async_generator():
    assert resource(async_provider).is_async


def test_name_scope_and_thread_are_declared():
    """M7."""
    made = resource(name="db", scope="task", thread_bound=True)(provider)

    assert (made.name, made.scope, made.thread_bound) == ("db", "task", True)
    assert resource()(provider).name == "provider"


def test_a_partial_of_a_provider_is_one():
    made = resource(name="p")(functools.partial(provider))

    assert (made.name, made.is_async) == ("p", False)


class Connection:
    def __iter__(self):
        yield 1


@pytest.mark.parametrize("function", [lambda: 3, len, Connection, Connection(), 3])
def test_a_provider_that_does_not_yield_is_refused_at_decoration(function):
    with pytest.raises(TypeError, match=r"^@resource takes a generator function") as caught:
        resource(function)

    assert type(caught.value) is DefinitionError
    assert "does not yield\n    wrong:  def database(): return connect()\n" in str(caught.value)
    assert "\n    right:  def database(): db = connect(); yield db; db.close()" in str(caught.value)


def test_a_coroutine_function_is_refused_as_a_provider():
    async def connect(): ...

    with pytest.raises(DefinitionError, match="connect' does not yield\n"):
        resource(connect)


def test_a_scope_is_one_of_two():
    with pytest.raises(DefinitionError, match=r"^resource 'provider': scope must be .* is 'step'$"):
        resource(scope="step")(provider)


def test_an_async_provider_is_on_the_loops_thread_already():
    with pytest.raises(
        DefinitionError, match=r"^resource 'async_provider': thread_bound=True is fo"
    ):
        resource(thread_bound=True)(async_provider)


def test_every_required_parameter_of_a_provider_must_be_injected():
    @resource
    def fine(config=inject("config"), *rest, size=3, **options):
        yield 1

    assert fine.name == "fine"

    def database(config):
        yield 1

    message = (
        r"^provider '.*database': the parameter 'config' has no default; inject it: "
        r"config=cs\.inject\(…\)$"
    )
    with pytest.raises(DefinitionError, match=message):
        resource(database)
    assert resource(name="db")(functools.partial(database, config=1)).name == "db"


def test_a_positional_only_parameter_cannot_be_injected():
    def database(config=inject("config"), /):
        yield 1

    with pytest.raises(DefinitionError, match=r"the positional-only parameter 'config' cannot be"):
        resource(database)


def test_the_place_of_a_provider_is_that_of_its_function():
    line = provider.__code__.co_firstlineno

    assert resource(provider).place.endswith(f"test_resource.py:{line}")
    assert resource(functools.partial(provider)).place.endswith(f"test_resource.py:{line}")


def test_inject_takes_a_provider_or_a_name():
    made = resource(name="db")(provider)
    by_provider, by_name = inject(made), inject("db")

    assert type(by_provider) is type(by_name) is Inject
    assert (by_provider.resource_name, by_provider.definition) == ("db", made)
    assert (by_name.resource_name, by_name.definition) == ("db", None)
    assert repr(by_name) == repr(by_provider) == "inject('db')"


@pytest.mark.parametrize("source", ["", None, 3, provider, lambda: 0])
def test_inject_refuses_other_objects(source):
    with pytest.raises(
        DefinitionError, match=r"^inject\(\) takes a resource's name or a function de"
    ):
        inject(source)


def test_the_name_may_be_given_by_position():
    @resource("database", "task")
    def provider():
        yield 1

    assert (provider.name, provider.scope) == ("database", "task")
