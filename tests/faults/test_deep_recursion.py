"""A program that recurses without end, by mistake, gets its RecursionError wherever it is: nothing of ray is torn then.

Each kind of call is made with every little room that a thread may have left on its stack. It works, or it raises the
RecursionError; what comes after it works in any case.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time

import pytest

import ray
from ray.exceptions import RayTaskError

LARGE = 300_000
#: How many calls there may still be room for: each number where everything fails, and some of those beyond.
ROOMS = (*range(1, 30), *range(30, 200, 11))


@ray.remote
def same(value):
    return value


@ray.remote(num_returns=2)
def two():
    return 1, 2


@ray.remote
def large():
    return bytes(LARGE)


@ray.remote(num_returns="streaming")
def some():
    yield from range(4)


@ray.remote(max_retries=0)
def sleep():
    time.sleep(60)


@ray.remote
def fail():
    raise ValueError("by itself")


class Counter:
    def same(self, value):
        return value


def get(counter):
    assert ray.get(same.remote(3)) == 3


def submit(counter):
    same.remote(1)
    two.remote()


def get_two(counter):
    assert ray.get(two.remote()) == [1, 2]


def get_many(counter):
    assert ray.get([same.remote(x) for x in range(12)]) == list(range(12))


def wait(counter):
    ready, rest = ray.wait([same.remote(1), same.remote(2)], num_returns=2)
    assert len(ready) == 2
    assert not rest


def pass_on(counter):
    assert ray.get(same.remote(value=same.remote(same.remote(4)))) == 4


def call(counter):
    assert ray.get(counter.same.remote(5)) == 5


def call_and_forget(counter):
    counter.same.remote(same.remote(1))


def put(counter):
    assert ray.get(ray.put(6)) == 6


def put_and_forget(counter):
    ray.put(6)
    ray.put([ray.put(7)])
    ray.put(bytes(LARGE))


def put_refs(counter):
    assert len(ray.get(ray.put([ray.put(7)]))) == 1


def put_large(counter):
    assert len(ray.get(ray.put(bytes(LARGE)))) == LARGE


def pass_large(counter):
    assert len(ray.get(same.remote(bytes(LARGE)))) == LARGE


def get_large(counter):
    assert len(ray.get(same.remote(large.remote()))) == LARGE


def iterate(counter):
    assert [ray.get(ref) for ref in some.remote()] == list(range(4))


def cancel(counter):
    ref = sleep.remote()
    try:
        ray.cancel(ref)
    except RecursionError:
        SLEEPING.append(ref)
        raise


def get_failed(counter):
    with pytest.raises((ValueError, RayTaskError)):  # to make an error of both classes takes room
        ray.get(same.remote(fail.remote()))


def await_on_thread(counter):
    assert same.remote(8).future().result(20) == 8


def name_it(counter):
    assert ray.get(same.options(name="a name").remote(9)) == 9


#: What was to be cancelled and could not.
SLEEPING = []
SENDS = [submit, call_and_forget, put_and_forget, cancel]
WAITS = [get, get_two, get_many, wait, pass_on, call, iterate, get_failed, await_on_thread]
STORES = [put, put_refs, put_large, pass_large, get_large, name_it]


def down(calls, last, *args):
    return last(*args) if calls <= 0 else down(calls - 1, last, *args)


def depth():
    """How many calls of ``down`` this thread has room for."""
    calls = 10
    while True:
        try:
            down(calls, int)
        except RecursionError:
            return calls
        calls += 1


def try_all(kinds, counter, rooms=ROOMS):
    """Make each kind of call with little room, and see whether what follows is as it should be."""
    most = depth()
    for kind in kinds:
        failed = 0
        for room in rooms:
            try:
                down(most - room, kind, counter)
            except RecursionError:
                failed += 1
        assert 0 < failed < len(rooms), kind.__name__
        while SLEEPING:
            ray.cancel(SLEEPING.pop())
    gc.collect()  # an error that was caught leads to frames, and these to refs
    return len(kinds)


def check(counter):
    """Nothing is torn: tasks and calls have their values."""
    assert ray.get([same.remote(x) for x in range(20)], timeout=30) == list(range(20))
    assert ray.get([counter.same.remote(x) for x in range(20)], timeout=30) == list(range(20))


@ray.remote
def try_in_task(kinds, counter):
    return try_all(kinds, counter, ROOMS[::4])


class Trying:
    def try_all(self, kinds, counter):
        done = try_all(kinds, counter, ROOMS[::5])
        check(counter)
        return done


class AsyncTrying:
    async def try_sending(self, counter):
        return try_all(SENDS, counter, ROOMS[::4])

    async def try_awaiting(self, counter):
        async def down(calls):
            return await (counter.same.remote(1) if calls <= 0 else down(calls - 1))

        failed = 0
        for calls in range(depth(), 0, -5):
            try:
                assert await down(calls) == 1
            except RecursionError:
                failed += 1
        for x in range(20):
            assert await same.remote(x) == x
        return failed


def begin(start):
    start(num_cpus=2)
    return ray.remote(Counter).remote()


def test_in_the_program(start):
    counter = begin(start)
    try_all(SENDS + WAITS + STORES, counter)
    check(counter)


def test_on_another_thread(start):
    counter = begin(start)
    results = []
    thread = threading.Thread(target=lambda: results.append(try_all(SENDS + WAITS[:5], counter, ROOMS[::3])))
    thread.start()
    thread.join(50)
    assert results
    check(counter)


def test_in_a_task(start):
    counter = begin(start)
    kinds = [SENDS + WAITS[:4], WAITS[4:]]
    assert ray.get([try_in_task.remote(some, counter) for some in kinds], timeout=50) == [*map(len, kinds)]
    check(counter)


def test_in_an_actor_with_threads(start):
    counter = begin(start)
    trying = ray.remote(Trying).options(max_concurrency=2).remote()
    kinds = [SENDS + WAITS[:4], WAITS[4:]]
    assert ray.get([trying.try_all.remote(some, counter) for some in kinds], timeout=50) == [*map(len, kinds)]
    check(counter)


def test_in_an_async_actor(start):
    counter = begin(start)
    trying = ray.remote(AsyncTrying).remote()
    assert ray.get(trying.try_sending.remote(counter), timeout=50) == len(SENDS)
    assert ray.get(trying.try_awaiting.remote(counter), timeout=50) > 0
    check(counter)


PROGRAM = """
import sys, ray
ray.init(num_cpus=2, log_to_driver=False)
sys.setrecursionlimit(int(sys.argv[1]))

