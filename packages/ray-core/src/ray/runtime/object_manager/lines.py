"""What both ends of a data connection do to send and take frames; ``plain`` and ``sealed`` have the two ways."""

from __future__ import annotations

import socket
from typing import Protocol

from ray.runtime.object_manager.frames import Header, Request


class Line(Protocol):
    """One end of a connection that has been let in."""

    connection: socket.socket

    def ask(self, request: Request) -> None:
        """Send a request."""

    def asked(self) -> Request:
        """Wait for one.

        Raises:
            ChangedError: it is none, or not what was sent.
            OSError: the other end has gone.
        """

    def send(self, request: Request, offset: int, kind: int, data: bytes | memoryview) -> None:
        """Send a frame of the answer to a request."""

    def header(self) -> Header:
        """Wait for the next frame; ``take`` is next. Raises OSError as ``asked``."""

    def take(self, request: Request, header: Header, into: memoryview) -> None:
        """Take what the frame holds.

        Raises:
            ChangedError: it is not what was sent.
            OSError: it does not come.
        """

    def close(self) -> None:
        """Hang up."""
