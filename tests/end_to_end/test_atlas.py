"""The atlas, run as its users run it."""

import json
import os
import platform
import re
import signal
import sqlite3
import subprocess
import sys
import sysconfig
from pathlib import Path

import networkx
import pytest
from tests.in_process import call

SCRIPT = Path(__file__).parents[2] / "observatory" / "experiments" / "stdlib_atlas.py"
TREE = {
    "shop/__init__.py": "from shop import cart\nfrom . import VERSION\n",
    "shop/cart.py": "import shop.money, os, os.path\nfrom .money import Money\n",
    "shop/money.py": "def f():\n    from decimal import Decimal\n",
    "shop/orphan.py": "import shop.cart as c, shop.broken\n",
    "shop/broken.py": "import shop\ndef f(:\n",
    "shop/notes.txt": "import shop\n",
    "shop/tests/test_cart.py": "import shop.cart\n",
}


def run(*arguments, cwd):
    """In a process of its own: on CPython 3.11 many threads cannot parse in that of the tests.

    Hypothesis has a callback of the collector, and destructors there are in Python (gh-106905).
    """
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1", "COLUMNS": "80"},
        check=False,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    for name, text in TREE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (root / "shop" / "latin.py").write_bytes(b"name = '\xff'\n")
    return root


@pytest.fixture(scope="module")
def atlas(source, tmp_path_factory):
    """One run over the small tree: its output, and the folder with its files."""
    here = tmp_path_factory.mktemp("here")
    return run("--root", source, cwd=here), here / "build" / "atlas"


@pytest.fixture(scope="module")
def document(atlas):
    return json.loads((atlas[1] / "atlas.json").read_text(encoding="utf-8"))


def edges_of(document):
    return {(m["name"], target) for m in document["modules"] for target in m["imports"]}


def assert_ranks_agree_with_networkx(document):
    graph = networkx.DiGraph()
    graph.add_nodes_from(module["name"] for module in document["modules"])
    graph.add_edges_from(edges_of(document))
    ranks = {module["name"]: module["rank"] for module in document["modules"]}
    assert ranks == pytest.approx(networkx.pagerank(graph, tol=1e-12, max_iter=500), abs=1e-8)
    assert document["pagerank"]["residual"] < 1e-10
    assert document["pagerank"]["paths_agree"]


def assert_loads_nothing(page):
    assert "://" not in page
    assert not re.search(r"<(link|img|iframe)|\bsrc=|href=\"(?!#)|url\(|@import", page)


