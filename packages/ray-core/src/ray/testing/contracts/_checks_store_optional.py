"""What a store must do if it declares a capability. Each check takes a ``StoreSubject``."""

from __future__ import annotations

from ray.abc.store import SHARED, SPILLING, Store
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


def spilled_objects_come_back(subject: StoreSubject) -> None:
    chunk = subject.capacity_bytes // 4
    for number in range(8):  # twice the capacity
        fill(subject.store, an_id(number), bytes([number]) * chunk)
    for number in range(8):
        expect_equal(read(subject.store, an_id(number)), bytes([number]) * chunk, "a spilled object is read back")


#: {capability: what a store that declares it must do as well}
OPTIONAL: dict[str, tuple[Check, ...]] = {
    SHARED: (
        clients_see_each_others_objects,
        only_the_creator_seals,
        what_a_client_leaves_behind_is_cleared,
        holds_of_one_client_bind_the_others,
    ),
    SPILLING: (spilled_objects_come_back,),
}
