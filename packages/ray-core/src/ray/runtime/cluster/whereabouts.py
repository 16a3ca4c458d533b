"""Where processes can be reached from other nodes: a process listens for these once one of them wants to dial it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ray.ids import node_bytes, node_of
from ray.messages import finding, node
from ray.runtime.cluster.members import Member, Members
from ray.runtime.cluster.peering import Sender

_ENDED = "that process has ended"


class Addressed(Sender, Protocol):
    """A process that is connected to this node manager, and what it has said of where it listens."""

    address: str
    far_address: str


class Whereabouts:
    """Of one node manager: it asks for its processes, and answers for them."""

    def __init__(self, node: bytes, members: Members, processes: Callable[[], Iterable[Addressed]]) -> None:
        """Make it.

        Args:
            node: the number of this one, as ids begin with it.
            members: the other nodes.
            processes: gives those that are connected to this node manager.
        """
        self._node = node
        self._members = members
        self._processes = processes
        #: {number of a question to another node: that node, who has asked here, the number of that request, and it}
        self._asked: dict[int, tuple[bytes, Addressed, int, finding.Seek | finding.SeekLife]] = {}
        self._last = 0
        #: {process id: what is told its address, or why there is none}
        self._waiting: dict[bytes, list[Callable[[str, str], None]]] = {}

    # --- for processes of this node -----------------------------------------------------------------------------------

    def ask(self, client: Addressed, message: finding.Where) -> None:
        """A process of this node wants to dial one of another node; or a driver elsewhere, one of this node."""
        target = node_bytes(message.node)
        if target == self._node:
            self._look(message.address, lambda address, reason: _answer(client, message.request, address, reason))
            return
        self._ask(target, client, message.request, finding.Seek(self._last + 1, message.address))

    def ask_life(self, client: Addressed, message: finding.Lives) -> None:
        """A process of this node has lost its connection to one of another node; or to a driver elsewhere."""
        target = node_of(message.process)
        if target == self._node:
            client.send(node.Answer(message.request, self._is_connected(message.process), error=_ENDED))
            return
        self._ask(target, client, message.request, finding.SeekLife(self._last + 1, message.process))

    def _ask(self, target: bytes, client: Addressed, request: int, question: finding.Seek | finding.SeekLife) -> None:
        self._last += 1
        self._asked[self._last] = target, client, request, question
        if not self._members.send(target, question) and not self._members.is_there(target):
            self._conclude(self._last, "", "its node is not there")

    def ask_again(self, member: Member) -> None:
        """What was said to and by a node was lost, and it is there again."""
        for target, _, _, question in self._asked.values():
            if target == member.node:
                member.send(question)

    def found_life(self, member: Member, message: finding.FoundLife) -> None:
        """Its node manager has answered."""
        if message.number in self._asked and self._asked[message.number][0] == member.node:
            self._conclude(message.number, "it lives" * message.lives, "" if message.lives else _ENDED)

    def found(self, member: Member, message: finding.Found) -> None:
        """Its node manager has answered."""
        if message.number in self._asked and self._asked[message.number][0] == member.node:
            self._conclude(message.number, message.address, message.reason)

    def node_down(self, member: Member, reason: str) -> None:
        """A node is gone, and answers nothing."""
        for number in [number for number, asked in self._asked.items() if asked[0] == member.node]:
            self._conclude(number, "", f"{member.title} died: {reason}")

    def _conclude(self, number: int, address: str, reason: str) -> None:
        _, client, request, _ = self._asked.pop(number)
        _answer(client, request, address, reason)

    # --- for other nodes ----------------------------------------------------------------------------------------------

    def sought(self, home: Sender, message: finding.Seek) -> None:
        """Another node wants to know where a process of this one can be reached."""
        self._look(message.address, lambda address, reason: home.send(finding.Found(message.number, address, reason)))

    def sought_life(self, home: Sender, message: finding.SeekLife) -> None:
        """Another node wants to know whether a process of this one lives."""
        home.send(finding.FoundLife(message.number, self._is_connected(message.process)))

    def _is_connected(self, process: bytes) -> bool:
        return any(each.id == process for each in self._processes())

    def _look(self, address: str, tell: Callable[[str, str], None]) -> None:
        process = next((each for each in self._processes() if each.address == address), None)
        if process is None:
            tell("", _ENDED)
        elif process.far_address:
            tell(process.far_address, "")
        else:
            waiting = self._waiting.setdefault(process.id, [])
            waiting.append(tell)
            if len(waiting) == 1:
                process.send(finding.ListenFar())

    def listens(self, process: Addressed, message: finding.Listens) -> None:
        """A process of this node listens for others, or cannot."""
        process.far_address = message.address
        self._tell(process.id, message.address, message.error)

    def process_lost(self, process: bytes) -> None:
        """A process of this node has ended."""
        self._tell(process, "", _ENDED)
        for number in [number for number, asked in self._asked.items() if asked[1].id == process]:
            del self._asked[number]

    def _tell(self, process: bytes, address: str, reason: str) -> None:
        for tell in self._waiting.pop(process, ()):
            tell(address, reason)


def _answer(client: Sender, request: int, address: str, reason: str) -> None:
    client.send(node.Answer(request, bool(address), address.encode(), reason))