def test_worker_processes_give_the_same_ranks_bit_for_bit(source, document, tmp_path):
    done = run("--root", source, "--executor", "process", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    there = json.loads((tmp_path / "build" / "atlas" / "atlas.json").read_text(encoding="utf-8"))
    assert there["modules"] == document["modules"]
    assert there["failures"] == document["failures"]
    assert there["pagerank"] == document["pagerank"]


def test_a_broken_file_does_not_stop_the_run_and_is_named_with_its_reason(atlas, document):
    done, _ = atlas

    assert done.returncode == 0, done.stderr
    assert "2 of the files did not parse:" in done.stdout
    assert "shop.broken  line 2: invalid syntax" in done.stdout
    assert set(document["failures"]) == {"shop.broken", "shop.latin"}
    assert document["failures"]["shop.broken"] == "line 2: invalid syntax"


def test_the_import_graph_is_right(document):
    assert edges_of(document) == {
        ("shop", "shop.cart"),
        ("shop.cart", "shop.money"),
        ("shop.orphan", "shop.cart"),
        ("shop.orphan", "shop"),  # of shop.broken no more than the package is there
    }
    assert document["outside"] == {"os": 1, "decimal": 1}
    assert document["left_out"] == {"in test folders": 1}


def test_ranks_agree_with_networkx(document):
    assert_ranks_agree_with_networkx(document)
    assert document["modules"][0]["name"] == "shop.money"


def test_the_workflow_runs_on_both_paths(document):
    runs = {(r["target"], r["path"]): r for r in document["runs"]}

    assert set(runs) == {("import_graph", "graph"), ("pagerank", "vm"), ("pagerank", "graph")}
    assert runs["import_graph", "graph"]["tasks"] == 7  # six modules, and the graph
    steps = document["pagerank"]["steps"]
    assert runs["pagerank", "vm"]["steps"] == runs["pagerank", "graph"]["steps"] == steps > 1
    assert all(r["seconds"] > 0 for r in runs.values())


def test_the_database_holds_the_edges_and_imports_of_the_document(atlas, document):
    database = sqlite3.connect(atlas[1] / "atlas.sqlite")
    try:
        edges = set(database.execute("select module, imported from edge"))
        statements = database.execute("select count(*) from import where module = 'shop.cart'")
        assert edges == edges_of(document)
        assert statements.fetchone() == (4,)
    finally:
        database.close()


def test_the_page_shows_every_module_and_loads_no_other_file(atlas):
    page = (atlas[1] / "atlas.html").read_text(encoding="utf-8")

    assert_loads_nothing(page)
    assert page.count('<g class="dot"') == 4
    assert page.count("<tr data-key=") == 4
    assert "shop.broken: line 2: invalid syntax" in page


def test_the_report_fits_a_pipe_of_80_columns(atlas):
    done, _ = atlas

    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout + done.stderr
    assert "import_graph, graph path: succeeded, 7 of 7 tasks" in done.stderr
    assert "pagerank, vm path: succeeded" in done.stderr


def test_quiet_writes_the_same_files_and_says_nothing(source, atlas, tmp_path):
    done = run("--quiet", "--root", source, "--out", "out", cwd=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["atlas.html", "atlas.json", "atlas.sqlite"]
    # A second process makes the same picture.
    assert (tmp_path / "out" / "atlas.html").read_bytes() == (atlas[1] / "atlas.html").read_bytes()


@pytest.mark.parametrize("modules", [30, pytest.param(120, marks=pytest.mark.thorough)])
def test_a_slice_of_the_real_standard_library(modules, tmp_path):
    done = run("--limit", modules, "--top", "3", "--out", tmp_path, cwd=tmp_path)
    document = json.loads((tmp_path / "atlas.json").read_text(encoding="utf-8"))

    assert done.returncode == 0, done.stderr
    assert platform.python_version() in done.stdout
    assert document["root"] == str(Path(sysconfig.get_path("stdlib")).resolve())
    assert len(document["modules"]) + len(document["failures"]) == modules
    assert document["modules"][0]["name"] in done.stdout
    assert_ranks_agree_with_networkx(document)
    assert_loads_nothing((tmp_path / "atlas.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--root", "nowhere"], "--root nowhere is not a folder"),
        (["--root", "."], "--root . holds no Python modules"),
        (["--top", "0"], "argument --top: 0 is not at least 1"),
        (["--limit", "many"], "argument --limit: 'many' is not a whole number"),
        (["--colour"], "unrecognized arguments: --colour"),
        (["--limit", "1", "--out", "file"], "cannot write into --out file: "),
    ],
)
def test_options_that_make_no_sense_are_one_sentence_and_status_2(arguments, message, tmp_path):
    (tmp_path / "file").touch()
    done = call(SCRIPT, *arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"stdlib_atlas.py: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_interrupted_it_ends_with_130_and_no_traceback(tmp_path):
    pipe = tmp_path / "source" / "slow.py"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    command = [sys.executable, SCRIPT, "--root", pipe.parent, "--out", tmp_path / "out"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        with pipe.open("w"):  # opens when a task of the run opens the other end
            process.send_signal(signal.SIGINT)
            # Closing lets that task end: a run waits for the calls that it has made (M8).
        printed, errors = process.communicate()

    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert errors.endswith("interrupted\n")
    assert printed == ""
    assert not (tmp_path / "out" / "atlas.json").exists()
