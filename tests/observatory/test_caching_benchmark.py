"""The benchmark of caches computes correctly; no test looks at a time."""

import json

import pytest
from tests.in_process import call

from cascade.observatory.benchmarks import caching, caching_peers
from cascade.observatory.benchmarks.pages import write_page


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What a small run of all sections wrote, and what it printed."""
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.json"
    options = ("--max", 100, "--rounds", 1, "--quick", "--json", path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caching, "_CALLS", 5)
        patch.setattr(caching, "_NODES", 50)
        # Their own test calls them; here they would take seconds.
        patch.setattr(caching, "installed_keepers", lambda: ([], []))
        done = call(lambda words: caching.PROGRAM.run(write_page, words), *options, cwd=folder)
    return json.loads(path.read_text(encoding="utf-8")), done.stdout


def test_it_measures_hits_and_misses_and_an_unchanged_graph(report):
    written, printed = report
    names = {
        title: {contender["name"] for contender in one["contenders"]}
        for title, one in written["measurements"].items()
    }
    assert names == {
        "hit": {caching.RUN, caching.CACHE, caching.GRAPH},
        "miss": {caching.RUN, caching.CACHE, caching.GRAPH},
        "nodes": {
            caching.PLAIN,
            "pure, no cache",
            "cache switched off",
            "LRUCache, hit",
            "ByCode, unchanged",
            "ByCode, computed",
        },
        "unchanged": {"ByCode, unchanged", "no cache"},
    }
    assert "a run of 50 nodes, unchanged" in printed


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        (caching_peers.Joblib, "joblib"),
        (caching_peers.Redun, "redun"),
        (caching_peers.Hamilton, "hamilton"),
    ],
)
def test_other_libraries_keep_the_values(kind, module, tmp_path):
    pytest.importorskip(module, reason=f"needs {module}, which `hatch run peers:test` has")
    keeper = kind()
    keeper.open(tmp_path)
    try:
        assert keeper.call(3) == keeper.call(3) == caching_peers.row(3)
    finally:
        keeper.close()
