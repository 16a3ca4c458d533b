"""What every transport must do while connections are being dialled. Each check takes a ``TransportSubject``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ray.abc.transport import Connection, Transport
from ray.clock import monotonic, sleep
from ray.testing.contracts import _expect
from ray.testing.contracts._checks_transport_ends import in_child
from ray.testing.contracts._expect import (
    ContractViolationError,
    eventually,
    expect,
    expect_equal,
    expect_raises,
    in_time,
    on_threads,
)
from ray.testing.contracts._link import Check, Reader, TransportSubject, linked

#: A dial takes far less. The quickest of a few counts, as the machine may do other things meanwhile.
_AT_ONCE_S = 0.02
_DIAL_S = 0.6
_MANY = 20
#: Time for what must not happen.
_QUIET_S = 0.15


def dialling_nobody_is_reported(subject: TransportSubject) -> None:
    server, client = subject.make(), subject.make()
    address = server.listen("contract-server")
    server.close()
    try:
        outs = [client.dial(address, timeout_s=2.0) for _ in range(3)]
    except ConnectionError as error:
        raise ContractViolationError(f"dial leaves it to poll to report that nobody listens: {error!r}") from error
    for out in outs:
        out.send([b"to nobody"])
    with Reader(client) as at_client:
        eventually(lambda: len(at_client.ends()) >= 3, "poll reports that nobody listens where was dialled")
        sleep(_QUIET_S)
        expect_equal(len(at_client.events), 3, "the failure of a dial is reported once")
        expect(set(at_client.ends()) == set(outs), "the failure of a dial is reported on its connection")
    for out in outs:
        _expect_failure(out, client.contacts(address))
        out.send([b"too late"])
        expect_equal(out.queued_bytes, 0, "a closed connection queues nothing")


def _names_one(text: str, contacts: Sequence[str]) -> bool:
    return any(contact.partition(":")[2] in text for contact in contacts)


def _expect_failure(out: Connection, contacts: Sequence[str]) -> None:
    expect(out.closed and not out.dialling, "a connection that does not stand is closed, and dials no more")
    expect(isinstance(out.failure, ConnectionError), "a connection that never stood has the failure as a reason")
    expect(_names_one(str(out.failure), contacts), f"the failure names the address: {out.failure}")


def connect_waits(subject: TransportSubject) -> None:
    server, client, other = subject.make(), subject.make(), subject.make()
    address = server.listen("contract-server")
    out = client.connect(address)
    expect(not (out.dialling or out.closed), "connect returns a connection that stands")
    with Reader(server) as at_server, Reader(client):
        out.send([b"hello"])
        at_server.wait(1, "every message arrives")
    server.close()

    def connect() -> None:
        with expect_raises(ConnectionError, "connect refuses an address where nobody listens") as raised:
            for _ in range(50):  # a library may close the listener a moment later, on a thread of its own
                other.connect(address, timeout_s=2.0).abort()
                sleep(0.02)
        expect(_names_one(str(raised[0]), other.contacts(address)), f"the refusal names the address: {raised[0]}")

    in_time(connect, "connect returns in the time it was given")


def a_connection_that_stood_has_no_failure(subject: TransportSubject) -> None:
    with linked(subject) as link:
        accepted = link.accept()
        accepted.abort()
        eventually(link.at_client.ends, "poll reports a peer that has closed")
        for connection in (link.out, accepted):
            expect(connection.failure is None, "a connection that has stood has no failure")
            expect(not connection.dialling, "a connection that has stood dials no more")


def what_is_sent_while_it_dials_goes_first(subject: TransportSubject) -> None:
    server, client = subject.make(), subject.make()
    out = client.dial(server.listen("contract-server"))
    for number in range(200):
        out.send([b"%d" % number, b"x" * (number % 700)])
    with Reader(client), Reader(server) as at_server:
        eventually(lambda: not out.dialling, "a connection comes to stand")
        out.send([b"200"])
        seen = at_server.wait(201, "every message arrives")
        wanted = [b"%d" % number for number in range(201)]
        expect_equal([frames[0] for frames in seen], wanted, "what was sent while it dialled goes first, in order")
        accepted = at_server.events[0][0]
        accepted.send([b"reply"])
        eventually(lambda: not out.queued_bytes, "queued_bytes is 0 once the peer has everything")


def many_dial_at_once(subject: TransportSubject) -> None:
    servers, client = [subject.make(), subject.make()], subject.make()
    addresses = [server.listen(f"contract-server-{number}") for number, server in enumerate(servers)]

    def dial(index: int) -> None:
        for number in range(_MANY):
            out = client.dial(addresses[number % 2])
            out.send([b"%d" % index, b"%d" % number])
            out.send([b"again"])

    with Reader(servers[0]) as first, Reader(servers[1]) as second, Reader(client):
        on_threads(3, dial, "any thread may dial")
        for reader, remainder in ((first, 0), (second, 1)):
            reader.wait(3 * _MANY, "what was sent while many dialled at once arrives")
            streams: dict[Connection, list[list[bytes]]] = {}
            for connection, frames in reader.events:
                streams.setdefault(connection, []).append(frames or [])
            wanted = [[[b"%d" % i, b"%d" % n], [b"again"]] for i in range(3) for n in range(remainder, _MANY, 2)]
            expect_equal(sorted(streams.values()), sorted(wanted), "each dial makes a connection of its own")


def close_while_it_dials_flushes(subject: TransportSubject) -> None:
    server, client = subject.make(), subject.make()
    address = server.listen("contract-server")
    with Reader(server) as at_server:
        out = client.dial(address)
        for number in range(50):
            out.send([b"%d" % number])
        in_time(out.close, "close ends in a bounded time")
        expect(out.closed, "a closed connection says so")
        wanted = [[b"%d" % number] for number in range(50)]
        expect_equal(at_server.wait(50, "close sends what was queued while it dialled"), wanted, "messages arrive once")
        eventually(at_server.ends, "poll reports a peer that has closed")
        out = client.dial(address)
        out.send([b"by the transport"])
        in_time(client.close, "close ends in a bounded time")
        at_server.wait(51, "closing a transport sends what was queued while it dialled")


def abort_while_it_dials_is_silent(subject: TransportSubject) -> None:
    server, client = subject.make(), subject.make()
    address = server.listen("contract-server")
    outs = [client.dial(address) for _ in range(5)]
    for out in outs:
        out.abort()
        out.send([b"too late"])
        expect(out.closed, "an aborted connection is closed")
    with Reader(client) as at_client, Reader(server) as at_server:
        sleep(_QUIET_S)
        expect_equal(at_client.events, [], "an aborted dial is not reported")
        expect_equal(at_server.events, [], "nobody hears of an aborted dial")
        client.dial(address).send([b"next"])
        at_server.wait(1, "an aborted dial does not keep later ones")


# --- where nobody answers -------------------------------------------------------------------------------------------


@contextmanager
def _hole(subject: TransportSubject) -> Iterator[str]:
    """The address of a listener that never answers."""
    assert subject.black_hole is not None
    with subject.black_hole() as address:
        yield address


def a_black_hole_blocks_nobody(subject: TransportSubject) -> None:
    with _hole(subject) as hole, linked(subject) as link:
        accepted = link.accept()
        took, outs = [], []
        for _ in range(4):
            began = monotonic()
            outs.append(link.client.dial(hole, _DIAL_S))
            took.append(monotonic() - began)
        for out in outs:
            out.send([b"nobody reads this"])
        expect(min(took) < _AT_ONCE_S, f"dial returns at once, also where nobody answers: it took {min(took):.3f} s")
        first = monotonic()
        for number in range(30):
            link.out.send([b"%d" % number])
            link.at_server.wait(1 + number, "messages of others arrive while a connection is dialled")
            accepted.send([b"%d" % number])
            link.at_client.wait(1 + number, "messages of others arrive while a connection is dialled")
        exchanged_s = monotonic() - first
        expect(exchanged_s < _DIAL_S or not all(out.dialling for out in outs), "a dial ends in time")
        expect(outs[-1].dialling or exchanged_s > _DIAL_S / 2, "a connection is dialling until it stands or has failed")
        rule = "the failure of a dial arrives in time"
        eventually(lambda: len(link.at_client.ends()) >= 4, rule, _DIAL_S + _slack_s())
        expect(set(link.at_client.ends()) == set(outs), "the failure of a dial is reported on its connection")
        for out in outs:
            _expect_failure(out, hole)
        expect(not link.out.closed, "the failure of a dial is no affair of other connections")
        link.out.send([b"again"])
        link.at_server.wait(31, "the failure of a dial is no affair of other connections")


def _slack_s() -> float:
    return _expect.DEADLINE_S / 2


def many_black_holes_fail_together(subject: TransportSubject) -> None:
    with _hole(subject) as hole:
        client = subject.make()
        outs = [client.dial(hole, _DIAL_S) for _ in range(_MANY)]
        with Reader(client) as at_client:
            rule = "dials do not wait for each other"
            eventually(lambda: len(at_client.ends()) >= _MANY, rule, _DIAL_S + _slack_s())
        for out in outs:
            _expect_failure(out, hole)


def a_black_hole_can_be_given_up(subject: TransportSubject) -> None:
    with _hole(subject) as hole:
        before = set(os.listdir("/dev/fd"))
        client = subject.make()
        aborted, closed, left = (client.dial(hole, 5.0) for _ in range(3))
        for out in (aborted, closed, left):
            out.send([b"nobody reads this"])
        in_time(aborted.abort, "abort never blocks", 0.5)
        with Reader(client) as at_client:
            sleep(_QUIET_S)
            expect_equal(at_client.events, [], "an aborted dial is not reported")
        expect(not client.settle(0.1), "settle does not speak of what has not left as settled")
        in_time(closed.close, "close flushes for a bounded time while it dials", 3.0)
        expect(aborted.closed and closed.closed, "a closed connection says so")
        _close_in_time(client)
        expect(left.closed, "closing a transport closes what it dials")
        expect_equal(set(os.listdir("/dev/fd")) - before, set(), "close gives every descriptor back")


def _close_in_time(client: Transport) -> None:
    in_time(client.close, "closing a transport takes a bounded time while it dials", 5.0)


def a_fork_while_it_dials_disturbs_nobody(subject: TransportSubject) -> None:
    if not hasattr(os, "fork"):
        return
    with _hole(subject) as hole:
        server, client = subject.make(), subject.make()
        address = server.listen("contract-server")
        lost = client.dial(hole, _DIAL_S)
        out = client.dial(address)
        out.send([b"before"])

        def leave() -> None:
            for action in (lost.abort, out.abort, client.abandon, server.abandon):
                action()

        code = in_child(leave, "abort and abandon do not block in a forked child")
        expect_equal(code, 0, "abort and abandon do not raise in a forked child")
        with Reader(client) as at_client, Reader(server) as at_server:
            expect_equal(at_server.wait(1, "a dial outlives a fork"), [[b"before"]], "a child takes no message")
            rule = "the failure of a dial arrives, whatever has forked meanwhile"
            eventually(at_client.ends, rule, _DIAL_S + _slack_s())
            expect_equal(at_client.ends(), [lost], "a child ends no connection of its parent")
        _expect_failure(lost, hole)


DIALLING: tuple[Check, ...] = (
    dialling_nobody_is_reported,
    connect_waits,
    a_connection_that_stood_has_no_failure,
    what_is_sent_while_it_dials_goes_first,
    many_dial_at_once,
    close_while_it_dials_flushes,
    abort_while_it_dials_is_silent,
)

BLACK_HOLES: tuple[Check, ...] = (
    a_black_hole_blocks_nobody,
    many_black_holes_fail_together,
    a_black_hole_can_be_given_up,
    a_fork_while_it_dials_disturbs_nobody,
)
"""Those that need ``TransportContract.black_hole``."""
