"""What type checkers must say about remote calls. Read by them only, never run.

A line that ends in ``# E`` must be an error, every other line must not be one; ``assert_type`` states the rest.
``# E mypy`` is what only mypy cannot know: it does not look at what a decorator makes of a class.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any, assert_type

import ray
from ray.async_compat import get_async
from ray.exceptions import RayTaskError

# --- functions ---


@ray.remote
def f(x: int) -> str:
    return str(x)


@ray.remote
def g(x: int, y: str = "a") -> float:
    return float(x) + len(y)


@ray.remote
def keyword_only(*, a: int, b: str = "") -> int:
    return a


@ray.remote()
def empty_parentheses(x: int) -> bytes:
    return bytes(x)


@ray.remote(num_cpus=2, max_retries=1, resources={"disk": 0.5})
def with_options(x: int) -> list[int]:
    return [x]


@ray.remote(num_returns=2)
def two(x: int) -> tuple[int, str]:
    return x, ""


@ray.remote(num_return_vals=3)
def three() -> tuple[int, int, int]:
    return 1, 2, 3


@ray.remote(num_returns=2)
def listed(x: int) -> list[bytes]:
    return [bytes(x)] * 2


@ray.remote(num_returns=2)
def untold() -> Any:
    return 1, 2


@ray.remote
def pair_of(x: str) -> tuple[str, float]:
    return x, 1.0


@ray.remote(num_returns=0)
def nothing(x: int) -> None:
    print(x)


@ray.remote
def eight(a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: str) -> int:
    return a


@ray.remote
def eleven(a: int, b: int, c: int, d: int, e: int, f: int, g: int, h: int, i: int, j: int, k: str) -> int:
    return a


@ray.remote
def count(document: str, weight: float = 1.0, *, limit: int = 0, word: str = "") -> int:
    return len(document)


@ray.remote
def variadic(*values: int, **named: str) -> int:
    return sum(values)


@ray.remote
def nested(refs: list[ray.ObjectRef[int]]) -> int:
    return sum(ray.get(refs))


def functions(number: ray.ObjectRef[int], text: ray.ObjectRef[str]) -> None:
    assert_type(f.remote(1), ray.ObjectRef[str])
    assert_type(f.remote(x=1), ray.ObjectRef[str])
    f.remote("bad")  # E
    f.remote(1, 2)  # E
    f.remote(q=1)  # E
    f.remote()  # E
    f(1)  # E
    assert_type(f.remote(number), ray.ObjectRef[str])
    f.remote(text)  # E
    assert_type(g.remote(1), ray.ObjectRef[float])
    assert_type(g.remote(1, "b"), ray.ObjectRef[float])
    assert_type(g.remote(1, y="b"), ray.ObjectRef[float])
    assert_type(g.remote(number), ray.ObjectRef[float])
    assert_type(g.remote(number, text), ray.ObjectRef[float])
    assert_type(g.remote(1, text), ray.ObjectRef[float])
    g.remote(1, number)  # E
    assert_type(keyword_only.remote(a=1), ray.ObjectRef[int])
    keyword_only.remote(a="x")  # E
    keyword_only.remote(1)  # E
    assert_type(empty_parentheses.remote(3), ray.ObjectRef[bytes])
    assert_type(with_options.remote(3), ray.ObjectRef[list[int]])
    with_options.remote("bad")  # E
    assert_type(eight.remote(1, 2, number, 4, 5, 6, number, text), ray.ObjectRef[int])
    eight.remote(1, 2, number, 4, 5, 6, number, number)  # E
    assert_type(eleven.remote(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, "k"), ray.ObjectRef[int])
    assert_type(nested.remote([number]), ray.ObjectRef[int])
    nested.remote([text])  # E


def refs_beside_keywords(number: ray.ObjectRef[int], text: ray.ObjectRef[str], ratio: ray.ObjectRef[float]) -> None:
    assert_type(count.remote(text, weight=2.0), ray.ObjectRef[int])
    assert_type(count.remote(text, 2.0, limit=3), ray.ObjectRef[int])
    assert_type(count.remote(text, ratio, limit=3, word="w"), ray.ObjectRef[int])
    assert_type(count.remote("document", ratio, word="w"), ray.ObjectRef[int])
    count.remote(text, weight="bad")  # E
    count.remote(number, weight=2.0)  # E
    count.remote(text, text, limit=3)  # E
    count.remote(text, nope=2.0)  # E
    count.remote(text, 1.0, 2.0)  # E
    assert_type(variadic.remote(number, 2, word="w"), ray.ObjectRef[int])
    variadic.remote(text)  # E
    variadic.remote(number, word=1)  # E
    assert_type(eight.remote(number, number, 3, 4, 5, 6, 7, h="h"), ray.ObjectRef[int])
    eight.remote(number, number, 3, 4, 5, 6, 7, h=1)  # E
    assert_type(eleven.remote(number, number, 3, 4, 5, 6, 7, 8, 9, 10, k="k"), ray.ObjectRef[int])
    assert_type(count.options(num_cpus=1).remote(text, weight=2.0), ray.ObjectRef[int])


def numbers_of_returns(number: ray.ObjectRef[int]) -> None:
    first, second = two.remote(1)
    assert_type(first, ray.ObjectRef[int])
    assert_type(second, ray.ObjectRef[str])
    assert_type(two.remote(number)[1], ray.ObjectRef[str])
    two.remote("bad")  # E
    one, two_, three_ = three.remote()
    assert_type((one, two_, three_), tuple[ray.ObjectRef[int], ray.ObjectRef[int], ray.ObjectRef[int]])
    first, second, third = two.remote(1)  # E
    assert_type(ray.get(two.remote(1)), list[int | str])
    ready, rest = ray.wait(three.remote(), num_returns=2)
    assert_type(ready, list[ray.ObjectRef[int]])
    assert_type(listed.remote(1), list[ray.ObjectRef[bytes]])
    _x, _y, _z = untold.remote()
    _x, _y, _z = untold.options(num_returns=3).remote()
    left, right = pair_of.options(num_returns=2).remote("a")
    assert_type(left, ray.ObjectRef[str])
    assert_type(right, ray.ObjectRef[float])
    pair_of.options(num_returns=2).remote(1)  # E
    print(rest, third)
    nothing.remote("bad")  # E
    assert_type(f.options(num_returns=2).remote(1), list[ray.ObjectRef[Any]])
    assert_type(f.options(num_returns=1).remote(1), ray.ObjectRef[str])
    f.options(num_returns=2).remote("bad")  # E


def options() -> None:
    assert_type(f.options(num_cpus=1).remote(1), ray.ObjectRef[str])
    assert_type(f.options(name="n", timeout_s=datetime.timedelta(seconds=1)).remote(1), ray.ObjectRef[str])
    f.options(retry_exceptions=[OSError], priority=3)
    f.options(node="a", soft=True, labels={"zone": ["a", "b"]}, scheduling_strategy="SPREAD")
    f.options(scheduling_strategy="PACK")  # E
    f.options(num_cpuss=1)  # E
    f.options(num_cpus="1")  # E
    f.options(max_restarts=1)  # E
    f.options(num_cpus=1).remote("bad")  # E
    ray.remote(num_cpuss=1)  # E
    ray.remote(resources={"a": "b"})  # E


# --- objects ---


def objects(number: ray.ObjectRef[int], text: ray.ObjectRef[str]) -> None:
    assert_type(ray.get(number), int)
    assert_type(ray.get([number, number]), list[int])
    assert_type(ray.get(f.remote(1), timeout=1.5), str)
    assert_type(ray.get(number, timeout=datetime.timedelta(seconds=1), copy=True), int)
    assert_type(ray.put(1.5), ray.ObjectRef[float])
    ready, rest = ray.wait([number], num_returns=1, timeout=100)
    assert_type(ready, list[ray.ObjectRef[int]])
    assert_type(rest, list[ray.ObjectRef[int]])
    wide: ray.ObjectRef[object] = number
    alias: ray.ObjectID[int] = number
    ray.get(1)  # E
    ray.get((number,))  # E
    ray.get(number, timeout="1")  # E
    ray.get(object_ids=number)  # E
    ray.wait([number], worker=1)  # E
    ray.wait([number], fetch_local=1)  # E
    ray.wait([number], fetch_local=True)
    ray.put(1, weakref=True)  # E
    ray.wait(number)  # E
    ray.wait([1])  # E
    ray.wait([number], timeout="1")  # E
    ray.cancel(number, force=True)
    ray.cancel([number, text])
    ray.cancel(1)  # E
    narrow: ray.ObjectRef[bool] = number  # E
    print(wide, alias, narrow)


# --- refs on event loops ---


async def awaiting(number: ray.ObjectRef[int], text: ray.ObjectRef[str]) -> None:
    assert_type(await number, int)
    assert_type(await f.remote(1), str)
    assert_type(await asyncio.wait_for(text, 1), str)
    a, b = await asyncio.gather(number, text)
    assert_type(a, int)
    assert_type(b, str)
    assert_type(await asyncio.gather(*[number, number]), list[int])
    assert_type(await get_async(text), str)
    assert_type(await number.as_future(), int)
    assert_type(await number.as_coroutine(cancel=True), int)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(text.as_coroutine())
    assert_type(task.result(), str)
    thread: concurrent.futures.Future[int] = number.future()
    assert_type(await asyncio.wrap_future(thread), int)
    assert_type(number.future().result(timeout=1), int)
    assert_type(number.result(), int)
    assert_type(number.exception(), BaseException | None)
    assert_type(number.done(), bool)
    number.add_done_callback(lambda ref: print(ref.result() + 1))
    wrong: str = await number  # E
    number.as_coroutine(cancels=True)  # E
    number.future().result(timeout="1")  # E
    await get_async(1)  # E
    print(wrong)


# --- streams ---


@ray.remote(num_returns="streaming")
def yields(n: int) -> Iterator[int]:
    yield n


@ray.remote(num_returns="streaming")
def yields_untold(n: int) -> Any:
    yield n


@ray.remote
def generator(word: str) -> Iterator[str]:
    yield word


class Yields(ray.Actor):
    @ray.method
    async def numbers(self, n: int) -> AsyncIterator[int]:
        yield n

    @ray.method(timeout_s=1)
    async def words(self, n: int) -> AsyncGenerator[str, None]:
        yield str(n)

    @ray.method(num_returns="streaming")
    def plain(self, n: int) -> Iterator[int]:
        yield n


async def streams() -> None:
    actor = Yields.remote()
    assert_type(yields.remote(1), ray.ObjectRefGenerator[int])
    assert_type(yields_untold.remote(1), ray.ObjectRefGenerator[Any])
    assert_type(generator.options(num_returns="streaming").remote("a"), ray.ObjectRefGenerator[str])
    assert_type([ray.get(ref) for ref in yields.remote(1)], list[int])
    assert_type(actor.numbers.remote(1), ray.ObjectRefGenerator[int])
    assert_type(actor.words.remote(1), ray.ObjectRefGenerator[str])
    assert_type(actor.plain.remote(1), ray.ObjectRefGenerator[int])
    assert_type([ray.get(ref) for ref in actor.numbers.remote(1)], list[int])
    async for ref in actor.numbers.remote(1):
        assert_type(await ref, int)
    yields.remote("bad")  # E
    actor.numbers.remote("bad")  # E
    f.options(num_returns="stream")  # E


# --- actors ---


class A(ray.Actor):
    def __init__(self, n: int, *, name: str = "") -> None:
        self.n = n

    @ray.method
    def m(self, x: int, y: str = "") -> str:
        return y * x

    @ray.method
    async def later(self, x: int) -> bytes:
        return bytes(x)

    @ray.method(timeout_s=2)
    def limited(self, x: int) -> float:
        return x / 2

    @ray.method(num_returns=2)
    def pair(self, x: int) -> tuple[int, str]:
        return x, ""

    @ray.method(num_returns=2)
    async def later_pair(self, x: int) -> tuple[int, bytes]:
        return x, b""

    async def several(self, x: int) -> bytes:
        assert_type(self.m(x), str)
        self.m("bad")  # E
        assert_type(await self.later(x), bytes)
        return await self.later(x) + self.m(x, "k").encode()

    @ray.method(num_returns=0)
    def quiet(self) -> None:
        return None


@ray.remote(num_cpus=1)
class Decorated(ray.Actor):
    def __init__(self, n: int) -> None:
        self.n = n

    @ray.method
    def m(self) -> int:
        return self.n


class Plain:
    def __init__(self, n: int) -> None:
        self.n = n

    def m(self, x: int) -> str:
        return str(x)

    async def later(self, x: int) -> bytes:
        return bytes(x)


@ray.remote
class Loose:
    def m(self) -> int:
        return 1


@ray.remote(max_restarts=2)
class LooseWithOptions:
    def m(self) -> int:
        return 1


@ray.remote
class Counted:
    def __init__(self, n: int) -> None:
        self.n = n

    def m(self, x: int) -> int:
        return self.n + x


def actors(number: ray.ObjectRef[int], text: ray.ObjectRef[str]) -> None:
    a = A.remote(1)
    assert_type(a, A)
    A.remote(1, name="n")
    A.remote("bad")  # E
    A.remote()  # E
    assert_type(A.remote(number), A)
    A.remote(text)  # E
    assert_type(A.options(num_cpus=1).remote(number), A)
    assert_type(a.m.remote(1), ray.ObjectRef[str])
    assert_type(a.m.remote(1, y="k"), ray.ObjectRef[str])
    assert_type(a.m.remote(number, text), ray.ObjectRef[str])
    assert_type(a.m.options(timeout_s=1).remote(1), ray.ObjectRef[str])
    a.m.remote("bad")  # E
    a.m.remote(text)  # E
    a.m.options(nope=1)  # E
    assert_type(a.later.remote(2), ray.ObjectRef[bytes])
    a.later.remote("bad")  # E
    assert_type(a.limited.remote(2), ray.ObjectRef[float])
    left, right = a.pair.remote(1)
    assert_type(left, ray.ObjectRef[int])
    assert_type(right, ray.ObjectRef[str])
    one, two = a.later_pair.remote(1)
    assert_type(two, ray.ObjectRef[bytes])
    assert_type(a.m.remote(number, y="k"), ray.ObjectRef[str])
    assert_type(A.remote(number, name="n"), A)
    A.remote(number, name=1)  # E
    print(one)
    a.pair.remote("bad")  # E
    a.nope.remote()  # E
    assert_type(A.options(name="n", lifetime="detached").remote(1), A)
    A.options(nope=1)  # E
    A.options(num_cpus=1).remote("bad")  # E
    d = Decorated.remote(1)
    assert_type(d, Decorated)
    assert_type(d.m.remote(), ray.ObjectRef[int])


def undecorated_classes() -> None:
    handle = ray.remote(Plain).remote(1)
    assert_type(handle, ray.ActorHandle[Plain])
    assert_type(handle.call(Plain.m, 3), ray.ObjectRef[str])
    assert_type(handle.call(Plain.later, 3), ray.ObjectRef[bytes])
    handle.call(Plain.m, "bad")  # E
    handle.call(A.m, 3)  # E
    loose = Loose.options(max_concurrency=2).remote()  # E mypy
    loose.m.remote()
    LooseWithOptions.remote().m.remote()  # E mypy
    Loose.options(max_concurrencyy=2)  # E
    found: ray.ActorHandle[Any] = ray.get_actor("name")
    found.m.remote(1)
    found.m(1)  # E
    ray.kill(found, no_restart=False)
    ray.kill("name")  # E
    ray.kill(A)  # E
    ray.kill(A.remote(1))


def constructors(number: ray.ObjectRef[int], text: ray.ObjectRef[str]) -> None:
    assert_type(ray.remote(Plain).remote(number), ray.ActorHandle[Plain])
    ray.remote(Plain).remote("bad")  # E
    ray.remote(Plain).remote(text)  # E
    ray.remote(Plain).remote()  # E
    ray.remote(Plain).remote(1, 2)  # E
    ray.remote(Plain).options(num_cpus=1).remote("bad")  # E
    ray.remote(num_cpus=1)(Plain).remote("bad")  # E
    assert_type(ray.remote(num_cpus=1)(Plain).remote(1), ray.ActorHandle[Plain])
    general: ray.ActorClass[Plain] = ray.remote(Plain)
    general.remote(1)
    handle = ray.remote(Plain).remote(1)
    handle.m(3)  # E
    handle.n = 3  # E
    Loose.remote(1)  # E
    LooseWithOptions.remote(1)  # E
    Counted.remote("bad")  # E
    Counted.remote(1).m(1)  # E


# --- sessions ---


def sessions() -> None:
    with ray.init(num_cpus=2, resources={"disk": 1.5}, local_mode=True) as context:
        assert_type(context["address"], Any)
    ray.init(redis_address="127.0.0.1:6379")
    ray.init(store="heap", options={"store": {"limit": 1}})
    ray.init(num_cpu=1)  # E
    ray.init(num_cpus="1")  # E
    assert_type(ray.is_initialized(), bool)
    assert_type(ray.error_info(), list[dict[str, Any]])
    ray.error_info(job_id="00000001")
    ray.error_info(job_id=1)  # E
    assert_type(ray.get_runtime_context().attempt, int)
    assert_type(ray.cluster_resources(), dict[str, float])
    ray.nope()  # E
    error: type[ray.exceptions.RayError] = RayTaskError
    wrap: Callable[[int], ray.ObjectRef[str]] = f.remote
    print(error, wrap)
