"""What is used in place: addresses inside the blob, at multiples of 64 bytes, read-only; copies are writable."""

from __future__ import annotations

import collections
import dataclasses
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ray.serialization import (
    deserialize,
    deserialize_copy,
    dump_function,
    inplace,
    load_function,
    pickling,
    register_reducer,
    serialize,
    serialize_small,
)
from ray.serialization.blob import ALIGNMENT


class Opened:
    """A value, its blob, and what came of it."""

    def __init__(self, value: Any) -> None:
        self.made = serialize(value)
        self.blob = self.made.to_bytes()
        pieces = self.made.pieces()
        assert all(memoryview(piece).ndim == 1 and memoryview(piece).itemsize == 1 for piece in pieces)
        assert all(len(piece) for piece in pieces)
        assert b"".join(pieces) == self.blob
        assert len(self.blob) == self.made.nbytes
        self.start = np.frombuffer(self.blob, np.uint8).ctypes.data
        self.back = deserialize(self.blob)

    def holds(self, address: int, nbytes: int) -> bool:
        return self.start <= address and address + nbytes <= self.start + len(self.blob)

    def is_in_place(self, array: Any) -> bool:
        """An array that owns its first byte's buffer: in the blob, aligned, read-only."""
        address = array.ctypes.data
        inside = self.holds(address, array.nbytes)
        return inside and (address - self.start) % ALIGNMENT == 0 and not array.flags.writeable


@dataclasses.dataclass
class Layer:
    weights: Any
    name: str = "layer"


class Pair(NamedTuple):
    first: Any
    second: Any


# --- numpy ------------------------------------------------------------------------------------------------------------

