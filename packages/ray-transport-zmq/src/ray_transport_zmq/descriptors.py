"""Looking at ZeroMQ's descriptors, which only ZeroMQ may close, and which may be other files' a moment later."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import stat

#: So many are to be free before ZeroMQ is asked for anything: where one is lacking it may end the process.
MARGIN = 16


def check_room(fd: int) -> None:
    """See that ZeroMQ will find descriptors; ``fd`` is any one that is open.

    Raises:
        OSError: EMFILE, there are too few.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    lowest = os.dup(fd)  # the lowest number that is free, so at least as many are in use
    os.close(lowest)
    if lowest >= soft - MARGIN or (lowest >= soft // 2 and len(os.listdir("/dev/fd")) >= soft - MARGIN):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


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
        if not number or inode(held) != number:
            os.close(held)
            return
        with socket.socket(fileno=held) as peer:
            peer.shutdown(socket.SHUT_RDWR)
