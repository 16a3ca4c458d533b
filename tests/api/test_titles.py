"""What ``ps`` and ``top`` call the processes of a session."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import ray
from ray.testing import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
LIMIT_S = 30.0


def name_of(pid: int) -> str:
    return Path("/proc", str(pid), "comm").read_text().strip()


def until(pid: int, name: str) -> None:
    eventually(lambda: name_of(pid) == name, LIMIT_S, f"{pid} is not {name}")


def wait_for(path: str) -> int:
    """What the tasks do: run until the file is there."""
    end = time.monotonic() + LIMIT_S
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.01)
    return os.getpid()


@ray.remote
def crunch(path):
    return wait_for(path)


@ray.remote
class Counter:
    def pid(self):
        return os.getpid()

    def add(self, path):
        return wait_for(path)

    def fail(self, path):
        wait_for(path)
        raise KeyError


@ray.remote
class Clock:
    def pid(self):
        return os.getpid()

    async def tick(self, path):
        return await asyncio.to_thread(wait_for, path)


def children() -> dict[int, str]:
    return {child.pid: name_of(child.pid) for child in psutil.Process().children(recursive=True)}


@pytest.mark.parametrize("mode", ["processes"])
def test_names_of_processes(ray_session, tmp_path):
    pid = ray.get(crunch.remote("/"))
    until(pid, "ray::IDLE")
    assert {"ray::node", "ray::zygote", "ray::IDLE"} <= set(children().values())
    done = str(tmp_path / "done")
    runs = crunch.remote(done)
    end = time.monotonic() + LIMIT_S
    while "ray::crunch" not in children().values() and time.monotonic() < end:
        time.sleep(0.02)
    (pid,) = (pid for pid, name in children().items() if name == "ray::crunch")
    Path(done).touch()
    assert ray.get(runs) == pid
    until(pid, "ray::IDLE")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["processes"])
def test_names_of_actors(ray_session, tmp_path):
    counter, clock = Counter.remote(), Clock.remote()
    pid, other = ray.get([counter.pid.remote(), clock.pid.remote()])
    until(pid, "ray::Counter")
    until(other, "ray::Clock")
    calls = {"ray::Counter.ad": counter.add, "ray::Counter.fa": counter.fail, "ray::Clock.tick": clock.tick}
    for name, method in calls.items():
        path = tmp_path / name
        runs = method.remote(str(path))
        until(pid if "Counter" in name else other, name)
        path.touch()
        ray.wait([runs])
        until(pid if "Counter" in name else other, name.partition(".")[0])
    with pytest.raises(KeyError):
        ray.get(counter.fail.remote("/"))


SCRIPT = """
import os, pathlib, time
import ray

TITLES = pathlib.Path(os.environ["TITLES"])

@ray.remote
class Accumulator:
    def accumulate(self):
        end = time.monotonic() + 30
        while "ray::Accumulator.accumulate" not in TITLES.read_text() and time.monotonic() < end:
            time.sleep(0.02)

ray.init(num_cpus=1)
ray.get(Accumulator.remote().accumulate.remote())
print(TITLES.read_text())
"""


def test_the_whole_name_where_setproctitle_is_installed(tmp_path):
    titles = tmp_path / "titles"
    titles.write_text("")
    (tmp_path / "setproctitle.py").write_text(
        f"def setproctitle(title):\n    with open({str(titles)!r}, 'a') as file:\n        file.write(title + '\\n')\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "TITLES": str(titles)},
    )
    wanted = {"ray::zygote", "ray::IDLE", "ray::Accumulator", "ray::Accumulator.accumulate"}
    assert wanted <= set(done.stdout.split()), done.stderr
