"""What a session leaves behind: processes, zombies, threads, descriptors, shared memory and session files.

Take a ``snapshot`` before, call ``assert_clean`` with it after ``ray.shutdown()``. Processes are recognised as ours

- as descendants of this process, dead ones that nobody has reaped included,
- by a mark in their environment, which the first ``snapshot`` sets for everything started later: it also finds what
  has lost its parent,
- by ``RAY_SESSION`` in their environment, for sessions named by the caller.
"""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import psutil

from ray.clock import monotonic, sleep
from ray.runtime.interface import Runtime
from ray.runtime.process.session_dirs import made_elsewhere
from ray.testing.process_list import all_processes, command, environment

SESSION_VARIABLE = "RAY_SESSION"
_MARK_VARIABLE = "RAY_LEAK_CHECK"
_SHM = "/dev/shm"
#: How the names start that stores give, where the system has no memory without names.
_SHM_PREFIX = "ray-"
_FDS = "/dev/fd"
_POLL_S = 0.02
_MAX_POLL_S = 0.2
#: How long ends may take on a machine that has more to run than it has processors. Elsewhere they take 0.1 s.
PATIENCE_S = 10.0

_mark = ""
#: {(pid, time of start): its session} of processes that are not ours, and so never come to be.
_strangers: dict[tuple[int, float], str] = {}


class LeakError(AssertionError):
    """Something is left behind; ``leaks`` lists it, one sentence each."""

    def __init__(self, leaks: list[str], waited_s: float) -> None:
        self.leaks = leaks
        self.waited_s = waited_s
        super().__init__(f"left behind after {waited_s:g} s:\n" + "\n".join(f"  {leak}" for leak in leaks))

    def __reduce__(self) -> tuple[type[LeakError], tuple[list[str], float]]:
        return type(self), (self.leaks, self.waited_s)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was there already, and is not counted later."""

    processes: frozenset[tuple[int, float]]
    """(pid, time of start), since pids are used again."""
    threads: frozenset[int]
    fds: frozenset[tuple[int, str]]
    """(descriptor, what it leads to)."""
    shared_memory: frozenset[str]
    session_dirs: frozenset[str]


def snapshot() -> Snapshot:
    """Note what is there now, and mark this process's environment for its children to come."""
    _set_mark()
    return Snapshot(
        processes=frozenset(_processes(())),
        threads=frozenset(thread.ident or 0 for thread in threading.enumerate()),
        fds=frozenset(_fds()),
        shared_memory=frozenset(_listed(_SHM)),
        session_dirs=frozenset(_session_dirs()),
    )


def leaks(before: Snapshot, sessions: Collection[str] = ()) -> list[str]:
    """What is there now and was not there before, one sentence each; empty if nothing is.

    Args:
        before: the snapshot to compare with.
        sessions: values of ``RAY_SESSION`` whose processes count as ours in any case.
    """
    processes = _processes(sessions)
    found = [text for key, text in processes.items() if key not in before.processes]
    found += [
        f"thread {thread.name!r}{' (daemon)' if thread.daemon else ''}"
        for thread in threading.enumerate()
        if thread.ident not in before.threads
    ]
    found += [f"descriptor {fd}: {target}" for fd, target in sorted(_fds() - before.fds)]
    own = {pid for pid, _ in processes} | {os.getpid()}
    found += [f"shared memory {path}" for path in _shared_memory(_listed(_SHM) - before.shared_memory, own)]
    new = sorted(_session_dirs() - before.session_dirs)
    found += [f"session directory {path}" for path in new if not _belongs_to_others(path, own)]
    return found


def assert_clean(before: Snapshot, timeout_s: float = PATIENCE_S, sessions: Collection[str] = ()) -> None:
    """Wait up to ``timeout_s`` for everything new to be gone.

    Raises:
        LeakError: something is still there.
    """
    found = leaks(before, sessions)
    if found:
        gc.collect()  # cycles may hold descriptors
    end, pause_s = monotonic() + timeout_s, _POLL_S
    while found:
        if monotonic() > end:
            raise LeakError(found, timeout_s)
        sleep(pause_s)
        pause_s = min(2 * pause_s, _MAX_POLL_S)  # a look at all processes costs more than what is waited for
        found = leaks(before, sessions)


