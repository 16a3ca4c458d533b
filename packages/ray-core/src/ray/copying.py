"""Copies of large buffers: with the interpreter's lock released, and in whichever way is the fastest here."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ray.clock import perf_counter

#: Up to here the interpreter copies; larger pieces are copied with its lock released.
_SMALL_BYTES = 256 * 1024
#: From here on the start of a second thread costs less than it saves.
_THREADS_FROM_BYTES = 16 * 1024 * 1024
#: A call of ``memmove`` for less than the second-level cache holds is a string instruction with some C libraries and
#: processors: it does not read the target before it writes. Others have something as good for very large calls only.
_STEP_BYTES = 768 * 1024
_WHOLE = sys.maxsize
#: A step that takes longer has waited for the interpreter's lock.
_LATE_S = 0.001
#: One copy in so many is made in another way than the best, until each has had its chance, and from then on.
_TRY_OTHER_EVERY_FIRST = 4
_TRY_OTHER_EVERY = 16
#: So many times oftener than not it has to take less than this part of the time to be the best from then on.
_WINS = 3
_CLEARLY_FASTER = 0.95


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
                with Address(target[offset : offset + nbytes]) as to, Address(piece) as source:
                    self._move(to, source, nbytes)
            offset += nbytes

    def _move(self, target: int, source: int, nbytes: int) -> None:
        if nbytes < _THREADS_FROM_BYTES:
            ctypes.memmove(target, source, nbytes)
            return
        way = self._pace.choose()
        begin = perf_counter()
        _move_with(way, target, source, nbytes)
        self._pace.took(way, (perf_counter() - begin) / nbytes)


class Way(NamedTuple):
    """How to copy: by so many threads, so much with one call."""

    threads: int
    step_bytes: int


class Pace:
    """Which way to copy is the fastest here.

    One thread may be as fast as the memory, or the other processors busy; and which calls the C library makes the most
    of is its own affair. Only copies made one after the other are compared: what they took at other times says more
    about what else the machine did. One that was disturbed decides nothing.
    """

    def __init__(self, most: int) -> None:
        """Choose between one thread, in steps or not, and ``most`` threads."""
        #: The best one first.
        self._ways = tuple(dict.fromkeys((Way(1, _STEP_BYTES), Way(1, _WHOLE), Way(most, _WHOLE))))
        #: What a byte took the last time in the best way.
        self._best_cost = math.inf
        #: How much oftener than not each of the others was clearly faster than the best one a moment before.
        self._wins = Counter[Way]()
        self._round = 0

    def choose(self) -> Way:
        """The fastest one; now and then, and more often at first, another to compare it with."""
        best, *others = self._ways
        self._round += 1
        is_early = self._round <= _TRY_OTHER_EVERY_FIRST * _WINS * len(others)
        every = _TRY_OTHER_EVERY_FIRST if is_early else _TRY_OTHER_EVERY
        turn, rest = divmod(self._round, every)
        return best if rest else others[turn % len(others)]

    def took(self, way: Way, cost: float) -> None:
        """Note what a byte took."""
        if way == self._ways[0]:
            self._best_cost = cost
        elif cost > self._best_cost * _CLEARLY_FASTER:
            self._wins[way] = max(0, self._wins[way] - 1)
        else:
            self._wins[way] += 1
            if self._wins[way] == _WINS:
                self._ways = (way, *(other for other in self._ways if other != way))
                self._best_cost = cost
                self._wins.clear()


def _move_with(way: Way, target: int, source: int, nbytes: int) -> None:
    share = -(-nbytes // way.threads) + 63 & ~63
    parts = [(target + at, source + at, min(share, nbytes - at), way.step_bytes) for at in range(0, nbytes, share)]
    started = []
    try:
        for part in parts[1:]:
            thread = threading.Thread(target=_move_in_steps, args=part, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:  # no more threads: copy the rest here
        for part in parts[1 + len(started) :]:
            _move_in_steps(*part)
    try:
        _move_in_steps(*parts[0])
    finally:
        for thread in started:
            thread.join()


def _move_in_steps(target: int, source: int, nbytes: int, step_bytes: int) -> None:
    done, last = 0, perf_counter()
    while done < nbytes:
        ctypes.memmove(target + done, source + done, min(step_bytes, nbytes - done))
        done += step_bytes
        now = perf_counter()
        if now - last > _LATE_S:  # another thread computes: after each step it would keep the lock for milliseconds
            step_bytes = nbytes
        last = now


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


_get_buffer, _release_buffer = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release


class Address:
    """Of the memory of anything that has a contiguous buffer; it stays there inside the ``with`` block."""

    __slots__ = ("_buffer", "_exporter")

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter
        self._buffer = _Buffer()

    def __enter__(self) -> int:
        _get_buffer(ctypes.py_object(self._exporter), ctypes.byref(self._buffer), 0)
        return self._buffer.buf or 0

    def __exit__(self, *exc: object) -> None:
        _release_buffer(ctypes.byref(self._buffer))
