"""The server's process: forked by the node manager, ended by it, and gone when it is gone."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Iterable
from typing import NoReturn

from ray.abc.store import StoreServer
from ray.server_process import become_server
from ray_store_plasma.arena import make_arena
from ray_store_plasma.disk import default_folder
from ray_store_plasma.messages import OwnerLost, encode
from ray_store_plasma.options import PlasmaOptions
from ray_store_plasma.server import Server
from ray_store_plasma.table import Table

SCHEME = "plasma:"
_SOCKET = "plasma.sock"
_MAX_PATH_BYTES = 100
_BACKLOG = 1024
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
#: How long a server that is busy may keep ``owner_lost`` waiting.
_OWNER_LOST_S = 1
#: Descriptors of the server beside two for each client.
_OWN_DESCRIPTORS = 24


class PlasmaStoreServer(StoreServer):
    """The node manager's handle on the server's process. The calling thread must be the main one, and the only one."""

    pid: int

    def __init__(self, session_dir: str, capacity_bytes: int, options: PlasmaOptions | None = None) -> None:
        """Start the server; it listens when this returns.

        Args:
            session_dir: for its socket.
            capacity_bytes: of the arena; pages are used as objects are made.
            options: how it behaves.

        Raises:
            RaySystemError: the system has no memory of the kind that it takes, or not as much.
            OSError: the socket cannot be made.
        """
        options = options or PlasmaOptions()
        self._path = os.path.join(session_dir, _SOCKET)
        self.address = f"{SCHEME}{self._path}"
        arena = make_arena(options.capacity_bytes or capacity_bytes)
        try:
            listener = _listen(self._path)
        except BaseException:
            os.close(arena)
            raise
        self._node, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._owner = os.getpid()
        pid = os.fork()
        if not pid:
            _run(self._owner, arena, listener, theirs, options)
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        os.close(arena)
        listener.close()
        theirs.close()
        self.max_clients = _client_limit() - 1
        self._node.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _OWNER_LOST_S, 0))

    def owner_lost(self, process_id: bytes) -> None:
        with contextlib.suppress(OSError):  # the server's death is noticed elsewhere
            self._node.send(encode(OwnerLost(process_id)))

    def close(self) -> None:
        if self._pidfd < 0 or os.getpid() != self._owner:
            return
        # It has nothing to tidy up: its memory and its spill file have no names.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # reaped elsewhere
            os.waitpid(self.pid, 0)
        os.close(self._pidfd)
        self._pidfd = -1
        self._node.close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def _listen(path: str) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise OSError(f"socket path is longer than {_MAX_PATH_BYTES} bytes: {path}; set TMPDIR to a shorter directory")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _run(parent: int, arena: int, listener: socket.socket, node: socket.socket, options: PlasmaOptions) -> NoReturn:
    """Be the server. Never returns to what the parent was doing."""
    try:
        _become_its_own(parent, {arena, listener.fileno(), node.fileno()})
        capacity_bytes = os.fstat(arena).st_size
        table = Table(
            capacity_bytes,
            full_timeout_s=options.full_timeout_s,
            spill=options.spill,
            spill_limit_bytes=options.spill_limit_bytes,
        )
        _raise_descriptor_limit()
        limit = _client_limit()
        gc.freeze()
        Server(table, arena, options.spill_dir or default_folder(), limit).serve(listener, node)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _become_its_own(parent: int, keep: Iterable[int]) -> None:
    """Let go of everything of the parent, but die with it."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"ray-plasma", 0, 0, 0)
    become_server(parent, keep, _descriptor_limit() - 1)
    sys.setswitchinterval(0.001)  # the disk's thread must not make the others wait


def _descriptor_limit() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 1 << 20 if limit == resource.RLIM_INFINITY else limit


def _client_limit() -> int:
    """How many may be connected at a time, the node manager included."""
    return max(2, (_descriptor_limit() - _OWN_DESCRIPTORS) // 2)


def _raise_descriptor_limit() -> None:
    """To the hard limit."""
    limit = _descriptor_limit()
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
