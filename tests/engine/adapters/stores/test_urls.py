"""URLs of stores."""

from __future__ import annotations

import sys

import pytest

from cascade.adapters.stores import MemoryStore, SQLiteStore, open_store
from cascade.spec.errors import ArgumentError, StoreError


def test_a_file_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///runs.db")
    store.close()

    assert isinstance(store, SQLiteStore)
    assert (tmp_path / "runs.db").exists()


def test_a_file_with_an_absolute_path_and_odd_letters(tmp_path):
    open_store(f"sqlite:///{tmp_path}/50%25 größer%3F.db?synchronous=NORMAL&timeout=1.5").close()

    assert (tmp_path / "50% größer?.db").exists()


def test_stores_in_memory_are_separate():
    first, second = open_store("memory:"), open_store("memory:")

    assert isinstance(first, MemoryStore)
    assert first is not second


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (None, "named by a URL such as 'sqlite:///runs.db'.*not by None"),
        ("", "names no store"),
        ("runs.db", "for a file: 'sqlite:///runs.db'"),
        ("postgresq://user:secret@host/db", r"'postgresq' names no store \(did you mean"),
        ("redis://host", "the scheme 'redis' names no store; URLs of stores are like"),
        ("sqlite://runs.db", "names no file: write 'sqlite:///runs.db'"),
        ("sqlite:", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "a store in memory is 'memory:'"),
        ("sqlite:///a.db?timeout=soon", "timeout takes seconds > 0, but got 'soon'"),
        ("sqlite:///a.db?timeout=0", "timeout takes seconds > 0, but got 0.0"),
        ("sqlite:///a.db?synchronous=off", "synchronous must be 'full' or 'normal', not 'off'"),
        ("sqlite:///a.db?mode=ro", "has no option 'mode'; there is synchronous and timeout"),
        ("memory:name", "a store in memory has no name"),
    ],
)
def test_a_wrong_url_is_explained(url, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=text) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_store_in_postgresql_says_which_library_it_needs(monkeypatch):
    for module in list(sys.modules):
        if module.startswith(("cascade.adapters.stores.postgres", "psycopg")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(StoreError, match=r"needs psycopg: pip install .cascade-engine\[postgres"):
        open_store("postgresql://host/database")
