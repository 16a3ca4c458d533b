"""The broker's state under random events: accounting, holds and descriptors are right at every moment."""

from __future__ import annotations

import random

import pytest

from ray_store_shm.effects import Close, Order, Send
from ray_store_shm.messages import Answer, Found, Refused, Reserve, Reserved
from ray_store_shm.table import Table, Violation

CAPACITY = 1000
MAX_OBJECTS = 40
KEEP_S, MAX_KEPT = 20.0, 4


class Model:
    """Drives a table as clients would, and knows what must hold."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.table = Table(CAPACITY, 5.0, max_objects=MAX_OBJECTS, keep_s=KEEP_S)
        self.now = 0.0
        self.clients: list[int] = []
        self.joined = 0
        self.next_fd = 0
        self.open_fds: set[int] = set()
        #: {client: {serial: id}} being written, {client: {serial: holds}}
        self.writing: dict[int, dict[int, bytes]] = {}
        self.holding: dict[int, dict[int, int]] = {}
        self.asked: dict[tuple[int, int], bytes] = {}
        #: {client: numbers of segments} that it could write again
        self.kept: dict[int, set[int]] = {}
        #: {serial: number of the segment} of what is written into used memory
        self.rewritten: dict[int, int] = {}
        #: Serials whose memory a process may see for ever.
        self.seen_for_ever: set[int] = set()
        #: {number of a segment: serial of the object that is in it}
        self.content: dict[int, int] = {}
        self.number = 0

    def id(self) -> bytes:
        return bytes([self.chance.randrange(30)]) * 20

    def step(self) -> None:
        self.now += self.chance.random()
        table, chance = self.table, self.chance
        if not self.clients or (len(self.clients) < 5 and chance.random() < 0.1):
            self.joined += 1
            self.clients.append(self.joined)
            self.writing[self.joined], self.holding[self.joined] = {}, {}
            table.join(self.joined, 1000 + self.joined)
            self.kept[self.joined] = set()
            if chance.random() < 0.8:
                table.keep(self.joined, MAX_KEPT)
        client = chance.choice(self.clients)
        self.number += 1
        action = chance.randrange(10)
        if action < 3:
            self.asked[client, self.number] = object_id = self.id()
            nbytes, afresh = chance.choice([0, 10, 100, 105, 600, 2000]), chance.random() < 0.2
            table.reserve(client, Reserve(self.number, object_id, nbytes, afresh=afresh), self.now)
        elif action < 5 and self.writing[client]:
            serial = chance.choice(list(self.writing[client]))
            del self.writing[client][serial]
            if chance.random() < 0.8:
                if table.awaits_memory(client, serial) is None:
                    assert self.rewritten[serial] in self.kept[client], "it is written where its creator cannot write"
                    table.seal(client, serial)
                else:
                    self.next_fd += 1
                    self.open_fds.add(self.next_fd)
                    keeps = table.spares.can_keep(client) and chance.random() < 0.8
                    if keeps:
                        self.kept[client].add(serial)
                        self.content[serial] = serial
                    table.seal(client, serial, self.next_fd, keeps=keeps)
            else:
                table.abort(client, serial)
        elif action == 5:
            table.get(client, self.number, self.id(), 0)
        elif action == 6 and self.holding[client]:
            serial = chance.choice(list(self.holding[client]))
            forked = chance.random() < 0.1
            if forked:
                self.seen_for_ever.add(serial)
            table.release(client, serial, self.holding[client].pop(serial), forked=forked)
        elif action == 7:
            table.delete(chance.choice(list(table.live)) if table.live else self.id())
        elif action == 8 and chance.random() < 0.1:
            self.lose(client)
        elif action == 9:
            table.subscribe(client, self.id())
        table.advance(self.now)
        self.take()
        self.check()

    def lose(self, client: int) -> None:
        self.seen_for_ever |= self.holding[client].keys()
        self.table.lost(client)
        self.clients.remove(client)
        del self.writing[client], self.holding[client], self.kept[client]

    def take(self) -> None:
        for effect in self.table.effects:
            if isinstance(effect, Close):
                self.open_fds.remove(effect.fd)
            elif isinstance(effect, Order):
                if effect.serial:
                    assert self.content[effect.segment] == effect.serial, "something else is protected"
                elif effect.client in self.kept:
                    written = {self.rewritten.get(serial) for serial in self.writing[effect.client]}
                    assert effect.segment not in written, "it is forgotten while it is written"
                    self.kept[effect.client].remove(effect.segment)
            elif isinstance(effect, Send) and effect.client in self.writing:
                if isinstance(effect.reply, Reserved):
                    asked = self.asked.pop((effect.client, effect.reply.number))
                    self.writing[effect.client][effect.reply.serial] = asked
                    if effect.reply.segment:
                        self.rewrite(effect.client, effect.reply)
                elif isinstance(effect.reply, Found):
                    holds = self.holding[effect.client]
                    holds[effect.reply.serial] = holds.get(effect.reply.serial, 0) + 1
                    assert effect.fd in self.open_fds
                else:
                    assert isinstance(effect.reply, (Answer, Refused))
        self.table.effects.clear()

    def rewrite(self, client: int, reply: Reserved) -> None:
        assert reply.segment in self.kept[client]
        before = self.content[reply.segment]
        assert before not in self.table.entries, "it is written where another object is"
        assert not any(before in holds for holds in self.holding.values()), "it is written where a client reads"
        assert before not in self.seen_for_ever
        self.content[reply.segment] = reply.serial
        self.rewritten[reply.serial] = reply.segment

    def check(self) -> None:
        table, spares = self.table, self.table.spares
        assert table.used_bytes == sum(entry.room for entry in table.entries.values())
        assert all(entry.nbytes <= entry.room <= entry.nbytes * 9 / 8 for entry in table.entries.values())
        assert table.used_bytes + spares.nbytes <= CAPACITY
        assert len(table.entries) + len(spares) <= MAX_OBJECTS
        assert not any(e.segment.is_written for e in table.entries.values() if e.segment is not None and not e.creator)
        in_use = {entry.segment.fd for entry in table.entries.values() if entry.segment is not None}
        assert in_use <= self.open_fds
        assert len(self.open_fds) == len(in_use) + len(spares), "a segment is in two places, or in none"
        assert all(len(kept) <= MAX_KEPT for kept in self.kept.values())
        deadline = table.next_deadline()
        assert len(spares) == 0 or (deadline is not None and deadline <= self.now + KEEP_S)
        assert {s for serials in self.writing.values() for s in serials} == {
            serial for serial, entry in table.entries.items() if entry.creator
        }
        for serials in self.holding.values():
            assert serials.keys() <= table.entries.keys(), "something that is held was freed"
        for entry in table.entries.values():
            assert not entry.deleted or entry.creator or entry.holders, "something that nobody needs is kept"


@pytest.mark.parametrize("seed", range(20))
def test_random_lives(seed):
    model = Model(seed)
    for _ in range(1500):
        model.step()
    assert len(model.rewritten) > 5, "memory was hardly used again"
    for client in list(model.clients):
        model.lose(client)
    for object_id in list(model.table.live):
        model.table.delete(object_id)
    model.take()
    assert (model.table.used_bytes, model.table.entries, model.open_fds) == (0, {}, set())


def test_a_client_may_not_end_what_is_not_its():
    table = Table(CAPACITY, 5.0)
    table.join(1, 1)
    table.join(2, 2)
    table.reserve(1, Reserve(1, b"a" * 20, 10), 0.0)
    for call in (
        lambda: table.seal(2, 1, 5),
        lambda: table.abort(2, 1),
        lambda: table.release(1, 1, 1),
        lambda: table.release(1, 99, 1),
    ):
        with pytest.raises(Violation):
            call()
    table.seal(1, 1, 5)
    with pytest.raises(Violation):
        table.seal(1, 1, 6)


def test_requests_for_room_are_served_in_their_order_and_refused_in_time():
    table = Table(CAPACITY, 5.0)
    for client in (1, 2, 3):
        table.join(client, client)
    table.reserve(1, Reserve(1, b"a" * 20, 900), 0.0)
    table.reserve(2, Reserve(1, b"b" * 20, 500), 1.0)
    table.reserve(3, Reserve(1, b"c" * 20, 50), 2.0)
    assert [type(effect.reply) for effect in table.effects if isinstance(effect, Send)] == [Reserved]
    assert table.next_deadline() == 6.0
    table.advance(6.0)
    replies = {effect.client: effect.reply for effect in table.effects if isinstance(effect, Send)}
    assert isinstance(replies[2], Refused)
    assert isinstance(replies[3], Reserved)


def test_the_table_knows_what_it_would_grant():
    table = Table(CAPACITY, 5.0, max_objects=2)
    table.join(1, 1)
    assert table.would_grant(b"a" * 20, CAPACITY)
    assert not table.would_grant(b"a" * 20, CAPACITY + 1)
    table.reserve(1, Reserve(1, b"a" * 20, 900), 0.0)
    assert not table.would_grant(b"a" * 20, 10), "it exists"
    assert not table.would_grant(b"b" * 20, 101)
    assert table.would_grant(b"b" * 20, 100)
    table.reserve(1, Reserve(2, b"b" * 20, 50), 0.0)
    assert not table.would_grant(b"c" * 20, 10), "there is no descriptor for a third"
    table.delete(b"b" * 20)
    table.abort(1, 2)
    table.reserve(1, Reserve(3, b"d" * 20, 500), 1.0)
    assert not table.would_grant(b"c" * 20, 10), "a client waits already"
