"""What differs between systems, as far as this one can tell: which process connected, whose that is, small buffers."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import struct
import sys

import pytest

from ray.exceptions import RayConnectionError
from ray.testing import eventually
from ray_store_shm import descriptors, messages, systems
from ray_store_shm.client import ShmStore
from ray_store_shm.messages import encode
from ray_store_shm.packets import PacketSocket
from ray_store_shm.process import ShmStoreServer
from ray_store_shm.segments import MemoryFiles
from ray_store_shm.systems import Linux, Posix

pytestmark = pytest.mark.timeout(60)

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def an_id(number: int) -> bytes:
    return number.to_bytes(20, "big")


def test_the_address_says_how_to_talk(system):
    assert systems.of_address(f"{system.scheme}/a/path")[1] == "/a/path"
    assert type(systems.of_address(f"{system.scheme}/a/path")[0]) is type(system)
    with pytest.raises(RayConnectionError, match="'plasma:/a/path' is not the address of a shm store"):
        ShmStore("plasma:/a/path")


def test_this_system_has_the_best_way():
    assert type(systems.of_this_system()) is (Linux if sys.platform == "linux" else Posix)


def test_a_server_knows_who_connected(system):
    one, two = system.pair()
    with one, two:
        assert systems.other_end(two) == (os.getpid(), os.geteuid())


@pytest.mark.parametrize(("platform", "pid"), [("darwin", 77), ("freebsd14", 0)])
def test_elsewhere_a_function_and_an_option_tell_who_connected(monkeypatch, platform, pid):
    """The calls are right as far as can be told here, where neither exists."""

    class Libc:
        def __init__(self, name: None, use_errno: bool) -> None:
            assert use_errno

        def getpeereid(self, fd: int, user: ctypes._CArgObject, group: ctypes._CArgObject) -> int:
            if fd != 5:
                ctypes.set_errno(57)
                return -1
            user._obj.value, group._obj.value = 501, 20
            return 0

    class Socket:
        fd = 5

        def fileno(self) -> int:
            return self.fd

        def getsockopt(self, level: int, option: int) -> int:
            return {(0, 2): 77}[level, option]

    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", platform)
        patch.setattr(ctypes, "CDLL", Libc)
        assert systems.other_end(Socket()) == (pid, 501)
        Socket.fd = 6
        with pytest.raises(OSError) as raised:
            systems.other_end(Socket())
    assert raised.value.errno == 57


def test_the_limit_of_open_files_is_raised_as_far_as_macos_takes_it(monkeypatch):
    limits = [256, resource.RLIM_INFINITY]

    def setrlimit(which: int, wanted: tuple[int, int]) -> None:
        if wanted[0] > 10_240:
            raise ValueError("current limit exceeds maximum limit")
        limits[0] = wanted[0]

    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    assert descriptors.raise_limit() == limits[0] == 10_240


class SmallSocket(PacketSocket):
    """The system takes little at a time."""

    def __init__(self, fileno: int | None = None) -> None:
        super().__init__(fileno)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)


class Small(Posix):
    """As ``Posix``."""

    def open(self, fileno: int | None = None) -> PacketSocket:
        return SmallSocket(fileno)


def test_answers_and_notifications_that_do_not_fit_go_in_parts(tmp_path):
    server = ShmStoreServer(str(tmp_path), 64 << 20, 0.2, system=Small())
    store, other = ShmStore(server.address), ShmStore(server.address)
    count = 1500
    for number in range(count):
        store.subscribe(an_id(number))
    for number in range(count):
        other.put(an_id(number), [b"small"], 5)
    assert len(other.list()) == count
    heard: list[tuple[bytes, int]] = []
    eventually(lambda: len(heard.extend(store.notifications()) or heard) >= count)
    assert heard == [(an_id(number), 5) for number in range(count)]
    assert [store.contains(an_id(number)) for number in (0, count)] == [True, False]
    for part in (store, other, server):
        part.close()


@ON_LINUX
def test_a_client_that_stops_in_the_middle_of_a_packet_costs_nothing(tmp_path):
    server = ShmStoreServer(str(tmp_path), 64 << 20, 0.2, system=Posix())
    store = ShmStore(server.address)
    folder = f"/proc/{server.pid}/fd"
    eventually(lambda: len(os.listdir(folder)) == 7)
    kind = MemoryFiles()
    sealed = kind.seal(kind.make(100))
    request = encode(messages.Seal(1))
    frame = struct.pack("!I", len(request)) + request
    for end in range(1, len(frame)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(systems.of_address(server.address)[1])
            socket.send_fds(client, [frame[:end]], [sealed])
            store.put(an_id(end), [b"data"], 4)
            assert store.contains(an_id(end)), "the others are served meanwhile"
    os.close(sealed)
    for end in range(1, len(frame)):
        store.delete(an_id(end))
    eventually(lambda: len(os.listdir(folder)) == 7)
    store.close()
    server.close()
