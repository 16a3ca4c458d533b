"""Which process this is, and what it knows of itself."""

from __future__ import annotations


class Here:
    """One process of a session. The owner of the session changes it; its parts read it."""

    __slots__ = ("address", "closed", "depth", "namespace", "node_id", "process_id", "session_id")

    def __init__(self, session_id: str, process_id: bytes, namespace: str) -> None:
        self.session_id = session_id
        self.process_id = process_id
        self.namespace = namespace
        #: Where others reach it; empty until it listens.
        self.address = ""
        #: Of its node manager; empty until that has answered.
        self.node_id = ""
        #: How many tasks deep it runs: 0 in the driver.
        self.depth = 0
        #: The session has ended, for this process.
        self.closed = False
