"""What every store must do. Each check takes a ``StoreSubject`` and raises ``ContractViolationError``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ray.abc.store import Store
from ray.exceptions import ObjectExistsError, ObjectStoreFullError
from ray.testing.contracts._expect import eventually, expect, expect_equal, expect_raises, in_time, on_threads

ALIGNMENT_BYTES = 64
#: Objects from this size on must be aligned.
ALIGNED_FROM_BYTES = 64 * 1024


@dataclass(frozen=True)
class StoreSubject:
    """A store under test: fresh, empty, and with a limit."""

    store: Store
    capacity_bytes: int
    connect: Callable[[], Store] | None = None
    """Opens one more client of the same store; the check closes it."""
    peek: Callable[[bytes], bytes | None] | None = None
    """Back door: the bytes of a sealed object, read without the store's own ``get``; None if there is none."""
    plant: Callable[[bytes, bytes], None] | None = None
    """Back door: make a sealed object without the store's own ``create``."""


Check: TypeAlias = Callable[[StoreSubject], None]


def an_id(number: int) -> bytes:
    """An object id; those of different numbers differ in the last bytes only."""
    return b"contract--check-" + number.to_bytes(4, "big")


def fill(store: Store, object_id: bytes, data: bytes) -> None:
    """Create, write and seal."""
    view = store.create(object_id, len(data))
    view[:] = data
    del view
    store.seal(object_id)


def read(store: Store, object_id: bytes) -> bytes | None:
    """Get, copy and release; None if it is not there."""
    view = store.get(object_id)
    if view is None:
        return None
    data = bytes(view)
    del view
    store.release(object_id)
    return data


