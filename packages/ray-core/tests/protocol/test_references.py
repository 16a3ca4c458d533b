"""References among processes: nothing is freed while a process holds it, everything is freed in the end.

First the table alone, then a simulation: several processes with the exchange of the runtime, that put, submit, return,
yield, fetch, keep and drop references, and die. Any of them runs tasks of any other, and those that it has submitted
itself. Messages of a pair of processes keep their order and take any time otherwise.
"""

from __future__ import annotations

import contextlib
import gc
import random
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, pairwise
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.owners import Clock
from tests.quick import first_of

from ray.messages import codec, wire
from ray.protocol import references
from ray.protocol.references import FAILED, PENDING, READY, STORED, ObjectEntry, ReferenceTable
from ray.runtime.owner.borrowing import STRIKE_S, Borrowing
from ray.runtime.owner.handed_refs import ActorLife, address_of_owner, describe
from ray.runtime.owner.here import Here
from ray.runtime.owner.lending import Lending
from ray.runtime.owner.letting_go import LettingGo
from ray.runtime.refs.ref import ObjectRef
from ray.testing.interruption import interrupted

# --- the table alone --------------------------------------------------------------------------------------------------


def freed(table: ReferenceTable) -> list[bytes]:
    return [entry.id for entry in table.collect()]


def test_entry_lives_while_anything_is_above_zero() -> None:
    table = ReferenceTable()
    entry = table.own(b"a")
    ref = ObjectRef(entry)
    table.pin([entry])
    table.grant(entry, b"b")
    del ref
    assert freed(table) == []
    table.unpin([entry])
    assert freed(table) == []
    table.take_back(b"a", b"b", 1)
    assert freed(table) == [b"a"]
    assert entry.freed
    assert table.entries == {}


def test_sum_of_credits_may_be_negative_for_a_moment() -> None:
    table = ReferenceTable()
    entry = table.own(b"a")
    table.grant(entry, b"a", 1)
    table.take_back(b"a", b"b", 2)
    table.take_back(b"a", b"a", 1)
    assert freed(table) == []
    table.grant(entry, b"b", 1)
    assert freed(table) == []
    table.grant(entry, b"b", 1)
    assert freed(table) == [b"a"]
    table.take_back(b"a", b"b", 1)  # of an object that is gone


def test_lost_borrower_holds_nothing_whatever_its_sum() -> None:
    table = ReferenceTable()
    first, second, third = table.own(b"1"), table.own(b"2"), table.own(b"3")
    table.grant(first, b"x", 5)
    table.take_back(b"2", b"x", 3)
    table.grant(third, b"y")
    table.borrower_lost(b"x")
    assert sorted(freed(table)) == [b"1", b"2"]
    assert second.credits is None
    assert table.entries == {b"3": third}


def test_what_an_owner_has_sent_to_itself_is_held_until_it_arrives() -> None:
    table = ReferenceTable()
    entry, lost = table.own(b"a"), table.own(b"b")
    for sent in (entry, entry, lost):
        table.grant(sent, b"me")
    table.grant(entry, b"x")
    table.arrived(b"a", b"me", 1)
    table.take_back(b"a", b"x", 1)
    assert freed(table) == []
    table.arrived(b"a", b"me", 1)
    assert freed(table) == [b"a"]
    table.arrived(b"a", b"me", 1)
    table.borrower_lost(b"me")  # the connection to itself
    table.arrived(b"b", b"me", 1)
    assert lost.credits is None
    assert freed(table) == [b"b"]


def test_contained_entries_follow_however_deep() -> None:
    table = ReferenceTable()
    chain = [table.own(b"%d" % i) for i in range(50_000)]
    for outer, inner in pairwise(chain):
        table.set_contained(outer, [inner])
    ref = ObjectRef(chain[0])
    assert freed(table) == []
    del ref
    assert len(freed(table)) == len(chain)
    assert table.entries == {}


def test_borrowed_entry_sums_what_it_was_handed() -> None:
    table = ReferenceTable()
    entry = table.borrow(b"a", "owner", 1)
    assert table.borrow(b"a", "owner", 2) is entry
    assert entry.handed == 3
    own = table.own(b"b")
    assert table.borrow(b"b", "me", 4) is own
    assert own.handed == 0
    assert entry.owner is not None
    assert (entry.owner.process, entry.owner.address) == (b"a", "owner")
    assert table.owner_lost(b"a") == [entry]


