"""What programs written for other releases do: names, ways to call, and values that travel."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import pickle
import subprocess
import sys
import typing

import cloudpickle
import pytest

import ray

pytestmark = pytest.mark.usefixtures("ray_session")


@ray.remote
class Counter:
    STEP = 2

    class Limit:
        value = 40

    def __init__(self, start=0):
        self.value = start

    def add(self, n):
        self.value += n
        return self.value

    def pair(self):
        return self.value, self.value + 1

    @staticmethod
    def double(n):
        return 2 * n

    @classmethod
    def step(cls):
        return cls.STEP

    def names(self):
        return Counter.STEP, Counter.double(3), Counter.step(), Counter.Limit.value

    def is_own(self):
        return isinstance(self, Counter), type(self) is Counter

    def twin(self):
        return Counter(self.value).add(1)

    def child(self):
        return ray.get(Counter.options(num_cpus=0).remote(7).add.remote(1))


@ray.remote
def call(method, *args):
    return ray.get(method.remote(*args))


@ray.remote
def same(value):
    return value


# --- methods as values ---


def test_a_method_of_a_handle_is_a_value(mode):
    @ray.remote
    def make():
        return Counter.options(name="made", lifetime="detached").remote(3).add

    counter = Counter.remote(1)
    assert ray.get(call.remote(counter.add, 4)) == 5
    assert ray.get(call.remote(counter.add, counter.double.remote(1))) == 7
    methods = ray.get(ray.put({"add": counter.add, "pair": counter.pair.options(num_returns=2)}))
    assert ray.get(methods["add"].remote(1)) == 8
    assert ray.get(methods["pair"].remote()) == [8, 9]
    add = Counter.remote(1).add  # keeps its actor
    assert sorted(ray.get([call.remote(add, 1) for _ in range(3)])) == [2, 3, 4]
    made = ray.get(make.remote())
    assert ray.get(made.remote(1)) == 4
    ray.kill(ray.get_actor("made"))


# --- the decorated name ---


def test_attributes_of_the_class_through_the_decorated_name():
    assert (Counter.STEP, Counter.double(4), Counter.step(), Counter.Limit.value) == (2, 8, 2, 40)
    assert Counter.Limit().value == 40
    assert {"STEP", "double", "remote", "options"} <= set(dir(Counter))

    with pytest.raises(AttributeError, match=r"actor class Counter has no attribute 'ad'.*'add'"):
        _ = Counter.ad


def test_in_its_own_process_the_name_is_the_class(mode):
    counter = Counter.remote(5)
    assert ray.get(counter.names.remote()) == (2, 6, 2, 40)
    if mode == "processes":
        assert ray.get(counter.is_own.remote()) == (True, True)
        assert ray.get(counter.twin.remote()) == 6
    else:
        assert ray.get(counter.is_own.remote())[0]
    assert ray.get(counter.child.remote()) == 8


def test_a_class_defined_in_a_function_that_names_itself_in_super(mode):
    class Base:
        def __init__(self, n):
            self.n = n

    @ray.remote
    class Derived(Base):
        def __init__(self, n):
            super(Derived, self).__init__(n + 1)  # noqa: UP008 - as programs of Python 2's time do

        def get(self):
            return self.n, [type(a).__name__ for a in [self] if isinstance(a, Derived)]

    if mode == "processes":
        assert ray.get(Derived.remote(1).get.remote()) == (2, ["Derived"])
    assert not issubclass(Base, Derived)


def test_the_actor_class_inside_another_actor_and_a_task():
    @ray.remote
    def constants():
        return Counter.STEP, Counter.double(1)

    @ray.remote
    class Other:
        def constants(self):
            return Counter.STEP, Counter.double(1), ray.get(Counter.remote(1).add.remote(1))

    assert ray.get(constants.remote()) == (2, 2)
    assert ray.get(Other.remote().constants.remote()) == (2, 2, 2)


def test_a_class_with_a_remote_of_its_own():
    @ray.remote
    class Remote:
        def remote(self):
            return isinstance(self, Remote)

    assert ray.get(Remote.remote().remote.remote()) is True


# --- a method beside an attribute of its name ---


@ray.remote
class Shadowed:
    def __init__(self):
        self.size = 7
        self.count = None

    def size(self):
        return "method"

    @staticmethod
    def count():
        return "static"

    def field(self):
        return self.size


def test_a_method_is_found_though_an_attribute_of_the_instance_has_its_name():
    actor = Shadowed.remote()
    assert ray.get(actor.size.remote()) == "method"
    assert ray.get(actor.count.remote()) == "static"
    assert ray.get(actor.field.remote()) == 7


# --- calls by _remote and _submit ---


def test_everything_as_arguments():
    @ray.remote
    def join(a, b=0):
        return a, b

    for way in ("_remote", "_submit"):
        submit = getattr(join, way)
        assert ray.get(submit(args=[1], kwargs={"b": 2})) == (1, 2)
        assert ray.get(submit([1, 2], num_return_vals=2)) == [1, 2]
        assert ray.get(submit((1,), {}, num_cpus=1)) == (1, 0)
        handle = getattr(Counter, way)(args=[3], kwargs={}, num_cpus=1)
        assert ray.get(getattr(handle.add, way)(args=[1], kwargs={})) == 4
        assert ray.get(getattr(handle.add, way)([1])) == 5
        assert ray.get(getattr(handle.pair, way)(num_returns=2)) == [5, 6]


# --- parameters that have the names of ours ---

NAMES = ["self", "args", "kwargs", "method", "function", "options", "name", "cls", "core", "target", "worker"]


def test_keywords_by_any_name():
    @ray.remote
    def named(**given):
        return given

    @ray.remote
    def first(self):
        return self

    @ray.remote
    class Named:
        def __init__(this, self=0, **given):
            this.given = {"self": self, **given}

        def get(this, **given):
            return this.given, given

        def one(this, self, cls):
            return self, cls

    given = dict(zip(NAMES, range(len(NAMES)), strict=True))
    assert ray.get(named.remote(**given)) == given
    assert ray.get(named.options(num_cpus=1).remote(**given)) == given
    assert ray.get(first.remote(self=1)) == ray.get(first._remote(kwargs={"self": 1})) == 1
    named_actor = Named.remote(**given)
    assert ray.get(named_actor.get.remote(**given)) == (given, given)
    assert ray.get(named_actor.one.remote(self=1, cls=2)) == (1, 2)
    assert ray.get(Named.options(num_cpus=0).remote(self=5).get.remote()) == ({"self": 5}, {})


# --- refs in pickles ---

REFS = [pickle, cloudpickle]


def test_a_ref_pickled_by_hand():
    ref = same.remote(3)
    for module in REFS:
        again = module.loads(module.dumps([ref]))[0]
        assert again == ref
        assert ray.get(again) == 3
        assert ray.get(call.remote(Counter.remote().add, again)) == 3
    # A copied ref is the ref, and keeps nothing besides.
    assert copy.copy(ref) is ref
    assert copy.deepcopy({"a": [ref]})["a"][0] is ref


def test_a_ref_without_its_session(mode):
    ref = same.remote(3)
    kept = [module.dumps(ref) for module in REFS]
    ray.shutdown()
    dead = [ref, copy.deepcopy(ref), *map(pickle.loads, kept), *(m.loads(m.dumps(ref)) for m in REFS)]
    assert {each.binary() for each in dead} == {ref.binary()}
    with pytest.raises(ray.exceptions.RayConnectionError):
        ray.get(dead[2])
    with ray.init(local_mode=mode == "local_mode", num_cpus=1):
        dead += [*map(pickle.loads, kept), *(m.loads(m.dumps(each)) for m in REFS for each in (ref, dead[2]))]
        for each in dead:
            with pytest.raises(ray.exceptions.RayConnectionError):
                ray.get(each)
            with pytest.raises(ray.exceptions.RayConnectionError):
                ray.wait([each])
            with pytest.raises(ray.exceptions.RayConnectionError):
                same.remote(each)
    ray.init(local_mode=mode == "local_mode", num_cpus=1)
    ray.shutdown()


def test_a_handle_without_its_session(mode):
    counter = Counter.remote()
    kept = [pickle.dumps(counter), cloudpickle.dumps(counter.add)]
    assert ray.get(pickle.loads(kept[1]).remote(2)) == 2
    ray.shutdown()
    assert copy.copy(counter) is copy.deepcopy([counter])[0] is counter
    assert copy.deepcopy(counter.add) is counter.add
    assert isinstance(pickle.dumps(counter), bytes)
    for handle in kept:
        with pytest.raises(ray.exceptions.RayConnectionError):
            pickle.loads(handle)
    ray.shutdown(_exiting_interpreter=True)
    with ray.init(local_mode=mode == "local_mode", num_cpus=1):
        with pytest.raises(ray.exceptions.RayConnectionError):
            counter.add.remote(1)
        with pytest.raises(ray.exceptions.RayConnectionError):
            pickle.loads(kept[0]).add.remote(1)


def test_a_ref_that_never_had_a_session():
    ray.shutdown()
    made, nil = ray.ObjectRef.from_random(), ray.ObjectRef.nil()
    assert pickle.loads(pickle.dumps(made)) == made
    assert cloudpickle.loads(cloudpickle.dumps([nil]))[0].is_nil()
    assert ray.ObjectRef.nil_id() == nil
    assert made.id() == made.binary()


# --- classes with slots ---


class Slots:
    __slots__ = ("__hidden", "__weakref__", "a")

    def __init__(self, a):
        self.a = a
        self.__hidden = -a

    def hidden(self):
        return self.__hidden


@dataclasses.dataclass(slots=True)
class Point:
    x: int
    y: int = 3

    def total(self):
        return self.x + self.y


SCRIPT = """
import abc, dataclasses, enum, typing
import ray

