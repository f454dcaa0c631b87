"""Axes: values to places in a drawing, and which values get a line and a label."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor, log10
from typing import Protocol

#: Lines that an axis has at most.
_MOST_LINES = 8


class Axis(Protocol):
    """Maps values to the drawing, from ``start`` to ``end``."""

    start: float
    end: float

    def __call__(self, value: float) -> float: ...

    def labelled(self) -> Iterator[tuple[float, str]]:
        """The values that get a line and a label."""

    def between(self) -> Iterator[float]:
        """The values between them that get a faint line."""


class LogAxis:
    """A logarithmic axis, over whole decades."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.first = floor(log10(low) + 1e-9)
        self.last = max(ceil(log10(high) - 1e-9), self.first + 1)
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (log10(value) - self.first) / (self.last - self.first)
        return self.start + share * (self.end - self.start)

    def labelled(self) -> Iterator[tuple[float, str]]:
        for exponent in range(self.first, self.last + 1):
            value = 10.0**exponent
            yield value, f"{value:.{-exponent}f}" if exponent < 0 else _grouped(10**exponent)

    def between(self) -> Iterator[float]:
        for exponent in range(self.first, self.last):
            yield from (digit * 10.0**exponent for digit in range(2, 10))


class LinearAxis:
    """A linear axis, from exactly ``low`` to ``high``, with lines at round values."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low = low
        self.high = high if high > low else low + 1
        self.start, self.end = start, end
        least = (self.high - self.low) / _MOST_LINES
        decade = 10.0 ** floor(log10(least))
        self._step = next(n * decade for n in (1, 2, 5, 10) if n * decade >= least * (1 - 1e-9))

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def labelled(self) -> Iterator[tuple[float, str]]:
        digits = max(0, -floor(log10(self._step) + 1e-9))
        first = ceil(self.low / self._step - 1e-9)
        last = floor(self.high / self._step + 1e-9)
        for number in range(first, last + 1):
            value = number * self._step
            yield value, f"{value:.{digits}f}" if digits else _grouped(round(value))

    def between(self) -> Iterator[float]:
        return iter(())


def _grouped(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")
