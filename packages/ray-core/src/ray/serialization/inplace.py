"""How values whose memory can be used in place leave that memory beside the pickle.

numpy arrays and pyarrow buffers do so by themselves, with gaps: what numpy would copy into the pickle, and slices of
Arrow data, for which whole buffers would travel, are put right here. Values that can show themselves as an Arrow stream
(polars) travel as the Arrow data.

No library is imported here before a value of it, or of one that works with it, was met.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from importlib import import_module
from pickle import PickleBuffer
from typing import Any

from ray.serialization.imported import imported

PROTOCOL = 5
#: A slice of Arrow data that brings along no more than this beside an eighth of its own size is not copied first.
_WASTE_BYTES = 1024
#: polars frames below this size are pickled by polars where pyarrow was not imported yet: its import takes long.
_IMPORT_FROM_BYTES = 64 * 1024

#: ``numpy.dtype.isbuiltin`` of kinds of numbers that other libraries have added.
_BY_USERS = 2

Reducer = Callable[[Any, list[Any]], Any]

#: {class: what gives, of a value whose memory is one buffer, all that its pickle tells; None for other values}
ALIKE: dict[type, Callable[[Any], Hashable]] = {}


def add_reducers(reducers: dict[type, Reducer]) -> None:
    """Add what is known about the libraries that have been imported since the last call."""
    for name, add in list(LIBRARIES.items()):
        library = imported(name)
        if library is not None and add(library, reducers):
            LIBRARIES.pop(name, None)


def reduce_view(view: memoryview, refs: list[Any]) -> tuple[Any, ...]:
    """A memoryview: comes back as a view of the received memory."""
    data = PickleBuffer(view if view.c_contiguous else view.tobytes())
    return _open_view, (data, view.format, view.shape)


def _open_view(data: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    """Views of no bytes, and formats that ``memoryview.cast`` does not know, come back flat, of bytes."""
    view = memoryview(data).cast("B")
    try:
        return view.cast(format, shape)  # type: ignore[call-overload,no-any-return]
    except (TypeError, ValueError):
        return view


# --- numpy -----------------------------------------------------------------------------------------------------------


def _add_numpy(numpy: Any, reducers: dict[type, Reducer]) -> bool:
    try:
        array_kind, kinds = numpy.ndarray, (numpy.matrix, numpy.recarray, numpy.memmap)
    except AttributeError:
        return False  # still being imported, by another thread

    def reduce_array(array: Any, refs: list[Any]) -> Any:
        dtype = array.dtype
        contiguous = array.flags.forc
        if (contiguous and dtype.kind not in "mMV") or dtype.hasobject or not dtype.itemsize:
            return NotImplemented
        if not contiguous:
            array = numpy.ascontiguousarray(array)  # else numpy copies it into the pickle, and it comes back writable
        if dtype.kind in "mM":
            return _as_dtype, (array.view("i8"), dtype)  # times, which are no buffers to numpy
        if dtype.kind == "V" and dtype.names:
            return _as_dtype, (array.view(f"V{dtype.itemsize}"), dtype)  # may have times among its fields
        return array.__reduce_ex__(PROTOCOL)

    def reduce_special(array: Any, refs: list[Any]) -> Any:
        if array.dtype.hasobject:
            return NotImplemented
        return _as_kind, (numpy.ndarray.view(array, array_kind), type(array))

    def likeness(array: Any) -> Hashable:
        dtype, flags = array.dtype, array.flags
        is_number = dtype.kind in "biufc" and dtype.isbuiltin != _BY_USERS and dtype.metadata is None
        if not is_number or not flags.forc:
            return None
        return dtype, array.shape, flags.c_contiguous, flags.writeable

    if reducers.setdefault(array_kind, reduce_array) is reduce_array:
        ALIKE[array_kind] = likeness
    for kind in kinds:
        reducers.setdefault(kind, reduce_special)
    return True


def _as_dtype(array: Any, dtype: Any) -> Any:
    return array.view(dtype)


def _as_kind(array: Any, kind: Any) -> Any:
    return array.view(kind)


# --- Arrow -----------------------------------------------------------------------------------------------------------


def _add_pyarrow(pyarrow: Any, reducers: dict[type, Reducer]) -> bool:
    try:
        array_kind, column_kind = pyarrow.Array, pyarrow.ChunkedArray
        is_view = pyarrow.types.is_string_view, pyarrow.types.is_binary_view
        concat, chunked = pyarrow.concat_arrays, pyarrow.chunked_array
    except AttributeError:
        return False

    def reduce_array(array: Any, refs: list[Any]) -> Any:
        try:
            compact = without_waste(array)
        except Exception:  # a kind of array that cannot be measured or copied travels as it is
            return NotImplemented
        return NotImplemented if compact is array else compact.__reduce_ex__(PROTOCOL)

    def without_waste(array: Any) -> Any:
        held = array.get_total_buffer_size()
        if held <= _WASTE_BYTES:
            return array
        if any(test(array.type) for test in is_view):
            used = _viewed_bytes(array)
            flat = pyarrow.large_string() if is_view[0](array.type) else pyarrow.large_binary()
            return array if not _is_waste(held, used) else array.cast(flat).cast(array.type)
        return array if not _is_waste(held, array.nbytes) else concat([array])

    def reduce_column(column: Any, refs: list[Any]) -> Any:
        for kind in set(map(type, column.chunks)):
            reducers.setdefault(kind, reduce_array)  # extension types, whose classes are users'
        if column.num_chunks > 1 and pyarrow.types.is_dictionary(column.type):
            # Every chunk would bring the dictionary along.
            return chunked, ([column.unify_dictionaries().combine_chunks()], column.type)
        return NotImplemented

    pending = [array_kind]
    for kind in pending:
        reducers.setdefault(kind, reduce_array)
        pending += kind.__subclasses__()
    reducers.setdefault(column_kind, reduce_column)
    return True


def _is_waste(held: int, used: int) -> bool:
    return held > used + used // 8 + _WASTE_BYTES


def _viewed_bytes(array: Any) -> int:
    """Bytes of the strings that an array of string views shows, and of the views themselves."""
    count = len(array)
    words = memoryview(array.buffers()[1]).cast("i")[4 * array.offset : 4 * (array.offset + count) : 4]
    numpy = imported("numpy")
    total = sum(words) if numpy is None else int(numpy.asarray(words).sum(dtype="i8"))
    return 16 * count + total


# --- what shows itself as an Arrow stream ----------------------------------------------------------------------------


def _add_polars(polars: Any, reducers: dict[type, Reducer]) -> bool:
    try:
        frame_kind, series_kind = polars.DataFrame, polars.Series
    except AttributeError:
        return False

    def reduce_frame(frame: Any, refs: list[Any]) -> Any:
        if imported("pyarrow") is None and frame.estimated_size() < _IMPORT_FROM_BYTES:
            return NotImplemented
        try:
            return _open_frame, (_arrow_table(frame), _sorted_columns(frame))
        except Exception:  # a column that Arrow knows nothing of, or pyarrow is not installed
            return NotImplemented

    def reduce_series(series: Any, refs: list[Any]) -> Any:
        reduced = reduce_frame(series.to_frame(), refs)
        return NotImplemented if reduced is NotImplemented else (_open_series, reduced[1])

    reducers.setdefault(frame_kind, reduce_frame)
    reducers.setdefault(series_kind, reduce_series)
    return True


def reduce_stream(value: Any) -> Any:
    """A value of any class that shows itself as an Arrow stream, that its class can make again ``from_arrow``.

    For values whose own way of pickling fails; the others are left to it.
    """
    kind = type(value)
    if not callable(getattr(kind, "from_arrow", None)):
        return NotImplemented
    try:
        value.__reduce_ex__(PROTOCOL)
    except TypeError:
        return _open_stream, (_arrow_table(value), kind.__module__, kind.__qualname__)
    return NotImplemented


def _arrow_table(value: Any) -> Any:
    return import_module("pyarrow").RecordBatchReader.from_stream(value).read_all()


def _open_stream(table: Any, module: str, name: str) -> Any:
    """The value, or its pyarrow table where its class is not to be had."""
    try:
        kind: Any = import_module(module)
        for part in name.split("."):
            kind = getattr(kind, part)
    except (ImportError, AttributeError):
        return table
    return kind.from_arrow(table)


def _sorted_columns(frame: Any) -> list[tuple[int, bool]]:
    """Which columns polars knows to be sorted, and whether downwards: Arrow cannot say."""
    flags = [series.flags for series in frame.get_columns()]
    return [(i, flag["SORTED_DESC"]) for i, flag in enumerate(flags) if flag["SORTED_ASC"] or flag["SORTED_DESC"]]


def _open_frame(table: Any, sorted_columns: list[tuple[int, bool]]) -> Any:
    """The polars frame; its pyarrow table where polars is not to be had."""
    try:
        polars: Any = import_module("polars")
    except ImportError:
        return table
    frame = polars.from_arrow(table, rechunk=False)
    if frame.columns != table.column_names:
        frame.columns = table.column_names  # polars names columns whose name is empty
    for i, descending in sorted_columns:
        frame.replace_column(i, frame.to_series(i).set_sorted(descending=descending))
    return frame


def _open_series(table: Any, sorted_columns: list[tuple[int, bool]]) -> Any:
    frame = _open_frame(table, sorted_columns)
    return table.column(0) if frame is table else frame.to_series(0)


#: Libraries not met yet: {module: adds its reducers, False if it is not ready}.
LIBRARIES: dict[str, Callable[[Any, dict[type, Reducer]], bool]] = {
    "numpy": _add_numpy,
    "polars": _add_polars,
    "pyarrow": _add_pyarrow,
}
