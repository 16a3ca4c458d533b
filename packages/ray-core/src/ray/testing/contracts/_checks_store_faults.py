"""What a store must hold when its clients are refused, late, robbed and cut off: checks through ``FaultyStore``."""

from __future__ import annotations

import contextlib
import random

from ray.abc.store import SHARED, Store
from ray.exceptions import ObjectExistsError, ObjectStoreFullError, RayConnectionError
from ray.testing.contracts._checks_store import Check, StoreSubject, an_id
from ray.testing.contracts._expect import eventually, expect, expect_equal, expect_raises, on_threads
from ray.testing.faulty_store import FaultyStore

_IDS = 12
_CLIENTS = 3
_MAX_DELAY_S = 0.0005
#: Views that a client has at a time, so that it is cut off while it holds something.
_HELD = 2


def _content(subject: StoreSubject, number: int) -> bytes:
    """The bytes that the object ``number`` always has, so that every reader can tell whether they are right."""
    return bytes((number * 7 + i) % 251 for i in range(251)) * (
        1 + number * subject.capacity_bytes // 64 // _IDS // 251
    )


def _make(store: Store, object_id: bytes, data: bytes, chance: random.Random) -> None:
    """Put, or create, write and seal; what fails half-way is aborted."""
    if chance.random() < 0.5:
        store.put(object_id, [data[:10], memoryview(data)[10:]], len(data))
        return
    view = store.create(object_id, len(data))
    view[:] = data
    view.release()
    store.seal(object_id)


def faults_show_as_what_they_are(subject: StoreSubject) -> None:
    before = subject.store.stats()
    client = FaultyStore(subject.store, seed=1, full=0.3, lost=0.2, max_delay_s=_MAX_DELAY_S)
    chance = random.Random(2)
    there: set[int] = set()
    for _ in range(400):
        number = chance.randrange(_IDS)
        refusals, losses = client.injected["full"], client.injected["lost"]
        if chance.random() < 0.6:
            try:
                _make(client, an_id(number), _content(subject, number), chance)
                expect(number not in there, "an id is created once, whatever failed before")
                there.add(number)
            except ObjectStoreFullError:
                expect_equal(client.injected["full"], refusals + 1, "a store that has room refuses nothing")
            except ObjectExistsError:
                expect(number in there, "an id whose creation was refused can be created")
        elif chance.random() < 0.7:
            view = client.get(an_id(number))
            if view is not None:
                expect_equal(bytes(view), _content(subject, number), "what is read is what was written")
                client.release(an_id(number))
                expect(number in there, "only what was sealed is read")
            elif number in there:
                expect_equal(client.injected["lost"], losses + 1, "what was sealed is there")
                there.remove(number)
            del view
        else:
            client.delete(an_id(number))
            there.discard(number)
    expect(min(client.injected["full"], client.injected["lost"]) > 5, "some calls were hit")
    for number in there:
        client.delete(an_id(number))
    eventually(lambda: subject.store.stats() == before, "everything comes back in spite of the faults", 2.0)


def a_client_that_is_cut_off_hurts_nobody(subject: StoreSubject) -> None:
    assert subject.connect is not None
    store, before = subject.store, subject.store.stats()
    for seed in range(25):
        client = FaultyStore(subject.connect(), seed=seed, cut=0.1, max_delay_s=_MAX_DELAY_S)
        chance = random.Random(seed)
        sealed: set[int] = set()
        views: list[tuple[int, memoryview]] = []
        try:
            for _ in range(200):
                number = chance.randrange(_IDS)
                with contextlib.suppress(ObjectExistsError):
                    _make(client, an_id(number), _content(subject, number), chance)
                    sealed.add(number)
                view = client.get(an_id(number))
                expect(view is not None, "what was sealed is there")
                if view is not None:
                    views.append((number, view))
                del view
        except RayConnectionError:
            pass
        client.cut()
        _expect_cut_off(client)
        for number, view in views:
            expect_equal(bytes(view), _content(subject, number), "views stay as they are when the connection is lost")
        for number in sealed:
            seen = store.get(an_id(number))
            expect(seen is not None, "what was sealed outlives its maker's connection")
            expect_equal(bytes(seen or b""), _content(subject, number), "what is read is what was written")
            del seen
            store.release(an_id(number))
        views.clear()
        view = None
        for number in range(_IDS):
            store.delete(an_id(number))
        eventually(lambda: store.stats() == before, "what a lost client had comes back", 2.0)


def _expect_cut_off(client: FaultyStore) -> None:
    for call in (
        lambda: client.put(an_id(1), [b"x"], 1),
        lambda: client.create(an_id(1), 1),
        lambda: client.seal(an_id(1)),
        lambda: client.get(an_id(1)),
        lambda: client.contains(an_id(1)),
        client.stats,
    ):
        with expect_raises(RayConnectionError, "a client without connection says so"):
            call()
    client.release(an_id(1))
    client.delete(an_id(1))
    client.close()


def clients_come_and_go_without_a_wrong_byte(subject: StoreSubject) -> None:
    """Several at a time: each makes and deletes objects of its own, reads those of all, and connects again when cut."""
    connect, before = subject.connect, subject.store.stats()
    assert connect is not None

    def live(index: int) -> None:
        chance = random.Random(index)
        for seed in range(6):
            client = FaultyStore(
                connect(), seed=10 * index + seed, full=0.1, lost=0.02, cut=0.01, max_delay_s=_MAX_DELAY_S
            )
            held: list[tuple[int, memoryview]] = []
            with contextlib.suppress(RayConnectionError):
                for _ in range(60):
                    number = chance.randrange(_IDS // _CLIENTS) * _CLIENTS + index
                    with contextlib.suppress(ObjectExistsError, ObjectStoreFullError):
                        _make(client, an_id(number), _content(subject, number), chance)
                    if chance.random() < 0.2:
                        client.delete(an_id(number))
                    number = chance.randrange(_IDS)
                    view = client.get(an_id(number))
                    if view is not None:
                        expect_equal(bytes(view), _content(subject, number), "what is read is what was written")
                        held.append((number, view))
                    del view
                    if len(held) > _HELD:
                        number, view = held.pop(0)
                        expect_equal(bytes(view), _content(subject, number), "what is held stays as it was read")
                        client.release(an_id(number))
                        del view
            held.clear()
            client.close()

    on_threads(_CLIENTS, live, "clients with faults do not stop each other")
    for number in range(_IDS):
        subject.store.delete(an_id(number))
    eventually(lambda: subject.store.stats() == before, "everything comes back in spite of the faults", 2.0)


#: {capability that is needed, or "": checks}
UNDER_FAULTS: dict[str, tuple[Check, ...]] = {
    "": (faults_show_as_what_they_are,),
    SHARED: (a_client_that_is_cut_off_hurts_nobody, clients_come_and_go_without_a_wrong_byte),
}
