"""What the contract does not ask: immutability by the kernel, ends of processes, limits, rude clients."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec
import pytest
from tests.stopwatch import Stopwatch

from ray import copying
from ray.exceptions import ObjectStoreFullError, RayConnectionError
from ray.testing import eventually, leaks
from ray_store_shm import descriptors, messages, systems
from ray_store_shm.client import ShmStore
from ray_store_shm.messages import encode
from ray_store_shm.segments import MemoryFiles, NamedSegments

pytestmark = [pytest.mark.timeout(60), pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

FORK = multiprocessing.get_context("fork")
DATA = bytes(range(256)) * 512


def an_id(number: int) -> bytes:
    return number.to_bytes(20, "big")


def killed(body: Callable[[], None]) -> None:
    """Run ``body`` in a child, which is killed when it has returned."""
    ready, child = FORK.Event(), None

    def run() -> None:
        body()
        ready.set()
        time.sleep(60)

    child = FORK.Process(target=run, daemon=True)
    child.start()
    assert ready.wait(20)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    child.close()


# --- immutability -----------------------------------------------------------------------------------------------------


def test_the_kernel_refuses_every_later_write(connect):
    store = connect()
    store.put(an_id(1), [DATA], len(DATA))
    view = store.get(an_id(1))
    assert view is not None
    assert view.readonly
    libc = ctypes.CDLL(None, use_errno=True)
    with copying.Address(view) as start:
        page = ctypes.c_void_p(start)
    assert libc.mprotect(page, ctypes.c_size_t(4096), 3) == -1  # PROT_READ | PROT_WRITE
    assert ctypes.get_errno() == 13  # EACCES
    assert bytes(view) == DATA
    store.release(an_id(1))


def test_a_sealed_descriptor_takes_no_write_and_no_new_size():
    kind = MemoryFiles()
    fd = kind.seal(kind.make(4096))
    try:
        for write in (
            lambda: os.pwrite(fd, b"x", 0),
            lambda: os.ftruncate(fd, 10),
            lambda: os.ftruncate(fd, 10_000),
        ):
            with pytest.raises(OSError, match="not permitted"):
                write()
        assert kind.check(fd, 4096)
        assert not kind.check(fd, 4097)
    finally:
        os.close(fd)


def test_slices_of_the_creators_view_must_go_before_it_is_sealed(connect):
    store = connect()
    view = store.create(an_id(1), 100)
    part = view[10:20]
    with pytest.raises(BufferError, match="still in use"):
        store.seal(an_id(1))
    assert not store.contains(an_id(1))
    part[:] = b"0123456789"
    part.release()
    store.seal(an_id(1))
    seen = store.get(an_id(1))
    assert seen is not None
    assert bytes(seen[10:20]) == b"0123456789"
    store.release(an_id(1))


def test_arrays_over_the_creators_memory_must_go_before_it_is_sealed(connect):
    store = connect()
    view = store.create(an_id(1), 64)
    array = (ctypes.c_char * 64).from_buffer(view)
    with pytest.raises(BufferError, match="still in use"):
        store.seal(an_id(1))
    array[:4] = b"data"
    assert not store.contains(an_id(1))
    del array, view
    store.seal(an_id(1))
    seen = store.get(an_id(1))
    assert seen is not None
    assert bytes(seen[:4]) == b"data"
    store.release(an_id(1))


def test_an_object_whose_memory_is_in_use_can_be_aborted(connect):
    store = connect()
    view = store.create(an_id(1), 5000)
    part = view[10:20]
    store.abort(an_id(1))
    assert store.stats().used_bytes == 0
    part[:] = b"0123456789"  # nobody's memory, but memory
    store.put(an_id(1), [b"again"], 5)
    assert bytes(part) == b"0123456789"


def test_pieces_are_written_one_after_the_other_however_many_they_are(connect):
    store = connect()
    pieces = [b"", *(number.to_bytes(4, "big") for number in range(20_000)), b"", memoryview(DATA), b""]
    store.put(an_id(1), pieces, 80_000 + len(DATA))
    view = store.get(an_id(1))
    assert view == b"".join(pieces)
    store.release(an_id(1))


@pytest.mark.parametrize("pieces", [[b"xy"], [b"xyz", b"z"], []])
def test_pieces_that_are_not_what_was_announced_are_refused(connect, pieces):
    store = connect()
    with pytest.raises(ValueError, match=f"have {sum(map(len, pieces))} bytes, not 3"):
        store.put(an_id(1), pieces, 3)
    assert store.stats().used_bytes == 0
    store.put(an_id(1), [b"xyz"], 3)


def test_repeated_gets_show_the_same_memory(connect):
    store = connect()
    store.put(an_id(1), [DATA], len(DATA))
    before = mappings()
    views = [store.get(an_id(1)) for _ in range(50)]
    assert mappings() - before == 1
    for _ in range(50):
        store.release(an_id(1))
    assert all(view == DATA for view in views)
    assert [entry.holders for entry in store.list()] == [(os.getpid(),)], "as long as there are views"
    views.clear()
    eventually(lambda: [entry.holders for entry in store.list()] == [()])
    assert mappings() == before


def mappings() -> int:
    with open("/proc/self/maps") as maps:
        return sum("ray-object" in line for line in maps)


def test_named_segments_are_passed_on_for_reading_only_and_leave_no_name():
    kind = NamedSegments(f"/ray-test-names-{os.getpid()}")
    fd = kind.make(4096)
    assert not [name for name in os.listdir("/dev/shm") if name.startswith(f"ray-test-names-{os.getpid()}")]
    os.pwrite(fd, b"data", 0)
    sealed = kind.seal(fd)
    try:
        assert os.pread(sealed, 4, 0) == b"data"
        with pytest.raises(OSError, match="descriptor"):
            os.pwrite(sealed, b"x", 0)
        assert kind.check(sealed, 4096)
    finally:
        os.close(sealed)


def test_names_of_dead_processes_are_swept():
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    left = f"/dev/shm/ray-test-{int(dead.stdout)}-1"
    mine = f"/dev/shm/ray-test-{os.getpid()}-1"
    old = f"/dev/shm/ray-test-{os.getpid()}-2"  # of a process that had the number before
    for path in (left, mine, old):
        with open(path, "w"):
            pass
    os.utime(old, (0, 0))
    try:
        NamedSegments("/ray-test").sweep()
        assert not os.path.exists(left)
        assert not os.path.exists(old)
        assert os.path.exists(mine)
    finally:
        os.unlink(mine)


# --- memory -----------------------------------------------------------------------------------------------------------


def test_holds_end_with_the_last_view_whatever_was_called_before(connect):
    store, other = connect(), connect()
    for order in ("release, delete", "delete, release"):
        store.put(an_id(1), [DATA], len(DATA))
        view = other.get(an_id(1))
        assert view is not None
        part = view[5:500]
        for call in order.split(", "):
            getattr(other, call)(an_id(1))
        del view
        gc.collect()
        eventually(lambda: [entry.state for entry in store.list()] == ["deleted"])  # told by a connection of its own
        assert bytes(part) == DATA[5:500]
        del part
        eventually(lambda: store.stats().used_bytes == 0)


def test_nothing_touches_dev_shm(server, connect):
    store = connect()
    store.put(an_id(1), [bytes(32 << 20)], 32 << 20)
    view = store.get(an_id(1))
    assert view is not None
    for pid in (os.getpid(), server.pid):
        with open(f"/proc/{pid}/maps") as maps:
            assert "/dev/shm" not in maps.read()
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # of the listing itself
                assert not os.readlink(f"/proc/{pid}/fd/{number}").startswith("/dev/shm")
    store.release(an_id(1))


def test_a_full_store_names_the_biggest_and_what_to_do(connect):
    store = connect()
    store.put(an_id(1), [bytes(40 << 20)], 40 << 20)
    with pytest.raises(ObjectStoreFullError, match=rf"{an_id(1).hex()} 41,943,040 bytes .*store='plasma'"):
        store.put(an_id(2), [bytes(40 << 20)], 40 << 20)
    store.delete(an_id(1))
    store.put(an_id(2), [bytes(40 << 20)], 40 << 20)


def test_who_waits_for_room_gets_it_when_there_is_some(start):
    server = start(1 << 20, 10.0)
    store, other = ShmStore(server.address), ShmStore(server.address)
    try:
        store.put(an_id(1), [bytes(1 << 20)], 1 << 20)
        child = FORK.Process(target=lambda: (time.sleep(0.2), ShmStore(server.address).delete(an_id(1))))
        child.start()
        other.put(an_id(2), [DATA], len(DATA))
        child.join()
        child.close()
        assert other.contains(an_id(2))
    finally:
        for client in (store, other):
            client.close()


def test_who_has_no_patience_is_refused_at_once(start):
    server = start(1 << 20, 20.0)
    store, other = ShmStore(server.address), ShmStore(server.address)
    store.put(an_id(1), [DATA], len(DATA))
    began = Stopwatch()
    with pytest.raises(BlockingIOError):
        store.put(an_id(2), [bytes(1 << 20)], 1 << 20, patient=False)
    assert began.undisturbed_s() < 10.0
    with pytest.raises(ObjectStoreFullError):
        store.put(an_id(2), [bytes(2 << 20)], 2 << 20, patient=False)  # no patience would help
    assert not store.contains(an_id(2))
    other.delete(an_id(1))  # what others said before is heard before any client is refused
    store.put(an_id(2), [bytes(1 << 20)], 1 << 20, patient=False)
    assert len(store.list()) == 1
    for client in (store, other):
        client.close()


def test_descriptors_run_out_with_an_error_and_lose_nothing(tmp_path, system):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
from ray.exceptions import ObjectStoreFullError
from ray_store_shm.client import ShmStore
from ray_store_shm.process import ShmStoreServer
from ray_store_shm.systems import {type(system).__name__}
server = ShmStoreServer({str(tmp_path)!r}, 1 << 30, 0.2, system={type(system).__name__}())
store = ShmStore(server.address)
made = 0
try:
    for number in range(200):
        store.put(number.to_bytes(20, "big"), [b"x" * 100], 100)
        made += 1
except ObjectStoreFullError as error:
    assert "descriptor" in str(error) and "ulimit" in str(error), error
assert 20 < made < 128, made
for number in range(made):
    view = store.get(number.to_bytes(20, "big"))
    assert bytes(view) == b"x" * 100
    store.release(number.to_bytes(20, "big"))
    del view
store.delete((0).to_bytes(20, "big"))
store.put((1000).to_bytes(20, "big"), [b"y"], 1)
store.close(); server.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard) or soft < hard


# --- ends of processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["between create and seal", "while it reads", "while it holds a thousand"])
def test_a_client_that_dies_costs_nothing(server, connect, moment):
    store = connect()
    store.put(an_id(1), [DATA], len(DATA))
    for number in range(1000, 2000):
        store.put(an_id(number), [b"small"], 5)
    before = store.stats()

    def body() -> None:
        mine = ShmStore(server.address)
        if moment == "between create and seal":
            mine.create(an_id(2), 10_000)[:4] = b"half"
        elif moment == "while it reads":
            for _ in range(50):
                assert mine.get(an_id(1)) is not None
        else:
            views.extend(mine.get(an_id(number)) for number in range(1000, 2000))

    views: list[object] = []
    times = 1000 if os.environ.get("RAY_TEST_SOAK") == "1" else 20
    for _ in range(times // 6 if moment == "while it holds a thousand" else times):
        killed(body)
        eventually(lambda: all(not entry.holders for entry in store.list()), 0.5)
        assert store.stats() == before
        assert store.get(an_id(2)) is None
        store.put(an_id(2), [b"again"], 5)
        store.delete(an_id(2))


def test_subscribers_hear_of_a_creator_that_died(server, connect):
    store = connect()
    store.subscribe(an_id(5))
    killed(lambda: ShmStore(server.address).create(an_id(5), 10).release())
    heard: list[tuple[bytes, int]] = []
    eventually(lambda: bool(heard.extend(store.notifications()) or heard))
    assert heard == [(an_id(5), -1)]


def test_objects_of_a_dead_owner_go(server, connect):
    store = connect()
    store.put(b"owner--1" + bytes(12), [DATA], len(DATA))
    store.put(b"owner--2" + bytes(12), [DATA], len(DATA))
    server.owner_lost(b"owner--1")
    eventually(lambda: store.stats().objects == 1)
    assert store.contains(b"owner--2" + bytes(12))


def test_nobody_hangs_when_the_broker_is_killed(server, connect):
    store = connect()
    store.put(an_id(1), [DATA], len(DATA))
    view = store.get(an_id(1))
    os.kill(server.pid, signal.SIGKILL)
    for call in (
        lambda: store.get(an_id(1)),
        lambda: store.contains(an_id(1)),
        lambda: store.put(an_id(2), [b"x"], 1),
        store.stats,
        store.list,
    ):
        with pytest.raises(RayConnectionError):
            call()
    assert view is not None
    assert bytes(view) == DATA
    store.release(an_id(1))
    store.delete(an_id(1))


def test_the_broker_goes_with_its_parent(tmp_path, system):
    program = f"""
