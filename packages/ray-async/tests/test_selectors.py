"""What the selector ``epoll`` adds to its contract."""

import contextlib
import gc
import os
import select
import selectors
import signal
import threading
import time

import pytest
from tests.stopwatch import Stopwatch

import ray
from ray.exceptions import BlockingCallError
from ray.runtime.completion import make_selector
from ray.testing import eventually, inside
from ray_async.ready_flag import ReadyFlag
from ray_async.selectors import EpollSelector


@ray.remote
def nap(seconds):
    time.sleep(seconds)
    return seconds


def descriptors():
    """How many eventfds are open."""
    found = 0
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the one that was open for listing
            found += "eventfd" in os.readlink(f"/dev/fd/{name}")
    return found


@pytest.fixture(params=["eventfd", "pipe"])
def flag(request, monkeypatch):
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd")
    flag = ReadyFlag()
    yield flag
    flag.close()


def test_the_flag_is_seen_by_the_kernel(flag):
    poll = select.poll()
    poll.register(flag, select.POLLIN)
    assert poll.poll(0) == []
    for _ in range(3):
        flag.set()
    assert poll.poll(0) != []
    flag.clear()
    flag.clear()
    assert poll.poll(0) == []
    flag.set()
    assert poll.poll(0) != []


def test_the_flag_waits(flag):
    started = Stopwatch()
    flag.wait(0.1)
    assert started.elapsed_s() >= 0.1
    threading.Timer(0.05, flag.set).start()
    flag.wait(None)
    flag.wait(1e9)
    assert started.undisturbed_s() < 5


def test_a_closed_flag_touches_no_descriptor(flag):
    fd = flag.fileno()
    flag.close()
    flag.close()
    reader, writer = os.pipe()
    other = os.dup2(reader, fd) if reader != fd else reader
    flag.set()
    flag.clear()
    for each in {reader, writer, other}:
        os.close(each)


def test_the_flag_closes_itself():
    before = descriptors()
    flags = [ReadyFlag() for _ in range(10)]
    assert descriptors() == before + 10
    del flags
    gc.collect()
    assert descriptors() == before


def test_the_kernel_watches_objects_and_sockets_together(session):
    kernel, objects = selectors.DefaultSelector(), EpollSelector()
    reader, writer = os.pipe()
    try:
        kernel.register(objects, selectors.EVENT_READ, "objects")
        kernel.register(reader, selectors.EVENT_READ, "pipe")
        assert kernel.select(0) == []
        objects.register(nap.remote(0.05))
        assert [key.data for key, _ in kernel.select(20)] == ["objects"]
        (key,) = objects.select(0)
        assert ray.get(key.fileobj) == 0.05
        os.write(writer, b"1")
        assert {key.data for key, _ in kernel.select(20)} == {"objects", "pipe"}
        objects.unregister(key.fileobj)
        assert {key.data for key, _ in kernel.select(20)} == {"pipe"}
    finally:
        kernel.close()
        objects.close()
        os.close(reader)
        os.close(writer)


def test_what_is_told_and_not_watched_any_more_is_forgotten(session):
    """Else the descriptor would stay readable, a loop would turn and turn, and the object would be kept."""
    kernel, objects = selectors.DefaultSelector(), EpollSelector()
    try:
        kernel.register(objects, selectors.EVENT_READ)
        ref, other = nap.remote(0.01), nap.remote(0.02)
        objects.register(ref)
        assert len(kernel.select(20)) == 1
        objects.unregister(ref)
        assert kernel.select(0) == []
        objects.register(other)
        assert len(kernel.select(20)) == 1
        late = objects._told.popleft()  # as if it had been told while it was unregistered
        objects.unregister(other)
        late.told()
        assert len(kernel.select(0)) == 1
        assert objects.select(0) == []
        assert kernel.select(0) == []
    finally:
        kernel.close()
        objects.close()


