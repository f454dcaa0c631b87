"""The cost of being watched is found from pairs of CPU times of two processes."""

import pytest

from cascade.observatory.benchmarks import watched


def test_an_interval_covers_the_mean_and_shrinks_with_agreement():
    cost = watched.cost_of([1.02, 1.04, 1.0, 1.02], 7)
    assert cost.least < cost.ratio < cost.most
    assert cost.ratio == pytest.approx(1.02, abs=0.001)
    assert watched.cost_of([1.03] * 4, 7)[:3] == pytest.approx((1.03, 1.03, 1.03))
    assert str(watched.cost_of([1.03] * 4, 7)) == (
        "+3.0 % of CPU time, 95 % interval +3.0 to +3.0 %"
    )


@pytest.mark.thorough
async def test_two_engines_work_by_turns_and_one_is_watched(monkeypatch):
    monkeypatch.setattr(watched, "_SHOWN", 0.5)
    monkeypatch.setattr(watched, "_BEGINS", 0.3)
    lines: list[str] = []
    found = await watched.costs(2, 1, lines.append)
    assert found.keys() == watched.WORKS.keys()
    assert len(lines) == 4
    assert all(cost.shown for cost in found.values())
