"""The fault injectors: harmless at rate zero, seeded, and doing what they say."""

import itertools
import time
from collections import Counter

import pytest

from ray.builtin.heap_store import HeapStore
from ray.builtin.inproc_transport import InprocTransport
from ray.exceptions import ObjectStoreFullError, RayConnectionError
from ray.testing.contracts._checks_store import an_id, fill, read
from ray.testing.contracts._expect import eventually
from ray.testing.contracts._link import Reader
from ray.testing.contracts.store import StoreContract
from ray.testing.contracts.transport import TransportContract
from ray.testing.faults import FaultyStore, FaultyTransport


class TestHarmlessTransport(TransportContract):
    meets_strangers = False
    may_be_interrupted = False  # a kit of tests, whose messages pass through more hands

    @pytest.fixture
    def make_transport(self):
        return lambda: FaultyTransport(InprocTransport())


class TestDelayingTransport(TransportContract):
    """Delay alone breaks no promise."""

    meets_strangers = False
    may_be_interrupted = False

    @pytest.fixture
    def make_transport(self):
        seeds = itertools.count()
        return lambda: FaultyTransport(InprocTransport(), seed=next(seeds), max_delay_s=0.003)


class TestHarmlessStore(StoreContract):
    @pytest.fixture
    def open_store(self):
        return lambda: FaultyStore(HeapStore(self.capacity_bytes))


class TestSlowStore(StoreContract):
    """Delay alone breaks no promise."""

    @pytest.fixture
    def open_store(self):
        return lambda: FaultyStore(HeapStore(self.capacity_bytes), max_delay_s=0.0005)


@pytest.fixture
def exchange():
    """Send 200 numbers through a faulty transport; returns those that arrived and the transport."""
    transports = []

    def run(**faults):
        server, client = InprocTransport(), FaultyTransport(InprocTransport(), **faults)
        transports.extend((server, client))
        with Reader(server) as at_server:
            out = client.connect(server.listen("server"))
            with Reader(client):
                for number in range(200):
                    out.send([b"%d" % number])
                eventually(lambda: out.queued_bytes == 0, "everything is sent")
                out.close()
                eventually(at_server.ends, "the end is reported")
            return [int(frames[0]) for frames in at_server.messages()], client

    yield run
    for transport in transports:
        transport.close()


def test_loss(exchange):
    seen, client = exchange(seed=1, loss=0.3)
    assert seen == sorted(set(seen)), "what arrives is in order and once"
    assert 200 - len(seen) == client.injected["loss"]
    assert 30 <= client.injected["loss"] <= 90


def test_duplicates(exchange):
    seen, client = exchange(seed=1, duplicate=0.3)
    assert sorted(set(seen)) == list(range(200))
    assert len(seen) - 200 == client.injected["duplicate"] > 30


def test_reordering(exchange):
    seen, client = exchange(seed=1, reorder=0.3)
    assert sorted(seen) == list(range(200))
    assert seen != sorted(seen)
    assert client.injected["reorder"] > 30


def test_delay_keeps_order(exchange):
    seen, client = exchange(seed=1, max_delay_s=0.01)
    assert seen == list(range(200))
    assert client.injected == {"delay": 200}


def test_the_same_seed_hits_the_same_messages(exchange):
    first, _ = exchange(seed=5, loss=0.3)
    again, _ = exchange(seed=5, loss=0.3)
    with_more, _ = exchange(seed=5, loss=0.3, duplicate=0.5)
    other, _ = exchange(seed=6, loss=0.3)
    assert first == again == sorted(set(with_more))
    assert first != other


def test_only_some_messages(exchange):
    seen, _ = exchange(seed=1, loss=1.0, only=lambda frames: int(frames[0]) % 10 == 0)
    assert seen == [number for number in range(200) if number % 10]


def test_a_cut_is_seen_at_both_ends(exchange):
    server, client = InprocTransport(), FaultyTransport(InprocTransport())
    with Reader(server) as at_server:
        out = client.connect(server.listen("server"))
        with Reader(client) as at_client:
            out.send([b"hello"])
            at_server.wait(1, "the message arrives")
            client.cut()
            eventually(lambda: at_server.ends() and at_client.ends(), "both ends are told")
            assert at_client.ends() == [out]
            assert len(at_server.ends()) == 1
            assert out.closed
            assert client.injected == {"cut": 1}
            again = client.connect("inproc:" + server._address.removeprefix("inproc:"))
            again.send([b"back"])
            assert at_server.wait(2, "a new connection works")[-1] == [b"back"]
    client.close()
    server.close()


def test_a_store_that_is_full_now_and_then():
    store = FaultyStore(HeapStore(10_000), seed=3, full=0.5)
    refused = []
    for number in range(100):
        try:
            fill(store, an_id(number), b"x")
        except ObjectStoreFullError:
            refused.append(number)
    assert not any(store.contains(an_id(number)) for number in refused)
    assert store.injected["full"] == len(refused)
    assert 25 < len(refused) < 75
    store.full = 1.0
    with pytest.raises(ObjectStoreFullError, match="injected by a test"):
        store.create(an_id(200), 1)


def test_a_store_that_loses_objects():
    store = FaultyStore(HeapStore(10_000), seed=3, lost=0.5)
    for number in range(100):
        fill(store, an_id(number), b"x")
    seen = [read(store, an_id(number)) for number in range(100)]
    assert seen.count(None) == store.injected["lost"]
    assert 25 < seen.count(None) < 75
    gone = seen.index(None)
    store.lost = 0.0
    assert read(store, an_id(gone)) is None, "what is lost stays lost"


def test_a_store_that_is_cut_off():
    """At the call that is hit or right after it; what was read before stays readable."""
    done = Counter()
    for seed in range(40):
        heap = HeapStore(10_000)
        store = FaultyStore(heap, seed=seed)
        store.put(an_id(0), [b"seen"], 4)
        view = store.get(an_id(0))
        store.cut_rate = 0.2
        number = 0
        with pytest.raises(RayConnectionError, match="cut by a test"):  # noqa: PT012 - which one is hit depends
            for number in range(1, 100):
                store.put(an_id(number), [b"x"], 1)
        assert store.injected == {"cut": 1}
        assert bytes(view) == b"seen"
        for call, arguments in ((store.stats, ()), (store.contains, [an_id(0)]), (store.get, [an_id(0)])):
            with pytest.raises(RayConnectionError, match="cut by a test"):
                call(*arguments)
        store.release(an_id(0))
        store.delete(an_id(0))
        store.close()
        with pytest.raises(RayConnectionError):
            heap.create(an_id(1), 1)
        done[number] += 1
    assert len(done) > 3


def test_a_store_that_is_slow():
    store = FaultyStore(HeapStore(10_000), seed=1, max_delay_s=0.02)
    began = time.monotonic()
    for number in range(20):
        fill(store, an_id(number), b"x")
    assert time.monotonic() - began > 0.02 * 40 * 0.3, "each of two calls takes half of the most on average"
    assert store.injected == {"delay": 40}
