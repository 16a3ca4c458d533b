"""A cancellation interrupts the user's code once, by however many routes it comes: the clean-up is left alone."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time

import pytest
from tests import sessions
from tests.quick import crossed

import ray
import ray_async
from ray.exceptions import TaskCancelledError, TaskTimeoutError

#: Long enough for a second interrupt to come while it lasts.
CLEAN_UP_S = 0.15
LIMIT_S = 20
ROUNDS = 2


def note(path, text):
    with open(path, "a") as file:
        file.write(text + "\n")


def notes(path, count, limit_s=LIMIT_S):
    """What was noted, once that are ``count`` lines."""
    end = time.monotonic() + limit_s
    lines = []
    while len(lines) < count and time.monotonic() < end:
        time.sleep(0.005)
        if os.path.exists(path):
            with open(path) as file:
                lines = file.read().split("\n")[:-1]
    return lines


def hold(path):
    """Waits to be interrupted, and takes long to clean up."""
    try:
        note(path, "started")
        time.sleep(60)
    finally:
        clean_up(path)


def clean_up(path):
    end = time.monotonic() + CLEAN_UP_S
    while time.monotonic() < end:
        time.sleep(0.005)
    note(path, "cleaned up")


async def hold_on_loop(path):
    try:
        note(path, "started")
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(CLEAN_UP_S)
        note(path, "cleaned up")


@ray.remote(max_retries=0)
def task(path):
    hold(path)


@ray.remote(num_returns="streaming", max_retries=0)
def plain_stream(path, where):
    try:
        yield 1
        if where == "running":
            hold(path)
        else:
            note(path, "started")
            while True:
                yield 2
    finally:
        if where == "yielding":
            clean_up(path)


@ray.remote
class Child:
    async def work(self, path):
        await hold_on_loop(path)

    async def stream(self, path, where):
        try:
            yield 1
            if where == "running":
                await hold_on_loop(path)
            else:
                note(path, "started")
                while True:
                    yield 2
        finally:
            if where == "yielding":
                await asyncio.sleep(CLEAN_UP_S)
                note(path, "cleaned up")


@ray.remote
class Serial:
    def work(self, path):
        hold(path)


@ray.remote
class Swallows:
    """Gives what it has got so far, outside the block that has seen the interrupt."""

    def work(self, path):
        try:
            note(path, "started")
            time.sleep(60)
        except KeyboardInterrupt:
            pass
        clean_up(path)


@ray.remote
class Parent:
    """Has a child that is cancelled with it, and by it."""

    async def group(self, child, path):
        async with ray_async.TaskGroup() as group:
            group.create_task(submit(child, path))

    async def coroutine(self, child, path):
        await submit(child, path).as_coroutine(cancel=True)

    async def stream(self, child, path):
        async for _ in child.stream.remote(path, "running"):
            pass


def submit(child, path):
    return (task if child is None else child.work).remote(path)


session = sessions.shared(num_cpus=4)
nothing_left = sessions.unchecked()


def cancelled(ref):
    with pytest.raises(TaskCancelledError):
        ray.get(ref, timeout=LIMIT_S)


CHILDREN = {"async": Child.remote, "serial": Serial.remote, "task": lambda: None}


@pytest.mark.parametrize(("route", "child"), crossed(["group", "coroutine"], [*CHILDREN, "swallows"]))
def test_a_child_is_cancelled_with_its_parent_and_by_it(tmp_path, child, route):
    parent, child = Parent.remote(), {**CHILDREN, "swallows": Swallows.remote}[child]()
    for number in range(ROUNDS):
        path = str(tmp_path / str(number))
        ref = getattr(parent, route).remote(child, path)
        assert notes(path, 1) == ["started"]
        ray.cancel(ref)
        assert notes(path, 2) == ["started", "cleaned up"]
        cancelled(ref)


def test_a_stream_is_cancelled_with_its_consumer_and_by_it(tmp_path):
    parent, child = Parent.remote(), Child.remote()
    for number in range(ROUNDS):
        path = str(tmp_path / str(number))
        ref = parent.stream.remote(child, path)
        assert notes(path, 1) == ["started"]
        ray.cancel(ref)
        assert notes(path, 2) == ["started", "cleaned up"]
        cancelled(ref)


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("where", ["running", "yielding"])
def test_a_generator_is_closed_and_dropped(tmp_path, kind, where):
    child = Child.remote()
    for number in range(ROUNDS):
        path = str(tmp_path / str(number))
        stream = (child.stream if kind == "async" else plain_stream).remote(path, where)
        assert ray.get(next(stream), timeout=LIMIT_S) == 1
        assert notes(path, 1) == ["started"]
        stream.close()
        del stream
        assert notes(path, 2) == ["started", "cleaned up"]


def test_an_iteration_is_left_early(tmp_path):
    child = Child.remote()

    async def take_one(path):
        found = []
        async for ref in child.stream.remote(path, "yielding"):
            found.append(await ref)
            break
        return found

    for number in range(ROUNDS):
        path = str(tmp_path / str(number))
        assert asyncio.run(take_one(path)) == [1]
        assert notes(path, 2) == ["started", "cleaned up"]


@pytest.mark.parametrize("kind", CHILDREN)
def test_it_is_cancelled_again_and_again(tmp_path, kind):
    target = CHILDREN[kind]()
    for number in range(ROUNDS):
        path = str(tmp_path / str(number))
        ref = submit(target, path)
        assert notes(path, 1) == ["started"]
        for _ in range(10):
            ray.cancel(ref)
            time.sleep(CLEAN_UP_S / 20)
        assert notes(path, 2) == ["started", "cleaned up"]
        cancelled(ref)


@ray.remote(max_retries=0)
def waits_for_a_child(path):
    ref = task.remote(path + ".child")
    try:
        note(path, "started")
        ray.get(ref)
    finally:
        clean_up(path)


def test_a_parent_that_sees_its_child_cancelled_is_not_interrupted_besides(tmp_path):
    for number in range(3 * ROUNDS):
        path = str(tmp_path / str(number))
        ref = waits_for_a_child.remote(path)
        assert notes(path, 1) == notes(path + ".child", 1) == ["started"]
        ray.cancel(ref)
        assert notes(path, 2) == ["started", "cleaned up"]
        assert notes(path + ".child", 2) == ["started", "cleaned up"]
        cancelled(ref)


@ray.remote(max_retries=0)
def cleans_up_with_a_task(path):
    try:
        hold(path)
    finally:
        ray.get(note_remotely.remote(path))


@ray.remote(max_retries=0)
def note_remotely(path):
    time.sleep(CLEAN_UP_S)
    note(path, "by a task")


def test_tasks_of_the_clean_up_are_not_cancelled(tmp_path):
    path = str(tmp_path / "notes")
    ref = cleans_up_with_a_task.remote(path)
    assert notes(path, 1) == ["started"]
    ray.cancel(ref)
    assert notes(path, 2)[:2] == ["started", "cleaned up"]
    ray.cancel(ref)
    assert notes(path, 3) == ["started", "cleaned up", "by a task"]
    cancelled(ref)


@ray.remote(num_returns="streaming", max_retries=0)
def yields_and_cleans_up_with_a_task(path):
    try:
        note(path, "started")
        while True:
            yield 1
    finally:
        note(path, "cleans up")
        ray.get(note_remotely.remote(path))


@ray.remote(max_retries=0)
def closes_a_generator(path):
    stream = yields_and_cleans_up_with_a_task.remote(path)
    next(stream)
    stream.close()
    time.sleep(60)


def test_nor_are_those_of_a_generator_that_was_closed(tmp_path):
    """Its consumer, which is its parent, is cancelled while it cleans up."""
    path = str(tmp_path / "notes")
    ref = closes_a_generator.remote(path)
    assert notes(path, 2)[:2] == ["started", "cleans up"]
    ray.cancel(ref)
    assert notes(path, 3) == ["started", "cleans up", "by a task"]
    cancelled(ref)


@ray.remote(max_retries=0)
def cleans_up_beside(count, path):
    """Beside threads that leave no time for messages: the signal comes before the message of why."""
    cleans_up = threading.Event()

    def keep_busy():
        while not cleans_up.is_set():
            pass

    for _ in range(count):
        threading.Thread(target=keep_busy).start()
    try:
        note(path, "started")
        if count:
            time.sleep(60)
        re.match("(a+)+$", "a" * 40 + "b")  # holds the interpreter, and looks at signals
    finally:
        ref = note_remotely.remote(path)
        cleans_up.set()
        ray.get(ref)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 3])
def test_nor_where_its_process_was_too_busy_to_hear_of_it_before(tmp_path, count):
    for number in range(4 * ROUNDS):
        path = str(tmp_path / str(number))
        ref = cleans_up_beside.remote(count, path)
        assert notes(path, 1) == ["started"]
        ray.cancel(ref)
        assert notes(path, 2) == ["started", "by a task"]
        cancelled(ref)


@pytest.mark.parametrize("kind", CHILDREN)
def test_the_time_limit_comes_during_the_clean_up(tmp_path, kind):
    """Every time, were it not for a machine that holds up one of the two for so long that they miss each other."""
    found = []
    for number in range(5):
        path = str(tmp_path / str(number))
        target = CHILDREN[kind]()
        ref = (task if target is None else target.work).options(timeout_s=1.0).remote(path)
        started = notes(path, 1, limit_s=2.0)
        time.sleep(1.0 - CLEAN_UP_S)
        ray.cancel(ref)
        with pytest.raises((TaskCancelledError, TaskTimeoutError)):
            ray.get(ref, timeout=LIMIT_S)
        found = notes(path, 2, limit_s=2.0) if started else []
        if found == ["started", "cleaned up"]:
            return
    raise AssertionError(found)


class Resource:
    """Takes its time to go."""

    def __del__(self):
        time.sleep(0.2)


@ray.remote(max_retries=0)
def destroys(path):
    note(path, "started")
    while True:
        Resource()
        time.sleep(0.01)


def test_an_interrupt_is_not_lost_in_a_destructor(tmp_path):
    path = str(tmp_path / "notes")
    ref = destroys.remote(path)
    assert notes(path, 1) == ["started"]
    time.sleep(0.1)
    ray.cancel(ref)
    cancelled(ref)
