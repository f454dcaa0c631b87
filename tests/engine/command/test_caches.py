"""``cascade cache``, ``explain --cache`` and ``run --cache``."""

import json

import pytest

FLOW = """\
import cascade as cs

@cs.task(pure=True)
def load(n: int):
    print("loading", n)
    return list(range(n))

@cs.task(pure=True)
def total(rows):
    return sum(rows)

report = total(load(cs.Param("n", 3, type=int)))
"""


@pytest.fixture
def flow(tmp_path):
    path = tmp_path / "cached_flow.py"
    path.write_text(FLOW)
    return f"{path}:report"


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.delenv("CASCADE_CACHE", raising=False)
    return f"sqlite:///{tmp_path}/cache.db"


def test_a_second_run_computes_nothing(cascade, flow, url):
    assert cascade("run", flow, "--cache", url).out == "loading 3\n3\n"
    assert cascade("run", flow, "--cache", url).out == "3\n"
    assert cascade("run", flow, "--cache", url, "--n", "4").out == "loading 4\n6\n"


def test_the_environment_may_name_the_cache(cascade, flow, url, monkeypatch):
    monkeypatch.setenv("CASCADE_CACHE", url)

    assert cascade("run", flow).out == "loading 3\n3\n"
    assert cascade("run", flow).out == "3\n"
    assert "hit" in cascade("explain", "--cache", flow).out
    assert "load" in cascade("cache", "stats").out


def test_what_is_kept_is_told_by_task(cascade, flow, url):
    cascade("run", flow, "--cache", url)

    lines = cascade("cache", "stats", "--cache", url).out.splitlines()
    assert lines[0].split() == ["task", "entries", "size", "a", "hit", "saves", "last", "used"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["cached_flow:load", "1", "7", "B"],
        ["cached_flow:total", "1", "1", "B"],
        ["all", "2", "8", "B"],
    ]
    uses = json.loads(cascade("cache", "stats", "--cache", url, "--json").out)
    assert [(use["task"], use["entries"], use["size"]) for use in uses] == [
        ("cached_flow:load", 1, 7),
        ("cached_flow:total", 1, 1),
    ]


def test_values_are_cleared(cascade, flow, url):
    cascade("run", flow, "--cache", url)

    def clear(*words):
        return cascade("cache", "clear", *words, "--cache", url)

    assert clear("--older", "1d").out == "removed 0 values\n"
    assert clear("cached_flow:load").out == "removed 1 value\n"
    assert clear("--json").out == '{"removed": 1}\n'
    refused = clear("cached_flow:load")
    assert (refused.code, refused.out) == (1, "")
    assert "has no values of a task 'cached_flow:load'" in refused.err
    wrong = clear("--older", "soon")
    assert (wrong.code, wrong.err) == (
        2,
        "cascade: --older takes an age such as '12h', '7d' or '4w', or seconds, but got 'soon'\n",
    )


def test_commands_that_look_make_no_cache(cascade, url, tmp_path):
    for words in (["stats"], ["clear"]):
        outcome = cascade("cache", *words, "--cache", url)
        assert (outcome.code, outcome.out) == (1, "")
        assert f"there is no file '{tmp_path}/cache.db'" in outcome.err
    assert not (tmp_path / "cache.db").exists()


def test_an_emptied_cache_says_so(cascade, flow, url):
    cascade("run", flow, "--cache", url)
    cascade("cache", "clear", "--cache", url)

    assert cascade("cache", "stats", "--cache", url).out == "the cache is empty\n"


def test_what_is_no_hit_is_explained(cascade, flow, url):
    missed = cascade("cache", "why", flow, "--cache", url)
    assert missed.code == 1
    assert missed.out == (
        "load   computed  the cache has no value of this task\n"
        "total  computed  it needs the value of 'load', which is computed\n"
    )
    cascade("run", flow, "--cache", url)

    hit = cascade("cache", "why", flow, "--cache", url)
    assert (hit.code, hit.out) == (0, f"all of {flow} is known\n")
    one = cascade("cache", "why", flow, "load", "--param", "n=5", "--cache", url)
    assert (one.code, one.out) == (1, "load  computed  its argument 'n' changed: 5\n")
    unknown = cascade("cache", "why", flow, "lod", "--cache", url)
    assert unknown.code == 2
    assert "calls no task 'lod' (did you mean 'load'?)" in unknown.err


def test_explain_tells_each_node(cascade, flow, url):
    cascade("run", flow, "--cache", url)

    told = cascade("explain", "--cache", flow, "--store", url, "--param", "n=3").out
    assert [line.split()[:2] for line in told.splitlines()] == [["load", "hit"], ["total", "hit"]]
    as_json = json.loads(cascade("explain", "--cache", flow, "--store", url, "--json").out)
    assert [(node["task"], node["status"]) for node in as_json["nodes"]] == [
        ("load", "hit"),
        ("total", "hit"),
    ]
    assert as_json["untracked"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cache", "stats"], "no cache is named: give --cache sqlite:///cache.db, or set CASC"),
        (["cache", "stats", "--cache", "cache.db"], "'cache.db' names no cache; for a file: 'sq"),
        (["run", "{}", "--cache", "cache.db"], "'cache.db' names no cache; for a file: 'sqlite"),
        (["explain", "{}", "--store", "x"], "--store and --param are for explain --cache"),
        (["explain", "--cache", "{}", "--param", "n"], "--param takes NAME=VALUE, but got 'n'"),
    ],
)
def test_wrong_usage_is_told(cascade, flow, url, words, message):
    told = cascade(*[word.format(flow) for word in words])

    assert told.code == 2
    assert message in told.err
