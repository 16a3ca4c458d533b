"""How many descriptors this process may have open, and has."""

from __future__ import annotations

import contextlib
import errno
import os

from ray.exceptions import RaySystemError

_UNLIMITED = 1 << 30
_EXHAUSTED = (errno.EMFILE, errno.ENFILE)


def limit() -> int:
    """How many it may have."""
    try:
        import resource
    except ImportError:  # not on this system
        return _UNLIMITED
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _UNLIMITED if soft == resource.RLIM_INFINITY else soft


def raise_limit() -> bool:
    """Let it have as many as it may allow itself; False if it has so already."""
    before = limit()
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return limit() > before


def in_use() -> int:
    """How many are open; 0 where the system does not tell."""
    for folder in ("/dev/fd", "/proc/self/fd"):
        with contextlib.suppress(OSError):
            return len(os.listdir(folder)) - 1  # without that of the folder
    return 0


def secure(count: int, whose: str) -> None:
    """See that this process can open ``count`` more; raises its limit if it has to.

    Raises:
        RaySystemError: it cannot.
    """
    free = limit() - in_use()
    if free < count and raise_limit():
        free = limit() - in_use()
    if free < count:
        raise RaySystemError(f"{whose} needs to open {count} files, of which it can open {max(0, free)}: {describe()}")


def is_exhausted(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says that there is no descriptor for one more."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            return True
        error = error.__cause__
    return False


def describe() -> str:
    """The limit, and what to do about it, for messages."""
    return f"this machine lets a process have {limit()} files open; raise the limit (ulimit -n)"
