"""A flag with a descriptor: set by any thread, seen by the kernel's selectors."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
import threading

_ONE = (1).to_bytes(8, sys.byteorder)


class ReadyFlag:
    """Set or not. Its descriptor is readable while it is set: an eventfd, or a pipe where there is none."""

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self._reading = self._writing = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self._reading, self._writing = os.pipe()
            os.set_blocking(self._reading, False)
        self._inode = os.fstat(self._reading).st_ino
        self._set = False
        #: Nobody writes to a descriptor that is closed and may by now be another's. Reentrant for destructors' sake.
        self._lock = threading.RLock()
        self._closed = False

    def fileno(self) -> int:
        """The descriptor; owned by this object."""
        return self._reading

    def set(self) -> None:
        """Set it; any thread, never blocks. Without effect once closed.

        Raises:
            OSError: the program has closed the descriptor, which is not this object's any more.
        """
        with self._lock:
            if not (self._set or self._closed):
                self._set = True
                try:
                    self._check(self._writing)
                    os.write(self._writing, _ONE)
                except OSError:
                    self._set = False
                    raise

    def clear(self) -> None:
        """Unset it."""
        with self._lock:
            if self._set and not self._closed:
                os.read(self._reading, 8)
                self._set = False

    def wait(self, timeout_s: float | None) -> None:
        """Block until it is set, or for ``timeout_s`` (None: for as long as it takes)."""
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        poll.poll(None if timeout_s is None else min(timeout_s * 1000, 1e9))

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for descriptor in {self._reading, self._writing}:
                    with contextlib.suppress(OSError):  # it is the program's
                        self._check(descriptor)
                        os.close(descriptor)

    def _check(self, descriptor: int) -> None:
        """Raise OSError if the program has closed it, and the number may be that of another file by now."""
        if os.fstat(descriptor).st_ino != self._inode:
            raise OSError(errno.EBADF, "the program has closed a descriptor that is not its own")

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()
