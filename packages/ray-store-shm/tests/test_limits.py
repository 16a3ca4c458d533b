"""What happens when descriptors run out, here or in the broker: errors that say so, no spinning, nothing lost."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ray.exceptions import ObjectStoreFullError, RayConnectionError
from ray.testing import eventually
from ray_store_shm import descriptors, messages, segments, systems
from ray_store_shm.client import ShmStore
from ray_store_shm.messages import MAX_PACKET_BYTES, encode
from ray_store_shm.process import ShmStoreServer
from ray_store_shm.segments import MemoryFiles, NamedSegments
from ray_store_shm.systems import Linux, System

pytestmark = [pytest.mark.timeout(60), pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")]

FORK = multiprocessing.get_context("fork")


def an_id(number: int) -> bytes:
    return number.to_bytes(20, "big")


@contextlib.contextmanager
def no_more_descriptors(spare: int = 0) -> Iterator[None]:
    """This process has ``spare`` descriptors left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(spare):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("spare", [0, 1])
def test_get_says_which_limit_it_met_and_keeps_no_hold(connect, spare):
    """Without any the descriptor does not arrive; with one it does, but up to Python 3.12 a mapping needs another."""
    if spare and sys.version_info >= (3, 13):
        pytest.skip("a mapping needs no descriptor")
    store = connect()
    store.put(an_id(1), [b"data"], 4)
    with no_more_descriptors(spare), pytest.raises(ObjectStoreFullError, match=r"256 open files.*ulimit -Hn"):
        store.get(an_id(1))
    assert [entry.holders for entry in store.list()] == [()]
    view = store.get(an_id(1))
    assert bytes(view) == b"data"
    store.release(an_id(1))


@pytest.mark.parametrize("call", ["put", "create"])
@pytest.mark.parametrize("spare", [0, 1])
def test_making_says_which_limit_it_met_and_gives_the_room_back(connect, call, spare):
    store = connect()
    store.put(an_id(1), [b"data"], 4)
    make = {"put": lambda: store.put(an_id(2), [b"x" * 5000], 5000), "create": lambda: store.create(an_id(2), 5000)}
    if (call, spare) == ("put", 1):  # one is enough
        with no_more_descriptors(spare):
            make[call]()
        assert store.contains(an_id(2))
        return
    with no_more_descriptors(spare), pytest.raises(ObjectStoreFullError, match=r"256 open files.*ulimit -Hn"):
        make[call]()
    assert store.stats().used_bytes == 4
    make["put"]()
    assert store.contains(an_id(1))
    assert store.contains(an_id(2))


def test_a_process_without_descriptors_cannot_connect_and_is_told_why(server, monkeypatch):
    monkeypatch.setattr(descriptors, "raise_limit", descriptors.limit)  # it is as high as it may be
    with no_more_descriptors(1), pytest.raises(RayConnectionError, match="Too many open files"):
        ShmStore(server.address)


def test_every_error_of_the_system_names_a_limit():
    for number, words in (
        (errno.EMFILE, "ulimit -Hn"),
        (errno.ETOOMANYREFS, "ulimit -Hn"),
        (errno.ENFILE, "fs.file-max"),
        (errno.ENOMEM, "vm.max_map_count"),
        (errno.EPERM, "refuses"),
    ):
        assert words in descriptors.explain(OSError(number, os.strerror(number)))


def test_the_broker_waits_for_a_descriptor_without_spinning(server, system):
    first = ShmStore(server.address)
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    until_all_are_in(system, server.pid, 1)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (first_free(server.pid), limits[1]))
    second: list[ShmStore] = []
    thread = threading.Thread(target=lambda: second.append(ShmStore(server.address)))
    try:
        thread.start()
        before = cpu_seconds(server.pid)
        time.sleep(1.0)
        assert not second
        assert cpu_seconds(server.pid) - before < 0.3
        assert first.stats().objects == 0, "the others are served meanwhile"
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
        thread.join(20)
    second[0].put(an_id(1), [b"data"], 4)
    assert first.contains(an_id(1))
    second[0].close()
    first.close()


def test_the_broker_does_not_spin_for_clients_that_have_gone(server, system):
    for _ in range(10):
        ShmStore(server.address).close()
    until_all_are_in(system, server.pid, 0)
    before = cpu_seconds(server.pid)
    time.sleep(0.5)
    assert cpu_seconds(server.pid) - before < 0.2


def test_the_broker_says_so_when_it_cannot_take_another_client(server, system):
    first = ShmStore(server.address)
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    until_all_are_in(system, server.pid, 1)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (first_free(server.pid) + 1, limits[1]))
    with pytest.raises(RayConnectionError, match="Too many open files; raise the hard limit"):
        ShmStore(server.address)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    ShmStore(server.address).close()
    first.close()


