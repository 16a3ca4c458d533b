"""``multiprocessing.Pool`` over the processes of a session, on all its nodes.

``from ray.util.multiprocessing import Pool`` stands where ``from multiprocessing import Pool`` did.
"""

from __future__ import annotations

import os
from multiprocessing import TimeoutError
from typing import Any

from ray.api.inspection import cluster_resources
from ray.runtime import interface
from ray.util.multiprocessing.async_result import AsyncResult
from ray.util.multiprocessing.imap_iterator import IMapIterator
from ray.util.multiprocessing.pool import Pool

__all__ = ["AsyncResult", "IMapIterator", "Pool", "TimeoutError", "cpu_count"]


def cpu_count() -> int:
    """How many processors the session has; without one, this machine."""
    if interface.current() is None:
        return os.cpu_count() or 1
    return max(1, int(cluster_resources().get("CPU", 0.0)))


def __getattr__(name: str) -> Any:
    """Names of ``multiprocessing`` that are not here say so."""
    import multiprocessing

    if not name.startswith("_") and hasattr(multiprocessing, name):
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}: of multiprocessing it has Pool, AsyncResult, TimeoutError "
            f"and cpu_count. Import {name} from multiprocessing; such objects do not reach other nodes."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