from ray_store_shm.process import ShmStoreServer
from ray_store_shm.systems import {type(system).__name__}
server = ShmStoreServer({str(tmp_path)!r}, 1 << 20, system={type(system).__name__}())
print(server.pid, flush=True)
import time; time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not os.path.exists(f"/proc/{pid}"))


def test_a_forked_child_lets_go_without_disturbing_its_parent(connect):
    store = connect()
    store.put(an_id(1), [DATA], len(DATA))
    view = store.get(an_id(1))
    assert view is not None

    def child() -> None:
        store.abandon()
        with pytest.raises(RayConnectionError):
            store.get(an_id(1))

    process = FORK.Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    process.close()
    assert [entry.holders for entry in store.list()] == [(os.getpid(),)]
    assert bytes(view) == DATA
    store.release(an_id(1))


# --- rude clients -----------------------------------------------------------------------------------------------------


class Rude:
    """A client that says what it likes."""

    def __init__(self, address: str) -> None:
        system, path = systems.of_address(address)
        self.sock = system.open()
        self.sock.settimeout(5)
        self.sock.connect(path)
        _, (self.channel,), _ = descriptors.receive(self.sock, 65536, 1)

    def close(self) -> None:
        self.sock.close()
        os.close(self.channel)

    def say(self, *packets: bytes, fds: tuple[int, ...] = ()) -> None:
        for packet in packets:
            socket.send_fds(self.sock, [packet], fds)

    def is_dropped(self) -> bool:
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        except TimeoutError:
            return False
        return True

    def reserve(self, nbytes: int) -> int:
        self.say(encode(messages.Reserve(1, an_id(77), nbytes)))
        reply = messages.decode_reply(self.sock.recv(65536))
        assert isinstance(reply, messages.Reserved)
        return reply.serial