def sealed_objects_are_read_back(subject: StoreSubject) -> None:
    sizes = (0, 1, 63, 64, 65, 4096, 100_000, ALIGNED_FROM_BYTES, subject.capacity_bytes // 8)
    contents = {
        an_id(n): bytes((n + i) % 251 for i in range(min(size, 997))).ljust(size, b".") for n, size in enumerate(sizes)
    }
    for object_id, data in contents.items():
        fill(subject.store, object_id, data)
    for object_id, data in reversed(contents.items()):
        expect_equal(read(subject.store, object_id), data, "get returns the bytes that were written before seal")


def created_memory_has_the_size_asked_for(subject: StoreSubject) -> None:
    for number, nbytes in enumerate((0, 1, 100, ALIGNED_FROM_BYTES + 1)):
        view = subject.store.create(an_id(number), nbytes)
        expect_equal((view.nbytes, view.format, view.readonly), (nbytes, "B", False), "create returns writable bytes")
        del view
        subject.store.abort(an_id(number))


def large_objects_are_aligned(subject: StoreSubject) -> None:
    for number, nbytes in enumerate((ALIGNED_FROM_BYTES, ALIGNED_FROM_BYTES + 8, 3 * ALIGNED_FROM_BYTES + 1)):
        view = subject.store.create(an_id(number), nbytes)
        first = ctypes.c_char.from_buffer(view)
        offset = ctypes.addressof(first) % ALIGNMENT_BYTES
        del first, view
        subject.store.abort(an_id(number))
        expect_equal(
            offset, 0, f"objects of {ALIGNED_FROM_BYTES} bytes and more start at a multiple of {ALIGNMENT_BYTES}"
        )


def unsealed_objects_are_invisible(subject: StoreSubject) -> None:
    store, object_id = subject.store, an_id(1)
    view = store.create(object_id, 100)
    expect(store.get(object_id) is None, "get returns None until the object is sealed")
    expect(not store.contains(object_id), "contains is False until the object is sealed")
    del view
    store.seal(object_id)
    expect(store.contains(object_id), "contains is True once the object is sealed")


def missing_objects_are_none_at_once(subject: StoreSubject) -> None:
    def look() -> None:
        expect(subject.store.get(an_id(1)) is None, "get returns None for an unknown id")
        expect(not subject.store.contains(an_id(1)), "contains is False for an unknown id")

    in_time(look, "get never waits")


def sealed_objects_are_read_only(subject: StoreSubject) -> None:
    fill(subject.store, an_id(1), b"x" * 1000)
    view = subject.store.get(an_id(1))
    assert view is not None
    expect(view.readonly, "get returns read-only memory")
    with expect_raises(TypeError, "writing to memory that get returned is refused"):
        view[0] = 1
    expect_equal((view.nbytes, view.format, view.contiguous), (1000, "B", True), "get returns contiguous bytes")


def the_creators_view_ends_with_seal(subject: StoreSubject) -> None:
    for number, nbytes in enumerate((1000, ALIGNED_FROM_BYTES)):
        view = subject.store.create(an_id(number), nbytes)
        view[:] = b"x" * nbytes
        subject.store.seal(an_id(number))
        try:
            view[0] = ord("y")
        except (ValueError, TypeError):
            pass  # released, or read-only now
        expect_equal(
            read(subject.store, an_id(number)), b"x" * nbytes, "nothing can change an object once it is sealed"
        )


def an_id_is_created_once(subject: StoreSubject) -> None:
    store, object_id = subject.store, an_id(1)
    store.create(object_id, 10)[:] = b"0123456789"
    with expect_raises(ObjectExistsError, "create refuses an id that is created"):
        store.create(object_id, 10)
    store.seal(object_id)
    with expect_raises(ObjectExistsError, "create refuses an id that is sealed"):
        store.create(object_id, 5)
    expect_equal(read(store, object_id), b"0123456789", "a refused create leaves the object as it was")


def seal_needs_an_unsealed_object(subject: StoreSubject) -> None:
    with expect_raises(KeyError, "seal refuses an unknown id"):
        subject.store.seal(an_id(1))
    fill(subject.store, an_id(1), b"x")
    with expect_raises(KeyError, "seal refuses an id that is sealed already"):
        subject.store.seal(an_id(1))


def abort_undoes_create(subject: StoreSubject) -> None:
    store, before = subject.store, subject.store.stats().used_bytes
    store.create(an_id(1), 5000)
    store.abort(an_id(1))
    expect(store.get(an_id(1)) is None and not store.contains(an_id(1)), "an aborted object does not exist")
    expect_equal(store.stats().used_bytes, before, "abort gives the memory back")
    fill(store, an_id(1), b"again")
    expect_equal(read(store, an_id(1)), b"again", "an aborted id can be created again")


def abort_needs_an_unsealed_object(subject: StoreSubject) -> None:
    with expect_raises(KeyError, "abort refuses an unknown id"):
        subject.store.abort(an_id(1))
    fill(subject.store, an_id(1), b"x")
    with expect_raises(KeyError, "abort refuses a sealed object"):
        subject.store.abort(an_id(1))
    expect_equal(read(subject.store, an_id(1)), b"x", "a refused abort leaves the object as it was")


def delete_forgets(subject: StoreSubject) -> None:
    store, before = subject.store, subject.store.stats().used_bytes
    fill(store, an_id(1), b"x" * 5000)
    expect(store.stats().used_bytes >= before + 5000, "stats count the bytes of an object")
    store.delete(an_id(1))
    expect(store.get(an_id(1)) is None and not store.contains(an_id(1)), "a deleted object does not exist")
    eventually(lambda: store.stats().used_bytes == before, "delete gives the memory back", 1.0)
    fill(store, an_id(1), b"again")
    expect_equal(read(store, an_id(1)), b"again", "a deleted id can be created again")


def unknown_ids_are_ignored(subject: StoreSubject) -> None:
    try:
        subject.store.delete(an_id(1))
        subject.store.release(an_id(1))
        fill(subject.store, an_id(2), b"x")
        subject.store.release(an_id(2))
    except Exception as error:
        expect(False, f"delete, and release without a hold, are ignored: {error!r}")
    expect_equal(read(subject.store, an_id(2)), b"x", "a release without a hold changes nothing")


def held_objects_outlive_delete(subject: StoreSubject) -> None:
    store, before = subject.store, subject.store.stats().used_bytes
    data = bytes(range(256)) * (subject.capacity_bytes // 4 // 256)
    fill(store, an_id(1), data)
    first, second = store.get(an_id(1)), store.get(an_id(1))
    assert first is not None
    del second
    store.delete(an_id(1))
    store.release(an_id(1))
    expect(store.stats().used_bytes >= before + len(data), "a deleted object keeps its memory while it is held")
    for number in range(2, 6):
        fill(store, an_id(number), b"\xff" * (len(data) // 2))
    expect_equal(bytes(first), data, "a held object keeps its bytes after delete")
    del first
    store.release(an_id(1))
    for number in range(2, 6):
        store.delete(an_id(number))
    eventually(lambda: store.stats().used_bytes == before, "the last release gives a deleted object's memory back", 1.0)


def views_outlive_release_and_delete(subject: StoreSubject) -> None:
    store = subject.store
    data = bytes(range(256)) * (subject.capacity_bytes // 4 // 256)
    fill(store, an_id(1), data)
    fill(store, an_id(2), data)
    whole, other = store.get(an_id(1)), store.get(an_id(2))
    assert whole is not None
    assert other is not None
    part = other[256:]
    del other
    store.release(an_id(1))
    store.release(an_id(2))
    store.delete(an_id(1))
    store.delete(an_id(2))
    for number in range(3, 6):
        fill(store, an_id(number), b"\xff" * (len(data) // 2))
    expect_equal(bytes(whole), data, "a view keeps its bytes after release and delete")
    expect_equal(bytes(part), data[256:], "a slice keeps its bytes after release and delete, and without its view")


def a_full_store_says_so(subject: StoreSubject) -> None:
    store, chunk = subject.store, subject.capacity_bytes // 4
    created = []
    with expect_raises(ObjectStoreFullError, "create refuses what exceeds the capacity"):
        for number in range(6):
            store.create(an_id(number), chunk)
            created.append(an_id(number))
    expect(len(created) >= 2, "a store of four chunks takes at least two")
    refused = an_id(len(created))
    expect(not store.contains(refused), "a refused create leaves no trace")
    for object_id in created:
        store.abort(object_id)
    try:
        fill(store, refused, b"small")
    except ObjectExistsError as error:
        expect(False, f"a refused create leaves no trace: {error}")
    expect_equal(read(store, refused), b"small", "an id whose create was refused can be created later")


def no_object_is_larger_than_the_store(subject: StoreSubject) -> None:
    with expect_raises(ObjectStoreFullError, "create refuses an object twice as large as the store") as raised:
        subject.store.create(an_id(1), 2 * subject.capacity_bytes)
    expect("larger than the store" in str(raised[0]), f"the error says that nothing else makes room: {raised[0]}")
    with expect_raises(ObjectStoreFullError, "create refuses an object larger than the store"):
        subject.store.create(an_id(1), subject.capacity_bytes + 1)
    fill(subject.store, an_id(1), b"x")


def memory_does_not_leak(subject: StoreSubject) -> None:
    store, before = subject.store, subject.store.stats()
    for number in range(40):  # ten times the capacity
        object_id = an_id(number)
        try:
            fill(store, object_id, b"x" * (subject.capacity_bytes // 4))
        except ObjectStoreFullError as error:
            expect(False, f"what is deleted makes room: {error}")
        store.get(object_id)
        store.release(object_id)
        store.delete(object_id)
    eventually(lambda: store.stats() == before, "stats are as before once everything is deleted", 1.0)


def stats_tell_counts_and_bytes(subject: StoreSubject) -> None:
    before = subject.store.stats()
    for number in range(3):
        fill(subject.store, an_id(number), b"x" * 1000)
    after = subject.store.stats()
    expect_equal(after.objects - before.objects, 3, "stats count objects")
    expect(after.used_bytes - before.used_bytes >= 3000, "stats count bytes")
    expect_equal(after.capacity_bytes, subject.capacity_bytes, "stats tell the capacity")


def many_objects_are_kept_apart(subject: StoreSubject) -> None:
    for number in range(500):
        fill(subject.store, an_id(number), number.to_bytes(4, "big") * 8)
    for number in range(0, 500, 2):
        subject.store.delete(an_id(number))
    for number in range(500):
        wanted = number.to_bytes(4, "big") * 8 if number % 2 else None
        expect_equal(read(subject.store, an_id(number)), wanted, "objects of similar ids are kept apart")


def threads_may_share_a_client(subject: StoreSubject) -> None:
    def work(index: int) -> None:
        for round_number in range(50):
            object_id = an_id(index * 1000 + round_number)
            data = bytes([index]) * (1000 + round_number)
            fill(subject.store, object_id, data)
            expect_equal(read(subject.store, object_id), data, "threads do not disturb each other's objects")
            subject.store.delete(object_id)

    on_threads(4, work, "a store serves several threads")
    winners: list[int] = []

    def race(index: int) -> None:
        try:
            subject.store.create(an_id(1), 10)
        except ObjectExistsError:
            return
        winners.append(index)

    on_threads(4, race, "a store serves several threads")
    expect_equal(len(winners), 1, "of threads that create one id, one succeeds")


def close_is_idempotent(subject: StoreSubject) -> None:
    fill(subject.store, an_id(1), b"x")
    subject.store.get(an_id(1))
    try:
        subject.store.close()
        subject.store.close()
    except Exception as error:
        expect(False, f"close can be called again: {error!r}")


def back_doors_agree(subject: StoreSubject) -> None:
    """Create and get are checked apart from each other, so that two mistakes cannot hide one another."""
    if subject.peek is not None:
        fill(subject.store, an_id(1), b"written through create")
        expect_equal(subject.peek(an_id(1)), b"written through create", "create, write and seal store the bytes")
        subject.store.delete(an_id(1))
        expect_equal(subject.peek(an_id(1)), None, "delete removes the object")
    if subject.plant is not None:
        subject.plant(an_id(2), b"planted")
        expect(subject.store.contains(an_id(2)), "contains sees an object that is there")
        expect_equal(read(subject.store, an_id(2)), b"planted", "get returns the bytes that are there")


REQUIRED: tuple[Check, ...] = (
    sealed_objects_are_read_back,
    created_memory_has_the_size_asked_for,
    large_objects_are_aligned,
    unsealed_objects_are_invisible,
    missing_objects_are_none_at_once,
    sealed_objects_are_read_only,
    the_creators_view_ends_with_seal,
    an_id_is_created_once,
    seal_needs_an_unsealed_object,
    abort_undoes_create,
    abort_needs_an_unsealed_object,
    delete_forgets,
    unknown_ids_are_ignored,
    held_objects_outlive_delete,
    views_outlive_release_and_delete,
    a_full_store_says_so,
    no_object_is_larger_than_the_store,
    memory_does_not_leak,
    stats_tell_counts_and_bytes,
    many_objects_are_kept_apart,
    threads_may_share_a_client,
    close_is_idempotent,
    back_doors_agree,
)
