"""Calls that come back from a process which ends start in the next one as they were submitted, however they come back.

The first process of each actor keeps its interpreter until all is sent, so that it reads, and gives back, many messages
one by one while it ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests import sessions

import ray
from ray.exceptions import TaskCancelledError
from ray.testing import eventually

LIMIT_S = 40.0
LIMIT = timedelta(seconds=LIMIT_S)
#: Calls are sent in batches of at most 32.
COUNT = 150

session = sessions.shared(num_cpus=2, log_to_driver=False)
nothing_left = sessions.unchecked()


def appears(file: Path) -> None:
    eventually(file.exists, LIMIT_S, f"{file} is not there")


def keep_until_opened(folder: Path, *, killed: bool = False) -> None:
    """Let no other thread run until another process opens the pipe, and then until this process ends; once only."""
    if (folder / "begun").exists():
        return
    ends = threading.Event()
    if killed:  # while calls come back
        threading.Thread(target=kill_when, args=(ends,), daemon=True).start()
    sys.setswitchinterval(20.0)
    (folder / "begun").touch()
    ctypes.PyDLL(None).open(os.fsencode(folder / "pipe"), os.O_RDONLY)
    ends.set()
    sys.exit(3)


def kill_when(ends: threading.Event) -> None:
    ends.wait()
    time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


class Serial:
    def __init__(self) -> None:
        self.ran: list[int] = []

    def pid(self) -> int:
        return os.getpid()

    def end(self, folder: Path, killed: bool = False) -> None:
        keep_until_opened(folder, killed=killed)

    def do(self, number: int) -> int:
        self.ran.append(number)
        return number

    def stream(self, number: int) -> Iterator[int]:
        self.ran.append(number)
        yield number

    def what(self) -> list[int]:
        return self.ran


class Async:
    def __init__(self) -> None:
        self.ran: list[int] = []

    async def pid(self) -> int:
        return os.getpid()

    async def end(self, folder: Path, killed: bool = False) -> None:
        keep_until_opened(folder, killed=killed)

    async def waits(self, number: int, folder: Path) -> int:
        self.ran.append(number)
        if not (folder / "begun").exists():
            await asyncio.sleep(LIMIT_S)
        return number

    async def do(self, number: int) -> int:
        self.ran.append(number)
        return number

    async def stream(self, number: int) -> Any:
        self.ran.append(number)
        yield number

    async def what(self) -> list[int]:
        return self.ran


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "serial": (Serial, {}),
    "groups": (Serial, {"max_concurrency": 1, "concurrency_groups": {"io": 1}}),
    "async": (Async, {}),
    "one at a time": (Async, {"max_concurrency": 1}),
}


def make(kind: str, retries: int) -> Any:
    cls, options = KINDS[kind]
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=retries, **options)(cls).remote()
    ray.get(actor.pid.remote(), timeout=LIMIT_S)
    return actor


def values(refs: list[Any]) -> list[int]:
    return [ray.get(next(ref) if hasattr(ref, "__next__") else ref, timeout=LIMIT_S) for ref in refs]


def across_an_end(actor: Any, folder: Path, submit: Callable[[Any], list[Any]], *, killed: bool = False) -> list[Any]:
    """What ``submit`` has submitted while the first process of the actor is about to end."""
    os.mkfifo(folder / "pipe")
    ending = actor.end.remote(folder, killed)
    appears(folder / "begun")
    refs = submit(actor)
    with open(folder / "pipe", "wb"):
        pass
    ray.wait([ending], timeout=LIMIT)
    return refs


def many(actor: Any) -> list[Any]:
    return [actor.do.remote(number) for number in range(COUNT)]


@pytest.mark.parametrize(("kind", "retries"), [*((kind, 0) for kind in KINDS), ("serial", -1), ("async", -1)])
def test_what_comes_back_in_many_messages(kind: str, retries: int, tmp_path: Path) -> None:
    actor = make(kind, retries)
    refs = across_an_end(actor, tmp_path, many)
    assert values(refs) == list(range(COUNT))
    assert ray.get(actor.what.remote(), timeout=LIMIT_S) == list(range(COUNT))


@pytest.mark.parametrize("kind", ["serial", "async"])
def test_what_comes_back_and_what_a_killed_process_has_not_answered(kind: str, tmp_path: Path) -> None:
    actor = make(kind, -1)
    refs = across_an_end(actor, tmp_path, many, killed=True)
    assert values(refs) == list(range(COUNT))
    assert ray.get(actor.what.remote(), timeout=LIMIT_S) == list(range(COUNT))


def test_calls_that_are_repeated_and_others_that_had_not_started(tmp_path: Path) -> None:
    actor = make("async", -1)
    begun = [actor.waits.remote(number, tmp_path) for number in range(-3, 0)]
    refs = across_an_end(actor, tmp_path, many)
    assert values(begun + refs) == list(range(-3, COUNT))
    assert ray.get(actor.what.remote(), timeout=LIMIT_S) == list(range(-3, COUNT))


@pytest.mark.parametrize("kind", ["serial", "one at a time"])
def test_cancelled_ones_between(kind: str, tmp_path: Path) -> None:
    def submit(actor: Any) -> list[Any]:
        refs = many(actor)
        for ref in refs[1::3]:
            ray.cancel(ref)
        return refs

    actor = make(kind, 0)
    refs = across_an_end(actor, tmp_path, submit)
    for ref in refs[1::3]:
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=LIMIT_S)
    left = [number for number in range(COUNT) if number % 3 != 1]
    assert values([refs[number] for number in left]) == left
    assert ray.get(actor.what.remote(), timeout=LIMIT_S) == left


@pytest.mark.parametrize("kind", ["serial", "one at a time"])
def test_streams_between(kind: str, tmp_path: Path) -> None:
    def submit(actor: Any) -> list[Any]:
        streams = actor.stream.options(num_returns="streaming")
        return [(actor.do if number % 4 else streams).remote(number) for number in range(COUNT)]

    actor = make(kind, 0)
    refs = across_an_end(actor, tmp_path, submit)
    assert values(refs) == list(range(COUNT))
    assert ray.get(actor.what.remote(), timeout=LIMIT_S) == list(range(COUNT))


@pytest.mark.parametrize("kind", ["serial", "async"])
def test_several_threads(kind: str, tmp_path: Path) -> None:
    """Those of each are in order."""
    refs: dict[int, list[Any]] = {}

    def submit(actor: Any) -> list[Any]:
        def work(which: int) -> None:
            refs[which] = [actor.do.remote(which * 1000 + number) for number in range(60)]

        threads = [threading.Thread(target=work, args=(which,)) for which in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [ref for which in range(3) for ref in refs[which]]

    actor = make(kind, 0)
    sent = [which * 1000 + number for which in range(3) for number in range(60)]
    assert values(across_an_end(actor, tmp_path, submit)) == sent
    ran = ray.get(actor.what.remote(), timeout=LIMIT_S)
    assert sorted(ran) == sent
    for which in range(3):
        mine = [number for number in ran if number // 1000 == which]
        assert mine == sorted(mine)


@ray.remote(num_cpus=0)
def calls(actor: Any, folder: Path) -> tuple[list[int], list[int]]:
    refs = across_an_end(actor, folder, many)
    return values(refs), ray.get(actor.what.remote(), timeout=LIMIT_S)


@pytest.mark.parametrize("kind", ["serial", "async"])
def test_a_worker_as_the_caller(kind: str, tmp_path: Path) -> None:
    answers, ran = ray.get(calls.remote(make(kind, 0), tmp_path), timeout=LIMIT_S)
    assert answers == ran == list(range(COUNT))


def test_two_ends_one_after_the_other(tmp_path: Path) -> None:
    """What had come back comes back once more."""
    actor = make("serial", 0)
    first, second = tmp_path / "1", tmp_path / "2"
    second.mkdir()
    os.mkfifo(second / "pipe")
    first.mkdir()

    def submit(actor: Any) -> list[Any]:
        refs = [actor.do.remote(number) for number in range(20)]
        ending = actor.end.remote(second)
        return [*refs, *(actor.do.remote(number) for number in range(20, COUNT)), ending]

    *refs, ending = across_an_end(actor, first, submit)
    appears(second / "begun")
    with open(second / "pipe", "wb"):
        pass
    ray.wait([ending], timeout=LIMIT)
    assert values(refs) == list(range(COUNT))
    assert ray.get(actor.what.remote(), timeout=LIMIT_S) == list(range(20, COUNT))
