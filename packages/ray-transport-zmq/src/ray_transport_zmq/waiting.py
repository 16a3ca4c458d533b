"""Waiting for descriptors, and ending the wait of another thread."""

from __future__ import annotations

import contextlib
import os
import select
from typing import Any


class Poller:
    """``epoll`` where there is one, else ``poll``; both level-triggered, readable descriptors only."""

    def __init__(self) -> None:
        self._is_epoll = hasattr(select, "epoll")
        self._impl: Any = select.epoll() if self._is_epoll else select.poll()

    def register(self, fd: int) -> None:
        """Begin to wait for ``fd``."""
        self._impl.register(fd, select.POLLIN)

    def unregister(self, fd: int) -> None:
        """No longer wait for ``fd``; no effect if it was not waited for."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._impl.unregister(fd)

    def poll(self, timeout_s: float | None) -> list[tuple[int, int]]:
        """Wait, and do nothing else: a signal handler may raise in here."""
        if self._is_epoll:
            return self._impl.poll(timeout_s)  # type: ignore[no-any-return]
        return self._impl.poll(None if timeout_s is None else timeout_s * 1000)  # type: ignore[no-any-return]

    def fileno(self) -> int:
        """A descriptor that is readable when one that is waited for is; -1 where the system has none."""
        return int(self._impl.fileno()) if self._is_epoll else -1

    def close(self) -> None:
        """Release the descriptor, if there is one."""
        if self._is_epoll:
            self._impl.close()


class Wakeup:
    """A descriptor that any thread and any signal handler can make readable."""

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.fd = self._write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.fd, self._write_fd = os.pipe()
            for fd in (self.fd, self._write_fd):
                os.set_blocking(fd, False)
        self._closed = False

    def set(self) -> None:
        """Make it readable; no effect once closed."""
        if not self._closed:  # the number may belong to another file by now
            with contextlib.suppress(OSError):
                os.write(self._write_fd, b"\x01\0\0\0\0\0\0\0")

    def clear(self) -> None:
        """Make it unreadable again."""
        with contextlib.suppress(OSError):
            os.read(self.fd, 4096)

    def close(self) -> None:
        """Release the descriptors. Idempotent."""
        if not self._closed:
            self._closed = True
            for fd in {self.fd, self._write_fd}:
                os.close(fd)
