"""A stream whose task is run again goes on where it was, however far that is and whatever the consumer has taken."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.quick import first_of

import ray
from ray.testing import eventually

#: More than a task may be ahead of its consumer.
FAR = 300
COUNT = 400
#: 65 of these are as much as a task may be ahead.
LARGE = 200_000
LIMIT_S = 30
#: What a task may be ahead, in objects.
AHEAD = 256

SHARED = [name for name in ("shm", "plasma") if find_spec(f"ray_store_{name}")]
needs_loop = pytest.mark.skipif(find_spec("ray_async") is None, reason="async actors need ray-async")


def attempt():
    return ray.get_runtime_context().attempt


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(path):
    eventually(Path(path).exists, LIMIT_S, f"{path} is not there")


@ray.remote(num_returns="streaming", max_retries=5)
def dying(count, ends, size=0, gate=""):
    """``ends``: how far each attempt comes before its process dies."""
    for i in range(count):
        if [i] == ends[attempt() :][:1]:
            if gate:
                wait_for(gate)
            die()
        yield (i, bytes(size)) if size else i


@ray.remote(num_returns="streaming", max_retries=2, retry_exceptions=True)
def failing(count, at):
    for i in range(count):
        if i == at and attempt() == 0:
            raise ValueError(i)
        yield i


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Actor:
    @ray.method(num_returns="streaming")
    def count(self, count, ends):
        for i in range(count):
            if [i] == ends[attempt() :][:1]:
                die()
            yield i


@ray.remote(max_restarts=-1, max_task_retries=-1)
class AsyncActor:
    async def count(self, count, ends):
        for i in range(count):
            if [i] == ends[attempt() :][:1]:
                die()
            yield i

    @ray.method(num_returns="streaming")
    async def count_in_steps(self, count, ends):
        def values():
            for i in range(count):
                if [i] == ends[attempt() :][:1]:
                    die()
                yield i

        return values()


async def drawn(stream):
    return [await ref async for ref in stream]


@pytest.mark.slow
def test_tasks_far_ahead(start):
    start(num_cpus=1)
    for ends in ([AHEAD + 1], [FAR, 10, FAR + 50]):
        assert [ray.get(ref) for ref in dying.remote(COUNT, ends)] == [*range(COUNT)]
    assert asyncio.run(drawn(dying.remote(COUNT, [FAR]))) == [*range(COUNT)]
    assert [ray.get(ref) for ref in failing.remote(2 * COUNT, COUNT)] == [*range(2 * COUNT)]


def test_actors_far_ahead(start):
    start(num_cpus=1)
    assert [ray.get(ref) for ref in Actor.remote().count.remote(COUNT, [FAR, FAR + 50])] == [*range(COUNT)]


@pytest.mark.slow
@needs_loop
def test_async_actors_far_ahead(start):
    start(num_cpus=1)
    actor = AsyncActor.remote()
    for method in (actor.count, actor.count_in_steps):
        assert [ray.get(ref) for ref in method.remote(COUNT, [FAR])] == [*range(COUNT)]
    assert asyncio.run(drawn(actor.count.remote(COUNT, [FAR, FAR + 50]))) == [*range(COUNT)]


def test_in_local_mode(start):
    start(local_mode=True)
    assert [ray.get(ref) for ref in failing.remote(COUNT, FAR)] == [*range(COUNT)]
    ray.shutdown()


@pytest.mark.parametrize("store", first_of([*SHARED[::-1], "heap"]))
def test_large_values(start, store):
    """More than 16 MiB before the death; at the end the store is empty."""
    start(num_cpus=1, store=store)
    found = [ray.get(ref) for ref in dying.remote(200, [100, 150], LARGE)]
    assert [i for i, _ in found] == [*range(200)]
    assert all(len(data) == LARGE for _, data in found)


@pytest.mark.parametrize("store", SHARED)
def test_large_values_that_nobody_takes(start, store, tmp_path):
    """Neither what the first attempt has stored stays behind, nor what the second one has."""
    start(num_cpus=1, store=store)
    stream = dying.remote(300, [50], LARGE, str(tmp_path / "gate"))
    taken = [next(stream) for _ in range(50)][:5]
    (tmp_path / "gate").touch()
    next(stream)
    stream.close()
    assert [ray.get(ref)[0] for ref in taken] == [*range(5)]


def test_all_were_taken_before_the_death(start, tmp_path):
    start(num_cpus=1)
    for size, name in ((0, "small"), (LARGE, "large")):
        gate = tmp_path / name
        stream = dying.remote(COUNT, [FAR], size, str(gate))
        for _ in range(FAR):
            next(stream)
        gate.touch()
        assert len(list(stream)) == COUNT - FAR


@pytest.mark.parametrize("store", SHARED)
def test_what_was_delivered_stays_as_it_was(start, store):
    """A task that yields something else the next time changes no object that a process has."""

    @ray.remote(num_returns="streaming")
    def versions():
        for i in range(20):
            if i == 10 and attempt() == 0:
                time.sleep(0.1)
                die()
            yield bytes([attempt()]) * LARGE

    start(num_cpus=1, store=store)
    refs, first = [], []
    for ref in versions.remote():
        refs.append(ref)
        first.append(ray.get(ref)[0])
    assert first == sorted(first)
    assert (first[0], first[-1]) == (0, 1)
    assert [ray.get(ref)[0] for ref in refs] == first


@ray.remote(num_returns="streaming", max_retries=-1)
def reporting(path, gate, count):
    """Say before each value which attempt makes it; ``gate``: what later attempts wait for before the first one."""
    if attempt() and gate:
        Path(f"{path}-waits").touch()
        wait_for(gate)
    with open(path, "a", buffering=1) as file:
        for i in range(count):
            file.write(f"{attempt()} {i} {os.getpid()}\n")
            yield i


def reached(path, number, at):
    """The pid of the attempt that has got so far."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        lines = path.read_text().splitlines() if path.exists() else []
        found = [line.split() for line in lines if line.startswith(f"{number} {at} ")]
        if found and len(found[-1]) == 3:
            return int(found[-1][2])
        time.sleep(0.005)
    raise AssertionError(f"attempt {number} has not come to {at}")


