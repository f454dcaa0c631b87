"""Fixtures of the contracts that stores keep: each kind of store, empty."""

import pytest

from cascade.adapters.stores import open_store


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def kind(request):
    return request.param


@pytest.fixture
def url(kind, tmp_path, request):
    """Where a store of this kind is, without any content."""
    if kind == "memory":
        return "memory:"
    if kind == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def store(url):
    store = open_store(url)
    yield store
    store.close()
