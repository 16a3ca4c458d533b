"""Processes of one node: prctl, exit statuses, ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from ray.messages.node import ExitCause
from ray.runtime.process.hardware import cgroup_folders

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
#: What the user's code may take for its end: functions of atexit, destructors, threads, child processes.
END_S = 2.0


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process (Linux)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` dies; ends it at once if that has happened already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def outlive_parent() -> None:
    """Undo ``die_with_parent``."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def wake_with_parent() -> None:
    """Have the kernel continue this process, should it be stopped, when the thread that has started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)


def stat_of(pid: int) -> list[bytes]:
    """What Linux tells of a process behind its name: its state, its parent, …; empty if there is none to tell of."""
    return read_process(str(pid), "stat").rpartition(b")")[2].split()


def is_stopped(pid: int) -> bool:
    """Whether the process was stopped by a signal."""
    return stat_of(pid)[:1] == [b"T"]


def exit_cause(pid: int, status: int, reason: str, stderr: list[str], *, oom: bool = False) -> ExitCause:
    """Describe a wait status."""
    if os.WIFSIGNALED(status):
        return ExitCause(None, os.WTERMSIG(status), reason, stderr, pid, oom)
    return ExitCause(os.waitstatus_to_exitcode(status), None, reason, stderr, pid, oom)


def read_process(process: str, what: str) -> bytes:
    """What Linux tells of a process in one of its files; empty if there is none to tell of."""
    try:
        with open(f"/proc/{process}/{what}", "rb") as file:
            return file.read()
    except OSError:
        return b""


class OomWatch:
    """Tells a kill by the kernel's out-of-memory killer from others, by the counter of the cgroup."""

    def __init__(self) -> None:
        self._path = _memory_events()
        self._count = self._read()

    def _read(self) -> int:
        if self._path is None:
            return 0
        with contextlib.suppress(OSError, ValueError), open(self._path) as file:
            for line in file:
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        return 0

    def happened(self) -> bool:
        """Whether the kernel has killed for memory since the last call."""
        before, self._count = self._count, self._read()
        return self._count > before


def _memory_events() -> str | None:
    """The file with the count of kills in this process's own cgroup, of version 2 or 1."""
    for version, folder in cgroup_folders("/", "memory"):
        path = os.path.join(folder, "memory.events" if version == 2 else "memory.oom_control")
        if os.path.exists(path):
            return path
    return None
