"""What a client of the plasma store does beyond the contract."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import os
import resource
import signal
import threading
import time
from collections.abc import Callable

import pytest
from tests.stopwatch import Stopwatch

from ray.exceptions import ObjectStoreFullError, RayConnectionError
from ray.testing import eventually
from ray_store_plasma import link as link_module
from ray_store_plasma.client import PlasmaStore

from .conftest import CAPACITY, Node, StartNode, an_id

np = pytest.importorskip("numpy")


def in_child(work: Callable[[], object]) -> int:
    """Run in a forked child; returns the wait status. 0: it returned."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


# Writing.


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 4095, 70_000, 300_000, 1 << 20, 3 << 20])
def test_put_stores_the_pieces_in_order_on_cold_seen_and_warm_pages(store: PlasmaStore, nbytes: int) -> None:
    data = os.urandom(nbytes)
    third = nbytes // 3
    pieces = [data[:third], memoryview(data)[third : 2 * third], bytearray(data[2 * third :])]
    for number in range(4):  # through the kernel, then mapped, then memory to memory
        store.put(an_id(number), pieces, nbytes)
        view = store.get(an_id(number))
        assert view is not None
        assert view == data
        del view
        store.release(an_id(number))
        store.delete(an_id(number))


def test_put_of_more_than_was_said_is_refused_and_leaves_nothing(store: PlasmaStore) -> None:
    before = store.stats()
    for _ in range(3):
        with pytest.raises(ValueError, match="do not go into"):
            store.put(an_id(1), [b"x" * 600_000, b"y" * 600_000], 1_000_000)
    assert store.stats() == before
    store.put(an_id(1), [b"z"], 1)
    assert store.get(an_id(1)) == b"z"


def test_data_begins_at_a_multiple_of_64(store: PlasmaStore) -> None:
    for number, nbytes in enumerate((1, 65, 4097, 100_001)):
        store.put(an_id(number), [b"x" * nbytes], nbytes)
        view = store.get(an_id(number))
        assert np.frombuffer(view, np.uint8).ctypes.data % 64 == 0


# Reading.


def test_get_returns_the_same_memory_each_time_without_asking(node: Node, store: PlasmaStore) -> None:
    store.put(an_id(1), [b"x" * 1000], 1000)
    first = np.frombuffer(store.get(an_id(1)), np.uint8)
    os.kill(node.server.pid, signal.SIGSTOP)
    try:
        second = np.frombuffer(store.get(an_id(1)), np.uint8)
        assert store.contains(an_id(1))
    finally:
        os.kill(node.server.pid, signal.SIGCONT)
    assert first.ctypes.data == second.ctypes.data


@pytest.mark.parametrize("deleted", ["before its release", "after its release"])
def test_what_another_client_deleted_stays_seen_after_close(node: Node, deleted: str) -> None:
    maker, reader = node.connect(), node.connect()
    size = CAPACITY // 2
    maker.put(an_id(1), [b"a" * size], size)
    view = reader.get(an_id(1))
    assert view is not None
    if deleted == "after its release":
        reader.release(an_id(1))
    maker.delete(an_id(1))
    maker.stats()
    maker.put(an_id(1), [b"b"], 1)
    assert reader.get(an_id(1)) == b"b"
    for _ in range(2):
        reader.release(an_id(1))
    reader.close()
    with pytest.raises(ObjectStoreFullError):
        maker.put(an_id(2), [b"c" * size], size)
    assert view == b"a" * size
    del view
    maker.delete(an_id(1))
    maker.put(an_id(2), [b"c" * size], size)


def test_arrays_keep_their_memory_after_release_delete_and_close(node: Node) -> None:
    reader, writer = node.connect(), node.connect()
    writer.put(an_id(1), [b"\7" * 1_000_000], 1_000_000)
    kept = np.frombuffer(reader.get(an_id(1)), np.uint8)[1000:2000]
    reader.release(an_id(1))
    writer.delete(an_id(1))
    reader.close()
    for number in range(2, 12):
        writer.put(an_id(number), [b"\xff" * 600_000], 600_000)
    assert (kept == 7).all()
    used = writer.stats().used_bytes
    assert used >= 1_000_000
    del kept
    eventually(lambda: writer.stats().used_bytes <= 4 * 1_000_000 and len(writer.list()) == 10, 5)


