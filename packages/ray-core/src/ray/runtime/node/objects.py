"""The values of this node that others read, and theirs that are read here: what the node manager has to do with them.

It decides which object comes when (``PullTable``), has its object manager bring it, and hands out tickets for data
connections to this node. It never sees a value.
"""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from ray.abc.transport import Transport
from ray.clock import monotonic
from ray.exceptions import RemoteProtocolError
from ray.ids import node_bytes, node_of
from ray.messages import node, objects
from ray.protocol import pulls
from ray.runtime.cluster.members import Member, Members
from ray.runtime.node.client import Client, Handler, of_node
from ray.runtime.object_manager import orders
from ray.runtime.object_manager.tickets import Door, new_ticket
from ray.runtime.process.timers import Timers

#: What is to be freed on another node within this time is told together, and so many at a time.
_FREE_S, _MAX_FREED = 0.02, 512
#: While a node cannot be told, it is tried again.
_AGAIN_S = 1.0
#: What a process has stored while its owner's death was under way here is gone after this time as well.
_SWEEP_S = 2.0
#: An object manager that has died is replaced after this time; one that dies each time before it listens, so often.
_RESTART_S, _MAX_BARREN = 0.05, 8


class Host(Protocol):
    """What this needs of its node manager."""

    @property
    def title(self) -> str:
        """How messages name the node."""

    def send_to(self, process: bytes, message: Any) -> bool:
        """Send to a process of this node; False if it is not there."""

    def owner_lost(self, process: bytes) -> None:
        """Have the store delete what a process has owned."""

    def expect_stop(self, pid: int) -> None:
        """A child of this name is ended if it is stopped."""

    def fail(self, reason: str) -> None:
        """The node cannot go on."""


