"""The server's loop: one thread that receives, lets the table decide, and does what it says."""

from __future__ import annotations

import os
import select
import socket
import struct
import traceback
from collections.abc import Callable
from typing import Any, TypeAlias

from ray.clock import monotonic
from ray_store_plasma import messages
from ray_store_plasma.arena import punch
from ray_store_plasma.connections import Connections, Peer
from ray_store_plasma.disk import Disk, SpillFile
from ray_store_plasma.messages import MalformedError, Request, decode_request
from ray_store_plasma.objects import Mark, ReadBack, Send, Tell, Trim, Violation, WriteOut
from ray_store_plasma.table import Table

Handler: TypeAlias = Callable[[int, Any, float], None]

#: Packets taken from one client before the others have their turn.
_TURN = 64
#: More packets than a socket can hold: what was sent before a certain moment is among as many.
_BACKLOG = 4096
#: Free pages go back to the system when they have not been used for between one and two of these times.
REST_S = 5.0
_SERIAL = struct.Struct("=Q")


class Server:
    """Serves one table to the clients of one listening socket."""

    def __init__(self, table: Table, arena: int, spill_dir: str, limit: int) -> None:
        """Start nothing yet.

        Args:
            table: the state.
            arena: a descriptor of an arena of the table's capacity.
            spill_dir: for the spill file.
            limit: how many clients may be connected at a time.
        """
        self._table = table
        self._arena = arena
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._disk = Disk(SpillFile(spill_dir, arena), lambda: os.eventfd_write(self._wake, 1))
        self._connections = Connections(arena, table.room.memory.capacity, spill_dir, limit)
        self._poller = self._connections.poller
        self._poller.register(self._wake, select.EPOLLIN)
        self._node = 0
        self._limit = limit
        #: Requests that would be denied now: they are answered when all that was sent before them has been heard.
        self._early: list[tuple[Peer, Request]] = []
        self._next_rest = 0.0
        self._handlers: dict[type[Request], Handler] = {
            messages.Create: lambda c, m, now: table.create(c, m.number, m.object_id, m.nbytes, now, patient=m.patient),
            messages.Get: lambda c, m, now: table.get(c, m.number, m.object_id, now, patient=m.patient),
            messages.Contains: lambda c, m, now: table.contains(c, m.number, m.object_id),
            messages.Pin: lambda c, m, now: table.pin(c, m.number, m.object_id),
            messages.Stats: lambda c, m, now: table.stats(c, m.number),
            messages.List: lambda c, m, now: table.list_objects(c, m.number, m.after),
            messages.Seal: lambda c, m, now: table.seal(c, m.serial, now),
            messages.Abort: lambda c, m, now: table.abort(c, m.serial, now),
            messages.Release: lambda c, m, now: table.release(c, m.serials, now),
            messages.Delete: lambda c, m, now: table.delete(m.object_id, now),
            messages.Unpin: lambda c, m, now: table.unpin(m.object_id),
            messages.Subscribe: lambda c, m, now: table.subscribe(c, m.object_id),
            messages.Unsubscribe: lambda c, m, now: table.unsubscribe(c, m.object_id),
            messages.Leave: lambda c, m, now: table.leave(c),
            messages.OwnerLost: self._owner_lost,
        }

    def serve(self, listener: socket.socket, node: socket.socket) -> None:
        """Run until ``node``, the node manager's end of a socket pair, is closed."""
        listener.setblocking(False)
        self._poller.register(listener.fileno(), select.EPOLLIN)
        manager = self._connections.add(node, os.getppid())
        self._node = manager.number
        self._table.join(manager.number, manager.pid)
        while self._node in self._connections.peers:
            early, self._early = self._early, []
            turn = _BACKLOG if early else _TURN
            for descriptor, events in self._poller.poll(0 if early else self._wait_s(), self._limit):
                if descriptor == listener.fileno():
                    self._accept(listener)
                else:
                    self._happened(descriptor, events, turn)
            for peer, request in early:
                self._handle(peer, request)
            self._table.advance(monotonic())
            self._perform()
            self._rest()

    def _wait_s(self) -> float:
        if self._early:
            return 0.0
        ends = [self._next_rest] if self._table.room.may_rest else []
        deadline = self._table.next_deadline()
        if deadline is not None:
            ends.append(deadline)
        return max(0.0, min(ends) - monotonic()) if ends else -1.0

    def _accept(self, listener: socket.socket) -> None:
        peer = self._connections.accept(listener)
        if peer is not None:
            self._table.join(peer.number, peer.pid)

    def _happened(self, descriptor: int, events: int, turn: int) -> None:
        peer = self._connections.by_descriptor.get(descriptor)
        if descriptor == self._wake:
            os.eventfd_read(self._wake)
            self._take_from_disk()
        elif peer is None:
            return  # it was dropped a moment ago
        elif descriptor == peer.sock.fileno():
            if events & select.EPOLLOUT:
                self._connections.flush(peer)
            if events & ~select.EPOLLOUT:
                self._receive(peer, turn)
        elif events & (select.EPOLLHUP | select.EPOLLERR):
            self._connections.deafen(peer)
        else:
            self._connections.notify_one(peer)

    def _receive(self, peer: Peer, turn: int) -> None:
        for _ in range(turn):
            packet = self._connections.receive(peer)
            if packet is None:
                return
            try:
                request = decode_request(packet) if packet else None
            except MalformedError:
                request = None
            if request is None:
                self._drop(peer)
            elif self._is_early(request):
                self._early.append((peer, request))
            else:
                self._handle(peer, request)
            if peer.number not in self._connections.peers:
                return

    def _is_early(self, request: Request) -> bool:
        """Whether word that changes the answer may lie unread in the socket of another client.

        A client that makes or deletes an object says so here before it tells others, but does not wait for this server.
        """
        if isinstance(request, (messages.Get, messages.Contains, messages.Pin)):
            return not self._table.has(request.object_id)
        return isinstance(request, messages.Create) and request.object_id in self._table.live

    def _handle(self, peer: Peer, request: Request) -> None:
        if peer.number not in self._connections.peers:
            return
        try:
            self._handlers[type(request)](peer.number, request, monotonic())
        except Violation:
            self._drop(peer)
        except Exception:  # a mistake of this process, which is to cost nobody else anything
            traceback.print_exc()
            self._drop(peer)
        self._perform()

    def _owner_lost(self, client: int, request: messages.OwnerLost, now: float) -> None:
        if client != self._node:
            raise Violation("is not the node manager")
        self._table.owner_lost(request.process_id, now)

    def _drop(self, peer: Peer) -> None:
        if peer.number in self._connections.peers:
            self._connections.drop(peer)
            self._table.lost(peer.number, monotonic())
            self._perform()

    def _take_from_disk(self) -> None:
        while self._disk.written:
            serial, checksum = self._disk.written.popleft()
            self._table.written(serial, checksum, monotonic())
        while self._disk.read:
            serial, ok = self._disk.read.popleft()
            self._table.read(serial, monotonic(), ok=ok)
        self._perform()

    def _perform(self) -> None:
        """Do what the table has decided."""
        effects = self._table.effects
        rude = []
        for effect in effects:
            match effect:
                case Send(client, reply):
                    if not self._connections.reply(client, reply):
                        rude.append(client)
                case Mark(offset, serial):
                    os.pwrite(self._arena, _SERIAL.pack(serial), offset)
                case Tell(client, object_id, nbytes):
                    self._connections.tell(client, object_id, nbytes)
                case WriteOut():
                    self._disk.start_writing(*effect)
                case ReadBack():
                    self._disk.start_reading(*effect)
                case Trim():
                    self._disk.trim(*effect)
        effects.clear()
        # At once: a client that is answered next may count on what it has asked to be told.
        self._connections.notify()
        for client in rude:
            if client in self._connections.peers:
                self._drop(self._connections.peers[client])

    def _rest(self) -> None:
        """Give pages back that nobody uses any more."""
        room = self._table.room
        now = monotonic()
        if not room.may_rest:
            self._next_rest = now + REST_S
        elif now >= self._next_rest:
            for offset, size in room.rest():
                punch(self._arena, offset, size)
            self._next_rest = now + REST_S
