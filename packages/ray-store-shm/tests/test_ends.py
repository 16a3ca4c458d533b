"""Ends and forks of processes, and the order in which things are heard: nothing stays, nobody hangs or overtakes."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from tests.stopwatch import Stopwatch

from ray.exceptions import ObjectStoreFullError, RayConnectionError
from ray.testing import eventually
from ray_store_shm import descriptors, systems
from ray_store_shm.client import ShmStore
from ray_store_shm.process import ShmStoreServer
from ray_store_shm.segments import NamedSegments
from ray_store_shm.systems import Posix

pytestmark = [pytest.mark.timeout(60), pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

FORK = multiprocessing.get_context("fork")
DATA = bytes(range(256)) * 512


def an_id(number: int) -> bytes:
    return number.to_bytes(20, "big")


def in_fork(body: Callable[[], None]) -> int | None:
    """Run ``body`` in a forked child; returns how that ended."""
    child = FORK.Process(target=body)
    child.start()
    child.join(20)
    code = child.exitcode
    child.kill()
    child.join()
    child.close()
    return code


def state(pid: int) -> str:
    """``S`` while it waits, ``T`` while it is stopped, ``Z`` once it has ended and nobody has reaped it yet."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def stop(server: ShmStoreServer) -> None:
    """Stop the broker once it has done everything."""
    eventually(lambda: state(server.pid) == "S", 2)
    os.kill(server.pid, signal.SIGSTOP)
    eventually(lambda: state(server.pid) == "T", 2)


def at_once(server: ShmStoreServer, body: Callable[[], None]) -> None:
    """Run ``body`` while the broker is stopped, so that it finds everything at once; wait for the end of ``body``."""
    stop(server)
    thread = threading.Thread(target=body)
    thread.start()
    time.sleep(0.2)
    os.kill(server.pid, signal.SIGCONT)
    thread.join(20)
    assert not thread.is_alive()


# --- order ------------------------------------------------------------------------------------------------------------


def test_what_one_process_says_is_heard_in_its_order(server, connect):
    store = connect()
    seen: list[object] = []
    for number in range(5):
        store.create(an_id(number), 1000).release()

        def body(number: int = number) -> None:
            store.delete(an_id(77))
            store.subscribe(an_id(number))
            store.abort(an_id(number))
            seen.append(store.stats().used_bytes)

        at_once(server, body)
    assert seen == [0] * 5
    heard: list[tuple[bytes, int]] = []
    eventually(lambda: len(heard.extend(store.notifications()) or heard) >= 5, 2)
    assert heard == [(an_id(number), -1) for number in range(5)]


def test_what_others_sealed_and_deleted_before_is_known(server, connect):
    store, other = connect(), connect()
    store.put(an_id(1), [DATA], len(DATA))
    store.create(an_id(2), 5)[:] = b"fresh"
    seen: list[object] = []

    def body() -> None:
        other.subscribe(an_id(99))  # so that the broker sees the other client first
        store.seal(an_id(2))
        store.delete(an_id(1))
        seen.append(bytes(other.get(an_id(2)) or b""))
        seen.append(other.contains(an_id(1)))

    at_once(server, body)
    assert seen == [b"fresh", False]
    other.release(an_id(2))


def test_an_id_that_others_deleted_before_is_free(server, connect):
    store, other = connect(), connect()
    store.put(an_id(1), [DATA], len(DATA))

    def body() -> None:
        other.subscribe(an_id(99))  # so that the broker sees the other client first
        store.delete(an_id(1))
        other.put(an_id(1), [b"again"], 5)

    at_once(server, body)
    assert store.stats().used_bytes == 5


def test_who_comes_while_another_leaves_is_not_taken_for_him(server):
    """The broker reuses the numbers of what it closes, while it still has news about them."""
    system, path = systems.of_address(server.address)
    leaving = system.open()
    leaving.settimeout(5)
    leaving.connect(path)
    _, (channel,), _ = descriptors.receive(leaving, 65536, 1)
    came: list[ShmStore] = []
    stop(server)
    leaving.close()
    thread = threading.Thread(target=lambda: came.append(ShmStore(server.address)))
    thread.start()
    time.sleep(0.2)
    os.close(channel)
    os.kill(server.pid, signal.SIGCONT)
    thread.join(20)
    (store,) = came
    store.subscribe(an_id(1))
    store.put(an_id(1), [b"data"], 4)
    heard: list[tuple[bytes, int]] = []
    eventually(lambda: bool(heard.extend(store.notifications()) or heard), 2)
    assert heard == [(an_id(1), 4)]
    store.close()


def test_who_waits_for_room_holds_up_nobody_else(start):
    server = start(1 << 20, 10.0)
    store = ShmStore(server.address)
    store.put(an_id(1), [bytes(1 << 20)], 1 << 20)
    waiting = threading.Thread(target=store.put, args=(an_id(2), [DATA], len(DATA)))
    waiting.start()
    begun = Stopwatch()
    try:
        for _ in range(200):
            assert store.contains(an_id(1))
            assert store.get(an_id(1)) is not None
            store.release(an_id(1))
        assert waiting.is_alive()
    finally:
        store.delete(an_id(1))
        waiting.join(20)
    assert begun.undisturbed_s() < 8
    assert store.contains(an_id(2))
    store.close()


