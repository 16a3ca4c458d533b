"""What a creator keeps of its segments: mappings made before they were sealed, to write the next object into.

A mapping can be written while an object is written and until a client reads it, and its address leaves this module for
the time of a copy only: no code has a pointer into a sealed object, and a write there at random is stopped.
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import sys
import threading
from collections import deque
from collections.abc import Sequence
from itertools import starmap

from ray.copying import Copier
from ray.exceptions import RayConnectionError
from ray_store_shm import descriptors, segments
from ray_store_shm.link import Link
from ray_store_shm.messages import ORDER, Keep
from ray_store_shm.segments import Piece

#: Fewer pages are sooner had from the kernel than kept.
_FROM_BYTES = 64 * 1024
#: The most that are kept, and the most of this process' descriptors that they take.
_MOST, _SHARE_OF_DESCRIPTORS = 256, 8
_MADV_POPULATE_WRITE = 23


class _Memory:
    """One kept segment."""

    __slots__ = ("_protecting", "_results", "is_populated", "is_protected", "mapping", "serial")

    def __init__(self, mapping: mmap.mmap) -> None:
        self.mapping = mapping
        self._protecting = (segments.protecting(mapping),)
        self._results: deque[int] = deque(maxlen=1)
        #: Of the object in it.
        self.serial = 0
        self.is_protected = True
        #: The kernel has entered its pages here. Until then they were written through the descriptor.
        self.is_populated = False

    def open(self, serial: int) -> None:
        """Let an object be written; it is the only one until it is sealed."""
        self.serial = serial
        if self.is_protected:
            segments.protect(self.mapping, writable=True)
            self.is_protected = False
        if not self.is_populated:
            with contextlib.suppress(OSError):  # a kernel before 5.14: pages are entered one by one
                self.mapping.madvise(_MADV_POPULATE_WRITE)
            self.is_populated = True

    def protect(self, serial: int) -> None:
        """Let nothing be written, unless another object is in it by now.

        There is no lock: a finaliser that interrupts this may put an object. The look and the call are one step of the
        interpreter, whose own lock is held meanwhile.
        """
        step = starmap(segments.mprotect, self._protecting)
        if self.serial == serial:
            self.is_protected = True
            self._results.extend(step)


class Kept:
    """The segments of one client. Safe from any thread.

    The broker says which one to write next, when to protect one, and when to forget one. It says the latter two on a
    socket of its own, heard by a thread that is there from the first segment on until the client or the broker ends.
    """

    def __init__(self, link: Link, threads: int) -> None:
        """Keep nothing yet; large pieces are copied by up to ``threads``."""
        self._link = link
        self._copier = Copier(threads)
        self._memories: dict[int, _Memory] = {}
        self._orders: socket.socket | None = None
        self._listener: threading.Thread | None = None
        self._is_off = not link.reuses

    def keep(self, number: int, fd: int, nbytes: int) -> bool:
        """Keep a segment that is about to be sealed; False if it is used only once."""
        if nbytes < _FROM_BYTES or not self._listens():
            return False
        try:
            self._memories[number] = _Memory(segments.map_to_keep(fd, nbytes))
        except OSError:  # descriptors or mappings have run out
            return False
        return True

    def forget(self, number: int) -> None:
        """Unmap a segment, if it is kept."""
        self._memories.pop(number, None)

    def write(self, number: int, serial: int, pieces: Sequence[Piece], nbytes: int) -> None:
        """Write an object of ``nbytes`` into a segment that the broker has given for it.

        Raises:
            OSError: the system does not let it be written.
            RayConnectionError: the store was closed, or has ended, a moment ago.
        """
        memory = self._memories.get(number)
        if memory is None:
            raise RayConnectionError("the shm store has ended, or is closed in this process")
        memory.open(serial)
        with memoryview(memory.mapping) as whole, whole[:nbytes] as target:
            self._copier.copy(target, pieces)

    def close(self) -> None:
        """Forget all, and end the thread."""
        self._is_off = True
        self._memories.clear()
        if self._orders is not None:
            with contextlib.suppress(OSError):
                self._orders.shutdown(socket.SHUT_RDWR)
            if self._listener is not None:
                self._listener.join(1.0)
            self._orders.close()

    def abandon(self) -> None:
        """In a forked child, where the thread is not: let go of the parent's memory."""
        self._is_off = True
        self._memories.clear()
        if self._orders is not None:
            self._orders.close()

    def _listens(self) -> bool:
        if self._listener is None and not self._is_off:
            self._is_off = True  # until it is done, for other threads, and for what interrupts this
            self._listen()
        return not self._is_off

    def _listen(self) -> None:
        limit = _MOST if sys.version_info >= (3, 13) else min(_MOST, descriptors.limit() // _SHARE_OF_DESCRIPTORS)
        with contextlib.suppress(OSError, RuntimeError, RayConnectionError):  # no descriptors, threads, or broker
            self._orders, theirs = socket.socketpair()
            self._orders.settimeout(None)  # whatever the process has set for its own sockets
            with theirs:
                listener = threading.Thread(
                    target=_obey, args=(self._orders, self._memories), name="ray-shm-kept", daemon=True
                )
                listener.start()
                self._listener = listener
                self._link.tell(Keep(limit), theirs.fileno())
                self._is_off = False


def _obey(orders: socket.socket, memories: dict[int, _Memory]) -> None:
    """Do what the broker says, until it says no more."""
    with orders, contextlib.suppress(OSError):
        while len(order := orders.recv(ORDER.size, socket.MSG_WAITALL)) == ORDER.size:
            number, serial = ORDER.unpack(order)
            if not serial:
                memories.pop(number, None)
            elif (memory := memories.get(number)) is not None:
                memory.protect(serial)
                del memory  # else it stays mapped here, once it is to be forgotten, until the next order to protect one
    memories.clear()
