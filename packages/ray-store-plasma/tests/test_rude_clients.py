"""Whatever a client sends: it is answered or dropped, nobody reads or writes out of bounds, and others are served."""

from __future__ import annotations

import array
import contextlib
import os
import random
import socket
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_store_plasma import messages, table
from ray_store_plasma.client import PlasmaStore
from ray_store_plasma.messages import (
    PROTOCOL,
    Abort,
    Create,
    Delete,
    Found,
    Get,
    Granted,
    Message,
    OwnerLost,
    Refused,
    Release,
    Seal,
    Subscribe,
    decode_notifications,
    decode_reply,
    decode_request,
    encode,
)

from .conftest import CAPACITY, Node, an_id

FUZZ_CASES = 20_000


class Raw:
    """A client that sends what it likes."""

    def __init__(self, node: Node) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(5)
        self.sock.connect(node.path)
        packet, self.descriptors, _, _ = socket.recv_fds(self.sock, 65536, 2)
        assert isinstance(decode_reply(packet), messages.Welcome)

    def send(self, message: Message | bytes) -> None:
        self.sock.send(message if isinstance(message, bytes) else encode(message))

    def ask(self, message: Message) -> messages.Reply:
        self.send(message)
        reply: messages.Reply = decode_reply(self.sock.recv(65536))
        return reply

    @property
    def is_dropped(self) -> bool:
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.sock.close()
        for descriptor in self.descriptors:
            os.close(descriptor)


@pytest.fixture
def rude(node: Node) -> Iterator[Raw]:
    raw = Raw(node)
    yield raw
    raw.close()


@pytest.fixture
def neighbour(node: Node) -> Iterator[PlasmaStore]:
    """Another client, whose objects are looked after when the rude one has done its worst."""
    store = node.connect()
    contents = {an_id(100 + n): os.urandom(1000 + n) for n in range(20)}
    for object_id, data in contents.items():
        store.put(object_id, [data], len(data))
    open_one = store.create(an_id(200), 1000)
    yield store
    for object_id, data in contents.items():
        assert store.get(object_id) == data
    open_one[:] = b"m" * 1000
    store.seal(an_id(200))
    assert store.get(an_id(200)) == b"m" * 1000


def serial_of(store: PlasmaStore) -> int:
    return store._unsealed[an_id(200)].serial


RUDE: dict[str, Message | bytes] = {
    "garbage": b"\xff\xfe\xfd garbage",
    "nothing known": msgspec.msgpack.encode(["Frobnicate", 1]),
    "not an array": msgspec.msgpack.encode({"type": "Get"}),
    "too deep": b"\x91" * 60_000,
    "text that is none": b"\x91\xa1\x80",
    "a huge array": b"\xdd\xff\xff\xff\xff",
    "a huge string": b"\x93\xa3Get\x01\xc6\xff\xff\xff\xff",
    "a short id": msgspec.msgpack.encode(["Get", 1, b"short"]),
    "a long id": msgspec.msgpack.encode(["Get", 1, b"x" * 21]),
    "a text for an id": msgspec.msgpack.encode(["Get", 1, "x" * 20]),
    "a negative size": msgspec.msgpack.encode(["Create", 1, b"x" * 20, -1]),
    "a size beyond all": msgspec.msgpack.encode(["Create", 1, b"x" * 20, 2**63]),
    "a size of nothing": msgspec.msgpack.encode(["Create", 1, b"x" * 20, 1.5]),
    "too many serials": msgspec.msgpack.encode(["Release", list(range(messages.MAX_SERIALS + 1))]),
    "a foreign release": Release([1]),
    "a release of nothing": Release([10**9]),
    "a seal of nothing": Seal(10**9),
    "an abort of nothing": Abort(10**9),
    "a message of the node manager": OwnerLost(an_id(100)[:8]),
    "too long": b"x" * (messages.MAX_PACKET_BYTES + 1),
}


@pytest.mark.parametrize("what", RUDE)
def test_a_rude_message_ends_its_sender_only(rude: Raw, neighbour: PlasmaStore, what: str) -> None:
    granted = rude.ask(Create(1, an_id(1), 100))
    assert isinstance(granted, Granted)
    rude.send(RUDE[what])
    assert rude.is_dropped
    assert not any(row.object_id == an_id(1) for row in neighbour.list()), "its unsealed object is gone"


