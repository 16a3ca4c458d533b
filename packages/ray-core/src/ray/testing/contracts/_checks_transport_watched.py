"""What every transport must do that the poll of another one can watch. Each check takes a ``TransportSubject``."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ray.abc.transport import Connection, Frame, Transport
from ray.testing.contracts import _expect
from ray.testing.contracts._expect import eventually, expect, expect_equal, on_threads
from ray.testing.contracts._link import Check, Reader, TransportSubject
from ray.testing.contracts._watched import WatchedTransport

_ROUNDS = 100
_DIAL_S = 0.2
#: Time for what must not happen.
_QUIET_S = 0.05


@contextmanager
def _patient_reader(transport: Transport) -> Iterator[Reader]:
    """Waits at the descriptor, and far longer than anything here may take: what that does not tell comes too late."""
    patient = _Patient(transport)
    with Reader(patient) as reader:
        try:
            yield reader
        finally:
            patient.wait_s = 0.0
            transport.wake()


class _Patient(WatchedTransport):
    """Polls for longer than it is told."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner)
        self.wait_s = 5 * _expect.DEADLINE_S

    def poll(self, timeout_s: float | None) -> list[tuple[Connection, Sequence[Frame] | None]]:
        return super().poll(self.wait_s)


def its_descriptor_tells_of_messages(subject: TransportSubject) -> None:
    """Also of those that this process takes in while it sends, on another thread."""
    server, client = subject.make(), subject.make()
    out = client.dial(server.listen("contract-server"))
    with _patient_reader(server) as at_server, _patient_reader(client) as at_client:
        out.send([b"hello"])
        at_server.wait(1, "a descriptor tells the watcher that a message is there")
        accepted, _ = at_server.events[0]

        def talk(index: int) -> None:
            connection, reader, first = ((accepted, at_client, 0), (out, at_server, 1))[index]
            for number in range(_ROUNDS):
                connection.send([b"%d" % number])
                eventually(_more_than(reader, first + number), "a descriptor tells the watcher that a message is there")

        on_threads(2, talk, "a descriptor tells of every message, whatever another thread sends meanwhile")
        expect_equal(len(at_server.messages()), 1 + _ROUNDS, "messages arrive once")


def _more_than(reader: Reader, count: int) -> Callable[[], bool]:
    return lambda: len(reader.messages()) > count


def its_descriptor_tells_of_ends(subject: TransportSubject) -> None:
    server, client = subject.make(), subject.make()
    address = server.listen("contract-server")
    with _patient_reader(server) as at_server, _patient_reader(client) as at_client:
        out = client.dial(address)
        out.send([b"hello"])
        at_server.wait(1, "a descriptor tells the watcher that a message is there")
        at_server.events[0][0].abort()
        eventually(at_client.ends, "a descriptor tells the watcher of the end of a peer")
    server.close()
    with _patient_reader(client) as at_client:
        client.dial(address, timeout_s=2 * _expect.DEADLINE_S)
        eventually(at_client.ends, "a descriptor tells the watcher that nobody listens where was dialled")


def prepare_minds_the_time_of_dials(subject: TransportSubject) -> None:
    assert subject.black_hole is not None
    client = subject.make()
    with subject.black_hole() as address:
        out = client.dial(address, timeout_s=_DIAL_S)
        limit_s = client.prepare(60.0)
        expect(limit_s is not None and limit_s <= _DIAL_S, "a watcher waits no longer than a dial may take")
        with Reader(WatchedTransport(client)) as at_client:
            eventually(at_client.ends, "poll reports a dial that was not answered in time")
        expect(out.failure is not None, "a connection that never stood has the failure as a reason")


def its_descriptor_is_quiet(subject: TransportSubject) -> None:
    server, client = subject.make(), subject.make()
    out = client.dial(server.listen("contract-server"))
    with Reader(client):
        out.send([b"hello"])

        def is_quiet() -> bool:
            server.prepare(0.0)
            server.poll(0.0)
            return server.prepare(1.0) != 0 and not select.select([server.fileno()], [], [], _QUIET_S)[0]

        eventually(is_quiet, "a descriptor is readable only where poll would not wait")


WATCHED: tuple[Check, ...] = (
    its_descriptor_tells_of_messages,
    its_descriptor_tells_of_ends,
    its_descriptor_is_quiet,
)
"""Those of ``TransportContract.may_be_watched``."""
WATCHED_BLACK_HOLES: tuple[Check, ...] = (prepare_minds_the_time_of_dials,)
"""The same, of transports whose listeners may fail to answer."""
