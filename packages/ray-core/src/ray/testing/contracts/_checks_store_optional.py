"""What a store must do if it declares a capability. Each check takes a ``StoreSubject``."""

from __future__ import annotations

import contextlib
import os
import select

from ray.abc.store import (
    LISTING,
    NOTIFICATIONS,
    PINNING,
    SHARED,
    SPILLING,
    Listing,
    Notifier,
    Pinning,
    Spilling,
    Store,
    StoredObject,
)
from ray.exceptions import ObjectExistsError
from ray.testing.contracts._checks_store import Check, StoreSubject, an_id, fill, read
from ray.testing.contracts._expect import eventually, expect, expect_equal, expect_raises


def _second(subject: StoreSubject) -> Store:
    expect(subject.connect is not None, "a store that declares 'shared' is tested with a second client")
    assert subject.connect is not None
    return subject.connect()


def clients_see_each_others_objects(subject: StoreSubject) -> None:
    other = _second(subject)
    try:
        view = subject.store.create(an_id(1), 4)
        view[:] = b"data"
        del view
        expect(other.get(an_id(1)) is None and not other.contains(an_id(1)), "no client sees an unsealed object")
        subject.store.seal(an_id(1))
        eventually(lambda: other.contains(an_id(1)), "every client sees a sealed object", 1.0)
        seen = other.get(an_id(1))
        expect(seen is not None and seen.readonly, "every client gets read-only memory")
        expect_equal(seen and bytes(seen), b"data", "every client gets the same bytes")
    finally:
        other.close()


def only_the_creator_seals(subject: StoreSubject) -> None:
    other = _second(subject)
    try:
        subject.store.create(an_id(1), 4)[:] = b"data"
        with expect_raises(KeyError, "seal refuses an object that another client created"):
            other.seal(an_id(1))
        with expect_raises(KeyError, "abort refuses an object that another client created"):
            other.abort(an_id(1))
        with expect_raises(ObjectExistsError, "create refuses an id that another client created"):
            other.create(an_id(1), 4)
    finally:
        other.close()


def what_a_client_leaves_behind_is_cleared(subject: StoreSubject) -> None:
    store, other = subject.store, _second(subject)
    before = store.stats().used_bytes
    fill(store, an_id(1), b"x" * 10_000)
    other.create(an_id(2), 10_000)
    other.get(an_id(1))
    store.delete(an_id(1))
    other.close()
    eventually(lambda: store.stats().used_bytes == before, "close ends a client's holds and unsealed objects", 2.0)
    fill(store, an_id(2), b"mine")
    expect_equal(read(store, an_id(2)), b"mine", "an id that a client left unsealed can be created by another")