class Slots:
    __slots__ = ("__hidden", "__weakref__", "a")
    def __init__(self, a):
        self.a = a
        self.__hidden = -a
    def hidden(self):
        return self.__hidden

class Below(Slots):
    __slots__ = {"b": "documented"}

class Open(Slots):
    __slots__ = ("c", "__dict__")

class Empty(abc.ABC):
    __slots__ = ()

class Box(typing.Generic[typing.TypeVar("T")]):
    __slots__ = "item"

@dataclasses.dataclass(slots=True)
class Point:
    x: int
    y: int = 3
    def total(self):
        return self.x + self.y

@dataclasses.dataclass(slots=True, frozen=True, weakref_slot=True)
class Frozen:
    x: int

class Pair(typing.NamedTuple):
    a: int
    b: int = 2

class Color(enum.Enum):
    __slots__ = ()
    RED = 1

class Bits(enum.IntFlag):
    __slots__ = ()
    ONE = 1

@ray.remote
def look(value):
    return hasattr(value, "__dict__"), value

@ray.remote
class Holder:
    __slots__ = ("_value",)
    def __init__(self, value):
        self._value = value
    def get(self):
        return hasattr(self, "__dict__"), self._value

ray.init(num_cpus=2)
below, opened, box = Below(1), Open(2), Box()
below.b, opened.c, opened.other, box.item = 5, 6, 7, 8
values = [Slots(4), below, opened, Empty(), box, Point(1), Frozen(2), Pair(3), Color.RED, Bits.ONE]
for value in values:
    for has_dict, back in (ray.get(look.remote(value)), ray.get(Holder.remote(value).get.remote())):
        assert type(back) is type(value), value
        if isinstance(value, (Slots, Box)):
            for name in ("a", "b", "c", "other", "item", "_Slots__hidden"):
                assert getattr(back, name, None) == getattr(value, name, None), (value, name)
        elif not isinstance(value, Empty):
            assert back == value
    assert ray.get(look.remote(value))[0] == hasattr(value, "__dict__"), value
