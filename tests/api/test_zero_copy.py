"""Zero copy in real sessions: what ``get`` returns, and what tasks are given, lies in the store's memory."""

import contextlib
import dataclasses
from importlib.metadata import entry_points

import pytest
from tests.quick import first_of

import ray
from ray.testing import inside

np = pytest.importorskip("numpy")

STORES = sorted({entry.name for entry in entry_points(group="ray.store")} & {"heap", "shm", "plasma"})
BIG = 200_000


def view_of(ref):
    """The memory of an object as the store of this process shows it."""
    entry = ref._entry
    if inside.shares_memory():
        return inside.stored_view(entry.id)
    assert type(entry.value) is memoryview
    return entry.value


def is_inside(array, view):
    start = np.frombuffer(view, np.uint8).ctypes.data
    address = array.__array_interface__["data"][0]
    return start <= address and address + array.nbytes <= start + len(view)


def is_in_place(array, ref):
    """In the store, aligned for vector instructions, read-only."""
    return is_inside(array, view_of(ref)) and array.ctypes.data % 64 == 0 and not array.flags.writeable


@dataclasses.dataclass(frozen=True)
class Record:
    """The same in a dataclass."""

    name: str
    data: object


class Frame:
    """Shows itself as Arrow data only, as libraries do that pyarrow does not know."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)

    def __reduce_ex__(self, protocol):
        raise TypeError("it cannot be pickled")

    @classmethod
    def from_arrow(cls, data):
        return cls(data)


class Model:
    """Holds arrays where pickle finds them."""

    def __init__(self, weights):
        self.layers = [{"weights": weights}]


def wrapped(kind, array):
    """The array inside something, and the way to it."""
    if kind == "plain":
        return array, lambda value: value
    if kind == "container":
        return {"k": [1, (array,)]}, lambda value: value["k"][1][0]
    if kind == "object":
        return Model(array), lambda value: value.layers[0]["weights"]
    if kind == "times":
        return [array.astype("M8[s]")], lambda value: value[0]
    if kind == "memoryview":
        return [memoryview(array)], lambda value: np.asarray(value[0])
    if kind == "dataclass":
        return Record("r", [array]), lambda value: value.data[0]
    if kind == "recarray":
        return array.view([("x", "f8")]).view(np.recarray), lambda value: value.view("f8").view(np.ndarray)
    if kind == "pandas":
        pandas = pytest.importorskip("pandas")
        return pandas.DataFrame({"a": array}), lambda value: value["a"].array._ndarray
    if kind == "pandas series":
        pandas = pytest.importorskip("pandas")
        return {"s": pandas.Series(array)}, lambda value: value["s"].array._ndarray
    if kind == "sparse":
        sparse = pytest.importorskip("scipy.sparse")
        return sparse.csr_array((array, array.astype("i8") % 10, [0, len(array)])), lambda value: value.data
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"a": array})
    if kind == "arrow":
        return table, lambda value: value.column("a").chunk(0).to_numpy()
    if kind == "arrow batch":
        return Record("b", table.to_batches()[0]), lambda value: value.data.column("a").to_numpy()
    if kind == "arrow array":
        return [arrow.array(array)], lambda value: value[0].to_numpy()
    if kind == "arrow chunked array":
        return table.column("a"), lambda value: value.chunk(0).to_numpy()
    if kind == "arrow buffer":
        return arrow.py_buffer(array), lambda value: np.frombuffer(value, "f8")
    if kind == "arrow stream":
        return Frame(table), lambda value: value.table.column("a").chunk(0).to_numpy()
    polars = pytest.importorskip("polars")
    frame = polars.from_arrow(table)
    if kind == "polars series":
        return (frame["a"],), lambda value: value[0].to_arrow().to_numpy()
    return frame, lambda value: value["a"].to_arrow().to_numpy()


#: Immutable in themselves.
ARROW_KINDS = [
    "arrow", "arrow batch", "arrow array", "arrow chunked array", "arrow buffer", "arrow stream", "polars",
    "polars series",
]  # fmt: skip
KINDS = [
    "plain", "container", "object", "dataclass", "times", "recarray", "memoryview", "pandas", "pandas series", "sparse",
    *ARROW_KINDS,
]  # fmt: skip


@ray.remote
def make(kind):
    return wrapped(kind, np.arange(BIG, dtype="f8"))[0]


@ray.remote
def is_given_in_place(value, ids, kind):
    """For a store that processes share: the argument lies where the store of this process shows the object."""
    array = wrapped(kind, np.arange(3.0))[1](value)
    view = inside.stored_view(ids[0].binary())
    return is_inside(array, view), bool(array.flags.writeable), float(array[-1].astype("f8"))


def installed_kinds():
    """Those whose libraries are here."""
    for kind in KINDS:
        with contextlib.suppress(pytest.skip.Exception):
            wrapped(kind, np.arange(3.0))
            yield kind


@pytest.mark.parametrize("store", first_of(STORES, 2))
def test_values_lie_in_the_store(start, store):
    start(num_cpus=1, store=store)
    array = np.arange(BIG, dtype="f8")
    for kind in installed_kinds():
        value, path = wrapped(kind, array)
        ref = ray.put(value)
        first, second = path(ray.get(ref)), path(ray.get(ref))
        assert is_in_place(first, ref), kind
        assert first.ctypes.data == second.ctypes.data, kind
        assert (first.astype("f8") == array).all(), kind
        result = make.remote(kind)
        ready = path(ray.get(result, timeout=50))
        assert (ready.astype("f8") == array).all(), kind
        assert not ready.flags.writeable, kind
        if inside.shares_memory():
            assert is_in_place(ready, result), kind
            given = ray.get(is_given_in_place.remote(ref, [ref], kind), timeout=50)
            assert given == (True, False, BIG - 1), kind


@pytest.mark.parametrize("store", first_of(STORES, 2))
def test_copies_are_ones_own(start, store):
    start(num_cpus=1, store=store)
    for kind in installed_kinds():
        value, path = wrapped(kind, np.arange(BIG, dtype="f8"))
        ref = ray.put(value)
        copy, other = path(ray.get(ref, copy=True)), path(ray.get(ref, copy=True))
        assert not is_inside(copy, view_of(ref)), kind
        assert copy.ctypes.data != other.ctypes.data, kind
        if kind not in ARROW_KINDS:
            copy[0] = 7
            assert copy[0] != other[0], kind
            assert path(ray.get(ref))[0] == other[0], kind


@pytest.mark.parametrize("store", first_of(STORES, 2))
def test_a_slice_of_a_table_is_stored_alone(start, store):
    pyarrow = pytest.importorskip("pyarrow")
    start(num_cpus=1, store=store)
    table = pyarrow.table({"n": np.arange(BIG), "t": [f"text {i}" for i in range(BIG)]})
    used = inside.stored_bytes()
    ref = ray.put(table.slice(1000, BIG // 10))
    assert inside.stored_bytes() - used < table.nbytes * 0.11
    assert ray.get(ref).equals(table.slice(1000, BIG // 10))


@pytest.mark.parametrize("store", first_of(STORES, 2))
def test_slices_of_arrow_data_are_stored_alone(start, store):
    arrow = pytest.importorskip("pyarrow")
    start(num_cpus=1, store=store)
    array = arrow.array(np.arange(BIG))
    for value in (
        array,
        arrow.chunked_array([array]),
        arrow.record_batch({"a": array}),
        arrow.py_buffer(array.buffers()[1]),
    ):
        used = inside.stored_bytes()
        part = value.slice(1000, BIG // 10)
        ref = ray.put(part)
        assert inside.stored_bytes() - used < array.nbytes * 0.11
        assert ray.get(ref).equals(part)
        del ref


@pytest.mark.parametrize("store", first_of(STORES, 2))
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bytes_are_written_once_beside_the_pickle(start, store, kind):
    """Python cannot show other memory as ``bytes``: reading is one copy, and the copy is the reader's own."""
    start(num_cpus=1, store=store)
    data = kind(np.random.default_rng(1).bytes(BIG))
    used = inside.stored_bytes()
    ref = ray.put({"data": data})
    assert inside.stored_bytes() - used < BIG * 1.01
    assert bytes(view_of(ref)).count(bytes(data)) == 1
    first, second = ray.get(ref)["data"], ray.get(ref, copy=True)["data"]
    assert type(first) is type(second) is kind
    assert first == second == data
    if kind is bytearray:
        first[0] ^= 255
        assert ray.get(ref)["data"] == second == data


