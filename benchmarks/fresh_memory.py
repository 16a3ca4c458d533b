"""Where the time of a ``put`` into the shm store goes, and what the kernel alone takes for such memory.

    python benchmarks/fresh_memory.py [--rounds 200]

An object of a size that is new is in memory that no process has used before. Beside ``ray.put`` of such stands what it
cannot do without: a memory file is made, written, sealed and given back, in a bare process. The last column is a
``ray.put`` into the memory of an object that was deleted.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import statistics
import time
from collections.abc import Callable

import numpy as np

import ray

SIZES = {"1 MiB": 1 << 20, "16 MiB": 1 << 24, "100 MiB": 100 << 20}
ADD_SEALS, SEALS = 1033, 1 | 2 | 4 | 16  # F_SEAL_SEAL, SHRINK, GROW, FUTURE_WRITE


def median_us(body: Callable[[], object], rounds: int) -> float:
    """Median time of a call, after two that are not counted."""
    times = []
    for number in range(rounds + 2):
        start = time.perf_counter()
        body()
        if number > 1:
            times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def bare(data: memoryview, rounds: int) -> dict[str, float]:
    """Microseconds of each step on a memory file."""
    steps: dict[str, list[float]] = {"make": [], "write": [], "seal": [], "free": []}
    for _ in range(rounds + 2):
        stamps = [time.perf_counter()]
        fd = os.memfd_create("bare", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, len(data))
        stamps.append(time.perf_counter())
        written = 0
        while written < len(data):
            written += os.pwrite(fd, data[written:], written)
        stamps.append(time.perf_counter())
        fcntl.fcntl(fd, ADD_SEALS, SEALS)
        stamps.append(time.perf_counter())
        os.close(fd)
        stamps.append(time.perf_counter())
        for step, start, end in zip(steps, stamps, stamps[1:], strict=False):
            steps[step].append(end - start)
    return {step: statistics.median(times[2:]) * 1e6 for step, times in steps.items()}


def put_us(arrays: dict[str, np.ndarray], rounds: dict[str, int], keep_s: float) -> dict[str, float]:
    """Microseconds of ``ray.put`` of each, where memory of deleted objects is kept for so long."""
    options = {"store": {"keep_s": keep_s}}
    ray.init(num_cpus=2, store="shm", log_to_driver=False, object_store_memory=2 << 30, options=options)
    taken = {
        name: median_us(lambda array=array: ray.put(array), rounds[name])  # type: ignore[misc]
        for name, array in arrays.items()
    }
    ray.shutdown()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="for 1 MiB; fewer for larger objects")
    most = parser.parse_args().rounds
    arrays = {name: np.ones(nbytes, np.uint8) for name, nbytes in SIZES.items()}
    rounds = {name: max(30, most * SIZES["1 MiB"] // nbytes) for name, nbytes in SIZES.items()}
    new, used = (put_us(arrays, rounds, keep_s) for keep_s in (0.0, 2.0))
    print("| size | memcpy, used memory | make | write | seal | give back | together | `ray.put`, new | used memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, array in arrays.items():
        target = np.empty_like(array)
        copied = median_us(lambda target=target, array=array: np.copyto(target, array), rounds[name])  # type: ignore[misc]
        steps = bare(array.data, rounds[name])
        figures = [copied, *steps.values(), sum(steps.values()), new[name], used[name]]
        print(f"| {name} | " + " | ".join(f"{figure:,.0f} µs" for figure in figures) + " |")


if __name__ == "__main__":
    main()