class NodeObjects:
    """Of a node whose store others read."""

    def __init__(
        self,
        own: bytes,
        door: Door,
        node_manager: Host,
        members: Members,
        transport: Transport,
        timers: Timers,
        table: pulls.PullTable,
        start: Callable[[], tuple[int, socket.socket]],
    ) -> None:
        """Nothing runs yet.

        Args:
            own: process id of this node manager.
            door: where other nodes read the store of this one; if they do not, this one may read theirs.
            node_manager: of this node.
            members: the other nodes.
            transport: watches the object manager.
            timers: of this node manager.
            table: of what is to come.
            start: starts an object manager; returns its pid and the channel to it.
        """
        self._own = own
        self._node = node_of(own)
        self._door = door
        self._node_manager = node_manager
        self._members = members
        self._transport = transport
        self._timers = timers
        self._table = table
        self._start = start
        self._channel: socket.socket | None = None
        #: Port of the object manager; 0 until it listens.
        self.port = 0
        #: Pid of the object manager.
        self.pid = 0
        self._barren = 0
        #: What the channel has no room for.
        self._unsent: deque[bytes] = deque()
        #: {number: what is to be deleted, and was not said to be}
        self._removing: dict[int, orders.Remove] = {}
        self._numbers = 0
        #: {node: keys to be freed there that it was not told of}
        self._freed: dict[bytes, list[bytes]] = {}
        #: {node that was declared dead: why}
        self._gone: dict[bytes, str] = {}
        self._rests = False
        self._is_needed = self._is_closed = False
        #: Those that have asked where it listens before it did.
        self._waiting: list[Client] = []
        #: What has happened so far.
        self.counts = dict.fromkeys(
            ("brought", "failed", "received_bytes", "copied_bytes", "sent_bytes", "busy", "bad_frames", "restarts"), 0
        )

    # --- the object manager -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start it; without others that read here only once there is something to do."""
        if self._is_closed or not (self._door.host or self._is_needed):
            return
        self.pid, self._channel = self._start()
        self._node_manager.expect_stop(self.pid)
        self._transport.watch(self._channel.fileno(), self._read)
        for removing in self._removing.values():
            self._order(removing)

    def _need(self) -> None:
        if not (self._is_needed or self._door.host):
            self._is_needed = True
            self.begin()

    def _order(self, order: orders.Order) -> None:
        if self._channel is not None:
            self._unsent.append(orders.encode(order))
            if len(self._unsent) == 1:
                self._send()

    def _send(self) -> None:
        unsent, channel = self._unsent, self._channel
        while unsent and channel is not None:
            try:
                channel.send(unsent[0])
            except BlockingIOError:
                self._timers.after(0.01, self._send)
                return
            except OSError:  # it has died, which is about to be read
                return
            unsent.popleft()

    def _read(self) -> None:
        channel = self._channel
        while channel is not None and channel is self._channel:
            try:
                packet = channel.recv(orders.MAX_PACKET_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                packet = b""
            if packet:
                self._take(orders.decode_report(packet))
            else:
                self._lost()

    def _lost(self) -> None:
        assert self._channel is not None
        self._transport.unwatch(self._channel.fileno())
        self._channel.close()
        self._channel = None
        self._unsent.clear()
        self._barren = 0 if self.port else self._barren + 1
        self.port = 0
        if self._is_closed:
            return
        if self._barren > _MAX_BARREN:
            self._node_manager.fail("the process that moves objects between nodes dies before it does anything")
            return
        self.counts["restarts"] += 1
        self._carry_out(self._table.mover_lost())
        self._timers.after(_RESTART_S * (1 << self._barren), self.begin)

    def _take(self, report: orders.Report) -> None:
        if isinstance(report, orders.Ended):
            self._ended(report)
        elif isinstance(report, orders.Ask):
            if not self._members.send(report.node, objects.AskTicket()):
                self._order(orders.Way(report.node, reason="there is no connection to its node manager"))
        elif isinstance(report, orders.Removed):
            self._removing.pop(report.number, None)
        elif isinstance(report, orders.Served):
            self.counts["sent_bytes"] += report.sent
            self.counts["busy"] += report.busy
            self.counts["bad_frames"] += report.bad_frames
        else:
            self.port = report.port
            self._carry_out(self._table.mover_ready())
            waiting, self._waiting = self._waiting, []
            for client in waiting:
                self._say_door(client)

    def _ended(self, report: orders.Ended) -> None:
        counts = self.counts
        counts["failed" if report.kind else "brought"] += 1
        counts["received_bytes"] += report.received
        counts["copied_bytes"] += report.copied
        counts["bad_frames"] += report.bad_frames
        failure = pulls.Failure(report.kind, report.text, report.full) if report.kind else None
        self._carry_out(self._table.ended(report.key, failure))

    def _carry_out(self, effects: Sequence[pulls.Effect]) -> None:
        removed: list[bytes] = []
        for effect in effects:
            if isinstance(effect, pulls.Delete):
                removed.append(effect.key)
                continue
            if removed:  # before what may bring one of them again
                self._remove(removed)
                removed = []
            if isinstance(effect, pulls.Begin):
                others = list(self._members.members) if effect.anywhere else None
                self._order(orders.Bring(effect.key, effect.node, effect.nbytes, others))
            elif isinstance(effect, pulls.GiveUp):
                self._order(orders.GiveUp(effect.key))
            elif isinstance(effect, pulls.Gone):
                self._order(orders.Gone(effect.node))
            else:
                self._tell(effect)
        if removed:
            self._remove(removed)
        self._look_at_rest()

    def _tell(self, told: pulls.Tell) -> None:
        failure = told.failure
        if failure is None:
            answer = node.Answer(told.request, True)
        elif failure.kind == pulls.FULL:
            place = f"it is the store of the node {self._node_manager.title}, for an object of another node"
            text = f"{failure.text}; {place}" if failure.text else place
            answer = node.Answer(told.request, False, msgspec.msgpack.encode(failure.full), text)
        else:
            answer = node.Answer(told.request, False, error=failure.text or "it could not be read from its node")
        self._node_manager.send_to(told.asker, answer)

    def _remove(self, keys: Sequence[bytes], prefix: bytes = b"") -> None:
        if prefix and not (self._door.host or self._is_needed):
            return
        self._need()
        for start in range(0, len(keys) or 1, orders.MAX_KEYS):
            self._numbers += 1
            order = orders.Remove(self._numbers, list(keys[start : start + orders.MAX_KEYS]), prefix)
            self._removing[self._numbers] = order
            self._order(order)

    def _look_at_rest(self) -> None:
        """Copies that nobody needs go after a while."""
        until = self._table.rests_until()
        if until is not None and not self._rests:
            self._rests = True
            self._timers.after(max(0.0, until - monotonic()), self._rest_over)

    def _rest_over(self) -> None:
        self._rests = False
        self._carry_out(self._table.rest_over(monotonic()))

    # --- processes of this node ---------------------------------------------------------------------------------------

    def handlers(self) -> dict[type, Handler]:
        """What processes of this node, and other node managers, ask of this one."""
        return {
            objects.Pull: lambda client, message, frames: self._pull(client, message),
            objects.LetGo: lambda client, message, frames: self._let_go(client, message),
            objects.FreeAt: lambda client, message, frames: self._free(node_bytes(message.node), message.keys),
            objects.AskTicket: of_node(self._give_ticket),
            objects.AskDoor: of_node(lambda client, message: self._say_door(client)),
            objects.FreeObjects: of_node(self._free_objects),
            objects.ProcessOver: of_node(self._process_over),
        }

    def _pull(self, client: Client, message: objects.Pull) -> None:
        at = node_bytes(message.node)
        self._need()
        self._carry_out(self._table.ask(client.id, message.request, message.key, at, message.nbytes, message.urgency))

    def _let_go(self, client: Client, message: objects.LetGo) -> None:
        now = monotonic()
        for key in message.keys:
            self._carry_out(self._table.let_go(client.id, key, now))

    def client_lost(self, client: Client) -> None:
        """A process of this node has ended, or the connection of another node manager to this one."""
        if client.kind == "node":
            return
        self._carry_out(self._table.asker_lost(client.id, monotonic()))
        self._members.tell_all(objects.ProcessOver(client.id))

    # --- freeing ------------------------------------------------------------------------------------------------------

    def _free(self, at: bytes, keys: Sequence[bytes]) -> None:
        if at == self._node:
            self._remove(keys)
        elif at not in self._gone:
            if not self._freed:
                self._timers.after(_FREE_S, self._flush)
            self._freed.setdefault(at, []).extend(keys)

    def _flush(self) -> None:
        freed, self._freed = self._freed, {}
        for at, keys in freed.items():
            member = self._members.members.get(at)
            if member is not None:
                for start in range(0, len(keys), _MAX_FREED):
                    member.send(objects.FreeObjects(keys[start : start + _MAX_FREED]))
            elif at not in self._gone:
                self._freed[at] = keys
        if self._freed:
            self._timers.after(_AGAIN_S, self._flush)

    def _free_objects(self, client: Client, message: objects.FreeObjects) -> None:
        owned = node_of(client.id)
        if any(node_of(key) != owned for key in message.keys):
            raise RemoteProtocolError("a node that frees what its processes do not own")
        self._remove(message.keys)

    def _process_over(self, client: Client, message: objects.ProcessOver) -> None:
        process = message.process
        if node_of(process) != node_of(client.id):
            raise RemoteProtocolError("a node that tells of the end of another one's process")
        self._node_manager.owner_lost(process)
        self._timers.after(_SWEEP_S, lambda: self._node_manager.owner_lost(process))

    # --- other nodes --------------------------------------------------------------------------------------------------

    def _say_door(self, client: Client) -> None:
        """To a director that calls this node."""
        if self._door.host and not self.port:
            self._waiting.append(client)
        else:
            client.send(objects.Door(self._door.host, self.port if self._door.host else 0))

    def _give_ticket(self, client: Client, message: objects.AskTicket) -> None:
        if not (self._door.host and self.port):
            client.send(objects.DataTicket("", 0, b"", b"", "its object manager is not there yet, or serves nobody"))
            return
        ticket = new_ticket(client.id, self._own, sealed=self._door.sealed)
        self._order(orders.Expect(*ticket))
        door = self._door
        near = (door.store, door.machine) if door.machine else ()
        client.send(objects.DataTicket(door.host, self.port, ticket.id, ticket.secret, "", ticket.sealed, *near))

    def take_ticket(self, member: Member, message: objects.DataTicket) -> None:
        """Another node manager has answered."""
        server = member.node + self._own[len(member.node) :]  # both are node managers
        ticket = (message.id, message.secret, self._own, server, message.sealed)
        store = message.store if message.machine and message.machine == self._door.machine else ""
        self._order(orders.Way(member.node, message.host, message.port, *ticket, message.reason, store))

    def node_down(self, gone: bytes, reason: str) -> None:
        """A node is dead: what it has made comes from others, and nobody holds what its processes owned."""
        if gone in self._gone:
            return
        self._gone[gone] = reason
        self._freed.pop(gone, None)
        self._carry_out(self._table.node_down(gone, reason))
        self._remove((), gone)
        self._timers.after(_SWEEP_S, lambda: self._remove((), gone))

    def close(self) -> None:
        """End the object manager; its end is reaped with those of others."""
        self._is_closed = True
        if self._channel is not None:
            os.kill(self.pid, signal.SIGKILL)
