"""What a session consists of, ways to end it, and programs that start one and are ended from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

import ray
from ray.testing import eventually, inside, leaks

#: How each kind of process can be ended.
SIGNALS = [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM]

#: The beginning of a program whose task starts what has neither its group nor its environment, and so ends with nobody.
#: It prints the pids of these and of the node manager.
STARTS_CHILDREN = """
import ray, subprocess, sys, time
ray.init(num_cpus=1)

@ray.remote
def start():
    program = [sys.executable, "-c", "import time; time.sleep(600)"]
    return [subprocess.Popen(program, start_new_session=True, env=env).pid for env in (None, {})]

print([*ray.get(start.remote()), int(ray.nodes()[0]["Pid"])], flush=True)
"""

ROOT = str(Path(__file__).resolve().parents[1])


def node_manager() -> int:
    """Pid of the session's node manager."""
    return int(ray.nodes()[0]["Pid"])


@contextlib.contextmanager
def node_stopped() -> Iterator[None]:
    """Stop the node manager: what is sent to it, and what happens to its workers, it learns at the same time."""
    pid = node_manager()
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def zygote() -> int:
    """Pid of the process that forks workers."""
    return int(inside.ask_node("workers")["zygote_pid"])


def workers() -> list[int]:
    """Pids of all workers, actors included."""
    return list(inside.ask_node("workers")["pids"])


def store_processes() -> list[int]:
    """Pids of the store's own processes; empty where it has none."""
    return list(inside.ask_node("workers")["vital_pids"])


def family() -> list[int]:
    """Pids of the node manager and of everything under it."""
    manager = psutil.Process(node_manager())
    return [manager.pid, *(child.pid for child in manager.children(recursive=True))]


def session_dirs() -> set[str]:
    """Directories of sessions, running or left behind."""
    return leaks._session_dirs()


@contextlib.contextmanager
def program(code: str, *arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run ``code`` in a process of its own, which is killed at the latest on leaving the context.

    It is ended without a word to its session. What it prints can be read from ``stdout``.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def told(process: subprocess.Popen[str]) -> Any:
    """The next line of a program's output, as JSON."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the program ended with {process.wait(10)}"
    return json.loads(line)


def in_program(code: str, *arguments: object, timeout_s: float = 60.0, **options: Any) -> Any:
    """Run ``code`` to its end; returns the last line of its output, as JSON."""
    with program(code, *arguments, **options) as process:
        output, _ = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, f"exit code {process.returncode}: {output}"
    return json.loads(output.splitlines()[-1])


def alive(pid: int) -> bool:
    """Whether the process runs, zombies excepted."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def end(pid: int, number: int) -> None:
    """Signal a process that must exist."""
    os.kill(pid, number)
