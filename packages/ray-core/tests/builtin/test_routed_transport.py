"""The routed transport over a near one and a far one that the tests play: what goes where, and who waits for whom."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import ray.builtin
from ray.abc.transport import Connection, Frame, Transport
from ray.builtin.routed_transport import RoutedTransport
from ray.builtin.unix_transport import UnixTransport
from ray.clock import monotonic
from ray.exceptions import PluginContractError, PluginError, RayConnectionError
from ray.testing.contracts._expect import eventually
from ray.testing.contracts._link import Reader
from ray.testing.interruption import interrupted

_CODE = os.path.dirname(ray.builtin.__file__) + os.sep


class FarConnection(Connection):
    """Keeps what it is sent."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.sent: list[Sequence[Frame]] = []

    def send(self, frames: Sequence[Frame]) -> None:
        self.sent.append(frames)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    @property
    def queued_bytes(self) -> int:
        return 0


class Far(Transport):
    """Has to tell what the test puts into it."""

    name = "far"

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        os.set_blocking(self.read, False)
        self.events: list[tuple[Connection, Sequence[Frame] | None]] = []
        self.limit_s: float | None = None
        self.settles = True
        self.is_awaited = self.has_untold = False
        self.calls: list[str] = []

    def tell(self, connection: Connection, *frames: bytes) -> None:
        self.events.append((connection, list(frames) or None))
        os.write(self.write, b"x")

    def take_in(self, connection: Connection, *frames: bytes) -> None:
        """As ``tell``, but only who waits is told: like a library that announces nothing twice."""
        if self.is_awaited:
            self.tell(connection, *frames)
        else:
            self.has_untold = True
            self.events.append((connection, list(frames)))

    def listen(self, hint: str) -> str:
        self.calls.append(f"listen {hint}")
        return f"far:{len(self.calls)}|{hint}"

    def dial(self, address: str, timeout_s: float = 5.0) -> Connection:
        self.calls.append(f"dial {address}")
        return FarConnection(address)

    def fileno(self) -> int:
        return self.read

    def prepare(self, timeout_s: float | None) -> float | None:
        self.is_awaited = True
        self.calls.append("prepare")
        if self.has_untold:
            return 0.0
        if self.limit_s is None or (timeout_s is not None and timeout_s <= self.limit_s):
            return timeout_s
        return self.limit_s

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        assert timeout_s == 0.0
        self.calls.append("poll")
        self.is_awaited = self.has_untold = False
        events, self.events = self.events, []
        with contextlib.suppress(BlockingIOError):
            os.read(self.read, 1000)
        return events

    def settle(self, timeout_s: float) -> bool:
        return self.settles

    def catch_up(self) -> None:
        self.calls.append("catch_up")

    def abort_reason(self, last_words: Sequence[str]) -> str:
        return "far has a part in it"

    def cut_off(self) -> Sequence[Connection]:
        return [FarConnection("cut off")]

    def wake(self) -> None:
        self.calls.append("wake")

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        raise AssertionError("the near one watches")

    def unwatch(self, fd: int) -> None:
        raise AssertionError("the near one watches")

    def close(self) -> None:
        if "close" not in self.calls:
            self.calls.append("close")
            os.close(self.read)
            os.close(self.write)

    def abandon(self) -> None:
        self.calls.append("abandon")


