"""A call that runs over its time: its caller is told, and nobody else is harmed."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from tests import sessions

import ray
from ray.exceptions import TaskTimeoutError
from ray.testing import eventually

LIMIT_S = 20
TIME_LIMIT_S = 0.3
#: As long as a call is given to clean up, and as long again for a busy machine.
SOON_S = 5


session = sessions.shared(num_cpus=4)
nothing_left = sessions.unchecked()


def wait_for(path, limit_s=LIMIT_S):
    eventually(lambda: os.path.exists(path), limit_s, f"{path} was not made")


def touch(path):
    with open(path, "w"):
        pass


async def until(path):
    while not os.path.exists(path):  # noqa: ASYNC110, ASYNC240 - made by another process
        await asyncio.sleep(0.005)


@ray.remote
class Loop:
    """Calls that cannot be ended within a second; they end when ``path`` is there."""

    async def cleans_up(self, path):
        try:
            await asyncio.sleep(60)
        finally:
            await until(path)

    async def swallows(self, path):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await until(path)
        return b"x" * 1_000_000

    @ray.method(in_thread=True)
    def in_thread(self, path):
        wait_for(path)
        return b"x" * 1_000_000

    async def stream(self, path):
        yield 1
        await self.cleans_up(path)

    @ray.method(in_thread=True, num_returns="streaming")
    def stream_in_thread(self, path):
        yield 1
        wait_for(path)
        while True:
            yield 2

    async def wait(self, path):
        await until(path)
        return os.getpid()

    def plain(self, seconds):
        time.sleep(seconds)

    async def pid(self):
        return os.getpid()


@ray.remote
class Threads:
    def in_thread(self, path):
        wait_for(path)
        return b"x" * 1_000_000

    def stream_in_thread(self, path):
        yield 1
        wait_for(path)
        while True:
            yield 2

    def wait(self, path):
        wait_for(path)
        return os.getpid()

    def pid(self):
        return os.getpid()


def times_out(ref, started):
    with pytest.raises(TaskTimeoutError, match=f"{TIME_LIMIT_S:g}"):
        ray.get(ref, timeout=LIMIT_S)
    assert time.monotonic() - started < SOON_S


KINDS = [
    (Loop, "cleans_up"),
    (Loop, "swallows"),
    (Loop, "in_thread"),
    (Threads, "in_thread"),
]
STREAMS = [(Loop, "stream"), (Loop, "stream_in_thread"), (Threads, "stream_in_thread")]


@pytest.mark.parametrize(("cls", "method"), KINDS)
def test_the_others_go_on(tmp_path, cls, method):
    path, other = str(tmp_path / "end"), str(tmp_path / "other")
    actor = cls.options(max_concurrency=3).remote()
    pid = ray.get(actor.pid.remote(), timeout=LIMIT_S)
    waits = actor.wait.remote(other)
    started = time.monotonic()
    late = getattr(actor, method).options(timeout_s=TIME_LIMIT_S).remote(path)
    times_out(late, started)
    assert ray.get(actor.pid.remote(), timeout=LIMIT_S) == pid
    touch(other)
    assert ray.get(waits, timeout=LIMIT_S) == pid
    touch(path)
    assert ray.get(actor.pid.remote(), timeout=LIMIT_S) == pid
    times_out(late, time.monotonic())


@pytest.mark.parametrize(("cls", "method"), STREAMS)
def test_streams(tmp_path, cls, method):
    path = str(tmp_path / "end")
    actor = cls.options(max_concurrency=3).remote()
    pid = ray.get(actor.pid.remote(), timeout=LIMIT_S)
    started = time.monotonic()
    bound = getattr(actor, method).options(timeout_s=TIME_LIMIT_S, num_returns="streaming")
    first, last = bound.remote(path)
    assert ray.get(first) == 1
    times_out(last, started)
    touch(path)
    assert ray.get([actor.pid.remote() for _ in range(10)], timeout=LIMIT_S) == [pid] * 10


@pytest.mark.slow
def test_a_plain_method_that_holds_up_the_loop():
    actor = Loop.remote()
    pid = ray.get(actor.pid.remote(), timeout=LIMIT_S)
    started = time.monotonic()
    late = actor.plain.options(timeout_s=TIME_LIMIT_S).remote(3)
    behind = actor.pid.remote()
    with pytest.raises(TaskTimeoutError):
        ray.get(late, timeout=LIMIT_S)
    assert time.monotonic() - started < 2.9
    assert ray.get(behind, timeout=LIMIT_S) == pid


@pytest.mark.parametrize(("cls", "method"), KINDS)
def test_its_place_is_taken_until_it_ends(tmp_path, cls, method):
    path = str(tmp_path / "end")
    actor = cls.options(max_concurrency=2).remote()
    late = [getattr(actor, method).options(timeout_s=TIME_LIMIT_S).remote(path) for _ in range(2)]
    started = time.monotonic()
    for ref in late:
        times_out(ref, started)
    behind = actor.pid.remote()
    assert ray.wait([behind], timeout=300)[0] == []
    touch(path)
    assert ray.get(behind, timeout=LIMIT_S) > 0


@pytest.mark.slow
def test_an_actor_with_an_overdue_call_ends(tmp_path):
    """By its last handle, which waits for no call that has been answered."""
    actor = Loop.remote()
    pid = ray.get(actor.pid.remote(), timeout=LIMIT_S)
    times_out(actor.swallows.options(timeout_s=TIME_LIMIT_S).remote(str(tmp_path / "never")), time.monotonic())
    del actor
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), LIMIT_S, "the actor's process does not end")


def test_references_in_the_arguments_of_an_overdue_call(tmp_path):
    """They last until its code ends, not just until its caller is told."""
    path = str(tmp_path / "end")

    @ray.remote
    class Keeper:
        async def hold(self, refs, path):
            try:
                await asyncio.sleep(60)
            finally:
                await until(path)
                self.found = await refs[0]

        async def what(self):
            return self.found

    keeper = Keeper.remote()
    ref = keeper.hold.options(timeout_s=TIME_LIMIT_S).remote([ray.put("kept")], path)
    times_out(ref, time.monotonic())
    touch(path)
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            assert ray.get(keeper.what.remote(), timeout=LIMIT_S) == "kept"
            return
        except AttributeError:
            assert time.monotonic() < end
            time.sleep(0.02)