@pytest.mark.parametrize("end", [Seal, Abort])
def test_the_unsealed_object_of_another_is_out_of_reach(
    rude: Raw, neighbour: PlasmaStore, end: type[Seal | Abort]
) -> None:
    rude.send(end(serial_of(neighbour)))
    assert rude.is_dropped


def test_a_double_seal_ends_its_sender(rude: Raw, neighbour: PlasmaStore) -> None:
    granted = rude.ask(Create(1, an_id(1), 100))
    assert isinstance(granted, Granted)
    rude.send(Seal(granted.serial))
    rude.send(Seal(granted.serial))
    assert rude.is_dropped
    assert neighbour.contains(an_id(1)), "the first seal was sound"


def test_a_double_release_ends_its_sender(rude: Raw, neighbour: PlasmaStore) -> None:
    found = rude.ask(Get(1, an_id(100)))
    assert isinstance(found, Found)
    held = neighbour.get(an_id(100))
    rude.send(Release([found.serial, found.serial]))
    assert rude.is_dropped
    neighbour.delete(an_id(100))
    assert held is not None
    assert len(bytes(held)) == 1000
    neighbour.put(an_id(100), [held], 1000)


def test_a_size_beyond_the_store_is_refused(rude: Raw, neighbour: PlasmaStore) -> None:
    for size in (CAPACITY, CAPACITY + 1, 2**40, 2**60):
        reply = rude.ask(Create(1, an_id(1), size))
        assert isinstance(reply, Refused)
        assert reply.why == "full"


def test_creating_without_end_is_refused(rude: Raw, neighbour: PlasmaStore) -> None:
    rude.sock.settimeout(20)
    for n in range(table.MAX_UNSEALED):
        reply = rude.ask(Create(n, n.to_bytes(20, "big"), 0))
        assert isinstance(reply, Granted)
    rude.send(Create(1, bytes(19) + b"x", 0))
    with contextlib.suppress(BrokenPipeError):  # it may be dropped already
        rude.send(Create(1, bytes(18) + b"xx", 0))
    assert rude.is_dropped
    assert len(neighbour.list()) == 21


def test_descriptors_that_are_sent_are_not_kept(rude: Raw, neighbour: PlasmaStore, node: Node) -> None:
    before = len(os.listdir(f"/proc/{node.server.pid}/fd"))
    for n in range(200):
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 50))]
        rude.sock.sendmsg([encode(Delete(n.to_bytes(20, "big")))], ancillary)
    assert isinstance(rude.ask(Get(1, an_id(100))), Found)
    assert len(os.listdir(f"/proc/{node.server.pid}/fd")) == before


