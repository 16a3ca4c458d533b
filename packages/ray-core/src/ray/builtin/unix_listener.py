"""The listening end of the Unix transport: lets peers in, some at a time, and no more than the process can afford."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ray.abc.strangers import Strangers
from ray.clock import monotonic

if TYPE_CHECKING:
    from ray.builtin.unix_connection import UnixConnection

_BACKLOG = 1024
#: So many are let in before others have their turn.
_AT_A_TIME = 4
#: How long nobody is let in when the system gives no descriptor, or no memory, for one more.
PAUSE_S = 0.05
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class UnixListener:
    """A listening socket, and peers that have connected and said nothing yet."""

    def __init__(self, path: str) -> None:
        """Listen at ``path``.

        Raises:
            OSError: the system refuses.
        """
        self.strangers: Strangers[UnixConnection] = Strangers()
        self.path = path
        #: Until when nobody is let in; 0: they are.
        self.paused_until = 0.0
        #: The program may change that of the process, which stays one of its session.
        self._uid = os.geteuid()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.bind(path)
            os.chmod(path, 0o600)
            self._sock.listen(_BACKLOG)
            self._sock.setblocking(False)
        except BaseException:
            self._sock.close()
            raise
        self.fd = self._sock.fileno()

    def accept(self) -> Iterator[socket.socket]:
        """Sockets of peers of this user, some at a time; pauses where there is no descriptor for one more."""
        for _ in range(_AT_A_TIME):
            try:
                sock, _ = self._sock.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:  # nobody is there, or the listener is being closed
                    return
                oldest = self.strangers.oldest()
                if oldest is None:
                    self.paused_until = monotonic() + PAUSE_S
                    return
                oldest.abort()
                continue
            if _peer_uid(sock) not in (None, self._uid):
                sock.close()
                continue
            yield sock

    def wait_s(self, timeout_s: float | None) -> float | None:
        """How long one may wait of ``timeout_s`` until there is something to do here."""
        if self.paused_until:
            left_s = max(0.0, self.paused_until - monotonic())
            timeout_s = left_s if timeout_s is None else min(left_s, timeout_s)
        return self.strangers.wait_s(timeout_s)

    def close(self) -> None:
        """Release the socket; its path stays."""
        with contextlib.suppress(OSError):  # the program has closed every descriptor that it found
            self._sock.close()


def _peer_uid(sock: socket.socket) -> int | None:
    if sys.platform != "linux":
        return None
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)
