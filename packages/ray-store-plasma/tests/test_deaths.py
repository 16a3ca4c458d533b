"""Clients that are killed cost nothing; nor does the server, nor its parent."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ray.testing import eventually
from ray_store_plasma.client import PlasmaStore
from ray_store_plasma.process import PlasmaStoreServer

from .conftest import CAPACITY, Node, StartNode, an_id

ROUNDS = 20
SOAK_ROUNDS = 1000
RECLAIM_S = 0.2
rounds = pytest.mark.parametrize(
    "count", [ROUNDS, pytest.param(SOAK_ROUNDS, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)


def killed_after(address: str, work: Callable[[PlasmaStore], object]) -> None:
    """Do ``work`` in a process of its own and kill it while it still has everything."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            client = PlasmaStore(address)
            kept = work(client)
            os.write(write, b"!")
            time.sleep(60)
            print(kept)
        finally:
            os._exit(1)
    os.close(write)
    told = os.read(read, 1)
    os.close(read)
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert told == b"!"


def killed_within(address: str, work: Callable[[PlasmaStore], object], after_s: float) -> None:
    """Do ``work`` again and again in a process of its own, and kill it somewhere on the way."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            client = PlasmaStore(address)
            os.write(write, b"!")
            while True:
                work(client)
        finally:
            os._exit(1)
    os.close(write)
    assert os.read(read, 1) == b"!"
    os.close(read)
    time.sleep(after_s)
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def reclaimed(store: PlasmaStore, used_bytes: int) -> None:
    def left() -> str:
        return f"{store.stats()} is not back to {used_bytes}: {store.list()[:5]}"

    eventually(lambda: store.stats().used_bytes == used_bytes, RECLAIM_S, left)


@rounds
def test_killed_between_create_and_seal(node: Node, count: int) -> None:
    store = node.connect()
    for n in range(count):
        store.subscribe(an_id(1))
        killed_after(node.server.address, lambda client: client.create(an_id(1), 100_000))
        reclaimed(store, 0)
        assert store.notifications() == [(an_id(1), -1)]
        store.put(an_id(1), [b"again"], 5)
        assert store.get(an_id(1)) == b"again"
        store.release(an_id(1))
        store.delete(an_id(1))
        reclaimed(store, 0)
        assert n < count


@rounds
def test_killed_at_any_moment_of_put(node: Node, count: int) -> None:
    store = node.connect()

    def work(client: PlasmaStore) -> None:
        client.put(an_id(1), [b"x" * 50_000], 50_000)
        client.delete(an_id(1))

    for n in range(count):
        killed_within(node.server.address, work, n % 10 * 0.0007)
        store.delete(an_id(1))
        reclaimed(store, 0)


@rounds
def test_killed_while_holding_a_thousand_objects(start: StartNode, count: int) -> None:
    node = start(64 * 1024 * 1024)
    store = node.connect()
    for n in range(1000):
        store.put(an_id(n), [b"x" * 100], 100)
    used = store.stats().used_bytes

    def hold(client: PlasmaStore) -> object:
        return [client.get(an_id(n)) for n in range(1000)]

    for n in range(max(2, count // 25)):
        killed_after(node.server.address, hold)
        reclaimed(store, used)
        (row,) = [row for row in store.list() if row.object_id == an_id(n)]
        assert row.holders == ()
    for n in range(1000):
        store.delete(an_id(n))
    reclaimed(store, 0)


@rounds
def test_killed_during_get_of_a_spilled_object(node: Node, count: int) -> None:
    store = node.connect()
    size = CAPACITY // 3
    for n in range(5):
        store.put(an_id(n), [bytes([n]) * size], size)

    def work(client: PlasmaStore) -> None:
        for n in range(5):
            client.get(an_id(n))
            client.release(an_id(n))

    for n in range(count):
        killed_within(node.server.address, work, n % 10 * 0.002)
        view = store.get(an_id(n % 5))
        assert view == bytes([n % 5]) * size
        del view
        store.release(an_id(n % 5))
    for n in range(5):
        store.delete(an_id(n))
    reclaimed(store, 0)
    assert store.stats().spilled_bytes == 0


@rounds
def test_killed_while_waiting_for_room(start: StartNode, count: int) -> None:
    node = start(spill=False, full_timeout_s=20.0)
    store = node.connect()
    store.put(an_id(1), [b"x" * 3_000_000], 3_000_000)
    used = store.stats().used_bytes

    def wait(client: PlasmaStore) -> object:
        thread = threading.Thread(target=client.create, args=(an_id(2), 3_000_000), daemon=True)
        thread.start()
        while len(client.list()) < 2:
            pass
        return thread

    for _ in range(max(5, count // 5)):
        killed_after(node.server.address, wait)
        reclaimed(store, used)
        assert len(store.list()) == 1


def test_an_object_sealed_just_before_the_kill_is_there(node: Node) -> None:
    store = node.connect()
    for n in range(50):
        killed_after(node.server.address, lambda client, n=n: client.put(an_id(n), [b"last words"], 10))
        assert store.get(an_id(n)) == b"last words"


def test_what_a_dead_owner_owned_is_deleted(node: Node) -> None:
    store = node.connect()
    for owner in (b"owner--1", b"owner--2"):
        for n in range(20):
            store.put(owner + n.to_bytes(12, "big"), [b"x" * 1000], 1000)
    held = store.get(b"owner--1" + bytes(12))
    node.server.owner_lost(b"owner--1")
    end = time.monotonic() + 2
    while store.stats().objects != 20:
        assert time.monotonic() < end
    assert not store.contains(b"owner--1" + bytes(12))
    assert store.contains(b"owner--2" + bytes(12))
    assert held == b"x" * 1000


def test_the_server_is_small_and_has_nothing_of_its_parent(tmp_path: Path) -> None:
    code = f"""
