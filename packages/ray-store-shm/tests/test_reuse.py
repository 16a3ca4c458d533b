"""Memory of deleted objects that is written again: by its creator only, and never where another process sees it."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ray import copying
from ray.exceptions import ObjectStoreFullError, RayConnectionError
from ray.testing import eventually
from ray_store_shm import kept, messages, segments
from ray_store_shm.client import ShmStore
from ray_store_shm.messages import encode
from ray_store_shm.process import ShmStoreServer
from ray_store_shm.systems import System

pytestmark = [pytest.mark.timeout(60), pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

FORK = multiprocessing.get_context("fork")
MIB = 1 << 20


def an_id(number: int) -> bytes:
    return number.to_bytes(20, "big")


def filled(number: int, nbytes: int = MIB) -> bytes:
    return bytes([number]) * nbytes


def memory_files(server: ShmStoreServer) -> set[int]:
    """Inodes of the memory that the broker has open."""
    found = set()
    for name in os.listdir(f"/proc/{server.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if "ray-object" in os.readlink(f"/proc/{server.pid}/fd/{name}"):
                found.add(os.stat(f"/proc/{server.pid}/fd/{name}").st_ino)
    return found


def mappings() -> list[str]:
    """Permissions of every mapping of objects' memory in this process."""
    with open("/proc/self/maps") as maps:
        return [line.split()[1] for line in maps if "ray-object" in line]


def put(store: ShmStore, number: int, nbytes: int = MIB) -> None:
    store.put(an_id(number), [filled(number, nbytes)], nbytes)
    assert store.contains(an_id(number)), "the broker has heard of it"


def put_and_delete(store: ShmStore, number: int, nbytes: int = MIB) -> None:
    put(store, number, nbytes)
    store.delete(an_id(number))
    assert not store.contains(an_id(number))


def value(store: ShmStore, number: int) -> bytes:
    view = store.get(an_id(number))
    assert view is not None
    try:
        return bytes(view)
    finally:
        store.release(an_id(number))


# --- when it is used again --------------------------------------------------------------------------------------------


def test_the_next_object_is_written_where_the_last_one_was(server, connect):
    store = connect()
    put_and_delete(store, 1)
    files = memory_files(server)
    assert len(files) == 1
    for number in range(2, 6):
        put(store, number)
        assert memory_files(server) == files
        assert value(store, number) == filled(number)
        gc.collect()
        store.delete(an_id(number))
        assert not store.contains(an_id(number))
    assert store.stats().used_bytes == 0


def test_pieces_arrive_in_their_order_in_new_and_in_used_memory(connect):
    store = connect()
    data = os.urandom(3 * MIB)
    pieces = [data[:7], memoryview(data)[7:MIB], bytearray(data[MIB:])]
    for number in range(4):
        store.put(an_id(number), pieces, len(data))
        assert value(store, number) == data
        store.delete(an_id(number))


