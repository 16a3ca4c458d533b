"""The arena in a client's address space: mapped once for reading and, if it ever creates, once for writing.

What readers see cannot be written through, not even by C code. A copy into pages that this process has not touched
before costs a page fault for every 4 KiB; the kernel's own copy does not, so fresh parts are filled by ``pwrite``,
parts that come back are mapped in one call, and from then on memory is copied to memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Sequence
from functools import cache

from ray.copying import Address, Copier
from ray.exceptions import RaySystemError

_GRAIN_BYTES = 1 << 20
#: How this process has met a grain: never, through the kernel only, in its mapping.
_UNSEEN, _SEEN, _MAPPED = range(3)
#: The most that one call of ``write`` takes is a little less than 2 GiB.
_MAX_WRITE_BYTES = 1 << 30
#: From here on ``create`` has the kernel map what it returns.
_POPULATE_FROM_BYTES = 64 * 1024
_MADV_POPULATE_WRITE = 23


class Mapping:
    """The arena behind a descriptor, which must stay open as long as this is used for writing."""

    def __init__(self, arena: int, capacity_bytes: int, threads: int) -> None:
        """Map it for reading.

        Args:
            arena: the descriptor.
            capacity_bytes: its length.
            threads: how many may copy a large piece, where that is faster.

        Raises:
            RaySystemError: this process may not have so much address space.
        """
        self._arena = arena
        self._capacity_bytes = capacity_bytes
        self._copier = Copier(threads)
        self._readable = _mapped(arena, capacity_bytes, mmap.PROT_READ)
        with Address(self._readable) as start:
            #: Where it begins. Valid as long as this object.
            self.address = start
        self._words = memoryview(self._readable)[: capacity_bytes // 8 * 8].cast("Q")
        self._writable: mmap.mmap | None = None
        self._grains = bytearray(-(-capacity_bytes // _GRAIN_BYTES))

    def mark(self, offset: int) -> int:
        """The eight bytes at ``offset`` as a number."""
        return self._words[offset >> 3]

    def writable(self, offset: int, nbytes: int, *, cold: bool) -> memoryview:
        """Memory to write to."""
        view = memoryview(self._map())[offset : offset + nbytes]
        if nbytes >= _POPULATE_FROM_BYTES:
            self._populate(offset, nbytes, again=cold)
        return view

    def write(self, offset: int, pieces: Sequence[bytes | memoryview], nbytes: int, *, cold: bool) -> None:
        """Copy ``pieces`` one behind the other.

        Args:
            offset: where to.
            pieces: flat views of bytes.
            nbytes: how much there is room for.
            cold: whether the arena has pages for all of it already.

        Raises:
            ValueError: the pieces are longer than that.
        """
        if sum(map(len, pieces)) > nbytes:
            raise ValueError(f"{sum(map(len, pieces)):,} bytes do not go into an object of {nbytes:,}")
        first, end = offset // _GRAIN_BYTES, -(-(offset + nbytes) // _GRAIN_BYTES)
        if cold or _UNSEEN in self._grains[first:end]:
            self._write_through_kernel(offset, pieces)
            # What the mapping had of it may be gone: the pages are new.
            known = self._grains[first:end]
            self._grains[first:end] = known.replace(b"\0", b"\1") if not cold else bytes((_SEEN,)) * (end - first)
            return
        self._populate(offset, nbytes, again=False)
        self._copier.copy(memoryview(self._map())[offset:], pieces)

    def _write_through_kernel(self, offset: int, pieces: Sequence[bytes | memoryview]) -> None:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                written = os.pwrite(self._arena, view[:_MAX_WRITE_BYTES], offset)
                view = view[written:]
                offset += written

    def _populate(self, offset: int, nbytes: int, *, again: bool) -> None:
        """Have the kernel map all of it at once, unless it is."""
        first, end = offset // _GRAIN_BYTES, -(-(offset + nbytes) // _GRAIN_BYTES)
        grains = self._grains[first:end]
        if not again and grains == bytes((_MAPPED,)) * len(grains):
            return
        start, stop = first * _GRAIN_BYTES, min(end * _GRAIN_BYTES, self._capacity_bytes)
        with contextlib.suppress(OSError):  # a kernel before 5.14: pages are mapped one by one
            self._map().madvise(_MADV_POPULATE_WRITE, start, stop - start)
        self._grains[first:end] = bytes((_MAPPED,)) * (end - first)

    def _map(self) -> mmap.mmap:
        if self._writable is None:  # no lock: what interrupts this may need it, too
            writable = _mapped(self._arena, self._capacity_bytes, mmap.PROT_READ | mmap.PROT_WRITE)
            if self._writable is None:
                self._writable = writable
        return self._writable


def _mapped(arena: int, capacity_bytes: int, prot: int) -> mmap.mmap:
    try:
        return mmap.mmap(arena, capacity_bytes, prot=prot)
    except OSError as error:
        raise RaySystemError(
            f"this process cannot map the {capacity_bytes:,} bytes of the object store ({error.strerror}): ask for a "
            "smaller one with object_store_memory=, or let processes have more address space (ulimit -v)"
        ) from None


@cache
def array_type(nbytes: int) -> type[ctypes.Array[ctypes.c_ubyte]]:
    """A type of ctypes arrays; making one takes long, so there are to be few of them."""
    return ctypes.c_ubyte * nbytes
