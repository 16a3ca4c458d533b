"""The state machine of the server: whatever clients, the disk and the clock do, in any order."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ray_store_plasma import messages, objects
from ray_store_plasma.messages import HEAD_BYTES, Answer, Found, Granted, Listed, Refused
from ray_store_plasma.objects import COMES_IN, GOES_OUT, LOST, SEALED, STILL, Mark, ReadBack, Send, Tell, Trim, WriteOut
from ray_store_plasma.table import DISK_S, MAX_UNSEALED, Table

CAPACITY = 64 * 1024
TIMEOUT_S = 2.0
IDS = [bytes([owner]) * 8 + bytes([n]) * 12 for owner in (1, 2) for n in range(5)]
ids = st.sampled_from(IDS)
sizes = st.one_of(
    st.integers(0, 2000),
    st.integers(8000, 40_000),
    st.integers(8000, 25_000),
    st.sampled_from([CAPACITY - HEAD_BYTES, CAPACITY]),
)
#: Of what ends much at once, one in a few is enough.
rarely = st.sampled_from([False, False, False, False, True])


class TableMachine(RuleBasedStateMachine):
    """The table with a disk and clients that do only what sound clients do, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.table = Table(CAPACITY, full_timeout_s=TIMEOUT_S, spill_limit_bytes=300_000)
        self.last = 0
        #: {number: client} of requests without an answer
        self.asked: dict[int, int] = {}
        self.creating: dict[int, int] = {}
        self.holds: Counter[tuple[int, int]] = Counter()
        self.where: dict[int, int] = {}
        self.heard: list[Tell] = []
        #: What lies at an offset of the arena, or at a place on the disk: the serial whose bytes they are.
        self.memory: dict[int, int] = {}
        self.disk: dict[int, int] = {}
        self.heads: dict[int, int] = {}
        self.jobs: list[WriteOut | ReadBack] = []
        self.subscribed: set[tuple[int, bytes]] = set()
        self.join()
        self.join()

    def number(self) -> int:
        self.last += 1
        return self.last

    def perform(self) -> None:
        for effect in self.table.effects:
            match effect:
                case Send(client, reply):
                    if client in self.table.clients:
                        assert self.asked.pop(reply.number) == client
                        self.answered(client, reply)
                case Tell():
                    assert (effect.client, effect.object_id) in self.subscribed, "nobody asked for this"
                    self.subscribed.discard((effect.client, effect.object_id))
                case Mark(offset, serial):
                    self.heads[offset] = serial
                case WriteOut() | ReadBack():
                    self.jobs.append(effect)
                case Trim(place, size):
                    self.disk.pop(place, None)
                    assert size > 0
        self.table.effects.clear()

    def answered(self, client: int, reply: messages.Reply) -> None:
        match reply:
            case Granted(_, serial, offset, _, _):
                self.creating[serial] = client
                self.memory[offset] = serial
            case Found(_, serial, offset, _):
                assert self.memory[offset] == serial, "these are the bytes of another object"
                assert self.heads[offset - HEAD_BYTES] == serial
                assert self.where.setdefault(serial, offset) == offset, "an object moved while it was held"
                self.holds[client, serial] += 1
            case Refused(_, why, _, _, used):
                assert why in ("exists", "full", "disk", "lost", "wait")
                assert used <= CAPACITY

    def ask(self, client: int) -> int:
        number = self.number()
        self.asked[number] = client
        return number

    def a_client(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.table.clients)))

    @rule()
    def join(self) -> None:
        if len(self.table.clients) < 4:
            client = self.number()
            self.table.join(client, 1000 + client)

    @precondition(lambda self: self.table.clients)
    @rule(data=st.data(), object_id=ids, nbytes=sizes)
    def start_creating(self, data: st.DataObject, object_id: bytes, nbytes: int) -> None:
        self.create(data, object_id, nbytes)

    def create(self, data: st.DataObject, object_id: bytes, nbytes: int) -> None:
        client = self.a_client(data)
        self.table.create(client, self.ask(client), object_id, nbytes, self.now)
        self.perform()

    @precondition(lambda self: self.table.clients)
    @rule(data=st.data(), object_id=ids, nbytes=st.integers(5000, 30_000))
    def make(self, data: st.DataObject, object_id: bytes, nbytes: int) -> None:
        """Create, and seal at once if there was room."""
        before = set(self.creating)
        self.create(data, object_id, nbytes)
        for serial in set(self.creating) - before:
            self.table.seal(self.creating.pop(serial), serial, self.now)
        self.perform()

    @precondition(lambda self: self.creating)
    @rule(data=st.data(), seal=st.sampled_from([True, True, True, False]))
    def end_creating(self, data: st.DataObject, *, seal: bool) -> None:
        serial = data.draw(st.sampled_from(sorted(self.creating)))
        client = self.creating.pop(serial)
        (self.table.seal if seal else self.table.abort)(client, serial, self.now)
        self.perform()

    @precondition(lambda self: self.table.clients and self.table.live)
    @rule(data=st.data(), patient=st.sampled_from([True, True, True, False]))
    def get(self, data: st.DataObject, *, patient: bool) -> None:
        client = self.a_client(data)
        object_id = data.draw(st.sampled_from([*sorted(self.table.live), IDS[0]]))
        self.table.get(client, self.ask(client), object_id, self.now, patient=patient)
        self.perform()

    @precondition(lambda self: +self.holds)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        client, serial = data.draw(st.sampled_from(sorted(+self.holds)))
        self.holds[client, serial] -= 1
        self.no_longer_held(serial)
        self.table.release(client, [serial], self.now)
        self.perform()

    def no_longer_held(self, serial: int) -> None:
        if not any(count for (_, held), count in self.holds.items() if held == serial):
            self.where.pop(serial, None)

    @rule(object_id=ids, really=rarely)
    def delete(self, object_id: bytes, *, really: bool) -> None:
        if not really:
            return
        self.table.delete(object_id, self.now)
        self.perform()
        assert not self.table.has(object_id)

    @rule(object_id=ids, really=rarely)
    def unpin(self, object_id: bytes, *, really: bool) -> None:
        if really:
            self.table.unpin(object_id)

    @precondition(lambda self: self.table.clients)
    @rule(data=st.data(), object_id=ids)
    def pin(self, data: st.DataObject, object_id: bytes) -> None:
        client = self.a_client(data)
        self.table.pin(client, self.ask(client), object_id)
        self.perform()

    @precondition(lambda self: self.table.clients)
    @rule(data=st.data(), object_id=ids)
    def subscribe(self, data: st.DataObject, object_id: bytes) -> None:
        client = self.a_client(data)
        self.subscribed.add((client, object_id))
        self.table.subscribe(client, object_id)
        self.perform()

    @precondition(lambda self: self.table.clients)
    @rule(data=st.data(), object_id=ids)
    def unsubscribe(self, data: st.DataObject, object_id: bytes) -> None:
        client = self.a_client(data)
        self.subscribed.discard((client, object_id))
        self.table.unsubscribe(client, object_id)

    @precondition(lambda self: self.table.clients)
    @rule(data=st.data())
    def ask_around(self, data: st.DataObject) -> None:
        client = self.a_client(data)
        self.table.stats(client, self.ask(client))
        self.table.contains(client, self.ask(client), IDS[0])
        self.table.list_objects(client, self.ask(client), 0)
        self.perform()

    def gone(self, client: int, *, holds: bool) -> None:
        self.creating = {serial: other for serial, other in self.creating.items() if other != client}
        self.subscribed = {pair for pair in self.subscribed if pair[0] != client}
        if holds:
            self.asked = {number: ask for number, ask in self.asked.items() if ask != client}
            self.holds = Counter({key: count for key, count in self.holds.items() if key[0] != client})
            for serial in list(self.where):
                self.no_longer_held(serial)

    @precondition(lambda self: self.table.clients)
    @rule(data=st.data(), really=rarely)
    def leave(self, data: st.DataObject, *, really: bool) -> None:
        if not really:
            return
        client = self.a_client(data)
        waiting = {entry.number for entry in self.table.room.waiting.values() if entry.creator == client}
        self.table.leave(client)
        for number in waiting:
            del self.asked[number]
        self.perform()
        self.gone(client, holds=False)

    @precondition(lambda self: self.table.clients)
    @rule(data=st.data(), really=rarely)
    def lose(self, data: st.DataObject, *, really: bool) -> None:
        if really:
            self.lose_one(self.a_client(data))

    @rule(owner=st.sampled_from([1, 2, 3]), really=rarely)
    def lose_owner(self, owner: int, *, really: bool) -> None:
        if not really:
            return
        self.table.owner_lost(bytes([owner]) * 8, self.now)
        self.perform()
        assert not any(object_id[0] == owner for object_id in self.table.live)

    @precondition(lambda self: self.jobs)
    @rule(ok=st.sampled_from([True, True, True, True, True, False]))
    def disk_is_done(self, *, ok: bool) -> None:
        job = self.jobs.pop(0)
        if isinstance(job, WriteOut):
            assert self.memory[job.offset] == job.serial, "the bytes of another object go to the disk"
            if ok:
                self.disk[job.place] = job.serial
            self.table.written(job.serial, job.serial if ok else None, self.now)
        else:
            assert self.disk[job.place] == job.serial == job.checksum, "the disk has the bytes of another object there"
            self.memory[job.offset] = job.serial
            self.table.read(job.serial, self.now, ok=ok)
        self.perform()

    @rule(seconds=st.sampled_from([0.1, 0.1, 1.0, TIMEOUT_S, DISK_S + TIMEOUT_S]))
    def wait(self, seconds: float) -> None:
        deadline = self.table.next_deadline()
        self.now += seconds
        self.table.advance(self.now)
        self.perform()
        assert deadline is None or deadline > self.now or deadline != self.table.next_deadline(), "nobody was refused"

    @rule()
    def rest(self) -> None:
        free = self.table.room.memory.free_blocks()
        for offset, size in self.table.room.rest():
            assert any(start <= offset and offset + size <= start + length for start, length in free.items())

    @invariant()
    def blocks_belong_to_objects(self) -> None:
        room, entries = self.table.room, self.table.entries.values()
        room.memory.check()
        room.disk.check()
        here = sorted(entry.offset for entry in entries if entry.offset is not None)
        assert here == sorted(room.memory.taken()), "memory is lost, or used twice"
        assert sorted(e.place for e in entries if e.place is not None) == sorted(room.disk.taken())

    @invariant()
    def sums_are_right(self) -> None:
        room, entries = self.table.room, self.table.entries.values()
        spilled = [e.nbytes for e in entries if e.place is not None and (e.offset is None or e.moving == COMES_IN)]
        assert room.spilled_bytes == sum(spilled)
        for group in (room.loose, room.copied, room.idle):
            assert all(entry.is_idle for entry in group.values())
        idle = {entry.serial for entry in entries if entry.is_idle and not entry.deleted}
        assert idle == {*room.loose, *room.copied, *room.idle}
        assert all(not entry.pinned for entry in room.loose.values())
        assert all(entry.place is not None and entry.pinned for entry in room.copied.values())
        assert all(entry.place is None and entry.pinned for entry in room.idle.values())
        droppable = [*room.loose.values(), *room.copied.values()]
        assert room._droppable_bytes == sum(room._size(entry) for entry in droppable)
        leaving = [entry for entry in entries if entry.moving == GOES_OUT]
        assert room._leaving_bytes == sum(room._size(entry) for entry in leaving)

    @invariant()
    def clients_and_objects_agree(self) -> None:
        table = self.table
        held = {(client, serial): n for serial, e in table.entries.items() for client, n in e.holders.items()}
        assert held == dict(+self.holds), "holds are lost or invented"
        for client, state in table.clients.items():
            assert state.holds == {serial for owner, serial in held if owner == client}
            assert all(table.entries[serial].creator == client for serial in state.creating)
        assert {(c, i) for i, group in table.subscribers.items() for c in group} == self.subscribed
        assert {(c, i) for c, state in table.clients.items() for i in state.subscriptions} == self.subscribed

    @invariant()
    def nothing_lives_without_a_reason(self) -> None:
        for object_id, entry in self.table.live.items():
            assert entry.object_id == object_id
            assert not entry.deleted
            assert self.table.entries[entry.serial] is entry
            assert entry.state != LOST or (entry.offset is None and entry.place is None)
        for entry in self.table.entries.values():
            if entry.deleted:
                assert entry.holders or entry.creator or entry.moving != STILL
                assert self.table.live.get(entry.object_id) is not entry
                assert entry.offset is None or not self.heads.get(entry.offset)
            elif entry.state == SEALED and entry.offset is not None and entry.moving != COMES_IN:
                assert self.heads[entry.offset] == entry.serial

    @invariant()
    def requests_wait_for_something(self) -> None:
        waiting = {e.number for e in self.table.room.waiting.values() if e.creator}
        waiting |= {number for e in self.table.entries.values() for _, number in e.answers}
        assert set(self.asked) <= waiting, "a request is forgotten"
        for entry in self.table.entries.values():
            if entry.answers:
                assert entry.moving == COMES_IN or entry.serial in self.table.room.waiting

    def teardown(self) -> None:
        for client in list(self.table.clients):
            self.lose_one(client)
        while self.jobs:
            job = self.jobs.pop(0)
            if isinstance(job, WriteOut):
                self.table.written(job.serial, None, self.now)
            else:
                self.table.read(job.serial, self.now, ok=False)
            self.perform()
        self.now += 2 * (DISK_S + TIMEOUT_S)
        self.table.advance(self.now)
        self.perform()
        for object_id in list(self.table.live):
            self.table.delete(object_id, self.now)
            self.perform()
        assert not self.table.entries
        assert not self.table.room.waiting
        assert self.table.room.memory.used == self.table.room.disk.used == self.table.room.spilled_bytes == 0

    def lose_one(self, client: int) -> None:
        self.gone(client, holds=True)
        self.table.lost(client, self.now)
        self.perform()


