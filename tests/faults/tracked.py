"""What uses resource trackers, for tasks and actors of tests and of programs that these start."""

from __future__ import annotations

import contextlib
import glob
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import psutil

import ray

#: Looks like a resource tracker, and never ends by itself.
_STUBBORN = "import time; time.sleep(600)  # from multiprocessing.resource_tracker import main;main(5)"


def _mapped() -> list[str]:
    """Shared memory and semaphores that this process uses. It may have mapped them under other names."""
    mapped = {line.split()[4] for line in Path("/proc/self/maps").read_text().splitlines()}
    found = []
    for path in glob.glob("/dev/shm/psm_*") + glob.glob("/dev/shm/sem.*"):
        with contextlib.suppress(FileNotFoundError):  # another process's
            if str(os.stat(path).st_ino) in mapped:
                found.append(path)
    return sorted(found)


def memory() -> tuple[Any, list[str]]:
    """Use shared memory, and a lock of processes; returns what is to be kept, and the files."""
    used = shared_memory.SharedMemory(create=True, size=1 << 20), multiprocessing.get_context("spawn").Lock()
    return used, _mapped()


def pool() -> tuple[Any, list[str]]:
    """Use processes, which have the tracker's pipe as well."""
    executor = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    assert executor.submit(abs, -1).result(40) == 1
    return executor, _mapped()


def child() -> tuple[Any, list[str]]:
    """Have a child use it, which starts the tracker, and never ends by itself."""
    read, write = os.pipe()
    if not os.fork():
        kept = memory()
        os.write(write, "\n".join(kept[1]).encode())
        os.close(write)
        time.sleep(600)
    os.close(write)
    with open(read) as file:
        return None, file.read().split()


def joblib() -> tuple[Any, list[str]]:
    """Use processes of joblib, with an array that it puts into shared memory."""
    import joblib
    import numpy

    data = numpy.zeros(1 << 18)
    assert joblib.Parallel(2, max_nbytes=1000)(joblib.delayed(len)(data) for _ in range(4)) == [1 << 18] * 4
    return data, [*_mapped(), *glob.glob(f"/dev/shm/joblib_memmapping_folder_{os.getpid()}_*")]


def stubborn() -> list[int]:
    """Start what looks like resource trackers but does not end, beside the caller and in a session of its own."""
    command = [sys.executable, "-c", _STUBBORN]
    beside, away = subprocess.Popen(command), subprocess.Popen(command, start_new_session=True, env={})
    return [beside.pid, away.pid]


KINDS = {"memory": memory, "pool": pool, "child": child, "joblib": joblib}


def there(paths: list[str]) -> list[str]:
    """Which of them exist."""
    return [path for path in paths if os.path.exists(path)]


@ray.remote(num_cpus=0)
class User:
    """Uses it as long as it lives."""

    def __init__(self) -> None:
        self.used: list[Any] = []

    def use(self, how: str) -> list[str]:
        used, paths = KINDS[how]()
        self.used.append(used)
        assert paths == there(paths) != []
        return paths

    def stubborn(self) -> list[int]:
        return stubborn()

    def stop_trackers(self) -> None:
        """They can do nothing before the test has them go on."""
        mine = psutil.Process().children(recursive=True)
        trackers = [process for process in mine if "resource_tracker" in " ".join(process.cmdline())]
        for tracker in trackers:
            tracker.suspend()
        assert trackers

    def leave(self) -> None:
        ray.exit_actor()

    def crash(self) -> None:
        os._exit(3)
