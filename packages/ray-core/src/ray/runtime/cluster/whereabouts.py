"""Where processes can be reached from other nodes: a process listens for these once one of them wants to dial it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ray.ids import node_bytes
from ray.messages import cluster, node
from ray.runtime.cluster.members import Member, Members
from ray.runtime.cluster.peering import Sender

_ENDED = "that process has ended"


class Addressed(Sender, Protocol):
    """A process that is connected to this node manager, and what it has said of where it listens."""

    address: str
    far_address: str


class Whereabouts:
    """Of one node manager: it asks for its processes, and answers for them."""

    def __init__(self, members: Members, processes: Callable[[], Iterable[Addressed]]) -> None:
        """Make it.

        Args:
            members: the other nodes.
            processes: gives those that are connected to this node manager.
        """
        self._members = members
        self._processes = processes
        #: {number of a question to another node: that node, who has asked here, and the number of that request}
        self._asked: dict[int, tuple[bytes, Addressed, int]] = {}
        self._last = 0
        #: {process id: homes that wait for its address, with the numbers of their questions}
        self._waiting: dict[bytes, list[tuple[Sender, int]]] = {}

    # --- for processes of this node -----------------------------------------------------------------------------------

    def ask(self, client: Addressed, message: node.Where) -> None:
        """A process of this node wants to dial one of another node."""
        self._last += 1
        target = node_bytes(message.node)
        self._asked[self._last] = target, client, message.request
        if not self._members.send(target, cluster.Seek(self._last, message.address)):
            self._conclude(self._last, "", "its node is not connected")

    def found(self, member: Member, message: cluster.Found) -> None:
        """Its node manager has answered."""
        if message.number in self._asked and self._asked[message.number][0] == member.node:
            self._conclude(message.number, message.address, message.reason)

    def node_down(self, member: Member, reason: str) -> None:
        """A node is gone, and answers nothing."""
        for number in [number for number, asked in self._asked.items() if asked[0] == member.node]:
            self._conclude(number, "", f"{member.title} died: {reason}")

    def _conclude(self, number: int, address: str, reason: str) -> None:
        _, client, request = self._asked.pop(number)
        client.send(node.Answer(request, bool(address), address.encode(), reason))

    # --- for other nodes ----------------------------------------------------------------------------------------------

    def sought(self, home: Sender, message: cluster.Seek) -> None:
        """Another node wants to know where a process of this one can be reached."""
        process = next((each for each in self._processes() if each.address == message.address), None)
        if process is None:
            home.send(cluster.Found(message.number, "", _ENDED))
        elif process.far_address:
            home.send(cluster.Found(message.number, process.far_address))
        else:
            waiting = self._waiting.setdefault(process.id, [])
            waiting.append((home, message.number))
            if len(waiting) == 1:
                process.send(node.ListenFar())

    def listens(self, process: Addressed, message: node.Listens) -> None:
        """A process of this node listens for others, or cannot."""
        process.far_address = message.address
        self._answer(process.id, message.address, message.error)

    def process_lost(self, process: bytes) -> None:
        """A process of this node has ended."""
        self._answer(process, "", _ENDED)
        for number in [number for number, asked in self._asked.items() if asked[1].id == process]:
            del self._asked[number]

    def _answer(self, process: bytes, address: str, reason: str) -> None:
        for home, number in self._waiting.pop(process, ()):
            home.send(cluster.Found(number, address, reason))
