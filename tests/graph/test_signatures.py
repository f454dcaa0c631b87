"""The identity of a target (D1), and what differs between two."""

import pytest
from hypothesis import given
from tests.graph.flows import join, load, pair
from tests.graph.programs import programs

from cascade.graph.signatures import Signature, difference, signature
from cascade.spec.errors import SerializationError


def report(path="a.csv", rolls=2, *, extra=(), flag=None):
    dice = [load("dice") for _ in range(rolls)]
    rows = pair(load(path), 1)
    if flag is not None:
        rows = rows.run_if(load(flag) > 0)
    return join(rows, *dice, *extra)


@given(programs())
def test_a_signature_comes_back_from_its_bytes(program):
    made = signature(program[-1])

    again = Signature.from_bytes(made.to_bytes())

    assert again == made
    assert again.nodes == made.nodes
    assert difference(again, made) == "they do not differ"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (lambda: report("b.csv"), "'load' has other arguments"),
        (lambda: report(rolls=3), "'load' has 4 nodes instead of 3"),
        (lambda: report(rolls=1), "'load' has 2 nodes instead of 3"),
        (lambda: report(extra=[1]), "'join' has other arguments"),
        (lambda: report(extra=[pair.map(a=[1])]), "'pair.map' is new"),
        (lambda: load("a.csv"), "'pair' is missing; 'join' is missing; 'load' has 1 node"),
        (lambda: report(flag="x"), "'gt' is new; 'load' has 4 nodes"),
    ],
)
def test_the_difference_names_the_nodes_where_it_begins(target, expected):
    stored, given = signature(report()), signature(target())

    assert stored != given
    assert difference(stored, given).startswith(expected)


def test_a_node_that_the_target_only_comes_after_counts():
    assert signature(load("a").after(load("b"))) != signature(load("a").after(load("c")))


def test_a_long_difference_is_cut():
    many = [load.map(path=[1]), load(1) + 1, -load(2), load(3) * 2]

    found = difference(signature(report()), signature(report(extra=many)))

    assert found.endswith("more")
    assert found.count(";") == 2


def test_a_large_target_is_told_apart_without_names():
    large = Signature.from_bytes(signature(join(*map(load, range(2_000)))).to_bytes())

    assert large.nodes == {}
    assert difference(large, signature(report())) == "it has another digest"


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"digest": 1, "nodes": []}', b"[" * 10**6])
def test_bytes_that_are_no_signature_are_refused(body):
    with pytest.raises(SerializationError, match="not the signature of a target"):
        Signature.from_bytes(body)
