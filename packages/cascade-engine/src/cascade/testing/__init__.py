"""Tests of workflows in virtual time, so that no test waits.

``VirtualTime`` needs only Cascade. The fixture ``virtual_time``, which gives one to each test,
needs pytest, and is imported on demand; in a ``conftest.py``::

    from cascade.testing import virtual_time  # noqa: F401

It is no plugin with an entry point: pytest would import it in every test run of every project that
has Cascade installed, though few tests need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade.runtime.clock import VirtualLoop, run_virtually
from cascade.testing.virtual import VirtualTime

if TYPE_CHECKING:
    from cascade.testing.fixtures import virtual_time as virtual_time
else:

    def __getattr__(name: str) -> object:
        if name != "virtual_time":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from cascade.testing.fixtures import virtual_time

        return virtual_time


__all__ = ["VirtualLoop", "VirtualTime", "run_virtually", "virtual_time"]
