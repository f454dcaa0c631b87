"""Content of values of numpy, pandas, polars and pydantic, for ``digest``.

None of these is imported here: a value's class is known by its module and name.

The content does not depend on how a library lays it out in memory: an array is written in C order
and in little-endian bytes, a column element by element unless it is a plain array.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

#: Writes a value with a Digester, inside of the containers ``outer``.
Write: TypeAlias = Callable[[Any, Any, tuple[object, ...]], None]


def writer_for(kind: type) -> Write | None:
    """The writer for values of a class of these libraries, or of a subclass; None for others."""
    for base in kind.__mro__:
        module = base.__module__
        if type(module) is str and module.partition(".")[0] in _LIBRARIES:
            found = _WRITERS.get((module.partition(".")[0], base.__qualname__))
            if found is not None:
                return found
    return None


def _array(writer: Any, value: Any, outer: tuple[object, ...]) -> None:
    """A numpy array: type, shape and elements; those of an array of objects one by one."""
    numpy: Any = sys.modules["numpy"]

    kind = type(value)
    if kind is not numpy.ndarray:
        writer.put_type(b"array", kind)
    if kind.__name__ == "MaskedArray":
        writer.write((numpy.ma.getmaskarray(value), value.fill_value), outer)
        value = value.filled()
    value = numpy.asarray(value)
    if value.dtype.hasobject:
        writer.put(b"objects", repr((value.dtype.descr, value.shape)).encode())
        writer.write(value.ravel().tolist(), (*outer, value))
        return
    if value.dtype.byteorder == ">" or (value.dtype.byteorder == "=" and sys.byteorder == "big"):
        value = value.astype(value.dtype.newbyteorder("<"))
    if value.dtype.kind in "fc":  # nan has many bit patterns, also in the parts of a complex
        value = _with_one_nan(value)
    writer.put(b"array", repr((value.dtype.descr, value.shape)).encode())
    writer.put(b"", value.tobytes())


def _with_one_nan(value: Any) -> Any:
    numpy: Any = sys.modules["numpy"]

    missing = numpy.isnan(value)
    if not missing.any():
        return value
    value = value.copy()
    if value.dtype.kind == "c":
        parts = value.view(value.real.dtype)
        parts[numpy.isnan(parts)] = numpy.nan
    else:
        value[missing] = numpy.nan
    return value


def _scalar(writer: Any, value: Any, outer: tuple[object, ...]) -> None:
    """A numpy scalar; it differs from the array of no dimensions."""
    numpy: Any = sys.modules["numpy"]

    writer.parts.append(b"scalar;")
    _array(writer, numpy.asarray(value), outer)


def _dtype(writer: Any, value: Any, _outer: tuple[object, ...]) -> None:
    writer.put(b"dtype", str(value).encode())


# -- pandas ----------------------------------------------------------------------------------------


def _frame(writer: Any, value: Any, outer: tuple[object, ...]) -> None:
    writer.put_type(b"frame", type(value))
    inner = (*outer, value)
    writer.write(dict(value.attrs), inner)
    _index(writer, value.columns, inner)
    _index(writer, value.index, inner)
    for place in range(value.shape[1]):
        _column(writer, value.iloc[:, place].array, inner)


def _series(writer: Any, value: Any, outer: tuple[object, ...]) -> None:
    writer.put_type(b"series", type(value))
    inner = (*outer, value)
    writer.write((value.name, dict(value.attrs)), inner)
    _index(writer, value.index, inner)
    _column(writer, value.array, inner)


def _index(writer: Any, value: Any, outer: tuple[object, ...]) -> None:
    writer.put(b"index", type(value).__name__.encode())
    inner = (*outer, value)
    writer.write(list(value.names), inner)
    if type(value).__name__ == "RangeIndex":
        writer.write((value.start, value.stop, value.step), inner)
    elif type(value).__name__ == "MultiIndex":
        for level, codes in zip(value.levels, value.codes, strict=True):
            _index(writer, level, inner)
            writer.write(codes, inner)
    else:
        freq = getattr(value, "freqstr", None)
        writer.write(freq, inner)
        _column(writer, value.array, inner)


def _column(writer: Any, array: Any, outer: tuple[object, ...]) -> None:
    """The values of a column, whose arrays differ by their type."""
    numpy: Any = sys.modules["numpy"]

    writer.put(b"column", str(array.dtype).encode())
    name = type(array).__name__
    if name == "Categorical":
        _index(writer, array.categories, outer)
        writer.write((bool(array.ordered), array.codes), outer)
    elif name in ("DatetimeArray", "TimedeltaArray", "PeriodArray"):
        writer.write(array.asi8, outer)
    elif name in ("NumpyExtensionArray", "PandasArray") and not array.to_numpy().dtype.hasobject:
        writer.write(array.to_numpy(), outer)
    else:
        missing = numpy.asarray(array.isna())
        writer.write(missing, outer)
        values = array.to_numpy(dtype=object)
        # What stands for a missing value differs by the type; a None in an object column does not
        # equal a nan there.
        if name in ("NumpyExtensionArray", "PandasArray"):
            writer.write(values.tolist(), outer)
        else:
            writer.write(values[~missing].tolist(), outer)


def _moment(writer: Any, value: Any, outer: tuple[object, ...]) -> None:
    """A Timestamp, Timedelta or Period."""
    writer.put(b"pandas", type(value).__name__.encode())
    kept = getattr(value, "unit", None) or getattr(value, "freqstr", None)
    number = value.ordinal if hasattr(value, "ordinal") else value.value
    zone = getattr(value, "tzinfo", None)
    # Of a Period ``ordinal`` is a number; of a Timestamp it is the inherited fromordinal's partner.
    writer.write((str(value), kept, number if type(number) is int else 0, str(zone)), outer)


def _missing(writer: Any, value: Any, _outer: tuple[object, ...]) -> None:
    writer.put(b"pandas", type(value).__name__.encode())


# -- polars ----------------------------------------------------------------------------------------


def _polars_frame(writer: Any, value: Any, outer: tuple[object, ...]) -> None:
    writer.put_type(b"polars", type(value))
    inner = (*outer, value)
    writer.write((value.height, list(value.columns)), inner)
    for column in value.get_columns():
        _polars_column(writer, column, inner)


def _polars_series(writer: Any, value: Any, outer: tuple[object, ...]) -> None:
    writer.put_type(b"polars", type(value))
    writer.write(value.name, outer)
    _polars_column(writer, value, (*outer, value))


def _polars_column(writer: Any, column: Any, outer: tuple[object, ...]) -> None:
    writer.put(b"column", repr(column.dtype).encode())
    if column.dtype.is_numeric() and not column.dtype.is_decimal():
        if column.null_count():
            writer.write(column.is_null().to_list(), outer)
            column = column.drop_nulls()
        writer.write(column.to_numpy(), outer)
    elif column.dtype.is_temporal():
        writer.write(column.to_physical().to_list(), outer)
    else:
        writer.write(column.to_list(), outer)


def _polars_type(writer: Any, value: Any, _outer: tuple[object, ...]) -> None:
    writer.put(b"polars type", repr(value).encode())


# -- pydantic --------------------------------------------------------------------------------------


def _model(writer: Any, value: Any, outer: tuple[object, ...]) -> None:
    """A pydantic model: its class, fields, extra fields, and which of the fields were given."""
    writer.put_type(b"model", type(value))
    private = getattr(value, "__pydantic_private__", None)
    extra = getattr(value, "__pydantic_extra__", None)
    writer.write((dict(vars(value)), extra or {}, private or {}), (*outer, value))


_LIBRARIES: Final = frozenset({"numpy", "pandas", "polars", "pydantic"})
#: Library and class → writer.
_WRITERS: Final[Mapping[tuple[str, str], Write]] = {
    ("numpy", "ndarray"): _array,
    ("numpy", "generic"): _scalar,
    ("numpy", "dtype"): _dtype,
    ("pandas", "DataFrame"): _frame,
    ("pandas", "Series"): _series,
    ("pandas", "Index"): _index,
    ("pandas", "ExtensionArray"): _column,
    ("pandas", "Timestamp"): _moment,
    ("pandas", "Timedelta"): _moment,
    ("pandas", "Period"): _moment,
    ("pandas", "NaTType"): _missing,
    ("pandas", "NAType"): _missing,
    ("polars", "DataFrame"): _polars_frame,
    ("polars", "Series"): _polars_series,
    ("polars", "DataType"): _polars_type,
    ("pydantic", "BaseModel"): _model,
}