#: Descriptors to be closed at the end of the test.
MADE: list[int] = []


def memory(nbytes: int, *, sealed: bool = True) -> int:
    kind = MemoryFiles()
    fd = kind.make(nbytes)
    MADE.append(fd)
    return kind.seal(fd) if sealed else fd


@pytest.mark.parametrize(
    "rude",
    [
        lambda client: client.say(b"\xc1nonsense"),
        lambda client: client.say(b"x" * 100_000),
        lambda client: client.say(encode(messages.Seal(1)), fds=(0,)),
        lambda client: client.say(encode(messages.Seal(10**15))),
        lambda client: client.say(encode(messages.Abort(1))),
        lambda client: client.say(encode(messages.Release(1, 1))),
        lambda client: client.say(encode(messages.Release(1, 0))),
        lambda client: client.say(encode(messages.OwnerLost(b"12345678"))),
        lambda client: client.say(encode(messages.Stats(1)), fds=(0,)),
        lambda client: client.say(encode(messages.Stats(1)), fds=(0,) * 60),
        lambda client: client.say(encode(messages.Stats(1)), fds=(0,) * 253),
        lambda client: client.say(b""),
        lambda client: client.say(encode(messages.Stats(1)) + b"x"),
        lambda client: client.say(encode(messages.Stats(1)).ljust(513, b"\0")),
        lambda client: client.say(encode(messages.Reserve(1, b"short", 10))),
        lambda client: client.say(encode(messages.Reserve(1, an_id(77), -1))),
        lambda client: client.say(encode(messages.Reserve(1, an_id(77), 2**63))),
        lambda client: client.say(encode(messages.Seal(client.reserve(100)))),
        lambda client: client.say(encode(messages.Seal(client.reserve(100))), fds=(0,)),
        lambda client: client.say(encode(messages.Seal(client.reserve(100))), fds=(memory(99),)),
        lambda client: client.say(encode(messages.Seal(client.reserve(100))), fds=(memory(100, sealed=False),)),
        lambda client: client.say(encode(messages.Seal(client.reserve(100))), fds=(memory(100), memory(100))),
        lambda client: client.say(*[encode(messages.Seal(client.reserve(100)))] * 2, fds=(memory(100),)),
    ],
)
def test_a_rude_client_is_dropped_and_the_others_are_served(server, connect, rude):
    store = connect()
    store.put(an_id(1), [DATA], len(DATA))
    client = Rude(server.address)
    try:
        with contextlib.suppress(ConnectionError):  # it is dropped before it has said everything
            rude(client)
    finally:
        while MADE:
            os.close(MADE.pop())
    assert client.is_dropped()
    client.close()
    view = store.get(an_id(1))
    assert view is not None
    assert bytes(view) == DATA
    store.release(an_id(1))
    del view
    store.delete(an_id(1))
    store.delete(an_id(77))
    eventually(lambda: store.stats().used_bytes == 0)


