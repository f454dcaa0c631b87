"""The files of a release are the same, wherever and whenever they are built from one commit."""

import runpy
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "build_release.py"


def test_two_builds_give_the_same_bytes_and_the_links_are_those_of_the_repository(tmp_path):
    """The script itself builds twice, and compares."""
    options = ["--only", "cascade-spec", "--unchecked", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options, "--repository", "https://example.org/who/what/"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert {path.suffix for path in tmp_path.iterdir()} == {".whl", ".gz"}
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        headers = HeaderParser().parsestr(archive.read(path).decode())
    assert "Source, https://example.org/who/what" in headers.get_all("Project-URL")
    assert "Issues, https://example.org/who/what/issues" in headers.get_all("Project-URL")


def test_builds_that_differ_are_an_error(tmp_path, monkeypatch, capsys):
    script = runpy.run_path(str(SCRIPT))

    def built(name, repository, age):
        return {"a.whl": b"same", "b.tar.gz": str(age).encode()}

    monkeypatch.setitem(script["main"].__globals__, "built", built)
    words = ["--only", "cascade-spec", "--unchecked", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["build_release.py", *words])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")

    assert script["main"]() == 1
    assert capsys.readouterr().err == "a second build gives other bytes: b.tar.gz\n"


def test_files_are_not_added_to_those_of_another_build(tmp_path, monkeypatch):
    script = runpy.run_path(str(SCRIPT))
    (tmp_path / "old.whl").write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["build_release.py", "--out", str(tmp_path)])

    with pytest.raises(SystemExit, match="is not empty"):
        script["main"]()
