"""Code of the user's that runs inside ray may start threads that call ray, and wait for them: no lock is held there."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import gc
import logging
import threading
import time
import warnings
import weakref
from typing import ClassVar

import pytest

import ray
from ray.testing import eventually

#: A thread that must not be waited for is waited for no longer than this.
LIMIT_S = 15.0


@ray.remote
def double(number):
    return 2 * number


def other_thread_calls():
    """Whether a thread can call ray while the code that asks waits for it."""
    done: list[int] = []
    thread = threading.Thread(target=lambda: done.append(ray.get(double.remote(21), timeout=LIMIT_S)), daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    return done == [42]


class Seen:
    """What came of it, where it was pickled and where it is unpickled."""

    def __init__(self, pickled=None, unpickled=None):
        self.pickled = pickled
        self.unpickled = unpickled

    def __reduce__(self):
        return unpickle, (other_thread_calls() if self.pickled is None else self.pickled,)


def unpickle(pickled):
    return Seen(pickled, other_thread_calls())


def is_fine(seen):
    assert seen.pickled is True
    assert seen.unpickled is True
    return True


class OddError(Exception):
    def __init__(self, *args):
        super().__init__(*args)
        self.seen = Seen()

    def __reduce__(self):
        return restore, (OddError, self.args, self.seen)

    def __str__(self):
        return f"str: {other_thread_calls()}"

    def __repr__(self):
        return f"repr: {other_thread_calls()}"


def restore(kind, args, seen):
    error = kind(*args)
    error.seen = seen
    return error


@ray.remote
class Actor:
    def __init__(self, seen=None):
        self.is_fine = seen is None or is_fine(seen)

    def take(self, seen):
        return self.is_fine and is_fine(seen)

    def give(self):
        return Seen()

    def fail(self):
        raise OddError("no")

    def give_all(self):
        yield Seen()
        yield Seen()


@ray.remote
def take(seen):
    return is_fine(seen)


@ray.remote
def give():
    return Seen()


@ray.remote
def fail():
    try:
        raise OddError("cause")
    except OddError as error:
        raise OddError("no") from error


@pytest.fixture(scope="module")
def context():
    with ray.init(num_cpus=2, log_to_driver=False) as context:
        yield context


@pytest.fixture(autouse=True)
def nothing_left():
    """The tests share a session."""


@pytest.fixture(autouse=True)
def session(context):
    return context


@pytest.fixture(scope="module")
def actor(context):
    actor = Actor.remote(Seen())
    assert ray.get(actor.take.remote(Seen()))
    return actor


def in_a_task(test):
    """Run it on a worker, too."""

    @ray.remote
    def outer():
        test()
        return "fine"

    assert ray.get(outer.remote()) == "fine"


def arguments():
    assert ray.get(take.remote(Seen()))
    assert ray.get(take.remote(seen=Seen()))
    assert ray.get(take.options(name="named").remote(Seen()))


def test_arguments(actor):
    arguments()
    in_a_task(arguments)
    assert ray.get(actor.take.remote(Seen()))


def test_results(actor):
    assert is_fine(ray.get(give.remote()))
    assert is_fine(ray.get(actor.give.remote()))
    assert ray.get(take.remote(give.remote()))
    in_a_task(lambda: is_fine(ray.get(give.remote())))


def test_results_that_are_many(actor):
    refs = list(actor.give_all.options(num_returns="streaming").remote())
    assert all(is_fine(ray.get(ref)) for ref in refs)


def put():
    ref = ray.put(Seen())
    assert is_fine(ray.get(ref))
    assert ray.get(take.remote(ref))


def test_put():
    put()
    in_a_task(put)


@pytest.mark.parametrize("code", ["task", "actor"])
def test_errors(actor, code):
    with pytest.raises(OddError) as caught:
        ray.get(fail.remote() if code == "task" else actor.fail.remote())
    cause = caught.value.cause if hasattr(caught.value, "cause") else caught.value
    assert is_fine(cause.seen)
    assert "False" not in str(caught.value) + repr(caught.value)


def closure():
    seen = Seen()

    @ray.remote
    def uses():
        return is_fine(seen)

    @ray.remote
    class Uses:
        def ask(self):
            return is_fine(seen)

    assert ray.get(uses.remote())
    assert ray.get(Uses.remote().ask.remote())


def test_what_functions_and_classes_capture():
    closure()
    in_a_task(closure)


class Dropped:
    """Says what came of it when it goes."""

    def __init__(self, found):
        self.found = found

    def __del__(self):
        self.found.append(other_thread_calls())

    def __reduce__(self):
        return list, ()


def drop():
    found = []
    ray.get(double.remote(1))
    ref = ray.put(Dropped(found))
    refs = [double.remote(1), ref]
    handle = Dropped(found)
    refs.append(handle)  # goes with the references
    del handle, ref
    ray.get(refs[0])
    refs.clear()
    gc.collect()
    assert found == [True, True]


def test_finalisers():
    drop()
    in_a_task(drop)


def listeners():
    found = []
    done = threading.Event()

    def told(_):
        found.append(other_thread_calls())
        done.set()

    ref = double.remote(1)
    ref.future().add_done_callback(told)
    assert done.wait(LIMIT_S)
    watch = weakref.ref(ref, lambda _: found.append(other_thread_calls()))
    del ref
    gc.collect()
    assert watch() is None
    assert found == [True, True]


def test_callbacks():
    listeners()
    in_a_task(listeners)


def test_awaiting():
    async def main():
        assert is_fine(await give.remote())
        assert await take.remote(Seen())
        await asyncio.gather(*(give.remote() for _ in range(3)))

    asyncio.run(main())
    in_a_task(lambda: asyncio.run(main()))


def test_logging_and_warnings(monkeypatch):
    found = []

    class Handler(logging.Handler):
        def emit(self, record):
            found.append(other_thread_calls())

    large = bytes(11 * 1024 * 1024)

    @ray.remote
    def uses():
        return len(large)

    handler = Handler()
    logging.getLogger("ray").addHandler(handler)
    monkeypatch.setattr(warnings, "showwarning", lambda *_, **__: found.append(other_thread_calls()))
    try:
        assert ray.get(uses.remote()) == len(large)
    finally:
        logging.getLogger("ray").removeHandler(handler)
    assert found
    assert all(found)


def test_what_is_logged_while_messages_are_taken(tmp_path):
    """The handler runs where ray is in the middle of something."""
    found = []
    told = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record):
            found.append(other_thread_calls())
            told.set()

    @ray.remote
    def stubborn(path):
        path.touch()
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            with contextlib.suppress(BaseException):
                time.sleep(0.1)

    handler = Handler()
    logging.getLogger("ray").addHandler(handler)
    runs = tmp_path / "runs"
    ref = stubborn.remote(runs)
    try:
        eventually(runs.exists, LIMIT_S)
        ray.cancel(ref)
        assert told.wait(LIMIT_S)
    finally:
        logging.getLogger("ray").removeHandler(handler)
        ray.cancel(ref, force=True)
    assert found == [True]


class Odd(str):
    """A name that asks when it is compared or hashed."""

    __slots__ = ()
    asked: ClassVar[list[bool]] = []

    def __eq__(self, other):
        self.asked.append(other_thread_calls())
        return str.__eq__(self, other)

    def __hash__(self):
        self.asked.append(other_thread_calls())
        return str.__hash__(self)


class Names(enum.StrEnum):
    FIRST = "first"
    SPACE = "space"


@pytest.mark.parametrize(("name", "namespace"), [(Odd("odd"), Odd("apart")), (Names.FIRST, Names.SPACE)])
def test_names_of_a_kind_of_their_own(name, namespace):
    first = Actor.options(name=name, namespace=namespace).remote()
    second = ray.get_actor(name, namespace)
    assert ray.get(second.take.remote(Seen()))
    assert second == ray.get_actor(str.__str__(name), str.__str__(namespace))
    assert ray.get(double.options(name=name, resources={name: 0}).remote(2)) == 4
    assert all(Odd.asked)
    ray.kill(first)
