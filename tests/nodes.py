"""A node that no driver owns, seen from outside, and programs that join it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from ray.runtime.driver.launch import StartedNode
from ray.runtime.driver.observer import SessionObserver
from ray.runtime.process.session_dirs import session_in

LIMIT_S = 50
_BEGINNING = """
import os, sys, time
import ray
ray.init(address={address!r})

def told():
    return sys.stdin.readline().strip()
"""


class Node:
    """One that runs, seen from outside."""

    def __init__(self, started: StartedNode) -> None:
        self.started = started
        self.address = started.address
        self.session_dir = started.session_dir

    def ask(self, question: str) -> Any:
        """The answer of the node manager."""
        with contextlib.closing(SessionObserver(self.session_dir, session_in(self.session_dir))) as observer:
            return observer.ask(question)

    def workers(self) -> list[int]:
        """Pids of all workers."""
        return list(self.ask("workers")["pids"])

    def is_free(self) -> bool:
        """Whether nothing is granted."""
        return bool(self.ask("resources") == self.ask("available"))

    def start(self, program: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program that joins this node first."""
        text = _BEGINNING.format(address=self.address) + textwrap.dedent(program)
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen([sys.executable, "-c", text], text=True, **{**pipes, **options})

    def run(self, program: str, **options: Any) -> tuple[list[str], str]:
        """Run such a program to its end; returns the lines that it prints itself, and all of its stderr."""
        process = self.start(program, **options)
        out, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
        return out.splitlines(), err


def line(program: subprocess.Popen[str]) -> str:
    """What a program prints next."""
    assert program.stdout is not None
    text = program.stdout.readline()
    assert text, program.communicate(timeout=LIMIT_S)[1]
    return text.strip()


def tell(program: subprocess.Popen[str], text: str = "go") -> None:
    """Let a program that waits go on."""
    assert program.stdin is not None
    program.stdin.write(text + "\n")
    program.stdin.flush()


def write_module(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)
