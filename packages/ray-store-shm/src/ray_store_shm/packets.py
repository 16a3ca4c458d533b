"""Packets over a stream, each with its descriptors: for systems whose Unix sockets do not keep them apart."""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from ray_store_shm import descriptors

_LENGTH = struct.Struct("!I")
#: More descriptors than a packet may bring: some systems open those, too, for which a reader has no room.
_ROOM = socket.CMSG_LEN(512 * struct.calcsize("@i"))

#: A packet behind its length, and how many bytes of that have gone.
_Sent: TypeAlias = tuple[bytes, deque[int]]
#: What ``recvmsg`` returns.
_Part: TypeAlias = tuple[bytes, list[Any], int, Any]


class PacketSocket(socket.socket):
    """A ``SOCK_STREAM`` socket that behaves as a ``SOCK_SEQPACKET`` one: its calls take and give whole packets.

    Each packet follows its length. Nothing is read beyond the end of a packet, so the descriptors that come are its
    own, and the socket is readable as long as there is another.

    Its descriptor never blocks. With ``patience_s`` calls wait so long, otherwise they raise BlockingIOError at once; a
    part of the packet may be under way then, and the same packet has to be the next. Any thread may send or receive,
    and so may finalisers and signal handlers that interrupt such a call: they go on with what it has begun.
    """

    def __init__(self, fileno: int | None = None) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno)
        self.setblocking(False)
        self.patience_s = 0.0
        #: The same for packets that come, if it is not the same.
        self.attention_s: float | None = None
        self._sending, self._receiving = threading.RLock(), threading.RLock()
        #: What was sent last, and how many bytes of it the system has taken: in one step with the call.
        self._sent: _Sent = b"", deque((0,), 1)
        #: What ``recvmsg`` gave of the packet that comes.
        self._parts: list[_Part] = []

    def accept(self) -> tuple[PacketSocket, Any]:
        sock, address = super().accept()
        return type(self)(sock.detach()), address

    def close(self) -> None:
        parts, self._parts = self._parts, []
        for _, ancillary, _, _ in parts:
            for fd in descriptors.among(ancillary):
                os.close(fd)
        super().close()

    # --- sending ------------------------------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0, /) -> int:
        return self.sendmsg([data], (), flags)

    def sendmsg(
        self, buffers: Iterable[Any], ancdata: Iterable[Any] = (), flags: int = 0, address: Any = None, /
    ) -> int:
        packet = b"".join(buffers)
        patient = not flags & socket.MSG_DONTWAIT
        if not self._sending.acquire(patient):
            raise BlockingIOError(errno.EAGAIN, "another packet is being sent")
        try:
            if not self.patience_s and self._is_begun():  # it is this one
                self._send_rest(patient=True)
                return len(packet)
            sent: _Sent = _LENGTH.pack(len(packet)) + packet, deque((0,), 1)
            while not sent[1][0]:
                self._send_rest(
                    patient=patient
                )  # of a call that a signal handler has ended, or that this one interrupts
                self._begin(sent, ancdata, patient=patient)
            self._send_rest(patient=True)
        finally:
            self._sending.release()
        return len(packet)

    def _is_begun(self) -> bool:
        frame, taken = self._sent
        return 0 < taken[0] < len(frame)

    def _send_rest(self, *, patient: bool) -> None:
        while self._is_begun():
            sent = self._sent
            frame, taken = sent
            done = taken[0]
            step = map(operator.add, (done,), map(super().sendmsg, ([frame[done:]],)))
            with self._waiting_for_room(patient):
                if self._sent is sent and taken[0] == done and done:
                    taken.extend(step)

    def _begin(self, sent: _Sent, ancdata: Iterable[Any], *, patient: bool) -> None:
        """Send some of a frame, unless it has to wait, or a call that interrupts this one sends something."""
        step = map(super().sendmsg, ([sent[0]],), (ancdata,))
        before = self._sent
        if self._is_begun():
            return
        with self._waiting_for_room(patient):
            if self._sent is before:
                self._sent = sent
                sent[1].extend(step)

    @contextlib.contextmanager
    def _waiting_for_room(self, patient: bool) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # BSD finds descriptors too long for a buffer that is full.
            if error.errno not in (errno.EAGAIN, errno.EMSGSIZE):
                raise
            if not patient or not self._waited_for(select.POLLOUT, self.patience_s):
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error

    # --- receiving ----------------------------------------------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        return self.recvmsg(bufsize, 0, flags)[0]

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        """As a socket's, but a packet that is longer than ``bufsize`` is an error, and nothing comes after it."""
        with self._receiving:
            while True:
                parts, rest = self._parts, list[_Part]()
                missing = self._missing(parts, bufsize)
                if missing and (not parts or parts[-1][0]):
                    # Descriptors are with the first byte; those beside others are the sender's mistake, and dropped.
                    self._pull(parts, missing, _ROOM if ancbufsize and not parts else 0, flags)
                elif self._parts is parts:
                    self._parts = rest
                    break
        packet = b"".join(part for part, _, _, _ in parts)[_LENGTH.size :] if parts[-1][0] else b""
        said = 0
        for _, _, said_then, _ in parts:
            said |= said_then
        return packet, [entry for _, ancillary, _, _ in parts for entry in ancillary], said, None

    def _missing(self, parts: list[_Part], limit: int) -> int:
        got = b"".join([part for part, _, _, _ in parts])
        if len(got) < _LENGTH.size:
            return _LENGTH.size - len(got)
        (nbytes,) = _LENGTH.unpack_from(got)
        if nbytes > limit:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        return int(nbytes) + _LENGTH.size - len(got)

    def _pull(self, parts: list[_Part], nbytes: int, room: int, flags: int) -> None:
        """Take a part of what is missing, unless a call that interrupts this one does."""
        last = parts[-1] if parts else None
        step = map(super().recvmsg, (nbytes,), (room,), (flags,))
        try:
            if self._parts is parts and (parts[-1] if parts else None) is last:
                parts.extend(step)
        except OSError as error:
            if error.errno == errno.EMSGSIZE and room:
                self._pull(
                    parts, nbytes, 0, flags
                )  # BSD: this process may not have the descriptors; the bytes are there
            elif error.errno != errno.EAGAIN or not self._waited_for(
                select.POLLIN, self.patience_s if self.attention_s is None else self.attention_s
            ):
                raise

    def _waited_for(self, events: int, patience_s: float) -> bool:
        """Wait, if this is to be done at all; False if it took too long."""
        if not patience_s:
            return False
        poller = select.poll()
        try:
            poller.register(self, events)
        except ValueError:  # it was closed a moment ago: the next call says so
            return True
        return bool(poller.poll(patience_s * 1000))
