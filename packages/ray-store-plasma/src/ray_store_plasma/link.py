"""A client's connection to the server: requests of any thread, answered in any order.

One of the threads that wait reads for all of them, so that a request for room, which may take seconds, holds nobody up;
and there is no thread of our own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import struct
import threading
from collections import deque

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
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._sock.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(int(ANSWER_S), 0))
        self._numbers = itertools.count(1)
        self._turn = threading.Condition()
        self._is_read = False
        self._waiting = 0
        #: {number: reply} that another thread has read
        self._answers: dict[int, Reply] = {}
        #: Numbers of requests whose threads were interrupted.
        self._orphans: set[int] = set()
        self._broken = ""
        #: Serials of holds that ended when the socket was full.
        self._unreleased: deque[int] = deque()

    def ask(self, make: Make) -> Reply:
        """Send the request that ``make`` makes from a number; wait for its reply.

        Raises:
            RayConnectionError: the server is gone, or does not answer.
        """
        number = next(self._numbers)
        try:
            self.tell(make(number))
            with self._turn:
                return self._await(number)
        except BaseException:  # of a signal handler, if the link is whole: the answer comes all the same
            with self._turn:
                answer = self._answers.pop(number, None)
                if answer is not None:
                    self._undo(answer)
                elif not self._broken:
                    self._orphans.add(number)
            raise

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
            with contextlib.suppress(AttributeError), self._turn:  # it may not be complete
                self._broken = self._broken or "the plasma store is closed in this process"
                while self._is_read and self._turn.wait(1.0):
                    pass
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

    def _await(self, number: int) -> Reply:
        while True:
            reply = self._answers.pop(number, None)
            if reply is not None:
                return reply
            if self._broken:
                raise RayConnectionError(self._broken)
            if self._is_read:
                self._waiting += 1
                try:
                    self._turn.wait(ANSWER_S)
                finally:
                    self._waiting -= 1
                continue
            self._is_read = True
            self._turn.release()
            try:
                reply = self._receive()
            finally:
                self._is_read = False  # first: a signal handler may raise while the lock is awaited
                self._turn.acquire()
                if self._waiting or self._broken:
                    self._turn.notify_all()
            if reply.number == number:
                return reply
            if reply.number not in self._orphans:
                self._answers[reply.number] = reply
            else:
                self._orphans.discard(reply.number)
                self._undo(reply)

    def _receive(self) -> Reply:
        try:
            packet = self._sock.recv(MAX_PACKET_BYTES)
            if packet:
                return decode_reply(packet)
            reason = "the plasma store of this node has ended"
        except BlockingIOError:
            reason = f"the plasma store of this node has not answered for {ANSWER_S:g} s"
        except (OSError, MalformedError) as error:
            if _is_foreign(error):
                raise
            reason = f"the connection to the plasma store of this node is lost: {error}"
        raise self._fail(reason)

    def _undo(self, reply: Reply) -> None:
        """Nobody wants what this request got."""
        if isinstance(reply, Granted):
            self.tell(Abort(reply.serial))
        elif isinstance(reply, Found):
            self.release(reply.serial, 1)

    def _fail(self, reason: str) -> RayConnectionError:
        self._broken = self._broken or reason
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