import os, socket, sys, time
sys.path[:0] = {sys.path!r}
from ray_store_plasma.process import PlasmaStoreServer
from ray_store_plasma.client import PlasmaStore
secret = open(os.devnull)
listener = socket.create_server(("127.0.0.1", 0))
os.dup2(1, 200)
server = PlasmaStoreServer({str(tmp_path)!r}, 1 << 30)
client = PlasmaStore(server.address)
client.put(bytes(20), [b"x" * 1000], 1000)
links = [os.readlink(f"/proc/{{server.pid}}/fd/{{fd}}") for fd in os.listdir(f"/proc/{{server.pid}}/fd") if int(fd) > 2]
kinds = sorted(link.split(":")[0].split(" ")[0] for link in links)
assert kinds == ["/memfd"] + ["anon_inode"] * 2 + ["socket"] * 4, links
maps = open(f"/proc/{{server.pid}}/maps").read()
assert "numpy" not in maps and "pyarrow" not in maps and "memfd" not in maps
private = sum(int(line.split()[1]) for line in open(f"/proc/{{server.pid}}/smaps_rollup") if line.startswith("Private"))
assert private < 12_000, private
assert open(f"/proc/{{server.pid}}/comm").read().strip() == "ray-plasma"
assert "numpy" not in sys.modules and "pyarrow" not in sys.modules
print("fine")
server.close()
client.close()
"""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(write, 1)
        os.execv(sys.executable, [sys.executable, "-c", code])
    os.close(write)
    with open(read) as file:
        output = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    assert output == "fine\n"


def test_the_server_dies_with_its_parent_and_leaves_nothing(tmp_path: Path) -> None:
    read, write = os.pipe()
    parent = os.fork()
    if not parent:
        try:
            server = PlasmaStoreServer(str(tmp_path), CAPACITY)
            store = PlasmaStore(server.address)
            for n in range(8):
                store.put(an_id(n), [b"x" * (CAPACITY // 4)], CAPACITY // 4)
            os.write(write, server.pid.to_bytes(4, "little"))
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(write)
    pid = int.from_bytes(os.read(read, 4), "little")
    os.close(read)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    status = Path(f"/proc/{pid}/status")
    eventually(lambda: not status.exists() or "State:\tZ" in status.read_text(), 5, "the server is still there")


def test_the_server_of_a_killed_session_can_be_replaced(tmp_path: Path, start: StartNode) -> None:
    node = start()
    os.kill(node.server.pid, signal.SIGKILL)
    node.server.close()
    node.server.close()
    again = PlasmaStoreServer(os.path.dirname(node.path), CAPACITY)
    store = PlasmaStore(again.address)
    store.put(an_id(1), [b"x"], 1)
    store.close()
    again.close()


def test_close_in_a_forked_child_does_not_end_the_server(node: Node) -> None:
    pid = os.fork()
    if not pid:
        node.server.close()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert node.connect().stats().objects == 0


def test_the_socket_is_private_and_its_path_short(tmp_path: Path, node: Node) -> None:
    assert os.stat(node.path).st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="longer than 100 bytes"):
        PlasmaStoreServer(f"{tmp_path}/{'x' * 100}", CAPACITY)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_other_users_are_not_let_in(node: Node) -> None:
    os.chmod(node.path, 0o777)
    folder = os.path.dirname(node.path)
    pid = os.fork()
    if not pid:
        try:
            os.chdir(folder)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.settimeout(5)
                sock.connect(os.path.basename(node.path))
                os._exit(0 if sock.recv(100) == b"" else 3)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert node.connect().stats().objects == 0
