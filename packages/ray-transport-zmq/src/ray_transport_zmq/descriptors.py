"""Looking at ZeroMQ's descriptors, which only ZeroMQ may close, and which may be somebody else's a moment later."""

from __future__ import annotations

import contextlib
import os
import socket
import stat


def inode(fd: int) -> int:
    """The number of the socket behind a descriptor; 0 if it is no socket any more."""
    try:
        status = os.fstat(fd)
    except OSError:
        return 0
    return status.st_ino if stat.S_ISSOCK(status.st_mode) else 0


def hang_up(fd: int, number: int | None) -> None:
    """Have ZeroMQ find that the peer is gone, if the socket behind ``fd`` is still that of this number."""
    with contextlib.suppress(OSError):  # out of descriptors: the next turn tries again
        held = os.dup(fd)  # so that it is the same one from here on
        with socket.socket(fileno=held) as peer:
            if os.fstat(held).st_ino == number:
                peer.shutdown(socket.SHUT_RDWR)
