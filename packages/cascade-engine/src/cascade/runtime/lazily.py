"""``lazily``: a part of an object that is made when it is first used.

Most runs are small and need few of the parts that a run can have, and each part costs as much as a
node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class lazily(Generic[T]):  # used as a decorator, like ``property``
    """An attribute that ``make`` computes once, at its first use.

    ``functools.cached_property`` has a lock before Python 3.12, and none later. Here two threads
    may both call ``make``, which must do nothing but make the object: one of the two is kept. Code
    that needs a part only if it was used asks ``self.__dict__.get("gate")``.

    >>> class Run:
    ...     @lazily
    ...     def gate(self):
    ...         return object()
    >>> run = Run()
    >>> run.gate is run.gate
    True
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, owner: None, kind: type) -> Self: ...
    @overload
    def __get__(self, owner: object, kind: type) -> T: ...
    def __get__(self, owner: object | None, kind: type) -> Self | T:
        if owner is None:
            return self
        made: T = owner.__dict__.setdefault(self._name, self._make(owner))
        return made
