"""open_store: the store that a URL names."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from cascade.adapters.stores.memory import MemoryStore
from cascade.adapters.stores.sqlite import SQLiteStore
from cascade.spec.errors import ArgumentError, StoreError
from cascade.spec.nearby import did_you_mean
from cascade.spec.run_store import RunStore
from cascade.spec.wording import short

_EXAMPLES = "'sqlite:///runs.db', 'postgresql://user@host/database' or 'memory:'"


def open_store(url: str) -> RunStore:
    """Open a store of durable runs.

    ``sqlite:///runs.db`` is a file in the working directory, ``sqlite:////var/lib/runs.db`` one
    with an absolute path. Options: ``?synchronous=normal`` and ``?timeout=30`` (seconds), as
    SQLiteStore takes them.

    ``postgresql://user:password@host:5432/database`` takes the options of libpq, and
    ``?prepare=off`` for poolers that know no prepared statements, as PostgresStore takes them.

    ``memory:`` is a new store that ends with the process.

    Raises:
        ArgumentError: The URL names no store, or has an invalid option.
        StoreError: The store cannot be opened.
    """
    if not isinstance(url, str):
        raise ArgumentError(f"a store is named by a URL such as {_EXAMPLES}, not by {short(url)}")
    scheme, colon, _rest = url.partition(":")
    opener = _OPENERS.get(scheme) if colon else None
    if opener is None:
        near = did_you_mean(scheme, list(_OPENERS)) if colon else f"; for a file: 'sqlite:///{url}'"
        # Only the scheme is shown, as the rest may hold a password.
        what = f"the scheme '{scheme}'" if colon else short(url)
        raise ArgumentError(f"{what} names no store{near}; URLs of stores are like {_EXAMPLES}")
    return opener(url)


def _memory(url: str) -> RunStore:
    if url not in ("memory:", "memory://"):
        raise ArgumentError(f"a store in memory has no name: write 'memory:', not {short(url)}")
    return MemoryStore()


def _sqlite(url: str) -> RunStore:
    path, options = sqlite_place(url)
    return SQLiteStore(path, **options)


def absolute(url: str, folder: str) -> str:
    """The URL of the same store for a process with another working directory than ``folder``."""
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        return url
    path = os.path.join(folder, unquote(parts.path).removeprefix("/"))
    return f"sqlite:///{quote(path)}{parts.query and f'?{parts.query}'}"


def sqlite_place(url: str) -> tuple[str, dict[str, Any]]:
    """The file that a URL names, and the options in it.

    Raises:
        ArgumentError: It names none, or has an unknown option.
    """
    parts = urlsplit(url)
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path or parts.fragment:
        raise ArgumentError(
            f"{short(url)} names no file: write 'sqlite:///runs.db' for one in the working "
            "directory, or 'sqlite:////folder/runs.db' with an absolute path"
        )
    if path == ":memory:":
        raise ArgumentError("a store in memory is 'memory:'; SQLite's own cannot be shared")
    return path, _options(parts.query, {"synchronous": _synchronous, "timeout": _seconds})


def _postgres(url: str) -> RunStore:
    try:
        from cascade.adapters.stores.postgres import PostgresStore
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name != "psycopg":
            raise
        raise StoreError(
            f'a store in PostgreSQL needs psycopg: pip install "cascade-engine[postgres]" ({error})'
        ) from error

    plain, options = postgres_place(url)
    return PostgresStore(plain, **options)


def postgres_place(url: str) -> tuple[str, dict[str, Any]]:
    """The URL for libpq, and our options in it.

    Raises:
        ArgumentError: One of ours is invalid.
    """
    parts = urlsplit(url)
    ours: list[str] = []
    rest: list[str] = []
    for option in parts.query.split("&"):
        (ours if option.partition("=")[0] == "prepare" else rest).append(option)
    options = _options("&".join(ours), {"prepare": _on_or_off})
    # The rest as it is: libpq does not take "+" for a space.
    return urlunsplit(parts._replace(query="&".join(rest))), options


def _options(query: str, known: Mapping[str, Callable[[str, str], Any]]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ArgumentError(
                f"the URL of a store has no option '{name}'{did_you_mean(name, list(known))}; "
                f"there is {' and '.join(known)}"
            )
        options[name] = known[name](name, text)
    return options


def _synchronous(_name: str, text: str) -> str:
    return text.lower()


def _on_or_off(name: str, text: str) -> bool:
    if text not in ("on", "off"):
        raise ArgumentError(f"{name} must be 'on' or 'off', but is {short(text)}")
    return text == "on"


def _seconds(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentError(f"{name} takes seconds > 0, but got {short(text)}") from None


_OPENERS: Final[Mapping[str, Callable[[str], RunStore]]] = {
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
    "memory": _memory,
}
