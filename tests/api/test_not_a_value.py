"""References and handles where a value was meant: the error says what gives the value, and others see no value."""

import asyncio
import collections.abc
import concurrent.futures
import copy
import inspect
import math
import operator
import pickle

import pytest
from tests.api.one_session import nothing_left, session

import ray

__all__ = ["nothing_left", "session"]


@ray.remote
def pair():
    return 3, 4


@ray.remote
class Counter:
    limit = 3

    def __init__(self):
        self.total = 0

    def get(self):
        return self.total


def unpack(ref):
    _, _ = ref


def loop(ref):
    for _ in ref:
        pass


def enter(ref):
    with ref:
        pass


def put_in(ref):
    ref[0] = 1


AS_SEQUENCE = [unpack, loop, list, lambda ref: ref[0], lambda ref: ref["key"], lambda ref: 1 in ref, lambda ref: [*ref]]
AS_VALUE = [
    len, int, float, complex, range, abs, round, math.sqrt, enter, put_in, operator.neg, operator.index,
    lambda ref: sum([ref, ref]), lambda ref: ref + 1, lambda ref: 1 + ref, lambda ref: ref * ref, lambda ref: 2**ref,
    lambda ref: ref / 2, lambda ref: ref @ ref, lambda ref: divmod(ref, 2), lambda ref: ref > 1, lambda ref: ref > 1,
    lambda ref: sorted([ref, ray.put(1)]), lambda ref: max(ref, 1), lambda ref: [1, 2][ref], lambda ref: ref | 1,
]  # fmt: skip


@pytest.mark.parametrize("use", AS_SEQUENCE)
def test_what_takes_it_apart_is_told_of_num_returns(use):
    with pytest.raises(TypeError, match=r"ray\.get\(ref\) gives the value.* num_returns=2"):
        use(pair.remote())


@pytest.mark.parametrize("use", AS_VALUE)
def test_what_computes_with_it_is_told_of_get(use):
    ref = pair.remote()
    with pytest.raises(TypeError, match=r"is a reference to a value.*ray\.get\(ref\) gives the value") as caught:
        use(ref)
    assert repr(ref) in str(caught.value) or "ObjectRef(" in str(caught.value)


@pytest.mark.parametrize("wait", [concurrent.futures.wait, lambda refs: list(concurrent.futures.as_completed(refs))])
def test_futures_of_the_standard_library(wait):
    refs = [pair.remote(), pair.remote()]
    with pytest.raises(TypeError, match=r"ref\.future\(\) for ref in refs"):
        wait(refs)
    assert len(concurrent.futures.wait([ref.future() for ref in refs], timeout=30).done) == 2


def test_whoever_asks_sees_no_value():
    ref = pair.remote()
    for kind in (
        collections.abc.Iterable,
        collections.abc.Collection,
        collections.abc.Sequence,
        collections.abc.Mapping,
    ):
        assert not isinstance(ref, kind)
    assert not hasattr(ref, "__iter__")
    assert not hasattr(ref, "_condition")
    assert not callable(ref)
    assert bool(ref)
    assert ref == ref
    assert ref != 1
    assert {ref: 1}[copy.copy(ref)] == 1
    assert ref in [1, ref]
    assert dict(inspect.getmembers(ref))["binary"]() == ref.binary()
    assert pickle.loads(pickle.dumps(ref)) == ref
    assert ray.get([ref, copy.deepcopy(ref)]) == [(3, 4), (3, 4)]


def test_others_that_look_into_what_they_are_given():
    numpy = pytest.importorskip("numpy")
    ref = ray.put(1)
    assert numpy.asarray(ref).item() is ref
    assert numpy.array([ref, ref]).tolist() == [ref, ref]
    with pytest.raises(TypeError, match=r"ray\.get"):
        numpy.arange(3) + ref

    async def gather():
        return await asyncio.gather(ref, ref)

    assert asyncio.run(gather()) == [1, 1]


def test_frames_of_pandas():
    pandas = pytest.importorskip("pandas")
    ref = ray.put(1)
    frame = pandas.DataFrame({"refs": [ref, ref]})
    frame["same"] = ref
    assert frame["same"].tolist() == [ref, ref]
    assert pandas.Series(ref, index=[0, 1]).tolist() == [ref, ref]
    assert not pandas.isna(ref)


def test_attributes_of_an_actor_are_in_its_process():
    counter = Counter.remote()
    with pytest.raises(AttributeError, match=r"'total' cannot be set from outside.*set_total\.remote"):
        counter.total = 5
    with pytest.raises(AttributeError, match="'get' cannot be set from outside"):
        counter.get = 5
    with pytest.raises(AttributeError, match="'total' cannot be deleted from outside"):
        del counter.total
    with pytest.raises(AttributeError):
        counter.get.timeout_s = 5
    assert ray.get(counter.get.remote()) == 0
    assert ray.get(copy.copy(counter).get.remote()) == 0


def test_attributes_of_an_actor_class_are_sent_as_they_were():
    with pytest.raises(AttributeError, match="'limit' cannot be set afterwards"):
        Counter.limit = 10


def test_a_stream_is_drawn_from():
    refs = ray.remote(lambda: iter([1, 2])).options(num_returns="streaming").remote()
    with pytest.raises(ValueError, match=r"not <ObjectRefGenerator.*Use \[ray\.get\(ref\) for ref in it\]"):
        ray.get(refs)
    assert [ray.get(ref) for ref in refs] == [1, 2]
