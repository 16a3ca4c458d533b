"""Copies of large buffers: with the interpreter's lock released, and by several threads where that is faster."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

#: Up to here the interpreter copies; larger pieces are copied with its lock released.
_SMALL_BYTES = 256 * 1024
#: From here on the start of a second thread costs less than it saves.
_THREADS_FROM_BYTES = 16 * 1024 * 1024
#: Each way to copy is tried so often before it is judged, and by so many of its last times.
_TRIES = 3
#: One copy in so many is made in the way that was slower before.
_TRY_OTHER_EVERY = 32


class Copier:
    """Copies into memory that has been written before. Safe from any thread."""

    def __init__(self, threads: int) -> None:
        """Let up to ``threads``, and no more than there are processors, copy a large piece."""
        self._pace = Pace(min(threads, os.cpu_count() or 1))

    def copy(self, target: memoryview, pieces: Sequence[bytes | memoryview]) -> None:
        """Copy ``pieces`` one behind the other to the start of ``target``.

        Args:
            target: a writable view of bytes; at least as long as the pieces together.
            pieces: flat views of bytes.

        Raises:
            ValueError: the pieces are longer than that; nothing is written.
        """
        total = sum(map(len, pieces))
        if total > len(target):
            raise ValueError(f"{total:,} bytes do not go into {len(target):,}")
        offset = 0
        for piece in pieces:
            nbytes = len(piece)
            if nbytes < _SMALL_BYTES:
                target[offset : offset + nbytes] = piece
            else:
                with address(target[offset : offset + nbytes]) as to, address(piece) as source:
                    self._move(to, source, nbytes)
            offset += nbytes

    def _move(self, target: int, source: int, nbytes: int) -> None:
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
def address(exporter: Any) -> Iterator[int]:
    """Of the memory of anything that has a contiguous buffer; it stays there inside the block."""
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(exporter), ctypes.byref(buffer), 0)
    try:
        yield buffer.buf or 0
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
