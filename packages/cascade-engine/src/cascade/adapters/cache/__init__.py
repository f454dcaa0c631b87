"""Caches: backends that keep the values of calls, and files that stand for them."""

from cascade.adapters.cache.files import FileExists
from cascade.adapters.cache.lru import LRUCache

__all__ = ["FileExists", "LRUCache"]
