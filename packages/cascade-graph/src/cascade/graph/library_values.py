"""Stored forms of arrays of numpy, and of frames and series of pandas and polars.

A library is imported when a value of it is read. Reading makes arrays and frames from plain values,
and never unpickles anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple


class LibraryForm(NamedTuple):
    """How values of one class are stored: as a few other values, and made again from them."""

    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


def form_of(kind: type) -> str | None:
    """The name of the form for values of exactly this class, such as ``"numpy:ndarray"``."""
    module = kind.__module__
    top = module.partition(".")[0] if type(module) is str else ""
    if top not in LIBRARIES:
        return None
    if top == "numpy" and any(base.__qualname__ == "generic" for base in kind.__mro__):
        return "numpy:generic"
    if top == "pandas" and any(base.__qualname__ == "Index" for base in kind.__mro__):
        return "pandas:Index" if kind.__qualname__ != "MultiIndex" else "pandas:MultiIndex"
    name = f"{top}:{kind.__qualname__}"
    return name if name in FORMS else None


# -- numpy -----------------------------------------------------------------------------------------


def _dump_array(array: Any) -> Any:
    if array.dtype.hasobject:
        if array.dtype.fields is not None:
            raise ValueError("an array of records with Python objects")
        return ["object", list(array.shape), array.ravel().tolist()]
    dtype = array.dtype.str if array.dtype.fields is None else array.dtype.descr
    return [dtype, list(array.shape), array.tobytes()]


def _load_array(parts: Any) -> Any:
    numpy = import_module("numpy")

    dtype, shape, content = parts
    if dtype == "object":
        array = numpy.empty(len(content), dtype=object)
        array[:] = content
        return array.reshape(shape)
    kind = numpy.dtype(dtype if isinstance(dtype, str) else [tuple(field) for field in dtype])
    if kind.hasobject:
        raise ValueError(f"an array of {kind} is not made from bytes")
    return numpy.frombuffer(content, kind).reshape(shape).copy()


def _dump_scalar(value: Any) -> Any:
    numpy = import_module("numpy")

    return _dump_array(numpy.asarray(value))


def _load_scalar(parts: Any) -> Any:
    return _load_array(parts)[()]


# -- pandas ----------------------------------------------------------------------------------------


def _dump_column(array: Any) -> Any:
    """The array of a column: its kind, and plain arrays."""
    name = type(array).__name__
    if name == "Categorical":
        return ["categorical", _dump_index(array.categories), bool(array.ordered), array.codes]
    if name in ("DatetimeArray", "TimedeltaArray", "PeriodArray"):
        return ["moments", str(array.dtype), array.asi8]
    if name in ("NumpyExtensionArray", "PandasArray"):
        return ["plain", array.to_numpy()]
    missing = array.isna()
    return ["typed", str(array.dtype), missing, array.to_numpy(dtype=object)[~missing].tolist()]


def _load_column(parts: Any) -> Any:
    numpy, pandas = import_module("numpy"), import_module("pandas")

    kind = parts[0]
    if kind == "plain":
        return parts[1]
    if kind == "categorical":
        categories, ordered, codes = _load_index(parts[1]), parts[2], parts[3]
        return pandas.Categorical.from_codes(codes, categories, ordered=ordered)
    if kind == "moments":
        dtype = pandas.api.types.pandas_dtype(parts[1])
        if isinstance(dtype, pandas.PeriodDtype):
            return pandas.PeriodIndex.from_ordinals(parts[2], freq=dtype.freq).array
        if isinstance(dtype, pandas.DatetimeTZDtype):
            plain = parts[2].view(f"datetime64[{dtype.unit}]")
            return pandas.DatetimeIndex(plain).tz_localize("UTC").tz_convert(dtype.tz).array
        return pandas.array(parts[2].view(dtype))
    missing = parts[2]
    values = numpy.full(len(missing), None, dtype=object)
    filled = numpy.empty(len(parts[3]), dtype=object)
    filled[:] = parts[3]
    values[~missing] = filled
    return pandas.array(values, dtype=parts[1])


def _dump_index(index: Any) -> Any:
    if type(index).__name__ == "RangeIndex":
        return ["range", list(index.names), [index.start, index.stop, index.step]]
    if type(index).__name__ == "MultiIndex":
        return _dump_multi(index)
    freq = getattr(index, "freqstr", None) if type(index).__name__ != "PeriodIndex" else None
    return ["index", list(index.names), _dump_column(index.array), freq]


def _dump_multi(index: Any) -> Any:
    levels = [_dump_index(level) for level in index.levels]
    return ["multi", list(index.names), levels, [codes.tolist() for codes in index.codes]]


def _load_index(parts: Any) -> Any:
    pandas = import_module("pandas")

    kind, names, content, *rest = parts
    if kind == "range":
        return pandas.RangeIndex(*content, name=names[0])
    if kind == "multi":
        levels = [_load_index(level) for level in content]
        return pandas.MultiIndex(levels=levels, codes=rest[0], names=names)
    index = pandas.Index(_load_column(content), name=names[0])
    if rest and rest[0] is not None:
        index.freq = rest[0]
    return index


def _dump_frame(frame: Any) -> Any:
    columns = [_dump_column(frame.iloc[:, place].array) for place in range(frame.shape[1])]
    return [_dump_index(frame.columns), _dump_index(frame.index), columns, dict(frame.attrs)]


def _load_frame(parts: Any) -> Any:
    pandas = import_module("pandas")

    names, index, columns, attrs = parts
    index = _load_index(index)
    filled = {place: _load_column(column) for place, column in enumerate(columns)}
    frame = pandas.DataFrame(filled, index=index)
    frame.columns = _load_index(names)
    frame.attrs.update(attrs)
    return frame


def _dump_series(series: Any) -> Any:
    return [series.name, _dump_index(series.index), _dump_column(series.array), dict(series.attrs)]


def _load_series(parts: Any) -> Any:
    pandas = import_module("pandas")

    name, index, column, attrs = parts
    series = pandas.Series(_load_column(column), index=_load_index(index), name=name)
    series.attrs.update(attrs)
    return series


# -- polars ----------------------------------------------------------------------------------------


def _dump_polars(frame: Any) -> Any:
    """The bytes of Arrow's file format, which keeps all types."""
    from io import BytesIO

    written = BytesIO()
    frame.write_ipc(written)
    return written.getvalue()


def _load_polars(content: Any) -> Any:
    from io import BytesIO

    polars = import_module("polars")

    return polars.read_ipc(BytesIO(content))


def _dump_polars_series(series: Any) -> Any:
    return [series.name, _dump_polars(series.rename("").to_frame())]


def _load_polars_series(parts: Any) -> Any:
    name, content = parts
    return _load_polars(content).to_series(0).rename(name)


LIBRARIES: Final = frozenset({"numpy", "pandas", "polars"})
FORMS: Final[Mapping[str, LibraryForm]] = {
    "numpy:ndarray": LibraryForm(_dump_array, _load_array),
    "numpy:generic": LibraryForm(_dump_scalar, _load_scalar),
    "pandas:DataFrame": LibraryForm(_dump_frame, _load_frame),
    "pandas:Series": LibraryForm(_dump_series, _load_series),
    "pandas:Index": LibraryForm(_dump_index, _load_index),
    "pandas:MultiIndex": LibraryForm(_dump_multi, _load_index),
    "polars:DataFrame": LibraryForm(_dump_polars, _load_polars),
    "polars:Series": LibraryForm(_dump_polars_series, _load_polars_series),
}
