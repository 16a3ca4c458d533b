"""What a node manager asks of the rest of its cluster, and how it is answered where there is no rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from ray.abc.scheduler import NodeView, ResourceRequest
from ray.abc.transport import Frame
from ray.exceptions import RemoteProtocolError
from ray.messages import finding, node, objects
from ray.messages.placement import Placement
from ray.runtime.cluster.absence import Absence
from ray.runtime.cluster.members import Member
from ray.runtime.node.client import Client, Handler


class ActorsElsewhere(Protocol):
    """Workers of other nodes that are actors which this node manager keeps."""

    def kill(self, worker: bytes, reason: str) -> None:
        """End one now."""

    def end_orderly(self, worker: bytes) -> None:
        """Have one end after the calls that it has received."""

    def expect_end(self, worker: bytes) -> None:
        """One is ending; its node manager sees to that."""

    def settle(self, worker: bytes, resources: dict[str, int]) -> None:
        """One runs, and holds only this from here on."""


class Others(Protocol):
    """The other nodes."""

    def handlers(self) -> dict[type, Handler]:
        """What the node manager passes on of what its clients say."""

    def admit(self, client: Client) -> None:
        """Another node manager has connected.

        Raises:
            RemoteProtocolError: it does not belong here.
        """

    def hear(self, member: Member, frames: Sequence[Frame]) -> None:
        """Take what another node manager says."""

    def member_lost(self, member: Member) -> None:
        """The connection to another node manager has ended."""

    def client_lost(self, client: Client) -> None:
        """A process of this node, or another node manager, is not connected any more."""

    def look(self) -> None:
        """The lease table has changed: an owner may wait for what there is no room for, or there may be more room."""

    def pass_on(self, client: Client, message: Any) -> bool:
        """Pass on what a process of this node says about something of another node; False if it is of none."""

    def job_over(self, job: str, *, goes_on: bool) -> Collection[bytes]:
        """No other node is needed for a job any more; ``goes_on``: its driver may live, on another node.

        Returns the numbers of those that have something of it, and say when they have ended that.
        """

    def leave(self, reason: str) -> None:
        """This node manager ends; ``reason`` is empty if it was asked to."""


class Elsewhere(Protocol):
    """What is known of other nodes."""

    def rows(self) -> list[dict[str, Any]]:
        """Rows of ``ray.nodes()``, those of dead nodes included."""

    def total(self) -> Mapping[str, int]:
        """What they have."""

    def available(self) -> Mapping[str, int]:
        """What is free there, as they have said last."""

    def could_serve(self, request: ResourceRequest, placement: Placement | None) -> bool:
        """Whether another node on which it may run has as much as is needed, were it free."""

    def views(self) -> Sequence[NodeView]:
        """What is known of each."""

    def absence(self, name: str) -> tuple[Absence, str]:
        """What is known of a node of that number or name, which is not there; and why it has died, if it has."""

    def transfers(self) -> Mapping[str, int]:
        """What was brought here from their stores, how much waits to be, and the pid of what brings it."""

    def director(self) -> tuple[str, bool]:
        """The NodeID of the node that directs them, the head, and whether it is there; empty if there are none."""


class Alone:
    """There are no others. Implements ``Others``, ``Elsewhere`` and ``ActorsElsewhere``."""

    def director(self) -> tuple[str, bool]:
        return "", True

    def handlers(self) -> dict[type, Handler]:
        """What strangers say may make a process ask for another node: it is told that there is none."""

        def refuse(client: Client, message: Any, frames: Sequence[Frame]) -> None:
            client.send(node.Answer(message.request, False, error="there is no other node"))

        def ignore(client: Client, message: Any, frames: Sequence[Frame]) -> None: ...

        return {
            finding.Where: refuse,
            finding.Lives: refuse,
            objects.Pull: refuse,
            objects.FreeAt: ignore,
            objects.LetGo: ignore,
        }

    def admit(self, client: Client) -> None:
        raise RemoteProtocolError("a node manager that would join one which is alone")

    def hear(self, member: Member, frames: Sequence[Frame]) -> None:
        pass

    def member_lost(self, member: Member) -> None:
        pass

    def client_lost(self, client: Client) -> None:
        pass

    def look(self) -> None:
        pass

    def could_serve(self, request: ResourceRequest, placement: Placement | None) -> bool:
        return False

    def views(self) -> Sequence[NodeView]:
        return ()

    def absence(self, name: str) -> tuple[Absence, str]:
        return Absence.OVER, ""

    def pass_on(self, client: Client, message: Any) -> bool:
        return False

    def job_over(self, job: str, *, goes_on: bool) -> Collection[bytes]:
        return ()

    def leave(self, reason: str) -> None:
        pass

    def rows(self) -> list[dict[str, Any]]:
        return []

    def total(self) -> Mapping[str, int]:
        return {}

    def available(self) -> Mapping[str, int]:
        return {}

    def transfers(self) -> Mapping[str, int]:
        return {}

    def kill(self, worker: bytes, reason: str) -> None:
        pass

    def end_orderly(self, worker: bytes) -> None:
        pass

    def expect_end(self, worker: bytes) -> None:
        pass

    def settle(self, worker: bytes, resources: dict[str, int]) -> None:
        pass