def private_kib(pid: int) -> int:
    """Memory of a process that it shares with nobody: what it was forked with does not count."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


def test_who_never_reads_ends_and_holds_nobody_up(rude: Raw, neighbour: PlasmaStore, node: Node) -> None:
    rude.sock.settimeout(20)
    before = private_kib(node.server.pid)
    slowest = 0.0
    sent = 0
    with contextlib.suppress(BrokenPipeError, ConnectionError):
        while sent < 1_000_000:
            rude.send(messages.List(sent, 0))
            sent += 1
            if not sent % 500:
                begin = time.monotonic()
                assert neighbour.contains(an_id(100))
                slowest = max(slowest, time.monotonic() - begin)
    assert 1000 < sent < 1_000_000
    assert slowest < 2
    assert private_kib(node.server.pid) - before < 50_000


def test_notifications_that_are_not_read_hold_nobody_up(rude: Raw, neighbour: PlasmaStore) -> None:
    for n in range(3000):
        rude.send(Subscribe(an_id(1000 + n)))
    for n in range(3000):
        neighbour.put(an_id(1000 + n), [b"x"], 1)
        neighbour.delete(an_id(1000 + n))
    heard: list[tuple[bytes, int]] = []
    channel = socket.socket(fileno=os.dup(rude.descriptors[1]))
    with channel:
        channel.settimeout(5)
        while len(heard) < 3000:
            heard += decode_notifications(channel.recv(65536))
    assert sorted(heard) == [(an_id(1000 + n), 1) for n in range(3000)]


def test_many_connections_are_served_up_to_a_limit_and_then_refused(node: Node, neighbour: PlasmaStore) -> None:
    raws = [Raw(node) for _ in range(300)]
    assert all(isinstance(raw.ask(Get(1, an_id(100))), Found) for raw in raws)
    for raw in raws:
        raw.close()
    end = time.monotonic() + 5
    while any(row.object_id == an_id(100) and len(row.holders) > 0 for row in neighbour.list()):
        assert time.monotonic() < end


# Decoders.

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=30)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)
NAMES = [kind.__name__ for kind in messages.Request.__args__]
nearly = st.builds(lambda name, rest: [name, *rest], st.sampled_from(NAMES), st.lists(anything, max_size=5))


@given(st.one_of(st.binary(max_size=200), st.builds(msgspec.msgpack.encode, st.one_of(anything, nearly))))
@settings(max_examples=200, deadline=None)
def test_decoders_refuse_or_decode(packet: bytes) -> None:
    for decode in (decode_request, decode_reply, decode_notifications):
        try:
            message = decode(packet)
        except messages.MalformedError:
            continue
        if decode is not decode_notifications:
            assert decode(encode(message)) == message


def sound_messages() -> list[bytes]:
    number = 7
    some = {
        "Create": (number, an_id(1), 1000),
        "List": (number, 0),
        "Stats": (number,),
        "Seal": (3,),
        "Abort": (3,),
        "Release": ([1, 2, 3],),
        "OwnerLost": (b"12345678",),
        "Leave": (),
    }
    short = {"Delete", "Unpin", "Subscribe", "Unsubscribe"}
    found = []
    for kind in messages.Request.__args__:
        arguments = some.get(kind.__name__, (an_id(1),) if kind.__name__ in short else (number, an_id(1)))
        found.append(encode(kind(*arguments)))
    return found


def test_sound_messages_survive_the_wire() -> None:
    for packet in sound_messages():
        assert encode(decode_request(packet)) == packet


def changed(packet: bytes, sound: list[bytes], chance: random.Random) -> bytes:
    """The packet with bytes changed, cut, doubled and swapped."""
    made = bytearray(packet)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(made) + 1)
        change = chance.randrange(4)
        if change == 0 and made:
            made[at % len(made)] = chance.randrange(256)
        elif change == 1:
            del made[at:]
        elif change == 2:
            made[at:at] = chance.randbytes(chance.randrange(8))
        else:
            made[at:at] = chance.choice(sound)[: chance.randrange(40)]
    return bytes(made)


def test_no_packet_breaks_the_decoders_of_clients() -> None:
    chance = random.Random(1)
    sound = [
        encode(reply)
        for reply in (
            messages.Welcome(0, PROTOCOL, CAPACITY, "/var/tmp"),
            Granted(1, 2, 64, 10, True),
            Found(2, 3, 64, 10),
            messages.Answer(3, True),
            Refused(4, "full", "it is empty", 10, 20),
            messages.Counted(5, 1, 2, 3, 4),
            messages.Listed(6, [(an_id(9), 10, "sealed", [1])], 0),
        )
    ]
    sound.append(msgspec.msgpack.encode([(an_id(9), -1), (an_id(10), 1000)]))
    decoded = Counter[str]()
    tracemalloc.start()
    try:
        for _ in range(FUZZ_CASES):
            packet = changed(chance.choice(sound), sound, chance)
            for decode in (decode_reply, decode_notifications):
                with contextlib.suppress(messages.MalformedError):
                    decode(packet)
                    decoded[decode.__name__] += 1
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert min(decoded["decode_reply"], decoded["decode_notifications"]) > 100, "some get as far as the fields"


def test_fuzzed_messages_never_hurt_the_server(node: Node, neighbour: PlasmaStore) -> None:
    """A new client comes whenever one is dropped."""
    chance = random.Random(0)
    sound = sound_messages()
    raw = Raw(node)
    dropped = 0
    for case in range(FUZZ_CASES):
        packet = changed(chance.choice(sound), sound, chance)
        try:
            raw.send(packet or b"\0")
            raw.send(messages.Stats(2**50 + case))  # so that nothing waits behind what ends the connection
            while reply := raw.sock.recv(65536):
                if decode_reply(reply).number == 2**50 + case:
                    break
            else:
                raise BrokenPipeError
        except OSError:
            dropped += 1
            raw.close()
            raw = Raw(node)
    raw.close()
    assert 100 < dropped < FUZZ_CASES
    assert neighbour.stats().objects >= 20
