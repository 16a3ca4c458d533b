"""References among processes: nothing is freed while somebody holds it, everything is freed in the end.

First the table alone, then a simulation: several processes with the exchange of the runtime, that put, submit, return,
fetch, keep and drop references, and die. Messages of a pair of processes keep their order and take any time otherwise.
"""

from __future__ import annotations

import gc
import random
from collections import deque
from itertools import count, pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ray.messages import codec, wire
from ray.protocol.references import FAILED, PENDING, READY, ObjectEntry, ReferenceTable
from ray.runtime.completion import complete
from ray.runtime.objects import ObjectExchange
from ray.runtime.ref import ObjectRef

# --- the table alone --------------------------------------------------------------------------------------------------


def freed(table: ReferenceTable) -> list[bytes]:
    return [entry.id for entry in table.collect()]


def test_entry_lives_while_anything_is_above_zero() -> None:
    table = ReferenceTable()
    entry = table.own(b"a")
    ref = ObjectRef(entry)
    table.pin([entry])
    table.grant(entry, "b")
    del ref
    assert freed(table) == []
    table.unpin([entry])
    assert freed(table) == []
    table.take_back(b"a", "b", 1)
    assert freed(table) == [b"a"]
    assert entry.freed
    assert table.entries == {}


def test_sum_of_credits_may_be_negative_for_a_moment() -> None:
    table = ReferenceTable()
    entry = table.own(b"a")
    table.grant(entry, "a", 1)
    table.take_back(b"a", "b", 2)
    table.take_back(b"a", "a", 1)
    assert freed(table) == []
    table.grant(entry, "b", 1)
    assert freed(table) == []
    table.grant(entry, "b", 1)
    assert freed(table) == [b"a"]
    table.take_back(b"a", "b", 1)  # of an object that is gone


def test_lost_borrower_holds_nothing_whatever_its_sum() -> None:
    table = ReferenceTable()
    first, second, third = table.own(b"1"), table.own(b"2"), table.own(b"3")
    table.grant(first, "x", 5)
    table.take_back(b"2", "x", 3)
    table.grant(third, "y")
    table.borrower_lost("x")
    assert sorted(freed(table)) == [b"1", b"2"]
    assert second.credits is None
    assert table.entries == {b"3": third}


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
    assert table.borrowed_from("owner") == [entry]


def test_same_id_again_after_it_was_freed_is_another_entry() -> None:
    table = ReferenceTable()
    first = table.borrow(b"a", "owner")
    table.dropped.append(first)
    assert freed(table) == [b"a"]
    second = table.borrow(b"a", "owner")
    table.dropped.append(first)  # told twice
    table.pin([second])
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
        self.credits: dict[tuple[bytes, str], int] = {}
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

    @rule(data=st.data(), borrower=st.sampled_from("xyz"), credits=st.integers(-2, 2).filter(bool))
    def credit(self, data: Any, borrower: str, credits: int) -> None:
        if self.live:
            entry = self.some(data)
            if credits > 0:
                self.table.grant(entry, borrower, credits)
            else:
                self.table.take_back(entry.id, borrower, -credits)
            self.credits[entry.id, borrower] = self.credits.get((entry.id, borrower), 0) + credits

    @rule(borrower=st.sampled_from("xyz"))
    def lose(self, borrower: str) -> None:
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
TestTable.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# --- several processes ------------------------------------------------------------------------------------------------


class Peer:
    """One process as another sees it."""

    def __init__(self, world: World, here: str, address: str) -> None:
        self.world, self.here, self.address = world, here, address
        self.lost = False
        self.kept: dict[bytes, int] = {}

    def send(self, message: Any, frames: Any = None) -> None:
        link = self.world.links.setdefault((self.here, self.address), deque())
        link.append(codec.encode(message))
        self.world.sent.append((self.here, link))


class Peers:
    """The connections of a process."""

    def __init__(self, world: World, here: str) -> None:
        self.world, self.here = world, here
        self.by_address: dict[str, Peer] = {}

    def reach(self, address: str) -> Peer:
        peer = self.by_address.get(address)
        if peer is None:
            other = self.world.processes.get(address)
            if other is None:
                raise ConnectionError(f"nobody is at {address}")
            peer = self.by_address[address] = Peer(self.world, self.here, address)
            other.peers.by_address.setdefault(self.here, Peer(self.world, address, self.here))
        return peer


