"""The session ends while other threads of the program make objects."""

from __future__ import annotations

import sys
import threading

import ray
from ray.exceptions import RayConnectionError
from ray.testing import eventually


def test_shutdown_while_threads_put(start):
    """What is unfinished is counted though objects come meanwhile."""
    start(num_cpus=1)
    kept = [ray.put(index) for index in range(200_000)]
    made, refused = [[], []], []

    def put(mine):
        try:
            while True:
                mine.append(ray.put(b""))
        except RayConnectionError:
            refused.append(True)

    threads = [threading.Thread(target=put, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        eventually(lambda: all(len(mine) > 1000 for mine in made))
        ray.shutdown()
    finally:
        sys.setswitchinterval(interval)
    for thread in threads:
        thread.join(20)
    assert refused == [True, True]
    assert len(kept) == 200_000