@pytest.mark.parametrize("kind", [TimeoutError, KeyboardInterrupt])
def test_a_request_that_was_interrupted_leaves_nothing(start, kind):
    server = start(1 << 20, 10.0)
    store = ShmStore(server.address)
    store.put(an_id(1), [bytes(1 << 20)], 1 << 20)

    def interrupt(*_: object) -> None:
        raise kind("by a signal")

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(kind, match="by a signal"):
            store.create(an_id(2), 1000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    store.delete(an_id(1))
    eventually(lambda: store.stats().used_bytes == 0, 2)
    store.put(an_id(2), [b"data"], 4)
    store.close()


# --- the broker's end -------------------------------------------------------------------------------------------------


def test_threads_that_wait_get_an_error_when_the_broker_is_killed(start):
    server = start(1 << 20, 30.0)
    store = ShmStore(server.address)
    store.put(an_id(1), [bytes(1 << 20)], 1 << 20)
    raised: list[BaseException] = []

    def work(number: int) -> None:
        try:
            store.put(an_id(number), [DATA], len(DATA))
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2, 6)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    os.kill(server.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(5)
    assert [type(error) for error in raised] == [RayConnectionError] * 4
    assert "has ended" in str(raised[0])
    with pytest.raises(RayConnectionError, match="has ended"):  # and not: nothing, for ever
        store.notifications()
    store.close()
    server.close()
    server.close()


def test_close_kills_no_process_that_has_the_number_of_the_broker_by_now(server, system, monkeypatch):
    monkeypatch.setattr("ray_store_shm.systems._END_S", 0.2)
    os.kill(server.pid, signal.SIGKILL)
    os.waitpid(server.pid, 0)  # as the node manager does
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        server.pid = other.pid
        if isinstance(system, Posix):  # which knows it by its number only
            server._broker = other.pid
        server.close()
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.5)
    finally:
        other.kill()
        other.wait()


WORLD = """
import os, sys, random
from ray_store_shm.client import ShmStore
from ray_store_shm.process import ShmStoreServer
from ray_store_shm.segments import MemoryFiles, NamedSegments
from ray_store_shm.systems import Linux, Posix
folder, kind = sys.argv[1], {"files": MemoryFiles, "names": lambda: NamedSegments("/ray-end")}[sys.argv[2]]()
server = ShmStoreServer(folder, 64 << 20, 0.2, kind, {"Linux": Linux, "Posix": Posix}[sys.argv[3]]())
for worker in range(2):
    if not os.fork():
        store, chance = ShmStore(server.address, kind), random.Random(worker)
        views = []
        for number in range(10**9):
            own = bytes([worker]) * 16 + number.to_bytes(4, "big")
            store.put(own, [b"x" * 5000], 5000)
            view = store.create(b"u" + own[1:], 5000)
            views.append(store.get(own))
            del views[:-20]
            store.abort(b"u" + own[1:])
            store.delete(own)
print(server.pid, flush=True)
while True:
    os.wait()
"""


