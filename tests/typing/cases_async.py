"""What type checkers must say about ``ray_async``; see ``cases.py``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

import ray
import ray_async


@ray.remote
def square(x: int) -> int:
    return x * x


@ray.remote
def with_default(x: int, y: str = "") -> str:
    return y * x


@ray.remote
def two(x: int, y: int) -> int:
    return x + y


@ray.remote
def untyped(x):  # type: ignore[no-untyped-def]
    return x


@ray.remote(num_returns=2)
def pair(x: int) -> tuple[int, str]:
    return x, ""


@ray.remote(num_returns="streaming")
def numbers(count: int) -> Iterator[int]:
    yield from range(count)


class Model(ray.Actor):
    @ray.method
    def show(self, x: int) -> str:
        return str(x)

    @ray.method
    async def wait(self, x: int) -> float:
        return x


async def ticks() -> AsyncIterator[int]:
    yield 1


def of(x: int) -> ray.ObjectRef[bytes]:
    return ray.put(bytes(x))


async def functions() -> None:
    async with contextlib.aclosing(ray_async.map(square, range(10), limit=2)) as squares:
        async for value in squares:
            assert_type(value, int)
    async for value in ray_async.map(square.remote, [1]):
        assert_type(value, int)
    async for value in ray_async.map(square.options(num_cpus=2), ticks()):
        assert_type(value, int)
    async for text in ray_async.map(with_default, (1, 2)):
        assert_type(text, str)
    async for anything in ray_async.map(untyped, [1]):
        assert_type(anything, Any)
    async for raw in ray_async.map(of, [1]):
        assert_type(raw, bytes)
    async for raw in ray_async.map(lambda x: of(x), [1]):
        assert_type(raw, bytes)


async def wrong() -> None:
    ray_async.map(square, ["a"])  # E
    ray_async.map(two, [1])  # E
    ray_async.map(pair, [1])  # E
    ray_async.map(len, ["a"])  # E
    ray_async.map(square, 3)  # E
    ray_async.map(square, [1], limit="2")  # E


async def methods() -> None:
    model = Model.remote()
    async for text in ray_async.map(model.show, range(3)):
        assert_type(text, str)
    async for text in ray_async.map(model.show.options(timeout_s=1), range(3)):
        assert_type(text, str)
    async for number in ray_async.map(model.wait.remote, range(3)):
        assert_type(number, float)
    ray_async.map(model.show, ["a"])  # E


async def streams() -> None:
    stream = numbers.remote(3)
    async with contextlib.aclosing(stream) as same:
        async for ref in same:
            assert_type(await ref, int)
    with contextlib.closing(stream) as again:
        assert_type(ray.get(next(again)), int)
    await stream.aclose()
