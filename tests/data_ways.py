"""Ways of data connections to the object managers of real nodes: a test sees, counts and changes what goes there.

For clusters with ``transport="tests.diverting_transport"``.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import psutil
from tests.clusters import nodes_of, nothing_left
from tests.moved_values import mover_of
from tests.sockets import accepted, hang_up

from ray.runtime.object_manager.frames import (
    DATA,
    HEADER_BYTES,
    REQUEST_BYTES,
    SAMPLED,
    Header,
    receive_bytes,
    receive_exactly,
)
from ray.runtime.object_manager.tickets import ID_BYTES, NONCE_BYTES, PROOF_BYTES
from ray.testing import eventually
from ray.testing.cluster import Cluster, ClusterNode

TAG_BYTES = 16


class Frame(NamedTuple):
    """What an object manager has sent."""

    header: Header
    body: bytes | bytearray
    """As it travels; encrypted, if the connection is."""

    @property
    def is_data(self) -> bool:
        return self.header.kind in (DATA, SAMPLED)

    def to_bytes(self) -> bytes:
        return self.header.to_bytes() + self.body


Tampering: TypeAlias = Callable[[Iterator[Frame]], Iterator[bytes]]
"""Given the frames of a connection, from one with data on; what it yields is sent in place of those that it takes."""


class DataWay:
    """Listens for the clients of one object manager, and passes on what both say."""

    def __init__(self, port: int, *, sealed: bool) -> None:
        """``port``: of the object manager."""
        self._target = port
        self._tag_bytes = TAG_BYTES if sealed else 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._tampering: Tampering | None = None
        self._for_all = False
        #: (bytes of objects that are to have passed, what to do then)
        self._mark: tuple[int, Callable[[], object]] | None = None
        self._open: set[socket.socket] = set()
        #: Connections so far, and those over which more was said than data; frames on which a tampering has begun;
        #: bytes of objects that have passed.
        self.connections = self.told = self.tampered = self.passed = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def tamper(self, tampering: Tampering | None, *, for_all: bool = False) -> None:
        """Change frames, beginning with the next one that has data: once, or again and again."""
        with self._lock:
            self._tampering, self._for_all = tampering, for_all

    def after(self, nbytes: int, call: Callable[[], object]) -> threading.Event:
        """Call this, once, as soon as so many more bytes of objects have passed; nothing passes meanwhile.

        Returns an event that is set then.
        """
        reached = threading.Event()

        def reach() -> None:
            reached.set()
            call()

        with self._lock:
            self._mark = self.passed + nbytes, reach
        return reached

    def hang_up(self) -> None:
        """End all connections."""
        hang_up(*self._open)

    def close(self) -> None:
        """Nothing passes any more."""
        hang_up(self._listener)
        self._listener.close()
        self.hang_up()

    def _accept(self) -> None:
        for client in accepted(self._listener):
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as server:
            pair = {client, server}
            self._open |= pair
            try:
                for end in pair:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                asking = threading.Thread(target=self._ask, args=(client, server), daemon=True)
                asking.start()
                try:
                    self._answer(client, server)
                finally:
                    hang_up(*pair)
                    asking.join()
            finally:
                self._open -= pair

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        try:
            server.sendall(receive_bytes(client, ID_BYTES + NONCE_BYTES + PROOF_BYTES))
            while True:
                server.sendall(receive_bytes(client, REQUEST_BYTES + self._tag_bytes))
        except OSError:
            hang_up(client, server)

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        for nbytes in (NONCE_BYTES, PROOF_BYTES):
            client.sendall(receive_bytes(server, nbytes))
        frames, is_told = self._frames(server), False
        for frame in frames:
            if not (is_told or frame.is_data):
                is_told = True
                with self._lock:
                    self.told += 1
            tampering = self._tampering_of(frame)
            if tampering is None:
                self._pass_on(client, frame)
            else:
                for piece in tampering(itertools.chain([frame], frames)):
                    client.sendall(piece)

    def _frames(self, server: socket.socket) -> Iterator[Frame]:
        while True:
            header = Header.from_bytes(receive_bytes(server, HEADER_BYTES))
            body = bytearray(header.length + self._tag_bytes)
            receive_exactly(server, memoryview(body))
            yield Frame(header, body)

    def _tampering_of(self, frame: Frame) -> Tampering | None:
        with self._lock:
            found = self._tampering if frame.is_data else None
            if found is not None:
                self.tampered += 1
                if not self._for_all:
                    self._tampering = None
            return found

    def _pass_on(self, client: socket.socket, frame: Frame) -> None:
        client.sendall(frame.header.to_bytes())
        body = memoryview(frame.body)
        if frame.is_data:
            with self._lock:
                mark, before = self._mark, self.passed
                if mark is not None and mark[0] <= before + len(body):
                    self._mark = None
                else:
                    mark = None
                self.passed += frame.header.length
            if mark is not None:
                at = max(0, mark[0] - before)
                client.sendall(body[:at])
                mark[1]()
                body = body[at:]
        client.sendall(body)


class DataWays:
    """Those of a cluster: all data connections go by them, and each object manager has one."""

    def __init__(self, *, sealed: bool) -> None:
        """``sealed``: whether the cluster encrypts values."""
        self._sealed = sealed
        self._lock = threading.Lock()
        self._ways: dict[int, DataWay] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        #: For the transport's option.
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        for asking in accepted(self._listener):
            with asking, contextlib.suppress(OSError):
                port = int.from_bytes(receive_bytes(asking, 2), "big")
                asking.sendall(self._way(port).port.to_bytes(2, "big"))

    def _way(self, port: int) -> DataWay:
        with self._lock:
            if port not in self._ways:
                self._ways[port] = DataWay(port, sealed=self._sealed)
            return self._ways[port]

    def to(self, node: ClusterNode) -> DataWay:
        """That to the object manager that the node has now."""
        eventually(lambda: _ports(node), why="its object manager does not listen")
        (port,) = _ports(node)
        return self._way(port)

    def close(self) -> None:
        """Nothing passes any more."""
        hang_up(self._listener)
        self._listener.close()
        for way in self._ways.values():
            way.close()


def _ports(node: ClusterNode) -> list[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        mover = psutil.Process(mover_of(node))
        return [found.laddr.port for found in mover.net_connections("tcp") if found.status == psutil.CONN_LISTEN]
    return []


@contextlib.contextmanager
def cluster_with_ways(
    *names: str, sealed: bool = False, store: str = "plasma", **settings: Any
) -> Iterator[tuple[Cluster, DataWays]]:
    """A cluster whose data connections go by ways; nothing is left of it.

    Args:
        *names: one for each node, the head first, which has 4 of a resource of that name. Without names there is a
            head, which has none.
        sealed: it encrypts values.
        store: of all nodes.
        **settings: of each node, for ``Cluster.add_node``.
    """
    with (
        nothing_left(),
        contextlib.closing(DataWays(sealed=sealed)) as ways,
        nodes_of(
            *([{**settings, "resources": {name: 4}} for name in names] or [settings]),
            store=store,
            transport="tests.diverting_transport",
            options={"transport": {"ways": ways.port}},
            data_encryption="aes-gcm" if sealed else "none",
        ) as cluster,
    ):
        yield cluster, ways