class Process:
    """What an owner is to its ``ObjectExchange``, and a user's program that plays with references."""

    def __init__(self, world: World, address: str) -> None:
        self.world, self.address = world, address
        self.table = ReferenceTable()
        self.store = SimpleNamespace(
            capabilities=frozenset(), contains=lambda id: False, release=lambda id: None, delete=lambda id: None
        )
        self.peers = Peers(world, address)
        self.failures = SimpleNamespace(envelope=lambda *facts: b"error", retrieved=lambda id: None)
        self.calls = SimpleNamespace(by_life={})
        self.objects: Any = ObjectExchange(self)  # type: ignore[arg-type]
        #: What the program holds.
        self.refs: list[ObjectRef[Any]] = []
        #: {task id: (worker, return entry, pinned entries, entries of dependencies)} of tasks submitted here.
        self.records: dict[bytes, tuple[str, ObjectEntry, list[ObjectEntry], list[ObjectEntry]]] = {}
        #: {task id: (submitter, task, its argument refs)} of tasks that run here.
        self.running: dict[bytes, tuple[str, wire.Task, list[ObjectRef[Any]]]] = {}

    def flush(self, peer: Peer) -> None:
        """Nothing is queued here."""

    def actor_unheld(self, actor_id: bytes) -> None:
        raise AssertionError

    def collect(self) -> None:
        self.objects.free(self.table.collect())

    def serves(self) -> set[str]:
        return {submitter for submitter, _, _ in self.running.values()}

    # --- what the program does

    def put(self, inner: list[ObjectRef[Any]]) -> None:
        entry = self.table.own(self.world.new_id())
        entry.value, entry.status = b"value", READY
        if inner:
            self.table.set_contained(entry, [ref._entry for ref in inner])
        self.refs.append(ObjectRef(entry))

    def submit(self, worker: str, nested: list[ObjectRef[Any]], whole: list[ObjectRef[Any]]) -> None:
        """``nested`` are inside the arguments; ``whole`` are arguments themselves, whose values travel."""
        task_id = self.world.new_id()
        entry = self.table.own(task_id)
        self.refs.append(ObjectRef(entry))
        deps = [ref._entry for ref in whole if ref._entry.status == READY]
        pinned = [ref._entry for ref in nested] + deps
        self.table.pin(pinned)
        self.records[task_id] = (worker, entry, [ref._entry for ref in nested], deps)
        described = [wire.Dependency(i, b"value", dep.id, dep.owner or self.address, self.describe(dep.contained))
                     for i, dep in enumerate(deps)]  # fmt: skip
        task = wire.Task(task_id, b"f", b"args", deps=described, refs=self.describe(ref._entry for ref in nested))
        self.peers.reach(worker).send(wire.Push([task]))

    def describe(self, entries: Any) -> list[wire.Ref]:
        return [wire.Ref(entry.id, entry.owner or self.address) for entry in entries]

    def read(self, entry: ObjectEntry) -> None:
        """``ray.get``: the refs inside are the program's as well."""
        if entry.status == PENDING:
            self.objects.want(entry)
        elif entry.status == READY:
            self.refs += [ObjectRef(inner) for inner in entry.contained]

    def end_task(self, task_id: bytes, keep: bool, returned: list[ObjectRef[Any]]) -> None:
        """As a worker does: credits for what is returned, then the list of what is kept."""
        submitter, task, arguments = self.running.pop(task_id)
        if keep:
            self.refs += arguments
        arguments.clear()
        peer = self.peers.reach(submitter)
        refs = self.objects.hand_over([ref._entry for ref in returned], submitter)
        returned.clear()
        kept = []
        for ref in [*task.refs, *(ref for dependency in task.deps for ref in dependency.refs)]:
            entry = self.table.entries.get(ref.id)
            if entry is not None and entry.owner is not None and (entry.local or entry.pins):
                entry.handed += 1
                kept.append(ref.id)
        peer.send(wire.Replies([wire.Done(task_id, True, [b"value"], 0, kept, [refs])]))

    # --- what it is told

    def receive(self, sender: str, message: Any) -> None:
        peer: Any = self.peers.by_address.setdefault(sender, Peer(self.world, self.address, sender))
        match message:
            case wire.Fetch():
                self.objects.on_fetch(peer, message, [])
            case wire.Fetched():
                self.objects.on_fetched(peer, message, [])
            case wire.Credit():
                self.objects.on_credit(peer, message, [])
            case wire.Push(tasks=[task]):
                inner = [*task.refs, *(ref for dependency in task.deps for ref in dependency.refs)]
                arguments = [ObjectRef(self.objects.borrow(ref.id, ref.owner)) for ref in inner]
                self.running[task.id] = (sender, task, arguments)
            case wire.Replies(done=[done]):
                self.finish(sender, done)
            case _:
                raise AssertionError(message)

    def finish(self, worker: str, done: wire.Done) -> None:
        _, entry, nested, deps = self.records.pop(done.id)
        record: Any = SimpleNamespace(refs=nested, deps=[(0, dep) for dep in deps])
        self.objects.grant_kept(record, done.kept, worker)
        self.objects.receive_refs(entry, done.refs[0], credits=1)
        complete(entry, READY, b"value")
        self.table.unpin([*nested, *deps])

    def lose(self, address: str) -> None:
        peer = self.peers.by_address.pop(address, None)
        if peer is not None:
            peer.lost = True
        self.objects.peer_lost(address)
        for task_id, (worker, entry, nested, deps) in list(self.records.items()):
            if worker == address:
                del self.records[task_id]
                complete(entry, FAILED, b"error")
                self.table.unpin([*nested, *deps])