@pytest.mark.parametrize("store", first_of(STORES, 2))
def test_values_outlive_their_refs(start, store):
    polars = pytest.importorskip("polars")
    start(num_cpus=1, store=store)
    frames = []
    for i in range(5):
        ref = ray.put(polars.DataFrame({"a": np.full(BIG, i), "t": ["a text that is long"] * BIG}))
        frames.append(ray.get(ref))
        del ref
    for _ in range(10):
        ray.put(np.full(BIG * 2, -1))
    for i, frame in enumerate(frames):
        assert (frame["a"] == i).all()
        assert (frame["t"] == "a text that is long").all()


# --- writing into what is read-only -----------------------------------------------------------------------------------


@ray.remote
def assign(array):
    array[0] = 1


@ray.remote
def sort(array):
    array.sort()


@ray.remote
def set_writeable(array):
    array.flags.writeable = True


@ray.remote
def assign_view(view):
    view[0] = 1


@ray.remote
class Keeper:
    """Changes, in a later call, what an earlier one was given."""

    def keep(self, array):
        self.array = array

    def add(self):
        self.array += 1


def check(caught):
    """The text and the original both say what to do."""
    assert "ray.get(ref, copy=True)" in str(caught.value)
    assert any("array.copy()" in note for note in caught.value.__cause__.__notes__)
    assert len(caught.value.__cause__.__notes__) == 1


def test_error_says_how_to_get_a_writable_copy(ray_session):
    ref = ray.put(np.zeros(10))
    for task in (assign, sort, set_writeable):
        with pytest.raises(ValueError) as caught:
            ray.get(task.remote(ref), timeout=50)
        check(caught)
    with pytest.raises(TypeError) as caught:
        ray.get(assign_view.remote(memoryview(b"abc")), timeout=50)
    check(caught)
    keeper = Keeper.remote()
    ray.get(keeper.keep.remote(ref), timeout=50)
    with pytest.raises(ValueError) as caught:
        ray.get(keeper.add.remote(), timeout=50)
    check(caught)


@ray.remote
def other_error():
    raise ValueError("the disk is read-only")


def test_other_errors_are_left_alone(ray_session):
    with pytest.raises(ValueError) as caught:
        ray.get(other_error.remote(), timeout=50)
    assert not hasattr(caught.value.__cause__, "__notes__")
