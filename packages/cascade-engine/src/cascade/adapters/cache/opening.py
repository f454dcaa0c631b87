"""open_entries: the store of a cache by code that a URL names."""

from __future__ import annotations

from cascade.adapters.cache.entries import Entries
from cascade.adapters.cache.memory_entries import MemoryEntries
from cascade.adapters.stores.urls import postgres_place, sqlite_place
from cascade.spec.errors import ArgumentError, StoreError
from cascade.spec.nearby import did_you_mean
from cascade.spec.wording import short

_SCHEMES = ("sqlite", "postgresql", "postgres", "memory")
_EXAMPLES = "'sqlite:///cache.db', 'postgresql://user@host/database' or 'memory:'"


def check_url(url: str) -> None:
    """Refuse a URL that names no cache.

    Raises:
        ArgumentError: It does not, or has an invalid option.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme not in _SCHEMES:
        near = did_you_mean(scheme, _SCHEMES) if colon else f"; for a file: 'sqlite:///{url}'"
        # Only the scheme is shown, as the rest may hold a password.
        what = f"the scheme '{scheme}'" if colon else short(url)
        raise ArgumentError(f"{what} names no cache{near}; URLs of caches are like {_EXAMPLES}")
    if scheme == "sqlite":
        sqlite_place(url)
    elif scheme == "memory" and rest not in ("", "//"):
        raise ArgumentError(f"a cache in memory has no name: write 'memory:', not {short(url)}")


def open_entries(url: str) -> Entries:
    """Open the cache that a URL names.

    Raises:
        ArgumentError: It names none.
        StoreError: It cannot be opened.
    """
    check_url(url)
    scheme = url.partition(":")[0]
    if scheme == "memory":
        return MemoryEntries()
    if scheme == "sqlite":
        from cascade.adapters.cache.sqlite_entries import SQLiteEntries

        path, options = sqlite_place(url)
        return SQLiteEntries(path, **options)
    try:
        from cascade.adapters.cache.postgres_entries import PostgresEntries
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name != "psycopg":
            raise
        raise StoreError(
            f'a cache in PostgreSQL needs psycopg: pip install "cascade-engine[postgres]" ({error})'
        ) from error
    place, options = postgres_place(url)
    return PostgresEntries(place, **options)
