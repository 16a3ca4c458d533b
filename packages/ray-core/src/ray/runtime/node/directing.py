"""What a director asks of the node manager that it is, to keep actors."""

from __future__ import annotations

from typing import Protocol


class Cluster(Protocol):
    """What is known of the rest."""

    def term(self) -> int:
        """The number of the term of this node."""

    def alive(self) -> set[bytes]:
        """Numbers of the nodes that are alive, this one's among them."""


class OrphanJobs(Protocol):
    """Jobs of this node."""

    def config_of(self, job: str) -> bytes:
        """What a job wants."""

    def take_over(self, job: str, config: bytes) -> None:
        """A job has actors that live, whatever has become of its driver; its home is expected to adopt it here."""

    def let_go(self, job: str) -> None:
        """The home of a job that was taken over has adopted it by now, or has not."""


class Loans(Protocol):
    """Workers of other nodes."""

    def give_back(self, lease: bytes) -> None:
        """A worker is not needed."""

    def taken(self, lease: bytes) -> None:
        """The lease of a worker is its own node's from now on."""

    def adopt_at(self, node: bytes, job: str) -> None:
        """Tell another node manager what a job wants, and tell it of the end of the job."""
