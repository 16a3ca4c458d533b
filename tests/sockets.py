"""Sockets of what stands between two processes in a test: whom it lets in, and how it hangs up."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


def accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """Connections as they come, until the listener is closed."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        yield client


def hang_up(*ends: socket.socket) -> None:
    """Nothing is sent or received there any more, and threads that wait for these sockets go on; closes none."""
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
