"""What every transport must do at its ends: closing, losing, refusing, forking. Checks take a ``TransportSubject``."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable

from ray.clock import monotonic, sleep
from ray.testing.contracts._expect import (
    ContractViolationError,
    eventually,
    expect,
    expect_equal,
    expect_raises,
)
from ray.testing.contracts._link import Check, Link, Reader, TransportSubject, linked

MIB = 1024 * 1024
# Exit codes of a child.
_UNREACHABLE, _UNSETTLED = 3, 4


def a_closed_peer_is_reported_once(subject: TransportSubject) -> None:
    def by_close(link: Link) -> None:
        link.out.close()

    def by_abort(link: Link) -> None:
        link.out.abort()

    def by_transport(link: Link) -> None:
        link.client.close()

    for way in (by_close, by_abort, by_transport):
        server, client = subject.make(), subject.make()
        address = server.listen("contract-server")
        with Reader(server) as at_server:
            out = client.dial(address)
            with Reader(client) as at_client:
                link = Link(server, client, address, out, at_server, at_client)
                accepted = link.accept()
                if way is not by_transport:
                    way(link)
            if way is by_transport:
                way(link)  # a transport is closed once nobody polls it
            eventually(at_server.ends, "poll reports a peer that has closed")
            expect(at_server.ends()[0] is accepted, "the end is reported on the connection of the messages")
            expect(out.closed and accepted.closed, "a closed connection says so at both ends")
            quiet_until = monotonic() + 0.15
            while monotonic() < quiet_until:
                sleep(0.01)
            expect_equal(len(at_server.ends()), 1, "the end of a connection is reported once")


def an_end_is_nobody_elses(subject: TransportSubject) -> None:
    """Peers come as others leave, and get what the system gives them: descriptors that have just been closed."""
    rule = "the end of a peer is no affair of those that are there, or come next"
    server, first, last = subject.make(), subject.make(), subject.make()
    address = server.listen("contract-server")
    with Reader(server) as at_server, Reader(first), Reader(last):
        outs = [first.dial(address)]
        outs[0].send([b"first"])
        for number in range(20):
            client = subject.make()
            with Reader(client):
                client.dial(address).send([b"%d" % number])
                at_server.wait(number + 2, "every message arrives")
            client.close()
        outs.append(last.dial(address))
        outs[1].send([b"last"])
        eventually(lambda: len(at_server.ends()) >= 20, "poll reports a peer that has closed")
        for out in outs:
            out.send([b"again"])
        seen = at_server.wait(24, rule)
        expect_equal((len(at_server.ends()), len(seen)), (20, 24), rule)


def close_flushes(subject: TransportSubject) -> None:
    with linked(subject) as link:
        for number in range(100):
            link.out.send([b"%d" % number])
        link.out.send([b"x" * MIB])
        link.out.close()
        eventually(link.at_server.ends, "poll reports a peer that has closed")
        expect_equal(len(link.at_server.messages()), 101, "close sends what is queued")
        expect(link.at_server.events[-1][1] is None, "the end is reported after the last message")


def sends_to_nobody_are_dropped(subject: TransportSubject) -> None:
    with linked(subject) as link:
        accepted = link.accept()
        link.out.close()
        eventually(lambda: accepted.closed, "a lost connection says so")
        for connection in (link.out, accepted):
            try:
                connection.send([b"too late", b"x" * 100_000])
                connection.close()
                connection.abort()
            except Exception as error:
                expect(False, f"send, close and abort on a closed connection do nothing: {error!r}")
            expect_equal(connection.queued_bytes, 0, "a closed connection queues nothing")


def close_releases_everything(subject: TransportSubject) -> None:
    before = set(os.listdir("/dev/fd"))
    server, client = subject.make(), subject.make()
    address = server.listen("contract-server")
    with Reader(server) as at_server:
        out = client.dial(address)
        with Reader(client):
            out.send([b"x"])
            at_server.wait(1, "every message arrives")
    for transport in (client, server):
        transport.close()
        try:
            transport.close()
        except Exception as error:
            expect(False, f"close can be called again: {error!r}")
    opened = set(os.listdir("/dev/fd")) - before
    expect_equal(opened, set(), "close gives every descriptor back")
    # A descriptor that is free again may belong to anything by now: a late wake must not write to it.
    pipes = [os.pipe() for _ in range(8)]
    try:
        for transport in (client, server):
            transport.wake()
        for read_fd, _ in pipes:
            os.set_blocking(read_fd, False)
            with expect_raises(BlockingIOError, "wake after close touches nothing"):
                os.read(read_fd, 1)
    finally:
        for read_fd, write_fd in pipes:
            os.close(read_fd)
            os.close(write_fd)


def a_forked_child_disturbs_nobody(subject: TransportSubject) -> None:
    if not hasattr(os, "fork"):
        return
    server, client = subject.make(), subject.make()
    address = server.listen("contract-server")
    with Reader(server) as at_server:
        out = client.dial(address)
        with Reader(client):
            out.send([b"before"])
            at_server.wait(1, "every message arrives")
        accepted = at_server.events[0][0]

    def leave() -> None:
        for action in (out.abort, accepted.abort, client.abandon, server.abandon):
            action()

    code = in_child(leave, "abort and abandon do not block in a forked child")
    expect_equal(code, 0, "abort and abandon do not raise in a forked child")
    with Reader(server) as at_server, Reader(client) as at_client:
        out.send([b"after"])
        expect_equal(at_server.wait(1, "a connection outlives a fork"), [[b"after"]], "a child takes no message")
        accepted.send([b"reply"])
        expect_equal(at_client.wait(1, "a connection outlives a fork"), [[b"reply"]], "a child takes no message")
        expect(not at_server.ends() and not at_client.ends(), "abandon and abort in a child are not seen by any peer")
        other = subject.make()
        with Reader(other):
            other.dial(address).send([b"new"])
            at_server.wait(2, "a listener outlives a fork")


def what_was_settled_outlives_its_process(subject: TransportSubject) -> None:
    if not hasattr(os, "fork"):
        return
    wanted = [[b"%d" % number, b"x" * 100] for number in range(50)]

    def send_and_die() -> None:
        client = subject.make()
        out = client.dial(address)
        if out.failure is not None:
            os._exit(_UNREACHABLE)  # it reaches its own process only
        with Reader(client):
            for frames in wanted:
                out.send(frames)
            if not client.settle(5.0):
                os._exit(_UNSETTLED)
            os.kill(os.getpid(), signal.SIGKILL)

    server = subject.make()
    address = server.listen("contract-server")
    with Reader(server) as at_server:
        code = in_child(send_and_die, "settle returns in the time it was given")
        expect(code in (-signal.SIGKILL, _UNREACHABLE, _UNSETTLED), f"settle does not raise: exit code {code}")
        if code == -signal.SIGKILL:
            seen = at_server.wait(len(wanted), "what was settled arrives, even if its process is killed at once")
            expect_equal(seen, wanted, "what was settled arrives once and in order")


def in_child(action: Callable[[], None], rule: str) -> int:
    """Run ``action`` in a forked child, which has to end in time; returns its exit code, 0 unless it raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the threads of other code are of no concern here
        pid = os.fork()
    if pid == 0:
        failed = 1
        try:
            action()
            failed = 0
        finally:
            os._exit(failed)
    status: list[int] = []

    def ended() -> bool:
        done, code = os.waitpid(pid, os.WNOHANG)
        status.append(code)
        return done == pid

    try:
        eventually(ended, rule)
    except ContractViolationError:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        raise
    return os.waitstatus_to_exitcode(status[-1])


def deaths_of_others_are_not_explained(subject: TransportSubject) -> None:
    """A process may be aborted for many reasons, and what was last on its stderr need not be about the transport."""
    transport = subject.make()
    for lines in (
        [],
        ["Fatal Python error: Aborted", "", "Stack (most recent call first):"],
        ["free(): invalid pointer"],
    ):
        expect_equal(transport.abort_reason(lines), "", "abort_reason explains only what the transport has a part in")


ENDS: tuple[Check, ...] = (
    deaths_of_others_are_not_explained,
    a_closed_peer_is_reported_once,
    an_end_is_nobody_elses,
    close_flushes,
    sends_to_nobody_are_dropped,
    close_releases_everything,
    a_forked_child_disturbs_nobody,
    what_was_settled_outlives_its_process,
)
