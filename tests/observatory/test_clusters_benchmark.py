"""The benchmark of other processes computes correctly; no test looks at a time."""

import json

import pytest
from tests.in_process import call

from cascade.observatory.benchmarks import called_elsewhere as called
from cascade.observatory.benchmarks import cluster_peers, clusters
from cascade.observatory.benchmarks.pages import write_page


def measured(folder, *sections):
    """Title → names of contenders, and the targets, of a small run of these sections."""
    path = folder / "report.json"
    options = ["--max", 100, "--rounds", 1, "--quick", "--json", path]
    options += [word for section in sections for word in ("--only", section)]
    call(lambda words: clusters.PROGRAM.run(write_page, words), *options, cwd=folder)
    written = json.loads(path.read_text(encoding="utf-8"))
    names = {
        title: {contender["name"] for contender in one["contenders"]}
        for title, one in written["measurements"].items()
    }
    return names, [target["figure"] for target in written["targets"]]


def test_it_measures_short_calls_beside_a_raw_pool(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "pools", lambda _bench: [])  # loky has a test of its own
    names, targets = measured(tmp_path, "short")
    ours = {clusters.CASCADE, clusters.RETRY, clusters.VM}
    assert names == {"short calls": {clusters.RAW, *ours}}
    assert len(targets) == 3


def test_a_cluster_that_is_not_installed_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "find_spec", lambda _name: None)
    assert measured(tmp_path, "dask", "ray") == ({}, [])


@pytest.mark.thorough
def test_it_measures_all_sections(tmp_path):
    names, targets = measured(tmp_path)
    raw = {clusters.RAW, clusters.CASCADE}
    held = {*raw, clusters.VM, clusters.LOOP}
    assert names["calls that hold the lock"] == held
    assert names["calls that compute"] == {*raw, clusters.LOOP}
    assert names["start"] == raw
    if "Dask, a chain" in names:
        assert names["Dask, a chain"] == {"raw Dask", clusters.CASCADE}
        assert names["Dask, a shared value"] == {"raw Dask", "calls by hand", clusters.CASCADE}
    assert len(targets) >= 6


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [cluster_peers.DaskPeer, cluster_peers.RayPeer])
def test_raw_clusters_compute_the_same(kind):
    pytest.importorskip(kind.distribution, reason=f"pip install {kind.distribution}")
    with kind(1) as raw:
        assert raw.calls(called.plus_one, [1, 2]) == [2, 3]
        assert raw.chain(called.plus_one, 0, 5) == 5
        assert raw.hop(called.zeros, called.size_of, 1000) == 1000
        assert raw.fan(called.zeros, called.size_of, 1000) == [1000, 1000]


@pytest.mark.thorough
@pytest.mark.parametrize("kind", [cluster_peers.DaskPeer, cluster_peers.RayPeer])
def test_calls_by_hand_compute_the_same(kind):
    pytest.importorskip(kind.distribution, reason=f"pip install {kind.distribution}")
    with kind(1) as raw:
        assert raw.floor.fan(called.zeros, called.size_of, 1 << 20) == [1 << 20] * 2
        if kind is cluster_peers.RayPeer:
            assert raw.floor.calls(called.plus_one, range(300)) == [*range(1, 301)]
            assert raw.floor.chain(called.plus_one, 0, 5) == 5
            with pytest.raises(RuntimeError, match="TypeError"):
                raw.floor.chain(called.plus_one, "x", 5)
