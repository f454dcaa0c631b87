"""Durations as text, for drawings, tables and log lines."""

from __future__ import annotations


def duration_text(seconds: float) -> str:
    """A duration for people, with two digits or its two largest units.

    >>> [duration_text(s) for s in (0.0000042, 0.003, 0.25, 1.23, 59.6, 125, 7320)]
    ['4 µs', '3 ms', '250 ms', '1.2 s', '1 min', '2 min 5 s', '2 h 2 min']
    """
    if seconds < 0.000_999_5:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.999_5:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two_units(*divmod(whole, 60), "min", "s")
    return _two_units(*divmod(round(whole / 60), 60), "h", "min")


def _two_units(large: int, small: int, *units: str) -> str:
    return f"{large} {units[0]}" + (f" {small} {units[1]}" if small else "")
