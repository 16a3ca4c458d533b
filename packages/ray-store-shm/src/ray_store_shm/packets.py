"""Packets over a stream, each with its descriptors: for systems whose Unix sockets do not keep them apart."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Iterable
from typing import Any

from ray_store_shm import descriptors

_LENGTH = struct.Struct("!I")
#: More descriptors than a packet may bring: some systems open those, too, for which a reader has no room.
_ROOM = socket.CMSG_LEN(512 * struct.calcsize("@i"))


class PacketSocket(socket.socket):
    """A ``SOCK_STREAM`` socket that behaves as a ``SOCK_SEQPACKET`` one: its calls take and give whole packets.

    Each packet follows its length. Nothing is read beyond the end of a packet, so the descriptors that come are its
    own, and the socket is readable as long as there is another.

    Its descriptor never blocks. With ``patience_s`` calls wait so long, otherwise they raise BlockingIOError at once; a
    part of the packet may be under way then, and the same packet has to be the next. Any thread may send.
    """

    def __init__(self, fileno: int | None = None) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno)
        self.setblocking(False)
        self.patience_s = 0.0
        self._turn = threading.Lock()
        #: What was sent last, and how many bytes of it the system has taken, call by call.
        self._sent: tuple[bytes, list[int]] = b"", []
        #: What ``recvmsg`` gave of the packet that comes.
        self._parts: list[tuple[bytes, list[Any], int, Any]] = []

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
        if not patient and self._turn.locked():  # by this very thread perhaps, if a destructor has interrupted it
            raise BlockingIOError(errno.EAGAIN, "another packet is being sent")
        with self._turn:
            if self.patience_s:  # what is left is another packet's, of a call that a signal handler has ended
                self._send_rest(patient=patient)
            if not self._rest():
                frame = _LENGTH.pack(len(packet)) + packet
                self._sent = frame, []
                self._push(frame, ancdata, patient=patient)
            self._send_rest(patient=True)
        return len(packet)

    def _rest(self) -> bytes:
        frame, taken = self._sent
        return frame[sum(taken) :] if taken else b""

    def _send_rest(self, *, patient: bool) -> None:
        while rest := self._rest():
            self._push(rest, (), patient=patient)

    def _push(self, data: bytes, ancdata: Iterable[Any], *, patient: bool) -> None:
        while True:
            try:
                # In one step of the interpreter: a signal handler may raise before or after, but cannot lose the count.
                self._sent[1].extend(map(super().sendmsg, ([data],), (ancdata,)))
                return
            except OSError as error:
                # BSD finds descriptors too long for a buffer that is full.
                if error.errno not in (errno.EAGAIN, errno.EMSGSIZE):
                    raise
                if not patient or not self._waited_for(select.POLLOUT):
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error

    # --- receiving ----------------------------------------------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        return self.recvmsg(bufsize, 0, flags)[0]

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        """As a socket's, but a packet that is longer than ``bufsize`` is an error, and nothing comes after it."""
        while missing := self._missing(bufsize):
            # Descriptors are with the first byte; those beside others are the sender's mistake, and dropped.
            self._pull(missing, _ROOM if ancbufsize and not self._parts else 0, flags)
            if not self._parts[-1][0]:
                break
        parts, self._parts = self._parts, []
        packet = b"".join(part for part, _, _, _ in parts)[_LENGTH.size :] if parts[-1][0] else b""
        said = 0
        for _, _, said_then, _ in parts:
            said |= said_then
        return packet, [entry for _, ancillary, _, _ in parts for entry in ancillary], said, None

    def _missing(self, limit: int) -> int:
        got = b"".join(part for part, _, _, _ in self._parts)
        if len(got) < _LENGTH.size:
            return _LENGTH.size - len(got)
        (nbytes,) = _LENGTH.unpack_from(got)
        if nbytes > limit:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        return int(nbytes) + _LENGTH.size - len(got)

    def _pull(self, nbytes: int, room: int, flags: int) -> None:
        while True:
            try:
                self._parts.extend(map(super().recvmsg, (nbytes,), (room,), (flags,)))  # in one step, as above
                return
            except OSError as error:
                if error.errno == errno.EMSGSIZE and room:
                    room = 0  # BSD: this process may not have the descriptors, which are gone; the bytes are not
                elif error.errno != errno.EAGAIN or not self._waited_for(select.POLLIN):
                    raise

    def _waited_for(self, events: int) -> bool:
        """Wait, if this is to be done at all; False if it took too long."""
        if not self.patience_s:
            return False
        poller = select.poll()
        try:
            poller.register(self, events)
        except ValueError:  # it was closed a moment ago: the next call says so
            return True
        return bool(poller.poll(self.patience_s * 1000))