@pytest.mark.parametrize("end", ["unregister", "close"])
@pytest.mark.parametrize("ready", [False, True])
def test_what_is_not_watched_any_more_is_freed_without_the_collector(session, ready, end):
    gc.collect()
    gc.disable()
    try:
        selector = EpollSelector()
        refs = [nap.remote(0.2) for _ in range(3)]
        for ref in refs:
            selector.register(ref)
        if ready:
            ray.get(refs)
        for ref in refs if end == "unregister" else ():
            selector.unregister(ref)
        selector.close()
        del ref, refs
        eventually(lambda: not inside.entries())
    finally:
        gc.enable()


def test_one_descriptor_for_all(session):
    before = descriptors()
    selector = EpollSelector()
    assert descriptors() == before + 1
    refs = [nap.remote(0) for _ in range(1000)]
    for ref in refs:
        selector.register(ref)
    while selector.get_map():
        for key in selector.select(20):
            selector.unregister(key.fileobj)
    assert descriptors() == before + 1
    selector.close()
    assert descriptors() == before


def test_a_selector_that_is_dropped_is_closed(session):
    before = descriptors()
    selector = EpollSelector()
    selector.register(ray.put(1))
    del selector
    gc.collect()
    assert descriptors() == before


def test_objects_of_actors_and_borrowed_ones(session):
    @ray.remote
    class Maker:
        def make(self, seconds):
            return [nap.remote(seconds)]

    maker = Maker.remote()
    (borrowed,) = ray.get(maker.make.remote(0.1))
    with_call = maker.make.remote(0)
    for name in ("epoll", "poll"):
        selector = make_selector(name)
        for ref in (borrowed, with_call):
            selector.register(ref)
        seen = set()
        while selector.get_map():
            for key in selector.select(20):
                seen.add(selector.unregister(key.fileobj).fd)
        assert seen == {borrowed.binary(), with_call.binary()}
        selector.close()
    assert ray.get(borrowed) == 0.1


def test_in_a_worker(session):
    @ray.remote
    def drain(name):
        selector = make_selector(name)
        refs = [nap.remote(0.01) for _ in range(5)]
        for ref in refs:
            selector.register(ref)
        got = []
        while selector.get_map():
            for key in selector.select(20):
                got.append(ray.get(selector.unregister(key.fileobj).fileobj))
        selector.close()
        return got

    assert ray.get([drain.remote("epoll"), drain.remote("poll")], timeout=30) == [[0.01] * 5] * 2


@pytest.mark.parametrize("name", ["epoll", "poll"])
def test_not_on_the_loop_of_an_async_actor(session, name):
    """As ``ray.get``: it would hold up the other calls. To look is allowed."""

    @ray.remote
    class Actor:
        async def use(self):
            selector = make_selector(name)
            try:
                ref = nap.remote(0.5)
                selector.register(ref)
                looked = selector.select(0)
                try:
                    selector.select(20)
                except BlockingCallError as error:
                    return looked, str(error), await ref
            finally:
                selector.close()

    looked, text, slept = ray.get(Actor.remote().use.remote(), timeout=20)
    assert (looked, slept) == ([], 0.5)
    assert "await" in text


@pytest.mark.parametrize("name", ["epoll", "poll"])
def test_a_signal_ends_the_wait(session, name):
    selector = make_selector(name)
    selector.register(nap.remote(20))
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = Stopwatch()
    with pytest.raises(KeyboardInterrupt):
        selector.select(None)
    assert started.undisturbed_s() < 5
    timer.join()
    assert selector.select(0) == []
    selector.close()


def test_over_every_store_and_in_local_mode():
    from importlib.metadata import entry_points

    stores = {entry.name for entry in entry_points(group="ray.store")}
    for options in [{"local_mode": True}, *({"store": store} for store in sorted(stores))]:
        with ray.init(num_cpus=2, selector="epoll", log_to_driver=False, **options):
            selector = make_selector()
            assert selector.name == "epoll"
            refs = [nap.remote(0.01), ray.put(b"x" * 200_000)]
            for ref in refs:
                selector.register(ref)
            while selector.get_map():
                for key in selector.select(20):
                    selector.unregister(key.fileobj)
            selector.close()