def test_nobody_seals_or_aborts_what_another_is_writing(server, connect):
    store = connect()
    view = store.create(an_id(1), 100)
    serial = store._unsealed[an_id(1)].serial
    for request in (messages.Seal(serial), messages.Abort(serial)):
        client = Rude(server.address)
        client.say(encode(request), fds=(memory(100),) if isinstance(request, messages.Seal) else ())
        assert client.is_dropped()
        client.close()
    os.close(MADE.pop())
    view[:4] = b"mine"
    del view
    store.seal(an_id(1))
    seen = store.get(an_id(1))
    assert seen is not None
    assert bytes(seen[:4]) == b"mine"
    store.release(an_id(1))


def test_no_packet_breaks_the_decoder_or_the_broker(server, connect):
    chance = random.Random(7)
    shapes = [
        messages.Reserve(1, an_id(9), 10), messages.Get(2, an_id(9), 0), messages.Release(3, 1), messages.Stats(4),
        messages.List(5, 0), messages.Subscribe(an_id(9)), messages.Delete(an_id(9)),
    ]  # fmt: skip
    for number in range(20_000):
        packet = bytearray(encode(chance.choice(shapes)))
        for _ in range(chance.randrange(1, 5)):
            packet[chance.randrange(len(packet))] = chance.randrange(256)
        packet = packet[: chance.randrange(1, len(packet) + 1)]
        try:
            messages.decode_request(packet)
        except (msgspec.MsgspecError, ValueError):
            pass
        if number % 20 == 0:
            client = Rude(server.address)
            client.say(bytes(packet))
            client.close()
    store = connect()
    store.put(an_id(1), [DATA], len(DATA))
    assert store.contains(an_id(1))


