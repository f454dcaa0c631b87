"""``eq``, ``ne`` and ``not_``: comparing and negating values that are not known yet."""

from cascade.spec.operators import eq, ne, not_
from cascade.spec.task import task


@task
def stage(): ...


class Odd:
    """Compares as NumPy's arrays do: not to a bool."""

    def __eq__(self, other):
        return ["truthy"]

    def __ne__(self, other):
        return []

    __hash__ = None  # type: ignore[assignment]


def test_a_comparison_is_a_node():
    lazy = stage()

    assert eq(lazy, "prod")._dependencies == (lazy,)
    assert ne("prod", lazy).name == "ne"


def test_a_comparison_serves_as_a_condition():
    """R6."""
    condition = eq(stage(), "prod")

    assert stage().run_if(condition)._conditions == (condition,)


def test_the_result_is_a_bool():
    assert eq.func(1, 1.0) is True
    assert eq.func(1, 2) is False
    assert ne.func(1, 2) is True
    assert eq.func(Odd(), 1) is True
    assert ne.func(Odd(), 1) is False


def test_not_is_a_node_with_a_bool_as_its_value():
    lazy = stage()

    assert not_(lazy)._dependencies == (lazy,)
    assert not_.func([]) is True
    assert not_.func("prod") is False
