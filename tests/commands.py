"""The command ``ray`` and programs, with key files and session directories of their own: as on another machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LIMIT_S = 50


class Machine:
    """Runs commands and programs in an environment of its own; not thread-safe."""

    def __init__(self, home: Path, runtime: Path, prefix: Sequence[str] = ()) -> None:
        """``runtime`` is short: it holds sockets; ``prefix`` goes before each command line."""
        self.prefix = prefix
        self.home = home
        self.runtime = runtime
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
        self.environ |= {"RAY_HOME": str(home), "XDG_RUNTIME_DIR": str(runtime), "TMPDIR": str(runtime)}

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start ``ray`` with these arguments."""
        return self._popen(["-m", "ray", *arguments], **options)

    def ray(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(given, timeout=LIMIT_S)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def done(self, *arguments: str, given: str | None = None) -> str:
        """Run it, which has to succeed; returns what it prints."""
        finished = self.ray(*arguments, given=given)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def refused(self, code: int, *arguments: str, given: str | None = None) -> str:
        """Run it, which has to fail with ``code``; returns what it says, in one paragraph."""
        finished = self.ray(*arguments, given=given)
        assert finished.returncode == code, (finished.stdout, finished.stderr)
        assert "Traceback" not in finished.stderr
        assert finished.stderr.startswith("ray: ")
        return finished.stderr

    def program(self, text: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program that has imported ``ray``."""
        return self._popen(["-c", "import os, sys, time\nimport ray\n" + textwrap.dedent(text)], **options)

    def run(self, text: str) -> list[str]:
        """Run such a program to its end; returns the lines that it prints itself."""
        process = self.program(text)
        out, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, err
        return out.splitlines()

    def _popen(self, arguments: list[str], **options: Any) -> subprocess.Popen[str]:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(
            [*self.prefix, sys.executable, *arguments],
            text=True,
            cwd=self.runtime,
            env=self.environ,
            **{**pipes, **options},
        )

    def key_path(self, name: str = "default") -> Path:
        return self.home / "clusters" / f"{name}.json"

    def key(self, name: str = "default") -> dict[str, Any]:
        """What is in a key file."""
        found: dict[str, Any] = json.loads(self.key_path(name).read_text())
        return found

    def take_key(self, other: Machine, name: str = "default") -> None:
        """Copy the key file of a cluster from another machine, as ``scp`` would."""
        path = self.key_path(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copy(other.key_path(name), path)
        os.chmod(path, 0o600)

    def address(self, name: str = "default") -> str:
        key = self.key(name)
        return f"{key['host']}:{key['port']}"

    def status(self, name: str = "default") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.done("status", "--name", name, "--format", "json"))
        return found

    def names(self) -> list[str]:
        """The clusters of which there are key files."""
        folder = self.home / "clusters"
        return sorted(os.listdir(folder)) if folder.exists() else []

    def pids(self) -> list[int]:
        """Of all that has its session directory there: node managers and keepers."""
        found = []
        for path in self.runtime.glob("ray-*/*/node.pid"):
            with contextlib.suppress(FileNotFoundError, IndexError):  # it goes, or comes, at this moment
                found.append(int(path.read_text().split()[0]))
        return found
