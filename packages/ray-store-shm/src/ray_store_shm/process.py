"""The broker's process: forked by the node manager, ended by it, and gone when it is gone."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import struct
import traceback
from collections.abc import Iterable
from typing import NoReturn

from ray.abc.store import StoreServer
from ray_store_shm import descriptors
from ray_store_shm.messages import SCHEME, OwnerLost, encode
from ray_store_shm.segments import NamedSegments, Segments, of_this_system
from ray_store_shm.server import Server
from ray_store_shm.table import Table

_SOCKET = "shm.sock"
_MAX_PATH_BYTES = 100
_BACKLOG = 1024
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
#: How long a broker that is busy may keep ``owner_lost`` waiting.
_OWNER_LOST_S = 1
#: What is kept of the descriptors for clients and for the broker itself; the rest is for objects.
_MAX_CLIENTS, _DESCRIPTORS_PER_CLIENT, _OWN_DESCRIPTORS = 2048, 2, 32


class ShmStoreServer(StoreServer):
    """The node manager's handle on the broker. The calling thread must be the only one of its process."""

    pid: int

    def __init__(
        self, session_dir: str, capacity_bytes: int, full_timeout_s: float = 3.0, segments: Segments | None = None
    ) -> None:
        """Start the broker; clients can connect when this returns. Linux only, whatever the segments.

        Args:
            session_dir: for its socket.
            capacity_bytes: what all objects together may take.
            full_timeout_s: how long ``create`` waits for room.
            segments: how memory is made; by default the best way of this system.

        Raises:
            OSError: the socket cannot be made.
        """
        segments = segments or of_this_system()
        if isinstance(segments, NamedSegments):
            segments.sweep()
        self._path = os.path.join(session_dir, _SOCKET)
        self.address = f"{SCHEME}{self._path}"
        with _listen(self._path) as listener:
            self._node, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._owner = os.getpid()
            with theirs:
                self.pid = os.fork()
                if not self.pid:
                    _run(self._owner, listener, theirs, Table(capacity_bytes, full_timeout_s), segments)
        # The node manager may reap it elsewhere, and its number may be given to another child.
        self._process = os.pidfd_open(self.pid)
        self._node.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _OWNER_LOST_S, 0))

    def owner_lost(self, process_id: bytes) -> None:
        with contextlib.suppress(OSError):  # the broker's death is noticed elsewhere
            self._node.send(encode(OwnerLost(process_id)))

    def close(self) -> None:
        if self._node.fileno() < 0 or os.getpid() != self._owner:
            return
        # It has nothing to tidy up: its memory has no names.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # reaped elsewhere, when it died
            os.waitid(os.P_PIDFD, self._process, os.WEXITED)
        os.close(self._process)
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


def _run(parent: int, listener: socket.socket, node: socket.socket, table: Table, segments: Segments) -> NoReturn:
    """Be the broker. Never returns to what the parent was doing."""
    try:
        _become_its_own(parent, {listener.fileno(), node.fileno()})
        limit = descriptors.raise_limit()
        clients = min(_MAX_CLIENTS, limit // 8)
        table.max_objects = max(0, limit - _DESCRIPTORS_PER_CLIENT * clients - _OWN_DESCRIPTORS)
        gc.freeze()
        Server(table, segments, clients).serve(listener, node)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _become_its_own(parent: int, keep: Iterable[int]) -> None:
    """Let go of everything of the parent, but die with it."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"ray-shm", 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o077)
    low = 3
    for descriptor in sorted(keep):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, max(int(name) for name in os.listdir("/proc/self/fd")) + 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