TestTable = TableMachine.TestCase
_EXAMPLES = 400 if os.environ.get("RAY_TEST_SOAK") == "1" else 70
TestTable.settings = settings(max_examples=_EXAMPLES, stateful_step_count=80, deadline=None)


def replies(table: Table) -> list[messages.Reply]:
    sent = [effect.reply for effect in table.effects if isinstance(effect, Send)]
    table.effects.clear()
    return sent


def make(table: Table, client: int, object_id: bytes, nbytes: int, now: float = 0.0) -> int:
    """Create and seal; returns the serial."""
    table.create(client, 1, object_id, nbytes, now)
    (granted,) = replies(table)
    assert isinstance(granted, Granted)
    table.seal(client, granted.serial, now)
    return granted.serial


def test_a_full_table_names_the_biggest_holders() -> None:
    table = Table(CAPACITY, spill=False, full_timeout_s=1.0)
    table.join(1, 4711)
    table.join(2, 4712)
    make(table, 1, IDS[0], 30_000)
    make(table, 1, IDS[1], 20_000)
    table.get(2, 2, IDS[0], 0.0)
    replies(table)
    table.create(1, 3, IDS[2], 30_000, 0.0)
    assert replies(table) == []
    assert table.next_deadline() == 1.0
    table.advance(1.0)
    (refused,) = replies(table)
    assert isinstance(refused, Refused)
    assert refused.why == "full"
    assert f"{IDS[0].hex()} 30,000 bytes held by 4712" in refused.text
    assert f"{IDS[1].hex()} 20,000 bytes held by references alone" in refused.text
    assert refused.text.index("30,000") < refused.text.index("20,000")
    assert IDS[2] not in table.live