def test_sizes_of_what_is_in_the_store_lie_beside_the_value() -> None:
    table = ReferenceTable()
    told: list[ObjectEntry] = []
    entry, fresh = table.own(b"a"), table.own(b"b")
    assert entry.call_when_done(told.append)
    table.complete_stored(entry, 7)
    table.fill_stored(fresh, 8)
    assert told == [entry]
    assert [(each.status, each.value, each.nbytes) for each in (entry, fresh)] == [(STORED, None, 7), (STORED, None, 8)]
    assert [describe(each, "here").nbytes for each in (entry, fresh)] == [7, 8]


def test_what_counts_an_actors_handles_has_no_value() -> None:
    table = ReferenceTable()
    life = table.put(b"life", None)
    life.task = ActorLife(b"actor")
    assert describe(life, "here") == wire.Ref(b"life", "here", 0)
    table.validate()


@pytest.mark.parametrize(
    ("breaks", "what"),
    [
        (lambda entry: setattr(entry, "status", 9), "an entry of status 9"),
        (lambda entry: setattr(entry, "value", b"early"), "a value of what is not here"),
        (lambda entry: setattr(entry, "status", FAILED), "a failure without its reason"),
        (lambda entry: setattr(entry, "pins", -1), "a count is below zero"),
        (lambda entry: setattr(entry, "freed", True), "let go of, and is kept"),
        (lambda entry: setattr(entry, "credits", None), "credits of what is not here"),
        (lambda entry: setattr(entry, "handed", 1), "owes credits for it"),
        (lambda entry: entry.table.borrow(b"of another", "there").owner.entries.clear(), "not found by its owner"),
    ],
)
def test_what_is_wrong_with_a_table_is_found(breaks: Callable[[ObjectEntry], None], what: str) -> None:
    table = ReferenceTable()
    entry = table.own(b"a")
    table.grant(entry, b"b")
    table.validate()
    breaks(entry)
    with pytest.raises(AssertionError, match=what):
        table.validate()


class Unscanned(dict[bytes, ObjectEntry]):
    """Entries that nobody may go through."""

    def values(self) -> NoReturn:
        raise AssertionError("all entries were looked at")

    items = __iter__ = values  # type: ignore[assignment]


def test_the_loss_of_a_process_costs_what_it_held() -> None:
    table = ReferenceTable()
    table.entries = Unscanned()
    for number in range(100):
        table.grant(table.own(b"own %d" % number), b"theowner")
        table.borrow(b"theowner%d" % number, "others", 1)
    lent, borrowed = table.own(b"lent"), table.borrow(b"thelost1theirs", "lost", 1)
    table.grant(lent, b"thelost1", 2)
    table.borrower_lost(b"thelost1")
    assert table.owner_lost(b"thelost1") == [borrowed]
    assert lent.credits is None
    assert borrowed.handed == 0
    assert freed(table) == [b"lent"]
    assert len(table.owner_lost(b"theowner")) == 100
    assert table.owner_lost(b"nobody") == []


def test_what_is_freed_is_looked_at_no_more() -> None:
    table = ReferenceTable()
    entry, other = table.borrow(b"theownera", "owner", 1), table.borrow(b"theownerb", "owner", 1)
    table.unpin([entry])
    assert freed(table) == [b"theownera"]
    again = table.borrow(b"theownera", "owner", 1)
    assert sorted(table.owner_lost(b"theowner"), key=lambda found: found.id) == [again, other]
    table.unpin([again, other])
    assert sorted(freed(table)) == [b"theownera", b"theownerb"]
    assert table.owner_lost(b"theowner") == []
    own = table.own(b"c")
    table.grant(own, b"borrower", 2)
    table.take_back(b"c", b"borrower", 2)
    assert freed(table) == [b"c"]
    table.borrower_lost(b"borrower")
    assert freed(table) == []


def test_what_is_borrowed_is_held() -> None:
    table = ReferenceTable()
    entry = table.borrow(b"a", "owner", 1)
    ref = ObjectRef(entry)
    del ref
    assert freed(table) == []
    table.unpin([entry])
    assert freed(table) == [b"a"]
    assert table.hold(b"a") is None


def points_of(call: Callable[[], object], inside: Callable[[], object], point: int) -> int:
    """Run ``call`` with ``inside`` in its midst; returns the number of points."""
    return interrupted(call, point, inside, lambda path: path == references.__file__)[1]


def test_credits_are_summed_whatever_comes_in_between() -> None:
    point = 0
    while True:
        point += 1
        table = ReferenceTable()
        entry = table.own(b"a")

        def inside(table: ReferenceTable = table, entry: ObjectEntry = entry) -> None:
            table.grant(entry, b"borrower", 2)

        points = points_of(lambda table=table, entry=entry: table.grant(entry, b"borrower"), inside, point)
        if point > points:
            break
        assert entry.credits == {b"borrower": 3}, f"at point {point}"
    assert point > 1


