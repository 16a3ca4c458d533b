"""A contract that cannot fail is no contract: deliberately broken parts must fail the check that is meant for them.

Each case names the check, a sound part that passes it and a broken one that does not.
"""

from __future__ import annotations

import contextlib
import fnmatch
import math
import os
import random
import socket
import threading
import time
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ray
from ray.abc.control_operations import (
    Append,
    Claim,
    Commit,
    Delete,
    Expire,
    Get,
    Incr,
    Items,
    Keys,
    Put,
    StreamAppend,
    StreamPart,
    StreamRead,
    Ttl,
)
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
    StoreStats,
)
from ray.builtin import inproc_transport
from ray.builtin.embedded_control import EmbeddedControlServer, EmbeddedControlStore
from ray.builtin.executors import SerialExecutor, ThreadsExecutor
from ray.builtin.heap_store import HeapStore, _Buffer
from ray.builtin.inproc_transport import InprocConnection, InprocTransport
from ray.builtin.poll_selector import PollSelector
from ray.builtin.schedulers import HybridPolicy, SpreadPolicy
from ray.builtin.unix_connection import UnixConnection
from ray.builtin.unix_transport import UnixTransport
from ray.exceptions import ControlKindError, ControlStoreError, ObjectStoreFullError
from ray.testing.contracts import (
    _asking,
    _checks_control,
    _checks_control_asks,
    _checks_control_streams,
    _checks_control_times,
    _checks_executor,
    _checks_scheduler,
    _checks_selector,
    _checks_selector_ends,
    _checks_store,
    _checks_store_faults,
    _checks_store_interrupted,
    _checks_store_optional,
    _checks_store_puts,
    _checks_transport,
    _checks_transport_dialling,
    _checks_transport_ends,
    _checks_transport_interrupted,
    _checks_transport_strangers,
    _checks_transport_watched,
    _expect,
    _link,
)
from ray.testing.contracts._expect import ContractViolationError
from ray.testing.faults import FaultyControlStore
from ray_async.executor import AsyncioExecutor


@pytest.fixture(autouse=True)
def _short_deadlines(monkeypatch):
    monkeypatch.setattr(_expect, "DEADLINE_S", 0.5)


def bites(check, subject_of, sound, broken):
    """The sound part passes the check; the broken one breaks a rule, and nothing worse."""
    with subject_of(sound) as subject:
        check(subject)
    with subject_of(broken) as subject, pytest.raises(ContractViolationError):
        check(subject)


class Subject:
    """A subject that cleans up; parts that hang are released by the cleanups."""

    def __init__(self, subject, *cleanups):
        self.subject, self.cleanups = subject, cleanups

    def __enter__(self):
        return self.subject

    def __exit__(self, *error):
        for cleanup in self.cleanups:
            cleanup()


def cases(module_checks, table, later=()):
    """Pytest parameters: (check, broken part), with readable ids; one part for each check in the quick run.

    ``later``: checks of which none is for the quick run, as others of the same kind are.
    """
    seen = set(later)
    made = []
    for name, broken in table:
        marks = pytest.mark.slow if name in seen else ()
        seen.add(name)
        made.append(pytest.param(module_checks[name], broken, id=f"{name}-{broken.__name__}", marks=marks))
    return made


def checks_of(*modules):
    return {name: check for module in modules for name, check in vars(module).items() if callable(check)}


# --- stores ---------------------------------------------------------------------------------------------------------


class ShowsUnsealed(HeapStore):
    def get(self, object_id):
        buffer = self._objects.get(object_id)
        return buffer and memoryview(buffer.memory).toreadonly()


class SaysItIsThereTooEarly(HeapStore):
    def contains(self, object_id):
        return object_id in self._objects


class GivesWritableMemory(HeapStore):
    def get(self, object_id):
        return super().get(object_id) and memoryview(self._objects[object_id].memory)


class LeaksAfterDelete(HeapStore):
    def delete(self, object_id):
        self._objects.pop(object_id, None)


class FreesWhatIsHeld(HeapStore):
    def delete(self, object_id):
        buffer = self._objects.get(object_id)
        if buffer is not None:
            buffer.memory[:] = bytes(buffer.nbytes)
        super().delete(object_id)


class ForgetsHolds(HeapStore):
    def delete(self, object_id):
        if object_id in self._objects:
            self._objects[object_id].unreleased = 0
        super().delete(object_id)


class ReusesWhatIsReleased(HeapStore):
    """Ties the memory to ``release``, as a store of raw addresses would."""

    def delete(self, object_id):
        buffer = self._objects.get(object_id)
        super().delete(object_id)
        if buffer is not None and not buffer.unreleased and buffer.memory is None:
            self.gone[object_id][:] = bytes(buffer.nbytes)

    def get(self, object_id):
        view = super().get(object_id)
        self.gone = {**getattr(self, "gone", {}), object_id: view and self._objects[object_id].memory}
        return view


class FollowsTheFirstViewOnly(HeapStore):
    """Ties the memory to the memoryview that ``get`` returned, and not to slices of it."""

    def get(self, object_id):
        view = super().get(object_id)
        if view is not None:
            memory = self._objects[object_id].memory
            weakref.finalize(view, lambda: memory.__setitem__(slice(None), bytes(len(memory))))
        return view


class LeavesAGhost(HeapStore):
    def create(self, object_id, nbytes):
        try:
            return super().create(object_id, nbytes)
        except ObjectStoreFullError:
            self._objects[object_id] = _Buffer(0, bytearray())
            raise


class HasNoLimit(HeapStore):
    def create(self, object_id, nbytes):
        capacity, self._capacity_bytes = self._capacity_bytes, 0
        try:
            return super().create(object_id, nbytes)
        finally:
            self._capacity_bytes = capacity


class AdvisesInVain(HeapStore):
    def create(self, object_id, nbytes):
        try:
            return super().create(object_id, nbytes)
        except ObjectStoreFullError as error:
            raise ObjectStoreFullError(nbytes, 0, error.used_bytes) from None


class LeavesTheCreatorItsView(HeapStore):
    def seal(self, object_id):
        self._unsealed(object_id).writable = None


class Replaces(HeapStore):
    def create(self, object_id, nbytes):
        self.delete(object_id)
        return super().create(object_id, nbytes)


class IsNotAligned(HeapStore):
    def create(self, object_id, nbytes):
        return super().create(object_id, nbytes + 8)[8:]


class MixesUpIds(HeapStore):
    def get(self, object_id):
        return super().get(next((known for known in self._objects if known[:-1] == object_id[:-1]), object_id))


class SealsTwice(HeapStore):
    def seal(self, object_id):
        if not self.contains(object_id):
            super().seal(object_id)


class AbortsWhatIsSealed(HeapStore):
    def abort(self, object_id):
        self.delete(object_id)


class IsNotThreadSafe(HeapStore):
    def create(self, object_id, nbytes):
        if object_id in self._objects:
            return super().create(object_id, nbytes)
        time.sleep(0.01)
        self._objects[object_id] = buffer = _Buffer(nbytes, bytearray(nbytes))
        return buffer.writable


class PutsInAnyOrder(HeapStore):
    def put(self, object_id, pieces, nbytes, *, patient=True):
        super().put(object_id, pieces[::-1], nbytes)


class CopiesWhenRead(HeapStore):
    def __init__(self, capacity_bytes):
        super().__init__(capacity_bytes)
        self._uncopied = {}

    def put(self, object_id, pieces, nbytes, *, patient=True):
        super().put(object_id, pieces, nbytes)
        self._uncopied[object_id] = [memoryview(piece) for piece in pieces]

    def get(self, object_id):
        pieces = self._uncopied.pop(object_id, None)
        if pieces is not None:
            memoryview(self._objects[object_id].memory)[:] = b"".join(pieces)
        return super().get(object_id)


class SealsHalfAPut(HeapStore):
    def abort(self, object_id):
        self.seal(object_id)


class KeepsRoomForABrokenPut(HeapStore):
    def put(self, object_id, pieces, nbytes, *, patient=True):
        try:
            super().put(object_id, pieces, nbytes)
        except InterruptedError:
            self._used_bytes += nbytes
            raise


class CannotCloseTwice(HeapStore):
    def close(self):
        if self._closed:
            raise ValueError("closed already")
        super().close()


CAPACITY = 2 * 1024 * 1024


class PlainLock:
    """Gives up after a while, so that no thread is left behind."""

    def __init__(self):
        self.lock = threading.Lock()

    def __enter__(self):
        if not self.lock.acquire(timeout=1.0):
            raise TimeoutError

    def __exit__(self, *error):
        self.lock.release()


class LetsNobodyInTwice(HeapStore):
    def __init__(self, capacity_bytes):
        super().__init__(capacity_bytes)
        self.turn = PlainLock()

    def create(self, object_id, nbytes):
        with self.turn:
            return super().create(object_id, nbytes)


class LetsOneThreadIn(LetsNobodyInTwice):
    def __init__(self, capacity_bytes):
        super().__init__(capacity_bytes)
        self.turn = threading.RLock()


class RemembersOneId(HeapStore):
    def get(self, object_id):
        self.wanted = object_id
        self.contains(object_id)
        return super().get(self.wanted)


class IgnoresReleasesInside(HeapStore):
    releases = False

    def release(self, object_id):
        if not self.releases:
            self.releases = True
            super().release(object_id)
            self.releases = False


def store_subject(kind):
    store = kind(CAPACITY)

    def peek(object_id):
        buffer = store._objects.get(object_id)
        return None if buffer is None or buffer.writable is not None else bytes(buffer.memory)

    return Subject(_checks_store.StoreSubject(store, CAPACITY, peek=peek))


