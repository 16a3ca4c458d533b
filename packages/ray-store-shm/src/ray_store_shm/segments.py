"""Memory without a name that processes pass to each other as a descriptor.

On Linux a memory file: sealed, no process can change it any more, whatever descriptor or mapping it makes.
Elsewhere a POSIX segment that loses its name at once; what others get is a descriptor for reading only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import itertools
import mmap
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from ray import copying
from ray.clock import wall_time

# Of <linux/fcntl.h>; Python does not name all of them before 3.13.
_F_ADD_SEALS, _F_GET_SEALS = 1033, 1034
_SEAL_SEAL, _SEAL_SHRINK, _SEAL_GROW, _SEAL_FUTURE_WRITE = 1, 2, 4, 16
SEALS = _SEAL_SEAL | _SEAL_SHRINK | _SEAL_GROW | _SEAL_FUTURE_WRITE
#: The kernel takes at most so many buffers at a time, and so many bytes.
_MAX_BUFFERS = 1024
#: Where Linux shows the names of segments, and the age from which on a name is not in use, whichever process made it.
_NAMES = "/dev/shm"
_STALE_S = 60

Piece = bytes | memoryview


class Segments(ABC):
    """One way to get memory that can be passed on."""

    #: Whether a mapping for writing that exists at ``seal`` can be written through for ever.
    reusable = False

    @abstractmethod
    def make(self, nbytes: int) -> int:
        """A new segment, for writing; returns its descriptor, which the caller owns.

        Raises:
            OSError: there are no descriptors, or there is no memory.
        """

    def write(self, fd: int, pieces: Sequence[Piece]) -> int:
        """Write pieces one after the other, from the start; returns how many bytes they are together."""
        return write(fd, pieces)

    @abstractmethod
    def seal(self, fd: int) -> int:
        """End all writing; returns the descriptor to pass on, in place of ``fd``, which may be closed.

        The caller has unmapped what it has mapped for writing, or keeps it to itself.
        """

    @abstractmethod
    def discard(self, fd: int) -> None:
        """Undo ``make``."""

    @abstractmethod
    def check(self, fd: int, nbytes: int) -> bool:
        """Whether a descriptor that came from another process is a sealed segment of this size."""


class MemoryFiles(Segments):
    """``memfd_create`` and file seals (Linux 5.1)."""

    reusable = True

    @classmethod
    def work_here(cls) -> bool:
        """Whether this system has them, and lets this process use them."""
        kind = cls()
        try:
            os.close(kind.seal(kind.make(1)))
        except AttributeError:  # of another system
            return False
        except OSError as error:  # an older kernel, or a sandbox; but nothing is wrong with them if descriptors are out
            return error.errno in (errno.EMFILE, errno.ENFILE)
        return True

    def make(self, nbytes: int) -> int:
        fd = os.memfd_create("ray-object", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        return _sized(fd, nbytes)

    def seal(self, fd: int) -> int:
        try:
            fcntl.fcntl(fd, _F_ADD_SEALS, SEALS)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def discard(self, fd: int) -> None:
        os.close(fd)

    def check(self, fd: int, nbytes: int) -> bool:
        try:
            return fcntl.fcntl(fd, _F_GET_SEALS) & SEALS == SEALS and os.fstat(fd).st_size == max(1, nbytes)
        except OSError:  # no memory file
            return False


class NamedSegments(Segments):
    """``shm_open``: a name for as long as it takes to open it twice."""

    _numbers = itertools.count(1)

    def __init__(self, prefix: str = "/ray", *, takes_writes: bool = sys.platform == "linux") -> None:
        """Nothing is made yet.

        Args:
            prefix: of the names.
            takes_writes: whether this system writes to segments; others only map them.
        """
        self._prefix = prefix
        self._takes_writes = takes_writes
        #: {descriptor for writing: the same for reading}
        self._readers: dict[int, int] = {}

    def make(self, nbytes: int) -> int:
        import _posixshmem

        while True:
            name = f"{self._prefix}-{os.getpid()}-{next(self._numbers)}"
            try:
                fd: int = _posixshmem.shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                break
            except FileExistsError:  # a process that had this number has left it, where names cannot be swept
                continue
        try:
            reader = _posixshmem.shm_open(name, os.O_RDONLY, 0o600)
        except BaseException:
            os.close(fd)
            raise
        finally:
            _posixshmem.shm_unlink(name)
        try:
            _sized(fd, nbytes)
        except BaseException:
            os.close(reader)
            raise
        self._readers[fd] = reader
        return fd

    def write(self, fd: int, pieces: Sequence[Piece]) -> int:
        return write(fd, pieces) if self._takes_writes else _write_mapped(fd, pieces)

    def seal(self, fd: int) -> int:
        reader: int = self._readers.pop(fd)
        os.close(fd)
        return reader

    def discard(self, fd: int) -> None:
        os.close(self.seal(fd))

    def check(self, fd: int, nbytes: int) -> bool:
        try:
            writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
            return not writable and os.fstat(fd).st_size >= max(1, nbytes)
        except OSError:
            return False

    def sweep(self) -> None:
        """Remove names that processes left which died between two calls; only where names can be listed.

        That another process may have its number by now does not matter for long: names are made for microseconds.
        """
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = os.listdir(_NAMES)
        for name in names:
            start, _, rest = f"/{name}".rpartition(self._prefix + "-")
            pid = rest.partition("-")[0]
            if not start and pid.isdigit():
                path = f"{_NAMES}/{name}"
                with contextlib.suppress(OSError):  # another sweep was quicker, or it belongs to another user
                    if not _lives(int(pid)) or wall_time() - os.stat(path).st_mtime > _STALE_S:
                        os.unlink(path)


@functools.cache
def of_this_system() -> Segments:
    """The best that there is here; the same in every process of the machine."""
    return MemoryFiles() if MemoryFiles.work_here() else NamedSegments()


def write(fd: int, pieces: Sequence[Piece]) -> int:
    """Write pieces one after the other, from the start; returns how many bytes that were.

    A segment's pages are fresh: the kernel fills them nearly twice as fast on a write as on the faults of a mapping.
    """
    buffers: list[Piece] = [piece for piece in pieces if len(piece)]
    first = position = 0
    while first < len(buffers):
        written = os.pwritev(fd, buffers[first : first + _MAX_BUFFERS], position)
        position += written
        while first < len(buffers) and written >= len(buffers[first]):
            written -= len(buffers[first])
            first += 1
        if written:
            buffers[first] = memoryview(buffers[first])[written:]
    return position


def _write_mapped(fd: int, pieces: Sequence[Piece]) -> int:
    total = sum(map(len, pieces))
    if 0 < total <= os.fstat(fd).st_size:
        with map_for_writing(fd, total) as memory:
            position = 0
            for piece in pieces:
                memory[position : position + len(piece)] = piece
                position += len(piece)
    return total


def map_for_writing(fd: int, nbytes: int) -> mmap.mmap:
    """All of a segment, writable, in this process only.

    Seals do not end mappings that exist: a forked child that inherited this one could write into the sealed object.
    """
    memory = mmap.mmap(fd, max(1, nbytes))
    if hasattr(mmap, "MADV_DONTFORK"):
        memory.madvise(mmap.MADV_DONTFORK)
    return memory


def map_to_keep(fd: int, nbytes: int) -> mmap.mmap:
    """All of a segment that is not sealed yet: protected, but so that ``protect`` can make it writable later."""
    memory = _map(fd, nbytes, mmap.PROT_READ | mmap.PROT_WRITE)
    protect(memory, writable=False)
    return memory


def protect(memory: mmap.mmap, *, writable: bool) -> None:
    """Let a mapping be written, or not; a process that writes all the same ends with a signal.

    Raises:
        OSError: the system does not let it.
    """
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    with copying.Address(memory) as start:
        if _libc().mprotect(ctypes.c_void_p(start), ctypes.c_size_t(len(memory)), protection):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def protecting(memory: mmap.mmap) -> tuple[ctypes.c_void_p, ctypes.c_size_t, int]:
    """What to call ``mprotect`` with, as long as the mapping is there, so that it cannot be written any more."""
    with copying.Address(memory) as start:
        return ctypes.c_void_p(start), ctypes.c_size_t(len(memory)), mmap.PROT_READ


#: The call itself, during which nothing else runs in the interpreter; returns 0 if it succeeds.
mprotect: Callable[[ctypes.c_void_p, ctypes.c_size_t, int], int] = ctypes.PyDLL(None).mprotect


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def map_for_reading(fd: int, nbytes: int) -> mmap.mmap:
    """All of a segment, read-only; unmapped when the last view of it has gone."""
    return _map(fd, nbytes, mmap.PROT_READ)


def _map(fd: int, nbytes: int, protection: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):  # before, each mapping keeps a descriptor of its own
        return mmap.mmap(fd, max(1, nbytes), flags=mmap.MAP_SHARED, prot=protection, trackfd=False)
    return mmap.mmap(fd, max(1, nbytes), flags=mmap.MAP_SHARED, prot=protection)


def _sized(fd: int, nbytes: int) -> int:
    try:
        os.ftruncate(fd, max(1, nbytes))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True
