"""The server's end of its clients' sockets: which clients may connect, and what waits to be sent."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections import deque

import msgspec

from ray.exceptions.base import printable
from ray_store_plasma.messages import MAX_PACKET_BYTES, PROTOCOL, Message, Welcome, encode

#: A client that does not take as many replies is not one of ours.
_MAX_REPLIES = 4096
#: Notifications in one packet.
_BATCH = 512
#: ``struct ucred``: pid, uid, gid
_CREDENTIALS = struct.Struct("3i")


class Peer:
    """One client: its socket, the one for notifications, and what waits to be sent on each."""

    __slots__ = ("channel", "notifications", "number", "pid", "replies", "sock")

    def __init__(self, number: int, pid: int, sock: socket.socket, channel: socket.socket | None) -> None:
        self.number = number
        self.pid = pid
        self.sock = sock
        self.channel = channel
        self.replies: deque[bytes] = deque()
        self.notifications: deque[tuple[bytes, int]] = deque()


class Connections:
    """All clients of one server, on one epoll."""

    def __init__(self, arena: int, capacity_bytes: int, spill_dir: str, limit: int) -> None:
        """Nobody yet.

        Args:
            arena: the descriptor that every client gets.
            capacity_bytes: of it.
            spill_dir: where objects go that do not fit; for the clients' errors.
            limit: how many clients may be connected at a time.
        """
        self.poller = select.epoll()
        #: {number: client}; numbers are never used again
        self.peers: dict[int, Peer] = {}
        #: {descriptor: client}, of both sockets of each
        self.by_descriptor: dict[int, Peer] = {}
        self._arena = arena
        self._welcome = encode(Welcome(0, PROTOCOL, capacity_bytes, printable(spill_dir)))
        self._limit = limit
        self._last = 0
        self._to_notify: dict[int, Peer] = {}

    def accept(self, listener: socket.socket) -> Peer | None:
        """Accept a client, if it runs as this user."""
        try:
            sock, _ = listener.accept()
        except OSError:  # gone again
            return None
        pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid != os.geteuid() or len(self.peers) >= self._limit:
            sock.close()
            return None
        channel = None
        try:
            channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                socket.send_fds(sock, [self._welcome], [self._arena, theirs.fileno()])
        except OSError:
            sock.close()
            if channel is not None:
                channel.close()
            return None
        return self.add(sock, pid, channel)

    def add(self, sock: socket.socket, pid: int, channel: socket.socket | None = None) -> Peer:
        """Take over the sockets of a client."""
        self._last += 1
        peer = self.peers[self._last] = Peer(self._last, pid, sock, channel)
        sock.setblocking(False)
        self.by_descriptor[sock.fileno()] = peer
        self.poller.register(sock.fileno(), select.EPOLLIN)
        if channel is not None:
            channel.setblocking(False)
            self.by_descriptor[channel.fileno()] = peer
            self.poller.register(channel.fileno(), 0)
        return peer

    def drop(self, peer: Peer) -> None:
        """End the connection. Closing takes the sockets off the epoll."""
        del self.peers[peer.number]
        self._to_notify.pop(peer.number, None)
        for sock in (peer.sock, peer.channel):
            if sock is not None:
                del self.by_descriptor[sock.fileno()]
                sock.close()

    def deafen(self, peer: Peer) -> None:
        """The client does not listen to notifications any more. Its last words may still be in the other socket."""
        assert peer.channel is not None
        del self.by_descriptor[peer.channel.fileno()]
        peer.channel.close()
        peer.channel = None
        peer.notifications.clear()
        self._to_notify.pop(peer.number, None)

    def receive(self, peer: Peer) -> bytes | None:
        """The next packet; None if there is none; empty at the end, or if it is too long."""
        try:
            packet = peer.sock.recv(MAX_PACKET_BYTES + 1)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        return packet if len(packet) <= MAX_PACKET_BYTES else b""

    def reply(self, number: int, message: Message) -> bool:
        """Send now, or as soon as the client takes it; False if it takes nothing and has to go.

        That it is gone is not learned here: what it said before is to be heard first.
        """
        peer = self.peers.get(number)
        if peer is None:
            return True
        packet = encode(message)
        if not peer.replies:
            try:
                peer.sock.send(packet)
                return True
            except BlockingIOError:
                self.poller.modify(peer.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
            except OSError:
                return True
        peer.replies.append(packet)
        return len(peer.replies) <= _MAX_REPLIES

    def flush(self, peer: Peer) -> None:
        """Send replies that wait."""
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            while peer.replies:
                try:
                    peer.sock.send(peer.replies[0])
                except BlockingIOError:
                    return
                peer.replies.popleft()
        peer.replies.clear()
        self.poller.modify(peer.sock.fileno(), select.EPOLLIN)

    def tell(self, number: int, object_id: bytes, nbytes: int) -> None:
        """Notify a client with the next ``notify``."""
        peer = self.peers.get(number)
        if peer is not None and peer.channel is not None:
            peer.notifications.append((object_id, nbytes))
            self._to_notify[number] = peer

    def notify(self) -> None:
        """Send notifications as far as the clients take them; they are as many as subscriptions, and so bounded."""
        while self._to_notify:
            _, peer = self._to_notify.popitem()
            self.notify_one(peer)

    def notify_one(self, peer: Peer) -> None:
        """Send what waits for one client."""
        assert peer.channel is not None
        waiting = peer.notifications
        with contextlib.suppress(BrokenPipeError, ConnectionError):
            while waiting:
                batch = [waiting[n] for n in range(min(len(waiting), _BATCH))]
                try:
                    peer.channel.send(msgspec.msgpack.encode(batch))
                except BlockingIOError:
                    self.poller.modify(peer.channel.fileno(), select.EPOLLOUT)
                    return
                for _ in batch:
                    waiting.popleft()
        waiting.clear()
        self.poller.modify(peer.channel.fileno(), 0)
