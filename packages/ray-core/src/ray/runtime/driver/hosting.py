"""How a driver comes to its node, and leaves it: the driver starts a node of its own, or joins one that runs."""

from __future__ import annotations

from typing import Protocol

from ray.runtime.process.node_start import NodeFacts


class Hosting(Protocol):
    """One driver's relation to the process of its node manager."""

    session: str
    """The session's id."""
    session_dir: str
    is_owner: bool
    """The node ends with this driver."""
    is_guest: bool
    """The node is on another machine: the driver listens for others at once."""

    def begin(self) -> None:
        """Have the node start, unless it runs already; ``await_facts`` waits for it.

        Raises:
            RaySystemError: there cannot be such a process.
        """

    def await_facts(self) -> NodeFacts:
        """Where the node manager is; blocks until it serves.

        Raises:
            RaySystemError: it does not start.
        """

    def how_it_ended(self, patience_s: float) -> str:
        """The exit code or signal of the node manager, after a colon; empty if it does not end in time."""

    def log_tail(self) -> str:
        """The last lines that the node manager has printed, introduced; empty if there are none."""

    def why_it_ended(self) -> str:
        """Why the node has ended as one of a cluster; empty if nobody has said so."""

    def lost(self, *, orderly: bool) -> None:
        """The connection to the node manager has ended: clean up what that one cannot."""

    def end(self) -> None:
        """The driver has said so, and its part in the session is over. Idempotent."""

    def clear_away(self) -> None:
        """Nothing of this driver uses the session's directory any more."""

    def after_fork_in_child(self) -> None:
        """This is a copy of the driver: let go of everything without touching it."""