@pytest.mark.parametrize(
    ("check", "broken"),
    cases(
        checks_of(_checks_store, _checks_store_puts, _checks_store_faults, _checks_store_interrupted),
        [
            ("puts_interrupt_puts", LetsNobodyInTwice),
            ("puts_interrupt_puts", RemembersOneId),
            ("creations_interrupt_creations", LetsNobodyInTwice),
            ("others_go_on_while_a_call_is_interrupted", LetsOneThreadIn),
            ("creations_interrupt_creations", RemembersOneId),
            ("uses_of_one_object_interrupt_each_other", IgnoresReleasesInside),
            ("unsealed_objects_are_invisible", ShowsUnsealed),
            ("unsealed_objects_are_invisible", SaysItIsThereTooEarly),
            ("sealed_objects_are_read_only", GivesWritableMemory),
            ("delete_forgets", LeaksAfterDelete),
            ("memory_does_not_leak", LeaksAfterDelete),
            ("held_objects_outlive_delete", FreesWhatIsHeld),
            ("held_objects_outlive_delete", ForgetsHolds),
            ("views_outlive_release_and_delete", ReusesWhatIsReleased),
            ("views_outlive_release_and_delete", FollowsTheFirstViewOnly),
            ("a_full_store_says_so", LeavesAGhost),
            ("a_full_store_says_so", HasNoLimit),
            ("no_object_is_larger_than_the_store", HasNoLimit),
            ("no_object_is_larger_than_the_store", AdvisesInVain),
            ("the_creators_view_ends_with_seal", LeavesTheCreatorItsView),
            ("an_id_is_created_once", Replaces),
            ("large_objects_are_aligned", IsNotAligned),
            ("many_objects_are_kept_apart", MixesUpIds),
            ("seal_needs_an_unsealed_object", SealsTwice),
            ("abort_needs_an_unsealed_object", AbortsWhatIsSealed),
            ("threads_may_share_a_client", IsNotThreadSafe),
            ("close_is_idempotent", CannotCloseTwice),
            ("put_stores_the_pieces_in_their_order", PutsInAnyOrder),
            ("what_is_put_may_change_afterwards", CopiesWhenRead),
            ("a_put_that_breaks_off_leaves_nothing", SealsHalfAPut),
            ("a_put_that_breaks_off_leaves_nothing", KeepsRoomForABrokenPut),
            ("faults_show_as_what_they_are", LeaksAfterDelete),
            ("faults_show_as_what_they_are", Replaces),
            ("faults_show_as_what_they_are", PutsInAnyOrder),
        ],
    ),
)
def test_stores(check, broken):
    bites(check, store_subject, HeapStore, broken)


class SharedClient(Store):
    """One of several clients of a heap, as a node's store would serve them."""

    name = "shared-heap"
    capabilities = frozenset({SHARED})

    def __init__(self, heap):
        self.heap = heap
        self.unsealed = set()
        self.holds = Counter()

    def create(self, object_id, nbytes):
        view = self.heap.create(object_id, nbytes)
        self.unsealed.add(object_id)
        return view

    def seal(self, object_id):
        self.unsealed.remove(object_id)
        self.heap.seal(object_id)

    def abort(self, object_id):
        self.unsealed.remove(object_id)
        self.heap.abort(object_id)

    def get(self, object_id):
        view = self.heap.get(object_id)
        self.holds[object_id] += view is not None
        return view

    def contains(self, object_id):
        return self.heap.contains(object_id)

    def release(self, object_id):
        if self.holds[object_id]:
            self.holds[object_id] -= 1
            self.heap.release(object_id)

    def delete(self, object_id):
        self.heap.delete(object_id)

    def stats(self):
        return self.heap.stats()

    def close(self):
        for object_id in self.holds.elements():
            self.heap.release(object_id)
        for object_id in self.unsealed:
            self.heap.abort(object_id)
        self.holds.clear()
        self.unsealed.clear()


class SeesOnlyItsOwn(SharedClient):
    own: Any = None

    def seal(self, object_id):
        super().seal(object_id)
        self.own = {*(self.own or ()), object_id}

    def contains(self, object_id):
        return object_id in (self.own or ()) and super().contains(object_id)


class SealsForOthers(SharedClient):
    def seal(self, object_id):
        self.heap.seal(object_id)


class LeavesItsHolds(SharedClient):
    def close(self):
        pass


class IgnoresOthersHolds(SharedClient):
    def delete(self, object_id):
        buffer = self.heap._objects.get(object_id)
        if buffer is not None and not self.holds[object_id]:
            buffer.memory[:] = bytes(buffer.nbytes)
        super().delete(object_id)


class TakesItsObjectsAlong(SharedClient):
    """What a lost client had made goes with it, sealed or not."""

    def seal(self, object_id):
        super().seal(object_id)
        self.made = {*getattr(self, "made", ()), object_id}

    def close(self):
        super().close()
        for object_id in getattr(self, "made", ()):
            self.delete(object_id)


class WipesWhatItHeld(SharedClient):
    """Views end with their client, as if their memory had been given to others."""

    def close(self):
        for object_id in self.holds:
            if object_id in self.heap._objects:
                memory = self.heap._objects[object_id].memory
                memory[:] = bytes(len(memory))
        super().close()


def shared_subject(kind):
    heap = HeapStore(CAPACITY)
    return Subject(_checks_store.StoreSubject(kind(heap), CAPACITY, lambda: kind(heap)))


@pytest.mark.parametrize(
    ("check", "broken"),
    cases(
        checks_of(_checks_store_optional, _checks_store_faults),
        [
            ("clients_see_each_others_objects", SeesOnlyItsOwn),
            ("only_the_creator_seals", SealsForOthers),
            ("what_a_client_leaves_behind_is_cleared", LeavesItsHolds),
            ("holds_of_one_client_bind_the_others", IgnoresOthersHolds),
            ("a_client_that_is_cut_off_hurts_nobody", LeavesItsHolds),
            ("a_client_that_is_cut_off_hurts_nobody", TakesItsObjectsAlong),
            ("a_client_that_is_cut_off_hurts_nobody", WipesWhatItHeld),
            ("clients_come_and_go_without_a_wrong_byte", WipesWhatItHeld),
        ],
    ),
)
def test_shared_stores(check, broken):
    bites(check, shared_subject, SharedClient, broken)


class AbleHeap(HeapStore, Notifier, Pinning, Spilling, Listing):
    """A heap that can do what a store may be able to do, in the plainest way."""

    capabilities = frozenset({NOTIFICATIONS, PINNING, SPILLING, LISTING})

    def __init__(self, capacity_bytes):
        super().__init__(capacity_bytes)
        self.disk, self.loose, self.wanted, self.heard = {}, {}, set(), []
        self.bell, self.rope = os.pipe()

    def create(self, object_id, nbytes):
        if nbytes > self._capacity_bytes or object_id in self.disk:
            return super().create(object_id, self._capacity_bytes + 1)
        while self._used_bytes + nbytes > self._capacity_bytes and object_id not in self._objects:
            if not self.make_room():
                break
        return super().create(object_id, nbytes)

    def victims(self):
        idle = [key for key, buffer in self._objects.items() if buffer.writable is None and not buffer.unreleased]
        return [key for key in self.loose if key in idle] or [key for key in idle if key not in self.loose]

    def make_room(self):
        for victim in self.victims()[:1]:
            if victim not in self.loose:
                self.disk[victim] = bytes(self._objects[victim].memory)
            self.drop(victim)
            return True
        return False

    def drop(self, object_id):
        self.loose.pop(object_id, None)
        super().delete(object_id)

    def seal(self, object_id):
        super().seal(object_id)
        self.tell(object_id, self._objects[object_id].nbytes)

    def abort(self, object_id):
        super().abort(object_id)
        self.tell(object_id, -1)

    def get(self, object_id):
        if object_id in self.disk:
            data = self.disk.pop(object_id)
            AbleHeap.create(self, object_id, len(data))[:] = data
            HeapStore.seal(self, object_id)
        if object_id in self.loose:
            self.loose[object_id] = self.loose.pop(object_id)
        return super().get(object_id)

    def get_at_once(self, object_id):
        if object_id in self.disk:
            raise BlockingIOError
        return self.get(object_id)

    def contains(self, object_id):
        return object_id in self.disk or super().contains(object_id)

    def delete(self, object_id):
        if object_id in self._objects and self._objects[object_id].writable is not None:
            self.tell(object_id, -1)
        self.disk.pop(object_id, None)
        self.drop(object_id)

    def stats(self):
        spilled = sum(map(len, self.disk.values()))
        return StoreStats(len(self._objects) + len(self.disk), self._used_bytes, self._capacity_bytes, spilled)

    def subscribe(self, object_id):
        self.wanted.add(object_id)
        if self.contains(object_id):
            self.tell(object_id, self._objects[object_id].nbytes)

    def unsubscribe(self, object_id):
        self.wanted.discard(object_id)

    def tell(self, object_id, nbytes):
        if object_id in self.wanted:
            self.wanted.discard(object_id)
            self.ring(object_id, nbytes)

    def ring(self, object_id, nbytes):
        self.heard.append((object_id, nbytes))
        os.write(self.rope, b"!")

    def notifications_fd(self):
        return self.bell

    def notifications(self):
        heard, self.heard = self.heard, []
        if heard:
            os.read(self.bell, len(heard))
        return heard

    def unpin(self, object_id):
        self.loose[object_id] = None

    def pin(self, object_id):
        self.loose.pop(object_id, None)
        return self.contains(object_id)

    def list(self):
        def row(key, buffer, state):
            holds = buffer.unreleased or buffer.writable is not None
            return StoredObject(key, buffer.nbytes, state, (os.getpid(),) if holds else ())

        rows = [row(key, buffer, "created" if buffer.writable else "sealed") for key, buffer in self._objects.items()]
        rows += [row(key, buffer, "deleted") for key, dying in self._held.aside.items() for buffer in dying]
        rows += [StoredObject(key, len(data), "spilled") for key, data in self.disk.items()]
        return sorted(rows, key=lambda row: -row.nbytes)

    def really_close(self):
        os.close(self.bell)
        os.close(self.rope)


class TellsEverybodyEverything(AbleHeap):
    def tell(self, object_id, nbytes):
        self.ring(object_id, nbytes)


