"""A client's connection to the server: requests of any thread, answered in any order."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections import deque
from collections.abc import Iterator

from ray.answers import LISTEN_S, Answers
from ray.exceptions import RayConnectionError
from ray_store_plasma.messages import (
    MAX_PACKET_BYTES,
    MAX_SERIALS,
    PROTOCOL,
    Abort,
    Found,
    Granted,
    Make,
    MalformedError,
    Message,
    Release,
    Reply,
    Welcome,
    decode_reply,
    encode,
)

#: Longer than any answer takes, the slowest one being for room that the disk makes.
ANSWER_S = 90.0
_CONNECT_S = 10.0
_DEAF = f"the plasma store of this node has not listened for {ANSWER_S:g} s"
_DESCRIPTOR = struct.Struct("@i")
_TIMEVAL = struct.Struct("@ll")


class Link:
    """One connection. ``arena`` and ``channel`` are what the server gave; all end with this object."""

    def __init__(self, path: str) -> None:
        """Connect.

        Raises:
            RayConnectionError: nobody answers there, or not as a server of this version.
        """
        self.pid = os.getpid()
        #: What there are views of, whether its client still knows it or not.
        self.seen: set[object] = set()
        self.channel: socket.socket | None = None
        self.arena = -1
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._sock.settimeout(_CONNECT_S)
            self._sock.connect(path)
            packet, descriptors = _receive_with_descriptors(self._sock)
            if descriptors:
                self.arena = descriptors[0]
            if len(descriptors) < 2:
                raise OSError("it does not let this process in, or there are too many open files here")
            self.channel = socket.socket(fileno=descriptors[1])
            welcome = decode_reply(packet)
        except (OSError, ValueError) as error:
            self.close()
            raise RayConnectionError(f"there is no plasma store at {path}: {error}") from error
        if not isinstance(welcome, Welcome) or welcome.protocol != PROTOCOL:
            self.close()
            raise RayConnectionError(
                f"the plasma store at {path} is of another version; install the same ray-store-plasma everywhere"
            )
        self.capacity_bytes, self.spill_dir = welcome.capacity_bytes, welcome.spill_dir
        self.channel.setblocking(False)
        self._sock.settimeout(None)
        for option, seconds in ((socket.SO_RCVTIMEO, LISTEN_S), (socket.SO_SNDTIMEO, ANSWER_S)):
            packed = _TIMEVAL.pack(*divmod(int(seconds * 1_000_000), 1_000_000))
            self._sock.setsockopt(socket.SOL_SOCKET, option, packed)
        self._answers: Answers[Reply] = Answers(self, ANSWER_S)
        self._broken = ""
        #: Serials of holds that ended when the socket was full.
        self._unreleased: deque[int] = deque()

    def ask(self, make: Make) -> Reply:
        """Send the request that ``make`` makes from a number; wait for its reply.

        Raises:
            RayConnectionError: the server is gone, or does not answer.
        """
        return self._answers.ask(lambda number: self.tell(make(number)))

    def tell(self, message: Message) -> None:
        """Send what has no answer. Raises RayConnectionError if the server is gone."""
        if self._broken:
            raise RayConnectionError(self._broken)
        while self._unreleased and not self._broken:
            self._send_releases()
        try:
            self._sock.send(encode(message))
        except BlockingIOError as error:
            raise self._fail(_DEAF) from error
        except OSError as error:
            if _is_foreign(error):
                raise
            raise self._fail("the plasma store of this node has ended") from error

    def release(self, serial: int, count: int) -> None:
        """End holds. Takes no lock, never waits and never raises: destructors call it."""
        if self.pid != os.getpid() or self._broken:
            return
        try:
            self._sock.send(encode(Release([serial] * count)), socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._unreleased.extend([serial] * count)
        except OSError:
            pass  # nobody is left to care

    def close(self) -> None:
        """Disconnect; threads that wait for an answer get an error."""
        if self.pid == os.getpid() and self.arena >= 0:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(AttributeError):  # it may not be complete
                self._fail("the plasma store is closed in this process")
                self._answers.leave()
        self.abandon()

    def abandon(self) -> None:
        """Close the descriptors of this process."""
        self._broken = "the plasma store is closed in this process"
        arena, self.arena = self.arena, -1
        with contextlib.suppress(OSError):  # the program has closed every descriptor that it found
            self._sock.close()
        self.close_channel()
        if arena >= 0:
            with contextlib.suppress(OSError):
                os.close(arena)

    def close_channel(self) -> None:
        """No more notifications."""
        if self.channel is not None:
            with contextlib.suppress(OSError):
                self.channel.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # there was not even a socket to be had
            self.abandon()

    # --- as Answers wants it ------------------------------------------------------------------------------------------

    def receive(self) -> Iterator[bytes]:
        """See ``Wire``."""
        return map(self._sock.recv, (MAX_PACKET_BYTES,))

    def read(self, packet: bytes) -> tuple[int, Reply]:
        """See ``Wire``. Raises RayConnectionError at the end of the connection."""
        if not packet:
            raise self._fail("the plasma store of this node has ended")
        try:
            reply = decode_reply(packet)
        except MalformedError as error:
            raise self._fail(f"the connection to the plasma store of this node is lost: {error}") from error
        return reply.number, reply

    def undo(self, answer: Reply) -> None:
        """See ``Wire``."""
        if isinstance(answer, Granted):
            with contextlib.suppress(RayConnectionError):
                self.tell(Abort(answer.serial))
        elif isinstance(answer, Found):
            self.release(answer.serial, 1)

    def lost(self, error: OSError | None) -> RayConnectionError:
        """See ``Wire``."""
        if error is None:
            return self._fail(f"the plasma store of this node has not answered for {ANSWER_S:g} s")
        return self._fail(f"the connection to the plasma store of this node is lost: {error}")

    def _fail(self, reason: str) -> RayConnectionError:
        self._broken = self._broken or reason
        self._answers.end()
        return RayConnectionError(self._broken)

    def _send_releases(self) -> None:
        serials: list[int] = []
        with contextlib.suppress(IndexError):
            while len(serials) < MAX_SERIALS:
                serials.append(self._unreleased.popleft())
        try:
            self._sock.send(encode(Release(serials)), socket.MSG_DONTWAIT)  # either it goes, or it is still to be said
        except BlockingIOError:
            self._unreleased.extendleft(reversed(serials))
            self._await_space()
        except OSError as error:
            if _is_foreign(error):
                raise  # else the caller's own message meets it too

    def _await_space(self) -> None:
        """Wait until the socket takes a packet, or is broken. Raises RayConnectionError if it never does."""
        poller = select.poll()
        with contextlib.suppress(ValueError):  # it was closed a moment ago
            poller.register(self._sock, select.POLLOUT)
            if not poller.poll(ANSWER_S * 1000):
                raise self._fail(_DEAF)


def _is_foreign(error: Exception) -> bool:
    """Whether a signal handler of the user raised it in the middle of ours, a ``TimeoutError`` perhaps."""
    return isinstance(error, OSError) and (error.errno is None or isinstance(error, TimeoutError))


def _receive_with_descriptors(sock: socket.socket) -> tuple[bytes, list[int]]:
    """A packet and up to two descriptors, closed on exec; ``socket.recv_fds`` cannot ask for that."""
    space = socket.CMSG_LEN(2 * _DESCRIPTOR.size)
    packet, ancillary, _, _ = sock.recvmsg(MAX_PACKET_BYTES, space, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    found = []
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = data[: len(data) // _DESCRIPTOR.size * _DESCRIPTOR.size]
            found += [descriptor for (descriptor,) in _DESCRIPTOR.iter_unpack(whole)]
    return packet, found
