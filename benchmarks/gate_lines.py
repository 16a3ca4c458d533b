"""The lines of ``gate.py`` in one tree: reads ``LINE latency|cpu`` from stdin, answers each with a record of JSON."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from typing import Any

import actors
import adapter
import objects
import processes
import tasks
from adapter import ray, remote
from harness import Budget, measure

LINES = {line.name: line for group in (tasks, actors, objects) for line in group.LINES}
PACKAGES = ("ray", "ray_async", "ray_store_plasma", "ray_store_shm", "ray_transport_zmq")


@remote
def files() -> list[str]:
    """Where this process has the packages and their metadata from."""
    found = [importlib.util.find_spec(name) for name in PACKAGES]
    places = [spec.origin for spec in found if spec is not None and spec.origin]
    return [*places, str(importlib.metadata.distribution("ray-core").locate_file("METADATA"))]


class SessionClock:
    """Seconds of processor time that this process and those under it have used.

    Those under it are the ones of the first call, which comes after a line has warmed up.
    """

    def __init__(self) -> None:
        self._others: list[int] = []

    def __call__(self) -> float:
        if not self._others:
            self._others = [pid for pid in processes.session() if pid != os.getpid()]
        # The own time to the microsecond; of the others each is known up to the last time that it was interrupted.
        return time.process_time() + processes.cpu_seconds(self._others)


def budget(kind: str, seconds: float) -> Budget:
    return Budget(seconds) if kind == "latency" else Budget(seconds, clock=SessionClock())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True)
    seconds = parser.parse_args().seconds
    adapter.init(num_cpus=2)
    here: Any = files
    print(json.dumps({"files": [*here.__wrapped__(), *ray.get(files.remote())]}), flush=True)
    for request in sys.stdin:
        name, kind = request.split()
        print(json.dumps(measure(LINES[name], budget(kind, seconds))), flush=True)
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
