"""Arrow data in place: pyarrow and polars. Slices bring only themselves along."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stopwatch import Stopwatch

from ray.serialization import deserialize, deserialize_copy, dump_function, load_function, serialize
from ray.serialization.blob import ALIGNMENT

pa = pytest.importorskip("pyarrow")

ROWS = 2000

ARRAYS = {
    "int": pa.array(range(ROWS)),
    "nulls": pa.array([1, None] * (ROWS // 2)),
    "bool": pa.array([True, None, False, True] * (ROWS // 4)),
    "text": pa.array([f"text number {i}" for i in range(ROWS)]),
    "large_text": pa.array([f"text number {i}" for i in range(ROWS)], pa.large_string()),
    "text_view": pa.array([f"text number {i}, not short" for i in range(ROWS)], pa.string_view()),
    "binary": pa.array([b"abc"] * ROWS),
    "binary_view": pa.array([b"longer than twelve bytes"] * ROWS, pa.binary_view()),
    "fixed": pa.array([b"abcd"] * ROWS, pa.binary(4)),
    "list": pa.array([[i, i] for i in range(ROWS)]),
    "list_of_text": pa.array([["a", "bc"]] * ROWS),
    "struct": pa.array([{"a": i, "b": "x"} for i in range(ROWS)]),
    "map": pa.array([[("a", 1)]] * ROWS, pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(["red", "green"] * (ROWS // 2)).dictionary_encode(),
    "decimal": pa.array([1, 2] * (ROWS // 2)).cast(pa.decimal128(25, 2)),
    "timestamp": pa.array(range(ROWS), pa.timestamp("us", "UTC")),
    "run_ends": pa.RunEndEncodedArray.from_arrays(list(range(10, ROWS * 10 + 1, 10)), list(range(ROWS))),
    "union": pa.UnionArray.from_sparse(
        pa.array([0, 1] * (ROWS // 2), pa.int8()), [pa.array(range(ROWS)), pa.array(["x"] * ROWS)]
    ),
    "extension": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)] * ROWS, pa.binary(16))),
    "null": pa.nulls(ROWS),
}


def buffers_of(value: Any) -> Iterator[Any]:
    """Every buffer that holds anything, also of children and dictionaries."""
    if hasattr(value, "columns"):
        for column in value.columns:
            yield from buffers_of(column)
    elif hasattr(value, "chunks"):
        for chunk in value.chunks:
            yield from buffers_of(chunk)
    else:
        yield from (buffer for buffer in value.buffers() if buffer is not None and buffer.size)
        if pa.types.is_dictionary(value.type):
            yield from buffers_of(value.dictionary)


def check_in_place(value: Any, blob: bytes) -> int:
    """How many buffers there are, all of them in the blob, aligned."""
    start = np.frombuffer(blob, np.uint8).ctypes.data
    count = 0
    for buffer in buffers_of(value):
        assert start <= buffer.address
        assert buffer.address + buffer.size <= start + len(blob)
        assert (buffer.address - start) % ALIGNMENT == 0
        assert not buffer.is_mutable
        count += 1
    return count


@pytest.mark.parametrize("name", ARRAYS)
def test_array_is_in_place(name: str) -> None:
    array = ARRAYS[name]
    made = serialize({"x": [array]})
    blob = made.to_bytes()
    back = deserialize(blob)["x"][0]
    back.validate(full=True)
    assert type(back) is type(array)
    assert back.equals(array)
    assert check_in_place(back, blob) or name == "null"
    assert made.nbytes < array.get_total_buffer_size() * 1.2 + 2000
    copy = deserialize_copy(blob)["x"][0]
    assert copy.equals(array)
    start = np.frombuffer(blob, np.uint8).ctypes.data
    assert not any(start <= buffer.address < start + len(blob) for buffer in buffers_of(copy))


@pytest.mark.parametrize("name", ARRAYS)
def test_slice_brings_only_itself(name: str) -> None:
    array = ARRAYS[name]
    part = array.slice(ROWS // 2 + 1, 20)
    made = serialize(part)
    blob = made.to_bytes()
    back = deserialize(blob)
    back.validate(full=True)
    assert back.equals(part)
    assert type(back) is type(array)
    check_in_place(back, blob)
    assert made.nbytes < 5000
    # Most of an array is not worth a copy.
    most = array.slice(1)
    assert deserialize(serialize(most).to_bytes()).equals(most)


def table_of(rows: int) -> Any:
    columns = {"number": np.arange(rows), "real": np.ones(rows), "text": [f"row number {i}" for i in range(rows)]}
    return pa.table(columns, metadata={"made": "here"})


def test_tables_batches_and_columns() -> None:
    table = table_of(ROWS)
    chunked = pa.concat_tables([table, table.slice(10, 100), table])
    for value in (table, chunked, table.to_batches()[0], chunked.column("text"), chunked.column(0)):
        blob = serialize(value).to_bytes()
        back = deserialize(blob)
        assert type(back) is type(value)
        assert back.equals(value)
        assert check_in_place(back, blob) >= 1
        assert deserialize_copy(blob).equals(value)
    back = deserialize(serialize(table).to_bytes())
    assert back.schema.equals(table.schema, check_metadata=True)


def test_part_of_a_table() -> None:
    table = table_of(100_000)
    for part in (table.slice(50_000, 100), table.slice(0, 100), table.to_batches()[0].slice(7, 100)):
        made = serialize(part)
        assert made.nbytes < 10_000
        back = deserialize(made.to_bytes())
        back.validate(full=True)
        assert back.equals(part)
    blob = serialize(table).to_bytes()
    again = serialize(deserialize(blob).slice(10, 10))  # whose buffers are parts of one blob
    assert again.nbytes < 5000
    # Chunks that are slices of the same buffers bring each part of them once.
    cut = pa.Table.from_batches(table.to_batches(max_chunksize=10_000))
    assert serialize(cut).nbytes < serialize(table).nbytes * 1.05


def test_dictionary_of_a_column_travels_once() -> None:
    words = pa.array([f"a rather long word {i}" for i in range(10_000)])
    chunk = pa.DictionaryArray.from_arrays(pa.array([1, 2, 3], pa.int32()), words)
    column = pa.chunked_array([chunk] * 50)
    made = serialize(column)
    assert made.nbytes < 2 * words.nbytes
    assert deserialize(made.to_bytes()).equals(column)


def test_extension_type_of_a_user() -> None:
    class Celsius(pa.ExtensionType):
        def __init__(self) -> None:
            super().__init__(pa.float64(), "test.celsius")

        def __arrow_ext_serialize__(self) -> bytes:
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> Any:
            return cls()

        def __reduce__(self) -> Any:
            return Celsius, ()

    array = pa.ExtensionArray.from_storage(Celsius(), pa.array(np.arange(10_000.0)))
    table = pa.table({"t": array})
    blob = serialize(table).to_bytes()
    back = deserialize(blob)
    assert back.equals(table)
    assert check_in_place(back, blob) == 1
    assert serialize(table.slice(5, 5)).nbytes < 3000


def test_buffers_and_what_a_function_closes_over() -> None:
    buffer = pa.py_buffer(bytes(range(200)))
    blob = serialize([buffer]).to_bytes()
    start = np.frombuffer(blob, np.uint8).ctypes.data
    back = deserialize(blob)[0]
    assert back.equals(buffer)
    assert start < back.address < start + len(blob)
    table = table_of(1000)
    pickled, _ = dump_function(lambda: table.slice(1, 2))
    assert load_function(pickled)().equals(table.slice(1, 2))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.none() | st.text(max_size=40), max_size=300),
    st.sampled_from([pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_any_slice_of_text(texts: list[Any], kind: Any, offset: int, length: int) -> None:
    array = pa.array(texts, pa.string()).cast(kind).slice(offset, length)
    table = pa.table({"t": pa.chunked_array([array, array], kind), "i": range(2 * len(array))})
    for value in (array, table, table.slice(offset // 2, length)):
        blob = serialize(value).to_bytes()
        back = deserialize(blob)
        back.validate(full=True)
        assert back.equals(value)
        check_in_place(back, blob)


# --- polars -----------------------------------------------------------------------------------------------------------


def frame_of(pl: Any, rows: int) -> Any:
    return pl.DataFrame({
        "number": np.arange(rows), "real": np.ones(rows), "flag": [True, None] * (rows // 2),
        "text": [f"the text of row {i}" for i in range(rows)], "list": [[1, 2], [3]] * (rows // 2),
        "struct": [{"u": 1, "v": "a longer text in a struct"}] * rows,
        "time": pl.Series(range(rows), dtype=pl.Datetime("us", "UTC")), "span": pl.Series([1] * rows, dtype=pl.Time),
        "money": pl.Series([1] * rows, dtype=pl.Decimal(10, 2)), "bytes": [b"abc"] * rows,
    })  # fmt: skip


def arrow_of(value: Any) -> Any:
    return pa.RecordBatchReader.from_stream(value).read_all()


def test_polars_frames_are_in_place() -> None:
    pl = pytest.importorskip("polars")
    frame = frame_of(pl, ROWS)
    blob = serialize({"x": frame}).to_bytes()
    back = deserialize(blob)["x"]
    assert type(back) is pl.DataFrame
    assert back.schema == frame.schema
    assert back.equals(frame)
    for name in frame.columns:
        assert check_in_place(arrow_of(back.select(name)), blob) >= 1, name
    back[0, "number"] = 77  # polars copies what it did not make
    assert deserialize(blob)["x"][0, "number"] == 0
    copy = deserialize_copy(blob)["x"]
    start = np.frombuffer(blob, np.uint8).ctypes.data
    assert not any(start <= b.address < start + len(blob) for b in buffers_of(arrow_of(copy.select("number"))))
    assert copy.equals(frame)


def test_polars_series_categories_and_order() -> None:
    pl = pytest.importorskip("polars")
    for series in (
        pl.Series("n", np.arange(20_000)), pl.Series("t", ["some text", None] * 9000),
        pl.Series("c", ["x", "y"] * 9000, dtype=pl.Categorical), pl.Series("e", ["x"], dtype=pl.Enum(["x", "y"])),
        pl.Series("d", [3, 2, 1] * 5000).sort(descending=True), pl.Series("big", [2**100], dtype=pl.Int128),
        pl.Series("", [], dtype=pl.Null),
    ):  # fmt: skip
        back = deserialize(serialize(series).to_bytes())
        assert type(back) is pl.Series
        assert back.equals(series, check_dtypes=True, check_names=True)
        assert back.flags == series.flags
    frame = pl.DataFrame({"a": [2, 1] * 9000, "b": ["x", "y"] * 9000}).sort("a")
    back = deserialize(serialize(frame).to_bytes())
    assert back["a"].flags == frame["a"].flags
    assert back.equals(frame)
    several = frame.vstack(frame)
    blob = serialize(several).to_bytes()
    assert deserialize(blob).equals(several)
    assert check_in_place(arrow_of(deserialize(blob).select("a")), blob) >= 1
    unnamed = pl.DataFrame({"": [1, 2], "b": [3, 4]})
    assert deserialize(serialize(unnamed).to_bytes()).equals(unnamed)
    empty = deserialize(serialize(pl.DataFrame()).to_bytes())
    assert empty.shape == (0, 0)


def test_polars_slices_bring_only_themselves() -> None:
    pl = pytest.importorskip("polars")
    frame = frame_of(pl, 50_000).drop("struct", "list")
    for part in (frame.slice(20_000, 50), frame.filter(pl.col("number") == 77), frame.tail(10)):
        made = serialize(part)
        assert made.nbytes < 20_000
        assert deserialize(made.to_bytes()).equals(part)


def test_polars_is_faster_than_its_own_pickling() -> None:
    pl = pytest.importorskip("polars")
    frame = frame_of(pl, 50_000)
    serialize(frame)
    start = Stopwatch()
    made = serialize(frame)
    assert start.undisturbed_s() < 0.5
    assert b"".join(made.pieces()).count(b"the text of row 49999") == 1


def test_polars_without_pyarrow() -> None:
    """Small frames do not import pyarrow; where there is none, polars pickles as it can."""
    pytest.importorskip("polars")
    program = """