def test_memory_returns_when_the_last_view_goes_and_nobody_calls(node: Node) -> None:
    reader, other = node.connect(), node.connect()
    reader.put(an_id(1), [b"x" * 1_000_000], 1_000_000)
    whole = reader.get(an_id(1))
    assert whole is not None
    part = whole[5:10]
    reader.release(an_id(1))
    other.delete(an_id(1))
    del whole
    assert other.stats().used_bytes >= 1_000_000
    del part
    eventually(lambda: other.stats().used_bytes == 0, 0.2)


def test_an_object_deleted_by_another_client_is_gone_though_it_is_held(node: Node) -> None:
    reader, other = node.connect(), node.connect()
    other.put(an_id(1), [b"old"], 3)
    old = reader.get(an_id(1))
    other.delete(an_id(1))
    other.stats()
    assert reader.get(an_id(1)) is None
    assert not reader.contains(an_id(1))
    other.put(an_id(1), [b"new"], 3)
    new = reader.get(an_id(1))
    assert (bytes(old or b""), bytes(new or b"")) == (b"old", b"new")
    del old, new
    reader.release(an_id(1))
    reader.release(an_id(1))
    other.delete(an_id(1))
    eventually(lambda: other.stats().used_bytes == 0, 5)


def test_who_hears_of_an_object_finds_it(node: Node) -> None:
    """The word of the seal reaches the server after that of the reader, if need be: it waits for nobody's answer."""
    writer, reader = node.connect(), node.connect()
    for number in range(300):
        writer.put(an_id(number), [b"x"], 1)
        view = reader.get(an_id(number))
        assert view is not None, f"round {number}"
        writer.delete(an_id(number))
        writer.put(an_id(number), [b"x"], 1)
        reader.release(an_id(number))
        reader.delete(an_id(number))
        writer.create(an_id(number), 1)
        writer.abort(an_id(number))


def test_readers_cannot_write_even_in_c(store: PlasmaStore) -> None:
    store.put(an_id(1), [b"x" * 100_000], 100_000)
    found = np.frombuffer(store.get(an_id(1)), np.uint8)
    assert not found.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        found.flags.writeable = True

    def write() -> None:
        faulthandler.disable()
        ctypes.memset(found.ctypes.data, 0, 1)

    status = in_child(write)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert found[0] == ord("x")


def test_nobody_can_resize_the_arena(store: PlasmaStore) -> None:
    for size in (0, CAPACITY * 2):
        with pytest.raises(PermissionError):
            os.ftruncate(store._link.arena, size)


def test_programs_that_a_client_starts_inherit_nothing(store: PlasmaStore) -> None:
    assert not os.get_inheritable(store._link.arena)
    assert not os.get_inheritable(store.notifications_fd())


def test_a_client_without_descriptors_left_says_so(node: Node) -> None:
    def child() -> None:
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        os.close(taken.pop())
        with pytest.raises(RayConnectionError, match="too many open files"):
            node.connect()
        for descriptor in taken[-10:]:
            os.close(descriptor)
        node.connect().close()

    assert in_child(child) == 0


def test_threads_read_and_write_at_the_same_time(store: PlasmaStore) -> None:
    errors: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for n in range(200):
                data = bytes([index]) * (500 + n * 97)
                store.put(an_id(index), [data], len(data))
                views = [store.get(an_id(index)) for _ in range(3)]
                assert all(view == data for view in views)
                for _ in views:
                    store.release(an_id(index))
                store.delete(an_id(index))
                del views
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    eventually(lambda: store.stats().used_bytes == 0, 5)


def test_threads_share_one_object(node: Node) -> None:
    store, owner = node.connect(), node.connect()
    for n in range(60):
        owner.put(an_id(n), [b"x" * 1000], 1000)
        start = threading.Barrier(4)

        def read(n: int = n, start: threading.Barrier = start) -> None:
            start.wait()
            view = store.get(an_id(n))
            assert view == b"x" * 1000
            store.release(an_id(n))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        owner.delete(an_id(n))
    eventually(lambda: owner.stats().used_bytes == 0, 5)


# Waiting for room.


def test_who_waits_for_room_keeps_nobody_from_making_some(start: StartNode) -> None:
    store = start(spill=False, full_timeout_s=20.0).connect()
    store.put(an_id(1), [b"x" * 3_000_000], 3_000_000)
    done: list[float] = []

    def put() -> None:
        store.put(an_id(2), [b"y" * 3_000_000], 3_000_000)
        done.append(time.monotonic())

    thread = threading.Thread(target=put)
    thread.start()
    eventually(lambda: any(row.state == "created" for row in store.list()), 5)
    assert store.get(an_id(1)) is not None  # answered while the other thread waits
    store.release(an_id(1))
    store.delete(an_id(1))
    thread.join(5.0)
    assert done
    assert store.get(an_id(2)) == b"y" * 3_000_000


