"""``override_resource`` as declared, and the overrides in force at each time."""

import pytest

from cascade.spec.errors import DefinitionError
from cascade.spec.overrides import override_resource, overrides_in_force
from cascade.spec.resource import resource


@resource(scope="task", thread_bound=True, teardown_timeout=5)
def database():
    yield "db"


def fake():
    yield "fake"


async def fake_async():
    yield "fake"


def in_force():
    return {name: override.by.func for name, override in overrides_in_force().items()}


def test_an_override_is_in_force_within_its_block():
    for source in (database, "database"):
        overriding = override_resource(source, fake)
        assert in_force() == {}
        with overriding:
            assert in_force() == {"database": fake}
        assert in_force() == {}


def test_it_ends_with_an_error_too():
    with pytest.raises(ValueError, match="wrong"), override_resource(database, fake):
        raise ValueError("wrong")
    assert in_force() == {}


def test_the_inner_one_wins_and_blocks_may_end_in_any_order():
    outer, inner = override_resource(database, fake), override_resource(database, fake_async)
    outer.__enter__()
    inner.__enter__()
    assert in_force() == {"database": fake_async}
    outer.__exit__(None, None, None)
    assert in_force() == {"database": fake_async}
    inner.__exit__(None, None, None)
    assert in_force() == {}


def test_one_may_be_entered_again_within_itself():
    overriding = override_resource(database, fake)
    with overriding:
        with overriding:
            pass
        assert in_force() == {"database": fake}
    assert in_force() == {}


def test_a_plain_function_takes_over_the_declared_scope_and_timeout():
    with override_resource(database, fake):
        found = overrides_in_force()["database"].in_place_of(database)
    assert (found.scope, found.thread_bound, found.teardown_timeout) == ("task", True, 5)


def test_an_async_function_takes_over_all_but_the_thread():
    with override_resource(database, fake_async):
        found = overrides_in_force()["database"].in_place_of(database)
    assert (found.scope, found.thread_bound, found.teardown_timeout) == ("task", False, 5)


def test_a_declared_one_brings_its_own():
    other = resource(name="other")(fake)
    with override_resource(database, other):
        assert overrides_in_force()["database"].in_place_of(database) is other


@pytest.mark.parametrize("source", ["", None, 3, fake])
def test_only_a_resource_or_its_name_can_be_overridden(source):
    with pytest.raises(DefinitionError, match=r"^override_resource\(\) takes a resource's name or"):
        override_resource(source, fake)


@pytest.mark.parametrize("by", [None, "fake", lambda: 3])
def test_the_replacement_must_yield(by):
    with pytest.raises(DefinitionError, match="does not yield"):
        override_resource(database, by)


def test_an_override_cannot_be_used_as_a_decorator():
    """One of a coroutine function would end before that begins."""
    with pytest.raises(TypeError):
        override_resource(database, fake)(fake)
