"""Values on their way to processes of other nodes, which have another store: as data, wherever the sender has them."""

import pytest
from tests.owners import NoStore, Owner

from ray.exceptions import NodeDiedError, ObjectLostError
from ray.messages import node, wire
from ray.protocol.references import FAILED, LARGE_BYTES, PENDING, READY, STORED
from ray.runtime.owner.handed_refs import CARRIED_BYTES
from ray.runtime.owner.lending import Lending
from ray.runtime.owner.letting_go import LettingGo
from ray.runtime.process.peers import MAX_KEPT_BYTES
from ray.serialization import open_envelope

NEAR, FAR = "near", "far"
BLOB = bytes(range(256)) * (LARGE_BYTES // 256)


class Views:
    def drop(self, id):
        pass


class Store(NoStore):
    """What is on the ``disk`` is read when the test says so."""

    shared = True

    def __init__(self):
        super().__init__()
        self.blobs, self.disk, self.asked, self.reads, self.deleted = {}, {}, [], [], []
        self.views = Views()

    def at_once(self, id):
        self.asked.append(id)
        return self.blobs.get(id)

    def read_later(self, wanted):
        self.reads.append(wanted)

    def read(self):
        for wanted in self.reads:
            wanted.read(self.from_disk)

    def from_disk(self, id):
        found = self.disk[id]
        if isinstance(found, BaseException):
            raise found
        return found

    def delete(self, entry):
        self.deleted.append(entry.id)

    release = delete


class Lives:
    by_life = {}


class Lock:
    """Tells whether somebody has it."""

    held = 0

    def __enter__(self):
        self.held += 1

    def __exit__(self, *error):
        self.held -= 1


@pytest.fixture
def owner():
    made = Owner(Store())
    made.peers.far.add(FAR)
    made.peers.knows_far = True
    made.lock = Lock()
    made.lending = Lending(made.table, made.values, made.borrowing, made.reports, made.lock)
    made.letting_go = LettingGo(made.here, made.table, made.values, made.borrowing, made.peers, Lives(), None, None)
    return made


def stored(owner, on_disk=False):
    """An object of this process in the store of its node."""
    entry = owner.table.own(owner.record().id + b"\0\0\0\1")
    entry.local = 1
    owner.table.fill_stored(entry, len(BLOB))
    (owner.values.disk if on_disk else owner.values.blobs)[entry.id] = BLOB
    return entry


def peer(owner, address):
    return owner.peers.reach(address.encode(), address)


def granted(owner, address):
    """A worker is there for what is submitted."""
    demand = owner.said(node.Demand)[-1]
    owner.leasing.granted(node.Granted(demand.key, b"lease" + address.encode(), address, 1, [], address.encode()))


def submit(owner, *deps, stored=None):
    record = owner.record()
    record.export = owner.export
    record.deps = list(enumerate(deps))
    record.pins = tuple(deps)
    if stored is not None:
        record.stored = stored.id
    owner.table.pin(record.pins)
    cls = record.place = owner.leasing.place(owner.options)[1]
    owner.leasing.enqueue(cls, record)
    return record


def push(owner, *deps):
    """One more execution of a task by the far worker, which has answered."""
    record = owner.record()
    record.deps = list(enumerate(deps))
    values = {}
    task = record.to_wire([b""], "me", peer(owner, FAR), values, owner.values.at_once)
    peer(owner, FAR).has_left(values)
    return task


def pushed(owner, address):
    return [task for push in owner.sent(address, wire.Push) for task in push.tasks]


# --- arguments ------------------------------------------------------------------------------------------------------


def test_within_the_node_nothing_stored_is_read(owner):
    submit(owner, stored(owner), stored=stored(owner))
    granted(owner, NEAR)
    [task] = pushed(owner, NEAR)
    assert task.stored
    assert task.deps[0].data is None
    assert owner.values.asked == []


def test_what_is_stored_goes_along_to_another_node(owner):
    dependency, arguments = stored(owner), stored(owner)
    submit(owner, dependency, stored=arguments)
    granted(owner, FAR)
    [task] = pushed(owner, FAR)
    assert task.stored == b""
    assert isinstance(task.args, int)
    assert isinstance(task.deps[0].data, int)
    assert owner.frames(FAR)[task.args] is BLOB  # nothing is copied
    assert owner.frames(FAR)[task.deps[0].data] is BLOB


def test_what_was_sent_is_kept_there_until_nobody_here_holds_it(owner):
    argument = stored(owner)
    record = submit(owner, argument)
    granted(owner, FAR)
    tasks = [*pushed(owner, FAR), push(owner, argument), push(owner, argument)]
    assert [task.deps[0].data is None for task in tasks] == [False, True, True]
    assert owner.values.asked == [argument.id]
    assert peer(owner, FAR).kept == {argument.id: len(BLOB)}
    argument.local = 0
    owner.outcomes.let_arguments_go(record)
    owner.letting_go.collect()
    assert owner.sent(FAR, wire.Forget) == [wire.Forget([argument.id])]
    assert owner.values.deleted == [argument.id]
    assert peer(owner, FAR).kept_bytes == 0


def test_once_is_enough_for_the_tasks_of_one_push(owner):
    argument, values, frames = stored(owner), {}, [b""]
    tasks = []
    for _ in range(2):
        record = owner.record()
        record.deps = [(0, argument)]
        tasks.append(record.to_wire(frames, "me", peer(owner, FAR), values, owner.values.at_once))
    assert [task.deps[0].data for task in tasks] == [1, None]
    assert values == {argument.id: argument}


def test_more_than_it_keeps_is_sent_each_time(owner):
    argument = stored(owner)
    owner.table.fill_stored(argument, MAX_KEPT_BYTES + 1)
    assert [push(owner, argument).deps[0].data is None for _ in range(2)] == [False, False]
    assert peer(owner, FAR).kept == {}


def test_what_is_on_the_disk_is_left_for_the_worker_to_ask_for(owner):
    dependency, arguments = stored(owner, on_disk=True), stored(owner, on_disk=True)
    submit(owner, dependency, stored=arguments)
    granted(owner, FAR)
    [task] = pushed(owner, FAR)
    assert (task.stored, task.deps[0].data) == (arguments.id, None)
    assert peer(owner, FAR).kept == {}
    assert owner.values.reads == []
    owner.values.blobs[dependency.id] = BLOB  # it is in memory again
    assert push(owner, dependency).deps[0].data is not None


def test_borrowed_values_are_forgotten_as_well(owner):
    borrowed = owner.borrowing.borrow(b"theowner" + bytes(12), "o")
    owner.table.complete(borrowed, READY, BLOB)
    record = submit(owner, borrowed)
    granted(owner, FAR)
    owner.table.unpin((borrowed,))
    owner.outcomes.let_arguments_go(record)
    owner.letting_go.collect()
    assert owner.sent(FAR, wire.Forget) == [wire.Forget([borrowed.id])]


# --- values asked for -----------------------------------------------------------------------------------------------


def fetch(owner, entry, address):
    owner.lending.on_fetch(peer(owner, address), wire.Fetch(entry.id), ())


def fetched(owner, address):
    return owner.sent(address, wire.Fetched)


def test_within_the_node_a_stored_object_is_named_only(owner):
    entry = stored(owner)
    fetch(owner, entry, NEAR)
    assert fetched(owner, NEAR) == [wire.Fetched(entry.id, STORED, None, [], len(BLOB))]
    assert owner.values.asked == []


def test_another_node_gets_the_data_of_a_stored_object(owner):
    entry = stored(owner)
    fetch(owner, entry, FAR)
    assert [(answer.status, answer.data) for answer in fetched(owner, FAR)] == [(READY, 1)]
    assert owner.frames(FAR)[1] is BLOB


def test_an_object_on_the_disk_is_read_without_the_lock_and_sent(owner):
    entry, inner = stored(owner, on_disk=True), stored(owner)
    owner.table.set_contained(entry, [inner])
    fetch(owner, entry, FAR)
    assert fetched(owner, FAR) == []
    entry.local = 0
    owner.table.dropped.append(entry)
    owner.letting_go.collect()
    assert not entry.freed  # somebody reads it
    held = []
    owner.values.from_disk = lambda id: (held.append(owner.lock.held), BLOB)[1]
    owner.values.read()
    assert held == [0]
    [answer] = fetched(owner, FAR)
    assert (answer.status, [ref.id for ref in answer.refs]) == (READY, [inner.id])
    assert inner.credits == {FAR.encode(): 1}
    owner.letting_go.collect()
    assert entry.freed


@pytest.mark.parametrize("error", [ObjectLostError(bytes(20), "it is gone"), NodeDiedError("node", "it died")])
def test_what_cannot_be_read_is_a_failure_for_who_asks(owner, error):
    entry = stored(owner, on_disk=True)
    owner.values.disk[entry.id] = error
    fetch(owner, entry, FAR)
    owner.values.read()
    [answer] = fetched(owner, FAR)
    assert answer.status == FAILED
    assert type(open_envelope(answer.data)).__name__ == type(error).__name__
    assert entry.pins == 0


def test_nothing_is_sent_to_a_process_that_has_gone_meanwhile(owner):
    entry = stored(owner, on_disk=True)
    fetch(owner, entry, FAR)
    peer(owner, FAR).lost = True
    owner.values.read()
    assert fetched(owner, FAR) == []
    assert entry.pins == 0


# --- refs -----------------------------------------------------------------------------------------------------------


def test_a_ref_says_where_an_object_is_only_within_the_node(owner):
    entry = stored(owner)
    [near], [far] = (owner.borrowing.hand_over([entry], peer(owner, address)) for address in (NEAR, FAR))
    assert (near.status, near.nbytes) == (STORED, len(BLOB))
    assert (far.status, far.nbytes) == (PENDING, 0)


def test_refs_in_arguments_too(owner):
    inner = stored(owner)
    for address in (NEAR, FAR):
        record = owner.record()
        record.refs = (inner,)
        task = record.to_wire([b""], "me", peer(owner, address), {}, owner.values.at_once)
        assert task.refs[0].status == (STORED if address == NEAR else PENDING)


def test_a_small_value_goes_along_with_a_ref_to_everybody(owner):
    entry = owner.table.put(owner.record().id + b"\0\0\0\1", b"x" * CARRIED_BYTES)
    [ref] = owner.borrowing.hand_over([entry], peer(owner, FAR))
    assert (ref.status, ref.value) == (READY, entry.value)


# --- objects asked for in the store ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("id", "expected"), [(b"processX", True), (b"elsewher", False)])
def test_only_objects_of_the_node_can_be_in_its_store(owner, id, expected):
    looks = []
    owner.borrowing._expect = looks.append
    entry = owner.borrowing.borrow(id + bytes(12), "o")
    owner.borrowing.want(entry)
    assert looks == ([entry] if expected else [])
