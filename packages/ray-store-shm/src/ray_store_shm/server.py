"""The broker's loop: one thread that receives, lets the table decide, and passes descriptors on."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from ray.clock import monotonic
from ray_store_shm import descriptors, messages, systems
from ray_store_shm.effects import Close, Order, Send, Tell
from ray_store_shm.messages import ORDER, PROTOCOL, Refused, Request, Welcome, decode_request, encode
from ray_store_shm.segments import Segments
from ray_store_shm.systems import System
from ray_store_shm.table import MAX_SUBSCRIPTIONS, Table, Violation

Handler: TypeAlias = Callable[[int, Any, list[int]], None]

#: Longer than any request.
_MAX_REQUEST_BYTES = 512
#: What a request may bring along at most before it is cut off; one is right for some, more for none.
_MAX_DESCRIPTORS = 4
#: How long nobody is let in when there is no descriptor for him.
_ACCEPT_AGAIN_S = 0.1
#: Packets taken from one client before the others have their turn; all that a socket can hold, when it matters what
#: was said before.
_TURN, _BACKLOG = 64, 4096
#: A client that does not take as many replies is not one of ours.
_MAX_REPLIES = 4096
_MAX_ORDERS_BYTES = 1 << 16
_BATCH = 512
#: What epoll tells of in any case, and ``poll`` of macOS only if it is asked to.
_END = select.POLLHUP


class Peer:
    """One client: its socket, the one for notifications, and what waits to be sent on each."""

    __slots__ = ("channel", "notifications", "number", "orders", "replies", "sock", "telling", "unsaid")

    def __init__(self, number: int, sock: socket.socket, channel: socket.socket | None) -> None:
        self.number = number
        self.sock = sock
        self.channel = channel
        #: Where it hears what to do with the segments that it keeps.
        self.orders: socket.socket | None = None
        #: Orders that it has not taken.
        self.unsaid = bytearray()
        #: (packet, descriptor or -1)
        self.replies: deque[tuple[bytes, int]] = deque()
        self.notifications: deque[tuple[bytes, int]] = deque()
        #: The packet of notifications that is being sent.
        self.telling = b""


class Server:
    """Serves one table to the clients of one listening socket."""

    def __init__(self, table: Table, segments: Segments, system: System, limit: int) -> None:
        """Start nothing yet.

        Args:
            table: the state.
            segments: what sealed memory looks like.
            system: sockets and how to wait for them.
            limit: how many clients may be connected at a time.
        """
        self._table = table
        self._segments = segments
        self._limit = limit
        self._system = system
        self._poller = system.poller()
        self._peers: dict[int, Peer] = {}
        self._by_fd: dict[int, Peer] = {}
        self._last = 0
        self._node = 0
        #: When to listen again, if nobody is let in now.
        self._deaf_until: float | None = None
        #: Requests that would be denied now: answered when all that any client has sent before has been heard.
        #: A client that seals or deletes an object says so here before it tells others, but waits for no answer.
        self._early: list[tuple[Peer, Request]] = []
        table_ = table
        self._handlers: dict[type[Request], Handler] = {
            messages.Reserve: lambda c, m, _: table_.reserve(c, m, monotonic()),
            messages.Seal: self._seal,
            messages.Keep: self._keep,
            messages.Abort: lambda c, m, _: table_.abort(c, m.serial),
            messages.Get: lambda c, m, _: table_.get(c, m.number, m.object_id, m.known),
            messages.Contains: lambda c, m, _: table_.contains(c, m.number, m.object_id),
            messages.Release: lambda c, m, _: table_.release(c, m.serial, m.holds, forked=m.forked),
            messages.Delete: lambda c, m, _: table_.delete(m.object_id),
            messages.Stats: lambda c, m, _: table_.stats(c, m.number),
            messages.List: lambda c, m, _: table_.list_objects(c, m.number, m.after),
            messages.Subscribe: lambda c, m, _: table_.subscribe(c, m.object_id),
            messages.Unsubscribe: lambda c, m, _: table_.unsubscribe(c, m.object_id),
            messages.OwnerLost: self._owner_lost,
        }

    def serve(self, listener: socket.socket, node: socket.socket) -> None:
        """Run until ``node``, the node manager's end of a socket pair, is closed."""
        listener.setblocking(False)
        self._poller.register(listener.fileno(), select.POLLIN)
        self._node = self._add(node, os.getppid(), None).number
        while self._node in self._peers:
            early, self._early = self._early, []
            ready = self._poller.poll(0 if early else self._wait_s(), len(self._by_fd) + 1)
            for fd, events in ready:
                if fd in self._by_fd:
                    self._happened(self._by_fd[fd], fd, events, _BACKLOG if early else _TURN)
            # Last: what it opens may have the number of something that was closed since, and has an event above.
            if any(fd == listener.fileno() for fd, _ in ready):
                self._accept(listener)
            for peer, request in early:
                self._handle(peer, request, [])
            now = monotonic()
            if self._deaf_until is not None and self._deaf_until <= now:
                self._deaf_until = None
                self._poller.modify(listener.fileno(), select.POLLIN)
            self._table.advance(now)
            self._perform()

    def _wait_s(self) -> float:
        ends = [end for end in (self._table.next_deadline(), self._deaf_until) if end is not None]
        return max(0.0, min(ends) - monotonic()) if ends else -1.0

    # --- clients ------------------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # he stays at the door; not to be told of him all the time
                self._poller.modify(listener.fileno(), 0)
                self._deaf_until = monotonic() + _ACCEPT_AGAIN_S
            return
        try:
            pid, uid = systems.other_end(sock)
        except OSError:  # it has gone
            pid, uid = 0, -1
        if uid != os.geteuid():
            sock.close()
            return
        try:
            if len(self._peers) >= self._limit:
                raise OSError(errno.EMFILE, f"it has {self._limit} connections already")
            channel, theirs = self._system.pair()
        except OSError as error:
            with sock, contextlib.suppress(OSError):
                sock.send(encode(Refused(0, "clients", f"{error.strerror}; raise the hard limit of open files")))
            return
        with theirs, contextlib.suppress(OSError):
            welcome = encode(Welcome(0, PROTOCOL, self._table.capacity_bytes, self._table.keep_s > 0))
            socket.send_fds(sock, [welcome], [theirs.fileno()])
            self._add(sock, pid, channel)
            return
        sock.close()
        channel.close()

    def _add(self, sock: socket.socket, pid: int, channel: socket.socket | None) -> Peer:
        self._last += 1
        peer = self._peers[self._last] = Peer(self._last, sock, channel)
        self._attend(peer, sock, select.POLLIN)
        if channel is not None:
            self._attend(peer, channel, _END)
        self._table.join(peer.number, pid)
        return peer

    def _attend(self, peer: Peer, end: socket.socket, events: int) -> None:
        end.setblocking(False)
        self._by_fd[end.fileno()] = peer
        self._poller.register(end.fileno(), events)

    def _drop(self, peer: Peer) -> None:
        if self._peers.pop(peer.number, None) is not None:
            for end in (peer.sock, peer.channel, peer.orders):
                if end is not None:
                    self._close(end)
            self._table.lost(peer.number)
            self._perform()

    def _close(self, end: socket.socket) -> None:
        self._poller.unregister(end.fileno())
        del self._by_fd[end.fileno()]
        end.close()

    def _happened(self, peer: Peer, fd: int, events: int, turn: int) -> None:
        if fd == peer.sock.fileno():
            if events & select.POLLOUT:
                self._flush(peer)
            if events & ~select.POLLOUT:
                self._receive(peer, turn)
        elif peer.orders is not None and fd == peer.orders.fileno():
            self._order(peer, listens=not events & (select.POLLHUP | select.POLLERR))
        elif events & (select.POLLHUP | select.POLLERR):
            self._deafen(peer)
        else:
            self._notify(peer)

    def _deafen(self, peer: Peer) -> None:
        """It does not listen to notifications any more; its last words may still be in the other socket."""
        assert peer.channel is not None
        self._close(peer.channel)
        peer.channel = None
        peer.notifications.clear()

    # --- requests -----------------------------------------------------------------------------------------------------

    def _receive(self, peer: Peer, turn: int) -> None:
        for _ in range(turn):
            try:
                packet, fds, flags = descriptors.receive(peer.sock, _MAX_REQUEST_BYTES, _MAX_DESCRIPTORS)
            except BlockingIOError:
                return
            except OSError:
                packet, fds, flags = b"", [], 0
            try:
                request = decode_request(packet) if packet else None
            except (msgspec.MsgspecError, ValueError, RecursionError):  # no request, no text, or nested too deep
                request = None
            # Truncated: too long, more descriptors than any of ours sends, or no room for them in this process.
            if request is None or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                _close(fds)
                self._drop(peer)
            elif self._is_early(request) and not fds:
                self._early.append((peer, request))
            else:
                self._handle(peer, request, fds)
            if peer.number not in self._peers:
                return

    def _is_early(self, request: Request) -> bool:
        if isinstance(request, (messages.Get, messages.Contains)):
            return not self._table.has(request.object_id)
        return isinstance(request, messages.Reserve) and not self._table.would_grant(request.object_id, request.nbytes)

    def _handle(self, peer: Peer, request: Request, fds: list[int]) -> None:
        if peer.number in self._peers:
            try:
                self._handlers[type(request)](peer.number, request, fds)
                if fds:
                    raise Violation("sends descriptors that belong to nothing")
            except Violation:
                _close(fds)
                self._drop(peer)
            except Exception:  # a mistake of this process, which is to cost nobody else anything
                traceback.print_exc()
                _close(fds)
                self._drop(peer)
            self._perform()

    def _seal(self, client: int, request: messages.Seal, fds: list[int]) -> None:
        nbytes = self._table.awaits_memory(client, request.serial)
        if nbytes is None and not fds:
            self._table.seal(client, request.serial)
            return
        if nbytes is None or len(fds) != 1 or not self._segments.check(fds[0], nbytes):
            raise Violation("seals something else than one sealed segment of the size it reserved")
        if request.keeps and not self._table.spares.can_keep(client):
            raise Violation("keeps a segment, but does not listen to what becomes of it")
        self._table.seal(client, request.serial, fds.pop(), keeps=request.keeps)

    def _keep(self, client: int, request: messages.Keep, fds: list[int]) -> None:
        if len(fds) != 1 or not stat.S_ISSOCK(os.fstat(fds[0]).st_mode):
            raise Violation("keeps segments, but sends no socket to hear of them")
        self._table.keep(client, request.limit)
        peer = self._peers[client]
        peer.orders = socket.socket(fileno=fds.pop())
        self._attend(peer, peer.orders, _END)

    def _owner_lost(self, client: int, request: messages.OwnerLost, fds: list[int]) -> None:
        if client != self._node:
            raise Violation("is not the node manager")
        self._table.owner_lost(request.process_id)

    # --- effects ------------------------------------------------------------------------------------------------------

    def _perform(self) -> None:
        """Do what the table has decided."""
        effects = self._table.effects
        rude = []
        heard = set()
        for effect in effects:
            match effect:
                case Send(client, reply, fd):
                    peer = self._peers.get(client)
                    if peer is not None and not self._reply(peer, encode(reply), fd):
                        rude.append(peer)
                case Tell(client, object_id, nbytes):
                    peer = self._peers.get(client)
                    if peer is not None and peer.channel is not None:
                        peer.notifications.append((object_id, nbytes))
                        heard.add(peer)
                        if len(peer.notifications) > MAX_SUBSCRIPTIONS:  # it asks, but does not listen
                            rude.append(peer)
                case Order(client, segment, serial):
                    peer = self._peers.get(client)
                    if peer is not None and peer.orders is not None:
                        peer.unsaid += ORDER.pack(segment, serial)
                        self._order(peer)
                        if len(peer.unsaid) > _MAX_ORDERS_BYTES:
                            rude.append(peer)
                case Close(fd):
                    for peer in self._peers.values():  # a reply with it may wait to be sent
                        if peer.replies:
                            peer.replies = deque((packet, -1 if own == fd else own) for packet, own in peer.replies)
                    os.close(fd)
        effects.clear()
        for peer in heard:
            self._notify(peer)
        for peer in rude:
            self._drop(peer)

    def _reply(self, peer: Peer, packet: bytes, fd: int) -> bool:
        """Send now, or as soon as the client takes it; False if it takes nothing and has to go."""
        if not peer.replies:
            try:
                _send(peer.sock, packet, fd)
                return True
            except BlockingIOError:
                self._poller.modify(peer.sock.fileno(), select.POLLIN | select.POLLOUT)
            except OSError:  # gone: learned when it is read from, after its last words
                return True
        peer.replies.append((packet, fd))
        return len(peer.replies) <= _MAX_REPLIES

    def _flush(self, peer: Peer) -> None:
        with contextlib.suppress(ConnectionError):
            while peer.replies:
                try:
                    _send(peer.sock, *peer.replies[0])
                except BlockingIOError:
                    return
                peer.replies.popleft()
        peer.replies.clear()
        self._poller.modify(peer.sock.fileno(), select.POLLIN)

    def _order(self, peer: Peer, *, listens: bool = True) -> None:
        """Say what it has not taken yet, as far as it takes it."""
        assert peer.orders is not None
        try:
            if listens:
                del peer.unsaid[: peer.orders.send(peer.unsaid)]
        except BlockingIOError:  # it is stopped, or computes
            pass
        except OSError:
            listens = False
        if listens:
            self._poller.modify(peer.orders.fileno(), select.POLLOUT if peer.unsaid else _END)
        else:  # about to disconnect
            self._close(peer.orders)
            peer.orders = None
            peer.unsaid.clear()

    def _notify(self, peer: Peer) -> None:
        waiting = peer.notifications
        if peer.channel is None:
            return
        with contextlib.suppress(ConnectionError):
            while peer.telling or waiting:
                if not peer.telling:
                    batch = [waiting.popleft() for _ in range(min(len(waiting), _BATCH))]
                    peer.telling = msgspec.msgpack.encode(batch)
                try:
                    peer.channel.send(peer.telling)
                except BlockingIOError:
                    self._poller.modify(peer.channel.fileno(), select.POLLOUT)
                    return
                peer.telling = b""
        waiting.clear()
        peer.telling = b""
        self._poller.modify(peer.channel.fileno(), _END)


def _send(sock: socket.socket, packet: bytes, fd: int) -> None:
    if fd >= 0:
        try:
            socket.send_fds(sock, [packet], [fd])
            return
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            # More are under way than this process may have. Without it the client knows what is wrong.
    sock.send(packet)


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
