"""What mypy must say about decorated classes with ``plugins = ["ray.mypy_plugin"]``. Read by it only, never run.

A line that ends in ``# E`` must be an error, every other line must not be one; ``assert_type`` states the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Generic, Self, TypeVar, assert_type, overload

import ray

T = TypeVar("T")


@ray.remote
class Counter:
    STEP = 2

    def __init__(self, start: int = 0, *, name: str = "") -> None:
        self.value = start
        self.callback: Callable[[int], int] = abs

    def add(self, n: int, times: int = 1) -> int:
        self.value += self.half(n) * times
        return self.value

    def half(self, n: int) -> int:
        return n // 2

    async def later(self, n: int) -> bytes:
        return bytes(n)

    async def several(self, n: int) -> AsyncIterator[str]:
        yield str(n)

    def awaitable(self) -> Coroutine[Any, Any, int]:
        return self.number()

    async def number(self) -> int:
        return 1

    @staticmethod
    def double(n: int) -> int:
        return 2 * n

    @classmethod
    def step(cls) -> int:
        return cls.STEP

    @property
    def size(self) -> int:
        return self.value

    @ray.method(num_returns=2)
    def pair(self, n: int) -> tuple[int, str]:
        return n, ""

    @ray.method
    def marked(self, n: int) -> float:
        return n / 2

    @overload
    def either(self, n: int) -> int: ...
    @overload
    def either(self, n: str) -> str: ...
    def either(self, n: int | str) -> int | str:
        return n


@ray.remote(num_cpus=1, max_restarts=2)
class WithOptions:
    def go(self) -> str:
        return ""


@ray.remote
@dataclasses.dataclass
class Point:
    x: int
    y: int = 0

    def total(self) -> int:
        return self.x + self.y


class Base:
    def __init__(self, n: int) -> None:
        self.n = n

    def inherited(self, word: str) -> str:
        return word


@ray.remote
class Derived(Base):
    def own(self) -> int:
        return self.n


class Meta(type):
    pass


@ray.remote
class WithMeta(metaclass=Meta):
    def f(self) -> int:
        return 1


@ray.remote
class Made:
    def __new__(cls, q: int) -> Self:
        return super().__new__(cls)

    def f(self) -> int:
        return 1


class Plain:
    def __init__(self, n: int) -> None:
        self.n = n

    def m(self, x: int) -> str:
        return str(x)


@ray.remote
class OfItsOwn:
    def remote(self) -> int:
        return 1


@ray.remote
class Typed(ray.Actor):
    def __init__(self, n: int) -> None:
        self.n = n

    @ray.method
    def m(self, x: int) -> str:
        return str(x)


def constructors(number: ray.ObjectRef[int], text: ray.ObjectRef[str]) -> None:
    assert_type(Counter.remote(), ray.ActorHandle[Counter])
    assert_type(Counter.remote(1, name="n"), ray.ActorHandle[Counter])
    assert_type(Counter.remote(number, name="n"), ray.ActorHandle[Counter])
    Counter.remote("bad")  # E
    Counter.remote(text)  # E
    Counter.remote(1, 2)  # E
    Counter.remote(nope=1)  # E
    assert_type(Counter.options(num_cpus=1, name="n").remote(1), ray.ActorHandle[Counter])
    Counter.options(num_cpuss=1)  # E
    Counter.options(num_cpus=1).remote("bad")  # E
    assert_type(WithOptions.remote(), ray.ActorHandle[WithOptions])
    WithOptions.remote(1)  # E
    assert_type(Point.remote(1, y=2).total.remote(), ray.ObjectRef[int])
    Point.remote()  # E
    assert_type(Derived.remote(1), ray.ActorHandle[Derived])
    Derived.remote()  # E
    WithMeta.remote().f.remote()
    assert_type(Made.remote(1).f.remote(), ray.ObjectRef[int])
    Made.remote("bad")  # E
    assert_type(ray.remote(Plain).remote(1).m.remote(2), ray.ObjectRef[str])
    ray.remote(Plain).remote(1).m.remote("bad")  # E
    assert_type(Typed.remote(1).m.remote(2), ray.ObjectRef[str])
    Typed.remote("bad")  # E


def handles(number: ray.ObjectRef[int], text: ray.ObjectRef[str]) -> None:
    c = Counter.remote(1)
    assert_type(c.add.remote(1), ray.ObjectRef[int])
    assert_type(c.add.remote(1, times=2), ray.ObjectRef[int])
    assert_type(c.add.remote(number, times=2), ray.ObjectRef[int])
    assert_type(ray.get(c.add.remote(1)), int)
    c.add.remote("bad")  # E
    c.add.remote(text)  # E
    c.add.remote()  # E
    c.add.remote(1, nope=2)  # E
    c.add(1)  # E
    assert_type(c.add.options(timeout_s=1).remote(1), ray.ObjectRef[int])
    c.add.options(timeout=1)  # E
    assert_type(c.later.remote(1), ray.ObjectRef[bytes])
    assert_type(c.awaitable.remote(), ray.ObjectRef[int])
    assert_type(c.several.remote(1), ray.ObjectRefGenerator[str])
    c.several.remote("bad")  # E
    assert_type(c.double.remote(1), ray.ObjectRef[int])
    assert_type(c.step.remote(), ray.ObjectRef[int])
    c.step.remote(1)  # E
    first, second = c.pair.remote(1)
    assert_type(first, ray.ObjectRef[int])
    assert_type(second, ray.ObjectRef[str])
    assert_type(c.marked.remote(1), ray.ObjectRef[float])
    c.either.remote(1)
    print(c.value)  # E
    print(c.callback)  # E
    print(c.size)  # E
    print(c.STEP)  # E
    c.nope.remote()  # E
    c.value = 3  # E
    c.__ray_terminate__.remote()
    assert_type(c.call(Plain.m, 1), ray.ObjectRef[str])  # E
    d = Derived.remote(1)
    assert_type(d.inherited.remote("w"), ray.ObjectRef[str])
    assert_type(d.own.remote(), ray.ObjectRef[int])
    d.inherited.remote(1)  # E
    d.nope.remote()  # E
    found: ray.ActorHandle[Any] = ray.get_actor("n")
    found.anything.remote(1)
    known: ray.ActorHandle[Counter] = ray.get_actor("n")
    assert_type(known.add.remote(1), ray.ObjectRef[int])
    ray.kill(c)
    ray.kill(Counter)  # E


async def awaiting() -> None:
    c = Counter.remote()
    assert_type(await c.add.remote(1), int)
    assert_type(await c.later.remote(1), bytes)
    async for ref in c.several.remote(1):
        assert_type(await ref, str)


def in_a_container(counters: list[ray.ActorHandle[Counter]], maybe: ray.ActorHandle[Counter] | None) -> None:
    assert_type([counter.add.remote(1) for counter in counters], list[ray.ObjectRef[int]])
    if maybe is not None:
        assert_type(maybe.add.remote(1), ray.ObjectRef[int])
    maybe.add.remote(1)  # E


def names() -> None:
    assert_type(Counter.STEP, int)
    assert_type(Counter.double(2), int)
    assert_type(Counter.step(), int)
    print(OfItsOwn)


class Box(Generic[T]):
    def __init__(self, actor: ray.ActorHandle[T]) -> None:
        self.actor = actor

    def go(self) -> Iterator[Any]:
        yield self.actor.whatever.remote(1)
