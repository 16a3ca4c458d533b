"""Values through the serializer."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import pickle
import subprocess
import sys
import threading
import types
import weakref
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray.exceptions import RayConnectionError, UnpicklableError
from ray.serialization import (
    EMPTY_ARGS,
    args_blob,
    deserialize,
    deserialize_copy,
    dump_function,
    largest_captures,
    load_function,
    register_reducer,
    serialize,
    serialize_args,
    serialize_small,
)


@dataclasses.dataclass
class Point:
    x: int
    y: str


class Colour(enum.Enum):
    RED = 1


class Ref:
    """Stands for a reference: pickled by a registered reducer."""

    def __init__(self, name: str) -> None:
        self.name = name


def _load_ref(name: str) -> Ref:
    return Ref(name)


def _reduce_ref(ref: Ref, refs: list[Any]) -> Any:
    refs.append(ref)
    return _load_ref, (ref.name,)


register_reducer(Ref, _reduce_ref)

VALUES = [
    1, -(2**70), 1.5, True, None, "text", "\ud800", b"bytes", 1j, ..., NotImplemented, type(None), int, len,
    [], [1, 2], (1, "a", None), {1, 2}, frozenset({1}), {"a": 1}, {"a": [1, {"b": (2,)}]}, [[1], [2]], range(5),
    bytearray(b"abc"), bytes(100_000), bytearray(100_000), Point(1, "a"), [Point(1, "a")] * 3, Colour.RED, Point,
    collections.OrderedDict(a=1), collections.Counter("aab"), collections.deque([1]), decimal.Decimal("1.5"),
    datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), types.SimpleNamespace(a=1), ValueError("x").args,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
def test_round_trip(value: Any) -> None:
    made = serialize(value)
    blob = made.to_bytes()
    assert len(blob) == made.nbytes
    assert made.refs == []
    for back in (deserialize(blob), deserialize(memoryview(blob)), deserialize_copy(blob)):
        assert back == value
        assert type(back) is type(value)
    room = bytearray(made.nbytes)
    made.write_into(memoryview(room))
    assert bytes(room) == blob


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


@settings(max_examples=80, deadline=None)
@given(_plain)
def test_any_plain_value(value: Any) -> None:
    assert deserialize(serialize(value).to_bytes()) == value
    small = serialize_small(value)
    assert small is None or small == serialize(value).to_bytes()


@settings(max_examples=100, deadline=None)
@given(st.lists(_plain, max_size=3), st.dictionaries(st.text(min_size=1), _plain, max_size=3))
def test_any_plain_call(args: list[Any], kwargs: dict[str, Any]) -> None:
    blob = serialize_args(tuple(args), kwargs).to_bytes()
    assert deserialize(blob) == (tuple(args), kwargs)
    small = args_blob(tuple(args), kwargs)
    assert small is None or small == blob


def test_small_values() -> None:
    for value in (1, "a", b"b", None, [1, 2], {"a": 1}, (1,), {1}):
        blob = serialize_small(value)
        assert blob is not None
        assert pickle.loads(blob) == value
    for value in (Point(1, "a"), [[1]], {"a": []}, Colour.RED, np.zeros(1), [Ref("a")], True.__class__):
        assert serialize_small(value) is None
    assert serialize_small(bytes(100_000)) is None


def test_args() -> None:
    assert args_blob((), {}) == EMPTY_ARGS
    assert deserialize(EMPTY_ARGS) == ((), {})
    assert args_blob((1, [2]), {"k": {"a": 1}}) is not None
    assert args_blob((Ref("a"),), {}) is None
    assert args_blob((), {"k": Ref("a")}) is None
    assert args_blob((1, [Ref("a")]), {}) is None

    class Sneaky(int):
        pass

    assert args_blob((Sneaky(1),), {}) is None


def test_is_a_snapshot() -> None:
    value = {"list": [1, 2], "point": Point(1, "a")}
    made = serialize(value)
    value["list"].append(3)
    value["point"].x = 9
    assert deserialize(made.to_bytes()) == {"list": [1, 2], "point": Point(1, "a")}


def test_arrays_are_read_only_views_of_the_blob() -> None:
    arrays = {"a": np.arange(10), "nested": [np.zeros((3, 4)), np.array(1.5)], "empty": np.zeros(0)}
    blob = serialize(arrays).to_bytes()
    back = deserialize(blob)
    for array in (back["a"], *back["nested"], back["empty"]):
        assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        back["a"][0] = 1
    np.testing.assert_array_equal(back["a"], arrays["a"])
    np.testing.assert_array_equal(back["nested"][0], arrays["nested"][0])
    assert np.shares_memory(back["a"], np.frombuffer(blob, np.uint8))
    start = np.frombuffer(blob, np.uint8).ctypes.data
    assert (back["a"].ctypes.data - start) % 64 == 0


def test_arrays_that_are_not_contiguous_are_read_only_as_well() -> None:
    for array in (np.arange(10)[::2], np.zeros((4, 4))[:, 1], np.asfortranarray(np.eye(3)), np.eye(3).T):
        back = deserialize(serialize([array]).to_bytes())[0]
        assert not back.flags.writeable
        np.testing.assert_array_equal(back, array)
    objects = np.array([Point(1, "a"), None], dtype=object)[::1]
    assert list(deserialize(serialize(objects).to_bytes())) == [Point(1, "a"), None]


def test_copies_are_writable_also_of_what_was_read_only() -> None:
    blob = serialize(np.arange(4)).to_bytes()
    first = deserialize(blob)
    second = deserialize_copy(serialize([first, b"x", Point(1, "a")]).to_bytes())
    second[0][0] = 7
    assert first[0] == 0
    assert second[1:] == [b"x", Point(1, "a")]
    third = deserialize_copy(blob)
    third[0] = 7


def test_large_bytes_travel_beside_the_pickle() -> None:
    data = bytes(range(256)) * 4096
    made = serialize(data)
    assert made.to_bytes().count(b"\x00\x01\x02") >= 4096
    assert deserialize(made.to_bytes()) == data
    assert type(deserialize(serialize(bytearray(data)).to_bytes())) is bytearray


def test_buffer_objects_of_others() -> None:
    class Pages:
        def __init__(self, data: Any) -> None:
            self.data = data

        def __reduce_ex__(self, protocol: Any) -> Any:
            return Pages, (pickle.PickleBuffer(self.data),)

    back = deserialize(serialize(Pages(bytearray(b"abc"))).to_bytes())
    assert isinstance(back.data, memoryview)
    assert back.data.readonly
    assert bytes(back.data) == b"abc"
    with pytest.raises(UnpicklableError):
        serialize(Pages(memoryview(bytearray(10))[::2]))


@pytest.mark.parametrize("cut", [1, 5, 15, 16, 30, 200, -1])
def test_damaged_blob(cut: int) -> None:
    blob = serialize([np.zeros(100), np.ones(100)]).to_bytes()
    with pytest.raises(ValueError, match="cut short"):
        deserialize(blob[:cut])
    with pytest.raises(ValueError, match="version"):
        deserialize(b"\x01\x09" + blob[2:])
    with pytest.raises(ValueError, match="cut short"):
        deserialize(b"\x01\x01\x00\x00\xff\xff\xff\xff" + blob[8:])


def test_refs_at_any_depth_in_order() -> None:
    inner = Point(1, Ref("b"))  # type: ignore[arg-type]
    made = serialize({"a": Ref("a"), "b": [inner], "c": lambda: shared})
    shared = Ref("late")
    assert [ref.name for ref in made.refs] == ["a", "b"]
    back = deserialize(serialize([Ref("a"), {"k": (Ref("b"),)}]).to_bytes())
    assert back[0].name == "a"
    assert back[1]["k"][0].name == "b"
    same = Ref("once")
    assert serialize([same, same]).refs == [same]
    assert serialize_args((Ref("x"),), {"k": Ref("y")}).refs[1].name == "y"


def test_refs_in_closures_and_in_objects_pickled_by_value() -> None:
    ref = Ref("closed over")

    class Local:
        held = Ref("class attribute")

        def __init__(self) -> None:
            self.own = Ref("instance")

    made = serialize([lambda: ref, Local()])
    assert {r.name for r in made.refs} == {"closed over", "class attribute", "instance"}
    blob, refs = dump_function(lambda: (ref, Local))
    assert {r.name for r in refs} == {"closed over", "class attribute"}
    assert load_function(blob)()[0].name == "closed over"


def test_errors_of_reducers_pass_unchanged() -> None:
    class Gone:
        pass

    def reduce_gone(obj: Any, refs: list[Any]) -> Any:
        raise RayConnectionError

    register_reducer(Gone, reduce_gone)
    with pytest.raises(RayConnectionError):
        serialize([Gone()])


def test_functions_by_value_and_by_name() -> None:
    offset = 3
    assert deserialize(serialize(lambda x: x + offset).to_bytes())(1) == 4
    assert deserialize(serialize(_load_ref).to_bytes()) is _load_ref
    assert load_function(dump_function(len)[0]) is len


def test_class_defined_here_comes_back_as_itself_with_its_own_methods() -> None:
    class Local:
        def method(self) -> Any:
            return offset

    method, offset = Local.method, 1
    back = deserialize(serialize([Local(), Local]).to_bytes())
    assert back[1] is Local
    assert type(back[0]) is Local
    assert Local.method is method
    offset = 2
    assert back[0].method() == 2


def test_name_that_means_something_else_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("changing")
    monkeypatch.setitem(sys.modules, "changing", module)
    exec("def f(): return 1\nclass C: pass", module.__dict__)
    old = module.f
    assert deserialize(serialize([module.f, module.C()]).to_bytes())[0] is old
    exec("def f(): return 2", module.__dict__)
    assert deserialize(serialize([old]).to_bytes())[0]() == 1
    assert deserialize(serialize([module.f]).to_bytes())[0] is module.f


def test_modules_registered_to_travel_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("shipped")
    monkeypatch.setitem(sys.modules, "shipped", module)
    exec("def f(): return 1", module.__dict__)
    assert b"co_" not in serialize([module.f]).to_bytes()
    cloudpickle.register_pickle_by_value(module)
    try:
        blob = serialize([module.f]).to_bytes()
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    monkeypatch.delitem(sys.modules, "shipped")
    assert deserialize(blob)[0]() == 1


def test_values_that_only_cloudpickle_knows() -> None:
    back = deserialize(serialize({"module": sys, "keys": {"a": 1}.keys(), "view": memoryview(b"abc")}).to_bytes())
    assert back["module"] is sys
    assert list(back["keys"]) == ["a"]
    assert bytes(back["view"]) == b"abc"


# --- what cannot be pickled -------------------------------------------------------------------------------------------


class Layer:
    def __init__(self, hook: Any) -> None:
        self.options = {"hook": hook, "size": 3}


class Model:
    def __init__(self, hook: Any) -> None:
        self.name = "net"
        self.layers = [{"size": 1}, {"size": 2}, {"hook": hook}]


def _path(value: Any) -> str:
    with pytest.raises(TypeError) as caught:
        serialize(value)
    assert isinstance(caught.value, UnpicklableError)
    assert caught.value.__cause__ is not None
    return caught.value.path


def test_path_of_an_argument() -> None:
    def train(data: Any, model: Any = None, *rest: Any, **options: Any) -> None: ...

    lock = threading.Lock()
    with pytest.raises(TypeError) as caught:
        serialize_args((1,), {"model": Model(lock)}, train)
    assert "argument 'model' → .layers[2]['hook'] → <class '_thread.lock'>" in str(caught.value)
    assert "cannot pickle '_thread.lock' object" in str(caught.value)
    for args, name in (((lock,), "'data'"), ((1, lock), "'model'"), ((1, 2, 3, lock), "'rest[1]'")):
        with pytest.raises(TypeError, match="Cannot pickle argument") as caught:
            serialize_args(args, {}, train)
        assert f"argument {name} → <class '_thread.lock'>" in str(caught.value)
    with pytest.raises(TypeError, match="argument number 1 →"):
        serialize_args((1, lock), {})


def test_paths_of_values() -> None:
    lock = threading.Lock()
    assert _path(lock) == "the value → <class '_thread.lock'>"
    assert _path([1, {"a": (lock,)}]) == "the value → [1]['a'][0] → <class '_thread.lock'>"
    assert _path(Layer(lock)) == "the value → .options['hook'] → <class '_thread.lock'>"
    assert _path(i for i in ()).endswith("<class 'builtins.generator'>")
    cyclic: list[Any] = [lock]
    cyclic.insert(0, cyclic)
    assert _path(cyclic) == "the value → [1] → <class '_thread.lock'>"


def test_paths_through_functions() -> None:
    lock = threading.Lock()

    def use() -> Any:
        return lock

    assert "closure variable 'lock' → <class '_thread.lock'>" in _path(use)
    with pytest.raises(TypeError) as caught:
        dump_function(use)
    assert "use' → closure variable 'lock' → <class '_thread.lock'>" in str(caught.value)

    class Local:
        shared = lock

    with pytest.raises(TypeError, match=r"Local' → \.shared → <class '_thread.lock'>"):
        dump_function(Local)


def test_values_whose_own_code_fails() -> None:
    class Broken:
        def __reduce__(self) -> Any:
            raise ValueError("not me")

        def __repr__(self) -> str:
            raise RuntimeError

    assert _path({"a": [Broken()]}).startswith("the value → ['a'][0] → <class ")
    with pytest.raises(TypeError, match="ValueError: not me"):
        serialize(Broken())


def test_nesting_without_end() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError, match="nested too deeply"):
        serialize(deep)
    while deep:  # Taken apart here, because the interpreter would do it recursively.
        deep = deep[0]


@pytest.mark.parametrize("send", [serialize, lambda v: serialize_args((v,), {}), lambda v: dump_function(lambda: v)])
def test_refusal_keeps_nothing_alive(send: Any) -> None:
    class Held:
        def __init__(self) -> None:
            self.parts = {"lock": threading.Lock()}

    held = Held()
    watched = weakref.ref(held)
    gc.collect()
    gc.disable()
    try:
        try:
            send(held)
        except TypeError:
            pass
        del held
        assert watched() is None
    finally:
        gc.enable()


def test_search_is_bounded() -> None:
    value = [[i] for i in range(20_000)] + [[threading.Lock()]]
    with pytest.raises(TypeError, match="Cannot pickle the value"):
        serialize(value)


# --- what a function captures -----------------------------------------------------------------------------------------


def test_largest_captures() -> None:
    table, small = bytes(1_000_000), [1, 2, 3]

    def helper() -> Any:
        return table

    def use(default: Any = bytes(5000)) -> Any:
        return helper(), small, default

    captures = largest_captures(use)
    assert [name for name, _ in captures][:3] == ["table", "default", "small"]
    assert captures[0][1] >= 1_000_000
    assert largest_captures(_load_ref) == []

    class Local:
        weights = bytes(2_000_000)

    assert largest_captures(Local)[0][0] == "weights"


# --- import -----------------------------------------------------------------------------------------------------------


def test_import_is_light_and_main_classes_travel() -> None:
    program = """
import sys
import ray.serialization as s
assert "cloudpickle" not in sys.modules and "numpy" not in sys.modules
import dataclasses
assert s.deserialize(s.serialize([1, (2,)]).to_bytes()) == [1, (2,)]
@dataclasses.dataclass
class P:
    x: int
    def twice(self):
        return FACTOR * self.x
FACTOR = 2
blob = s.serialize(P(4)).to_bytes()
del P
import gc; gc.collect()
sys.stdout.buffer.write(blob)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=30, check=False)
    assert run.returncode == 0, run.stderr.decode()
    back = deserialize(run.stdout)
    assert back.twice() == 8
    again = deserialize(run.stdout)
    assert type(again) is type(back)
    assert again == back
