"""Filters of runs as SQL, for all stores that use it."""

from __future__ import annotations

from typing import Any

from cascade.spec.run_rows import Filter


def condition(where: Filter, mark: str) -> tuple[str, list[Any]]:
    """The end of a ``SELECT`` for the runs that a filter lets through, the newest first.

    Args:
        where: The filter.
        mark: The placeholder of the database, ``"?"`` or ``"%s"``.

    Returns:
        The clauses, and the values of their placeholders.
    """
    parts: list[str] = []
    values: list[Any] = []
    if where.statuses:
        parts.append(f"status IN ({', '.join([mark] * len(where.statuses))})")
        values += map(str, where.statuses)
    for column, value in (
        ("target =", where.target),
        ("parent =", where.parent),
        ("number <", where.before),
    ):
        if value is not None:
            parts.append(f"{column} {mark}")
            values.append(value)
    fits = f"WHERE {' AND '.join(parts)} " if parts else ""
    return f"{fits}ORDER BY number DESC LIMIT {mark}", [*values, where.limit]