def test_a_lost_borrower_holds_nothing_whatever_it_returns_in_between() -> None:
    point = 0
    while True:
        point += 1
        table = ReferenceTable()
        entry = table.own(b"a")
        table.grant(entry, b"borrower", 2)

        def inside(table: ReferenceTable = table) -> None:
            table.take_back(b"a", b"borrower", 1)

        points = points_of(lambda table=table: table.borrower_lost(b"borrower"), inside, point)
        if point > points:
            break
        if entry.credits:  # it came behind
            assert entry.credits == {b"borrower": -1}
            table.borrower_lost(b"borrower")
        assert freed(table) == [b"a"], f"at point {point}"
    assert point > 1


def test_a_value_that_is_freed_while_its_refs_are_noted_holds_none() -> None:
    table = ReferenceTable()
    refs = [ObjectRef(table.own(b"outer")), ObjectRef(table.own(b"inner"))]
    outer, inner = (ref._entry for ref in refs)

    def interrupted_by_a_finaliser() -> Iterator[ObjectEntry]:
        del refs[0]
        assert freed(table) == [b"outer"]
        yield inner

    table.set_contained(outer, interrupted_by_a_finaliser())
    refs.clear()
    assert freed(table) == [b"inner"]


def test_a_ref_arrives_while_the_last_one_is_collected() -> None:
    """The entry that it finds is not freed under it, nor taken from the table when it is a new one."""
    point = 0
    while True:
        point += 1
        table = ReferenceTable()
        entry = table.borrow(b"a", "owner")
        table.unpin([entry])
        arrived: list[ObjectEntry] = []

        def inside(table: ReferenceTable = table, arrived: list[ObjectEntry] = arrived) -> None:
            arrived.append(table.borrow(b"a", "owner"))

        points = points_of(lambda table=table: freed(table), inside, point)
        if point > points:
            break
        assert table.entries == {b"a": arrived[0]}, f"at point {point}"
        assert not arrived[0].freed
        table.unpin(arrived)
        freed(table)
        assert table.entries == {}
    assert point > 1


def test_a_ref_is_collected_while_another_one_arrives() -> None:
    point = 0
    while True:
        point += 1
        table = ReferenceTable()
        table.unpin([table.borrow(b"a", "owner")])
        arrived: list[ObjectEntry] = []

        def call(table: ReferenceTable = table, arrived: list[ObjectEntry] = arrived) -> None:
            arrived.append(table.borrow(b"a", "owner", 1))

        points = points_of(call, lambda table=table: freed(table), point)
        assert table.entries == {b"a": arrived[0]}, f"at point {point}"
        assert (arrived[0].freed, arrived[0].handed) == (False, 1)
        if point > points:
            break
    assert point > 1


def test_refs_of_one_owner_that_arrive_in_one_another_are_lost_together() -> None:
    point = 0
    while True:
        point += 1
        table = ReferenceTable()

        def inside(table: ReferenceTable = table) -> None:
            table.borrow(b"theownerb", "first")

        points = points_of(lambda table=table: table.borrow(b"theownera", "second"), inside, point)
        if point > points:
            break
        lost = table.owner_lost(b"theowner")
        assert sorted(entry.id for entry in lost) == [b"theownera", b"theownerb"], f"at point {point}"
        assert len({entry.owner for entry in lost}) == 1
        table.unpin(lost)
        assert len(freed(table)) == 2
        assert table._borrowed == {}
    assert point > 1


def test_same_id_again_after_it_was_freed_is_another_entry() -> None:
    table = ReferenceTable()
    first = table.borrow(b"a", "owner")
    table.unpin([first])
    assert freed(table) == [b"a"]
    second = table.borrow(b"a", "owner")
    table.dropped.append(first)  # told twice
    assert freed(table) == []
    assert table.entries[b"a"] is second


def test_refs_of_a_closed_table_answer_for_their_id() -> None:
    table = ReferenceTable()
    ref = ObjectRef(table.own(bytes(20)))
    table.close()
    assert table.entries == {}
    assert ref.binary() == bytes(20)
    del ref


