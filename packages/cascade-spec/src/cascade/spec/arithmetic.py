"""Operators on lazy values: ``lazy["key"]``, ``a + b``, ``a < b``, ``~a``, ``round(a)``.

Each makes a node of its own, computed like any other: ``deploy().run_if(score == 1)``. The hash of
a lazy value is its identity, and a lazy value equals itself without a node, so sets and dicts of
lazy values find them by identity. Two different lazy values have no answer before a run: where
Python asks for one, as in ``lazy in [other]``, ``bool()`` of the node raises a LazyUseError.
"""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeAlias

from cascade.spec.logic import invert
from cascade.spec.operator_types import OperatorTypes, V_co
from cascade.spec.unpacking import item_range

if TYPE_CHECKING:
    from cascade.spec.lazy_types import LazyResult

_Binary: TypeAlias = "Callable[[Arithmetic[Any], Any], LazyResult[Any]]"
_Unary: TypeAlias = "Callable[[Arithmetic[Any]], LazyResult[Any]]"


def _forward(func: Callable[[Any, Any], Any]) -> _Binary:
    def method(self: Arithmetic[Any], other: Any) -> LazyResult[Any]:
        frame = sys._getframe(1)
        return self._combine(func, (self, other), frame.f_code, frame.f_lasti)

    return method


def _reflected(func: Callable[[Any, Any], Any]) -> _Binary:
    def method(self: Arithmetic[Any], other: Any) -> LazyResult[Any]:
        frame = sys._getframe(1)
        return self._combine(func, (other, self), frame.f_code, frame.f_lasti)

    return method


def _unary(func: Callable[[Any], Any]) -> _Unary:
    def method(self: Arithmetic[Any]) -> LazyResult[Any]:
        frame = sys._getframe(1)
        return self._combine(func, (self,), frame.f_code, frame.f_lasti)

    return method


class Arithmetic(OperatorTypes[V_co]):
    """The operators of lazy values: a mixin of LazyResult, which makes the nodes."""

    __slots__ = ()

    #: Makes numpy leave ``array + lazy`` to us instead of adding to each element.
    __array_ufunc__ = None

    def _combine(
        self, func: Callable[..., Any], args: tuple[Any, ...], code: CodeType, lasti: int
    ) -> LazyResult[Any]:
        """The node that calls ``func`` with ``args``; ``code``, ``lasti`` locate the source."""
        raise NotImplementedError

    def __eq__(self, other: object) -> Any:
        """A node that compares the values; True for the same lazy value, without a node."""
        if other is self:
            return True
        frame = sys._getframe(1)
        return self._combine(operator.eq, (self, other), frame.f_code, frame.f_lasti)

    def __ne__(self, other: object) -> Any:
        """A node that compares the values; False for the same lazy value, without a node."""
        if other is self:
            return False
        frame = sys._getframe(1)
        return self._combine(operator.ne, (self, other), frame.f_code, frame.f_lasti)

    __hash__ = object.__hash__

    __matmul__ = _forward(operator.matmul)
    __divmod__ = _forward(divmod)
    __lshift__ = _forward(operator.lshift)
    __rshift__ = _forward(operator.rshift)

    __rmatmul__ = _reflected(operator.matmul)
    __rpow__ = _reflected(operator.pow)
    __rdivmod__ = _reflected(divmod)
    __rand__ = _reflected(operator.and_)
    __ror__ = _reflected(operator.or_)
    __rxor__ = _reflected(operator.xor)
    __rlshift__ = _reflected(operator.lshift)
    __rrshift__ = _reflected(operator.rshift)

    __invert__ = _unary(invert)
    __floor__ = _unary(math.floor)
    __ceil__ = _unary(math.ceil)
    __trunc__ = _unary(math.trunc)

    def __round__(self, ndigits: Any = None) -> LazyResult[Any]:
        frame = sys._getframe(1)
        args = (self,) if ndigits is None else (self, ndigits)
        return self._combine(round, args, frame.f_code, frame.f_lasti)

    def __pow__(self, exponent: Any, modulus: Any = None) -> LazyResult[Any]:
        frame = sys._getframe(1)
        if modulus is None:
            return self._combine(operator.pow, (self, exponent), frame.f_code, frame.f_lasti)
        return self._combine(pow, (self, exponent, modulus), frame.f_code, frame.f_lasti)

    if not TYPE_CHECKING:  # OperatorTypes has their types

        def __getitem__(self, key: Any) -> LazyResult[Any]:
            """The item of the value; ``key`` may be lazy, and so may the ends of a slice."""
            frame = sys._getframe(1)
            if isinstance(key, slice):
                args = (self, key.start, key.stop, key.step)
                return self._combine(item_range, args, frame.f_code, frame.f_lasti)
            return self._combine(operator.getitem, (self, key), frame.f_code, frame.f_lasti)

        __lt__ = _forward(operator.lt)
        __le__ = _forward(operator.le)
        __gt__ = _forward(operator.gt)
        __ge__ = _forward(operator.ge)
        __add__ = _forward(operator.add)
        __sub__ = _forward(operator.sub)
        __mul__ = _forward(operator.mul)
        __truediv__ = _forward(operator.truediv)
        __floordiv__ = _forward(operator.floordiv)
        __mod__ = _forward(operator.mod)
        __and__ = _forward(operator.and_)
        __or__ = _forward(operator.or_)
        __xor__ = _forward(operator.xor)
        __radd__ = _reflected(operator.add)
        __rsub__ = _reflected(operator.sub)
        __rmul__ = _reflected(operator.mul)
        __rtruediv__ = _reflected(operator.truediv)
        __rfloordiv__ = _reflected(operator.floordiv)
        __rmod__ = _reflected(operator.mod)
        __neg__ = _unary(operator.neg)
        __pos__ = _unary(operator.pos)
        __abs__ = _unary(operator.abs)
