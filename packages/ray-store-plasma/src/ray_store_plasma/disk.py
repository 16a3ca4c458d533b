"""The spill file: unnamed from the start, so that nothing is left of it however its process ends.

Its only user is the thread of a ``Disk``, which does what the server's loop asks for while that one serves others.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
import tempfile
import threading
import traceback
import zlib
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from ray_store_plasma.arena import punch

_CHUNK_BYTES = 1 << 20
#: What ``open`` says where a file system has no unnamed files.
_NOT_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}


def default_folder() -> str:
    """Where large temporary files belong: ``TMPDIR``, else ``/var/tmp``, which is seldom in memory, else any other."""
    if not os.environ.get("TMPDIR") and os.access("/var/tmp", os.W_OK):
        return "/var/tmp"
    return tempfile.gettempdir()


class SpillFile:
    """Copies between an arena and a file of its own. The file is made by the first write, and again after a failure."""

    def __init__(self, folder: str, arena: int) -> None:
        self._folder = folder
        self._arena = arena
        self._file = -1
        #: It takes no room until it is written to: many never spill.
        self._chunk = mmap.mmap(-1, _CHUNK_BYTES)

    def write(self, offset: int, nbytes: int, place: int) -> int:
        """Copy out of the arena; returns the checksum. Raises OSError if the disk does not take it."""
        if self._file < 0:
            self._file = _open_unnamed(self._folder)
        checksum = 0
        for start in range(0, nbytes, _CHUNK_BYTES):
            view = memoryview(self._chunk)[: min(_CHUNK_BYTES, nbytes - start)]
            if os.preadv(self._arena, [view], offset + start) != len(view):
                raise OSError(errno.EIO, "the arena ends too early")
            checksum = zlib.crc32(view, checksum)
            _write_all(self._file, view, place + start)
        return checksum

    def read(self, offset: int, nbytes: int, place: int, checksum: int) -> bool:
        """Copy into the arena; False if that is not what was written."""
        seen = 0
        for start in range(0, nbytes, _CHUNK_BYTES):
            view = memoryview(self._chunk)[: min(_CHUNK_BYTES, nbytes - start)]
            with contextlib.suppress(OSError):
                if os.preadv(self._file, [view], place + start) == len(view):
                    seen = zlib.crc32(view, seen)
                    _write_all(self._arena, view, offset + start)
                    continue
            return False
        return seen == checksum

    def trim(self, place: int, nbytes: int) -> None:
        """Give space back to the disk."""
        if self._file >= 0:
            punch(self._file, place, nbytes)


class Disk:
    """A thread that works off what is asked of a spill file, in order; ``wake`` tells that something is done."""

    def __init__(self, file: SpillFile, wake: Callable[[], None]) -> None:
        self._file = file
        self._wake = wake
        #: Writes that are done: (serial, checksum, or None if the disk did not take it).
        self.written: deque[tuple[int, int | None]] = deque()
        #: Reads that are done: (serial, whether it is what was written).
        self.read: deque[tuple[int, bool]] = deque()
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start_writing(self, serial: int, offset: int, nbytes: int, place: int) -> None:
        """Ask for ``SpillFile.write``."""

        def job() -> None:
            checksum = None
            with contextlib.suppress(OSError):
                checksum = self._file.write(offset, nbytes, place)
            self.written.append((serial, checksum))
            self._wake()

        self._do(job)

    def start_reading(self, serial: int, offset: int, nbytes: int, place: int, checksum: int) -> None:
        """Ask for ``SpillFile.read``."""

        def job() -> None:
            self.read.append((serial, self._file.read(offset, nbytes, place, checksum)))
            self._wake()

        self._do(job)

    def trim(self, place: int, nbytes: int) -> None:
        """Ask for ``SpillFile.trim``; it has no result."""
        self._do(lambda: self._file.trim(place, nbytes))

    def _do(self, job: Callable[[], None]) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="ray-plasma-disk", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads: the others wait for the disk, too
                job()
                return
            self._thread = thread
        self._jobs.put(job)

    def _run(self) -> None:
        try:
            while True:
                self._jobs.get()()
        except BaseException:
            # Requests that wait for the disk would wait for ever: better no server than such a one.
            traceback.print_exc()
            os._exit(1)


def _open_unnamed(folder: str) -> int:
    flags = os.O_RDWR | os.O_EXCL | os.O_CLOEXEC
    if hasattr(os, "O_TMPFILE"):
        try:
            return os.open(folder, flags | os.O_TMPFILE, 0o600)
        except OSError as error:
            if error.errno not in _NOT_UNNAMED:
                raise
    path = os.path.join(folder, f"ray-plasma-{secrets.token_hex(16)}")
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    os.unlink(path)
    return descriptor


def _write_all(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
