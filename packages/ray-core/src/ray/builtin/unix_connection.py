"""One socket of the transport over ``AF_UNIX``.

Finalisers and signal handlers run between two steps of the code here, on the same thread, and may send and poll in
their turn. So whatever has left, or come from, the system is on record in the same step: ``deque.extend`` over ``map``
calls the system and keeps the result without Python code in between. What follows from it can be worked out twice.
The functions of ``os`` are used for that, as those of sockets make a tuple of their arguments, and where a container is
made, the collector may run. They take a number, which the system may give to another file: nobody uses it who has not
looked, in the same step, whether the socket is still open.

Who writes has claimed that: a lock could stay locked where Ctrl-C comes between its steps, and could not be taken from
a call that is interrupted. A look at the claim and the step behind it have no call in between, so nothing comes there.
"""

from __future__ import annotations

import contextlib
import operator
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import get_ident
from typing import Any, Protocol

from ray.abc.transport import Connection, Frame
from ray.builtin.unix_outgoing import MAX_PARTS, next_parts
from ray.clock import monotonic
from ray.exceptions import ProtocolError
from ray.protocol import framing

#: A frame up to this size goes in one piece with its head: to copy it costs less than a list of pieces.
_JOINED_BYTES = 4096
_CLOSE_FLUSH_S = 0.5
_ONE_READ = (framing.READ_BYTES,)
_READ = select.POLLIN
_BOTH = select.POLLIN | select.POLLOUT
_add = operator.add
_system_read, _system_readv, _system_write, _system_writev = os.read, os.readv, os.write, os.writev
#: The claim on a socket that is closed.
_NOBODY = (0,)
_head_of_one, _HEAD_OF_ONE_BYTES = framing.head_of_one, framing.HEAD_OF_ONE_BYTES
_split_head, _NOTHING = framing.split_head, framing.NOTHING


class ConnectionTransport(Protocol):
    """The transport, as its connections use it; ``UnixTransport`` says what each of these does."""

    #: What the next ``poll`` to end returns.
    inbox: list[tuple[Connection, Sequence[Frame] | None]]
    #: How to look for other things at a descriptor.
    modify: Callable[[int, int], None]

    @property
    def is_own_process(self) -> bool: ...
    def introduced(self, connection: UnixConnection) -> None: ...
    def write_later(self, connection: UnixConnection) -> None: ...
    def forget(self, connection: UnixConnection) -> None: ...
    def try_again(self, most_s: float) -> None: ...