def test_a_small_object_does_not_wait_behind_a_large_one() -> None:
    table = Table(CAPACITY, spill=False, full_timeout_s=1.0)
    table.join(1, 1)
    make(table, 1, IDS[0], 30_000)
    table.create(1, 2, IDS[1], 60_000, 0.0)
    table.create(1, 3, IDS[2], 1000, 0.0)
    assert [reply.number for reply in replies(table)] == [3]
    table.delete(IDS[0], 0.5)
    assert replies(table) == []
    table.advance(1.0)
    assert [type(reply) for reply in replies(table)] == [Refused]


def test_room_goes_to_who_waits_when_there_is_some() -> None:
    table = Table(CAPACITY, spill=False, full_timeout_s=1.0)
    table.join(1, 1)
    make(table, 1, IDS[0], 60_000)
    table.create(1, 2, IDS[1], 60_000, 0.0)
    assert replies(table) == []
    table.delete(IDS[0], 0.5)
    (granted,) = replies(table)
    assert isinstance(granted, Granted)


def test_objects_of_a_creator_whose_owner_died_stay_writable() -> None:
    table = Table(CAPACITY)
    table.join(1, 1)
    table.create(1, 1, IDS[0], 1000, 0.0)
    (granted,) = replies(table)
    assert isinstance(granted, Granted)
    table.owner_lost(IDS[0][:8], 0.0)
    assert table.room.memory.used > 0
    table.seal(1, granted.serial, 0.0)
    assert table.room.memory.used == 0
    assert not table.entries


