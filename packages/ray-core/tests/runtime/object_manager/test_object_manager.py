"""Two object managers, each with a store, and a test between them that is both node managers and the network."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from tests.sockets import accepted, hang_up

from ray.abc.store import Store
from ray.builtin.heap_store import HeapStore
from ray.clock import monotonic
from ray.exceptions import RayConnectionError
from ray.ids import stored_id
from ray.protocol.pulls import AGAIN, FULL, LOST
from ray.runtime.object_manager import orders, sources, tickets, ways
from ray.runtime.object_manager.frames import FRAME_BYTES, HEADER_BYTES
from ray.runtime.object_manager.object_manager import ObjectManager
from ray.runtime.object_manager.serving import ENTER_S
from ray.runtime.object_manager.tickets import Ticket, new_ticket

HERE, THERE = b"\0\0\0\1", b"\0\0\0\2"
MINE, THEIRS = HERE + b"\0\0\0\0", THERE + b"\0\0\0\0"
KEY = b"k" * 20
NBYTES = 3 * FRAME_BYTES + 12345
VALUE = bytes(range(251)) * (NBYTES // 251 + 1)
VALUE = VALUE[:NBYTES]


#: {address: a store of another node of this machine}
STORES: dict[str, Store] = {}


def opened(address: str) -> Store:
    if address not in STORES:
        raise RayConnectionError("it is not on this machine")
    return STORES[address]


class Side:
    """One node: its object manager runs on a thread."""

    def __init__(self, store: Store | None = None, *, sampled: bool = False) -> None:
        self.store = store or HeapStore()
        self.channel, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(20)
        #: What it has sent, and to whom.
        self.served: list[orders.Served] = []
        manager = ObjectManager(self._theirs, HERE, self.store, "127.0.0.1", (0, 0), opened, sampled=sampled)
        self._thread = threading.Thread(target=manager.serve, daemon=True)
        self._thread.start()
        listens = self.hear()
        assert isinstance(listens, orders.Listens)
        self.port = listens.port

    def order(self, order: orders.Order) -> None:
        self.channel.send(orders.encode(order))

    def hear(self) -> orders.Report:
        while True:
            report = orders.decode_report(self.channel.recv(orders.MAX_PACKET_BYTES))
            if not isinstance(report, orders.Served):
                return report
            self.served.append(report)

    def close(self) -> None:
        self.channel.close()
        self._thread.join(5)
        assert not self._thread.is_alive()
        self._theirs.close()


class World:
    """Both, and the tickets that were given."""

    def __init__(self, here: Side, there: Side, *, sealed: bool = False) -> None:
        self.here, self.there = here, there
        self.sealed = sealed
        #: Where the other store is on this machine.
        self.near = ""
        self.port = there.port
        self.tickets: list[Ticket] = []
        #: Closed in the end.
        self.sockets: list[socket.socket] = []

    def listener(self) -> socket.socket:
        """Where connections go from now on."""
        made = socket.create_server(("127.0.0.1", 0))
        self.sockets.append(made)
        self.port = made.getsockname()[1]
        return made

    def close(self) -> None:
        hang_up(*self.sockets)
        self.here.close()
        self.there.close()
        for end in self.sockets:
            end.close()

    def give_ticket(self) -> orders.Way:
        ticket = new_ticket(MINE, THEIRS, sealed=self.sealed)
        self.tickets.append(ticket)
        self.there.order(orders.Expect(*ticket))
        return orders.Way(THERE, "127.0.0.1", self.port, *ticket, store=self.near)

    def bring(self, key: bytes = KEY, nbytes: int = NBYTES) -> None:
        self.here.order(orders.Bring(key, THERE, nbytes))

    def ended(self) -> orders.Ended:
        while True:
            report = self.here.hear()
            if isinstance(report, orders.Ask):
                self.here.order(self.give_ticket())
            else:
                assert isinstance(report, orders.Ended)
                return report


@pytest.fixture(params=["plain", "sealed"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(Side(), Side(), sealed=request.param == "sealed")
    yield made
    made.close()


def put(side: Side, key: bytes = KEY, value: bytes = VALUE) -> None:
    side.store.put(key, [value], len(value))


def test_an_object_comes_in_frames(world: World) -> None:
    put(world.there)
    world.bring()
    assert world.ended() == orders.Ended(KEY, received=NBYTES)
    assert world.here.store.get(KEY) == VALUE


def test_a_connection_serves_one_object_after_the_other(world: World) -> None:
    for number in range(5):
        key = bytes([number]) * 20
        put(world.there, key, VALUE[number:])
        world.bring(key, NBYTES - number)
        assert world.ended().kind == ""
        assert world.here.store.get(key) == VALUE[number:]
    assert len(world.tickets) == 1


def test_an_empty_object(world: World) -> None:
    put(world.there, value=b"")
    world.bring(nbytes=0)
    assert world.ended().kind == ""
    assert world.here.store.get(KEY) == b""


def test_several_come_at_a_time(world: World) -> None:
    keys = [bytes([number]) * 20 for number in range(6)]
    for key in keys:
        put(world.there, key)
        world.bring(key)
    assert {world.ended().key for _ in keys} == set(keys)
    assert all(world.here.store.get(key) == VALUE for key in keys)


def test_what_is_not_there_is_lost(world: World) -> None:
    world.bring()
    ended = world.ended()
    assert ended.kind == LOST
    assert "not in the store" in ended.text
    assert world.here.store.stats().objects == 0


def test_an_object_of_another_size_is_lost(world: World) -> None:
    put(world.there)
    world.bring(nbytes=NBYTES + 1)
    assert world.ended().kind == LOST


def test_what_is_here_already_does_not_come(world: World) -> None:
    put(world.here)
    world.bring()
    assert world.ended() == orders.Ended(KEY)


def test_what_another_process_is_about_to_store_is_tried_again(world: World) -> None:
    put(world.there)
    view = world.here.store.create(KEY, NBYTES)
    world.bring()
    assert world.ended().kind == AGAIN
    view.release()
    world.here.store.abort(KEY)
    world.bring()
    assert not world.ended().kind


def test_there_is_no_room() -> None:
    made = World(Side(HeapStore(FRAME_BYTES)), Side())
    put(made.there)
    made.bring()
    ended = made.ended()
    assert (ended.kind, ended.full) == (FULL, (NBYTES, FRAME_BYTES, 0))
    assert "bytes needed" not in ended.text  # who reads it says that of ``full``
    made.close()


def test_objects_are_removed_by_key_and_by_prefix(world: World) -> None:
    put(world.there)
    world.there.order(orders.Remove(7, [KEY, b"?" * 20]))
    assert world.there.hear() == orders.Removed(7)
    assert not world.there.store.contains(KEY)


def test_what_is_given_up_ends_soon(world: World) -> None:
    listener = world.listener()  # which answers nothing
    world.bring()
    assert isinstance(world.here.hear(), orders.Ask)
    world.here.order(world.give_ticket())
    world.sockets.append(listener.accept()[0])
    world.here.order(orders.GiveUp(KEY))
    assert world.ended().kind == AGAIN
    assert world.here.store.stats().objects == 0


def test_nobody_listens_there(world: World) -> None:
    world.listener().close()
    world.bring()
    assert world.ended().kind == AGAIN


def test_no_ticket_is_given(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "_TICKET_S", 0.1)
    world.bring()
    began, asked = monotonic(), 0
    while isinstance(report := world.here.hear(), orders.Ask):
        world.here.order(orders.Way(THERE, reason="not now"))
        asked += 1
    assert report == orders.Ended(KEY, AGAIN, "not now")
    assert asked == 4
    assert monotonic() - began > sources.PATIENCE_S


# --- who may come in --------------------------------------------------------------------------------------------------


def knock(world: World) -> socket.socket:
    return socket.create_connection(("127.0.0.1", world.there.port), 5)


def is_hung_up_on(connection: socket.socket) -> bool:
    connection.settimeout(5)
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


def entered(world: World, ticket: Ticket) -> bool:
    with knock(world) as connection:
        try:
            tickets.enter(connection, ticket)
        except OSError:
            return False
        return True


def test_a_ticket_is_good_for_one_connection(world: World) -> None:
    world.give_ticket()
    assert entered(world, world.tickets[0])
    assert not entered(world, world.tickets[0])


@pytest.mark.parametrize("change", ["id", "secret", "client", "server", "sealed"])
def test_another_ticket_is_none(world: World, change: str) -> None:
    world.give_ticket()
    ticket = world.tickets[0]
    is_flag = change == "sealed"
    wrong = ticket._replace(**{change: not ticket.sealed if is_flag else bytes(len(getattr(ticket, change)))})
    assert not entered(world, wrong)
    assert entered(world, ticket) == (change == "id")  # it was struck off, though nothing was proved


def test_who_says_nothing_is_hung_up_on(world: World) -> None:
    began = monotonic()
    with knock(world) as silent, knock(world) as slow:
        silent.recv(16)
        while monotonic() - began < ENTER_S + 0.5:  # a byte now and then is no answer
            try:
                slow.send(b"x")
            except OSError:
                break
            time.sleep(0.05)
        assert is_hung_up_on(silent)
        assert is_hung_up_on(slow)
    assert monotonic() - began < ENTER_S + 3


def test_who_asks_for_nonsense_is_hung_up_on(world: World) -> None:
    world.give_ticket()
    with knock(world) as connection:
        tickets.enter(connection, world.tickets[0])
        connection.sendall(b"?" * 100)
        assert is_hung_up_on(connection)


def test_a_server_without_the_secret_gets_nothing(world: World) -> None:
    put(world.there)
    listener = world.listener()
    said: list[bytes] = []

    def pretend() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"n" * 16)
                said.append(connection.recv(1000))
                connection.sendall(b"p" * 32)
                said.append(connection.recv(1000))

    pretending = threading.Thread(target=pretend, daemon=True)
    pretending.start()
    world.bring()
    assert world.ended().kind == AGAIN
    pretending.join(5)
    assert said[1::2] == [b"", b""]


def test_nobody_on_the_way_reads_what_is_sealed(world: World) -> None:
    put(world.there)
    seen = bytearray()

    def listen(at: int, data: bytearray) -> bytes:
        seen.extend(data)
        return bytes(data)

    Proxy(world, listen)
    world.bring()
    assert world.ended().kind == ""
    assert (VALUE[1000:1100] in seen) != world.sealed


def test_no_key_is_that_of_another_connection() -> None:
    ticket = new_ticket(MINE, THEIRS, sealed=True)
    found = [ticket.keys(bytes([server]) * 16, bytes([client]) * 16) for server in range(4) for client in range(4)]
    assert len({key for keys in found for key in keys}) == 2 * len(found)
    assert {len(key) for keys in found for key in keys} == {32}


# --- what happens on the way ------------------------------------------------------------------------------------------


Change: TypeAlias = Callable[[int, bytearray], "bytes | None"]


def unchanged(at: int, data: bytearray) -> bytes:
    return bytes(data)


class Proxy:
    """Between the two; ``change`` sees what comes from there, so many bytes from the beginning of a connection.

    ``asks`` sees what goes there.
    """

    def __init__(self, world: World, change: Change, asks: Change = unchanged) -> None:
        self._port = world.port
        self._listener = world.listener()
        self._change, self._asks = change, asks
        self._sockets = world.sockets
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        for client in accepted(self._listener):
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._port))
            self._sockets += client, server
            asks, change = (self._asks, self._change) if self.connections == 1 else (unchanged, unchanged)
            threading.Thread(target=self._pump, args=(client, server, asks), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, change), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, change: Change) -> None:
        seen = 0
        try:
            while data := source.recv(65536):
                out = change(seen, bytearray(data))
                seen += len(data)
                if out is None:
                    break
                target.sendall(out)
        except OSError:
            pass
        hang_up(source, target)


#: Where the first frame's header, and its data, begin in what a server sends: behind its nonce and its proof.
HEADER_AT = 16 + 32
DATA_AT = HEADER_AT + HEADER_BYTES


def flip(at: int) -> Callable[[int, bytearray], bytes]:
    def change(seen: int, data: bytearray) -> bytes:
        if seen <= at < seen + len(data):
            data[at - seen] ^= 1
        return bytes(data)

    return change


def cut(at: int) -> Callable[[int, bytearray], bytes | None]:
    return lambda seen, data: None if seen + len(data) > at else bytes(data)


@pytest.mark.parametrize(
    "at", [3, 20, HEADER_AT, HEADER_AT + 9, HEADER_AT + 13, HEADER_AT + 25, DATA_AT, DATA_AT + 500_000, 2 * FRAME_BYTES]
)
def test_a_bit_that_changes_costs_a_connection_and_nothing_else(world: World, at: int) -> None:
    put(world.there)
    proxy = Proxy(world, flip(at))
    world.bring()
    ended = world.ended()
    assert (ended.kind, ended.bad_frames) == ("", int(at >= HEADER_AT))
    assert world.here.store.get(KEY) == VALUE
    assert proxy.connections == 2


@pytest.mark.parametrize("at", [64, 75, 100])
def test_a_request_that_changes_is_not_answered(world: World, at: int) -> None:
    put(world.there)
    proxy = Proxy(world, unchanged, flip(at))
    world.bring()
    assert world.ended() == orders.Ended(KEY, received=NBYTES)
    assert world.here.store.get(KEY) == VALUE
    assert proxy.connections == 2
    said = world.there.channel.recv(orders.MAX_PACKET_BYTES)
    assert orders.decode_report(said) == orders.Served(b"", HERE, bad_frames=1)


@pytest.mark.parametrize("what", ["swapped", "replayed", "left out"])
def test_frames_in_another_order_cost_a_connection_and_nothing_else(world: World, what: str) -> None:
    put(world.there)
    held, size = bytearray(), HEADER_BYTES + FRAME_BYTES + (16 if world.sealed else 0)

    def change(seen: int, data: bytearray) -> bytes:
        if seen < HEADER_AT:  # nonce and proof
            return bytes(data)
        held.extend(data)
        if len(held) < 2 * size:
            return b""
        first, second, rest = bytes(held[:size]), bytes(held[size : 2 * size]), bytes(held[2 * size :])
        held.clear()
        return {"swapped": second + first, "replayed": first + first, "left out": second}[what] + rest

    proxy = Proxy(world, change)
    world.bring()
    ended = world.ended()
    assert (ended.kind, ended.bad_frames) == ("", 1)
    assert world.here.store.get(KEY) == VALUE
    assert proxy.connections == 2


def test_frames_of_another_ticket_are_none() -> None:
    """What was sealed for one connection does not pass on another, though it is of the same object."""
    made = World(Side(), Side(), sealed=True)
    put(made.there)
    kept = bytearray()

    def keep(seen: int, data: bytearray) -> bytes | None:
        kept.extend(data)
        return None if len(kept) > HEADER_AT + 2 * FRAME_BYTES else bytes(data)

    proxy = Proxy(made, keep)
    made.bring()
    assert made.ended().kind == ""
    assert proxy.connections == 2

    def repeat(seen: int, data: bytearray) -> bytes:
        end = seen + len(data)
        return bytes(data[: max(0, HEADER_AT - seen)]) + bytes(kept[max(seen, HEADER_AT) : end])

    made.close()
    made = World(Side(), Side(), sealed=True)
    put(made.there)
    Proxy(made, repeat)
    made.bring()
    ended = made.ended()
    assert (ended.kind, ended.bad_frames) == ("", 1)
    assert made.here.store.get(KEY) == VALUE
    made.close()


def test_two_editions_of_an_object_are_two_objects(world: World) -> None:
    """The task runs again, and makes something else, while what it made first is half here."""
    first, second = stored_id(bytes(20), 1), stored_id(bytes(20), 2)
    other = bytes(byte ^ 255 for byte in VALUE)
    put(world.there, first)
    again = threading.Event()

    def stop(seen: int, data: bytearray) -> bytes | None:
        if seen + len(data) < FRAME_BYTES + FRAME_BYTES // 2:
            return bytes(data)
        world.there.store.delete(first)
        put(world.there, second, other)
        again.set()
        return None

    Proxy(world, stop)
    world.bring(first)
    ended = world.ended()
    assert again.is_set()
    assert (ended.key, ended.kind) == (first, LOST)
    assert not world.here.store.contains(first)
    world.bring(second)
    assert world.ended().kind == ""
    assert world.here.store.get(second) == other


def test_samples_tell_what_is_in_the_wrong_place() -> None:
    made = World(Side(), Side(sampled=True))
    put(made.there)

    def shift(seen: int, data: bytearray) -> bytes:
        if seen + len(data) > DATA_AT + FRAME_BYTES // 2 > seen:
            del data[0]
        return bytes(data)

    proxy = Proxy(made, shift)
    made.bring()
    ended = made.ended()
    assert (ended.kind, ended.bad_frames) == ("", 1)
    assert made.here.store.get(KEY) == VALUE
    assert proxy.connections == 2
    made.close()


def test_what_was_right_before_a_cut_is_not_sent_again(world: World) -> None:
    put(world.there)
    proxy = Proxy(world, cut(2 * FRAME_BYTES + FRAME_BYTES // 2))
    world.bring()
    ended = world.ended()
    assert ended.kind == ""
    assert world.here.store.get(KEY) == VALUE
    assert proxy.connections == 2
    assert ended.received == NBYTES


def test_a_way_without_a_byte_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "PROGRESS_S", 0.2)
    put(world.there)

    def stall(seen: int, data: bytearray) -> bytes:
        if seen > FRAME_BYTES:
            time.sleep(2)
        return bytes(data)

    Proxy(world, stall)
    began = monotonic()
    world.bring()
    assert world.ended().kind == ""
    assert monotonic() - began < 1.5
    assert world.here.store.get(KEY) == VALUE


@pytest.fixture
def near() -> Iterator[World]:
    made = World(Side(), Side())
    made.near = "near"
    STORES["near"] = made.there.store
    yield made
    made.close()
    del STORES["near"]


def test_what_a_store_of_this_machine_has_complete_is_copied(near: World) -> None:
    put(near.there)
    near.bring()
    assert near.ended() == orders.Ended(KEY, copied=NBYTES)
    assert near.here.store.get(KEY) == VALUE
    assert near.there.served == []
    near.there.store.delete(KEY)
    assert near.there.store.stats().objects == 0


def test_the_next_copy_needs_no_ticket(near: World) -> None:
    for number in range(5):
        key = bytes([number]) * 20
        put(near.there, key, VALUE)
        near.bring(key, NBYTES)
        assert near.ended() == orders.Ended(key, copied=NBYTES)
    assert len(near.tickets) == 1


def test_a_store_that_cannot_be_opened_is_no_obstacle(near: World) -> None:
    near.near = "unknown"
    put(near.there)
    near.bring()
    assert near.ended() == orders.Ended(KEY, received=NBYTES)


def test_an_object_of_another_size_is_not_copied(near: World) -> None:
    put(near.there)
    near.bring(nbytes=NBYTES + 1)
    ended = near.ended()
    assert (ended.kind, ended.copied) == (LOST, 0)


def test_what_is_not_in_a_store_of_this_machine_is_lost(near: World) -> None:
    near.bring()
    assert near.ended().kind == LOST
