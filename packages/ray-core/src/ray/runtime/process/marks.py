"""Marks by which the processes of a session and of each of its jobs are known, whatever environment they have.

A mark is a resource limit that concerns none of them: of the time that a process with real-time priority may compute.
It stands for thousands of years, and every process has that of its parent.
"""

from __future__ import annotations

import contextlib
import os
import signal

from ray.runtime.process.group_ends import children, is_tracker
from ray.runtime.process.supervision import read_process

_SWEEPS = 5
_LEAST_MARK = 1 << 61
#: A mark is a part of the session's name, and the number of the job, as far as there is room for it.
_JOB_BITS = 16
_LIMIT = b"Max realtime timeout"


def mark_process(session: str, job: str = "") -> None:
    """Have this process, and all that it comes to start, carry a session and a job; without one, the session alone."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # other systems, or a limit that was set
        import resource

        hard = resource.getrlimit(resource.RLIMIT_RTTIME)[1]
        resource.setrlimit(resource.RLIMIT_RTTIME, (_mark(session, job), hard))


def _mark(session: str, job: str = "") -> int:
    return _LEAST_MARK | int(session, 16) << _JOB_BITS & _LEAST_MARK - 1 | _number(job)


def _number(job: str) -> int:
    """Of a job: never 0, which stands for none. Two jobs of a node that has had very many may have the same."""
    return 1 + int(job, 16) % ((1 << _JOB_BITS) - 1) if job else 0


def _mark_of(process: str) -> int:
    """The mark that a process carries, or 0."""
    _, found, rest = read_process(process, "limits").partition(_LIMIT)
    soft = rest.split(None, 1)[0] if found else b""
    return int(soft) if soft.isdigit() else 0


def kill_marked(session: str, spared: int = 0) -> list[int]:
    """Kill what a node manager that was itself killed has left: all that carry its session, but ``spared``.

    Returns:
        The resource trackers among these, which are not killed: see ``group_ends``.
    """
    wanted = _mark(session) >> _JOB_BITS
    trackers: list[int] = []
    for _ in range(_SWEEPS):  # what is forked meanwhile is found the next time
        found = False
        trackers.clear()
        for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
            if name.isdigit() and int(name) not in (os.getpid(), spared) and _mark_of(name) >> _JOB_BITS == wanted:
                if is_tracker(int(name)):
                    trackers.append(int(name))
                    continue
                with contextlib.suppress(OSError):
                    os.kill(int(name), signal.SIGKILL)
                    found = True
        if not found:
            break
    return trackers


def orphans_of(session: str, job: str) -> list[int]:
    """Children of this process, a subreaper, that workers of the job have left."""
    wanted = _mark(session, job)
    return [pid for pid in children() if _mark_of(str(pid)) == wanted]