class TableMachine(RuleBasedStateMachine):
    """One owner's table against plain counts."""

    @initialize()
    def begin(self) -> None:
        self.table = ReferenceTable()
        self.numbers = count()
        self.refs: dict[bytes, list[Any]] = {}
        self.pins: dict[bytes, int] = {}
        self.credits: dict[tuple[bytes, bytes], int] = {}
        self.inner: dict[bytes, list[bytes]] = {}
        self.live: dict[bytes, Any] = {}

    def some(self, data: Any) -> Any:
        return self.live[data.draw(st.sampled_from(sorted(self.live)))]

    @rule()
    def own(self) -> None:
        entry = self.table.own(b"%d" % next(self.numbers))
        self.live[entry.id] = entry
        self.refs[entry.id] = [ObjectRef(entry)]

    @rule(data=st.data(), many=st.integers(1, 3))
    def contain(self, data: Any, many: int) -> None:
        if self.live:
            inner = [self.some(data) for _ in range(many)]
            self.own()
            outer = next(reversed(self.live.values()))
            self.table.set_contained(outer, inner)
            self.inner[outer.id] = [entry.id for entry in inner]

    @rule(data=st.data())
    def refer(self, data: Any) -> None:
        if self.live:
            entry = self.some(data)
            self.refs.setdefault(entry.id, []).append(ObjectRef(entry))

    @rule(data=st.data())
    def drop(self, data: Any) -> None:
        if self.live and self.refs.get(entry_id := self.some(data).id):
            self.refs[entry_id].pop()

    @rule(data=st.data(), step=st.sampled_from([1, -1]))
    def pin(self, data: Any, step: int) -> None:
        if self.live:
            entry = self.some(data)
            if step > 0:
                self.table.pin([entry])
            elif self.pins.get(entry.id, 0):
                self.table.unpin([entry])
            else:
                return
            self.pins[entry.id] = self.pins.get(entry.id, 0) + step

    @rule(data=st.data(), borrower=st.sampled_from([b"x", b"y", b"z"]), credits=st.integers(-2, 2).filter(bool))
    def credit(self, data: Any, borrower: bytes, credits: int) -> None:
        if self.live:
            entry = self.some(data)
            if credits > 0:
                self.table.grant(entry, borrower, credits)
            else:
                self.table.take_back(entry.id, borrower, -credits)
            self.credits[entry.id, borrower] = self.credits.get((entry.id, borrower), 0) + credits

    @rule(borrower=st.sampled_from([b"x", b"y", b"z"]))
    def lose(self, borrower: bytes) -> None:
        self.table.borrower_lost(borrower)
        self.credits = {key: value for key, value in self.credits.items() if key[1] != borrower}

    @rule()
    def collect(self) -> None:
        gone = {entry.id for entry in self.table.collect()}
        expected = self.unheld()
        assert gone == expected
        for id in gone:
            del self.live[id]

    def unheld(self) -> set[bytes]:
        held = [id for id in self.live if self.refs.get(id) or self.pins.get(id)]
        held += [id for (id, _), credits in self.credits.items() if credits and id in self.live]
        reached: set[bytes] = set()
        while held:
            id = held.pop()
            if id not in reached:
                reached.add(id)
                held += self.inner.get(id, ())
        return set(self.live) - reached

    @invariant()
    def nothing_held_is_gone(self) -> None:
        assert set(self.table.entries) == set(self.live)


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


# --- several processes ------------------------------------------------------------------------------------------------


#: The value of an object that its owner has freed, or whose owner is dead.
LOST = b"lost"


class Peer:
    """One process as another sees it."""

    def __init__(self, world: World, here: str, address: str) -> None:
        self.world, self.here, self.address, self.process = world, here, address, address.encode()
        self.lost, self.stands, self.near = False, True, True
        self.kept: dict[bytes, int] = {}

    def send(self, message: Any, frames: Any = None) -> None:
        link = self.world.links.setdefault((self.here, self.address), deque())
        link.append(codec.encode(message))
        self.world.sent.append((self.here, link))


class Peers:
    """The connections of a process."""

    def __init__(self, world: World, here: str) -> None:
        self.world, self.here = world, here
        self.by_process: dict[bytes, Peer] = {}

    def reach(self, process: bytes, address: str) -> Peer:
        assert process == address.encode()
        peer = self.by_process.get(process)
        if peer is None:
            other = self.world.processes.get(address)
            if other is None:
                raise ConnectionError(f"nobody is at {address}")
            peer = self.by_process[process] = Peer(self.world, self.here, address)
            other.peers.by_process.setdefault(self.here.encode(), Peer(self.world, address, self.here))
        return peer


