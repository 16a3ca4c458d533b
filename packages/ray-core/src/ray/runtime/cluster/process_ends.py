"""Ends of processes that are no children of this one: never of another one that has got the number of one of them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable
from typing import NamedTuple

from ray.clock import monotonic
from ray.runtime.process.session_dirs import GONE, start_time

#: What processes are given to end by themselves.
GRACE_S = 5.0
_KILLED_S = 5.0


class Process(NamedTuple):
    """One process. A number is given again, but not with the same time of start."""

    pid: int
    started: str
    """As ``session_dirs.start_time`` tells it."""

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.started not in ("", GONE) and start_time(self.pid) == self.started


def end_processes(wanted: Iterable[Process], grace_s: float = GRACE_S) -> list[Process]:
    """End them: SIGTERM to one after the other, and SIGKILL to those that are there after ``grace_s``.

    Returns:
        Those that were killed.
    """
    handles: dict[int, Process] = {}
    killed: list[Process] = []
    try:
        for process in wanted:
            with contextlib.suppress(OSError):  # it has ended
                handle = os.pidfd_open(process.pid)
                handles[handle] = process
                if process.is_alive:  # asked now that the number cannot be given again
                    signal.pidfd_send_signal(handle, signal.SIGTERM)
        _await(handles, grace_s)
        for handle, process in handles.items():
            if process.is_alive:
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    killed.append(process)
        _await(handles, _KILLED_S)
    finally:
        for handle in handles:
            os.close(handle)
    return killed


def _await(handles: dict[int, Process], limit_s: float) -> None:
    end = monotonic() + limit_s
    poll = select.poll()
    left = {handle for handle, process in handles.items() if process.is_alive}
    for handle in left:
        poll.register(handle, select.POLLIN)
    while left and (left_s := end - monotonic()) > 0:
        for handle, _ in poll.poll(left_s * 1000):
            poll.unregister(handle)
            left.discard(handle)