DEATH = b""


class World:
    """All processes and what is under way between them."""

    def __init__(self, seed: int, processes: int, *, deaths: bool, torn: bool = False) -> None:
        self.rng = random.Random(seed)
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
        address = f"p{next(self.numbers)}"
        self.processes[address] = Process(self, address)

    def new_id(self) -> bytes:
        return next(self.numbers).to_bytes(20, "big")

    def step(self) -> None:
        rng = self.rng
        self.sent.clear()
        process = rng.choice(list(self.processes.values()))
        refs = process.refs
        match rng.choices(range(8), [6, 7, 4, 4, 4, 4, 14, self.deaths * 0.3])[0]:
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
            case 7:
                self.replace(process.address)
        if self.torn and self.sent and rng.random() < 0.02:
            self.tear(self.sent[0][0])
        self.check()

    def submit(self, process: Process) -> None:
        free = [o.address for o in self.processes.values() if o is not process and o.serves() <= {process.address}]
        if free:
            refs, rng = process.refs, self.rng
            nested, whole = (rng.sample(refs, rng.randint(0, min(2, len(refs)))) for _ in range(2))
            process.submit(rng.choice(free), nested, whole)

    def end_task(self, process: Process) -> None:
        rng = self.rng
        task_id = rng.choice(list(process.running))
        arguments = process.running[task_id][2]
        # Only what is older than the task: values in a circle hold each other, as with any counting.
        at_hand = [ref for ref in [*process.refs, *arguments] if ref.binary() < task_id]
        returned = rng.sample(at_hand, rng.randint(0, min(3, len(at_hand))))
        del at_hand, arguments
        process.end_task(task_id, rng.random() < 0.5, returned)

    def deliver(self) -> bool:
        """One message, of any pair. False if nothing is under way."""
        waiting = [pair for pair, messages in self.links.items() if messages]
        if not waiting:
            return False
        sender, receiver = self.rng.choice(waiting)
        message = self.links[sender, receiver].popleft()
        process = self.processes.get(receiver)
        if process is not None:
            if message == DEATH:
                process.lose(sender)
            else:
                process.receive(sender, codec.decode([message]))
        return True

    def kill(self, address: str) -> None:
        """What it has sent still arrives, and then the news. Workers that run its tasks are killed by their node."""
        dead = self.processes.pop(address)
        workers = [worker for worker, _, _, _ in dead.records.values()]
        for other in dead.peers.by_address:
            self.links.setdefault((address, other), deque()).append(DEATH)
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
            held = [ref._entry for ref in process.refs]
            held += [ref._entry for _, _, arguments in process.running.values() for ref in arguments]
            for entry in held:
                assert process.table.entries.get(entry.id) is entry
            for entry in process.table.entries.values():
                held += entry.contained
            for entry in held:
                owner = self.processes.get(entry.owner or process.address)
                if owner is not None:
                    assert entry.id in owner.table.entries, f"{process.address} holds what {owner.address} has freed"
                    assert not owner.table.entries[entry.id].freed

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
        for _ in range(100_000):
            for process in self.processes.values():
                process.collect()
            if not self.deliver() and not any(process.table.dropped for process in self.processes.values()):
                break
        return {
            address: [(item.id.hex(), item.local, item.pins, item.credits) for item in process.table.entries.values()]
            for address, process in self.processes.items()
        }


@pytest.mark.parametrize("seed", range(60))
def test_processes_that_exchange_refs(seed: int) -> None:
    world = World(seed, 3 + seed % 3, deaths=False)
    for _ in range(600):
        world.step()
    world.end()


@pytest.mark.parametrize("seed", range(100))
def test_processes_that_exchange_refs_and_die(seed: int) -> None:
    world = World(seed, 4 + seed % 4, deaths=True)
    for _ in range(600):
        world.step()
    world.end()


@pytest.mark.parametrize("seed", range(60))
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