class Process:
    """The parts of an owner that count references, and a user's program that plays with them."""

    def __init__(self, world: World, address: str) -> None:
        self.world, self.address = world, address
        self.table = ReferenceTable()
        self.peers: Any = Peers(world, address)
        here = Here("session", address.encode(), "")
        here.address = address
        reports: Any = SimpleNamespace(envelope=lambda *facts: LOST, retrieved=lambda entry: None)
        timers: Any = SimpleNamespace(after=self.after)
        lock = contextlib.nullcontext()
        self.borrowing = Borrowing(here, self.table, self.peers, reports, timers, None, lambda peer: None, lock)
        values: Any = SimpleNamespace(
            views=SimpleNamespace(drop=lambda id: None), release=lambda entry: None, delete=lambda entry: None
        )
        self.lending = Lending(self.table, values, self.borrowing, reports, lock)
        lives: Any = SimpleNamespace(by_life={})
        self.letting_go = LettingGo(here, self.table, values, self.borrowing, self.peers, lives, self.never, self.never)
        #: What the program holds.
        self.refs: list[ObjectRef[Any]] = []
        #: {task id: its worker, the entry of its result, what its arguments need} of tasks submitted here.
        self.records: dict[bytes, Any] = {}
        #: {task id: (submitter, task, its argument refs)} of tasks that run here.
        self.running: dict[bytes, tuple[str, wire.Task, list[ObjectRef[Any]]]] = {}
        #: {task id: entries that hold the borrowed ones of its arguments}
        self.held: dict[bytes, list[ObjectEntry]] = {}

    def after(self, delay_s: float, callback: Callable[[], object]) -> None:
        self.world.clock.after(delay_s, lambda: self.world.processes.get(self.address) is self and callback())

    def new_id(self) -> bytes:
        return self.address.encode() + self.world.new_number()

    def peer_at(self, address: str) -> Any:
        return self.peers.reach(address.encode(), address)

    def never(self, what: object) -> None:
        raise AssertionError(what)

    def collect(self) -> None:
        self.letting_go.collect()

    def serves(self) -> set[str]:
        return {submitter for submitter, _, _ in self.running.values()}

    # --- what the program does

    def put(self, inner: list[ObjectRef[Any]]) -> None:
        entry = self.table.own(self.new_id())
        entry.value, entry.status = b"value", READY
        if inner:
            self.table.set_contained(entry, [ref._entry for ref in inner])
        self.refs.append(ObjectRef(entry))

    def submit(self, worker: str, nested: list[ObjectRef[Any]], whole: list[ObjectRef[Any]]) -> None:
        """``nested`` are inside the arguments; ``whole`` are arguments themselves, whose values travel."""
        task_id = self.new_id()
        entry = self.table.own(task_id)
        self.refs.append(ObjectRef(entry))
        deps = [ref._entry for ref in whole if ref._entry.status == READY]
        record = self.records[task_id] = SimpleNamespace(
            id=task_id,
            worker=worker,
            entry=entry,
            refs=[ref._entry for ref in nested],
            deps=list(enumerate(deps)),
            done=False,
        )
        self.table.pin([*record.refs, *deps])
        self.borrowing.hand_over_arguments(record, self.peer_at(worker), set())
        described = [
            wire.Dependency(
                at, b"value", dep.id, address_of_owner(dep, self.address), self.describe(dep.contained, worker)
            )
            for at, dep in record.deps
        ]
        task = wire.Task(task_id, b"f", b"args", deps=described, refs=self.describe(record.refs, worker))
        self.peer_at(worker).send(wire.Push([task]))

    def describe(self, entries: Any, receiver: str) -> list[wire.Ref]:
        return [
            describe(entry, self.address, 0 if address_of_owner(entry, receiver) == receiver else 1)
            for entry in entries
        ]

    def cancel(self, task_id: bytes) -> None:
        """Nobody wants the result any more; the task goes on."""
        record = self.records[task_id]
        record.done = True
        record.entry.table.complete(record.entry, FAILED, b"error")

    def read(self, entry: ObjectEntry) -> None:
        """``ray.get``: the refs inside are the program's as well."""
        if entry.status == PENDING:
            self.borrowing.want(entry)
        elif entry.status == READY:
            self.refs += [ObjectRef(inner) for inner in entry.contained]

    def yield_refs(self, task_id: bytes, yielded: list[ObjectRef[Any]]) -> None:
        submitter, _, _ = self.running[task_id]
        peer = self.peer_at(submitter)
        refs = self.borrowing.hand_over([ref._entry for ref in yielded], peer)
        yielded.clear()
        peer.send(wire.Yielded(task_id, 0, b"value", refs))

    def end_task(self, task_id: bytes, keep: bool, returned: list[ObjectRef[Any]]) -> None:
        """As a worker does: credits for what is returned, then the list of what is kept."""
        submitter, task, arguments = self.running.pop(task_id)
        if keep:
            self.refs += arguments
        arguments.clear()
        self.table.unpin(self.held.pop(task_id))
        peer = self.peer_at(submitter)
        refs = self.borrowing.hand_over([ref._entry for ref in returned], peer)
        returned.clear()
        kept = []
        for ref in [*task.refs, *(ref for dependency in task.deps for ref in dependency.refs)]:
            entry = self.table.entries.get(ref.id)
            if entry is not None and entry.owner is not None and not ref.credits and (entry.local or entry.pins):
                entry.handed += 1
                self.borrowing.keeps(entry, submitter.encode(), 1)
                kept.append(ref.id)
        peer.send(wire.Replies([wire.Done(task_id, True, [b"value"], 0, kept, [refs])]))

    # --- what it is told

    def receive(self, sender: str, message: Any) -> None:
        peer: Any = self.peers.by_process.setdefault(sender.encode(), Peer(self.world, self.address, sender))
        match message:
            case wire.Fetch():
                self.lending.on_fetch(peer, message, [])
            case wire.Fetched():
                self.borrowing.on_fetched(peer, message, [])
            case wire.Credit():
                self.borrowing.on_credit(peer, message, [])
            case wire.Holds():
                self.borrowing.on_holds(peer, message, [])
            case wire.Push(tasks=[task]):
                self.held[task.id] = self.borrowing.receive_arguments(task, sender.encode())
                inner = [*task.refs, *(ref for dependency in task.deps for ref in dependency.refs)]
                entries = [self.borrowing.borrow(ref.id, ref.address) for ref in inner]
                arguments = [ObjectRef(entry) for entry in entries]
                self.table.unpin(entries)
                self.running[task.id] = (sender, task, arguments)
            case wire.Yielded():
                self.take_yielded(message, sender.encode())
            case wire.Replies(done=[done]):
                self.finish(sender, done)
            case _:
                raise AssertionError(message)

    def take_yielded(self, message: wire.Yielded, giver: bytes) -> None:
        record = self.records[message.task]
        if record.done:  # the consumer has left
            self.borrowing.drop_refs(message.refs)
            return
        entry = self.table.own(self.new_id())
        self.refs.append(ObjectRef(entry))
        self.borrowing.receive_refs(entry, message.refs, credits=1, giver=giver)
        entry.table.complete(entry, READY, b"value")

    def finish(self, worker: str, done: wire.Done) -> None:
        record = self.records.pop(done.id)
        peer: Any = Peer(self.world, self.address, worker)  # which may be lost
        self.borrowing.grant_kept(record, done.kept, peer)
        if record.done:
            self.borrowing.drop_refs(done.refs[0])
        else:
            self.borrowing.receive_refs(record.entry, done.refs[0], credits=1, giver=worker.encode())
            record.entry.table.complete(record.entry, READY, b"value")
        self.unpin(record)

    def unpin(self, record: Any) -> None:
        self.table.unpin([*record.refs, *(entry for _, entry in record.deps)])

    def lose(self, address: str) -> None:
        peer = self.peers.by_process.pop(address.encode(), None)
        if peer is not None:
            peer.lost = True
        self.borrowing.peer_lost(address.encode())
        for task_id, record in list(self.records.items()):
            if record.worker == address:
                del self.records[task_id]
                if not record.done:
                    record.entry.table.complete(record.entry, FAILED, b"error")
                if self.world.far:
                    self.world.clock.after(STRIKE_S, partial(self.unpin, record))
                else:
                    self.unpin(record)


