"""What a run of tests has left that was killed: its clusters live on, and the next run ends them.

What a run starts has the run's mark in its environment, however far it is from the run by then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ray.testing.process_list import all_processes, environment

VARIABLE = "RAY_TEST_RUN"
_LIMIT_S = 5.0
_PAUSE_S = 0.02


def begin() -> None:
    """End what killed runs have left, and mark what this one starts. A pytest that a test starts belongs to its run."""
    if VARIABLE not in os.environ:
        end_left()
        own = os.getpid()
        os.environ[VARIABLE] = f"{own}-{all_processes()[own].start}"


def end_left() -> None:
    """Kill it."""
    end = time.monotonic() + _LIMIT_S
    while (pids := left()) and time.monotonic() < end:  # a keeper may just have started another node manager
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_S)


def left() -> list[int]:
    """Processes of this user that have the mark of a run which is no more."""
    listed = all_processes()
    runs = {f"{pid}-{process.start}" for pid, process in listed.items() if not process.is_zombie}
    found = []
    for pid, process in listed.items():
        if not process.is_zombie and _is_comparable(pid):
            run = environment(pid).get(VARIABLE)
            if run is not None and run not in runs:
                found.append(pid)
    return found


def _is_comparable(pid: int) -> bool:
    """Whether it is this user's, and was told of its run by a pid that means the same here: not in a container."""
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return False
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    except OSError:  # it has ended; or there is no such thing on this system
        return False
