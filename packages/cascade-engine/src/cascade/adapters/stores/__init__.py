"""Stores of durable runs."""

from cascade.adapters.stores.memory import MemoryStore
from cascade.adapters.stores.sqlite import SQLiteStore
from cascade.adapters.stores.urls import open_store

__all__ = ["MemoryStore", "SQLiteStore", "open_store"]