@pytest.mark.parametrize("kind", ["files", "names"])
def test_nothing_is_left_when_everything_is_killed_at_any_moment(tmp_path, kind, system):
    chance = random.Random(5)
    before = set(os.listdir("/dev/shm"))
    for attempt in range(6):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        world = subprocess.Popen(
            [sys.executable, "-c", WORLD, str(folder), kind, type(system).__name__],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert world.stdout is not None
        pid = int(world.stdout.readline())
        time.sleep(chance.random() * 0.3)
        os.killpg(world.pid, signal.SIGKILL)
        world.wait()
        world.stdout.close()
        eventually(lambda pid=pid: state(pid) == "Z", 2)
        assert {path.name for path in folder.iterdir()} == {"shm.sock"}, "the session's own directory"

        def is_swept() -> bool:
            if kind == "names":
                NamedSegments("/ray-end").sweep()
            return set(os.listdir("/dev/shm")) == before

        eventually(is_swept, 5.0)  # the others have to be dead, and reaped by the process that does that here


# --- forks ------------------------------------------------------------------------------------------------------------


def test_a_forked_child_cannot_write_into_what_its_parent_seals(connect):
    store = connect()
    view = store.create(an_id(1), 5000)
    view[:4] = b"mine"
    ready, go = FORK.Event(), FORK.Event()

    def write() -> None:
        faulthandler.disable()  # this is no surprise
        ready.set()
        go.wait(10)
        view[:4] = b"evil"

    child = FORK.Process(target=write)
    child.start()
    assert ready.wait(10)
    view.release()
    store.seal(an_id(1))
    seen = store.get(an_id(1))
    assert seen is not None
    go.set()
    child.join(20)
    assert child.exitcode == -signal.SIGSEGV
    child.close()
    assert bytes(seen[:4]) == b"mine"
    store.release(an_id(1))


@pytest.mark.parametrize("end", ["drops its views", "closes", "asks", "abandons"])
def test_a_forked_child_does_not_disturb_its_parent(connect, end):
    store = connect()
    store.put(an_id(1), [DATA], len(DATA))
    views = [store.get(an_id(1))]
    begun, go = threading.Event(), threading.Event()

    def hold_a_lock() -> None:
        with store._link._sock._sending if hasattr(store._link._sock, "_sending") else contextlib.nullcontext():
            begun.set()
            go.wait(20)

    thread = threading.Thread(target=hold_a_lock)
    if end == "abandons":
        thread.start()
        assert begun.wait(5)

    def child() -> None:
        if end == "drops its views":
            store.release(an_id(1))
            views.clear()
        elif end == "closes":
            store.close()
        elif end == "asks":
            with pytest.raises(RayConnectionError, match="a fork"):
                store.get(an_id(1))
        else:
            store.abandon()
            with pytest.raises(RayConnectionError, match="is closed"):
                store.get(an_id(1))
            store.release(an_id(1))
            views.clear()

    assert in_fork(child) == 0
    go.set()
    if thread.ident:
        thread.join()
    assert [entry.holders for entry in store.list()] == [(os.getpid(),)]
    assert bytes(views[0]) == DATA
    store.release(an_id(1))
    views.clear()
    eventually(lambda: [entry.holders for entry in store.list()] == [()], 2)


def test_programs_that_are_started_inherit_nothing(connect):
    store = connect()
    store.put(an_id(1), [DATA], len(DATA))
    store.create(an_id(2), 100).release()
    view = store.get(an_id(1))
    program = "import os; print([os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if int(fd) > 2 and os.path.exists(f'/proc/self/fd/{fd}')])"  # noqa: E501
    inherited = subprocess.run(
        [sys.executable, "-c", program], close_fds=False, capture_output=True, text=True, check=True
    ).stdout
    assert "ray-object" not in inherited
    assert f"socket:[{os.fstat(store.notifications_fd()).st_ino}]" not in inherited
    del view
    store.release(an_id(1))
    store.abort(an_id(2))
    read, write = os.pipe()
    one, two = socket.socketpair()
    with one, two:
        socket.send_fds(one, [b"x"], [read])
        _, (fd,), _ = descriptors.receive(two, 10, 1)
    assert not os.get_inheritable(fd)
    for end in (read, write, fd):
        os.close(end)


# --- /dev/shm ---------------------------------------------------------------------------------------------------------

PUT_AND_GET = """
import os, sys
from ray_store_shm.client import ShmStore
from ray_store_shm.process import ShmStoreServer
os.statvfs("/dev/shm").f_blocks * 4096 <= 64 << 20 or sys.exit("too large")
if sys.argv[2] == "full":
    file = os.open("/dev/shm/full", os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(file, bytes(4096))
    except OSError:
        os.close(file)
    assert os.statvfs("/dev/shm").f_bfree == 0
server = ShmStoreServer(sys.argv[1], 1 << 30, 0.2)
store = ShmStore(server.address)
data = os.urandom(1 << 20) * 256
store.put(bytes(20), [data], len(data))
view = store.get(bytes(20))
assert view == data
made = store.create(b"1" * 20, len(data))
made[:] = data
del made
store.seal(b"1" * 20)
del view
store.release(bytes(20))
store.close()
server.close()
print("read back")
"""


@pytest.mark.parametrize(("size", "state"), [("64m", "empty"), ("4k", "full")])
def test_a_small_or_full_dev_shm_does_not_matter(tmp_path, size, state):
    mount = f"mount -t tmpfs -o size={size} tmpfs /dev/shm"
    allowed = subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip("mounting in a namespace of one's own is not allowed here")
    program = f'{mount} && exec "$0" -c "$1" "$2" "$3"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", program, sys.executable, PUT_AND_GET, str(tmp_path), state],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout == "read back\n", done.stderr


def test_holds_that_ended_while_the_broker_did_not_listen_are_told_before_room_is_asked_for(server, connect):
    store = connect()
    count = 1500  # more than a socket holds
    for number in range(count):
        store.put(an_id(number), [b"x" * 40_000], 40_000)
    views = [store.get(an_id(number)) for number in range(count)]
    for number in range(count):
        store.delete(an_id(number))
        store.release(an_id(number))
    assert store.stats().used_bytes >= count * 40_000
    os.kill(server.pid, signal.SIGSTOP)
    timer = threading.Timer(0.2, lambda: os.kill(server.pid, signal.SIGCONT))
    timer.start()
    views.clear()
    store.put(an_id(count), [bytes(60 << 20)], 60 << 20)
    timer.join()
    assert len(store.list()) == 1


def test_a_store_that_is_full_is_so_only_until_somebody_lets_go(connect):
    store = connect()
    store.put(an_id(1), [bytes(60 << 20)], 60 << 20)
    view = store.get(an_id(1))
    store.delete(an_id(1))
    store.release(an_id(1))
    with pytest.raises(ObjectStoreFullError, match=f"held by {os.getpid()}"):
        store.put(an_id(2), [bytes(8 << 20)], 8 << 20)
    del view
    store.put(an_id(2), [bytes(8 << 20)], 8 << 20)
