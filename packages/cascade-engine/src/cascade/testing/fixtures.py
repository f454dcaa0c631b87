"""The pytest fixture. The package itself does not import it, because it does not need pytest."""

from __future__ import annotations

import pytest

from cascade.testing.virtual import VirtualTime


@pytest.fixture
def virtual_time(request: pytest.FixtureRequest) -> VirtualTime:
    """Virtual time from 0, with random numbers from seed 0.

    For other seeds: ``@pytest.mark.parametrize("virtual_time", [1, 2, 3], indirect=True)``.
    """
    return VirtualTime(getattr(request, "param", 0))
