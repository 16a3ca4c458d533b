"""Methods that Python itself calls, where a class of actors has its own: they are called by name, as any other."""

import dataclasses
from typing import Any

import pytest
from tests.api.one_session import nothing_left

import ray

__all__ = ["nothing_left"]


class Shelf:
    def __init__(self, *items):
        self.items = list(items)

    @ray.method(num_returns=2)
    def __call__(self, first, *, second=2):
        return first, second

    def __len__(self):
        return len(self.items)

    def __getitem__(self, at):
        return self.items[at]

    def __setitem__(self, at, item):
        self.items[at] = item

    def __contains__(self, item):
        return item in self.items

    def __add__(self, other):
        return [*self.items, *other]

    def __enter__(self):
        return "entered"

    def __or__(self, other):
        return ["or", other]

    def mro(self):
        return "mine"

    def __repr__(self):
        return f"Shelf{self.items}"

    def __str__(self):
        return "a shelf"

    def __eq__(self, other):
        return self.items == other

    def __hash__(self):
        return 7

    def __lt__(self, other):
        return len(self.items) < other


class Adder(ray.Actor):
    @ray.method
    def __call__(self, x: int) -> int:
        return x + 1


class Awaited:
    async def __call__(self, x):
        return x + 1


@dataclasses.dataclass(order=True)
class Point:
    x: int
    y: int

    def norm(self):
        return self.x + self.y


@pytest.fixture(params=[False, True], ids=["session", "local_mode"], scope="module", autouse=True)
def session(request):
    options: dict[str, Any] = {} if request.param else {"num_cpus": 2}
    with ray.init(local_mode=request.param, **options):
        yield


@pytest.fixture(scope="module")
def shelf(session):
    return ray.remote(num_cpus=0)(Shelf).remote(1, 2)


def test_call(shelf):
    assert ray.get(shelf.__call__.remote(1)) == [1, 2]
    assert ray.get(shelf.__call__.remote(1, second=3)) == [1, 3]
    assert ray.get(shelf.__call__.options(num_returns=1).remote(1)) == (1, 2)
    with pytest.raises(TypeError, match=r"Shelf\.__call__\.remote\(\): missing a required argument: 'first'"):
        shelf.__call__.remote()
    with pytest.raises(TypeError, match=r"try 'object\.__call__\.remote\(\)'"):
        shelf.__call__(1)
    assert "__call__" in dir(shelf)
    assert not callable(shelf)


def test_call_in_other_forms(shelf):
    adder = ray.remote(Adder).options(num_cpus=0).remote()
    awaited = ray.remote(num_cpus=0)(Awaited).remote()
    refs = [adder.__call__.remote(1), adder.call(Adder.__call__, 2), awaited.__call__.remote(3)]
    assert ray.get(refs) == [2, 3, 4]
    through = ray.remote(num_cpus=0)(lambda handle, method: ray.get([handle.__call__.remote(1), method.remote()]))
    assert ray.get(through.remote(adder, shelf.__len__)) == [2, 2]


CALLS = {
    "__len__": ((), 2),
    "__getitem__": ((1,), 2),
    "__contains__": ((3,), False),
    "__add__": (([3],), [1, 2, 3]),
    "__or__": ((3,), ["or", 3]),
    "__enter__": ((), "entered"),
    "mro": ((), "mine"),
    "__repr__": ((), "Shelf[1, 2]"),
    "__str__": ((), "a shelf"),
    "__eq__": (([1, 2],), True),
    "__hash__": ((), 7),
    "__lt__": ((3,), True),
}


@pytest.mark.parametrize("name", CALLS)
def test_others(name, shelf):
    arguments, value = CALLS[name]
    assert ray.get(getattr(shelf, name).remote(*arguments)) == value


def test_the_handle_stays_what_it_is(shelf):
    assert repr(shelf).startswith("Actor(Shelf, ")
    assert shelf == ray.get(ray.remote(num_cpus=0)(lambda handle: handle).remote(shelf))
    assert shelf != [1, 2]
    assert len({shelf, shelf}) == 1
    assert not hasattr(shelf, "__del__")
    with pytest.raises(TypeError):
        len(shelf)
    with pytest.raises(TypeError):
        _ = shelf < 3


def test_what_a_dataclass_is_given(session):
    point = ray.remote(num_cpus=0)(Point).remote(1, 2)
    assert ray.get([point.__repr__.remote(), point.norm.remote()]) == ["Point(x=1, y=2)", 3]
    assert ray.get(point.__lt__.remote(Point(1, 3))) is True
    with pytest.raises(AttributeError, match=r"no method 'nor'.*Did you mean 'norm'"):
        _ = point.nor
    with pytest.raises(AttributeError) as caught:
        _ = point.something
    assert "__" not in str(caught.value)


def test_what_no_class_gave(session):
    class Plain:
        def get(self):
            return 1

    plain = ray.remote(num_cpus=0)(Plain).remote()
    for name in ("__call__", "__len__", "__or__"):
        assert not hasattr(plain, name)
    assert not hasattr(plain.__eq__, "remote")