DEATH = b""


class World:
    """All processes and what is under way between them."""

    def __init__(self, seed: int, processes: int, *, deaths: bool, torn: bool = False, far: bool = False) -> None:
        self.rng = random.Random(seed)
        #: Each process is on a node of its own, and what is in its queues is lost with it.
        self.far = far
        self.clock = Clock()
        self.steps = 0
        #: Whether a process may die in the middle of what it does, some of its messages not sent.
        self.torn = torn
        #: What was sent in this step: (sender, the link whose last message it is).
        self.sent: list[tuple[str, deque[bytes]]] = []
        self.numbers = count(1)
        #: {(from, to): messages in order}
        self.links: dict[tuple[str, str], deque[bytes]] = {}
        self.processes: dict[str, Process] = {}
        self.deaths = deaths
        for _ in range(processes):
            self.start_process()

    def start_process(self) -> None:
        address = f"{next(self.numbers):04}proc" if self.far else f"p{next(self.numbers):07}"
        self.processes[address] = Process(self, address)

    def new_number(self) -> bytes:
        """What an id ends with; the ids that are made later are greater."""
        return next(self.numbers).to_bytes(12, "big")

    def step(self) -> None:
        rng = self.rng
        self.sent.clear()
        process = rng.choice(list(self.processes.values()))
        refs = process.refs
        match rng.choices(range(10), [6, 7, 4, 4, 4, 4, 14, 2, 0.5, self.deaths * 0.3])[0]:
            case 0 if len(refs) < 12:
                process.put(rng.sample(refs, rng.randint(0, min(3, len(refs)))))
            case 1 if refs:
                refs.pop(rng.randrange(len(refs)))
            case 2:
                self.submit(process)
            case 3 if refs:
                process.read(rng.choice(refs)._entry)
            case 4 if process.running:
                self.end_task(process)
            case 5:
                process.collect()
            case 6:
                self.deliver()
            case 7 if process.running:
                task_id = rng.choice(list(process.running))
                process.yield_refs(task_id, self.at_hand(process, task_id))
            case 8 if process.records:
                task_id = rng.choice(list(process.records))
                if not process.records[task_id].done:
                    process.cancel(task_id)
            case 9:
                self.replace(process.address)
        if self.torn and self.sent and rng.random() < 0.02:
            self.tear(self.sent[0][0])
        self.steps += 1
        if self.far and not self.steps % 20:
            self.passes(0.9)
        self.check()

    def passes(self, seconds: float) -> None:
        """Nothing is under way for longer than that, so what is claimed comes before anything is struck out."""
        while self.deliver():
            self.check()
        self.clock.passes(seconds)

    def submit(self, process: Process) -> None:
        free = [other.address for other in self.processes.values() if other.serves() <= {process.address}]
        if free:
            refs, rng = process.refs, self.rng
            nested, whole = (rng.sample(refs, rng.randint(0, min(2, len(refs)))) for _ in range(2))
            process.submit(rng.choice(free), nested, whole)

    def end_task(self, process: Process) -> None:
        task_id = self.rng.choice(list(process.running))
        process.end_task(task_id, self.rng.random() < 0.5, self.at_hand(process, task_id))

    def at_hand(self, process: Process, task_id: bytes) -> list[ObjectRef[Any]]:
        """Some of what a task can return. Only what is older: values in a circle hold each other, as with any counting.

        Now and then something new, as ``ray.put`` in the task gives it.
        """
        rng = self.rng
        arguments = process.running[task_id][2]
        known = [ref for ref in [*process.refs, *arguments] if ref.binary()[8:] < task_id[8:]]
        chosen = rng.sample(known, rng.randint(0, min(3, len(known))))
        if rng.random() < 0.3:
            process.put(chosen)
            chosen.append(process.refs.pop())
        return chosen

    def deliver(self) -> bool:
        """One message, of any pair. False if nothing is under way."""
        waiting = [pair for pair, messages in self.links.items() if messages]
        if not waiting:
            return False
        self.hand_on(*self.rng.choice(waiting))
        return True

    def hand_on(self, sender: str, receiver: str) -> None:
        message = self.links[sender, receiver].popleft()
        process = self.processes.get(receiver)
        if process is not None:
            if message == DEATH:
                process.lose(sender)
            else:
                process.receive(sender, codec.decode([message]))

    def kill(self, address: str) -> None:
        """What it has sent still arrives, and then the news. Workers that run its tasks are killed by their node."""
        dead = self.processes.pop(address)
        workers = [record.worker for record in dead.records.values()]
        if self.far:
            for (sender, _), link in self.links.items():
                while sender == address and link and self.rng.random() < 0.5:
                    link.pop()
        for other in dead.peers.by_process:
            self.links.setdefault((address, other.decode()), deque()).append(DEATH)
        dead.refs.clear()
        dead.running.clear()
        for worker in workers:
            if worker in self.processes:
                self.kill(worker)

    def replace(self, address: str) -> None:
        before = len(self.processes)
        self.kill(address)
        while len(self.processes) < before:
            self.start_process()

    def tear(self, address: str) -> None:
        """Kill a process in the middle of its last step: the last of its messages have not left it."""
        if address in self.processes:
            mine = [link for sender, link in self.sent if sender == address]
            for link in reversed(mine[self.rng.randrange(len(mine)) :]):
                link.pop()
            self.replace(address)

    def check(self) -> None:
        """Whatever a program holds, and whatever values contain, is alive where its owner is."""
        for process in self.processes.values():
            process.table.validate()
            held = [ref._entry for ref in process.refs]
            held += [ref._entry for _, _, arguments in process.running.values() for ref in arguments]
            for entry in held:
                assert process.table.entries.get(entry.id) is entry
            for entry in process.table.entries.values():
                held += entry.contained
            for entry in held:
                owner = self.processes.get(address_of_owner(entry, process.address))
                if owner is not None:
                    assert entry.id in owner.table.entries, f"{process.address} holds what {owner.address} has freed"
                    assert not owner.table.entries[entry.id].freed
                    assert entry.value != LOST, f"{process.address} was given what {owner.address} had freed"

    def end(self) -> None:
        """Every program lets go; then nothing may be left anywhere."""
        left = self.let_go()
        assert not any(left.values()), left

    def let_go(self) -> dict[str, list[Any]]:
        """Every program lets go, and everything is delivered; returns what is left in the tables."""
        while self.deliver() or any(process.running for process in self.processes.values()):
            for process in self.processes.values():
                process.collect()
                while process.running:
                    process.end_task(next(iter(process.running)), False, [])
            self.check()
        for process in self.processes.values():
            process.refs.clear()
        gc.collect(0)
        end = self.clock.now + 2 * STRIKE_S
        for _ in range(100_000):
            for process in self.processes.values():
                process.collect()
            if not self.deliver() and not any(process.table.dropped for process in self.processes.values()):
                if not self.far or self.clock.now > end:
                    break
                self.passes(0.2)
        return {
            address: [(item.id.hex(), item.local, item.pins, item.credits) for item in process.table.entries.values()]
            for address, process in self.processes.items()
        }


