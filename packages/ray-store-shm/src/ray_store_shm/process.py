"""The broker's process: forked by the node manager, ended by it, and gone when it is gone."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import traceback
from typing import NoReturn

from ray.abc.store import StoreServer
from ray.server_process import become_server
from ray_store_shm import descriptors, segments, systems
from ray_store_shm.messages import OwnerLost, encode
from ray_store_shm.segments import NamedSegments, Segments
from ray_store_shm.server import Server
from ray_store_shm.systems import System
from ray_store_shm.table import Table

_SOCKET = "shm.sock"
_MAX_PATH_BYTES = 100
_BACKLOG = 1024
#: How long a broker that is busy may keep ``owner_lost`` waiting.
_OWNER_LOST_S = 1
#: What is kept of the descriptors for clients and for the broker itself; the rest is for objects.
_MAX_CLIENTS, _DESCRIPTORS_PER_CLIENT, _OWN_DESCRIPTORS = 2048, 3, 32


class ShmStoreServer(StoreServer):
    """The node manager's handle on the broker. The calling thread must be the only one of its process."""

    pid: int

    def __init__(
        self,
        session_dir: str,
        capacity_bytes: int,
        full_timeout_s: float = 3.0,
        kind: Segments | None = None,
        system: System | None = None,
        keep_s: float = 2.0,
    ) -> None:
        """Start the broker; clients can connect when this returns.

        Args:
            session_dir: for its socket.
            capacity_bytes: what all objects together may take.
            full_timeout_s: how long ``create`` waits for room.
            kind: how memory is made; by default the best way of this system.
            system: how to do what is not the same on every system; by default the best way of this one.
            keep_s: how long memory of deleted objects is kept for its creator's next ones; 0 for not at all.

        Raises:
            OSError: the socket cannot be made.
        """
        kind = kind or segments.of_this_system()
        if isinstance(kind, NamedSegments):
            kind.sweep()
        self._system = system or systems.of_this_system()
        self._path = os.path.join(session_dir, _SOCKET)
        self.address = f"{self._system.scheme}{self._path}"
        with _listen(self._system, self._path) as listener:
            self._node, theirs = self._system.pair()
            self._owner = os.getpid()
            with theirs:
                self.pid = os.fork()
                if not self.pid:
                    table = Table(capacity_bytes, full_timeout_s, keep_s=keep_s if kind.reusable else 0.0)
                    _run(self._owner, self._system, listener, theirs, table, kind)
        self.max_clients = _client_limit(descriptors.limit()) - 1
        self._broker = self._system.follow(self.pid)
        self._system.limit_waits(self._node, _OWNER_LOST_S, _OWNER_LOST_S)

    def owner_lost(self, process_id: bytes) -> None:
        with contextlib.suppress(OSError):  # the broker's death is noticed elsewhere
            self._node.send(encode(OwnerLost(process_id)))

    def close(self) -> None:
        if self._node.fileno() < 0 or os.getpid() != self._owner:
            return
        # It has nothing to tidy up: its memory has no names.
        self._system.end(self._broker, self._node)
        self._node.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def _listen(system: System, path: str) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise OSError(f"socket path is longer than {_MAX_PATH_BYTES} bytes: {path}; set TMPDIR to a shorter directory")
    listener = system.open()
    try:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _client_limit(limit: int) -> int:
    """How many may be connected at a time, the node manager included, where there are ``limit`` descriptors."""
    return min(_MAX_CLIENTS, limit // 8)


def _run(
    parent: int, system: System, listener: socket.socket, node: socket.socket, table: Table, kind: Segments
) -> NoReturn:
    """Be the broker. Never returns to what the parent was doing."""
    try:
        system.die_with_parent()
        become_server(parent, {listener.fileno(), node.fileno()}, systems.highest_descriptor())
        limit = descriptors.raise_limit()
        clients = _client_limit(limit)
        table.max_objects = max(0, limit - _DESCRIPTORS_PER_CLIENT * clients - _OWN_DESCRIPTORS)
        gc.freeze()
        Server(table, kind, system, clients).serve(listener, node)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