def test_lists_come_in_pages() -> None:
    table = Table(1 << 20)
    table.join(1, 1)
    for n in range(messages.MAX_LISTED * 2):
        make(table, 1, n.to_bytes(20, "big"), 10)
    seen, after, pages = [], 0, 0
    while True:
        table.list_objects(1, 9, after)
        (listed,) = replies(table)
        assert isinstance(listed, Listed)
        assert len(messages.encode(listed)) <= messages.MAX_PACKET_BYTES
        seen += listed.objects
        pages += 1
        after = listed.next
        if not after:
            break
    assert pages == 2
    assert sorted(row[0] for row in seen) == [n.to_bytes(20, "big") for n in range(messages.MAX_LISTED * 2)]


def test_the_longest_list_fits_into_a_packet() -> None:
    row = (bytes(20), 2**60, "created", [2**22] * messages.MAX_HOLDERS)
    assert len(messages.encode(Listed(2**60, [row] * messages.MAX_LISTED, 2**60))) <= messages.MAX_PACKET_BYTES


@pytest.mark.parametrize(
    "what", ["seal", "abort", "release", "seal of another's", "double seal", "seal of a waiting one"]
)
def test_what_no_sound_client_does_is_a_violation(what: str) -> None:
    table = Table(CAPACITY, full_timeout_s=1.0)
    table.join(1, 1)
    table.join(2, 2)
    serial = make(table, 1, IDS[0], 60_000)
    table.get(1, 5, IDS[0], 0.0)
    table.create(1, 2, IDS[1], 60_000, 0.0)
    (waiting,) = table.room.waiting
    attempts = {
        "seal": lambda: table.seal(1, 999, 0.0),
        "abort": lambda: table.abort(1, serial, 0.0),
        "release": lambda: table.release(2, [serial], 0.0),
        "seal of another's": lambda: table.seal(2, waiting, 0.0),
        "double seal": lambda: table.seal(1, serial, 0.0),
        "seal of a waiting one": lambda: table.seal(1, waiting, 0.0),
    }
    with pytest.raises(objects.Violation):
        attempts[what]()
    assert table.has(IDS[0])