def test_ref_on_its_way_to_its_owner_by_two_ways() -> None:
    """What the owner sends to itself is covered until it arrives, whatever a borrower brings home meanwhile."""
    world = World(0, 2, deaths=False)
    owner, other = world.processes.values()
    owner.put([])
    id = owner.refs[0].binary()
    for worker, arguments in ((owner, []), (other, owner.refs[:1])):
        owner.submit(worker.address, arguments, [])
        world.hand_on(owner.address, worker.address)
        [(task_id, (_, _, arguments))] = worker.running.items()
        worker.end_task(task_id, False, arguments[:] or owner.refs[:1])
        del arguments
    owner.refs.clear()
    for sender in (other, owner):
        world.hand_on(sender.address, owner.address)
        owner.collect()
        assert (id in owner.table.entries) == (sender is other)
    world.end()


@pytest.mark.parametrize("seed", first_of(range(60), 10))
def test_processes_that_exchange_refs(seed: int) -> None:
    world = World(seed, 3 + seed % 3, deaths=False)
    for _ in range(600):
        world.step()
    world.end()


@pytest.mark.parametrize("seed", first_of(range(100), 15))
def test_processes_that_exchange_refs_and_die(seed: int) -> None:
    world = World(seed, 4 + seed % 4, deaths=True)
    for _ in range(600):
        world.step()
    world.end()


