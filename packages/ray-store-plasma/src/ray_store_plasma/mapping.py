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
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

_GRAIN_BYTES = 1 << 20
#: How this process has met a grain: never, through the kernel only, in its mapping.
_UNSEEN, _SEEN, _MAPPED = range(3)
#: Up to here the interpreter copies; larger pieces are copied with its lock released.
_SMALL_BYTES = 256 * 1024
#: From here on the start of a second thread costs less than it saves.
_THREADS_FROM_BYTES = 16 * 1024 * 1024
#: Each way to copy is tried so often before it is judged, and by so many of its last times.
_TRIES = 3
#: One copy in so many is made in the way that was slower before.
_TRY_OTHER_EVERY = 32
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
        """
        self._arena = arena
        self._capacity_bytes = capacity_bytes
        self._pace = Pace(min(threads, os.cpu_count() or 1))
        self._readable = mmap.mmap(arena, capacity_bytes, prot=mmap.PROT_READ)
        with _address(self._readable) as address:
            #: Where it begins. Valid as long as this object.
            self.address = address
        self._words = memoryview(self._readable)[: capacity_bytes // 8 * 8].cast("Q")
        self._writable: mmap.mmap | None = None
        self._lock = threading.Lock()
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
        target = memoryview(self._map())
        for piece in pieces:
            size = len(piece)
            if size < _SMALL_BYTES:
                target[offset : offset + size] = piece
            else:
                with _address(target[offset:]) as to, _address(piece) as source:
                    self._move(to, source, size)
            offset += size

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
        if self._writable is None:
            with self._lock:
                if self._writable is None:
                    self._writable = mmap.mmap(self._arena, self._capacity_bytes)
        return self._writable

    def _move(self, target: int, source: int, nbytes: int) -> None:
        """Copy memory with the interpreter's lock released."""
        if nbytes < _THREADS_FROM_BYTES:
            ctypes.memmove(target, source, nbytes)
            return
        count = self._pace.choose()
        begin = time.perf_counter()
        _move_with(count, target, source, nbytes)
        self._pace.took(count, (time.perf_counter() - begin) / nbytes)


class Pace:
    """Whether one thread copies faster here, or several: memory may be as fast as one processor, or the others busy."""

    def __init__(self, most: int) -> None:
        """Choose between 1 and ``most``."""
        #: {number of threads: what a byte took, the last times}
        self._lately: dict[int, deque[float]] = {count: deque(maxlen=_TRIES) for count in sorted({1, most})}
        self._round = 0

    def choose(self) -> int:
        """The faster one, mostly; at first, and now and then, the other, so that it is known."""
        self._round += 1
        ranked = sorted(self._lately, key=self._known_cost)
        return ranked[-1] if self._round % _TRY_OTHER_EVERY == 0 else ranked[0]

    def took(self, count: int, cost: float) -> None:
        """Note what a byte took."""
        self._lately[count].append(cost)

    def _known_cost(self, count: int) -> float:
        """The best of the last tries, as a single one may have been disturbed; who was tried too seldom comes first."""
        costs = self._lately[count]
        return min(costs) if len(costs) == _TRIES else len(costs) - _TRIES


def _move_with(count: int, target: int, source: int, nbytes: int) -> None:
    share = -(-nbytes // count) + 63 & ~63
    parts = [(target + at, source + at, min(share, nbytes - at)) for at in range(0, nbytes, share)]
    started = []
    try:
        for part in parts[1:]:
            thread = threading.Thread(target=ctypes.memmove, args=part, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:  # no more threads: copy the rest here
        for part in parts[1 + len(started) :]:
            ctypes.memmove(*part)
    try:
        ctypes.memmove(*parts[0])
    finally:
        for thread in started:
            thread.join()


class _Buffer(ctypes.Structure):
    """``Py_buffer``, part of the stable ABI since 3.11."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


@contextlib.contextmanager
def _address(exporter: Any) -> Iterator[int]:
    """Of the memory of anything that has a contiguous buffer; it stays there inside the block."""
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(exporter), ctypes.byref(buffer), 0)
    try:
        yield buffer.buf or 0
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))


@cache
def array_type(nbytes: int) -> type[ctypes.Array[ctypes.c_ubyte]]:
    """A type of ctypes arrays; making one takes long, so there are to be few of them."""
    return ctypes.c_ubyte * nbytes
