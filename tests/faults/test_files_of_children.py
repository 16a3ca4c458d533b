"""Tasks and actors that use ``multiprocessing`` leave no files behind, however their workers, and the session, end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

PROGRAM = """
import multiprocessing, os, signal, sys, time
import ray

@ray.remote(num_cpus=0)
def pool(how):
    with multiprocessing.get_context(how).Pool(2) as pool:
        return pool.map(abs, [1, -2])

@ray.remote(num_cpus=0)
class Actor:
    def manage(self, how):
        self.manager = multiprocessing.get_context(how).Manager()
        self.values = self.manager.dict(a=1)
        return os.getpid()

    def leave(self):
        ray.exit_actor()

    def value(self):
        return self.values["a"]

ray.init(num_cpus=2)
end = sys.argv[1]
ways = ("forkserver", "fork")
assert ray.get([pool.remote(how) for how in ways], timeout=50) == [[1, 2]] * 2
actors = [Actor.remote() for _ in ways]
pids = ray.get([actor.manage.remote(how) for actor, how in zip(actors, ways)], timeout=50)
assert ray.get([actor.value.remote() for actor in actors], timeout=50) == [1, 1]
if end == "order":
    for actor in actors:
        try:
            ray.get(actor.leave.remote(), timeout=30)
        except ray.exceptions.RayActorError:
            pass
elif end == "kill":
    for actor in actors:
        ray.kill(actor)
print("ready", flush=True)
if end == "driver":
    os.kill(os.getpid(), signal.SIGKILL)
if end == "node":
    os.kill(ray.nodes()[0]["Pid"], signal.SIGKILL)
ray.shutdown()
"""


def temporary(folder: str) -> list[str]:
    """Names of what ``multiprocessing`` has left."""
    names = [path.name for path in Path(folder).rglob("*")]
    return [name for name in names if name.startswith(("pymp", "listener", "sock"))]


SLOW = [pytest.param(end, marks=pytest.mark.slow) for end in ("order", "kill", "node")]


@pytest.mark.parametrize("end", ["session", "driver", *SLOW])
def test_nothing_stays_in_the_folder_for_temporary_files(end):
    with tempfile.TemporaryDirectory(prefix="mp") as folder:  # a short name, as those of sockets must be
        program = subprocess.run(
            [sys.executable, "-c", PROGRAM, end],
            capture_output=True,
            text=True,
            timeout=55,
            check=False,
            env={**os.environ, "TMPDIR": folder},
        )
        assert program.stdout == "ready\n", program.stderr[-3000:]
        assert program.returncode == (-signal.SIGKILL if end == "driver" else 0), program.stderr[-3000:]
        limit = time.monotonic() + 20
        while (left := temporary(folder)) and time.monotonic() < limit:
            time.sleep(0.05)
        assert left == []
