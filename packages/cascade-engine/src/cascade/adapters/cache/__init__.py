"""Caches: policies, backends that keep the values of calls, and files that stand for them.

``by_code`` keeps its values in a store of ``entries``: in ``memory_entries``, ``sqlite_entries`` or
``postgres_entries``.
"""

from cascade.adapters.cache.files import FileExists
from cascade.adapters.cache.lru import LRUCache

__all__ = ["FileExists", "LRUCache"]
