"""All processes of the machine, as the leak check looks at them: often, so without asking more than it needs."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass

import psutil

from ray.runtime.process.supervision import read_process, stat_of

_IS_LINUX = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class Listed:
    """A process that was there."""

    parent: int
    start: float
    """When it was started, in whatever unit; with the pid, which is used again, it tells processes apart."""
    is_zombie: bool


def all_processes() -> dict[int, Listed]:
    """``{pid: process}``."""
    if not _IS_LINUX:
        return {
            each.pid: Listed(each.info["ppid"], each.info["create_time"], each.info["status"] == psutil.STATUS_ZOMBIE)
            for each in psutil.process_iter(["ppid", "create_time", "status"])
        }
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = stat_of(int(name))
            if stat:  # else it has just ended
                found[int(name)] = Listed(int(stat[1]), float(stat[19]), stat[0] == b"Z")
    return found


def environment(pid: int) -> dict[str, str]:
    """What a process was started with; empty if it has ended, or is another user's."""
    if not _IS_LINUX:
        with contextlib.suppress(psutil.Error):
            return dict(psutil.Process(pid).environ())
        return {}
    pairs = (text.partition("=") for text in os.fsdecode(read_process(str(pid), "environ")).split("\0"))
    return {name: value for name, found, value in pairs if found}


def command(pid: int) -> str:
    """The command line of a process; empty if it has ended."""
    with contextlib.suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""
