"""Which process this is, and what it knows of itself."""

from __future__ import annotations

from ray.ids import node_of


class Here:
    """One process of a session. The owner of the session changes it; its parts read it."""

    __slots__ = ("address", "closed", "depth", "job", "namespace", "node_id", "process_id", "session_id")

    def __init__(self, session_id: str, process_id: bytes, namespace: str) -> None:
        self.session_id = session_id
        self.namespace = namespace
        #: Where others reach it; empty until it listens.
        self.address = ""
        #: How many tasks deep it runs: 0 in the driver.
        self.depth = 0
        #: The session has ended, for this process.
        self.closed = False
        self.name(process_id, session_id)

    def name(self, process_id: bytes, job: str) -> None:
        """It has this id, in this run of a program. A driver learns of them once its parts are about to be made."""
        self.process_id = process_id
        #: What the run of the program is called; a session with one alone has its name.
        self.job = job
        #: Of the node, as the program sees it.
        self.node_id = node_of(process_id).hex()
