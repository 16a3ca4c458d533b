"""Units at the public edge: inside, every duration is ``timeout_s: float | None`` and every size ``nbytes: int``."""

from __future__ import annotations

import datetime
import logging
import math
import sys

_log = logging.getLogger("ray")
_hinted = False

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def counted(count: int, noun: str) -> str:
    """``1 object``, ``2 objects``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def seconds_from_milliseconds(timeout: int | float | datetime.timedelta | None) -> float | None:
    """Convert the ``timeout`` of ``ray.wait`` to seconds.

    Args:
        timeout: milliseconds, a timedelta, or None for no limit. A float, or an int from 1 to 99, logs one hint per
            process that names the unit, because later releases of the original system used seconds.

    Raises:
        TypeError: it is none of these.
        ValueError: it is negative, no number, or too large for a float.
    """
    global _hinted
    if timeout is None:
        return None
    if isinstance(timeout, datetime.timedelta):
        seconds = timeout.total_seconds()
    elif isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be milliseconds, a datetime.timedelta or None, not {timeout!r}")
    else:
        try:
            seconds = timeout / 1000.0
        except OverflowError:
            raise ValueError(f"timeout must be below {sys.float_info.max:g}, which is the largest float") from None
    if not seconds >= 0:
        raise ValueError(f"The 'timeout' argument must be nonnegative. Received {timeout!r}")
    suspicious = timeout != math.inf if isinstance(timeout, float) else isinstance(timeout, int) and 0 < timeout < 100
    if suspicious and not _hinted:
        _hinted = True
        _log.warning(
            "wait(timeout=%r) is in milliseconds; pass datetime.timedelta(seconds=...) to say seconds", timeout
        )
    return seconds