ARRAYS = {
    "int": np.arange(1000),
    "float16": np.ones(10, np.float16),
    "longdouble": np.ones(10, np.longdouble),
    "complex": np.ones((3, 4), complex),
    "bool": np.ones(5, bool),
    "big_endian": np.arange(10, dtype=">f8"),
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "transposed": np.arange(12.0).reshape(3, 4).T,
    "strided": np.arange(100)[::3],
    "column": np.arange(12.0).reshape(3, 4)[:, 1],
    "reversed": np.arange(5)[::-1],
    "scalar_shape": np.array(1.5),
    "text": np.array(["abc", "de"]),
    "bytes": np.array([b"abc", b"de"]),
    "times": np.arange("2020-01", "2021-01", dtype="M8[D]"),
    "one_time": np.array("2020-01-01", "M8[s]"),
    "durations": np.arange(10).astype("m8[us]"),
    "strided_times": np.arange("2020-01", "2021-01", dtype="M8[D]")[::7],
    "record_like": np.ones(4, [("a", "i4"), ("b", "f8")]),
    "record_like_with_times": np.ones(4, [("a", "M8[s]"), ("b", "f8", (2,))]),
    "strided_records": np.ones(8, [("a", "i4"), ("b", "f8")])[::2],
    "void": np.frombuffer(bytes(range(32)), "V8"),
    "broadcast": np.broadcast_to(np.arange(3), (4, 3)),
    "recarray": np.rec.array([(1, 2.0), (3, 4.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "matrix": np.eye(3).view(np.matrix),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_array_is_in_place(name: str) -> None:
    array = ARRAYS[name]
    opened = Opened(array)
    back = opened.back
    assert opened.is_in_place(back)
    assert (type(back), back.dtype, back.shape) == (type(array), array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    with pytest.raises(ValueError, match="read-only"):
        back[...] = back
    copy = deserialize_copy(opened.blob)
    assert (type(copy), copy.dtype, copy.shape) == (type(array), array.dtype, array.shape)
    copy[...] = copy
    assert not opened.holds(copy.ctypes.data, 1)
    assert copy.tobytes() == array.tobytes()


def test_array_of_a_file_is_in_place(tmp_path: Any) -> None:
    array = np.memmap(tmp_path / "numbers", np.int32, "w+", shape=(100,))
    array[:] = range(100)
    opened = Opened(array)
    assert type(opened.back) is np.memmap
    assert opened.is_in_place(opened.back)
    assert list(opened.back) == list(range(100))


@pytest.mark.parametrize("wrap", [
    lambda a: [a], lambda a: {"k": (1, {"x": a})}, lambda a: Layer(a), lambda a: [Layer([a])], lambda a: Pair(1, a),
    lambda a: collections.deque([a]), lambda a: collections.OrderedDict(k=a), lambda a: (lambda: a),
])  # fmt: skip
def test_array_inside_other_things(wrap: Any) -> None:
    def find(value: Any) -> Any:
        while not isinstance(value, np.ndarray):
            if isinstance(value, Layer):
                value = value.weights
            elif isinstance(value, dict):
                value = list(value.values())[-1]
            elif callable(value):
                value = value()
            else:
                value = value[-1]
        return value

    array = np.arange(1000.0)
    opened = Opened(wrap(array))
    assert opened.is_in_place(find(opened.back))
    assert find(deserialize_copy(opened.blob)).flags.writeable


def test_what_of_numpy_is_copied() -> None:
    """As the table of docs/objects.md says: these come back as values of their own, and writable."""
    for array in (
        np.array(["a", None], dtype=object),
        np.ma.masked_array([1, 2], [0, 1]),
        np.array(["a"], np.dtypes.StringDType()),
    ):
        back = Opened(array).back
        assert back.tolist() == array.tolist()
        assert type(back) is type(array)
        assert back.flags.writeable


def test_array_without_items_and_a_subclass_with_a_way_of_its_own() -> None:
    class Named(np.ndarray):
        name: str

        def __reduce__(self) -> Any:
            return make_named, (np.asarray(self), self.name)

    def make_named(array: Any, name: str) -> Any:
        named = array.view(Named)
        named.name = name
        return named

    array = make_named(np.arange(4), "x")
    back = Opened(array).back
    assert back.name == "x"
    assert list(back) == [0, 1, 2, 3]
    for empty in (np.zeros((0, 3)), np.zeros(0, "M8[s]"), np.zeros(0, [("a", "i4")])):
        back = Opened(empty).back
        assert (back.shape, back.dtype) == (empty.shape, empty.dtype)


def test_the_same_array_twice_travels_once() -> None:
    array = np.zeros(10_000)
    for value in ([array, array], [array[::2]] * 2, [array.view("M8[s]")] * 2):
        opened = Opened(value)
        assert opened.back[0] is opened.back[1]
        assert opened.made.nbytes < 85_000


@settings(max_examples=60, deadline=None)
@given(
    npst.arrays(
        npst.scalar_dtypes() | npst.datetime64_dtypes() | npst.array_dtypes(max_size=3),
        npst.array_shapes(min_dims=0, min_side=0, max_side=4),
        elements=None,
    ),
    st.booleans(),
)
def test_any_array(array: Any, turned: bool) -> None:
    if turned:
        array = array.T[::-1] if array.ndim else array
    opened = Opened({"it": [array]})
    back = opened.back["it"][0]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    if array.size and array.itemsize:
        assert not back.flags.writeable
        assert opened.holds(back.ctypes.data, 1)
    copy = deserialize_copy(opened.blob)["it"][0]
    assert copy.flags.writeable or not array.size
    assert copy.tobytes() == array.tobytes()


@settings(max_examples=60, deadline=None)
@given(
    npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, min_side=0, max_side=4), elements=None),
    st.booleans(),
    st.booleans(),
)
def test_arrays_that_are_alike_but_for_their_memory(array: Any, turned: bool, writeable: bool) -> None:
    """The pickle of the first one serves all of them: each has its own values, and what it says is right for each."""
    if turned:
        array = array.T
    others = [array.copy("A"), np.zeros_like(array)]
    for one in (array, *others, array):
        one.flags.writeable = writeable
        opened = Opened(one)
        back, copy = opened.back, deserialize_copy(opened.blob)
        assert (back.dtype, back.shape, back.flags.fnc) == (one.dtype, one.shape, one.flags.fnc)
        assert back.tobytes() == copy.tobytes() == one.tobytes()
        assert copy.flags.writeable or not copy.size
        if one.size:
            assert opened.is_in_place(back)


def test_what_else_belongs_to_an_array_is_kept_apart() -> None:
    plain = np.ones(5, "i4")
    noted = np.ones(5, np.dtype("i4", metadata={"unit": "m"}))
    for _ in range(2):
        assert Opened(plain).back.dtype.metadata is None
        assert Opened(noted).back.dtype.metadata == {"unit": "m"}
        assert Opened(plain.astype(">i4")).back.dtype == ">i4"


def test_the_pickles_of_arrays_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickling, "_ALIKE_PICKLES", {})
    monkeypatch.setattr(pickling, "_MAX_ALIKE_PICKLES", 10)
    for size in range(1, 100):
        assert Opened(np.arange(size)).back.tolist() == list(range(size))
        assert len(pickling._ALIKE_PICKLES) <= 10
    assert pickling._ALIKE_PICKLES


def test_a_reducer_for_arrays_is_asked_about_each(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(100)
    Opened(array)
    monkeypatch.setattr(pickling, "_REDUCERS", dict(pickling._REDUCERS))
    monkeypatch.setattr(inplace, "ALIKE", dict(inplace.ALIKE))
    refs = list[int]()

    def reduce_array(array: Any, refs: list[Any]) -> Any:
        refs.append(len(array))
        return list, (array.tolist(),)

    register_reducer(np.ndarray, reduce_array)
    for _ in range(2):
        opened = Opened(array)
        assert opened.back == list(range(100))
        refs += opened.made.refs
    assert refs == [100, 100]


# --- scipy, pandas ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "coo_matrix", "bsr_array", "dia_matrix"])
def test_sparse_matrices(kind: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    matrix = getattr(sparse, kind)(np.diag(np.arange(100.0)))
    opened = Opened({"m": matrix})
    back = opened.back["m"]
    assert type(back) is type(matrix)
    assert (back != matrix).nnz == 0
    parts = [array for array in vars(back).values() if isinstance(array, np.ndarray)]
    parts += [array for array in getattr(back, "coords", ()) if isinstance(array, np.ndarray)]
    assert len(parts) >= 2
    assert all(opened.is_in_place(array) for array in parts)
    assert deserialize_copy(opened.blob)["m"].data.flags.writeable


def _arrays_of(column: Any) -> list[Any]:
    """The memory of a pandas column."""
    array = column.array
    found: list[Any] = []
    for name in ("_ndarray", "_codes", "_data", "_mask"):
        part = getattr(array, name, None)
        if isinstance(part, np.ndarray):
            found.append(part)
        elif isinstance(getattr(part, "_ndarray", None), np.ndarray):
            found.append(part._ndarray)
    chunks = getattr(getattr(array, "_pa_array", None), "chunks", [])
    found += [np.frombuffer(buffer, np.uint8) for chunk in chunks for buffer in chunk.buffers() if buffer]
    return found


def test_pandas() -> None:
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    rows = 1000
    frame = pd.DataFrame({
        "int": np.arange(rows), "float": np.ones(rows), "text": [f"row {i}" for i in range(rows)],
        "time": pd.date_range("2020", periods=rows), "zoned": pd.date_range("2020", periods=rows, tz="UTC"),
        "category": pd.Categorical(["u", "v"] * (rows // 2)), "nullable": pd.array([1, None] * (rows // 2), "Int64"),
        "arrow": pd.array([1, None] * (rows // 2), "int64[pyarrow]"), "bool": np.ones(rows, bool),
    })  # fmt: skip
    for value in (frame, frame.iloc[100:900], frame[["int", "text"]], frame.set_index("time")):
        opened = Opened([value])
        back = opened.back[0]
        pd.testing.assert_frame_equal(back, value)
        for name in back.columns:
            parts = _arrays_of(back[name])
            assert parts, name
            for part in parts:
                assert opened.holds(part.ctypes.data, part.nbytes), name
                assert not part.flags.writeable, name
        with pytest.raises(ValueError, match="read-only"):
            back.iloc[0, 0] = 5
        copy = deserialize_copy(opened.blob)[0]
        copy.iloc[0, 0] = 5
        assert copy.iloc[0, 0] == 5
        pd.testing.assert_frame_equal(deserialize(opened.blob)[0], value)
    series = Opened(frame["float"])
    assert series.holds(series.back.to_numpy().ctypes.data, 8 * rows)


def test_pandas_object_columns_are_copied() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"o": pd.Series([1, "a", None], dtype=object)})
    opened = Opened(frame)
    pd.testing.assert_frame_equal(opened.back, frame)
    assert opened.back["o"].array._ndarray.flags.writeable


# --- bytes, bytearray, memoryview -------------------------------------------------------------------------------------

LARGE = 200_000


def test_large_byte_strings_are_not_copied_into_the_pickle() -> None:
    data, array = bytes(LARGE), bytearray(LARGE)
    for value in (data, [1, data], {"k": data}, {data: 1}, (data,), {"deep": [Layer(data)]}, [data, data]):
        made = serialize(value)
        assert sum(piece is data for piece in made.pieces()) == 1
        assert serialize_small(value) is None
        assert deserialize(made.to_bytes()) == value
    for value in (array, [array], {"k": [array, "x"]}):
        made = serialize(value)
        assert any(isinstance(piece, memoryview) and piece.obj is array for piece in made.pieces())
        back = deserialize(made.to_bytes())
        assert back == value
    del made
    array.append(1)


def test_large_bytes_in_arguments_are_not_copied() -> None:
    from ray.serialization import args_blob, serialize_args

    data = bytes(LARGE)
    for args, kwargs in (((data,), {}), ((), {"k": data}), (([data],), {}), ((1, {"k": data}), {})):
        assert args_blob(args, kwargs) is None
        made = serialize_args(args, kwargs)
        assert any(piece is data for piece in made.pieces())
        assert deserialize(made.to_bytes()) == (args, kwargs)


def test_large_text_that_dies_before_it_is_written() -> None:
    class Book:
        def __reduce__(self) -> Any:
            return str, ("é" * LARGE,)

    class Other:
        def __reduce__(self) -> Any:
            return str, ("x" * LARGE,)

    made = serialize([Book(), Other()])
    filler = ["y" * LARGE for _ in range(10)]
    assert deserialize(made.to_bytes()) == ["é" * LARGE, "x" * LARGE]
    assert len(filler) == 10


def test_bytearray_comes_back_as_its_own() -> None:
    made = serialize([bytearray(LARGE)])
    blob = made.to_bytes()
    first, second = deserialize(blob)[0], deserialize(blob)[0]
    first[0] = 1
    assert second[0] == 0


VIEWS = {
    "bytes": memoryview(bytes(range(256))),
    "bytearray": memoryview(bytearray(1000)),
    "part": memoryview(bytes(range(256)))[10:20],
    "strided": memoryview(bytes(range(256)))[::2],
    "floats": memoryview(np.arange(6.0)),
    "rows": memoryview(np.arange(6.0).reshape(2, 3)),
    "turned": memoryview(np.arange(6.0).reshape(2, 3).T),
    "scalar": memoryview(np.array(1.5)),
    "bools": memoryview(np.ones(3, bool)),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("large", [False, True])
def test_memoryviews_are_in_place(name: str, large: bool) -> None:
    view = VIEWS[name]
    opened = Opened([view, bytes(LARGE)] if large else view)
    back = opened.back[0] if large else opened.back
    assert type(back) is memoryview
    assert back.readonly
    assert (back.format, back.shape, back.tolist()) == (view.format, view.shape, view.tolist())
    assert opened.is_in_place(np.asarray(back))
    copy = deserialize_copy(opened.blob)
    copy = copy[0] if large else copy
    assert not copy.readonly
    assert copy == view
    assert not opened.holds(np.asarray(copy).ctypes.data, 1)


def test_memoryviews_that_cannot_be_restored_in_full() -> None:
    """No bytes, or a format that memoryview itself cannot make: flat, of bytes."""
    assert Opened(memoryview(b"")).back == b""
    assert Opened(memoryview(np.zeros((0, 3)))).back.nbytes == 0
    swapped = np.arange(3, dtype=">i4")
    assert Opened(memoryview(swapped)).back == swapped.tobytes()


def test_memoryviews_and_arrays_in_closures_travel_inside_the_pickle() -> None:
    view, array = memoryview(bytes(range(100))), np.arange("2020-01", "2020-03", dtype="M8[D]")[::2]
    blob, refs = dump_function(lambda: (view, array))
    assert refs == []
    opened = load_function(blob)()
    assert opened[0] == view
    assert (opened[1] == array).all()


# --- libraries are not imported before they are needed ----------------------------------------------------------------


@pytest.mark.parametrize("library", ["numpy", "pandas", "polars", "pyarrow"])
def test_no_library_is_imported_for_others(library: str) -> None:
    pytest.importorskip(library)
    program = f"""
import sys
from ray.serialization import deserialize, serialize
class P: pass
for value in (1, [[1]], bytes(100_000), memoryview(b"abc"), P(), lambda: 1):
    deserialize(serialize(value).to_bytes())
loaded = {{"numpy", "pandas", "polars", "pyarrow"}} & set(sys.modules)
assert not loaded, loaded
import {library}
before = set(sys.modules)
deserialize(serialize([[1], P()]).to_bytes())
assert not {{"numpy", "pandas", "polars", "pyarrow"}} & (set(sys.modules) - before)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=50, check=False)
    assert run.returncode == 0, run.stderr.decode()
