"""Objects that go to the disk and come back, and what happens when the disk fails."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.stopwatch import Stopwatch

from ray.exceptions import ObjectLostError, ObjectStoreFullError, OutOfDiskError
from ray.testing import eventually
from ray_store_plasma.client import PlasmaStore

from .conftest import CAPACITY, Node, StartNode, an_id

CHUNK = CAPACITY // 4 - 4096


def fill(store: PlasmaStore, numbers: range) -> None:
    for n in numbers:
        store.put(an_id(n), [bytes([n]) * CHUNK], CHUNK)


def check(store: PlasmaStore, n: int) -> None:
    view = store.get(an_id(n))
    assert view == bytes([n]) * CHUNK
    del view
    store.release(an_id(n))


def spilled(store: PlasmaStore) -> list[int]:
    rows = [row for row in store.list() if row.state == "spilled"]
    return sorted(int.from_bytes(row.object_id[-4:], "big") for row in rows)


@pytest.mark.parametrize("count", [5, pytest.param(50, marks=pytest.mark.soak)])
def test_twice_the_capacity_is_read_twice(node: Node, count: int) -> None:
    for _ in range(count):
        store = node.connect()
        size = CAPACITY // 2 - 4096
        contents = [random.Random(n).randbytes(size) for n in range(10)]
        for n, data in enumerate(contents):
            store.put(an_id(n), [data], size)
        for n in [*range(10), *range(10)]:
            view = store.get(an_id(n))
            assert view == contents[n]
            del view
            store.release(an_id(n))
        stats = store.stats()
        assert stats.used_bytes <= CAPACITY
        for n in range(10):
            store.delete(an_id(n))
        assert store.stats().spilled_bytes == 0


def test_the_least_recently_used_goes_first_and_comes_back(node: Node) -> None:
    store = node.connect()
    fill(store, range(4))
    check(store, 0)
    fill(store, range(4, 5))
    assert spilled(store) == [1]
    check(store, 1)
    assert spilled(store) == [2]
    for n in range(5):
        check(store, n)


def test_a_copy_on_the_disk_is_not_written_again(node: Node) -> None:
    store = node.connect()
    fill(store, range(5))
    assert spilled(store) == [0]
    check(store, 0)  # 1 goes
    length = os.stat(node.spill_file()).st_blocks
    check(store, 1)  # 0 has a copy: it is dropped
    assert 0 in spilled(store)
    assert os.stat(node.spill_file()).st_blocks == length


def test_deleting_gives_the_space_on_the_disk_back(node: Node) -> None:
    store = node.connect()
    fill(store, range(12))
    full = os.stat(node.spill_file()).st_blocks
    assert full * 512 >= 8 * CHUNK
    for n in range(12):
        store.delete(an_id(n))
    eventually(lambda: os.stat(node.spill_file()).st_blocks <= full // 10, 5, "the file keeps its blocks")


def test_the_spill_file_has_no_name_and_is_private(node: Node) -> None:
    store = node.connect()
    fill(store, range(6))
    assert list(node.spill_dir.iterdir()) == []
    assert os.stat(node.spill_file()).st_mode & 0o777 == 0o600
    assert os.stat(node.spill_file()).st_nlink == 0
    os.kill(node.server.pid, signal.SIGKILL)
    os.waitpid(node.server.pid, 0)
    assert list(node.spill_dir.iterdir()) == []


def test_others_are_served_while_the_disk_works(node: Node) -> None:
    store, other = node.connect(), node.connect()
    other.put(an_id(100), [b"small"], 5)
    slowest = 0.0
    for n in range(40):
        store.put(an_id(n), [bytes([n]) * CHUNK], CHUNK)
        begin = time.monotonic()
        assert other.contains(an_id(100))
        slowest = max(slowest, time.monotonic() - begin)
    assert slowest < 1.0


def test_who_must_not_wait_is_told_so(node: Node) -> None:
    store = node.connect()
    fill(store, range(5))
    with pytest.raises(BlockingIOError, match="read from the disk"):
        store.get_at_once(an_id(0))
    assert spilled(store) == [0]
    check(store, 0)
    view = store.get_at_once(an_id(0))
    assert view == bytes(CHUNK)
    assert store.get_at_once(an_id(0)) == view
    assert store.get_at_once(an_id(9)) is None
    del view
    for _ in range(2):
        store.release(an_id(0))
    fill(store, range(5, 10))
    assert 0 in spilled(store)  # nobody holds it


# Disks that fail. None of these needs a file system of its own.


def break_by_limit(node: Node) -> Callable[[], None]:
    """The server may not write beyond what its arena needs: the file cannot grow, as on a disk that is full."""
    before = resource.prlimit(node.server.pid, resource.RLIMIT_FSIZE, (CAPACITY, resource.RLIM_INFINITY))
    return lambda: resource.prlimit(node.server.pid, resource.RLIMIT_FSIZE, before) and None


def test_a_full_disk_is_an_error_of_that_put_only_and_mends_by_itself(node: Node) -> None:
    store, other = node.connect(), node.connect()
    mend = break_by_limit(node)
    fill(store, range(4))
    fill(store, range(4, 7))  # within the limit
    begin = Stopwatch()
    with pytest.raises(OutOfDiskError) as caught:
        fill(store, range(7, 20))
    assert begin.undisturbed_s() < 5
    assert caught.value.path == str(node.spill_dir)
    other.put(an_id(50), [b"small"], 5)
    there = [n for n in range(20) if store.contains(an_id(n))]
    assert there == list(range(len(there)))
    assert len(there) >= 7
    mend()
    fill(store, range(len(there), 20))
    for n in range(20):
        check(other, n)


def test_deleting_mends_a_full_disk_too(start: StartNode) -> None:
    store = start(spill_limit_bytes=2 * CHUNK + 8192).connect()
    fill(store, range(6))
    with pytest.raises(OutOfDiskError):
        fill(store, range(6, 7))
    store.delete(an_id(0))
    fill(store, range(6, 7))
    with pytest.raises(OutOfDiskError):  # to bring one in another has to go out
        check(store, spilled(store)[0])
    store.delete(an_id(6))
    for n in range(1, 6):
        check(store, n)


@pytest.mark.parametrize("kind", ["missing", "a file", "no files allowed"])
def test_a_directory_that_cannot_be_used_is_an_error_of_that_put_only(
    start: StartNode, tmp_path: Path, kind: str
) -> None:
    folder = {"missing": tmp_path / "missing", "a file": tmp_path / "file", "no files allowed": Path("/proc/self")}[
        kind
    ]
    if kind == "a file":
        folder.touch()
    store = start(spill_dir=str(folder)).connect()
    fill(store, range(4))
    with pytest.raises(OutOfDiskError) as caught:
        fill(store, range(4, 5))
    assert caught.value.path == str(folder)
    for n in range(4):
        check(store, n)
    store.put(an_id(9), [b"small"], 5)
    if kind != "no files allowed":
        if kind == "a file":
            folder.unlink()
        folder.mkdir()
        fill(store, range(4, 5))
        for n in range(5):
            check(store, n)


def test_a_directory_that_is_removed_takes_nothing_along(node: Node) -> None:
    store = node.connect()
    fill(store, range(5))
    shutil.rmtree(node.spill_dir)
    fill(store, range(5, 9))
    for n in range(9):
        check(store, n)


def damage_by_cutting(path: str) -> None:
    os.truncate(path, CHUNK // 2)


def damage_by_emptying(path: str) -> None:
    os.truncate(path, 0)


def damage_by_a_bit(path: str) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.seek(CHUNK // 2)
        (byte,) = file.read(1)
        file.seek(CHUNK // 2)
        file.write(bytes([byte ^ 1]))


def damage_by_zeros(path: str) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.seek(0)
        file.write(b"\0" * 4096)


@pytest.mark.parametrize("damage", [damage_by_cutting, damage_by_emptying, damage_by_a_bit, damage_by_zeros])
def test_what_is_damaged_on_the_disk_is_lost_and_never_wrong(node: Node, damage: Callable[[str], None]) -> None:
    store, other = node.connect(), node.connect()
    for n in range(1, 6):
        store.put(an_id(n), [bytes([n]) * CHUNK], CHUNK)
    assert spilled(store) == [1]
    damage(node.spill_file())
    for client in (store, other, store):
        with pytest.raises(ObjectLostError, match="damaged") as caught:
            client.get(an_id(1))
        assert caught.value.object_id == an_id(1)
    assert not store.contains(an_id(1))
    assert [row.state for row in store.list() if row.object_id == an_id(1)] == ["lost"]
    for n in range(2, 6):
        check(other, n)
    store.put(an_id(1), [b"made again"], 10)
    assert other.get(an_id(1)) == b"made again"


def test_a_lost_object_can_be_deleted(node: Node) -> None:
    store = node.connect()
    fill(store, range(1, 6))
    damage_by_emptying(node.spill_file())
    with pytest.raises(ObjectLostError):
        store.get(an_id(1))
    store.delete(an_id(1))
    assert store.get(an_id(1)) is None


def test_no_room_to_come_back_is_an_error_and_the_object_stays(start: StartNode) -> None:
    store = start(full_timeout_s=0.2).connect()
    fill(store, range(5))
    assert spilled(store) == [0]
    views = [store.get(an_id(n)) for n in range(1, 5)]
    with pytest.raises(ObjectStoreFullError, match="held by"):
        store.get(an_id(0))
    assert store.contains(an_id(0))
    views.clear()
    store.release(an_id(1))
    check(store, 0)


def test_without_spilling_nothing_goes_to_the_disk(start: StartNode) -> None:
    node = start(spill=False, full_timeout_s=0.1)
    store = node.connect()
    with pytest.raises(ObjectStoreFullError):
        fill(store, range(5))
    assert not any(
        str(node.spill_dir) in os.readlink(f"/proc/{node.server.pid}/fd/{fd}")
        for fd in os.listdir(f"/proc/{node.server.pid}/fd")
    )


def test_pages_of_freed_objects_go_back_to_the_system_after_a_while(
    start: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_store_plasma.server.REST_S", 0.1)
    store = start(64 * 1024 * 1024).connect()
    arena = store._link.arena
    for _ in range(3):
        store.put(an_id(1), [b"x" * 20_000_000], 20_000_000)
        assert os.fstat(arena).st_blocks * 512 >= 20_000_000
        store.delete(an_id(1))
    store.put(an_id(2), [b"y" * 3_000_000], 3_000_000)
    eventually(lambda: os.fstat(arena).st_blocks * 512 <= 6_000_000, 5, "the pages stay")
    assert store.get(an_id(2)) == b"y" * 3_000_000
    data = os.urandom(20_000_000)
    for n in range(3, 5):
        store.put(an_id(n), [data], len(data))
        assert store.get(an_id(n)) == data