def until_all_are_in(system: System, pid: int, clients: int) -> None:
    """Until what the broker opens for a short time while it lets a client in is closed again."""
    own = 6 if isinstance(system, Linux) else 5  # the standard ones, listener, node manager, epoll
    folder = f"/proc/{pid}/fd"
    eventually(lambda: len(os.listdir(folder)) == own + 2 * clients, 5, lambda: f"open: {os.listdir(folder)}")


def first_free(pid: int) -> int:
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return next(number for number in range(1000) if number not in taken)


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_who_is_one_client_too_many_is_told_so(tmp_path, system):
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from ray.exceptions import RayConnectionError
from ray_store_shm.client import ShmStore
from ray_store_shm.process import ShmStoreServer
from ray_store_shm.systems import {type(system).__name__}
server = ShmStoreServer({str(tmp_path)!r}, 1 << 20, 0.2, system={type(system).__name__}())
stores = []
try:
    for _ in range(40):
        stores.append(ShmStore(server.address))
except RayConnectionError as error:
    assert "connections already" in str(error), error
assert 4 < len(stores) < 40, len(stores)
stores.pop().close()
stores[0].put(bytes(20), [b"x"], 1)
late = ShmStore(server.address)
assert late.contains(bytes(20))
for store in [late, *stores]:
    store.close()
server.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr


def in_child_without_privileges(body: Callable[[], None]) -> None:
    """Run ``body`` as a user for which the kernel counts descriptors under way."""

    def run() -> None:
        if os.geteuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        body()

    child = FORK.Process(target=run)
    child.start()
    child.join(30)
    code = child.exitcode
    child.kill()
    child.join()
    child.close()
    assert code == 0


def test_too_many_descriptors_under_way_to_the_broker_cost_one_object(system):
    def body() -> None:
        with tempfile.TemporaryDirectory() as folder:
            server = ShmStoreServer(folder, 1 << 20, 0.2, system=system)
            store = ShmStore(server.address)
            for number in range(60):
                store.create(an_id(number), 10).release()
            resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            os.kill(server.pid, signal.SIGSTOP)
            done: list[int] = []

            def go_on() -> None:
                """Once the next one waits for it."""
                count = -1
                while count < len(done):
                    count = len(done)
                    time.sleep(0.5)
                os.kill(server.pid, signal.SIGCONT)

            threading.Thread(target=go_on, daemon=True).start()

            def seal_all() -> None:
                for number in range(60):
                    store.seal(an_id(number))
                    done.append(number)

            with pytest.raises(ObjectStoreFullError, match="40 open files"):
                seal_all()
            sealed = len(done)
            assert sealed > 20
            assert all(store.contains(an_id(number)) for number in range(sealed))
            assert not store.contains(an_id(sealed))
            for number in range(sealed + 1, 60):
                store.seal(an_id(number))
            assert store.stats().objects == 59
            store.close()
            server.close()

    in_child_without_privileges(body)


def test_too_many_descriptors_under_way_to_clients_leave_none_waiting(system):
    def body() -> None:
        with tempfile.TemporaryDirectory() as folder:
            server = ShmStoreServer(folder, 1 << 20, 0.2, system=system)
            store = ShmStore(server.address)
            store.put(an_id(1), [b"data"], 4)
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (30, 30))
            slow = system.open()
            slow.settimeout(5)
            slow.connect(systems.of_address(server.address)[1])
            for number in range(1, 61):
                slow.send(encode(messages.Get(number, an_id(1), 0)))
            for _ in range(300):  # more than the broker hears of one client before the others have their turn, thrice
                assert store.stats().objects == 1, "the broker is not stuck"
            came = [descriptors.receive(slow, MAX_PACKET_BYTES, 1) for _ in range(61)]
            assert [messages.decode_reply(packet).number for packet, _, _ in came] == list(range(61))
            with_one = sum(len(fds) for _, fds, _ in came)
            assert 20 < with_one < 61
            store.close()
            server.close()

    in_child_without_privileges(body)


def test_memory_files_are_not_used_where_the_system_has_none(monkeypatch):
    assert isinstance(segments.of_this_system(), MemoryFiles)
    segments.of_this_system.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, "memfd_create")
            assert isinstance(segments.of_this_system(), NamedSegments)
        segments.of_this_system.cache_clear()
        with monkeypatch.context() as patch:

            def an_old_kernel(*_: object) -> int:
                raise OSError(errno.EINVAL, "no such seal")

            patch.setattr(segments.fcntl, "fcntl", an_old_kernel)
            assert isinstance(segments.of_this_system(), NamedSegments)
    finally:
        segments.of_this_system.cache_clear()
