"""Large results from another node, on their way into the store of this one."""

import pytest
from tests.owners import NoStore, Owner

from ray.exceptions import ObjectStoreFullError
from ray.messages import node, wire
from ray.protocol.references import FAILED, PENDING, READY, STORED
from ray.runtime.owner.moving_in import MOVED_BYTES, MovingIn
from ray.runtime.owner.streams import Streams

LARGE = b"x" * MOVED_BYTES


class Store(NoStore):
    """Has room when the test says so."""

    shared = True

    def __init__(self):
        super().__init__()
        self.blobs, self.room = {}, True

    def stored_blob(self, id):
        return self.blobs[id]

    def store_result(self, id, serialized):
        if not self.room:
            raise ObjectStoreFullError(serialized.nbytes, 1, 1, "it is a test")
        self.blobs[id] = b"".join(serialized.pieces())


class Threads:
    """Those that copy, when the test says so."""

    def __init__(self):
        self.queue = []

    def put(self, wanted):
        self.queue.append(wanted)

    def run(self):
        while self.queue:
            self.queue.pop(0).read(None)


class Lock:
    def __enter__(self):
        pass

    def __exit__(self, *error):
        pass


class Setting:
    """An owner that has sent a task to the worker ``far``."""

    def __init__(self):
        self.store = Store()
        self.moving = MovingIn(self.store, Lock())
        self.threads = self.moving._threads = Threads()
        self.owner = Owner(self.store, self.moving)
        self.owner.peers.far.add("far")

    def submit(self, worker="far"):
        record = self.owner.submit(3)
        demand = self.owner.said(node.Demand)[-1]
        self.owner.leasing.granted(node.Granted(demand.key, b"lease", worker, 1, [], worker.encode()))
        self.link = self.owner.leasing.links[b"lease"]
        self.entry = record.entries[0]
        return record

    def reply(self, record, data):
        self.owner.leasing.on_replies(self.link, wire.Replies([wire.Done(record.id, True, [1])]), (b"", data))

    @property
    def state(self):
        return self.entry.status, self.entry.nbytes if self.entry.status == STORED else self.entry.value


@pytest.fixture
def setting():
    return Setting()


def test_a_large_result_is_complete_when_it_is_stored(setting):
    record = setting.submit()
    setting.reply(record, LARGE)
    assert setting.entry.status == PENDING
    assert record.done
    setting.threads.run()
    assert setting.state == (STORED, len(LARGE))
    assert setting.store.blobs == {setting.entry.id: LARGE}
    assert setting.entry.task == "f"  # for the error of a value that cannot be unpickled


@pytest.mark.parametrize(("worker", "data"), [("far", LARGE[1:]), ("near", LARGE)])
def test_what_is_smaller_or_has_not_come_from_another_node_stays(setting, worker, data):
    setting.reply(setting.submit(worker), data)
    assert setting.state == (READY, data)


def test_nothing_moves_where_there_is_no_store_for_all(setting):
    setting.store.shared = False
    setting.reply(setting.submit(), LARGE)
    assert setting.state == (READY, LARGE)


def test_without_room_it_stays_where_it_is(setting):
    setting.store.room = False
    setting.reply(setting.submit(), LARGE)
    setting.threads.run()
    assert setting.state == (READY, LARGE)
    assert setting.store.discarded == []


def test_a_later_attempt_does_not_delete_what_it_moves(setting):
    """What an earlier one has left under the same id is replaced by the store."""
    record = setting.submit()
    record.attempt = 1
    setting.reply(record, LARGE)
    assert setting.store.discarded == []


def test_what_nobody_wants_any_more_is_not_stored(setting):
    setting.reply(setting.submit(), LARGE)
    setting.entry.freed = True
    setting.threads.run()
    assert (setting.store.blobs, setting.entry.status) == ({}, PENDING)


@pytest.mark.parametrize("ends", ["freed", "failed"])
def test_what_nobody_wants_when_it_is_stored_is_deleted(setting, ends):
    setting.reply(setting.submit(), LARGE)
    entry, store_result = setting.entry, setting.store.store_result

    def store(id, serialized):
        store_result(id, serialized)
        if ends == "freed":
            entry.freed = True
        else:  # the session is over
            entry.table.complete(entry, FAILED, b"")

    setting.store.store_result = store
    setting.threads.run()
    assert setting.store.discarded == [entry.id]
    assert entry.status == (PENDING if ends == "freed" else FAILED)


def test_a_task_that_waits_for_it_goes_on(setting):
    setting.reply(setting.submit(), LARGE)
    told = []
    setting.entry.call_when_done(told.append)
    setting.threads.run()
    assert told == [setting.entry]


def test_what_a_stream_yields(setting):
    owner, store = setting.owner, setting.store
    links = owner.leasing.links
    streams = Streams(owner.table, Lock(), store, owner.borrowing, setting.moving, links, {})
    record = setting.submit()
    generator = streams.register(record)
    peer = owner.peers.at("far")
    for index in range(2):
        streams.on_yielded(peer, wire.Yielded(record.id, index, 1, [], len(LARGE)), (b"", LARGE), lambda frames: True)
    refs = list(generator._stream.refs)
    assert [ref._entry.status for ref in refs] == [PENDING] * 3
    setting.threads.run()
    assert [ref._entry.status for ref in refs] == [STORED, STORED, PENDING]
    assert refs[0]._entry.task == "f"