def test_an_object_that_is_a_little_smaller_fits_and_a_much_smaller_one_does_not(server, connect):
    store = connect()
    put_and_delete(store, 1)
    files = memory_files(server)
    put(store, 2, MIB - MIB // 16)
    assert memory_files(server) == files
    assert value(store, 2) == filled(2, MIB - MIB // 16)
    assert store.stats().used_bytes == MIB, "it takes what its memory takes"
    store.delete(an_id(2))
    put(store, 3, MIB // 2)
    assert len(memory_files(server) - files) == 1
    assert value(store, 3) == filled(3, MIB // 2)


def test_memory_of_one_process_is_not_given_to_another(server, connect):
    store, other = connect(), connect()
    put_and_delete(store, 1)
    files = memory_files(server)
    put(other, 2)
    assert len(memory_files(server) - files) == 1
    assert value(store, 2) == filled(2)


def test_what_is_created_in_place_has_new_memory_and_nobody_writes_there_again(server, connect):
    store = connect()
    put_and_delete(store, 1)
    files = memory_files(server)
    view = store.create(an_id(2), MIB)
    view[:] = filled(2)
    view.release()
    store.seal(an_id(2))
    assert value(store, 2) == filled(2)
    (new,) = memory_files(server) - files
    store.delete(an_id(2))
    put(store, 3)
    assert new not in memory_files(server)


# --- when it is not ---------------------------------------------------------------------------------------------------


def test_nothing_is_written_where_a_view_is(server, connect):
    store, reader = connect(), connect()
    put(store, 1)
    view = reader.get(an_id(1))
    assert view is not None
    reader.release(an_id(1))
    part = view[5:10]
    del view
    store.delete(an_id(1))
    for number in range(2, 10):
        put_and_delete(store, number)
    assert bytes(part) == filled(1, 5)
    files = memory_files(server)
    del part
    eventually(lambda: store.stats().objects == 0 and store.stats().used_bytes == 0)
    put(store, 10)
    put(store, 11)
    assert memory_files(server) == files, "both are used again"


def test_nothing_is_written_where_a_killed_reader_looked(server, connect):
    """Its own children may still look there, and nobody knows of them."""
    store = connect()
    put(store, 1)
    files = memory_files(server)
    ready = FORK.Event()

    def read() -> None:
        reader = ShmStore(server.address)
        view = reader.get(an_id(1))
        assert view is not None
        ready.set()
        time.sleep(60)

    child = FORK.Process(target=read, daemon=True)
    child.start()
    assert ready.wait(20)
    store.delete(an_id(1))
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    child.close()
    eventually(lambda: not memory_files(server) & files)
    put(store, 2)
    assert not memory_files(server) & files


def test_nothing_is_written_where_a_forked_child_looks(server, connect):
    store, reader = connect(), connect()
    put(store, 1)
    views = [reader.get(an_id(1))]
    go, seen = FORK.Event(), FORK.SimpleQueue()

    def look() -> None:
        assert go.wait(20)
        seen.put(bytes(views[0] or b""))

    child = FORK.Process(target=look, daemon=True)
    child.start()
    views.clear()
    reader.release(an_id(1))
    store.delete(an_id(1))
    for number in range(2, 6):
        put_and_delete(store, number)
    go.set()
    assert seen.get() == filled(1)
    child.join()
    child.close()
    seen.close()


def test_a_forked_child_has_none_of_the_creators_memory(server, connect):
    store = connect()
    put_and_delete(store, 1)
    put_and_delete(store, 2)
    assert "rw-s" in mappings()
    seen = FORK.SimpleQueue()

    def child() -> None:
        store.abandon()
        seen.put(mappings())

    process = FORK.Process(target=child, daemon=True)
    process.start()
    assert seen.get() == []
    process.join()
    process.close()
    seen.close()
    put(store, 3)
    assert value(store, 3) == filled(3)


# --- nobody writes into a sealed object -------------------------------------------------------------------------------


def test_from_the_first_look_on_the_creator_too_can_write_nowhere(connect):
    store, reader = connect(), connect()
    for number in range(1, 4):  # new memory, then used memory, then memory that was protected before
        put(store, number)
        view = reader.get(an_id(number))
        assert view is not None
        eventually(lambda: "rw-s" not in mappings())
        assert len(mappings()) == 2, "one is the reader's"
        assert bytes(view) == filled(number)
        del view
        reader.release(an_id(number))
        store.delete(an_id(number))
        assert not store.contains(an_id(number))


def test_who_writes_at_random_into_a_sealed_object_ends_with_a_signal(connect):
    store = connect()
    put_and_delete(store, 1)
    put(store, 2)
    assert value(store, 2) == filled(2)
    eventually(lambda: "rw-s" not in mappings())
    (memory,) = store._kept._memories.values()
    with copying.Address(memory.mapping) as start:

        def write() -> None:
            faulthandler.disable()
            ctypes.memset(start, 0, 1)

        child = FORK.Process(target=write, daemon=True)
        child.start()
        child.join()
    assert child.exitcode == -signal.SIGSEGV
    child.close()
    assert value(store, 2) == filled(2)


def test_an_order_to_protect_that_comes_late_does_not_stop_the_next_object():
    fd = os.memfd_create("ray-object")
    os.ftruncate(fd, 4096)
    memory = kept._Memory(segments.map_to_keep(fd, 4096))
    os.close(fd)
    memory.open(7)
    memory.protect(6)
    memory.mapping[:4] = b"data"
    assert mappings() == ["rw-s"]
    memory.protect(7)
    assert mappings() == ["r--s"]
    memory.open(8)
    memory.mapping[:4] = b"more"


# --- how much, and for how long ---------------------------------------------------------------------------------------


@pytest.fixture
def start_keeping(tmp_path: Path, system: System) -> Iterator[Callable[..., ShmStoreServer]]:
    """A function that starts a broker which keeps memory for a time."""
    made: list[ShmStoreServer] = []

    def make(keep_s: float, capacity_bytes: int = 64 * MIB) -> ShmStoreServer:
        made.append(ShmStoreServer(str(tmp_path), capacity_bytes, 0.2, system=system, keep_s=keep_s))
        return made[-1]

    yield make
    for server in made:
        server.close()


def test_memory_that_is_not_used_again_goes_back_to_the_system(start_keeping):
    server = start_keeping(0.1)
    store = ShmStore(server.address)
    put_and_delete(store, 1)
    put_and_delete(store, 2)
    eventually(lambda: not memory_files(server) and not mappings())
    put(store, 3)
    assert value(store, 3) == filled(3)
    store.close()


def test_memory_that_another_process_has_read_goes_back_as_well(start_keeping):
    server = start_keeping(2.0)
    store, reader = ShmStore(server.address), ShmStore(server.address)
    put_and_delete(store, 1)
    put(store, 2)
    assert mappings() == ["rw-s"], "it was written where the first one was"
    assert value(reader, 2) == filled(2)
    eventually(lambda: "rw-s" not in mappings(), why="the creator was not told to protect it")
    store.delete(an_id(2))
    eventually(lambda: not memory_files(server), why="the broker has not let go of it")
    eventually(lambda: not mappings(), why="the creator still maps it")
    reader.close()
    store.close()


def test_memory_is_not_kept_where_that_is_not_wanted(start_keeping):
    server = start_keeping(0.0)
    store = ShmStore(server.address)
    threads = threading.active_count()
    put(store, 1)
    assert mappings() == []
    assert threading.active_count() == threads
    store.delete(an_id(1))
    eventually(lambda: not memory_files(server))
    store.close()


def test_kept_memory_makes_room_for_others_at_once(start_keeping):
    server = start_keeping(60.0, 8 * MIB)
    store, other = ShmStore(server.address), ShmStore(server.address)
    for number in range(1, 4):
        put(store, number, 2 * MIB)
    for number in range(1, 4):
        store.delete(an_id(number))
    assert not store.contains(an_id(3))
    kept_ = memory_files(server)
    assert len(kept_) == 3
    other.put(an_id(9), [filled(9, 5 * MIB)], 5 * MIB, patient=False)
    assert len(memory_files(server) & kept_) == 1
    eventually(lambda: len(mappings()) == 2)  # the one that is left, and the other's
    with pytest.raises(ObjectStoreFullError):
        put(store, 10, 4 * MIB)
    put(store, 11, 2 * MIB)
    assert len(memory_files(server) & kept_) == 1
    assert value(store, 11) == filled(11, 2 * MIB)
    store.close()
    other.close()


def test_a_process_keeps_so_much_at_most_and_the_oldest_goes_first(server, connect, monkeypatch):
    monkeypatch.setattr(kept, "_MOST", 3)
    store = connect()
    for number in range(6):
        put(store, number)
    eventually(lambda: len(mappings()) == 3)
    assert len(memory_files(server)) == 6
    for number in range(6):
        assert value(store, number) == filled(number)
        store.delete(an_id(number))
    gc.collect()
    eventually(lambda: len(memory_files(server)) == 3)
    assert store.stats().used_bytes == 0


def test_where_descriptors_are_few_objects_are_made_all_the_same(server, connect):
    store = connect()
    put(store, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 2, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        os.close(taken.pop())  # one for the memory file, and none for a mapping of Python 3.12
        put(store, 2)
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert value(store, 2) == filled(2)


def test_memory_goes_when_its_creator_dies(server, connect):
    reader = connect()
    ready = FORK.Event()

    def create() -> None:
        store = ShmStore(server.address)
        put_and_delete(store, 1)
        put_and_delete(store, 2)
        put(store, 3)
        ready.set()
        time.sleep(60)

    child = FORK.Process(target=create, daemon=True)
    child.start()
    assert ready.wait(20)
    view = reader.get(an_id(3))
    assert view is not None
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    child.close()
    eventually(lambda: len(memory_files(server)) == 1)
    assert bytes(view) == filled(3)
    reader.delete(an_id(3))
    del view
    reader.release(an_id(3))
    eventually(lambda: not memory_files(server))


# --- ends -------------------------------------------------------------------------------------------------------------


def test_the_thread_that_listens_ends_with_the_store(server, connect):
    store = connect()
    put(store, 1)
    assert any(thread.name == "ray-shm-kept" for thread in threading.enumerate())
    store.close()
    assert not any(thread.name == "ray-shm-kept" for thread in threading.enumerate())
    assert mappings() == []


def test_where_no_thread_can_be_started_nothing_is_kept_and_nothing_stays_open(connect, monkeypatch):
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    store = connect()
    put_and_delete(store, 1)
    assert mappings() == []
    put(store, 2)
    assert value(store, 2) == filled(2)
    store.close()
    assert store._kept._orders is not None
    assert store._kept._orders.fileno() == -1


def test_nothing_is_kept_when_the_broker_has_ended(server, connect):
    store = connect()
    put_and_delete(store, 1)
    put(store, 2)
    server.close()
    eventually(lambda: mappings() == [])
    eventually(lambda: not any(thread.name == "ray-shm-kept" for thread in threading.enumerate()))


def test_a_store_that_is_closed_under_a_put_says_so(connect):
    store = connect()
    put_and_delete(store, 1)
    store._kept.close()
    with pytest.raises(RayConnectionError, match="closed"):
        put(store, 2)


def test_it_listens_for_as_long_as_it_takes_whatever_sockets_do_by_default(connect):
    socket.setdefaulttimeout(0.001)
    try:
        store = connect()
        put_and_delete(store, 1)
    finally:
        socket.setdefaulttimeout(None)
    time.sleep(0.05)
    put_and_delete(store, 2)
    put(store, 3)
    assert value(store, 3) == filled(3)
    eventually(lambda: "rw-s" not in mappings())


def test_a_copy_that_fails_leaves_the_memory_for_the_next(server, connect, monkeypatch):
    store = connect()
    put_and_delete(store, 1)
    files = memory_files(server)

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(copying.Copier, "copy", fail)
        with pytest.raises(KeyboardInterrupt):
            put(store, 2)
    assert not store.contains(an_id(2))
    assert store.stats().used_bytes == 0
    put(store, 2)
    assert memory_files(server) == files
    assert value(store, 2) == filled(2)


def test_a_store_that_cannot_protect_its_memory_says_so_and_goes_on(connect, monkeypatch):
    store = connect()
    put_and_delete(store, 1)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(segments, "protect", refuse)
        with pytest.raises(ObjectStoreFullError, match=r"vm\.max_map_count"):
            put(store, 2)
    put(store, 3)
    assert value(store, 3) == filled(3)


# --- rude clients -----------------------------------------------------------------------------------------------------


class Rude:
    """Says what it wants to."""

    def __init__(self, server: ShmStoreServer, system: System) -> None:
        self.sock = system.open()
        self.sock.settimeout(20)
        self.sock.connect(server.address.removeprefix(system.scheme))
        self.sock.recv(1000)

    def say(self, message: messages.Message, fd: int = -1) -> None:
        socket.send_fds(self.sock, [encode(message)], [] if fd < 0 else [fd])

    def is_dropped(self) -> bool:
        try:
            return self.sock.recv(1000) == b""
        except ConnectionError:
            return True


def listening(client: Rude, limit: int = 4) -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        client.say(messages.Keep(limit), theirs.fileno())
    return ours


@pytest.mark.parametrize("what", ["no socket", "a file", "twice", "nothing", "without listening", "with memory again"])
def test_who_keeps_what_it_may_not_is_dropped(server, connect, system, what):
    client = Rude(server, system)
    if what == "no socket":
        client.say(messages.Keep(4))
    elif what == "a file":
        with open("/dev/null") as file:
            client.say(messages.Keep(4), file.fileno())
    elif what == "twice":
        first = listening(client)
        listening(client).close()
        first.close()
    elif what == "nothing":
        ours, theirs = socket.socketpair()
        client.say(messages.Keep(0), theirs.fileno())
        ours.close()
        theirs.close()
    else:
        sock = listening(client) if what == "with memory again" else None
        client.say(messages.Reserve(1, an_id(1), MIB))
        serial = messages.decode_reply(client.sock.recv(1000))
        assert isinstance(serial, messages.Reserved)
        fd = segments.MemoryFiles().make(MIB)
        client.say(messages.Seal(serial.serial, keeps=True), segments.MemoryFiles().seal(fd))
        if sock is not None:
            client.say(messages.Delete(an_id(1)))
            client.say(messages.Reserve(2, an_id(2), MIB))
            again = messages.decode_reply(client.sock.recv(1000))
            assert isinstance(again, messages.Reserved)
            assert again.segment == serial.serial
            client.say(messages.Seal(again.serial), fd)
            sock.close()
        os.close(fd)
    assert client.is_dropped()
    client.sock.close()
    store = connect()
    put(store, 7)
    assert value(store, 7) == filled(7)
    store.delete(an_id(7))
    gc.collect()
    assert store.stats().used_bytes == 0


def keep_many(client: Rude, count: int) -> None:
    """Make objects in memory that is kept, and delete them."""
    kind = segments.MemoryFiles()
    for number in range(count):
        client.say(messages.Reserve(number + 1, an_id(number), 4096, afresh=True))
        reply = messages.decode_reply(client.sock.recv(1000))
        assert isinstance(reply, messages.Reserved)
        fd = kind.seal(kind.make(4096))
        try:
            client.say(messages.Seal(reply.serial, keeps=True), fd)
        finally:
            os.close(fd)
        client.say(messages.Delete(an_id(number)))


def test_a_creator_that_is_stopped_hears_later_what_becomes_of_its_memory(connect, server, system):
    client, store = Rude(server, system), connect()
    orders = listening(client, 100)
    keep_many(client, 1100)  # many more than a socket takes
    put(store, 200)
    assert value(store, 200) == filled(200), "others are not kept waiting"
    heard = [messages.ORDER.unpack(orders.recv(messages.ORDER.size, socket.MSG_WAITALL)) for _ in range(1000)]
    assert heard == [(number, 0) for number in range(1, 1001)]
    client.say(messages.Contains(2000, an_id(200)))
    assert messages.decode_reply(client.sock.recv(1000)) == messages.Answer(2000, True)
    orders.close()
    client.say(messages.Contains(2001, an_id(200)))
    assert messages.decode_reply(client.sock.recv(1000)) == messages.Answer(2001, True)
    client.sock.close()


def test_who_does_not_listen_to_what_becomes_of_its_memory_is_dropped(server, connect, system):
    client, store = Rude(server, system), connect()
    orders = listening(client, 1)
    with pytest.raises((ConnectionError, msgspec.DecodeError)):
        keep_many(client, 200_000)
    assert client.is_dropped()
    client.sock.close()
    orders.close()
    for entry in store.list():  # what it had made and not deleted yet
        store.delete(entry.object_id)
    eventually(lambda: not memory_files(server))
    assert store.stats().used_bytes == 0