@ray.remote
def same(value):
    return value

@ray.remote
class Counter:
    def same(self, value):
        return value

counter = Counter.remote()

def caught(call):
    try:
        call()
    except RecursionError:
        pass

CALLS = {
    "get": lambda x: ray.get(same.remote(x)),
    "remote": lambda x: same.remote(x),
    "wait": lambda x: ray.wait([same.remote(x)]),
    "call": lambda x: ray.get(counter.same.remote(x)),
    "call and forget": lambda x: counter.same.remote(x),
    "put": lambda x: ray.put([ray.put(x)]),
    "try": lambda x: caught(lambda: ray.get(same.remote(x))),
}

def recurse(call, x):
    call(x)
    return recurse(call, x + 1) + 1

def check():
    assert ray.get([same.remote(x) for x in range(10)], timeout=30) == list(range(10))
    assert ray.get(counter.same.remote(1), timeout=30) == 1

check()
for name, call in CALLS.items():
    try:
        recurse(call, 0)
    except RecursionError:
        pass
    check()
ray.shutdown()
print("fine")
"""


@pytest.mark.parametrize("limit", [200, 1100])
def test_a_recursion_without_end(limit):
    command = [sys.executable, "-c", PROGRAM, str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=55, check=False)
    assert done.stdout == "fine\n", done.stderr[-3000:]
    assert "Traceback" not in done.stderr


@ray.remote(max_retries=0)
def recurse(counter, x=0):
    ray.get([same.remote(x), counter.same.remote(x)])
    return recurse.__wrapped__(counter, x + 1) + 1


def test_a_task_that_does_so_fails_with_that(start):
    counter = begin(start)
    for _ in range(2):
        with pytest.raises(RecursionError):
            ray.get(recurse.remote(counter), timeout=50)
        check(counter)
