"""Workers that go on without their main thread: calls of C can end that alone, and the system tells of no death."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from ray.runtime.process.supervision import stat_of

#: What the report of their end says.
HEADLESS = "its main thread was ended without the process, as exit(2) and pthread_exit() do where C calls them"


class Headless:
    """Finds them. In a process that ends in order the main thread is the first to be gone too, but not for long."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def look(self, pids: Iterable[int]) -> list[int]:
        """Those of these children that have no main thread, and had none at the last look."""
        before = self._seen
        self._seen = {pid for pid in pids if _lacks_main_thread(pid)}
        return sorted(self._seen & before)


def _lacks_main_thread(pid: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        return stat_of(pid)[:1] == [b"Z"] and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except OSError:
        return False