class TellsOfCreate(AbleHeap):
    def create(self, object_id, nbytes):
        view = super().create(object_id, nbytes)
        self.tell(object_id, nbytes)
        return view


class TellsEachTime(AbleHeap):
    def tell(self, object_id, nbytes):
        if object_id in self.wanted:
            self.ring(object_id, nbytes)


class TellsOnlyWhatIsToCome(AbleHeap):
    def subscribe(self, object_id):
        self.wanted.add(object_id)


class CannotUnsubscribe(AbleHeap):
    def unsubscribe(self, object_id):
        pass


class IsSilentAboutTheEnd(AbleHeap):
    def abort(self, object_id):
        HeapStore.abort(self, object_id)


class HasABrokenBell(AbleHeap):
    def ring(self, object_id, nbytes):
        self.heard.append((object_id, nbytes))

    def notifications(self):
        heard, self.heard = self.heard, []
        return heard


class RingsForEver(AbleHeap):
    def notifications(self):
        heard, self.heard = self.heard, []
        return heard


class DropsTheNewest(AbleHeap):
    def victims(self):
        return super().victims()[::-1]


class DropsWhatIsPinned(AbleHeap):
    def make_room(self):
        for victim in self.victims()[:1]:
            self.drop(victim)
            return True
        return False


class CannotPinAgain(AbleHeap):
    def pin(self, object_id):
        return self.contains(object_id)


class PinsWhatIsNotThere(AbleHeap):
    def pin(self, object_id):
        super().pin(object_id)
        return True


class DropsWhatIsHeld(AbleHeap):
    def victims(self):
        return list(self.loose) or list(self._objects)

    def drop(self, object_id):
        buffer = self._objects.get(object_id)
        if buffer is not None and buffer.unreleased:
            buffer.memory[:] = bytes(buffer.nbytes)
            buffer.unreleased = 0
        super().drop(object_id)


class ListsOnePage(AbleHeap):
    def list(self):
        return super().list()[:512]


class ListsNoHolders(AbleHeap):
    def list(self):
        return [StoredObject(row.object_id, row.nbytes, row.state) for row in super().list()]


class ListsTheSmallestFirst(AbleHeap):
    def list(self):
        return super().list()[::-1]


class SpillsGarbage(AbleHeap):
    def make_room(self):
        made = super().make_room()
        self.disk = {key: data[:-1] + b"?" for key, data in self.disk.items()}
        return made


class WaitsForTheDisk(AbleHeap):
    def get_at_once(self, object_id):
        return self.get(object_id)


class HasNothingAtOnce(AbleHeap):
    def get_at_once(self, object_id):
        if self.contains(object_id):
            raise BlockingIOError


class DoesNotCountTheDisk(AbleHeap):
    def stats(self):
        return StoreStats(len(self._objects), self._used_bytes, self._capacity_bytes)


class LeavesTheDiskFull(AbleHeap):
    def delete(self, object_id):
        self.drop(object_id)


def able_subject(kind):
    store = kind(CAPACITY)
    return Subject(_checks_store.StoreSubject(store, CAPACITY), store.close, store.really_close)


@pytest.mark.parametrize(
    ("check", "broken"),
    cases(
        checks_of(_checks_store_optional),
        [
            ("a_seal_is_told_once", TellsOfCreate),
            ("a_seal_is_told_once", TellsEachTime),
            ("a_seal_is_told_once", TellsOnlyWhatIsToCome),
            ("only_what_was_asked_for_is_told", TellsEverybodyEverything),
            ("only_what_was_asked_for_is_told", CannotUnsubscribe),
            ("the_end_of_an_unsealed_object_is_told", IsSilentAboutTheEnd),
            ("the_descriptor_tells_of_notifications", HasABrokenBell),
            ("the_descriptor_tells_of_notifications", RingsForEver),
            ("unpinned_objects_make_room", DropsTheNewest),
            ("unpinned_objects_make_room", CannotPinAgain),
            ("unpinned_objects_make_room", PinsWhatIsNotThere),
            ("held_objects_are_not_dropped", DropsWhatIsHeld),
            ("everything_is_listed", ListsOnePage),
            ("everything_is_listed", ListsNoHolders),
            ("everything_is_listed", ListsTheSmallestFirst),
            ("spilled_objects_come_back", SpillsGarbage),
            ("spilled_objects_come_back", DropsWhatIsPinned),
            ("what_is_on_the_disk_is_not_had_at_once", WaitsForTheDisk),
            ("what_is_on_the_disk_is_not_had_at_once", HasNothingAtOnce),
            ("held_objects_are_not_spilled", DropsWhatIsHeld),
            ("spilled_objects_are_counted", DoesNotCountTheDisk),
            ("spilled_objects_are_counted", LeavesTheDiskFull),
        ],
    ),
)
def test_able_stores(check, broken):
    bites(check, able_subject, AbleHeap, broken)


class DeafClient(SharedClient, Notifier):
    """Every client of one heap hears what any of them asked for."""

    capabilities = frozenset({SHARED, NOTIFICATIONS})

    def subscribe(self, object_id):
        self.heap.subscribe(object_id)

    def unsubscribe(self, object_id):
        self.heap.unsubscribe(object_id)

    def notifications_fd(self):
        return self.heap.notifications_fd()

    def notifications(self):
        return self.heap.notifications()


def test_clients_that_hear_for_each_other_are_noticed():
    heap = AbleHeap(CAPACITY)
    store = DeafClient(heap)
    subject = _checks_store.StoreSubject(store, CAPACITY, lambda: DeafClient(heap))
    with Subject(subject, store.close, heap.really_close), pytest.raises(ContractViolationError):
        _checks_store_optional.each_client_hears_what_it_asked_for(subject)


@pytest.mark.parametrize(
    "check",
    [*_checks_store.REQUIRED, *sum(_checks_store_faults.UNDER_FAULTS.values(), ())],
    ids=lambda check: check.__name__,
)
def test_the_shared_reference_is_sound(check):
    with shared_subject(SharedClient) as subject:
        check(subject)


# --- transports -----------------------------------------------------------------------------------------------------


class DropsTheLastFrame(InprocTransport):
    def put(self, connection, frames, nbytes, *given):
        super().put(connection, frames and frames[: max(1, len(frames) - 1)], nbytes)


class Reorders(InprocTransport):
    def poll(self, timeout_s):
        return super().poll(timeout_s)[::-1]


class Doubles(InprocTransport):
    def put(self, connection, frames, nbytes, *given):
        super().put(connection, frames, nbytes)
        if frames == [b"7", b"x" * 7]:
            super().put(connection, frames, nbytes)