class UnixConnection(Connection):
    """``send`` writes at once what the kernel takes and leaves the rest to the polling thread."""

    def __init__(self, sock: socket.socket, transport: ConnectionTransport) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._transport = transport
        self.context = None
        self.closed = False
        self.fd = sock.fileno()
        self._fds = (self.fd,)
        self._inode = os.fstat(self.fd).st_ino
        #: Bytes that a peer that has connected may still send until its first message is complete; 0: it is.
        self.first_bytes = 0
        #: The claim of the call that writes: (its thread,). Nobody waits for it: who has it writes what others have
        #: queued. A call inside it on the same thread takes it over, and it is not given back.
        self._writer: tuple[int] | None = None
        #: [where it ends on the stream, its parts, its bytes] of messages that the kernel has not taken.
        self._out: deque[list[Any]] = deque()
        #: Bytes that were queued so far, and (one number) that the kernel has taken.
        self._queued = 0
        self._sent = deque((0,), 1)
        #: The poller tells when the socket can be written to; None while that is being changed.
        self._watched: bool | None = False
        self._modify = transport.modify
        #: What was read and is not parsed; the first one is, if ``_taken``.
        self._chunks: deque[bytes] = deque()
        self._taken = False
        self._state = framing.NOTHING

    # --- sending ------------------------------------------------------------------------------------------------------

    def send(self, frames: Sequence[Frame]) -> None:
        first: Any = frames[0]
        if first is None or self.closed:
            return
        parts: list[Any]
        sending: Iterator[int] | None
        if len(frames) == 1 and (nbytes := len(first)) <= _JOINED_BYTES:
            parts = [_head_of_one(1, nbytes) + first]
            total = _HEAD_OF_ONE_BYTES + nbytes
            sending = map(_system_write, self._fds, parts)
        else:
            whole = (first, *frames[1:])
            parts = [framing.head(whole), *(memoryview(frame).cast("B") for frame in whole)]
            total = sum(map(len, parts))
            sending = map(_system_writev, self._fds, (parts,)) if len(parts) <= MAX_PARTS else None
        message: list[Any] = [0, parts, total]
        if frames.__class__ is list:  # see Connection.send; from here on no call comes between, until it is queued
            if frames[0] is None:
                return
            frames[0] = None
        out, done = self._out, self._queued
        self._queued = message[0] = end = done + total
        out.append(message)
        if self._watched and not self._is_inside():
            return
        try:
            if len(out) == 1 and sending is not None:  # it is alone, and most are: what ``write`` does, in short
                sent = self._sent
                step = map(_add, (done,), sending)
                claim = (get_ident(),)
                if self._writer is None:
                    self._writer = claim
                    try:
                        if sent[0] == done:
                            sent.extend(step)
                        if sent[0] >= end and out and out[0] is message:
                            out.popleft()
                    except OSError:  # ``write`` meets it again
                        pass
                    finally:
                        if self._writer is claim:
                            self._writer = None
                    if not out and not self.closed:
                        return
            if not self.write():
                self._transport.write_later(self)
        except BaseException:  # a signal handler raised: what is begun is to be ended
            self._transport.write_later(self)
            raise

    def _is_inside(self) -> bool:
        """Whether this call has interrupted one that writes."""
        thread = get_ident()
        return self._writer is not None and self._writer[0] == thread

    @property
    def queued_bytes(self) -> int:
        return 0 if self.closed else self._queued - self._sent[0]

    def write(self) -> bool:
        """Hand to the kernel what it takes; False if another thread is about to, but may not know of all."""
        out = self._out
        while True:
            claim = (get_ident(),)
            if self._writer is not None and self._writer[0] != claim[0]:
                return not out
            self._writer = claim
            try:
                blocked = self._write(claim)
            finally:
                if self._writer is claim:
                    self._writer = None
            if self.closed:
                self._close_socket()
            if blocked or not out or self.closed:
                return True

    def go_on(self) -> None:
        """Write what a call that is interrupted by this one had begun to."""
        if self.closed:
            return
        if self._out and not self._watched:
            self.write()  # no effect where another thread does it
        if self._is_inside():  # other threads are to write while that call is interrupted
            self._writer = None

    def _write(self, claim: tuple[int]) -> bool:
        """Returns whether the kernel takes no more; False where another call has taken the claim over."""
        out, sent = self._out, self._sent
        blocked = False
        while True:
            if self._writer is not claim:
                return False
            if not out or self.closed:
                break
            done = sent[0]
            if out[0][0] <= done:
                out.popleft()
                continue
            parts = next_parts(out, done)
            step = map(_add, (done,), map(_system_writev, self._fds, (parts,)))
            try:
                if sent[0] == done and self._writer is claim:
                    sent.extend(step)
            except BlockingIOError:
                blocked = True
                break
            except OSError:
                out.clear()  # the polling thread sees the same loss and reports it
        while True:
            if self._writer is not claim:
                return False
            if self._watched is blocked:
                return blocked
            self._watched = None
            with contextlib.suppress(OSError, ValueError, KeyError):  # it is closed
                if self._writer is claim:
                    self._modify(self.fd, _BOTH if blocked else _READ)
            if self._writer is claim:
                self._watched = blocked
            blocked = bool(out)

    # --- receiving ----------------------------------------------------------------------------------------------------

    def receive(self) -> None:
        """Take what has arrived into the transport's inbox; the loss of the peer as well."""
        state = self._state
        large = None if state is _NOTHING else state.large
        try:
            if large is None or self._chunks:
                size = (min(self.first_bytes, framing.READ_BYTES),) if self.first_bytes else _ONE_READ
                read = map(_system_read, self._fds, size)
                if not self.closed:
                    self._chunks.extend(read)
            elif self.first_bytes:  # a stranger that begins with much
                self.first_bytes = 1
                self.lose()
            else:
                filled = large.filled[0]
                step = map(_add, (filled,), map(_system_readv, self._fds, ((large.memory[filled:],),)))
                if large.filled[0] == filled and self._state is state and not self.closed:
                    large.filled.extend(step)
                    if large.filled[0] == filled:
                        self.lose()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.sort()
            self.lose()
        self.sort()

    def sort(self) -> None:
        """Make messages of what was read."""
        chunks = self._chunks
        if self._state is _NOTHING and not (self.first_bytes or self._taken):
            whole = chunks[0] if chunks else b""
            if len(whole) >= _HEAD_OF_ONE_BYTES and _split_head(whole) == (1, len(whole) - _HEAD_OF_ONE_BYTES):
                # A message, no more and no less: most are like that; what follows does the same, at greater length.
                event = (self, [whole[_HEAD_OF_ONE_BYTES:]])
                is_mine = not self._taken and self._state is _NOTHING and not self.closed  # type: ignore[redundant-expr]
                if is_mine and chunks and chunks[0] is whole:
                    self._taken = True
                    self._transport.inbox.append(event)
                    if self._taken:
                        self._taken = False
                        chunks.popleft()
                        if not chunks:
                            return
        after: framing.Received | None
        while not self.closed:
            state = self._state
            large = None if state is _NOTHING else state.large
            if large is not None and large.filled[0] == len(large.memory):
                after, messages = framing.take_large(state)
                chunk = None
            elif not chunks:
                return
            elif self._taken:
                self._taken = False
                chunks.popleft()
                continue
            else:
                chunk = chunks[0]
                if not chunk:
                    self.lose()
                    return
                try:
                    after, messages = framing.take(state, chunk)
                except ProtocolError:
                    self.lose()
                    return
            events = [(self, message) for message in messages]
            if self._state is not state or (chunk is not None and (self._taken or not chunks or chunks[0] != chunk)):
                continue  # a call that has interrupted this one was quicker
            self._state = after
            if chunk is not None:
                self._taken = True
            self._transport.inbox.extend(events)
            if self.first_bytes:
                self._heard(messages, len(chunk or b""))
            if self._taken:  # else a call that has interrupted this one has gone on with the next
                self._taken = False
                chunks.popleft()
                if not chunks and (after is _NOTHING or after.large is None):
                    return

    def _heard(self, messages: list[Any], nbytes: int) -> None:
        """A peer that has connected has sent something."""
        if messages:
            self._transport.introduced(self)
        else:
            self.first_bytes -= nbytes
            if self.first_bytes <= 0 or self._state.large is not None:
                self.first_bytes = 1  # a stranger still: nobody is told
                self.lose()

    # --- dialling -----------------------------------------------------------------------------------------------------

    def dial(self) -> None:
        """What is sent is to be queued until it stands."""
        self.dialling = self._watched = True

    def stand(self) -> None:
        """It is connected: send what is queued."""
        if self.dialling:
            self.dialling = self._watched = False
        if not self.write():
            self._transport.write_later(self)

    def fail(self, failure: ConnectionError) -> None:
        """It will not stand."""
        if not self.closed:
            self.failure = failure
        self.dialling = False
        self.lose()

    # --- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        deadline = monotonic() + _CLOSE_FLUSH_S
        while self._out and not self.closed:
            left = deadline - monotonic()
            if left <= 0:
                break
            if self.dialling:
                self._transport.try_again(left)
                continue
            with contextlib.suppress(OSError, ValueError):
                waiting = select.poll()
                waiting.register(self.fd, select.POLLOUT)
                waiting.poll(left * 1000)
            self.write()
        self.abort()

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._let_go()

    def lose(self) -> None:
        """The peer is gone: tell so, unless this end has closed."""
        if not self.closed:
            self.closed = True
            if not self.first_bytes:  # else nobody has heard of it
                self._transport.inbox.append((self, None))
            self._let_go()

    def _let_go(self) -> None:
        self.dialling = False
        if not self._transport.is_own_process:  # a forked child: the poller is the parent's
            self._release()
            return
        self._out.clear()
        self._transport.forget(self)
        if not self._close_socket() and self.has_descriptor():  # another thread writes, and closes it afterwards
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)

    def _close_socket(self) -> bool:
        """Close it unless another thread writes; the claim stays, so that nobody writes any more."""
        claim = (get_ident(),)
        if self._writer is not None and self._writer[0] != claim[0]:
            return False
        self._writer = claim
        self._release()
        return True

    def abandon(self) -> None:
        """Release the descriptor in a forked child."""
        self.closed = True
        self._release()

    def _release(self) -> None:
        self._writer = _NOBODY  # also where a call that is under way has claimed it
        if self.has_descriptor():
            with contextlib.suppress(OSError):
                self._sock.close()
        else:
            self._sock.detach()

    def has_descriptor(self) -> bool:
        """Whether the descriptor is still that of this socket; the program may have closed every one that it found."""
        try:
            return os.fstat(self.fd).st_ino == self._inode
        except OSError:
            return False