import sys
import polars as pl
from ray.serialization import deserialize, serialize
small, large = pl.DataFrame({"a": [1, 2]}), pl.DataFrame({"a": range(100_000)})
assert deserialize(serialize(small).to_bytes()).equals(small)
assert "pyarrow" not in sys.modules
sys.modules["pyarrow"] = None
assert deserialize(serialize(large).to_bytes()).equals(large)
del sys.modules["pyarrow"]
blob = serialize(large).to_bytes()
assert "pyarrow" in sys.modules
assert deserialize(blob).equals(large)
sys.modules["polars"] = None
assert type(deserialize(blob)) is sys.modules["pyarrow"].Table
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=50, check=False)
    assert run.returncode == 0, run.stderr.decode()


# --- anything else that shows itself as an Arrow stream ---------------------------------------------------------------


class Native:
    """Stands for a class made outside Python that knows Arrow and not pickle."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot pickle 'Native' object")

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)

    @classmethod
    def from_arrow(cls, data: Any) -> Any:
        return cls(pa.table(data))


def test_class_that_can_only_arrow(monkeypatch: pytest.MonkeyPatch) -> None:
    table = table_of(5000)
    blob = serialize([Native(table)]).to_bytes()
    back = deserialize(blob)[0]
    assert type(back) is Native
    assert back._table.equals(table)
    assert check_in_place(back._table, blob) >= 3
    monkeypatch.delattr(sys.modules[Native.__module__], "Native")
    assert deserialize(blob)[0].equals(table)


def test_stream_that_can_be_read_once_is_refused_unread() -> None:
    reader = table_of(10).to_reader()
    with pytest.raises(TypeError, match="RecordBatchReader"):
        serialize(reader)
    assert reader.read_all().num_rows == 10