assert ray.get(Holder.remote(0).get.remote()) == (False, 0)
assert ray.get(ray.remote(Point).remote(1).total.remote()) == 4
assert ray.get(ray.remote(Slots).remote(1).hidden.remote()) == -1
print("good")
"""


def test_classes_with_slots(mode):
    assert ray.get(same.remote(Point(1))) == Point(1)
    assert ray.get(same.remote(Slots(2))).hidden() == -2
    assert ray.get(ray.remote(Point).remote(2).total.remote()) == 5
    if mode == "processes":
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=50, check=False)
        assert done.stdout == "good\n", done.stderr


# --- small arrays ---


class Arrays(typing.NamedTuple):
    a: typing.Any
    b: typing.Any


def test_arrays_begin_at_multiples_of_64_bytes():
    np = pytest.importorskip("numpy")
    for shape in (0, 1, 3, 10, 100, 999, (3, 5), 13_000):
        array = np.ones(shape)
        values = [array, {"k": [array, "text"]}, Arrays(array, array[:1])]
        refs = [same.remote(array), *map(ray.put, values), same.remote(values[2])]
        zero, one, two, three, four = ray.get(refs)
        for each in (zero, one, two["k"][0], *three, *four):
            assert each.ctypes.data % 64 == 0
            assert not each.flags.writeable
        np.testing.assert_array_equal(one, array)


# --- futures before their loop runs ---


def test_a_future_of_a_loop_that_does_not_run_yet(mode):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        future, called = same.remote(4).as_future(), asyncio.Event()
        same.remote(5).add_done_callback(lambda ref: called.set())
        assert loop.run_until_complete(asyncio.wait_for(future, 30)) == 4
        loop.run_until_complete(asyncio.wait_for(called.wait(), 30))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    with pytest.raises(RuntimeError, match="no running event loop, and none was set"):
        ray.put(1).as_future()
