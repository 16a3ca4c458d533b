"""Calls that keep the interpreter of their process to themselves, as a long C call does, until a test lets go."""

from __future__ import annotations

import ctypes
import os
import re
import time
from pathlib import Path

from ray.testing import eventually


class Hold:
    """A pipe in the file system: a process that reads from it holds the interpreter until ``let_go``."""

    def __init__(self, folder: Path, name: str = "hold") -> None:
        self.path = str(folder / name)
        os.mkfifo(self.path)

    def __call__(self) -> int:
        """Keep the interpreter; no other thread of this process runs Python code meanwhile."""
        descriptor = os.open(self.path, os.O_RDWR)
        with open(self.path + ".held", "w") as file:
            file.write(str(os.getpid()))
        os.rename(self.path + ".held", self.path + ".pid")
        ctypes.PyDLL(None).read(descriptor, ctypes.create_string_buffer(1), 1)
        os.close(descriptor)
        return os.getpid()

    def await_held(self, timeout_s: float = 30.0) -> int:
        """Wait until a process holds; returns the pid."""
        held = "nobody has come to hold the interpreter"
        eventually(lambda: os.path.exists(self.path + ".pid"), timeout_s, held)
        return int(Path(self.path + ".pid").read_text())

    def let_go(self) -> None:
        """Let each process go on that holds its interpreter, or comes to hold it."""
        descriptor = os.open(self.path, os.O_RDWR)
        os.write(descriptor, b"x")
        end = time.monotonic() + 30.0
        while not os.path.exists(self.path + ".pid") and time.monotonic() < end:
            time.sleep(0.005)
        os.close(descriptor)


def endless_match() -> object:
    """A C call that keeps the interpreter for hours, and looks at signals."""
    return re.match(r"(a+)+$", "a" * 40 + "b")


def endless_sum() -> int:
    """A C call that keeps the interpreter for hours, and does not look at signals."""
    return sum(range(10**14))
