"""Fixtures of the tests of the observatory."""

import pytest
from tests.observatory.reports import few_nodes_in

from cascade.observatory.benchmarks import peers


@pytest.fixture
def few_nodes(monkeypatch):
    few_nodes_in(monkeypatch)


@pytest.fixture
def counter_of():
    """``counter_of(peer)``: the peer's counter; skips the test if the library is not installed."""

    def find(peer):
        counters, absent = peers.installed_counters()
        if peer.distribution in absent:
            pytest.skip(f"needs {peer.distribution}: pip install {peer.distribution}")
        (counter,) = (one for one in counters if isinstance(one, peer))
        return counter

    return find
