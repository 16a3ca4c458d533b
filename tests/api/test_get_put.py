"""``ray.get`` and ``ray.put``."""

import datetime
import gc
import time

import pytest
from tests.api.one_session import nothing_left, session

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, UnpicklableError

__all__ = ["nothing_left", "session"]


@pytest.fixture
def np():
    """numpy, which ray-core does not need."""
    return pytest.importorskip("numpy")


@ray.remote
def echo(x):
    return x


@ray.remote
def fail(kind, text="boom"):
    raise kind(text)


def test_one_and_many_in_order_with_duplicates():
    a, b = ray.put("a"), echo.remote("b")
    assert ray.get(a) == "a"
    assert ray.get([b, a, b]) == ["b", "a", "b"]
    assert ray.get([]) == []


@pytest.mark.parametrize("value", [None, 1, "x", b"y", [1, {2: (3,)}], {"k": {1, 2}}, 1.5, True, float("inf")])
def test_values_come_back_equal(value):
    back = ray.get(ray.put(value))
    assert back == value
    assert type(back) is type(value)
    assert ray.get(echo.remote(value)) == value


def test_put_stores_a_copy():
    value = {"list": [1]}
    ref = ray.put(value)
    value["list"].append(2)
    first = ray.get(ref)
    assert first == {"list": [1]}
    first["list"].append(3)
    assert ray.get(ref) == {"list": [1]}


def test_refs_in_containers_stay_refs():
    inner = ray.put(5)
    (back,) = ray.get(ray.put([inner]))
    assert back == inner
    assert hash(back) == hash(inner)
    assert ray.get(back) == 5
    (through_task,) = ray.get(echo.remote([inner]))
    assert ray.get(through_task) == 5


def test_inner_objects_live_as_long_as_the_outer():
    outer = ray.put([ray.put([ray.put("deep")])])
    gc.collect()
    ray.put(0)
    assert ray.get(ray.get(ray.get(outer)[0])[0]) == "deep"


@pytest.mark.parametrize("size", [3, 200_000])
def test_arrays_are_read_only_views_unless_copied(np, size):
    ref = ray.put({"a": np.zeros(size)})
    array = ray.get(ref)["a"]
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    copy = ray.get(ref, copy=True)["a"]
    copy[0] = 1
    assert ray.get(ref)["a"][0] == 0
    assert not ray.get(echo.remote(np.zeros(size))).flags.writeable


def test_array_arguments_are_read_only(np):
    @ray.remote
    def writeable(array):
        return array.flags.writeable

    assert not ray.get(writeable.remote(np.zeros(10)))
    assert not ray.get(writeable.remote(ray.put(np.zeros(200_000))))


@pytest.mark.parametrize("timeout", [0, 5, 0.5, datetime.timedelta(seconds=5), None])
def test_timeout_of_a_ready_object(timeout):
    assert ray.get(ray.put(1), timeout=timeout) == 1
    assert ray.get([ray.put(1)], timeout) == [1]


def test_timeout_expires(session):
    @ray.remote
    def slow():
        time.sleep(2)
        return 1

    ref = slow.remote()
    if session == "local_mode":  # it has ended by now
        assert ray.get(ref, timeout=0) == 1
        return
    for timeout in (0, 0.05, datetime.timedelta(milliseconds=50)):
        with pytest.raises(GetTimeoutError, match="Get timed out") as caught:
            ray.get(ref, timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
    with pytest.raises(GetTimeoutError):
        ray.get([ray.put(1), ref], timeout=0.05)
    assert ray.get(ref) == 1


@pytest.mark.parametrize("wrong", [(1,), {}, 1, None, "ref", set(), iter(())])
def test_neither_ref_nor_list(wrong):
    with pytest.raises(ValueError, match="must either be an object ref or a list of object refs, not"):
        ray.get(wrong)


@pytest.mark.parametrize("wrong", [1, None, [], "x"])
def test_wrong_elements(wrong):
    with pytest.raises(TypeError, match="element 1 is"):
        ray.get([ray.put(1), wrong])


def test_tuples_of_refs_are_refused():
    with pytest.raises(ValueError, match="tuple"):
        ray.get((ray.put(1),))


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)]
)
def test_bad_timeouts(timeout, error):
    ref = ray.put(1)
    with pytest.raises(error, match="timeout"):
        ray.get(ref, timeout=timeout)
    with pytest.raises(error, match="timeout"):
        ray.get([ref], timeout=timeout)


def test_the_first_failure_in_list_order_is_raised():
    key, value = fail.remote(KeyError), fail.remote(ValueError)
    ray.wait([key, value], num_returns=2)
    with pytest.raises(KeyError):
        ray.get([ray.put(1), key, value])
    with pytest.raises(ValueError, match="boom"):
        ray.get([ray.put(1), value, key])


def test_put_of_a_ref_is_refused():
    with pytest.raises(TypeError, match=r"Calling 'put' on an object ref is not allowed.*list"):
        ray.put(ray.put(1))


def test_put_of_what_cannot_be_pickled_names_it():
    import threading

    class Model:
        def __init__(self):
            self.lock = threading.Lock()

    with pytest.raises(TypeError, match=r"lock") as caught:
        ray.put({"model": Model()})
    assert isinstance(caught.value, UnpicklableError)


def test_an_id_that_nobody_made():
    with pytest.raises(ObjectLostError):
        ray.get(ray.ObjectRef.from_random(), timeout=5)


def test_ids():
    ref = ray.put(1)
    assert ray.ObjectID is ray.ObjectRef
    assert len(ref.binary()) == ray.ObjectRef.size() == 20
    assert ref.hex() == ref.binary().hex()
    assert repr(ref) == f"ObjectRef({ref.hex()})"
    assert not ref.is_nil()
    assert ray.ObjectRef.nil().is_nil()
    same = ray.ObjectID(ref.binary())
    assert same == ref
    assert ray.get(same) == 1
    assert ref != ray.put(1)
    with pytest.raises(ValueError, match="ID string needs to have length 20"):
        ray.ObjectID(b"short")
    with pytest.raises(TypeError):
        ray.ObjectID("x" * 20)


@pytest.mark.parametrize(
    "make",
    [lambda ref: map(abs, [ref]), lambda ref: (ref, ref), lambda ref: {ref}, lambda ref: (n for n in [ref])],
    ids=["map", "tuple", "set", "generator"],
)
def test_what_is_no_list_is_made_one_before(make):
    """Not one ref at a time: what submits as it is iterated would run one task after the other."""
    with pytest.raises(ValueError, match=r"Make a list of it: ray\.get\(list\(it\)\)"):
        ray.get(make(ray.put(1)))


@pytest.mark.parametrize("values", [(1, 2), {1}])
def test_values_need_no_get(values):
    with pytest.raises(ValueError, match=r"It holds no references: what is in it is had already\."):
        ray.get(values)


def test_a_mapping_gives_its_values():
    with pytest.raises(ValueError, match=r"Make a list of its values: ray\.get\(list\(it\.values\(\)\)\)"):
        ray.get({"a": ray.put(1)})


def test_a_string_is_no_list_of_refs():
    with pytest.raises(ValueError, match=r"not 'x' \(str\)\.$"):
        ray.get("x")
