"""One connection of a client to the broker: a question at a time, and words that are not answered, from any thread."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from ray.exceptions import RayConnectionError
from ray_store_shm.messages import (
    MAX_PACKET_BYTES,
    PROTOCOL,
    Abort,
    Found,
    Message,
    Release,
    Reply,
    Reserved,
    Welcome,
    decode_reply,
    encode,
)

#: Longer than any answer takes, the slowest one being for room.
ANSWER_S = 40
_CONNECT_S = 10.0
_TIMEVAL = struct.Struct("@ll")

#: Makes a request of the number that it is to have.
Make: TypeAlias = Callable[[int], Message]


class Link:
    """``channel`` is where notifications arrive. Ends with this object."""

    def __init__(self, path: str) -> None:
        """Connect.

        Raises:
            RayConnectionError: nobody answers there, or not as a broker of this version.
        """
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._numbers = itertools.count(1)
        self._turn = threading.Lock()
        self._broken = ""
        fds: list[int] = []
        try:
            self._sock.settimeout(_CONNECT_S)
            self._sock.connect(path)
            packet, fds = _receive(self._sock)
            welcome = decode_reply(packet)
            if not isinstance(welcome, Welcome) or welcome.protocol != PROTOCOL or len(fds) != 1:
                raise ValueError("it is of another version; install the same ray-store-shm everywhere")
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            for fd in fds:
                os.close(fd)
            self._sock.close()
            raise RayConnectionError(f"there is no shm store at {path}: {error}") from error
        self.channel = socket.socket(fileno=fds[0])
        self.channel.setblocking(False)
        self._sock.settimeout(None)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._sock.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(ANSWER_S, 0))

    def ask(self, make: Make) -> tuple[Reply, int]:
        """Send the request that ``make`` makes from a number; returns the reply and its descriptor, or -1.

        The descriptor is the caller's.

        Raises:
            RayConnectionError: the broker is gone, or does not answer.
        """
        with self._turn:
            number = next(self._numbers)
            self.tell(make(number))
            while True:
                reply, fd = self._receive()
                if reply.number == number:
                    return reply, fd
                self._undo(reply, fd)  # of a request whose thread was interrupted

    def tell(self, message: Message, fd: int = -1) -> None:
        """Send what has no answer. Raises RayConnectionError if the broker is gone."""
        if self._broken:
            raise RayConnectionError(self._broken)
        try:
            if fd < 0:
                self._sock.send(encode(message))
            else:
                socket.send_fds(self._sock, [encode(message)], [fd])
        except OSError as error:
            raise self._fail("the shm store of this node has ended") from error

    def mention(self, message: Message) -> bool:
        """As ``tell``, but never waits and never raises; False if it has to be said again later."""
        if not self._broken:
            try:
                self._sock.send(encode(message), socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                pass  # nobody is left to care
        return True

    def close(self) -> None:
        """Disconnect. A thread that waits for an answer gets an error."""
        self._broken = self._broken or "the shm store is closed in this process"
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        with self._turn:
            self.abandon()

    def abandon(self) -> None:
        """Close the descriptors of this process without a word."""
        self._broken = self._broken or "the shm store is closed in this process"
        self._sock.close()
        self.channel.close()

    def _receive(self) -> tuple[Reply, int]:
        try:
            packet, fds = _receive(self._sock)
            if packet:
                reply: Reply = decode_reply(packet)
                return reply, fds[0] if fds else -1
            reason = "the shm store of this node has ended"
        except BlockingIOError:
            reason = f"the shm store of this node has not answered for {ANSWER_S} s"
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            reason = f"the connection to the shm store of this node is lost: {error}"
        raise self._fail(reason)

    def _undo(self, reply: Reply, fd: int) -> None:
        if fd >= 0:
            os.close(fd)
        if isinstance(reply, Reserved):
            self.tell(Abort(reply.serial))
        elif isinstance(reply, Found):
            self.tell(Release(reply.serial, 1))

    def _fail(self, reason: str) -> RayConnectionError:
        self._broken = self._broken or reason
        return RayConnectionError(self._broken)


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """A packet and its descriptors, which programs that this process starts do not inherit."""
    packet, fds, _, _ = socket.recv_fds(sock, MAX_PACKET_BYTES, 1)
    for fd in fds:
        os.set_inheritable(fd, False)
    return packet, list(fds)
