"""What the processes of a session cost, read from ``/proc`` (Linux only, no dependency)."""

from __future__ import annotations

import os
import pathlib
from collections import defaultdict

PROC = pathlib.Path("/proc")


def session() -> list[int]:
    """This process and all its descendants."""
    return descendants([os.getpid()])


def descendants(pids: list[int]) -> list[int]:
    """These processes and all their descendants, each once."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children[parent].append(int(entry.name))
    found = dict.fromkeys(pids)
    queue = [*found]
    for pid in queue:
        queue += [child for child in children[pid] if child not in found]
        found.update(dict.fromkeys(children[pid]))
    return [*found]


def with_environment(variable: str, value: str) -> list[int]:
    """All processes that were started with that variable, or are children of one."""
    wanted = f"{variable}={value}".encode()
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if wanted in environment.split(b"\0"):
                found.append(int(entry.name))
    return descendants(found)


def name(pid: int) -> str:
    """As ``ps`` shows it; empty if there is no such process."""
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""


def _rollup(pid: int, *fields: str) -> int:
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.split(":")[0] in fields)


def pss(pids: list[int]) -> int:
    """Proportional set size in bytes: shared pages are divided among the processes that map them."""
    return sum(_rollup(pid, "Pss") for pid in pids)


def private(pid: int) -> int:
    """Bytes that only this process holds: what one more of its kind costs."""
    return _rollup(pid, "Private_Clean", "Private_Dirty")


def resident(pid: int, peak: bool = False) -> int:
    """Resident bytes now, or the most since `reset_peak`."""
    field = "VmHWM" if peak else "VmRSS"
    lines = (PROC / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def reset_peak(pid: int) -> None:
    """Start the peak of `resident` anew."""
    (PROC / str(pid) / "clear_refs").write_text("5")


def cpu_seconds(pids: list[int]) -> float:
    """Processor time used so far by all threads, to the nanosecond (the tick of ``stat`` is too coarse for idling)."""
    total = 0
    for pid in pids:
        for task in (PROC / str(pid) / "task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except (OSError, IndexError):
                continue
    return total / 1e9
