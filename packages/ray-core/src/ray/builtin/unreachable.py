"""A connection that cannot come to stand, as is known without a try."""

from __future__ import annotations

from collections.abc import Sequence

from ray.abc.transport import Connection, Frame


class UnreachableConnection(Connection):
    """It has ended before it began; its maker reports its loss."""

    def __init__(self, failure: ConnectionError) -> None:
        self.context = None
        self.closed = True
        self.dialling = False
        self.failure = failure

    def send(self, frames: Sequence[Frame]) -> None:
        """As on any closed connection, what is sent is dropped."""

    def close(self) -> None:
        """It is closed."""

    def abort(self) -> None:
        """It is closed."""

    @property
    def queued_bytes(self) -> int:
        return 0
