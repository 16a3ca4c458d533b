"""What the parts of a cluster ask of the node manager that they are in."""

from __future__ import annotations

from typing import Any, Protocol

from ray.messages import wire


class Sender(Protocol):
    """A process that is connected to this node manager."""

    id: bytes
    job: str

    def send(self, message: Any) -> None:
        """Queue a message."""


class Caller(Sender, Protocol):
    """Another node manager that has dialled this one."""

    @property
    def is_there(self) -> bool:
        """Whether its connection stands; else it is expected to dial again."""

    def say(self, message: wire.Struct) -> None:
        """Queue a message that is of no use later: it is lost with the connection."""


class Processes(Protocol):
    """The processes of this node, and its jobs, as seen from other nodes. Implemented in the node's room."""

    def send_to(self, process: bytes, message: Any) -> bool:
        """Send a message to a connected process of this node; False if it is not there."""

    def kill(self, process: bytes, reason: str) -> None:
        """End a worker of this node."""

    def expect_end(self, process: bytes) -> None:
        """A worker of this node is about to end; see that it does."""

    def adopt(self, job: str, config: bytes, home: bytes, driver: Sender) -> None:
        """A job is to have workers here for ``home``; ``driver`` takes what is for its driver.

        Raises:
            ValueError: ``config`` is none.
        """

    def serves(self, job: str) -> bool:
        """Whether workers of that job may be started here, and have all that they need."""

    def end_job(self, job: str, home: bytes, *, goes_on: bool = False) -> None:
        """A home needs no more workers of an adopted job here; ``goes_on``: the driver of the job may live."""

    def config_of(self, job: str) -> bytes:
        """What a job wants, as JSON; empty if it is not known here."""

    def tell_driver(self, job: str, message: Any, other: bytes) -> None:
        """Send something of another node to the driver of a job, if it is connected to this node manager.

        An ``Ending`` is for this node manager: the other node has ended what it had of the job, and said all before.
        """

    def printed(self, job: str, amount: int) -> None:
        """The home of a job has room for so much more of what its workers print."""

    def home_lost(self, home: bytes) -> None:
        """Another node manager is not connected any more."""
