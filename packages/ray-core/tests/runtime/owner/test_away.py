"""Values in the stores of other nodes: what their owner, and who reads them, say and do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from tests.owners import NoStore, Owner

from ray.exceptions import (
    GetTimeoutError,
    ObjectLostError,
    ObjectStoreFullError,
    RaySystemError,
    RemoteProtocolError,
)
from ray.ids import edition_of, node_number, node_of, stored_id
from ray.messages import node, objects, wire
from ray.messages.objects import GET, WAIT
from ray.protocol.references import AWAY, FAILED, STORED, ObjectEntry, Place
from ray.runtime.owner import away as module
from ray.runtime.owner.arrival_waiter import ArrivalWaiter
from ray.runtime.owner.away import AWAY_BYTES, Away, place_of
from ray.runtime.owner.lending import Lending
from ray.runtime.owner.letting_go import LettingGo
from ray.runtime.owner.values import Values

NBYTES = AWAY_BYTES + 5
#: The process id of a worker on another node, and the number of that.
FAR = "farnode1"
NODE = node_number(FAR.encode())
OWN = node_number(b"process1")


class Views:
    """The store of the node."""

    def __init__(self) -> None:
        self.blobs: dict[bytes, memoryview] = {}
        self.dropped: list[bytes] = []

    def view(self, key: bytes) -> memoryview | None:
        return self.blobs.get(key)

    at_once = view

    def drop(self, key: bytes) -> None:
        self.dropped.append(key)


class Store(NoStore):
    """Its values may be read by other nodes."""

    shared = serves = True
    at = Values.at
    came_away = Values.came_away

    def __init__(self) -> None:
        super().__init__()
        self.views = Views()

    def delete(self, entry: ObjectEntry) -> None:
        self.discarded.append(entry.id)


class Lives:
    by_life: dict[bytes, bytes] = {}


class Process(Owner):
    """An owner whose node manager answers as the test says."""

    def __init__(self) -> None:
        super().__init__(Store())
        self.peers.far.add(FAR)
        self.peers.knows_far = True
        anything: Any = None
        tell = self.told.append
        parts: Any = (self.here, self.table, self.values.views, self.clock, self.ask, self.ask_later, tell)
        self.values.away = self.away = Away(*parts, nullcontext())
        self.lending = Lending(self.table, self.values, self.borrowing, self.reports, nullcontext())
        self.letting_go = LettingGo(
            self.here, self.table, self.values, self.borrowing, self.peers, Lives(), anything, anything
        )
        self.pulls: list[objects.Pull] = []
        #: How long it was to wait for each.
        self.limits: list[float | None] = []
        #: What takes the answers to those that nobody waits for.
        self.later: list[Callable[[node.Answer], None]] = []
        self.answer: node.Answer | Exception = node.Answer(1, True)

    def ask(self, make: Any, timeout_s: float | None) -> node.Answer:
        pull = make(1)
        self.pulls.append(pull)
        self.limits.append(timeout_s)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer.ok:
            self.values.views.blobs[pull.key] = memoryview(b"blob")
        return self.answer

    def ask_later(self, make: Any, on_answer: Any) -> None:
        self.told.append(make(7))
        self.later.append(on_answer)

    def answers(self, answer: node.Answer) -> None:
        """To the question that waits for longest, without a thread."""
        if answer.ok:
            self.values.views.blobs[self.said(objects.Pull)[-1].key] = memoryview(b"blob")
        self.later.pop(0)(answer)

    def lend(self) -> Any:
        """A worker of another node."""
        demand = self.said(node.Demand)[-1]
        self.leasing.granted(node.Granted(demand.key, b"lease", FAR, 1, [], FAR.encode()))
        return self.leasing.links[b"lease"]

    def ends(self, record: Any, at: wire.At | None) -> None:
        done = wire.Done(record.id, True, [None if at else b"small"], sizes=[NBYTES], away=[at] if at else [])
        self.leasing.on_replies(self.leasing.links[b"lease"], wire.Replies([done]), [b""])

    def made_away(self, attempt: int = 0) -> ObjectEntry:
        """The result of a task that a worker of another node has run."""
        record = self.submit()
        record.attempt = attempt
        self.lend()
        self.ends(record, wire.At(NODE, NBYTES, edition_of(attempt)))
        entry: ObjectEntry = record.entries[0]
        entry.local = 1
        return entry

    def stored(self, nbytes: int = NBYTES) -> ObjectEntry:
        """An object of this process in the store of its node."""
        entry = self.table.own(self.record().id + b"\0\0\0\1")
        entry.local = 1
        self.table.fill_stored(entry, nbytes)
        return entry

    def drop(self, entry: ObjectEntry) -> None:
        entry.local = 0
        self.table.dropped.append(entry)
        self.letting_go.collect()
        self.clock.passes(1)

    def far(self) -> Any:
        return self.peers.reach(FAR.encode(), FAR)


@pytest.fixture
def process() -> Process:
    return Process()


def key_of(entry: ObjectEntry, attempt: int = 0) -> bytes:
    return stored_id(entry.id, edition_of(attempt))


# --- the owner --------------------------------------------------------------------------------------------------------


def test_a_result_stays_in_the_store_of_another_node(process: Process) -> None:
    entry = process.made_away(attempt=2)
    assert (entry.status, entry.size()) == (AWAY, NBYTES)
    assert process.table.places == {entry.id: Place(node_of(FAR.encode()), key_of(entry, 2), NBYTES, 3)}
    process.table.validate()


def test_it_is_freed_there_once_nobody_holds_it(process: Process) -> None:
    entries = [process.made_away() for _ in range(3)]
    keys = [key_of(entry) for entry in entries]
    for entry in entries[:2]:
        entry.local = 0
        process.table.dropped.append(entry)
    process.letting_go.collect()
    assert process.said(objects.FreeAt) == []
    process.clock.passes(1)
    assert process.said(objects.FreeAt) == [objects.FreeAt(NODE, keys[:2])]
    process.drop(entries[2])
    assert process.said(objects.FreeAt)[1:] == [objects.FreeAt(NODE, keys[2:])]
    assert process.said(objects.LetGo) == []  # it was never read here
    assert process.table.places == {}


def test_many_are_freed_in_several_messages(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_FREED", 2)
    for number in range(5):
        process.away.free(node_of(FAR.encode()), bytes([number]) * 20)
    process.clock.passes(1)
    assert [len(message.keys) for message in process.said(objects.FreeAt)] == [2, 2, 1]


def test_a_result_that_nobody_wants_is_freed(process: Process) -> None:
    record = process.submit()
    process.lend()
    (entry,) = record.entries
    entry.freed = True
    process.ends(record, wire.At(NODE, NBYTES, 1))
    process.clock.passes(1)
    assert process.said(objects.FreeAt) == [objects.FreeAt(NODE, [key_of(entry)])]
    assert process.table.places == {}


def test_a_late_result_is_freed(process: Process) -> None:
    record = process.submit()
    done = wire.Done(record.id, True, [None], sizes=[NBYTES], away=[wire.At(NODE, NBYTES, 1)])
    process.outcomes.take_late([done], process.far())
    process.clock.passes(1)
    assert process.said(objects.FreeAt) == [objects.FreeAt(NODE, [key_of(record.entries[0])])]


def test_what_a_lost_worker_may_have_stored_is_freed(process: Process) -> None:
    done, again, queued = (process.record() for _ in range(3))
    place = place_of(done.entries[0].id, wire.At(NODE, NBYTES, 1))
    process.table.complete_away(done.entries[0], place)
    done.done = True
    free = process.outcomes.left_behind([done, again, queued], process.far())
    again.attempt = 1
    free()
    process.clock.passes(1)
    # The first is there; what the second's first attempt may have stored goes; the third had not begun.
    assert process.said(objects.FreeAt) == [objects.FreeAt(NODE, [key_of(again.entries[0])])]


def test_processes_are_told_where_it_is(process: Process) -> None:
    entry = process.made_away()
    at = wire.At(NODE, NBYTES, 1)
    for address in ("near", FAR):
        peer = process.peers.reach(address.encode(), address)
        process.lending.on_fetch(peer, wire.Fetch(entry.id), ())
        assert process.sent(address, wire.Fetched) == [wire.Fetched(entry.id, AWAY, None, [], NBYTES, at)]


@pytest.mark.parametrize(("nbytes", "serves"), [(NBYTES, True), (NBYTES, False), (AWAY_BYTES - 1, True)])
def test_what_is_in_the_own_store_is_read_from_there_if_it_is_large(
    process: Process, nbytes: int, serves: bool
) -> None:
    process.values.serves = serves
    entry = process.stored(nbytes)
    at = process.values.at(entry, process.far())
    assert at == (wire.At(OWN, NBYTES) if serves and nbytes == NBYTES else None)
    assert process.values.at(entry, process.peers.reach(b"near", "near")) is None


def test_arguments_say_where_they_are(process: Process) -> None:
    made, put = process.made_away(), process.stored()
    record = process.submit()
    record.deps = [(0, made), (1, put)]
    frames: list[Any] = [b""]
    pushed: dict[bytes, ObjectEntry] = {}
    task = record.to_wire(frames, "me", process.far(), pushed, process.values.at_once, process.values.at)
    assert [dependency.away for dependency in task.deps] == [wire.At(NODE, NBYTES, 1), wire.At(OWN, NBYTES)]
    assert [dependency.data for dependency in task.deps] == [None, None]
    assert (frames, pushed) == ([b""], {})


# --- who reads it -----------------------------------------------------------------------------------------------------


def test_it_is_brought_when_it_is_read_and_let_go_of_once(process: Process) -> None:
    entry = process.made_away()
    for _ in range(3):
        assert process.away.blob(entry) == b"blob"
    assert process.pulls == [objects.Pull(1, key_of(entry), NODE, NBYTES, GET)]
    process.drop(entry)
    assert process.said(objects.LetGo) == [objects.LetGo([key_of(entry)])]
    assert process.values.views.dropped.count(key_of(entry)) == 1


def test_a_copy_that_has_gone_is_brought_again(process: Process) -> None:
    entry = process.made_away()
    process.away.blob(entry)
    process.values.views.blobs.clear()
    assert process.away.blob(entry) == b"blob"
    assert len(process.pulls) == 2


def test_what_is_in_the_store_of_this_node_under_another_key_is_not_brought(process: Process) -> None:
    entry = process.borrowing.borrow(b"elsewher" + bytes(12), "o")
    process.table.complete_away(entry, place_of(entry.id, wire.At(OWN, NBYTES, 1)))
    with pytest.raises(ObjectLostError):
        process.away.blob(entry)
    process.values.views.blobs[key_of(entry)] = memoryview(b"here")
    assert process.away.blob(entry) == b"here"
    assert process.pulls == []


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (node.Answer(1, False, error="its node has died"), ObjectLostError, "its node has died"),
        (
            node.Answer(1, False, msgspec.msgpack.encode((9, 7, 5)), "of node b"),
            ObjectStoreFullError,
            "of node b|small",
        ),
        (RaySystemError("it does not answer"), GetTimeoutError, "another node"),
    ],
)
def test_why_it_cannot_be_read(
    process: Process, answer: node.Answer | Exception, error: type[Exception], text: str
) -> None:
    entry = process.made_away()
    process.answer = answer
    with pytest.raises(error, match=text):
        process.away.blob(entry, 0.1)


def test_several_are_brought_at_a_time(process: Process) -> None:
    entries = [process.made_away() for _ in range(3)]
    process.away.blob(entries[0])
    process.away.begin(entries)
    assert [pull.key for pull in process.said(objects.Pull)] == [key_of(entry) for entry in entries[1:]]
    process.drop(entries[1])
    assert process.said(objects.LetGo) == [objects.LetGo([key_of(entries[1])])]


def test_a_limit_is_for_all_tries_and_for_what_was_waited_before(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = process.made_away()
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])

    def ask(make: Any, timeout_s: float | None) -> node.Answer:
        process.limits.append(timeout_s)
        now[0] += 4.0  # and the copy is gone again
        return node.Answer(1, True)

    monkeypatch.setattr(process.away, "_ask", ask)
    with pytest.raises(GetTimeoutError):
        process.away.blob(entry, 10.0, end=106.0)
    assert process.limits == [6.0, 2.0]
    process.limits.clear()
    with pytest.raises(GetTimeoutError):
        process.away.blob(entry, 10.0, end=now[0])
    assert process.limits == []


def test_a_look_begins_a_transfer_once_and_says_how_it_has_ended(process: Process) -> None:
    entry = process.made_away()
    for _ in range(3):
        with pytest.raises(GetTimeoutError):
            process.away.blob(entry, 0)
    assert len(process.said(objects.Pull)) == 3  # two of them are for the case that they are more urgent
    assert len(process.later) == 1
    process.answers(node.Answer(7, False, error="it is gone"))
    with pytest.raises(ObjectLostError, match="it is gone"):
        process.away.blob(entry, 0)
    with pytest.raises(GetTimeoutError):
        process.away.blob(entry, 0)
    process.answers(node.Answer(7, True))
    assert process.away.blob(entry, 0) == b"blob"
    assert process.pulls == []


def test_several_that_wait_for_one_are_told_once_each(process: Process) -> None:
    entry, told = process.made_away(), []
    process.away.bring(entry, WAIT, lambda: told.append(1))
    process.away.bring(entry, GET, lambda: told.append(2))
    assert not process.away.is_here(entry)
    assert [pull.urgency for pull in process.said(objects.Pull)] == [WAIT, GET]
    process.answers(node.Answer(7, True))
    assert (told, process.away.is_here(entry)) == ([1, 2], True)
    process.away.bring(entry, GET, lambda: told.append(3))
    assert told == [1, 2, 3]
    assert process.later == []


@pytest.mark.parametrize("ok", [True, False])
def test_one_that_is_let_go_of_while_it_comes(process: Process, ok: bool) -> None:
    entry = process.made_away()
    process.away.bring(entry, WAIT)
    process.drop(entry)
    assert process.away._coming == {}, "there may be no answer"
    process.answers(node.Answer(7, ok))
    assert not process.away.is_here(entry)
    assert (process.away._coming, process.away._failed) == ({}, {})


def test_who_waits_for_values_here_has_them_brought(process: Process) -> None:
    process.table.watchers = ()
    away, pending, ready = process.made_away(), process.submit().entries[0], process.stored()
    waiter = ArrivalWaiter(3, [away, pending, ready], process.away)
    waiter.begin()
    assert waiter.here == {ready}
    process.table.complete_away(pending, place_of(pending.id, wire.At(NODE, NBYTES, 1)))
    assert [pull.urgency for pull in process.said(objects.Pull)] == [WAIT, WAIT]
    process.answers(node.Answer(7, False, error="it is gone"))
    assert not waiter.block(0)
    process.answers(node.Answer(7, True))
    assert waiter.block(0)
    assert waiter.here == {away, pending, ready}
    waiter.end()


def test_who_waits_no_longer_has_nothing_brought(process: Process) -> None:
    pending = process.submit().entries[0]
    waiter = ArrivalWaiter(1, [pending], process.away)
    waiter.begin()
    waiter.end()
    assert not pending.waiters
    process.table.complete_away(pending, place_of(pending.id, wire.At(NODE, NBYTES, 1)))
    assert process.said(objects.Pull) == []


def test_who_stops_to_wait_while_others_are_told_has_nothing_brought(process: Process) -> None:
    pending = process.submit().entries[0]
    waiter = ArrivalWaiter(1, [pending], process.away)
    pending.call_when_done(lambda entry: waiter.end())
    waiter.begin()
    process.table.complete_away(pending, place_of(pending.id, wire.At(NODE, NBYTES, 1)))
    assert process.said(objects.Pull) == []


def test_an_argument_keeps_its_copy_until_the_call_ends(process: Process) -> None:
    id = b"elsewher" + bytes(12)
    task = wire.Task(b"t" * 16, b"f", b"", deps=[wire.Dependency(0, None, id, "o", [], wire.At(NODE, NBYTES))])
    (entry,) = process.borrowing.receive_arguments(task)
    assert entry.status == AWAY
    assert process.away.blob(entry) == b"blob"
    process.table.unpin((entry,))
    process.letting_go.collect()
    assert process.said(objects.LetGo) == [objects.LetGo([id])]
    process.clock.passes(1)
    assert process.said(objects.FreeAt) == []  # that is its owner's business


def test_an_owner_says_where_it_is(process: Process) -> None:
    entry = process.borrowing.borrow(FAR.encode() + bytes(12), FAR)
    process.borrowing.on_fetched(process.far(), wire.Fetched(entry.id, AWAY, None, away=wire.At(NODE, NBYTES)), ())
    assert process.table.places[entry.id] == Place(node_of(FAR.encode()), entry.id, NBYTES, 0)


@pytest.mark.parametrize(
    "message", [wire.Fetched(b"?" * 20, AWAY, None), wire.Fetched(b"?" * 20, 7, None), wire.Fetched(b"?" * 20, 0, None)]
)
def test_an_object_is_not_nowhere(process: Process, message: wire.Fetched) -> None:
    with pytest.raises(RemoteProtocolError):
        process.borrowing.on_fetched(process.far(), message, ())
    with pytest.raises(RemoteProtocolError):
        place_of(b"?" * 20, wire.At(NODE, NBYTES, 256))


def test_other_statuses_have_no_place(process: Process) -> None:
    entry = process.stored()
    assert process.away.at_once(entry) is None
    assert (entry.status, process.table.take_place(entry)) == (STORED, None)
    assert FAILED < STORED < AWAY
