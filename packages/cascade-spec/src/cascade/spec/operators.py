"""Comparisons of lazy values that Python's own operators cannot express.

``==`` on lazy values compares identity, because they live in sets and dicts. These functions make
nodes that compare values.
"""

from __future__ import annotations

import operator

from cascade.spec.task import task


@task
def eq(a: object, b: object) -> bool:
    """Lazy ``a == b``: ``deploy().run_if(cs.eq(stage(), "prod"))``."""
    return bool(operator.eq(a, b))


@task
def ne(a: object, b: object) -> bool:
    """Lazy ``a != b``."""
    return bool(operator.ne(a, b))
