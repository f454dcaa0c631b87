"""Fixtures of the tests of loops."""

import pytest

from cascade.runtime.graph_path.compiled_loops import loop_driver


@pytest.fixture
def entered(monkeypatch):
    """The loops that were entered."""
    codes = []
    original = loop_driver.Loop.__init__

    def entering(self, code, *details):
        codes.append(type(code).__name__)
        original(self, code, *details)

    monkeypatch.setattr(loop_driver.Loop, "__init__", entering)
    return codes