class SharesMemory(InprocTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        connection.send = lambda frames: connection._peer.transport.put(connection._peer, list(frames), 0)
        return connection


class IsDeaf(InprocTransport):
    def wake(self):
        pass


class NeverTellsTheEnd(InprocTransport):
    def poll(self, timeout_s):
        return [event for event in super().poll(timeout_s) if event[1] is not None]


class TellsTheEndTwice(InprocTransport):
    def poll(self, timeout_s):
        return [event for event in super().poll(timeout_s) for _ in range(1 if event[1] is not None else 2)]


class EndsTheOthers(InprocTransport):
    def put(self, connection, frames, nbytes, *given):
        super().put(connection, frames, nbytes)
        if frames is None:
            for other in list(self.connections):
                super().put(other, None, 0)


class ForgetsToFlush(InprocTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        send, kept = connection.send, []

        def send_the_one_before(frames):
            if kept:
                send(kept.pop())
            kept.append(frames)

        connection.send, connection.close = send_the_one_before, connection.abort
        return connection


class Spins(InprocTransport):
    def poll(self, timeout_s):
        return super().poll(0)


class PollsByTheProgramsClock(InprocTransport):
    def poll(self, timeout_s):
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not (messages := super().poll(0)) and (end is None or time.monotonic() < end):
            time.sleep(0.001)
        return messages


class WaitsForThePeer(InprocTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)

        def send(frames, send=connection.send):
            send(frames)
            while connection.queued_bytes and not connection.closed:
                time.sleep(0.001)

        connection.send = send
        return connection


class WakesWhoeverHasItsDescriptor(InprocTransport):
    def wake(self):
        try:
            os.write(self._wake_write, b"\0")
        except OSError:
            pass


class LeaksADescriptor(InprocTransport):
    def close(self):
        if not self._closed:
            self._extra = os.dup(self._wake_read)
        super().close()

    def really_close(self):
        os.close(self._extra)


class MakesNewConnections(InprocTransport):
    def poll(self, timeout_s):
        events = super().poll(timeout_s)
        copies = [InprocConnection(self) for _ in events]
        return [
            (copy if frames else connection, frames) for copy, (connection, frames) in zip(copies, events, strict=True)
        ]


class ForgetsWatchedDescriptors(InprocTransport):
    def watch(self, fd, on_readable):
        if not self._selector.get_map():
            super().watch(fd, on_readable)


class AcceptsAnyAddress(InprocTransport):
    def dial(self, address, timeout_s=5.0):
        listener = inproc_transport._listeners.get(address)
        return InprocConnection.pair(self, listener or self)


class RaisesThatNobodyListens(InprocTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        if connection.failure:
            raise connection.failure
        return connection


class FailsWithoutAReason(InprocTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        connection.failure = None
        return connection


class SaysNotWhere(InprocTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        if connection.failure:
            connection.failure = ConnectionError("nobody listens there")
        return connection


class HasAReasonForEveryLoss(InprocTransport):
    def poll(self, timeout_s):
        events = super().poll(timeout_s)
        for connection, frames in events:
            if frames is None and connection.failure is None:
                connection.failure = ConnectionError("the peer is gone")
        return events


class _Dials(InprocTransport):
    """Takes a while, and does something with what is sent meanwhile."""

    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        early, send = [], connection.send

        def send_early(frames):
            early.append(list(frames))
            if len(early) == 3:
                connection.send = send
                self.stands(send, early)

        connection.send = send_early
        return connection


class SendsTheFirstLater(_Dials):
    def stands(self, send, early):
        for frames in early[::-1]:
            send(frames)


class DropsWhatComesBeforeItStands(_Dials):
    def stands(self, send, early):
        pass


class MakesOneConnectionOfTwo(InprocTransport):
    def dial(self, address, timeout_s=5.0):
        for connection in self.connections:
            if connection._peer.transport is inproc_transport._listeners.get(address):
                return connection
        return super().dial(address, timeout_s)


class TellsOfItsOwnAborts(InprocTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        abort = connection.abort

        def abort_and_tell():
            abort()
            self._taken.append((connection, None))

        connection.abort = abort_and_tell
        return connection


class AbortsLater(InprocTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        connection.abort = lambda: None
        return connection


class RaisesOnDeadConnections(InprocTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)

        def send(frames, send=connection.send):
            if connection.closed:
                raise BrokenPipeError(32, "the peer is gone")
            send(frames)

        connection.send = send
        return connection


class KeepsMessagesInItsFrame(InprocTransport):
    def poll(self, timeout_s):
        events = []
        for event in super().poll(timeout_s):
            events.append(event)  # noqa: PERF402 - a call may interrupt this
        return events


class TakesBeforeItKeeps(InprocTransport):
    def _take(self):
        while self._inbox:
            connection, frames, nbytes = self._inbox.popleft()
            connection.handed_over(nbytes)
            self._taken.append((connection, frames))


class PollsOnceAtATime(InprocTransport):
    polls = False

    def poll(self, timeout_s):
        if self.polls:
            return []
        self.polls = True
        try:
            return super().poll(timeout_s)
        finally:
            self.polls = False


class PollsBetweenSends(InprocTransport):
    """The thread that polls waits for one that sends."""

    def __init__(self):
        super().__init__()
        self.sends = threading.RLock()

    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)

        def send(frames, send=connection.send):
            with self.sends:
                send(frames)

        connection.send = send
        return connection

    def poll(self, timeout_s):
        with self.sends:
            pass
        return super().poll(timeout_s)


class DialsOnlyOutsideDials(InprocTransport):
    def __init__(self):
        super().__init__()
        self.connecting = threading.Lock()

    def dial(self, address, timeout_s=5.0):
        if not self.connecting.acquire(timeout=1.0):
            raise ConnectionError("another call dials")
        try:
            return super().dial(address, timeout_s)
        finally:
            self.connecting.release()


class SendsInTwoSteps(InprocTransport):
    """As a library would that lets signals interrupt its calls."""

    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        half: list[list[bytes]] = []

        def send(frames, send=connection.send):
            half.append(frames)
            time.sleep(0.0005)
            send(half.pop(0))

        connection.send = send
        return connection


class SendsWhoeverElseDoes(InprocTransport):
    def put(self, connection, frames, nbytes, *given):
        super().put(connection, frames, nbytes)


class SaysTooSoonThatItIsQueued(InprocTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)

        def send(frames, send=connection.send):
            message = tuple(frames)
            if message[0] is not None:
                if isinstance(frames, list):
                    frames[0] = None
                send(message)

        connection.send = send
        return connection


def transport_subject(kind):
    made = []

    def make():
        made.append(kind())
        return made[-1]

    def close():
        for transport in made:
            InprocTransport.wake(transport)  # for a check that waits in poll for ever
            for connection in list(transport.connections):
                connection.abort()
        for transport in made:
            for thread in threading.enumerate():
                if thread.name == "contract-check":
                    thread.join(5)
            transport.close()
            getattr(transport, "really_close", int)()

    return Subject(_link.TransportSubject(make), close)


@pytest.mark.parametrize(
    ("check", "broken"),
    cases(
        checks_of(_checks_transport, _checks_transport_dialling, _checks_transport_ends, _checks_transport_interrupted),
        [
            ("polls_interrupt_polls", KeepsMessagesInItsFrame),
            ("polls_interrupt_polls", TakesBeforeItKeeps),
            ("polls_interrupt_polls", PollsOnceAtATime),
            ("sends_interrupt_sends", PollsBetweenSends),
            ("dials_interrupt_dials", DialsOnlyOutsideDials),
            ("a_message_is_sent_by_one_of_two", SendsWhoeverElseDoes),
            ("a_message_is_sent_by_one_of_two", SaysTooSoonThatItIsQueued),
            ("signals_interrupt_calls", SendsInTwoSteps),
            ("messages_arrive_whole", DropsTheLastFrame),
            ("messages_arrive_once_and_in_order", Reorders),
            ("messages_arrive_once_and_in_order", Doubles),
            ("frames_belong_to_the_receiver", SharesMemory),
            ("wake_ends_poll", IsDeaf),
            ("a_closed_peer_is_reported_once", NeverTellsTheEnd),
            ("a_closed_peer_is_reported_once", TellsTheEndTwice),
            ("an_end_is_nobody_elses", EndsTheOthers),
            ("close_flushes", ForgetsToFlush),
            ("poll_waits_as_told", Spins),
            ("poll_goes_by_the_real_clock", PollsByTheProgramsClock),
            ("send_never_blocks", WaitsForThePeer),
            ("close_releases_everything", WakesWhoeverHasItsDescriptor),
            ("close_releases_everything", LeaksADescriptor),
            ("a_connection_keeps_its_context", MakesNewConnections),
            ("connections_are_kept_apart", MakesNewConnections),
            ("descriptors_are_watched", ForgetsWatchedDescriptors),
            ("connect_waits", AcceptsAnyAddress),
            ("dialling_nobody_is_reported", AcceptsAnyAddress),
            ("dialling_nobody_is_reported", RaisesThatNobodyListens),
            ("dialling_nobody_is_reported", FailsWithoutAReason),
            ("dialling_nobody_is_reported", SaysNotWhere),
            ("dialling_nobody_is_reported", TellsTheEndTwice),
            ("connect_waits", SaysNotWhere),
            ("a_connection_that_stood_has_no_failure", HasAReasonForEveryLoss),
            ("what_is_sent_while_it_dials_goes_first", SendsTheFirstLater),
            ("what_is_sent_while_it_dials_goes_first", DropsWhatComesBeforeItStands),
            ("many_dial_at_once", MakesOneConnectionOfTwo),
            ("close_while_it_dials_flushes", DropsWhatComesBeforeItStands),
            ("close_while_it_dials_flushes", ForgetsToFlush),
            ("abort_while_it_dials_is_silent", TellsOfItsOwnAborts),
            ("abort_while_it_dials_is_silent", AbortsLater),
            ("sends_to_nobody_are_dropped", RaisesOnDeadConnections),
        ],
    ),
)
def test_transports(check, broken):
    before = set(threading.enumerate())
    bites(check, transport_subject, InprocTransport, broken)
    for thread in set(threading.enumerate()) - before:
        thread.join(5)


class HangsUpForTheParent(UnixTransport):
    def abandon(self):
        for connection in list(self._connections.values()):
            connection._sock.shutdown(socket.SHUT_RDWR)
        super().abandon()


class RemovesTheParentsSocket(UnixTransport):
    def abandon(self):
        if self._listener:
            os.unlink(self._listener.path)
        super().abandon()


class UnregistersForTheParent(UnixTransport):
    is_own_process = True  # so that abort in the child reaches for the shared poller


class ForgetsWhatASendHasBegun(UnixTransport):
    def catch_up(self):
        pass


class _KeepsItsClaim(UnixConnection):
    def go_on(self):
        if self._out and not self._watched and not self.closed:
            self.write()


class LetsNobodyElseWrite(UnixTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        connection.__class__ = _KeepsItsClaim
        return connection


class SettlesTooSoon(UnixTransport):
    """Sends a little later than it says."""

    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        send = connection.send
        connection.send = lambda frames: threading.Timer(0.2, send, (frames,)).start()
        return connection


class SettlesForEver(UnixTransport):
    def settle(self, timeout_s):
        time.sleep(60)


class ExplainsEveryDeath(UnixTransport):
    def abort_reason(self, last_words):
        return "the peer is gone"


class WaitsForTheListener(UnixTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        while connection.dialling:
            self.try_again(0.001)
        return connection


class NeverGivesUp(UnixTransport):
    def dial(self, address, timeout_s=5.0):
        return super().dial(address, timeout_s * 1000)


class DialsBeforeItPolls(UnixTransport):
    """The thread that polls waits until all is decided."""

    def poll(self, timeout_s):
        while self._dials.waiting:
            self.try_again(0.001)
        return super().poll(timeout_s)


class FailsWithOthers(UnixTransport):
    def poll(self, timeout_s):
        events = super().poll(timeout_s)
        if any(connection.failure for connection, _ in events):
            for connection in list(self._connections.values()):
                connection.abort()
        return events


class DialsOneAfterTheOther(UnixTransport):
    """As a library would that knows of one attempt at a time."""

    def dial(self, address, timeout_s=5.0):
        others = len(self._dials.waiting)
        return super().dial(address, timeout_s * (1 + others))


class AbortsOnlyWhatStands(UnixTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        abort = connection.abort
        connection.abort = lambda: None if connection.dialling else abort()
        return connection


class SettlesWhatIsNotSent(UnixTransport):
    def settle(self, timeout_s):
        return True


class ClosesForEver(UnixTransport):
    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        close = connection.close

        def close_once_it_is_sent():
            while connection.queued_bytes:
                time.sleep(0.001)
            close()

        connection.close = close_once_it_is_sent
        return connection


class KeepsWhatItDialled(UnixTransport):
    """The descriptor stays open where the connection has never stood."""

    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        if connection.dialling:
            self.__dict__.setdefault("kept", []).append(os.dup(connection.fd))
        return connection

    def really_close(self):
        for fd in self.__dict__.get("kept", ()):
            os.close(fd)


class EndsAllThatIsDialledInAFork(UnixTransport):
    def abandon(self):
        for connection in list(self._connections.values()):
            if not connection.dialling:
                connection._sock.shutdown(socket.SHUT_RDWR)
        super().abandon()


class ForgetsWhatDialsInside(UnixTransport):
    """Unix sockets stand at once; here they do so in the second poll, of which none may be inside another one."""

    def dial(self, address, timeout_s=5.0):
        connection = super().dial(address, timeout_s)
        held, send = [], connection.send
        connection.send = held.append
        self.__dict__.setdefault("held", []).append((send, held))
        return connection

    def poll(self, timeout_s):
        held, self.held = self.__dict__.get("held", []), []
        events = super().poll(timeout_s)
        for send, early in held:
            for frames in early:
                send(frames)
        return events


class KeepsEverybody(UnixTransport):
    def _tend(self, listener):
        pass


class HearsAnybody(UnixTransport):
    """Does not look at the client that has just come."""

    def _accept(self):
        super()._accept()
        for connection in list(self._connections.values()):
            self.introduced(connection)


class ForgetsWhoHasSpoken(UnixTransport):
    def introduced(self, connection):
        connection.first_bytes = 1 << 40


class WantsEveryMessageSmall(UnixTransport):
    def introduced(self, connection):
        self._listener.strangers.left(connection)


class AcceptsOrFails(UnixTransport):
    """Minds nothing that the system says when it gives no descriptor."""

    def _accept(self):
        os.close(os.dup(self._listener.fd))
        super()._accept()


class LetsNobodyInAgain(UnixTransport):
    def _tend(self, listener):
        if listener.paused_until:
            listener.paused_until = float("inf")
        super()._tend(listener)


class CanBeWatched(UnixTransport):
    """A sound one: what its poll minds beside the descriptors, it minds before another one waits."""

    def fileno(self):
        return self._poller._impl.fileno()

    def prepare(self, timeout_s):
        limit_s = self._dials.wait_s(timeout_s) if self._dials.waiting else timeout_s
        return 0.0 if self.inbox or self._late else limit_s


class ShowsNothing(CanBeWatched):
    def __init__(self, session_dir):
        super().__init__(session_dir)
        self.pipe = os.pipe()

    def fileno(self):
        return self.pipe[0]

    def really_close(self):
        for fd in self.pipe:
            os.close(fd)


class ShowsAlwaysSomething(ShowsNothing):
    def __init__(self, session_dir):
        super().__init__(session_dir)
        os.write(self.pipe[1], b"1")


class LetsWaitForAsLongAsAsked(CanBeWatched):
    def prepare(self, timeout_s):
        return timeout_s


@pytest.mark.parametrize(
    ("check", "broken"),
    [
        ("its_descriptor_tells_of_messages", ShowsNothing),
        pytest.param("its_descriptor_tells_of_ends", ShowsNothing, marks=pytest.mark.slow),
        ("its_descriptor_is_quiet", ShowsAlwaysSomething),
        ("prepare_minds_the_time_of_dials", LetsWaitForAsLongAsAsked),
    ],
)
def test_transports_that_can_be_watched(check, broken, tmp_path_factory):
    bites(vars(_checks_transport_watched)[check], _unix_subjects(tmp_path_factory), CanBeWatched, broken)


@pytest.mark.parametrize(
    ("check", "broken"),
    [
        ("a_lack_of_descriptors_costs_the_newcomer_alone", AcceptsOrFails),
        pytest.param("a_lack_of_descriptors_costs_the_newcomer_alone", LetsNobodyInAgain, marks=pytest.mark.slow),
        ("a_large_first_message_is_refused", HearsAnybody),
        pytest.param("strangers_have_to_leave", KeepsEverybody, marks=pytest.mark.slow),
        pytest.param("strangers_have_to_leave", ForgetsWhoHasSpoken, marks=pytest.mark.slow),
        pytest.param("a_large_first_message_is_refused", WantsEveryMessageSmall, marks=pytest.mark.slow),
        ("a_black_hole_blocks_nobody", WaitsForTheListener),
        pytest.param("a_black_hole_blocks_nobody", NeverGivesUp, marks=pytest.mark.slow),
        pytest.param("a_black_hole_blocks_nobody", DialsBeforeItPolls, marks=pytest.mark.slow),
        pytest.param("a_black_hole_blocks_nobody", FailsWithOthers, marks=pytest.mark.slow),
        ("many_black_holes_fail_together", DialsOneAfterTheOther),
        ("a_black_hole_can_be_given_up", AbortsOnlyWhatStands),
        pytest.param("a_black_hole_can_be_given_up", SettlesWhatIsNotSent, marks=pytest.mark.slow),
        pytest.param("a_black_hole_can_be_given_up", ClosesForEver, marks=pytest.mark.slow),
        pytest.param("a_black_hole_can_be_given_up", KeepsWhatItDialled, marks=pytest.mark.slow),
        ("a_fork_while_it_dials_disturbs_nobody", EndsAllThatIsDialledInAFork),
        ("what_dials_goes_on_inside", ForgetsWhatDialsInside),
        ("a_forked_child_disturbs_nobody", HangsUpForTheParent),
        pytest.param("a_forked_child_disturbs_nobody", RemovesTheParentsSocket, marks=pytest.mark.slow),
        pytest.param("a_forked_child_disturbs_nobody", UnregistersForTheParent, marks=pytest.mark.slow),
        ("deaths_of_others_are_not_explained", ExplainsEveryDeath),
        ("what_was_settled_outlives_its_process", SettlesTooSoon),
        pytest.param("what_was_settled_outlives_its_process", SettlesForEver, marks=pytest.mark.slow),
        ("what_a_send_has_begun_goes_on_inside", ForgetsWhatASendHasBegun),
        ("a_message_is_sent_by_one_of_two", LetsNobodyElseWrite),
    ],
)
def test_transports_between_processes(check, broken, tmp_path_factory):
    modules = (
        _checks_transport_dialling,
        _checks_transport_ends,
        _checks_transport_strangers,
        _checks_transport_interrupted,
    )
    bites(checks_of(*modules)[check], _unix_subjects(tmp_path_factory), UnixTransport, broken)


def _unix_subjects(tmp_path_factory):
    """Makes the subject of a kind of unix transport."""
    folder = Path(os.path.relpath(tmp_path_factory.mktemp("s")))  # short enough for a socket, wherever it is
    numbers = iter(range(1000))

    def subject_of(kind):
        made = []

        def make():
            own = folder / str(next(numbers))
            own.mkdir(exist_ok=True)  # a forked child has counted as well
            made.append(kind(str(own)))
            return made[-1]

        @contextlib.contextmanager
        def black_hole():
            path = str(folder / f"hole-{next(numbers)}")
            with contextlib.ExitStack() as stack:
                listener = stack.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(path)
                listener.listen(0)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        filler = stack.enter_context(socket.socket(socket.AF_UNIX))
                        filler.setblocking(False)
                        filler.connect(path)
                yield f"unix:{path}"

        def close():
            for transport in made:
                for connection in list(transport._connections.values()):
                    UnixConnection.abort(connection)  # for a check that waits for ever
                transport.close()
                getattr(transport, "really_close", int)()

        return Subject(_link.TransportSubject(make, black_hole), close)

    return subject_of


# --- schedulers -----------------------------------------------------------------------------------------------------


class LooksAtTotals(SpreadPolicy):
    def choose(self, request, nodes):
        return next((n.node_id for n in nodes if n.total.get("CPU", 0) >= request.resources.get("CPU", 0)), None)


class ThrowsDice(SpreadPolicy):
    def choose(self, request, nodes):
        roomy = [node.node_id for node in nodes if _checks_scheduler.has_room(request, node)]
        return random.choice(roomy) if roomy else None


class TakesTurns(SpreadPolicy):
    count = 0

    def choose(self, request, nodes):
        self.count += 1
        roomy = [node.node_id for node in nodes if _checks_scheduler.has_room(request, node)]
        return roomy[self.count % len(roomy)] if roomy else None


class SeesOnlyTheLocalNode(HybridPolicy):
    def choose(self, request, nodes):
        return super().choose(request, [node for node in nodes if node.is_local])


class CountsCpusOnly(SpreadPolicy):
    def choose(self, request, nodes):
        return super().choose(_checks_scheduler.a_request(CPU=request.resources.get("CPU", 0) / 10_000), nodes)


class RefusesOverloadedNodes(SpreadPolicy):
    def choose(self, request, nodes):
        return super().choose(request, [node for node in nodes if min(node.available.values()) > 0])


class BooksTheNode(SpreadPolicy):
    def choose(self, request, nodes):
        chosen = super().choose(request, nodes)
        for node in nodes:
            if node.node_id == chosen:
                node.available["CPU"] -= request.resources.get("CPU", 0) + 1
        return chosen


@pytest.mark.parametrize(
    ("check", "broken"),
    cases(
        checks_of(_checks_scheduler),
        [
            ("full_nodes_are_not_chosen", LooksAtTotals),
            ("whoever_has_room_is_found", LooksAtTotals),
            ("the_same_input_gives_the_same_answer", ThrowsDice),
            ("the_same_input_gives_the_same_answer", TakesTurns),
            ("the_only_node_with_room_is_chosen", SeesOnlyTheLocalNode),
            ("whoever_has_room_is_found", SeesOnlyTheLocalNode),
            ("full_nodes_are_not_chosen", CountsCpusOnly),
            ("nothing_is_free_everywhere", RefusesOverloadedNodes),
            ("the_input_is_not_changed", BooksTheNode),
        ],
    ),
)
def test_schedulers(check, broken):
    bites(check, lambda kind: Subject(_checks_scheduler.SchedulerSubject(kind)), SpreadPolicy, broken)


# --- control stores -------------------------------------------------------------------------------------------------


class Asks(EmbeddedControlStore):
    """Changes what is asked, or what is answered, before it is."""

    def ask(self, op, on_answer, *, timeout_s=10.0):
        op, on_answer = self.changed(op, on_answer)
        super().ask(op, on_answer, timeout_s=timeout_s)

    def changed(self, op, on_answer):
        if isinstance(op, self.of):
            op = self.other(op)
        return op, on_answer

    def now(self, op):
        return self._server.do(op)


class AlwaysOverwrites(Asks):
    of = Put

    def other(self, op):
        return Put(op.key, op.value, ttl_s=op.ttl_s)


class LooksBeforeItLeaps(Asks):
    def changed(self, op, on_answer):
        if isinstance(op, Put) and not op.overwrite and self.now(Get(op.key)) is None:
            time.sleep(0.01)
            op = Put(op.key, op.value)
        if isinstance(op, Claim) and op.new is not None and self.now(Get(op.key)) == op.old:
            time.sleep(0.01)
            op = Put(op.key, op.new)
            wrapped = on_answer
            on_answer = lambda answer: wrapped(True)  # noqa: E731
        return op, on_answer


class ClaimsWhatIsTaken(Asks):
    of = Claim

    def other(self, op):
        return op if op.old is None or op.new is None else Put(op.key, op.new)


class TakesEmptyForFree(Asks):
    of = Claim

    def other(self, op):
        return Claim(op.key, op.old or self.now(Get(op.key)), op.new) if op.old == b"" else op


class ForgetsToFree(Asks):
    of = Claim

    def other(self, op):
        return op if op.new is not None else Claim(op.key, op.old, b"")


class ForgetsWhatIsWritten(Asks):
    of = Commit

    def other(self, op):
        return Commit(op.key, op.held, op.claims, op.writes[:1])


class CommitsWhatItCan(Asks):
    def changed(self, op, on_answer):
        if isinstance(op, Commit):
            for each in op.claims if self.now(Get(op.key)) == op.held else ():
                self.now(each)
        return op, on_answer


class LooksBeforeItCommits(Asks):
    def changed(self, op, on_answer):
        if isinstance(op, Commit) and all(self.now(Get(claim.key)) == claim.old for claim in op.claims):
            time.sleep(0.01)
            for claim in op.claims:
                self.now(Put(claim.key, claim.new))
            return Commit(op.key, op.held, (), op.writes), on_answer
        return op, on_answer


class CountsWhatIsNoCounter(Asks):
    of = Incr

    def other(self, op):
        value = self.now(Get(op.key))
        if isinstance(value, bytes):
            self.now(Put(op.key, b"%d" % int("".join(filter(str.isdigit, value.decode())) or 0)))
        return op


class CountsForItself(Asks):
    def changed(self, op, on_answer):
        return (Incr(f"{op.key} {id(self)}", op.by) if isinstance(op, Incr) else op), on_answer


class ForgetsTimes(Asks):
    of = (Put, Claim)

    def other(self, op):
        return msgspec.structs.replace(op, ttl_s=None)


class EndsEarly(Asks):
    of = (Put, Claim)

    def other(self, op):
        return op if op.ttl_s is None else msgspec.structs.replace(op, ttl_s=op.ttl_s / 2)


class LeavesTimesAlone(Asks):
    of = (Put, Claim)

    def other(self, op):
        left_s = self.now(Ttl(op.key))
        return op if op.ttl_s or left_s in (None, math.inf) else msgspec.structs.replace(op, ttl_s=left_s)


class RenewsWithoutLooking(Asks):
    of = Claim

    def other(self, op):
        self.now(Expire(op.key, op.ttl_s))
        return op


class CountersStay(Asks):
    of = Incr

    def other(self, op):
        self.now(Expire(op.key, None))
        return op


class FreeIsForGood(Asks):
    def changed(self, op, on_answer):
        return op, (lambda answer: on_answer(math.inf if answer is None else answer)) if type(op) is Ttl else on_answer


class DoesNotSort(Asks):
    def changed(self, op, on_answer):
        return op, (lambda answer: on_answer(answer[::-1])) if type(op) is Keys else on_answer


class SortsAsUtf16(Asks):
    def changed(self, op, on_answer):
        def other(keys):
            on_answer(sorted(keys, key=lambda key: key.encode("utf-16-be")))

        return op, other if type(op) is Keys else on_answer


class TakesPrefixesForPatterns(Asks):
    def changed(self, op, on_answer):
        if type(op) is not Keys:
            return op, on_answer
        return Keys(""), lambda answer: on_answer(fnmatch.filter(answer, op.key + "*"))


class DropsTheNewest(Asks):
    def changed(self, op, on_answer):
        if type(op) is Append and len(self.now(Items(op.key))) >= op.max_items:
            op = Items(op.key)
        return op, on_answer


class TellsNoCounts(Asks):
    def changed(self, op, on_answer):
        return op, (lambda answer: on_answer(None)) if type(op) is Append else on_answer


class OtherKindsAreEmpty(Asks):
    """As if a key that holds something else were free."""

    def changed(self, op, on_answer):
        def other(answer):
            on_answer(None if isinstance(answer, ControlKindError) else answer)

        return op, other


class RaisesWhatItCannotDo(EmbeddedControlStore):
    def ask(self, op, on_answer, *, timeout_s=10.0):
        answer = self._server.do(op)
        if isinstance(answer, ControlStoreError):
            raise answer
        self._box.settle(self._box.owe(op, on_answer, timeout_s), answer)


class ReplacesOtherKinds(Asks):
    of = (Append, StreamAppend)

    def other(self, op):
        if isinstance(self.now(Get(op.key)), bytes):
            self.now(Delete(op.key))
        return op


class KeepsLists(Asks):
    def changed(self, op, on_answer):
        if type(op) is Delete and isinstance(self.now(Get(op.key)), ControlKindError):
            op = Claim(op.key, b"", None)
        return op, on_answer


class NeverHints(EmbeddedControlStore):
    def subscribe(self, prefix, on_change):
        return lambda: None


class HintsForEver(EmbeddedControlStore):
    def subscribe(self, prefix, on_change):
        super().subscribe(prefix, on_change)
        return lambda: None


class HintsWhatWasBefore(EmbeddedControlStore):
    """A hint that has not been delivered comes after the end of its subscription."""

    def subscribe(self, prefix, on_change):
        end = super().subscribe(prefix, on_change)

        def end_later():
            end()
            for subscription, _ in self._box._hinted:
                subscription.ended = False

        return end_later


class HintsEverything(EmbeddedControlStore):
    def subscribe(self, prefix, on_change):
        return super().subscribe("", on_change)


class HintsAtOnce(EmbeddedControlStore):
    """On the thread that makes the change."""

    def subscribe(self, prefix, on_change):
        self._box.hint = lambda subscription, key: threading.Thread(target=on_change, args=(key,)).start()
        return super().subscribe(prefix, on_change)


class ReadsAgain(Asks):
    """The entry that is known, too."""

    of = StreamRead

    def other(self, op):
        return StreamRead(op.key, str(int(op.after or 1) - 1), op.max_items)


class ChangedParts(Asks):
    def changed(self, op, on_answer):
        return op, (lambda part: on_answer(self.part(op, part))) if type(op) is StreamRead else on_answer


class SwallowsGaps(ChangedParts):
    def part(self, op, part):
        return StreamPart(part.entries, part.newest, False)


class SeesGapsEverywhere(ChangedParts):
    def part(self, op, part):
        return StreamPart(part.entries, part.newest, bool(part.entries))


class TellsTheLastIdIfAny(ChangedParts):
    def part(self, op, part):
        return StreamPart(part.entries, part.entries[-1][0] if part.entries else "", part.gap)


class StreamsBackwards(ChangedParts):
    def part(self, op, part):
        return StreamPart(part.entries[::-1], part.newest, part.gap)


class ReadsAllThereIs(Asks):
    of = StreamRead

    def other(self, op):
        return StreamRead(op.key, op.after, 10**6)


class StreamsWithoutEnd(Asks):
    of = StreamAppend

    def other(self, op):
        return StreamAppend(op.key, op.value, 10**6)


class NumbersAnew(Asks):
    of = StreamAppend

    def other(self, op):
        if not self.now(StreamRead(op.key)).entries:
            self._server._state._newest = 0
        return op


class AnswersAtOnce(EmbeddedControlStore):
    def ask(self, op, on_answer, *, timeout_s=10.0):
        on_answer(self._server.do(op))


class AnswersOnAThread(EmbeddedControlStore):
    def ask(self, op, on_answer, *, timeout_s=10.0):
        answer = self._server.do(op)
        threading.Timer(0.01, on_answer, (answer,)).start()


class AnswersTwice(EmbeddedControlStore):
    def ask(self, op, on_answer, *, timeout_s=10.0):
        for answer in [self._server.do(op)] * (1 + isinstance(op, (Put, Incr))):
            self._box.settle(self._box.owe(op, on_answer, timeout_s), answer)


class DoesTwice(Asks):
    of = Incr

    def other(self, op):
        if threading.current_thread() is not threading.main_thread() and random.random() < 0.1:
            self.now(op)
        return op


class AnswersBackwards(EmbeddedControlStore):
    def deliver(self):
        self._box._ready.reverse()
        super().deliver()


class AnswersErrorsFirst(EmbeddedControlStore):
    def deliver(self):
        ready = sorted(self._box._ready, key=lambda call: not isinstance(call[1], Exception))
        self._box._ready.clear()
        self._box._ready.extend(ready)
        super().deliver()


class IsNeverReadableAgain(EmbeddedControlStore):
    def __init__(self, address):
        super().__init__(address)
        self._box._wake = lambda: None


class IsReadableForEver(EmbeddedControlStore):
    def deliver(self):
        super().deliver()
        self._box._wake()


class FailsWithWhatItCalls(EmbeddedControlStore):
    def deliver(self):
        while self._box._ready:
            function, argument = self._box._ready.popleft()
            function(argument)


class DropsTheRestOfAFailure(EmbeddedControlStore):
    def deliver(self):
        try:
            FailsWithWhatItCalls.deliver(self)
        except RuntimeError:
            self._box._ready.clear()


class DeliversWithoutEnd(EmbeddedControlStore):
    def deliver(self):
        end = time.monotonic() + 2  # gives up, so that no thread is left behind
        while self._box._ready and time.monotonic() < end:
            super().deliver()


class ForgetsWhatItOwes(EmbeddedControlStore):
    def close(self):
        self._box._ready.clear()
        super().close()


class AnswersAfterItsEnd(EmbeddedControlStore):
    def close(self):
        self.late = getattr(self, "late", None) or list(self._box._ready)
        self._box._ready.clear()
        super().close()

    def deliver(self):
        super().deliver()
        for function, argument in getattr(self, "late", ()):
            function(argument)


class SaysNothingWhenClosed(EmbeddedControlStore):
    def ask(self, op, on_answer, *, timeout_s=10.0):
        if not self._box.closed:
            super().ask(op, on_answer, timeout_s=timeout_s)


class CannotCloseTwice(EmbeddedControlStore):
    def close(self):
        if self._box.closed:
            raise ValueError("closed already")
        super().close()


class ClosesUnderItsAnswers(EmbeddedControlStore):
    """Those that were not delivered when one of them closed it are gone."""

    def close(self):
        if not self._box.closed:
            self._box._call = lambda count: None
            super().close()
            self._box._ready.clear()


def control_subject(kind):
    server = EmbeddedControlServer()
    handles = []

    def connect():
        handles.append(kind(server.address))
        return handles[-1]

    def close():
        for handle in handles:
            if not handle._box.closed:
                handle.close()
        server.close()

    return Subject(_asking.ControlSubject(connect(), connect), close)


@pytest.mark.parametrize(
    ("check", "broken"),
    cases(
        checks_of(_checks_control, _checks_control_times, _checks_control_streams, _checks_control_asks),
        [
            ("put_can_spare_what_is_there", AlwaysOverwrites),
            ("one_of_many_puts_a_key", LooksBeforeItLeaps),
            ("one_of_many_claims_a_key", LooksBeforeItLeaps),
            ("a_claim_compares_and_sets", ClaimsWhatIsTaken),
            ("several_keys_are_written_in_one_step", ForgetsWhatIsWritten),
            ("a_commit_is_whole_or_not_at_all", CommitsWhatItCan),
            ("one_of_many_commits", LooksBeforeItCommits),
            ("a_claim_compares_and_sets", TakesEmptyForFree),
            ("a_claim_compares_and_sets", ForgetsToFree),
            ("counters_count", CountsWhatIsNoCounter),
            ("no_count_is_lost", CountsForItself),
            ("keys_end_with_their_time", ForgetsTimes),
            ("keys_end_with_their_time", EndsEarly),
            ("the_time_that_is_left_is_told", ForgetsTimes),
            ("the_time_that_is_left_is_told", FreeIsForGood),
            ("what_replaces_a_value_replaces_its_time", LeavesTimesAlone),
            ("what_replaces_a_value_replaces_its_time", RenewsWithoutLooking),
            ("what_replaces_a_value_replaces_its_time", CountersStay),
            ("keys_are_listed_by_prefix", DoesNotSort),
            ("keys_are_listed_by_prefix", SortsAsUtf16),
            ("keys_are_listed_by_prefix", TakesPrefixesForPatterns),
            ("lists_keep_their_order", TellsNoCounts),
            ("lists_are_bounded", DropsTheNewest),
            ("other_kinds_are_refused", OtherKindsAreEmpty),
            ("other_kinds_are_refused", RaisesWhatItCannotDo),
            ("other_kinds_are_refused", ReplacesOtherKinds),
            ("changes_are_hinted", NeverHints),
            ("changes_are_hinted", HintsEverything),
            ("a_subscription_ends", HintsForEver),
            ("a_subscriber_may_fail_or_ask", FailsWithWhatItCalls),
            ("delete_frees", KeepsLists),
            ("streams_keep_their_order", StreamsBackwards),
            ("streams_keep_their_order", SeesGapsEverywhere),
            ("streams_are_read_on", ReadsAgain),
            ("streams_are_read_on", ReadsAllThereIs),
            ("streams_are_read_on", TellsTheLastIdIfAny),
            ("streams_drop_their_oldest", SwallowsGaps),
            ("streams_drop_their_oldest", StreamsWithoutEnd),
            ("a_deleted_stream_begins_anew", NumbersAnew),
            ("answers_come_in_deliver", AnswersAtOnce),
            ("answers_come_in_deliver", AnswersOnAThread),
            ("answers_come_in_deliver", AnswersTwice),
            ("the_descriptor_tells_of_answers", IsNeverReadableAgain),
            ("the_descriptor_tells_of_answers", IsReadableForEver),
            ("hints_come_in_deliver", HintsAtOnce),
            ("hints_come_in_deliver", IsNeverReadableAgain),
            ("asks_keep_their_order", AnswersBackwards),
            ("asks_keep_their_order", AnswersErrorsFirst),
            ("many_may_ask_at_once", DoesTwice),
            ("many_may_ask_at_once", AnswersTwice),
            ("what_is_called_may_fail", FailsWithWhatItCalls),
            ("what_is_called_may_fail", DropsTheRestOfAFailure),
            ("an_answer_may_ask", DeliversWithoutEnd),
            ("close_answers_what_is_unanswered", ForgetsWhatItOwes),
            ("close_answers_what_is_unanswered", AnswersAfterItsEnd),
            ("a_closed_handle_refuses", SaysNothingWhenClosed),
            ("a_closed_handle_refuses", CannotCloseTwice),
            ("an_answer_may_close", ClosesUnderItsAnswers),
            ("one_may_wait", IsNeverReadableAgain),
        ],
    ),
)
def test_control_stores(check, broken):
    bites(check, control_subject, EmbeddedControlStore, broken)


class WaitsInAsk(FaultyControlStore):
    def ask(self, op, on_answer, *, timeout_s=10.0):
        super().ask(op, on_answer, timeout_s=timeout_s)
        end = time.monotonic() + 1
        while self._is_silent and time.monotonic() < end:
            time.sleep(0.01)


class WaitsInDeliver(FaultyControlStore):
    def deliver(self):
        end = time.monotonic() + 1
        while self._is_silent and time.monotonic() < end:
            time.sleep(0.01)
        super().deliver()


class WaitsInClose(FaultyControlStore):
    def close(self):
        end = time.monotonic() + 1
        while self._box._debts and time.monotonic() < end:
            time.sleep(0.01)
        super().close()


class WaitsForEver(FaultyControlStore):
    def __init__(self, inner):
        super().__init__(inner)
        self._box.expire = lambda: None


class DoesWhatIsOverdue(FaultyControlStore):
    def __init__(self, inner):
        super().__init__(inner)
        self._box.owes = lambda number: True


class AnswersLate(FaultyControlStore):
    """Once more, when the store speaks again."""

    def ask(self, op, on_answer, *, timeout_s=10.0):
        super().ask(op, on_answer, timeout_s=timeout_s)
        if timeout_s < 1:
            super().ask(Get(op.key), on_answer)


class GivesUpOnAll(FaultyControlStore):
    def ask(self, op, on_answer, *, timeout_s=10.0):
        super().ask(op, on_answer, timeout_s=min(timeout_s, 0.05))


class ForgetsWhatWasAsked(FaultyControlStore):
    """While the store said nothing."""

    def ask(self, op, on_answer, *, timeout_s=10.0):
        super().ask(op, on_answer, timeout_s=timeout_s)
        if self._is_silent and len(self._asked) > 100:
            self._asked.pop()


class EndsSilently(FaultyControlStore):
    def close(self):
        self._box._debts.clear()
        super().close()


def far_subject(kind):
    server = EmbeddedControlServer()
    handles = []

    def connect():
        handles.append(kind(EmbeddedControlStore(server.address)))
        return handles[-1]

    def close():
        for handle in handles:
            handle.close()
        server.close()

    return Subject(_asking.ControlSubject(connect(), connect, kind.silent), close)


@pytest.mark.parametrize(
    ("check", "broken"),
    cases(
        checks_of(_checks_control_asks),
        [
            ("nobody_waits_for_a_silent_store", WaitsInAsk),
            ("nobody_waits_for_a_silent_store", WaitsInDeliver),
            ("nobody_waits_for_a_silent_store", ForgetsWhatWasAsked),
            ("every_ask_has_an_end", WaitsForEver),
            ("every_ask_has_an_end", DoesWhatIsOverdue),
            ("every_ask_has_an_end", AnswersLate),
            ("every_ask_has_an_end", GivesUpOnAll),
            ("close_does_not_wait_for_a_silent_store", WaitsInClose),
            ("close_does_not_wait_for_a_silent_store", EndsSilently),
            ("who_waits_for_a_silent_store_is_told", WaitsForEver),
        ],
    ),
)
def test_control_stores_that_are_late(check, broken):
    bites(check, far_subject, FaultyControlStore, broken)


# --- executors ------------------------------------------------------------------------------------------------------


class RunsTheLatestFirst(SerialExecutor):
    def run(self):
        while (call := self._queue.get()) is not None and not self._closed:
            waiting = [call]
            while not self._queue.empty():
                waiting.append(self._queue.get())
            ending = None in waiting
            for each in filter(None, reversed(waiting)):
                each.run()
            if ending:
                return


class HasNoBounds(ThreadsExecutor):
    def __init__(self, max_concurrency, groups=None):
        super().__init__(100, groups)


class FinishesTheQueue(SerialExecutor):
    def close(self):
        self._queue.put(None)

    def run(self):
        while (call := self._queue.get()) is not None:
            call.run()
            del call


class KeepsTheLastCall(SerialExecutor):
    def run(self):
        while (call := self._queue.get()) is not None and not self._closed:
            call.run()


class SaysItIsIdle(SerialExecutor):
    def idle(self):
        return True


class SubmitsAndWaits(ThreadsExecutor):
    def submit(self, call):
        super().submit(call)
        while not self.idle() and not self._closed:
            time.sleep(0.001)


class IgnoresGroups(ThreadsExecutor):
    def __init__(self, max_concurrency, groups=None):
        super().__init__(max_concurrency)


class RunsElsewhere(ThreadsExecutor):
    concurrent = False


class ReturnsTooEarly(ThreadsExecutor):
    def run(self):
        self._done.wait()


class LeavesTasksToTheLoop(AsyncioExecutor):
    def _start(self, call, lane):
        lane.running += 1
        task = self._loop.create_task(call.run_async())
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(call, lane, task))


class DropsWhatTheSystemHasNoThreadFor(ThreadsExecutor):
    def submit(self, call):
        if call.name != "b":
            super().submit(call)


class RunsAfterClose(ThreadsExecutor):
    def submit(self, call):
        call.run() if self._closed else super().submit(call)


class SaysNothingOfItsEnd(AsyncioExecutor):
    def run(self):
        with contextlib.suppress(RuntimeError):
            super().run()


@pytest.mark.parametrize(
    ("check", "sound", "broken"),
    [
        pytest.param(getattr(_checks_executor, name), sound, broken, id=f"{name}-{broken.__name__}")
        for name, sound, broken in [
            ("calls_run_once_in_order", SerialExecutor, RunsTheLatestFirst),
            ("concurrency_is_limited", ThreadsExecutor, HasNoBounds),
            ("close_drops_what_is_queued", SerialExecutor, FinishesTheQueue),
            ("close_drops_what_is_queued", ThreadsExecutor, ReturnsTooEarly),
            ("finished_calls_are_forgotten", SerialExecutor, KeepsTheLastCall),
            ("idle_tells_whether_calls_wait", SerialExecutor, SaysItIsIdle),
            ("submit_never_blocks", ThreadsExecutor, SubmitsAndWaits),
            ("groups_have_limits_of_their_own", ThreadsExecutor, IgnoresGroups),
            ("calls_run_on_the_main_thread", SerialExecutor, RunsElsewhere),
            ("close_can_come_at_any_time", ThreadsExecutor, RunsAfterClose),
            ("every_call_is_answered", ThreadsExecutor, DropsWhatTheSystemHasNoThreadFor),
            ("every_call_is_answered", AsyncioExecutor, LeavesTasksToTheLoop),
            ("a_loop_that_is_stopped_is_told", AsyncioExecutor, SaysNothingOfItsEnd),
        ]
    ],
)
def test_executors(check, sound, broken):
    before = set(threading.enumerate())

    def subject_of(kind):
        def make(limit, groups):
            return kind() if kind in SERIAL else kind(limit, groups)

        return Subject(_checks_executor.ExecutorSubject(make, is_async=issubclass(kind, AsyncioExecutor)))

    bites(check, subject_of, sound, broken)
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) <= before, "a broken executor that goes on takes the memory of the tests after it"


SERIAL = {SerialExecutor, RunsTheLatestFirst, FinishesTheQueue, KeepsTheLastCall, SaysItIsIdle}


# --- selectors ------------------------------------------------------------------------------------------------------


class RegistersRefsOnly(PollSelector):
    def register(self, fileobj, events=None, data=None):
        return super().register(getattr(fileobj, "object_id", fileobj), events, data)


class RegistersTwice(PollSelector):
    def register(self, fileobj, events=None, data=None):
        try:
            return super().register(fileobj, events, data)
        except ValueError:
            self.unregister(fileobj)
            return super().register(fileobj, events, data)


class TakesAnything(PollSelector):
    def register(self, fileobj, events=None, data=None):
        try:
            return super().register(fileobj, events, data)
        except ValueError:
            return None


class UnregistersAnything(PollSelector):
    def unregister(self, fileobj):
        return super().unregister(fileobj) if fileobj.binary() in self._keys else None


class ForgetsToModify(PollSelector):
    def modify(self, fileobj, events=None, data=None):
        return self.get_key(fileobj)._replace(events=events, data=data)


class Forgetful(PollSelector):
    def _end(self, id):
        self._refs.pop(id, None)


class HearsOnlyOfWhatComes(Forgetful):
    def _begin(self, id, ref):
        if not ref.done():
            super()._begin(id, ref)


class WaitsForAll(PollSelector):
    """As the first one of its name did."""

    def select(self, timeout_s=None, max_keys=None):
        if timeout_s is None or timeout_s > 0:
            self._runtime.wait(list(self._refs.values()), len(self._refs), timeout_s)
        return super().select(0, max_keys)


class DropsFailures(PollSelector):
    def select(self, timeout_s=None, max_keys=None):
        return [key for key in super().select(timeout_s, max_keys) if key.fileobj.exception() is None]


class ReportsOnce(Forgetful):
    def select(self, timeout_s=None, max_keys=None):
        keys = super().select(timeout_s, max_keys)
        for key in keys:
            self._refs.pop(key.fd)
        return keys


class ReportsWhatIsGone(PollSelector):
    def unregister(self, fileobj):
        key = super().unregister(fileobj)
        self.gone = key
        return key

    def select(self, timeout_s=None, max_keys=None):
        gone = [self.gone] if hasattr(self, "gone") else []
        return super().select(0 if gone else timeout_s, max_keys) + gone


class IgnoresTheTimeout(PollSelector):
    """What the specification says of the first one that was told."""

    def select(self, timeout_s=None, max_keys=None):
        return super().select(timeout_s and None, max_keys)


class ReturnsEarly(PollSelector):
    def select(self, timeout_s=None, max_keys=None):
        return super().select(timeout_s and timeout_s / 2, max_keys)


class WaitsByTheProgramsClock(PollSelector):
    def select(self, timeout_s=None, max_keys=None):
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not (keys := super().select(0, max_keys)) and (end is None or time.monotonic() < end):
            time.sleep(0.001)
        return keys


class SleepsItsTime(PollSelector):
    def select(self, timeout_s=None, max_keys=None):
        time.sleep(timeout_s or 0)
        return super().select(0, max_keys)


class SpinsWithNothingRegistered(PollSelector):
    def _wait_for_nothing(self, timeout_s):
        return []


class HasNoLimit(PollSelector):
    def select(self, timeout_s=None, max_keys=None):
        return super().select(timeout_s)


class PrefersTheFirst(PollSelector):
    def select(self, timeout_s=None, max_keys=None):
        return super().select(timeout_s)[:max_keys]


class ReportsOneAtATime(PollSelector):
    def select(self, timeout_s=None, max_keys=None):
        return super().select(timeout_s, 1)


class LosesOne(Forgetful):
    def _begin(self, id, ref):
        if len(self._refs) != 77:
            super()._begin(id, ref)


class KeepsRefs(PollSelector):
    def _begin(self, id, ref):
        super()._begin(id, ref)
        self.kept = ref


class AnswersAfterClose(PollSelector):
    def _check_open(self):
        pass


class NeverSeesTheEnd(PollSelector):
    def select(self, timeout_s=None, max_keys=None):
        keys = super().select(timeout_s, max_keys)
        return keys if len(keys) < len(self._refs) else []


class IsNeverReadable(PollSelector):
    def __init__(self, runtime):
        super().__init__(runtime)
        self.pipe = os.pipe()

    def fileno(self):
        return self.pipe[0]

    def close(self):
        super().close()
        for fd in self.pipe:
            os.close(fd)
        self.pipe = ()


class IsAlwaysReadable(IsNeverReadable):
    def __init__(self, runtime):
        super().__init__(runtime)
        os.write(self.pipe[1], b"1")


def selector_subject(kind):
    ray.init(num_cpus=1, log_to_driver=False)
    return Subject(_checks_selector.SelectorSubject(kind), ray.shutdown)


@pytest.mark.parametrize(
    ("check", "broken"),
    cases(
        checks_of(_checks_selector, _checks_selector_ends),
        [
            ("keys_say_what_was_registered", RegistersRefsOnly),
            ("nothing_is_registered_twice", RegistersTwice),
            ("what_is_no_object_is_refused", TakesAnything),
            ("what_is_not_registered_is_a_key_error", UnregistersAnything),
            ("modify_replaces_the_data", ForgetsToModify),
            ("what_was_ready_before_is_reported", HearsOnlyOfWhatComes),
            ("what_becomes_ready_is_reported", WaitsForAll),
            ("failures_are_reported", DropsFailures),
            ("ready_stays_ready", ReportsOnce),
            ("word_of_what_was_unregistered_is_dropped", ReportsWhatIsGone),
            ("timeouts_are_kept", IgnoresTheTimeout),
            ("timeouts_are_kept", ReturnsEarly),
            ("timeouts_go_by_the_real_clock", WaitsByTheProgramsClock),
            ("an_early_end_needs_no_more_time", SleepsItsTime),
            ("with_nothing_registered_it_waits_for_its_time", SpinsWithNothingRegistered),
            ("max_keys_limits_and_takes_turns", HasNoLimit),
            ("max_keys_limits_and_takes_turns", PrefersTheFirst),
            ("all_that_is_ready_is_reported_at_once", ReportsOneAtATime),
            ("completions_from_many_threads_are_all_reported", LosesOne),
            ("a_descriptor_shows_what_select_would", IsNeverReadable),
            ("a_descriptor_shows_what_select_would", IsAlwaysReadable),
            ("it_keeps_what_is_registered_and_nothing_else", KeepsRefs),
            ("a_closed_selector_lets_go", AnswersAfterClose),
            ("the_end_of_the_session_is_reported", NeverSeesTheEnd),
        ],
        later=[  # two sessions each
            "keys_say_what_was_registered",
            "nothing_is_registered_twice",
            "what_is_no_object_is_refused",
            "what_is_not_registered_is_a_key_error",
            "what_was_ready_before_is_reported",
            "failures_are_reported",
            "word_of_what_was_unregistered_is_dropped",
            "timeouts_go_by_the_real_clock",
            "an_early_end_needs_no_more_time",
            "with_nothing_registered_it_waits_for_its_time",
            "all_that_is_ready_is_reported_at_once",
            "a_descriptor_shows_what_select_would",
            "a_closed_selector_lets_go",
        ],
    ),
)
def test_selectors(check, broken):
    bites(check, selector_subject, PollSelector, broken)
