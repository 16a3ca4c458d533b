"""A stream has one consumer: a second one is told so, and gets no value that is not one."""

from __future__ import annotations

import asyncio
import queue
import threading
import time

import pytest
from tests import sessions

import ray

LIMIT_S = 20
COUNT = 40


session = sessions.shared(num_cpus=2)
nothing_left = sessions.unchecked()


@ray.remote
class Gate:
    def __init__(self):
        self.open = asyncio.Event()

    async def wait(self):
        await self.open.wait()

    async def set(self):
        self.open.set()


@ray.remote(num_returns="streaming")
def count(gate, number):
    for i in range(number):
        if i == 1:
            ray.get(gate.wait.remote())
        yield i


async def draw_all(stream):
    found = []
    try:
        async for ref in stream:
            found.append(await ref)
    except RuntimeError as error:
        return found, str(error)
    return found, ""


def test_two_on_a_loop():
    async def main():
        gate = Gate.remote()
        stream = count.remote(gate, COUNT)
        assert await (await anext(stream)) == 0
        consumers = [asyncio.create_task(draw_all(stream)) for _ in range(3)]
        await asyncio.wait(consumers, return_when=asyncio.FIRST_COMPLETED)
        await gate.set.remote()
        results = await asyncio.gather(*consumers)
        assert all("one consumer" in error for _, error in results if error)
        assert sum(1 for _, error in results if error) == 2
        assert [value for found, _ in results for value in found] == list(range(1, COUNT))

    asyncio.run(main())


def test_two_threads():
    gate = Gate.remote()
    stream = count.remote(gate, COUNT)
    assert ray.get(next(stream), timeout=LIMIT_S) == 0
    ends = queue.SimpleQueue()

    def draw():
        try:
            ends.put([ray.get(ref) for ref in stream])
        except RuntimeError as error:
            ends.put(str(error))

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert "one consumer" in ends.get(timeout=LIMIT_S)
    with pytest.raises(RuntimeError, match="one consumer"):
        asyncio.run(stream.__anext__())
    ray.get(gate.set.remote(), timeout=LIMIT_S)
    assert ends.get(timeout=LIMIT_S) == list(range(1, COUNT))
    for thread in threads:
        thread.join(LIMIT_S)


def test_threads_share_without_loss():
    @ray.remote(num_returns="streaming")
    def numbers():
        yield from range(500)

    stream, found, errors = numbers.remote(), [], []
    ended = threading.Event()

    def draw():
        while not ended.is_set():
            try:
                ref = next(stream)
            except StopIteration:
                ended.set()
            except RuntimeError as error:
                errors.append(str(error))
            else:
                found.append(ray.get(ref))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert sorted(found) == list(range(500))
    assert all("one consumer" in error for error in errors)


def test_one_after_the_other():
    """It is the turn that is one consumer's, not the stream: cancelled waits and other threads are no matter."""
    gate = Gate.remote()

    async def main():
        stream = count.remote(gate, 6)
        assert await (await anext(stream)) == 0
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.05)
        await gate.set.remote()
        assert await (await anext(stream)) == 1
        assert ray.get(await asyncio.to_thread(next, stream)) == 2
        assert await draw_all(stream) == ([3, 4, 5], "")

    asyncio.run(main())


def test_it_is_closed_while_somebody_waits():
    gate = Gate.remote()
    stream = count.remote(gate, COUNT)
    assert ray.get(next(stream), timeout=LIMIT_S) == 0
    found, begun = [], threading.Event()

    def draw():
        begun.set()
        found.append(list(stream))

    thread = threading.Thread(target=draw)
    thread.start()
    assert begun.wait(LIMIT_S)
    time.sleep(0.05)  # it may just wait by now, or not yet
    stream.close()
    thread.join(LIMIT_S)
    assert found == [[]]