def test_a_giver_that_dies_with_the_credit_in_its_queue() -> None:
    """What it has handed on lives, as the receiver has told the owner; it is freed when the receiver lets go."""
    world = World(0, 3, deaths=True, far=True)
    owner, giver, receiver = world.processes.values()
    owner.put([])
    id = owner.refs[0].binary()
    for submitter, worker in ((owner, giver), (giver, receiver)):
        submitter.submit(worker.address, submitter.refs[:1], [])
        world.hand_on(submitter.address, worker.address)
        worker.end_task(next(iter(worker.running)), True, [])
        world.hand_on(worker.address, submitter.address)
        submitter.refs.clear()
    world.links[giver.address, owner.address].clear()
    world.kill(giver.address)
    for seconds in (0.06, 1.0, 1.0, 1.0):
        world.passes(seconds)
        owner.collect()
        world.check()
        assert id in owner.table.entries
    assert not owner.table.entries[id].credits.keys() - {receiver.address.encode()}
    receiver.refs.clear()
    gc.collect(0)
    receiver.collect()
    world.passes(0.0)
    owner.collect()
    assert id not in owner.table.entries
    owner.table.validate()


@pytest.mark.parametrize("seed", first_of(range(30), 5))
def test_processes_of_several_nodes_that_die_with_what_is_in_their_queues(seed: int) -> None:
    """Nothing is freed that is held, and nothing is kept for ever: who keeps a ref says how often it was handed it."""
    world = World(seed, 4 + seed % 4, deaths=True, far=True)
    for _ in range(1000):
        world.step()
    world.end()


@pytest.mark.parametrize("seed", first_of(range(60), 10))
def test_death_between_two_messages(seed: int) -> None:
    """Still nothing is freed that is held. A credit whose message was never sent ends with the process it was for."""
    world = World(seed, 4 + seed % 4, deaths=True, torn=True)
    for _ in range(600):
        world.step()
    world.let_go()
    while len(world.processes) > 1:
        world.kill(world.rng.choice(list(world.processes)))
        left = world.let_go()
    assert not any(left.values()), left
