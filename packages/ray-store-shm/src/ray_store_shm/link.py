"""A client's connection to the broker: requests of any thread, heard in their order, answered in any."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from ray.answers import LISTEN_S, Answers
from ray.exceptions import RayConnectionError
from ray_store_shm import descriptors
from ray_store_shm.messages import (
    MAX_PACKET_BYTES,
    PROTOCOL,
    Abort,
    Found,
    Message,
    Refused,
    Release,
    Reply,
    Reserved,
    Welcome,
    decode_reply,
    encode,
)
from ray_store_shm.systems import System

#: Longer than any answer takes, the slowest one being for room.
ANSWER_S = 40
_CONNECT_S = 10.0
_DEAF = f"the shm store of this node has not listened for {ANSWER_S} s"
_CLOSED = "the shm store is closed in this process"
_FORKED = "the shm store belongs to the process that opened it, of which this one is a fork"

#: Makes a request of the number that it is to have.
Make: TypeAlias = Callable[[int], Message]


class Link:
    """``channel`` is where notifications arrive. Of the process that made it; a forked child has no use for it."""

    def __init__(self, system: System, path: str) -> None:
        """Connect.

        Raises:
            RayConnectionError: nobody answers there, or not as a broker of this version.
        """
        self._sock = system.open()
        self._pid = os.getpid()
        self._answers: Answers[tuple[Reply, int]] = Answers(self, ANSWER_S)
        self._broken = ""
        fds: list[int] = []
        try:
            self._sock.settimeout(_CONNECT_S)
            self._sock.connect(path)
            packet, fds, _ = descriptors.receive(self._sock, MAX_PACKET_BYTES, 1)
            if not packet:
                raise ValueError("it does not let this process in")
            welcome = decode_reply(packet)
            if isinstance(welcome, Refused):
                raise ValueError(welcome.text)
            if not isinstance(welcome, Welcome) or welcome.protocol != PROTOCOL:
                raise ValueError("it is of another version; install the same ray-store-shm everywhere")
            if not fds:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            for fd in fds:
                os.close(fd)
            self._sock.close()
            raise RayConnectionError(f"there is no shm store at {path}: {error}") from error
        #: Whether segments are used again.
        self.reuses = welcome.reuses
        self.channel = system.open(fds[0])
        self.channel.setblocking(False)
        system.limit_waits(self._sock, ANSWER_S, LISTEN_S)

    def ask(self, make: Make) -> tuple[Reply, int]:
        """Send the request that ``make`` makes from a number; returns the reply and its descriptor, or -1.

        The descriptor is the caller's; a reply comes without its own where this process may have no more of them.

        Raises:
            RayConnectionError: the broker is gone, or does not answer.
        """
        return self._answers.ask(lambda number: self.tell(make(number)))

    def tell(self, message: Message, fd: int = -1) -> None:
        """Send what has no answer.

        Raises:
            RayConnectionError: the broker is gone.
            OSError: ``ETOOMANYREFS``, more descriptors are under way than this process may have; nothing is sent.
        """
        if self._broken:
            raise RayConnectionError(self._broken)
        if os.getpid() != self._pid:
            raise RayConnectionError(_FORKED)
        try:
            if fd < 0:
                self._sock.send(encode(message))
            else:
                socket.send_fds(self._sock, [encode(message)], [fd])
        except BlockingIOError as error:
            raise self._fail(_DEAF) from error
        except OSError as error:
            if error.errno in (errno.ETOOMANYREFS, None):  # None: of a signal handler
                raise
            raise self._fail("the shm store of this node has ended") from error

    def mention(self, message: Message) -> bool:
        """As ``tell``, but never waits and never raises; False if it has to be said again later."""
        if not self._broken and os.getpid() == self._pid:
            try:
                self._sock.send(encode(message), socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError:
                pass  # nobody is left to care
        return True

    def await_space(self) -> None:
        """Wait until the socket takes a packet, or is broken. Raises RayConnectionError if it never does."""
        poller = select.poll()
        with contextlib.suppress(ValueError):  # it was closed a moment ago
            poller.register(self._sock, select.POLLOUT)
            if not poller.poll(ANSWER_S * 1000):
                raise self._fail(_DEAF)

    def close(self) -> None:
        """Disconnect. A thread that waits for an answer gets an error."""
        self._fail(_CLOSED)
        if os.getpid() == self._pid:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._answers.leave()
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptors of this process without a word."""
        self._broken = self._broken or _CLOSED
        for sock in (self._sock, self.channel):
            with contextlib.suppress(OSError):  # the program has closed every descriptor that it found
                sock.close()
        if os.getpid() != self._pid:
            for _, fd in self._answers.abandon():
                if fd >= 0:
                    with contextlib.suppress(OSError):
                        os.close(fd)

    # --- as Answers wants it ------------------------------------------------------------------------------------------

    def receive(self) -> Iterator[descriptors.Received]:
        """See ``Wire``."""
        return descriptors.receiving(self._sock, MAX_PACKET_BYTES, 1)

    def read(self, packet: descriptors.Received) -> tuple[int, tuple[Reply, int]]:
        """See ``Wire``. Raises RayConnectionError at the end of the connection."""
        data, fds, _ = descriptors.sorted_out(packet)
        if not data:
            raise self._fail("the shm store of this node has ended")
        try:
            reply: Reply = decode_reply(data)
        except (ValueError, msgspec.MsgspecError) as error:
            raise self._fail(f"the connection to the shm store of this node is lost: {error}") from error
        return reply.number, (reply, fds[0] if fds else -1)

    def undo(self, answer: tuple[Reply, int]) -> None:
        """See ``Wire``."""
        reply, fd = answer
        if fd >= 0:
            os.close(fd)
        with contextlib.suppress(RayConnectionError):
            if isinstance(reply, Reserved):
                self.tell(Abort(reply.serial))
            elif isinstance(reply, Found):
                self.tell(Release(reply.serial, 1))

    def lost(self, error: OSError | None) -> RayConnectionError:
        """See ``Wire``."""
        if error is None:
            return self._fail(f"the shm store of this node has not answered for {ANSWER_S} s")
        return self._fail(f"the connection to the shm store of this node is lost: {error}")

    def _fail(self, reason: str) -> RayConnectionError:
        self._broken = self._broken or reason
        self._answers.end()
        return RayConnectionError(self._broken)
