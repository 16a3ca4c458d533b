"""Clusters for ``cluster.py``: nodes that are started and stopped by commands, as a user would."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time

import processes

from ray.builtin.redis_control.plain_link import RedisLink
from ray.runtime.cluster.control_server import open_link
from ray.runtime.cluster.key_file import read_key_file
from ray.runtime.cluster.local_clusters import LocalNode, local_clusters
from ray.runtime.driver.observer import SessionObserver

NAME = f"bench-{os.getpid()}"
LIMIT_S = 60.0


class Nodes:
    """Clusters of this program, one at a time, with key files and sessions in a folder of their own."""

    def __init__(self, folder: str, transport: str) -> None:
        self.folder = folder
        self.environ = os.environ | {"RAY_TRANSPORT": transport, "RAY_SAME_HOST": "0"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "ray", *arguments]
        return subprocess.Popen(command, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def ray(self, *arguments: str) -> float:
        """Run a command; returns the seconds that it takes."""
        start = time.perf_counter()
        self.ended(self.start(*arguments))
        return time.perf_counter() - start

    def ended(self, command: subprocess.Popen[str]) -> None:
        said, _ = command.communicate(timeout=LIMIT_S)
        if command.returncode:
            raise RuntimeError(said.strip())

    def head(self, *arguments: str) -> float:
        return self.ray("start", "--head", "--name", NAME, *arguments)

    def join(self, *arguments: str) -> float:
        start = time.perf_counter()
        self.ended(self.begin_join(*arguments))
        return time.perf_counter() - start

    def begin_join(self, *arguments: str) -> subprocess.Popen[str]:
        return self.start("start", "--address", NAME, *arguments)

    def stop(self) -> None:
        if self.nodes():
            self.ray("stop", "--name", NAME)

    def nodes(self) -> list[LocalNode]:
        """The oldest first."""
        return [node for cluster in local_clusters().values() if cluster.name == NAME for node in cluster.nodes]

    def address(self) -> str:
        return next(cluster.address for cluster in local_clusters().values() if cluster.name == NAME)

    def control(self) -> RedisLink:
        return open_link(read_key_file(self._key_file(self.folder)), LIMIT_S)

    def elsewhere(self) -> dict[str, str]:
        """The environment of a program that has the key file and finds no node: as on another machine."""
        folder = os.path.join(self.folder, "elsewhere")
        copy = self._key_file(folder)
        os.makedirs(os.path.dirname(copy), mode=0o700, exist_ok=True)
        shutil.copy(self._key_file(self.folder), copy)
        return self.environ | {"XDG_RUNTIME_DIR": folder, "RAY_HOME": os.path.join(folder, "home")}

    @staticmethod
    def _key_file(folder: str) -> str:
        return os.path.join(folder, "home", "clusters", f"{NAME}.json")

    def await_all(self, count: int) -> None:
        """Wait until each node knows of so many that are alive."""
        end = time.perf_counter() + LIMIT_S
        waiting = [SessionObserver(node.session_dir, node.facts) for node in self.nodes()]
        with contextlib.ExitStack() as closing:
            for observer in waiting:
                closing.enter_context(contextlib.closing(observer))
            while waiting := [each for each in waiting if sum(row["Alive"] for row in each.ask("nodes")) < count]:
                if time.perf_counter() > end:
                    raise TimeoutError(f"{len(waiting)} nodes do not know of all")
                time.sleep(0.001)

    def pids(self) -> dict[int, str]:
        """{pid: name} of all their processes."""
        found = processes.with_environment("RAY_HOME", self.environ["RAY_HOME"])
        return {pid: processes.name(pid) for pid in found if pid != os.getpid()}