class World:
    """Processes of two nodes; ``fars`` are the far transports that were opened."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.made: list[RoutedTransport] = []
        self.fars: list[Far] = []
        self.failure: BaseException | None = None

    def open_far(self) -> Far:
        if self.failure is not None:
            raise self.failure
        self.fars.append(Far())
        return self.fars[-1]

    def make(self, node: int = 7) -> RoutedTransport:
        folder = os.path.join(self._folder, str(len(self.made)))
        os.mkdir(folder)
        self.made.append(RoutedTransport(node, UnixTransport(folder), self.open_far))
        return self.made[-1]


@pytest.fixture
def world(short_dir) -> Iterator[World]:
    made = World(str(short_dir))
    yield made
    for transport in made.made:
        transport.close()
    for far in made.fars:
        assert far.calls.count("close") == 1, "what was opened is closed, once"


def test_within_a_node_nothing_else_is_opened(world: World) -> None:
    server, client = world.make(), world.make()
    address = server.listen("s")
    assert address.startswith("routed:7/unix:/")
    out = client.dial(address)
    with Reader(server) as at_server, Reader(client) as at_client:
        out.send([b"hello"])
        at_server.wait(1, "it arrives")
        at_server.events[0][0].send([b"back"])
        at_client.wait(1, "it arrives")
        assert client.settle(1.0)
        client.catch_up()
        assert client.cut_off() == []
        assert client.abort_reason(["Assertion failed"]) == ""
        out.close()
        eventually(at_server.ends, "the end is told")
    assert world.fars == []
    assert client.wait_code is UnixTransport.wait_code


def test_dialled_is_by_the_number_of_the_node(world: World) -> None:
    server, client = world.make(8), world.make(7)
    address = server.listen("s")
    full = server.listen_far(address)
    assert full == f"{address}|far:1%7Cs"
    assert server.listen_far(address) == full, "it listens once"
    assert server.listen_far(full) == full, "also where the address has the contact already"
    assert client.dial(full).address == "far:1|s"  # type: ignore[attr-defined]
    assert world.fars[1].calls == ["dial far:1|s"]
    sibling = world.make(8)
    for known in (address, full):
        assert type(sibling.dial(known)).__name__ == "UnixConnection", "its own node dials near"
    assert len(world.fars) == 2
    assert server.contacts(full) == (address.partition("/")[2], "far:1|s")


def test_who_cannot_be_reached_is_lost_with_a_reason(world: World) -> None:
    server, client = world.make(8), world.make(7)
    address = server.listen("s")
    out = client.dial(address)
    assert out.closed
    assert not out.dialling
    assert address in str(out.failure)
    assert "from its own node, 8, only, and this one is of node 7" in str(out.failure)
    out.send([b"x"])
    assert out.queued_bytes == 0
    with pytest.raises(ConnectionError, match="own node"):
        client.connect(address)
    assert [event for event in client.poll(0.0) if event[0] is out] == [], "connect has polled, and dropped it"
    started = monotonic()
    out = client.dial(address)
    assert client.poll(10.0) == [(out, None)], "its loss is told, and that at once"
    assert monotonic() - started < 5
    assert client.poll(0.0) == []
    out.close()
    out.abort()
    assert world.fars == []


def test_a_poll_that_waits_is_woken_for_such_a_loss(world: World) -> None:
    address = world.make(8).listen("s")
    client = world.make(7)
    with _patient(client) as events:
        out = client.dial(address)
        eventually(lambda: events == [(out, None)], "the loss is told")
    client.dial(address)
    client._near.poll(0.0)  # as a poll that has begun before: it takes the wake-up along
    assert len(_polled(client)) == 1


@pytest.mark.parametrize("address", ["unix:/tmp/x.sock", "routed:0/unix:/x", "routed:7/", ""])
def test_other_addresses_are_refused(world: World, address: str) -> None:
    transport = world.make()
    for call in (transport.dial, transport.contacts, transport.listen_far):
        with pytest.raises(RayConnectionError, match="not an address of transport='routed'"):
            call(address)


def test_who_belongs_to_no_node_looks_at_the_one_it_finds(world: World) -> None:
    server, observer = world.make(8), world.make(0)
    full = server.listen_far(server.listen("s"))
    assert type(observer.dial(full)).__name__ == "UnixConnection"
    with pytest.raises(ValueError, match="belongs to no node"):
        observer.listen("o")


def test_the_near_poll_waits_for_both(world: World) -> None:
    server, client = world.make(7), world.make(7)
    address = server.listen("s")
    far = _far_of(server, world)
    peer = FarConnection("peer")
    near = client.dial(address)
    near.send([b"near"])
    assert [bytes(frames[0]) for _, frames in _polled(server) if frames] == [b"near"]
    for frames in ([b"far"], []):
        threading.Timer(0.05, far.tell, (peer, *frames)).start()
        assert _polled(server) == [(peer, frames or None)]


def test_both_get_their_turn(world: World) -> None:
    """Neither a near peer that never pauses, nor what the far one wants to be called for, keeps the other waiting."""
    server, client = world.make(7), world.make(7)
    address = server.listen("s")
    far = _far_of(server, world)
    out = client.dial(address)
    out.send([b"0"])
    while not server.poll(1.0):
        pass
    far.limit_s = 0.0
    polls = far.calls.count("poll")
    for number in range(1, 6):
        out.send([b"%d" % number])
        far.tell(FarConnection("peer"), b"far")
        taken = server.poll(10.0)
        assert [bytes(frames[0]) for _, frames in taken if frames] == [b"%d" % number, b"far"]
        assert far.calls.count("poll") == polls + number


def test_the_far_one_is_called_when_it_wants_to_be(world: World) -> None:
    server = world.make(7)
    server.listen("s")
    far = _far_of(server, world)
    far.calls.clear()
    far.limit_s = 0.05
    started = monotonic()
    while "poll" not in far.calls:
        assert server.poll(10.0) == []
    assert 0.04 < monotonic() - started < 5
    assert far.calls == ["prepare", "poll"]
    far.limit_s = None
    far.calls.clear()
    for _ in range(3):
        assert server.poll(0.02) == []
    assert far.calls == ["prepare"], "it had nothing to tell"


def test_a_poll_that_waits_minds_a_far_one_that_is_opened_meanwhile(world: World) -> None:
    server = world.make(7)
    address = server.listen("s")
    opens = server._open_far

    def open_one_that_wants_to_be_called() -> Transport:
        assert not gc.isenabled(), "no finaliser finds half of what is imported"
        opened = opens()
        world.fars[0].limit_s = 0.05
        return opened

    server._open_far = open_one_that_wants_to_be_called
    with _patient(server) as events:
        server.dial("routed:9/a:b|c:d")
        assert gc.isenabled()
        (far,) = world.fars
        eventually(lambda: "poll" in far.calls, "it is called in time")
        far.limit_s = None
        server.listen_far(address)
        far.tell(FarConnection("peer"), b"far")
        eventually(lambda: [frames for _, frames in events] == [[b"far"]], "it arrives")


def test_a_poll_inside_a_wait_leaves_that_nothing_to_miss(world: World) -> None:
    """What the inner one has the far transport take in, that will not announce again."""
    server = world.make(7)
    server.listen("s")
    far = _far_of(server, world)
    server.poll(0.0)

    def interrupt(*_: object) -> None:
        far.tell(FarConnection("peer"), b"first")
        assert [frames for _, frames in _polled(server)] == [[b"first"]]
        far.take_in(FarConnection("peer"), b"second")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        assert [frames for _, frames in _polled(server)] == [[b"second"]]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_what_a_poll_has_taken_is_found_by_one_that_interrupts_it(world: World) -> None:
    server, client = world.make(7), world.make(7)
    address = server.listen("s")
    far = _far_of(server, world)
    out = client.dial(address)
    point = points = 1
    while point <= points:
        found: list[Any] = []

        def find(found: list[Any] = found) -> None:
            end = monotonic() + 5
            while len(found) < 2 and monotonic() < end:
                found += server.poll(0.1)

        out.send([b"near"])
        far.tell(FarConnection("peer"), b"far")
        taken, points = interrupted(lambda: server.poll(5.0), point, find, lambda path: path.startswith(_CODE))
        if points < point:
            assert len(taken) == 2
            break
        assert sorted(bytes(frames[0]) for _, frames in found) == [b"far", b"near"], f"at point {point}"
        assert taken == []
        point += 1
    assert point > 4


def test_nothing_is_missed_when_a_poll_interrupts_a_poll(world: World) -> None:
    """Whichever of the two was the last to prepare the far one, or to poll it."""
    server = world.make(7)
    server.listen("s")
    far = _far_of(server, world)
    far.limit_s = 30.0
    point = points = 1

    def interrupt() -> None:
        far.take_in(FarConnection("peer"), b"inside")
        taken = _polled(server)
        if [frames for _, frames in taken] == [[b"before"]]:
            taken = _polled(server)
        assert [b"inside"] in [frames for _, frames in taken]

    while point <= points:
        far.tell(FarConnection("peer"), b"before")
        _, points = interrupted(lambda: server.poll(0.3), point, interrupt, lambda path: path.startswith(_CODE))
        if points < point:
            break
        far.take_in(FarConnection("peer"), b"behind")
        assert [b"behind"] in [frames for _, frames in _polled(server)], f"at point {point}"
        point += 1
    assert point > 6


def test_two_that_open_it_at_once_leave_one(world: World) -> None:
    server = world.make(7)
    address = server.listen("s")
    first: list[str] = []
    opens = server._open_far

    def open_slowly() -> Transport:
        opened = opens()
        if not first:
            first.append("")
            first[0] = server.listen_far(address)
        return opened

    server._open_far = open_slowly
    full = server.listen_far(address)
    assert full == first[0]
    slow, quick = world.fars
    assert slow.calls == ["close"]
    quick.tell(FarConnection("peer"), b"far")
    assert [frames for _, frames in server.poll(5.0)] == [[b"far"]]


def test_what_cannot_be_watched_is_refused(world: World) -> None:
    class Blind(Far):
        def fileno(self) -> int:
            return -1

    server = world.make(7)
    address = server.listen("s")
    server._open_far = lambda: world.fars.append(Blind()) or world.fars[-1]  # type: ignore[func-returns-value]
    with pytest.raises(PluginContractError, match="transport='far' has no descriptor to watch"):
        server.listen_far(address)
    with pytest.raises(ConnectionError, match=r"cannot connect to routed:9/a:b\|c:d: .*no descriptor"):
        server.dial("routed:9/a:b|c:d")


@pytest.mark.parametrize("failure", [PluginError("no keys"), OSError(24, "Too many open files")])
def test_a_far_one_that_cannot_be_opened_fails_the_dial(world: World, failure: BaseException) -> None:
    server = world.make(7)
    address = server.listen("s")
    world.failure = failure
    with pytest.raises(ConnectionError, match=r"cannot connect to routed:9/a:b\|c:d: ") as caught:
        server.dial("routed:9/a:b|c:d")
    assert caught.value.__cause__ is failure
    with pytest.raises(type(failure)):
        server.listen_far(address)
    world.failure = None
    server.listen_far(address)


def test_both_do_what_is_asked_of_one(world: World) -> None:
    server = world.make(7)
    server.listen("s")
    far = _far_of(server, world)
    assert server.settle(0.5)
    far.settles = False
    assert not server.settle(0.5)
    server.catch_up()
    assert "catch_up" in far.calls
    assert server.abort_reason([]) == "far has a part in it"
    assert [connection.address for connection in server.cut_off()] == ["cut off"]  # type: ignore[attr-defined]


def test_what_is_closed_opens_nothing(world: World) -> None:
    server = world.make(7)
    address = server.listen("s")
    server.close()
    server.close()
    with pytest.raises(ConnectionError, match="closed"):
        server.listen_far(address)
    with pytest.raises(ConnectionError, match="closed"):
        server.dial("routed:9/a:b|c:d")
    assert world.fars == []


def test_what_is_closed_while_it_opens_the_far_one_leaves_nothing(world: World) -> None:
    server = world.make(7)
    address = server.listen("s")
    opens = server._open_far

    def open_too_late() -> Transport:
        server.close()
        return opens()

    server._open_far = open_too_late
    with pytest.raises(ConnectionError, match="closed"):
        server.listen_far(address)
    assert world.fars[0].calls == ["close"]


def test_a_forked_child_lets_go_of_both(world: World) -> None:
    server, client = world.make(7), world.make(7)
    address = server.listen("s")
    far = _far_of(server, world)
    child = os.fork()
    if not child:
        try:
            server.abandon()
            os._exit(0 if far.calls[-1] == "abandon" else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    client.dial(address).send([b"near"])
    far.tell(FarConnection("peer"), b"far")
    taken: list[Any] = []
    while len(taken) < 2:
        taken += server.poll(5.0)


@contextlib.contextmanager
def _patient(transport: RoutedTransport) -> Iterator[list[Any]]:
    """Polls for a minute at a time, on a thread; yields what that gives."""
    events: list[Any] = []
    ending = False

    def run() -> None:
        while not ending:
            events.extend(transport.poll(60.0))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    time.sleep(0.05)  # it waits
    try:
        yield events
    finally:
        ending = True
        transport.wake()
        thread.join(5)
        assert not thread.is_alive()


def _polled(server: RoutedTransport) -> list[Any]:
    """What the next polls give, as soon as it is anything."""
    started = monotonic()
    taken: list[Any] = []
    while not taken:
        taken = server.poll(10.0)
    assert monotonic() - started < 5
    return taken


def _far_of(server: RoutedTransport, world: World) -> Far:
    server.listen_far("routed:7/unix:/x")
    return world.fars[-1]
