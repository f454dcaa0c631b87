"""The tables of stores in databases, as migrations: each is applied once, in one transaction.

Migrations only add, so that a process with an older Cascade goes on with a store that a newer one
has migrated while it runs. When it opens such a store, it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from cascade.spec.errors import StoreError

#: The statements of one version.
Migration: TypeAlias = Sequence[str]


def pending(found: int, migrations: Sequence[Migration], where: str) -> Sequence[Migration]:
    """The migrations that a store with the version ``found`` lacks; 0 is a store without tables.

    Raises:
        StoreError: The store is newer than this Cascade.
    """
    if found > len(migrations):
        raise StoreError(
            f"{where} has version {found} of the tables of Cascade, but this Cascade knows only "
            f"those up to {len(migrations)}: install a newer cascade-engine"
        )
    return migrations[found:]
