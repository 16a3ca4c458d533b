"""The ends of process groups: everything in one is killed, and what cleans up after the others comes last.

``multiprocessing``, joblib and others start a process that removes their shared memory, semaphores and folders once
every process that uses them is gone: a resource tracker. It sees that by the end of a pipe, so it outlives them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterable

from ray.clock import monotonic, sleep

#: A resource tracker is killed if it has not ended by itself after this time.
TRACKER_S = 2.0
_LOOK_S = 0.01
#: What all of them are started with: ``from multiprocessing.resource_tracker import main;main(5)``.
_TRACKER = b"resource_tracker import main"
#: Whether this process can find what a process of its own has left. Else a group is killed at once.
_FINDS_ORPHANS = os.path.exists("/proc/thread-self/children")


def is_tracker(pid: int) -> bool:
    """Whether the process runs, and is a resource tracker."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return _TRACKER in file.read()
    except OSError:
        return False


def kill_leader(pid: int) -> None:
    """Kill a child, and have its group stand still until it is ended, by ``end_group`` or one by one."""
    _send(os.killpg, pid, signal.SIGSTOP if _FINDS_ORPHANS else signal.SIGKILL)
    _send(os.kill, pid, signal.SIGKILL)


def end_group(group: int) -> list[int]:
    """Kill what a dead child has left of its group, all but the resource trackers; returns those."""
    if not _send(os.killpg, group, signal.SIGSTOP):  # so that it does not grow
        return []
    members = [int(name) for name in _listed("/proc") if name.isdigit() and _group_of(int(name)) == group]
    trackers = [pid for pid in members if is_tracker(pid)]
    if not trackers:
        _send(os.killpg, group, signal.SIGKILL)
        return []
    for pid in members:
        _send(os.kill, pid, signal.SIGCONT if pid in trackers else signal.SIGKILL)
    return trackers


def kill_trackers(trackers: Iterable[int]) -> None:
    """Kill those that are still there."""
    for pid in trackers:
        if is_tracker(pid):
            _send(os.kill, pid, signal.SIGKILL)


def end_children(trackers_s: float, others_s: float, spared: int = 0) -> bool:
    """Kill and reap every descendant but one, as the subreaper gets them; returns whether all others are gone.

    Args:
        trackers_s: how long resource trackers may take to end by themselves.
        others_s: how long to go on after that.
        spared: a child that is left alone.
    """
    patient = monotonic() + trackers_s
    deadline = patient + others_s
    killed: set[int] = set()
    while (now := monotonic()) < deadline:
        left = [pid for pid in children() if pid != spared]
        for pid in left:
            if pid in killed:
                continue
            if now < patient and is_tracker(pid):
                _send(os.kill, pid, signal.SIGCONT)
            else:
                kill_leader(pid)
                killed.add(pid)
        try:
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                killed.discard(pid)
        except ChildProcessError:
            return True
        if spared and not left:
            return True
        sleep(0.001)
    return False


def await_trackers(trackers: Collection[int]) -> None:
    """Wait for resource trackers that are no children, and kill those that do not end in time."""
    deadline = monotonic() + TRACKER_S
    for pid in trackers:
        _send(os.kill, pid, signal.SIGCONT)
    while any(map(is_tracker, trackers)) and monotonic() < deadline:
        sleep(_LOOK_S)
    kill_trackers(trackers)


def children() -> list[int]:
    """Pids of this process's children; empty where the system does not tell."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _send(kill: Callable[[int, int], None], pid: int, number: int) -> bool:
    """Whether the signal has come to any process."""
    try:
        kill(pid, number)
    except OSError:  # gone, or another user's
        return False
    return True


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