def test_a_retry_is_no_further_ahead(start, tmp_path):
    """Each attempt waits where the first one did, until something is taken."""
    start(num_cpus=1)
    path = tmp_path / "path"
    stream = reporting.remote(str(path), "", COUNT)
    for number in range(3):
        os.kill(reached(path, number, AHEAD - 1), signal.SIGKILL)
    reached(path, 3, AHEAD - 1)
    assert max(int(line.split()[1]) for line in path.read_text().splitlines()) == AHEAD - 1
    assert [ray.get(ref) for ref in stream] == [*range(COUNT)]


def test_taken_before_the_retry_has_yielded(start, tmp_path):
    """What is taken while the next attempt prepares is not ahead of the consumer."""
    start(num_cpus=1)
    path, gate = tmp_path / "path", tmp_path / "gate"
    stream = reporting.remote(str(path), str(gate), COUNT)
    os.kill(reached(path, 0, AHEAD - 1), signal.SIGKILL)
    wait_for(f"{path}-waits")
    for i in range(AHEAD):
        assert ray.get(next(stream)) == i
    gate.touch()
    assert [ray.get(ref) for ref in stream] == [*range(AHEAD, COUNT)]


def test_dropped_after_a_retry(start, tmp_path):
    """The attempt that runs is cancelled, be it that it waits for its consumer or not."""
    start(num_cpus=1)
    for name, count in (("waits", 10**9), ("runs", 10**9)):
        path = tmp_path / name
        stream = reporting.remote(str(path), "", count)
        os.kill(reached(path, 0, AHEAD - 1), signal.SIGKILL)
        if name == "waits":
            reached(path, 1, AHEAD - 1)
        stream.close()
    assert [ray.get(ref) for ref in dying.remote(3, [])] == [0, 1, 2]


def test_refs_inside(start):
    """Nothing counts the refs of values that were there already; the fixture sees that all are free at the end."""

    @ray.remote
    class Keeper:
        def make(self):
            return ray.put("kept")

    @ray.remote(num_returns="streaming")
    def wrap(refs):
        for i in range(COUNT):
            if i == FAR and attempt() == 0:
                die()
            yield [refs[i % len(refs)]]

    start(num_cpus=2)
    keeper = Keeper.remote()
    refs = [ray.put("put"), ray.get(keeper.make.remote())]
    found = [ray.get(ray.get(ref)[0]) for ref in wrap.remote(refs)]
    assert found == ["put", "kept"] * (COUNT // 2)


def test_a_retry_that_yields_less(start):
    """It ends where the first attempt died."""

    @ray.remote(num_returns="streaming")
    def less():
        for i in range(COUNT if attempt() == 0 else 10):
            if i == FAR:
                time.sleep(0.1)
                die()
            yield i

    start(num_cpus=1)
    found = [ray.get(ref) for ref in less.remote()]
    assert found == [*range(len(found))]
    assert len(found) >= FAR - AHEAD
