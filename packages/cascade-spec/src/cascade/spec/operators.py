"""Comparisons and negation of lazy values as calls: ``cs.eq``, ``cs.ne``, ``cs.not_``.

``cs.eq(a, b)`` is ``a == b`` where neither may be lazy, as in a function that takes either.
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


@task
def not_(value: object) -> bool:
    """Lazy ``not value``: ``deploy().run_if(cs.not_(errors()))``.

    Of a bool, ``~value`` is the same.
    """
    return not value
