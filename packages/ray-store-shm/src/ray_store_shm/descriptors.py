"""Descriptors: how many a process may have, what to say when they run out, and how they come with a packet."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

#: What ``recvmsg`` returns.
Received: TypeAlias = tuple[bytes, list[tuple[int, int, bytes]], int, Any]

_DESCRIPTOR = struct.Struct("@i")
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
#: Where the hard limit is infinite: what a Linux kernel allows at most unless it is told otherwise; what macOS does.
_MOST, _OPEN_MAX = 1 << 20, 10_240


def raise_limit() -> int:
    """Raise what this process may have open to its hard limit, where that is allowed; returns what it is then."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for wanted in (_MOST if hard == resource.RLIM_INFINITY else hard, _OPEN_MAX):
        if limit() < wanted:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    """What this process may have open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST if soft == resource.RLIM_INFINITY else soft


def explain(error: OSError) -> str:
    """Which limit an object has run into, and how to raise it."""
    if error.errno in (errno.EMFILE, errno.ETOOMANYREFS):
        return (
            f"each object in use takes a descriptor, and this process may have {limit()} open files; raise the hard "
            "limit ('ulimit -Hn', LimitNOFILE= of a service), or use store='plasma'"
        )
    if error.errno == errno.ENFILE:
        return "the machine has no more open files; raise the sysctl fs.file-max"
    if error.errno == errno.ENOMEM:
        return (
            "the system maps no more memory into this process, or has none; if it has many objects in use, raise the "
            "sysctl vm.max_map_count, or use store='plasma'"
        )
    return f"the system refuses: {error}"


def receive(sock: socket.socket, nbytes: int, descriptors: int) -> tuple[bytes, list[int], int]:
    """A packet of a socket, what descriptors came with it, closed on exec, and the flags of ``recvmsg``.

    ``socket.recv_fds`` is the same but does not pass flags on, so that its descriptors live on in what is executed.
    """
    return sorted_out(next(receiving(sock, nbytes, descriptors)))


def receiving(sock: socket.socket, nbytes: int, descriptors: int) -> Iterator[Received]:
    """When advanced, receives a packet; in one step of the interpreter, if that is done by what takes it."""
    return map(sock.recvmsg, (nbytes,), (socket.CMSG_LEN(descriptors * _DESCRIPTOR.size),), (_CLOEXEC,))


def sorted_out(received: Received) -> tuple[bytes, list[int], int]:
    """The packet, its descriptors and the flags. It may be called twice."""
    packet, ancillary, flags, _ = received
    found = among(ancillary)
    if not _CLOEXEC:
        for fd in found:
            os.set_inheritable(fd, False)
    return packet, found, flags


def among(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors in what ``recvmsg`` gave beside the data."""
    found: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = data[: len(data) // _DESCRIPTOR.size * _DESCRIPTOR.size]
            found += [fd for (fd,) in _DESCRIPTOR.iter_unpack(whole)]
    return found
