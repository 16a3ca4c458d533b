"""A node of which nobody reads the store: values travel in messages between nodes."""

from __future__ import annotations

from ray.runtime.node.client import Client, Handler


class NoObjects:
    """As ``NodeObjects``."""

    pid = queued = 0

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def handlers(self) -> dict[type, Handler]:
        return {}

    def client_lost(self, client: Client) -> None:
        pass

    def node_down(self, gone: bytes, reason: str) -> None:
        pass

    def close(self) -> None:
        pass