def test_a_full_store_waits_and_then_names_the_biggest(start: StartNode) -> None:
    store = start(spill=False, full_timeout_s=0.3).connect()
    for number in range(3):
        store.put(an_id(number), [b"x" * (1_000_000 + number)], 1_000_000 + number)
    held = store.get(an_id(1))
    begin = Stopwatch()
    with pytest.raises(ObjectStoreFullError) as caught:
        store.put(an_id(9), [b"x" * 3_000_000], 3_000_000)
    assert begin.elapsed_s() > 0.25
    assert begin.undisturbed_s() < 5
    text = str(caught.value)
    assert f"{an_id(2).hex()} 1,000,002 bytes held by references alone, {an_id(1).hex()} 1,000,001 bytes" in text
    assert f"held by {os.getpid()}" in text
    assert caught.value.needed_bytes == 3_000_000
    assert caught.value.capacity_bytes == CAPACITY
    assert held is not None


def test_who_has_no_patience_is_refused_at_once_and_room_is_made_meanwhile(start: StartNode) -> None:
    store = start(full_timeout_s=20.0).connect()
    for number in range(3):
        store.put(an_id(number), [b"x" * 1_300_000], 1_300_000)
    began = Stopwatch()
    view = store.get(an_id(0))
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            store.put(an_id(9), [b"y" * 3_900_000], 3_900_000, patient=False)  # one is held: it can never be had
    assert store.get(an_id(9)) is None
    del view
    store.release(an_id(0))

    def put() -> bool:
        with contextlib.suppress(BlockingIOError):
            store.put(an_id(9), [b"y" * 3_900_000], 3_900_000, patient=False)
            return True
        return False

    eventually(put, 5)
    assert store.get(an_id(9)) == b"y" * 3_900_000
    store.release(an_id(9))
    assert began.undisturbed_s() < 10.0
    with pytest.raises(ObjectStoreFullError, match="larger than the store"):
        store.put(an_id(10), [b"z" * 2 * CAPACITY], 2 * CAPACITY, patient=False)
    assert len(store.list()) == 4


def test_what_can_never_fit_is_refused_at_once(start: StartNode) -> None:
    store = start(full_timeout_s=20.0).connect()
    begin = Stopwatch()
    with pytest.raises(ObjectStoreFullError, match="larger than the store"):
        store.create(an_id(1), CAPACITY)
    with pytest.raises(ObjectStoreFullError, match="larger than the store"):
        store.create(an_id(1), 2**59)
    assert begin.undisturbed_s() < 5


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), TimeoutError("mine"), TimeoutError(errno.ETIMEDOUT, "mine")], ids=repr
)
def test_an_interrupted_request_leaves_nothing(start: StartNode, error: BaseException) -> None:
    store = start(spill=False, full_timeout_s=2.0).connect()
    store.put(an_id(1), [b"x" * 3_000_000], 3_000_000)

    def interrupt(number: int, frame: object) -> None:
        raise error

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(type(error)) as caught:
            store.create(an_id(2), 3_000_000)
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught.value is error
    store.delete(an_id(1))  # now the room is granted to nobody
    eventually(lambda: store.stats().used_bytes == 0, 5)
    store.put(an_id(2), [b"y"], 1)


# The end of processes.


def test_a_killed_server_is_an_error_and_not_a_wait(node: Node) -> None:
    store = node.connect()
    store.put(an_id(1), [b"x" * 1000], 1000)
    view = store.get(an_id(1))
    store.create(an_id(2), 10)
    store.subscribe(an_id(3))
    os.kill(node.server.pid, signal.SIGKILL)
    os.waitpid(node.server.pid, 0)
    attempts: list[Callable[[], object]] = [
        lambda: store.get(an_id(9)),
        lambda: store.contains(an_id(9)),
        lambda: store.create(an_id(9), 1),
        lambda: store.put(an_id(9), [b"x"], 1),
        lambda: store.seal(an_id(2)),
        lambda: store.stats(),
        lambda: store.list(),
        lambda: store.pin(an_id(1)),
        lambda: store.notifications(),
    ]
    for attempt in attempts:
        with pytest.raises(RayConnectionError, match="has ended"):
            attempt()
    store.release(an_id(1))
    store.delete(an_id(1))
    assert view == b"x" * 1000  # memory that is mapped stays


