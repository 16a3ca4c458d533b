"""References that a process sends to itself, or that come back to it by others: what nobody holds is freed.

A worker runs tasks that it has submitted itself, when it is idle by then; an actor calls itself. Owner, submitter and
executor are one process then. Whatever it keeps by mistake stays in the store, and keeps the process from ending.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import time

import psutil
import pytest

import ray
from ray.testing import eventually

LIMIT_S = 20.0
BIG = 200_000


def put(size):
    return ray.put(b"x" * size)


# --- tasks ------------------------------------------------------------------------------------------------------------


@ray.remote
def make(size):
    return [put(size), os.getpid()]


@ray.remote(num_returns=2)
def make_two(size):
    yield {"here": [put(size), os.getpid()]}
    yield put(size), put(size)


@ray.remote
def pass_on(refs):
    return refs


@ray.remote
def make_deeper(size):
    return [make.remote(size), put(size), os.getpid()]


@ray.remote(max_retries=1, retry_exceptions=True)
def make_late(size, tries):
    tries.append(put(size))
    if not os.path.exists(tries[0]):
        open(tries[0], "w").close()
        raise RuntimeError("once more")
    return tries[1:]


@ray.remote
class Actor:
    def __init__(self, refs=()):
        self.refs = refs

    def pid(self):
        return os.getpid()


@ray.remote
def create(size):
    return [Actor.remote([put(size)])]


@ray.remote
def submit(way, size, *args):
    """Submit a task and do not wait for it: this process is idle when it can run, and runs it itself."""
    match way:
        case "a result":
            return [make.remote(size), os.getpid()]
        case "two results":
            return [*make_two.remote(size), os.getpid()]
        case "a result of a result":
            return [make_deeper.remote(size), os.getpid()]
        case "an argument":
            return [pass_on.remote([put(size)])]
        case "a borrowed argument":
            return [pass_on.remote(list(args))]
        case "both":
            return [pass_on.remote([put(size), *args]), put(size)]
        case "a retry":
            return [make_late.remote(size, [*args])]
        case "nobody wants it":
            make.remote(size)
            return []
        case "an actor":
            return [create.remote(size)]


WAYS = [
    "a result", "two results", "a result of a result", "an argument", "a borrowed argument", "both", "a retry",
    "nobody wants it",
]  # fmt: skip


def go_through(value):
    """Get all that a value leads to, and let go of it; returns the pids that it names."""
    if isinstance(value, ray.ObjectRef):
        return go_through(ray.get(value, timeout=LIMIT_S))
    if isinstance(value, int):
        return {value}
    if isinstance(value, bytes):
        return set()
    if isinstance(value, (list, tuple, dict)):
        parts = value.values() if isinstance(value, dict) else value
        return {pid for part in parts for pid in go_through(part)}
    return {ray.get(value.pid.remote(), timeout=LIMIT_S)}


# --- actors -----------------------------------------------------------------------------------------------------------


@ray.remote(max_concurrency=4)
class Own:
    """Calls itself, and other actors, which call it back."""

    def pid(self):
        return os.getpid()

    def make(self, size):
        return [put(size)]

    def give(self, refs):
        return refs

    def stream(self, size, count):
        for _ in range(count):
            yield [put(size)]

    def stubborn(self, size, begun):
        open(begun, "w").close()
        eventually(lambda: not os.path.exists(begun), LIMIT_S, "the caller has gone on")
        return [put(size)]

    def call(self, way, size, me, other, path):
        match way:
            case "a call":
                go_through(me.make.remote(size))
            case "a call that nobody waits for":
                me.make.remote(size)
            case "an argument of a call":
                go_through(me.give.remote([put(size)]))
            case "a handle":
                ray.get(me.give.remote([me, Actor.remote()]), timeout=LIMIT_S)
            case "a stream":
                for ref in me.stream.options(num_returns="streaming").remote(size, 3):
                    go_through(ref)
            case "a stream that is left":
                stream = me.stream.options(num_returns="streaming").remote(size, 3)
                go_through(next(stream))
                stream.close()
            case "there and back":
                go_through(other.give.remote([put(size)]))
            case "there and back by a call":
                go_through(other.call_back.remote(me, size, [put(size)]))
            case "a cancelled call":
                ref = me.stubborn.remote(size, path)
                eventually(lambda: os.path.exists(path), LIMIT_S, "the call has not begun")
                ray.cancel(ref)
                os.remove(path)
                go_through(ref)  # a thread is not interrupted
            case "a call beyond its limit":
                ref = me.stubborn.options(timeout_s=0.3).remote(size, path)
                with pytest.raises(ray.exceptions.TaskTimeoutError):
                    ray.get(ref, timeout=LIMIT_S)
                with contextlib.suppress(FileNotFoundError):  # it has not come that far
                    os.remove(path)

    def call_back(self, caller, size, refs):
        found = ray.get(caller.give.remote([*refs, put(size)]), timeout=LIMIT_S)
        return [*found, *refs, caller.give.remote(refs)]


CALLS = [
    "a call", "a call that nobody waits for", "an argument of a call", "a handle", "a stream", "a stream that is left",
    "there and back", "there and back by a call", "a cancelled call",
    "a call beyond its limit",
]  # fmt: skip


# --- what is left -----------------------------------------------------------------------------------------------------


def stored():
    """{size: how many} of what is in the store, as ``ray memory`` tells."""
    session = ray.get_runtime_context().session_id
    command = [sys.executable, "-m", "ray", "memory", "--session", session, "--format", "json", "--limit", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    [report] = json.loads(done.stdout)
    sizes = [item["bytes"] for item in report["objects"]]
    return {size: sizes.count(size) for size in sizes}


def assert_nothing_is_stored(ways):
    """The objects of the way with number n have a size of their own, n KiB more."""
    gc.collect()
    end = time.monotonic() + LIMIT_S
    while left := stored():
        assert time.monotonic() < end, {ways[(size - BIG) // 1024]: count for size, count in left.items()}


def assert_ends(pids):
    for pid in pids:
        eventually(lambda pid=pid: not psutil.pid_exists(pid), LIMIT_S, "a process goes on for nobody")


@pytest.mark.parametrize("store", ["plasma", "shm", "heap"])
def test_tasks_that_their_owner_runs(start, store, tmp_path):
    start(num_cpus=1, store=store, log_to_driver=False)
    owner = None
    for number, way in enumerate(WAYS):
        size = BIG + number * 1024
        args = [str(tmp_path / "tried") if way == "a retry" else put(size)]
        pids = go_through(ray.get(submit.remote(way, size, *args), timeout=LIMIT_S))
        del args
        if len(pids) == 1:
            [owner] = pids  # it has run the task as well
    if store != "heap":
        assert_nothing_is_stored(WAYS)
    assert owner is not None, "no owner has run its task"
    actors, pids = [], set()
    while owner not in pids:
        assert len(actors) < 8, "no actor gets that process"
        actors.append(Actor.remote())
        pids.add(ray.get(actors[-1].pid.remote(), timeout=LIMIT_S))
    del actors
    gc.collect()
    assert_ends(pids)
    assert_ends(go_through(ray.get(submit.remote("an actor", BIG), timeout=LIMIT_S)))


@pytest.mark.slow
@pytest.mark.parametrize("store", ["plasma", "shm", "heap"])
def test_actors_that_call_themselves(start, store, tmp_path):
    start(num_cpus=1, store=store, log_to_driver=False)
    first, second = Own.remote(), Own.remote()
    pids = ray.get([first.pid.remote(), second.pid.remote()], timeout=LIMIT_S)
    for number, way in enumerate(CALLS):
        ray.get(first.call.remote(way, BIG + number * 1024, first, second, str(tmp_path / "begun")), timeout=LIMIT_S)
    if store != "heap":
        assert_nothing_is_stored(CALLS)
    del first, second
    gc.collect()
    assert_ends(pids)
