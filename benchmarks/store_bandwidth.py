"""Bandwidth of the session's store by the size of the object, beside a copy of memory, in GB/s.

``<series>@<bytes>`` is one series at one size:

- ``memcpy``: a copy between two arrays of this process, both touched before,
- ``put``: a ``put`` whose ref is dropped before the next one, so that the store can use the same memory again,
- ``get``: a ``get`` and a sum over the bytes, so that a store that copies only when it is read shows it,
- ``task``: a ``put``, and a task that sums the bytes up in another process.

``curves.py`` runs it under every store and draws it.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from adapter import ORIGINAL, ray, remote
from harness import Budget, Line, main

KIB = 1 << 10
MIB = 1 << 20
SIZES = [KIB << shift for shift in range(0, 21, 2)]
#: Objects of the largest size that may be alive at once: some runtimes free with a delay.
ALIVE = 3
#: What the largest array may take of the memory that is free; the store and the processes need some as well.
SHARE = 0.15
MOST_SAMPLES = 1_000
#: Freeing is asynchronous in some runtimes; what it costs for large objects must not be charged to the next copy.
SETTLE_S = 0.02


def largest() -> int:
    """Bytes of the largest object that this machine bears; the original needs ``/dev/shm`` for all of its store."""
    with open("/proc/meminfo") as file:
        free = next(int(line.split()[1]) * KIB for line in file if line.startswith("MemAvailable:"))
    bounds = [int(free * SHARE), int(os.environ.get("BENCH_LARGEST", SIZES[-1]))]
    if ORIGINAL:
        shared = os.statvfs("/dev/shm")
        bounds.append(shared.f_bavail * shared.f_frsize // (ALIVE + 1))
    return max(size for size in SIZES if size <= max(min(bounds), SIZES[0]))


LARGEST = largest()


@functools.cache
def source() -> Any:
    """Bytes of the largest size, all of them written."""
    return np.ones(LARGEST, np.uint8)


def checksum(array: Any) -> int:
    """Reads all bytes."""
    return int(array.view(np.uint64).sum())


@remote
def read(array: Any) -> int:
    return checksum(array)


def sample(step: Callable[[], float], nbytes: int, budget: Budget) -> list[float]:
    """GB/s from the seconds that ``step`` says it took; the first step, which is not counted, warms up."""
    step()
    speeds: list[float] = []
    end = time.perf_counter() + budget.seconds
    while len(speeds) < budget.samples or (time.perf_counter() < end and len(speeds) < MOST_SAMPLES):
        speeds.append(nbytes / step() / 1e9)
        if nbytes >= MIB:
            time.sleep(SETTLE_S)
    return speeds


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    result = work()
    taken = time.perf_counter() - start
    del result
    return taken


def memcpy(nbytes: int, budget: Budget) -> list[float]:
    data = source()[:nbytes]
    target = np.empty_like(data)
    return sample(lambda: timed(lambda: np.copyto(target, data)), nbytes, budget)


def put(nbytes: int, budget: Budget) -> list[float]:
    data = source()[:nbytes]
    return sample(lambda: timed(lambda: ray.put(data)), nbytes, budget)


def get(nbytes: int, budget: Budget) -> list[float]:
    ref = ray.put(source()[:nbytes])
    return sample(lambda: timed(lambda: checksum(ray.get(ref))), nbytes, budget)


def task(nbytes: int, budget: Budget) -> list[float]:
    data = source()[:nbytes]
    expected = checksum(data)

    def step() -> float:
        start = time.perf_counter()
        found = ray.get(read.remote(ray.put(data)))
        taken = time.perf_counter() - start
        assert found == expected
        return taken

    return sample(step, nbytes, budget)


SERIES = (memcpy, put, get, task)
LINES = [
    Line(f"{series.__name__}@{size}", "GB/s", functools.partial(series, size))
    for series in SERIES
    for size in SIZES
    if size <= LARGEST
]

if __name__ == "__main__":
    sys.exit(main(LINES, __doc__, object_store_memory=ALIVE * LARGEST + 256 * MIB))
