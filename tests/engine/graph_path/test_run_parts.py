"""The parts of a graph run."""

from cascade.runtime.graph_path.run_parts import RunParts
from cascade.runtime.graph_path.strategy import _MAKERS


def test_each_part_has_a_maker_or_is_made_with_the_run():
    parts = {name for name in RunParts.__annotations__ if not name.startswith("_")}
    assert parts == {*_MAKERS, "dispatch", "nodes"}