def test_threads_that_wait_hear_of_the_servers_death(start: StartNode) -> None:
    node = start(spill=False, full_timeout_s=20.0)
    store = node.connect()
    store.put(an_id(1), [b"x" * 3_000_000], 3_000_000)
    errors: list[BaseException] = []

    def put(number: int) -> None:
        try:
            store.put(an_id(number), [b"y" * 3_000_000], 3_000_000)
        except RayConnectionError as error:
            errors.append(error)

    threads = [threading.Thread(target=put, args=(number,)) for number in (2, 3, 4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(store.list()) == 4, 5)
    os.kill(node.server.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(5.0)
    assert len(errors) == 3


def test_threads_that_wait_hear_of_close(start: StartNode) -> None:
    node = start(spill=False, full_timeout_s=20.0)
    store = node.connect()
    store.put(an_id(1), [b"x" * 3_000_000], 3_000_000)
    errors: list[BaseException] = []

    def put() -> None:
        try:
            store.put(an_id(2), [b"y" * 3_000_000], 3_000_000)
        except RayConnectionError as error:
            errors.append(error)

    thread = threading.Thread(target=put)
    thread.start()
    eventually(lambda: len(store.list()) == 2, 5)
    store.close()
    thread.join(5.0)
    assert len(errors) == 1


def test_a_stopped_server_does_not_stop_its_clients_for_ever(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "ANSWER_S", 1.0)
    store = node.connect()
    os.kill(node.server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RayConnectionError, match="not answered for 1 s"):
            store.get(an_id(1))
        with pytest.raises(RayConnectionError):
            store.get(an_id(1))
    finally:
        os.kill(node.server.pid, signal.SIGCONT)


def test_holds_that_ended_while_the_server_did_not_listen_are_told_before_anything_else(node: Node) -> None:
    store = node.connect()
    count = 1500  # more than a socket holds
    for number in range(count):
        store.put(an_id(number), [b"x" * 1000], 1000)
    views = [store.get(an_id(number)) for number in range(count)]
    for number in range(count):
        store.delete(an_id(number))
        store.release(an_id(number))
    assert store.stats().used_bytes > count * 1000
    os.kill(node.server.pid, signal.SIGSTOP)
    timer = threading.Timer(0.2, lambda: os.kill(node.server.pid, signal.SIGCONT))
    timer.start()
    views.clear()
    store.put(an_id(count), [b"y" * (CAPACITY - 100_000)], CAPACITY - 100_000)
    timer.join()
    assert len(store.list()) == 1


def test_nobody_there_is_an_error(tmp_path: object) -> None:
    with pytest.raises(RayConnectionError, match="no plasma store at"):
        PlasmaStore(f"plasma:{tmp_path}/nothing.sock")
    with pytest.raises(RayConnectionError, match="not the address"):
        PlasmaStore("heap:0")


def test_a_forked_child_lets_go_and_its_parent_goes_on(node: Node, store: PlasmaStore) -> None:
    store.put(an_id(1), [b"x" * 1000], 1000)
    view = store.get(an_id(1))
    store.create(an_id(2), 10)

    def child() -> None:
        nonlocal view
        before = len(os.listdir("/proc/self/fd"))
        store.abandon()
        assert len(os.listdir("/proc/self/fd")) == before - 3
        with pytest.raises(RayConnectionError):
            store.get(an_id(7))
        store.release(an_id(1))
        view = None
        store.close()
        other = node.connect()  # one of its own
        assert other.get(an_id(1)) == b"x" * 1000
        other.close()

    for _ in range(20):
        assert in_child(child) == 0
    assert view == b"x" * 1000
    assert {(row.object_id, row.state) for row in store.list()} == {(an_id(1), "sealed"), (an_id(2), "created")}
    store.seal(an_id(2))
    assert store.contains(an_id(2))


def test_views_of_a_child_that_ends_do_not_release_those_of_its_parent(node: Node, store: PlasmaStore) -> None:
    store.put(an_id(1), [b"x" * 1000], 1000)
    view = store.get(an_id(1))

    def child() -> None:
        nonlocal view
        view = None
        store.release(an_id(1))  # before any code tells it that it is a child

    assert in_child(child) == 0
    assert view == b"x" * 1000
    (row,) = store.list()
    assert row.holders == (os.getpid(),)