def holds_of_one_client_bind_the_others(subject: StoreSubject) -> None:
    store, other = subject.store, _second(subject)
    try:
        data = bytes(range(256)) * (subject.capacity_bytes // 4 // 256)
        fill(store, an_id(1), data)
        view = other.get(an_id(1))
        assert view is not None
        store.delete(an_id(1))
        for number in range(2, 6):
            fill(store, an_id(number), b"\xff" * (len(data) // 2))
        expect_equal(bytes(view), data, "an object that another client holds keeps its bytes after delete")
        del view
        other.release(an_id(1))
    finally:
        other.close()


def _notifier(subject: StoreSubject) -> Notifier:
    expect(isinstance(subject.store, Notifier), "a store that declares 'notifications' is a Notifier")
    assert isinstance(subject.store, Notifier)
    return subject.store


def _heard(subject: StoreSubject, marker: int, *, of: Store | None = None) -> list[tuple[bytes, int]]:
    """What a client hears up to word of an object that is made now, without it."""
    listener = of or subject.store
    assert isinstance(listener, Notifier)
    fill(subject.store, an_id(marker), b"marker")
    eventually(lambda: subject.store.contains(an_id(marker)), "a sealed object is there")
    listener.subscribe(an_id(marker))
    heard: list[tuple[bytes, int]] = []

    def marked() -> bool:
        heard.extend(listener.notifications())
        return (an_id(marker), 6) in heard

    eventually(marked, "a subscriber to a sealed object is told at once", 2.0)
    return [told for told in heard if told[0] != an_id(marker)]


def a_seal_is_told_once(subject: StoreSubject) -> None:
    notifier = _notifier(subject)
    notifier.subscribe(an_id(1))
    notifier.subscribe(an_id(1))
    view = subject.store.create(an_id(1), 100)
    expect_equal(_heard(subject, 2), [], "nothing is told of an object that is not sealed")
    del view
    subject.store.seal(an_id(1))
    expect_equal(_heard(subject, 3), [(an_id(1), 100)], "a subscriber is told once, with the size")
    subject.store.delete(an_id(1))
    fill(subject.store, an_id(1), b"again")
    expect_equal(_heard(subject, 4), [], "a client that has been told is not told again")


def only_what_was_asked_for_is_told(subject: StoreSubject) -> None:
    notifier = _notifier(subject)
    notifier.subscribe(an_id(1))
    notifier.subscribe(an_id(2))
    notifier.unsubscribe(an_id(2))
    notifier.unsubscribe(an_id(3))
    for number in (2, 3, 4):
        fill(subject.store, an_id(number), b"x")
        subject.store.delete(an_id(number))
    subject.store.create(an_id(5), 10)
    subject.store.abort(an_id(5))
    expect_equal(_heard(subject, 6), [], "nobody hears of an object that he did not ask for")


def the_end_of_an_unsealed_object_is_told(subject: StoreSubject) -> None:
    notifier = _notifier(subject)
    for number, end in enumerate((subject.store.abort, subject.store.delete)):
        notifier.subscribe(an_id(number))
        subject.store.create(an_id(number), 10)
        end(an_id(number))
    if SHARED in subject.store.capabilities:
        notifier.subscribe(an_id(2))
        other = _second(subject)
        other.create(an_id(2), 10)
        other.close()
        eventually(lambda: _created_again(subject.store, an_id(2)), "what a client leaves unsealed is undone", 2.0)
    count = 3 if SHARED in subject.store.capabilities else 2
    told = sorted(_heard(subject, 4))
    expect_equal(told, [(an_id(n), -1) for n in range(count)], "size -1 tells that an object was not sealed")


def _created_again(store: Store, object_id: bytes) -> bool:
    try:
        store.create(object_id, 1)
    except ObjectExistsError:
        return False
    store.abort(object_id)
    return True


def the_descriptor_tells_of_notifications(subject: StoreSubject) -> None:
    notifier = _notifier(subject)
    descriptor = notifier.notifications_fd()

    def readable() -> bool:
        return bool(select.select([descriptor], [], [], 0)[0])

    notifier.subscribe(an_id(1))
    expect(not readable(), "the descriptor is readable only while there are notifications")
    expect_equal(notifier.notifications(), [], "notifications never waits")
    fill(subject.store, an_id(1), b"x")
    eventually(readable, "the descriptor becomes readable with a notification", 2.0)
    expect_equal(notifier.notifications(), [(an_id(1), 1)], "a subscriber is told once, with the size")
    expect(not readable(), "the descriptor is not readable once everything has been told")


def each_client_hears_what_it_asked_for(subject: StoreSubject) -> None:
    notifier = _notifier(subject)
    if SHARED not in subject.store.capabilities:
        return
    other = _second(subject)
    try:
        assert isinstance(other, Notifier)
        notifier.subscribe(an_id(1))
        other.subscribe(an_id(2))
        for number in (1, 2):
            fill(subject.store, an_id(number), b"x")
        expect_equal(_heard(subject, 3), [(an_id(1), 1)], "each client hears of its own objects")
        expect_equal(_heard(subject, 4, of=other), [(an_id(2), 1)], "each client hears of its own objects")
    finally:
        other.close()


def _pinning(subject: StoreSubject) -> Pinning:
    expect(isinstance(subject.store, Pinning), "a store that declares 'pinning' is a Pinning")
    assert isinstance(subject.store, Pinning)
    return subject.store


def _fill_up(subject: StoreSubject) -> dict[int, bytes]:
    """Objects 1 to 4, after which there is no room for a fifth of their size."""
    contents = {number: bytes([number]) * (subject.capacity_bytes * 2 // 9) for number in range(1, 6)}
    for number in range(1, 5):
        fill(subject.store, an_id(number), contents[number])
    return contents


def unpinned_objects_make_room(subject: StoreSubject) -> None:
    store, pinning, contents = subject.store, _pinning(subject), _fill_up(subject)
    for number in (1, 2, 3, 4):
        pinning.unpin(an_id(number))
    expect(pinning.pin(an_id(1)), "pin of an object that is there succeeds")
    expect(not pinning.pin(an_id(9)), "pin of an object that is not there fails")
    expect_equal(read(store, an_id(2)), contents[2], "an unpinned object is readable while there is room")
    fill(store, an_id(5), contents[5])
    expect_equal(read(store, an_id(3)), None, "what is unpinned and least recently used makes room first")
    for number in (1, 2, 4, 5):
        expect_equal(read(store, an_id(number)), contents[number], "no more is dropped than is needed, nothing pinned")


def held_objects_are_not_dropped(subject: StoreSubject) -> None:
    store, pinning, contents = subject.store, _pinning(subject), _fill_up(subject)
    view = store.get(an_id(1))
    assert view is not None
    for number in (1, 2):
        pinning.unpin(an_id(number))
    fill(store, an_id(5), contents[5])
    expect(store.contains(an_id(1)), "an unpinned object is not dropped while it is held")
    expect_equal(bytes(view), contents[1], "an unpinned object keeps its bytes while it is held")
    expect(not store.contains(an_id(2)), "an unpinned object that nobody holds makes room")
    del view
    store.release(an_id(1))


def _listed(subject: StoreSubject) -> dict[bytes, StoredObject]:
    expect(isinstance(subject.store, Listing), "a store that declares 'listing' is a Listing")
    assert isinstance(subject.store, Listing)
    rows = subject.store.list()
    sizes = [row.nbytes for row in rows]
    expect_equal(sizes, sorted(sizes, reverse=True), "list shows the biggest first")
    expect_equal(len({row.object_id for row in rows}), len(rows), "list shows each object once")
    return {row.object_id: row for row in rows}


def everything_is_listed(subject: StoreSubject) -> None:
    store, me = subject.store, os.getpid()
    expect_equal(_listed(subject), {}, "an empty store lists nothing")
    view = store.create(an_id(1), 100)
    for number in range(2, 700):
        fill(store, an_id(number), b"x" * number)
    held, deleted = store.get(an_id(2)), store.get(an_id(3))
    store.delete(an_id(3))
    rows = _listed(subject)
    expect_equal(rows.get(an_id(1)), StoredObject(an_id(1), 100, "created", (me,)), "list shows unsealed objects")
    expect_equal(rows.get(an_id(2)), StoredObject(an_id(2), 2, "sealed", (me,)), "list shows what holds an object")
    expect_equal(rows.get(an_id(3)), StoredObject(an_id(3), 3, "deleted", (me,)), "list shows what is deleted and held")
    for number in range(4, 700):
        expect_equal(rows.get(an_id(number)), StoredObject(an_id(number), number, "sealed"), "list shows every object")
    expect_equal(len(rows), 699, "list shows nothing else")
    del view, held, deleted
    store.abort(an_id(1))
    for number in (2, 3):
        store.release(an_id(number))
    eventually(lambda: an_id(3) not in _listed(subject), "what is deleted is not listed when nobody holds it", 1.0)


def spilled_objects_come_back(subject: StoreSubject) -> None:
    chunk = subject.capacity_bytes // 4
    for number in range(8):  # twice the capacity
        fill(subject.store, an_id(number), bytes([number]) * chunk)
    for number in range(8):
        expect_equal(read(subject.store, an_id(number)), bytes([number]) * chunk, "a spilled object is read back")


def what_is_on_the_disk_is_not_had_at_once(subject: StoreSubject) -> None:
    store, chunk = subject.store, subject.capacity_bytes // 4
    expect(isinstance(store, Spilling), "a store that declares 'spilling' is a Spilling")
    assert isinstance(store, Spilling)
    for number in range(8):  # twice the capacity
        fill(store, an_id(number), bytes([number]) * chunk)
    seen = None
    with contextlib.suppress(BlockingIOError):
        seen = store.get_at_once(an_id(7))
    expect_equal(seen and bytes(seen), bytes([7]) * chunk, "get_at_once gives what is in memory")
    del seen
    store.release(an_id(7))
    with expect_raises(BlockingIOError, "get_at_once refuses to wait for the disk"):
        store.get_at_once(an_id(0))
    expect(store.get_at_once(an_id(8)) is None, "get_at_once knows what is not there")
    expect_equal(read(store, an_id(0)), bytes([0]) * chunk, "get brings back what get_at_once has refused")


def held_objects_are_not_spilled(subject: StoreSubject) -> None:
    chunk = subject.capacity_bytes // 8
    fill(subject.store, an_id(0), b"\xff" * chunk)
    view = subject.store.get(an_id(0))
    assert view is not None
    for number in range(1, 17):  # twice the capacity
        fill(subject.store, an_id(number), bytes([number]) * chunk)
    expect_equal(bytes(view), b"\xff" * chunk, "an object that is held keeps its bytes while others are spilled")
    del view
    subject.store.release(an_id(0))


def spilled_objects_are_counted(subject: StoreSubject) -> None:
    store, before = subject.store, subject.store.stats()
    chunk = subject.capacity_bytes // 4
    for number in range(8):
        fill(store, an_id(number), bytes([number]) * chunk)
    stats = store.stats()
    expect_equal(stats.objects - before.objects, 8, "spilled objects are counted as objects")
    expect(stats.used_bytes <= stats.capacity_bytes, "no more than the capacity is in memory")
    expect(stats.spilled_bytes >= 4 * chunk, "stats count the bytes that are spilled")
    for number in range(8):
        expect(store.contains(an_id(number)), "a spilled object is there")
        store.delete(an_id(number))
    eventually(lambda: store.stats() == before, "deleting spilled objects gives everything back", 2.0)


#: {capability: what a store that declares it must do as well}
OPTIONAL: dict[str, tuple[Check, ...]] = {
    SHARED: (
        clients_see_each_others_objects,
        only_the_creator_seals,
        what_a_client_leaves_behind_is_cleared,
        holds_of_one_client_bind_the_others,
    ),
    NOTIFICATIONS: (
        a_seal_is_told_once,
        only_what_was_asked_for_is_told,
        the_end_of_an_unsealed_object_is_told,
        the_descriptor_tells_of_notifications,
        each_client_hears_what_it_asked_for,
    ),
    PINNING: (unpinned_objects_make_room, held_objects_are_not_dropped),
    LISTING: (everything_is_listed,),
    SPILLING: (
        spilled_objects_come_back,
        what_is_on_the_disk_is_not_had_at_once,
        held_objects_are_not_spilled,
        spilled_objects_are_counted,
    ),
}