def test_a_client_cannot_create_without_bound() -> None:
    table = Table(1 << 20)
    table.join(1, 1)
    for n in range(MAX_UNSEALED):
        table.create(1, n, n.to_bytes(20, "big"), 0, 0.0)
    with pytest.raises(objects.Violation):
        table.create(1, 1, bytes(20), 0, 0.0)
    table.lost(1, 0.0)
    assert not table.entries


def test_a_damaged_object_is_lost_until_it_is_made_again() -> None:
    table = Table(CAPACITY, full_timeout_s=1.0)
    table.join(1, 1)
    serial = make(table, 1, IDS[0], 40_000)
    table.create(1, 2, IDS[1], 40_000, 0.0)
    table.written(serial, 77, 0.0)
    granted = replies(table)[-1]
    assert isinstance(granted, Granted)
    table.abort(1, granted.serial, 0.0)
    table.get(1, 3, IDS[0], 0.0)
    table.read(serial, 0.0, ok=False)
    assert replies(table) == [Refused(3, "lost")]
    assert not table.has(IDS[0])
    table.get(1, 4, IDS[0], 0.0)
    table.contains(1, 5, IDS[0])
    assert replies(table) == [Refused(4, "lost"), Answer(5, False)]
    make(table, 1, IDS[0], 10)
    table.get(1, 6, IDS[0], 0.0)
    assert isinstance(replies(table)[-1], Found)


def test_who_must_not_wait_gets_only_what_is_in_memory() -> None:
    table = Table(CAPACITY, full_timeout_s=1.0)
    table.join(1, 1)
    serial = make(table, 1, IDS[0], 40_000)
    table.create(1, 2, IDS[1], 40_000, 0.0)
    table.get(1, 3, IDS[0], 0.0, patient=False)  # it is still there, while it goes out
    table.written(serial, 77, 0.0)
    assert [type(reply) for reply in replies(table)] == [Found]
    table.release(1, [serial], 0.0)
    granted = replies(table)[-1]
    assert isinstance(granted, Granted)
    table.abort(1, granted.serial, 0.0)
    table.effects.clear()
    table.get(1, 4, IDS[0], 0.0, patient=False)
    assert table.effects == [objects.Send(1, Refused(4, "wait"))]  # nothing is read for it
    table.effects.clear()
    table.get(1, 5, IDS[0], 0.0)
    table.get(1, 6, IDS[0], 0.0, patient=False)  # on its way
    assert replies(table) == [Refused(6, "wait")]
    table.read(serial, 0.0, ok=True)
    table.get(1, 7, IDS[0], 0.0, patient=False)
    assert [(type(reply), reply.number) for reply in replies(table)] == [(Found, 5), (Found, 7)]