def assert_settled(runtime: Runtime, timeout_s: float = PATIENCE_S) -> None:
    """Wait up to ``timeout_s`` for everything granted to be free again: nothing runs, no actor lives.

    Raises:
        LeakError: something is still taken.
    """
    end = monotonic() + timeout_s
    while True:
        total, free = runtime.cluster_resources(), runtime.available_resources()
        taken = [name for name, amount in total.items() if free.get(name, 0.0) != amount]
        if not taken:
            return
        if monotonic() > end:
            raise LeakError([f"{name}: {free.get(name, 0.0):g} of {total[name]:g} free" for name in taken], timeout_s)
        sleep(_POLL_S)


def _set_mark() -> None:
    """Add a mark of this process to whatever an outer check has set."""
    global _mark
    mark = f"{os.getpid()}-{psutil.Process().create_time():.2f}"
    if _mark != mark:  # the first time, or in a forked child
        _mark = mark
        _strangers.clear()
        os.environ[_MARK_VARIABLE] = f"{os.environ.get(_MARK_VARIABLE, '')} {mark}".strip()


def _processes(sessions: Collection[str]) -> dict[tuple[int, float], str]:
    """Processes that are ours, without this one: ``{(pid, time of start): description}``."""
    own, listed = os.getpid(), all_processes()
    parents = {pid: process.parent for pid, process in listed.items()}
    ours: dict[tuple[int, float], str] = {}
    for pid, process in listed.items():
        key = pid, process.start
        is_descendant = own in _ancestors(pid, parents)
        known = _strangers.get(key)
        if known is None:
            environ = environment(pid)
            marked = _mark in environ.get(_MARK_VARIABLE, "").split()
            known = environ.get(SESSION_VARIABLE, "")
            if environ and not (marked or is_descendant):  # it has none in the middle of its start
                _strangers[key] = known
        else:
            marked = False
        if pid != own and (marked or known in sessions or is_descendant):
            kind = "zombie" if process.is_zombie else "process"
            of_session = f" of session {known}" if known else ""
            ours[key] = f"{kind} {pid}{of_session}, child of {process.parent}: {command(pid)[:200]}"
    for key in _strangers.keys() - {(pid, process.start) for pid, process in listed.items()}:
        _strangers.pop(key, None)
    return ours


def _ancestors(pid: int, parents: dict[int, int]) -> Iterable[int]:
    seen = {pid}
    while (pid := parents.get(pid, 0)) not in seen and pid:
        seen.add(pid)
        yield pid


def _fds() -> set[tuple[int, str]]:
    found = set()
    for name in _listed(_FDS):
        with contextlib.suppress(OSError):  # the one that was open for listing is closed again
            found.add((int(name), os.readlink(f"{_FDS}/{name}")))
    return found


def _listed(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _session_dirs() -> set[str]:
    bases = {os.environ.get("XDG_RUNTIME_DIR", ""), os.environ.get("TMPDIR", ""), tempfile.gettempdir(), "/tmp"}
    roots = [os.path.join(base, f"ray-{os.geteuid()}") for base in bases if base]
    return {os.path.join(root, name) for root in roots for name in _listed(root)}


def _shared_memory(names: Collection[str], own: Collection[int]) -> list[str]:
    """Those of the new files that are ours. Nothing else tells which program has made a file that no process holds:

    - what one of our processes has mapped or open,
    - what bears the name that stores give, if no other process holds it.
    """
    if not names:
        return []
    held = _held(own)
    paths = {f"{_SHM}/{name}": name.startswith(_SHM_PREFIX) for name in sorted(names)}
    by_name = {path for path, is_named in paths.items() if is_named and path not in held}
    if by_name:
        by_name -= _held(set(psutil.pids()).difference(own))
    return [path for path in paths if path in held or path in by_name]


def _held(pids: Collection[int]) -> set[str]:
    """The files that processes have mapped or open."""
    paths = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error, OSError):  # it has ended, or is another user's
            process = psutil.Process(pid)
            paths |= {file.path for file in (*process.memory_maps(), *process.open_files())}
    return paths


def _belongs_to_others(session_dir: str, own: Collection[int]) -> bool:
    """Whether the process with which that session ends is alive, or in another container, and none of ours."""
    if made_elsewhere(session_dir):
        return True
    try:
        with open(os.path.join(session_dir, "owner.pid")) as file:
            pid = int(file.read().split()[0])
    except (OSError, ValueError, IndexError):
        return False
    return pid not in own and psutil.pid_exists(pid)