def test_no_packet_breaks_the_decoder_of_replies():
    chance = random.Random(11)
    shapes = [
        messages.Welcome(0, 1, 100), messages.Reserved(1, 1), messages.Found(2, 1, 10), messages.Answer(3, True),
        messages.Refused(4, "full", "it is empty"), messages.Counted(5, 1, 2, 3),
        messages.Listed(6, [(an_id(9), 10, "sealed", [1])], 0), [(an_id(9), -1)],
    ]  # fmt: skip
    decoded = 0
    for _ in range(20_000):
        packet = bytearray(msgspec.msgpack.encode(chance.choice(shapes)))
        for _ in range(chance.randrange(1, 4)):
            packet[chance.randrange(len(packet))] = chance.randrange(256)
        for decode in (messages.decode_reply, messages.decode_notifications):
            try:
                decode(packet)
                decoded += 1
            except (msgspec.MsgspecError, ValueError):
                pass
    assert decoded > 1000, "some must get as far as the fields"


def test_who_asks_for_notifications_but_does_not_listen_is_dropped(start, monkeypatch):
    monkeypatch.setattr("ray_store_shm.server.MAX_SUBSCRIPTIONS", 1000)
    server = start(1 << 20)
    store, client = ShmStore(server.address), Rude(server.address)
    store.put(an_id(1), [b"data"], 4)

    def ask() -> None:
        for _ in range(1_000_000):
            client.say(encode(messages.Subscribe(an_id(1))))

    with pytest.raises(ConnectionError):
        ask()
    assert store.contains(an_id(1))
    client.close()
    store.close()


def test_leaks_are_seen_here():
    before = leaks.snapshot()
    fd = os.memfd_create("x")
    with pytest.raises(leaks.LeakError):
        leaks.assert_clean(before, timeout_s=0.05)
    os.close(fd)
