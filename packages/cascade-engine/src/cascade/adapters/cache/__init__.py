"""Caches: where the values of calls are kept, and files that stand for them."""

from cascade.adapters.cache.files import FileExists
from cascade.adapters.cache.lru import LRUCache

__all__ = ["FileExists", "LRUCache"]
