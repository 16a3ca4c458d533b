"""The node's arena: one anonymous file in memory, which the kernel frees when its last process has ended."""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys

from ray.exceptions import RaySystemError

_FALLOC_FL_KEEP_SIZE = 1
_FALLOC_FL_PUNCH_HOLE = 2


def make_arena(capacity_bytes: int) -> int:
    """A descriptor of ``capacity_bytes`` without pages yet; nobody can make it longer or shorter. The caller closes it.

    Raises:
        RaySystemError: this system has no such files, or does not allow one of this size.
    """
    if sys.platform != "linux" or not hasattr(os, "memfd_create"):
        raise RaySystemError(
            f"store='plasma' needs anonymous memory files (memfd), which {sys.platform} does not have; "
            "use store='shm' or store='heap'"
        )
    arena = os.memfd_create("ray-plasma", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(arena, capacity_bytes)
        fcntl.fcntl(arena, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError as error:
        os.close(arena)
        raise RaySystemError(
            f"the system does not give an arena of {capacity_bytes:,} bytes to store='plasma': {error}; "
            "give ray.init(object_store_memory=...) less, or look at 'ulimit -f'"
        ) from error
    return arena


def punch(descriptor: int, offset: int, nbytes: int) -> bool:
    """Give the pages of a part of a file back; it reads as zeros afterwards. False where that cannot be done."""
    if sys.platform != "linux":
        return False
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return bool(fallocate(descriptor, _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE, offset, nbytes) == 0)
