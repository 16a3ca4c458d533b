"""What the checks of transports share. As in the runtime, one thread polls each transport and others use it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Self, TypeAlias

from ray.abc.transport import Connection, Transport
from ray.testing.contracts._expect import DEADLINE_S, ContractViolationError, eventually, expect


@dataclass(frozen=True)
class TransportSubject:
    """A way to make transports that can reach each other; the maker of the subject closes them."""

    make: Callable[[], Transport]
    black_hole: Callable[[], AbstractContextManager[str]] | None = None
    """Opens a listener that never answers; yields its address. None where there is no such thing."""


Check: TypeAlias = Callable[[TransportSubject], None]


class Reader:
    """Polls one transport on a thread and keeps what arrives."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._ending = False
        self._error: BaseException | None = None
        #: (connection, frames as bytes, or None for its end), oldest first
        self.events: list[tuple[Connection, list[bytes] | None]] = []
        self._thread = threading.Thread(target=self._run, name="contract-reader", daemon=True)

    def _run(self) -> None:
        try:
            while not self._ending:
                for connection, frames in self._transport.poll(0.05):
                    self.events.append((connection, None if frames is None else [bytes(frame) for frame in frames]))
        except BaseException as error:
            self._error = error

    def messages(self) -> list[list[bytes]]:
        """Messages of all connections, in order of arrival."""
        return [frames for _, frames in list(self.events) if frames is not None]

    def ends(self) -> list[Connection]:
        """Connections reported as lost, once per report."""
        return [connection for connection, frames in list(self.events) if frames is None]

    def wait(self, count: int, rule: str) -> list[list[bytes]]:
        """Messages, once there are ``count``."""
        eventually(lambda: self._error or len(self.messages()) >= count, rule)
        self.check()
        return self.messages()

    def check(self) -> None:
        if self._error is not None:
            raise ContractViolationError(f"poll does not raise: {self._error!r}") from self._error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending = True
        self._transport.wake()
        self._thread.join(DEADLINE_S)
        if error[0] is None:
            expect(not self._thread.is_alive(), "poll returns in the time it was given")
            self.check()


@dataclass
class Link:
    """A server and a client that is connected to it; both are being polled."""

    server: Transport
    client: Transport
    address: str
    out: Connection
    """The client's end."""
    at_server: Reader
    at_client: Reader

    def accept(self) -> Connection:
        """Send a first message; returns the server's end."""
        self.out.send([b"hello"])
        self.at_server.wait(1, "an accepted connection shows itself by its first message")
        connection, _ = self.at_server.events.pop(0)
        return connection


@contextmanager
def linked(subject: TransportSubject) -> Iterator[Link]:
    """A fresh link."""
    with ExitStack() as stack:
        server, client = subject.make(), subject.make()
        address = server.listen("contract-server")
        at_server = stack.enter_context(Reader(server))
        out = client.dial(address)
        at_client = stack.enter_context(Reader(client))
        yield Link(server, client, address, out, at_server, at_client)
