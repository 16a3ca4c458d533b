"""Bandwidth of every installed store by the size of the object, beside a copy of memory: no runtime, only the seam.

``python benchmarks/store_bandwidth.py > bandwidth.jsonl`` prints one JSON record for each series and size; ``name`` is
``<series>@<bytes>``, ``value`` the median of ``samples`` in GB/s. ``plot.py`` draws it. The series are

- ``memcpy``: a copy between two arrays of this process, both touched before,
- ``<store> put``: ``put`` of one piece into memory that this process has used before; the object is deleted each time,
- ``<store> fresh put``: the same into memory that nobody has used before, once for each of a few new stores,
- ``<store> get``: ``get``, a sum over the bytes, ``release``; with the reading, so that a store that copies shows it,
- ``<store> look``: ``get`` and ``release`` alone, counted as if all of the bytes had been moved.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from ray.abc import Store
from ray.plugins import Composition, resolve_plan

KIB = 1 << 10
SIZES = [KIB << shift for shift in range(0, 21, 2)]
#: What an array, two stores and the processes beside them may take of the memory that is free.
SHARE = 0.2
FRESH_STORES = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """At least ``samples`` samples and at least ``seconds``, but no more than ``most`` samples."""

    seconds: float
    samples: int = 5
    most: int = 2_000


def free_bytes() -> int:
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * KIB for line in file if line.startswith("MemAvailable:"))


def stores() -> list[str]:
    return sorted({entry.name for entry in entry_points(group="ray.store")})


@contextlib.contextmanager
def opened(name: str, capacity_bytes: int) -> Iterator[Store]:
    """A store of its own, without a session."""
    composition = Composition(resolve_plan(store=name))
    with tempfile.TemporaryDirectory(prefix="ray-bw-") as folder:
        server = composition.start_store(folder, capacity_bytes)
        try:
            store = composition.open_store(server.address)
            try:
                yield store
            finally:
                store.close()
        finally:
            server.close()


def sample(step: Callable[[int], float], budget: Budget) -> list[float]:
    """Seconds that ``step(round)`` says it took, without the first two rounds, which warm up."""
    for number in range(2):
        step(number)
    taken: list[float] = []
    end = time.perf_counter() + budget.seconds
    while len(taken) < budget.samples or (time.perf_counter() < end and len(taken) < budget.most):
        taken.append(step(len(taken) + 2))
    return taken


def an_id(number: int) -> bytes:
    return b"store-bandwidth-" + number.to_bytes(4, "big")


def memcpy(data: Any, budget: Budget) -> list[float]:
    target = np.empty_like(data)

    def step(_number: int) -> float:
        start = time.perf_counter()
        np.copyto(target, data)
        return time.perf_counter() - start

    return sample(step, budget)


def put(store: Store, data: Any, budget: Budget) -> list[float]:
    piece = memoryview(data)

    def step(number: int) -> float:
        start = time.perf_counter()
        store.put(an_id(number), [piece], len(piece))
        taken = time.perf_counter() - start
        store.delete(an_id(number))
        return taken

    return sample(step, budget)


def fresh_put(name: str, capacity_bytes: int, data: Any) -> list[float]:
    taken = []
    for _ in range(FRESH_STORES):
        with opened(name, capacity_bytes) as store:
            start = time.perf_counter()
            store.put(an_id(0), [memoryview(data)], data.nbytes)
            taken.append(time.perf_counter() - start)
    return taken


def get(store: Store, data: Any, budget: Budget, *, read: bool) -> list[float]:
    store.put(an_id(0), [memoryview(data)], data.nbytes)

    def step(_number: int) -> float:
        start = time.perf_counter()
        view = store.get(an_id(0))
        if read:
            assert view is not None
            np.frombuffer(view, np.uint64).sum()
        del view
        store.release(an_id(0))
        return time.perf_counter() - start

    try:
        return sample(step, budget)
    finally:
        store.delete(an_id(0))


def emit(series: str, nbytes: int, seconds: list[float]) -> None:
    speeds = [nbytes / taken / 1e9 for taken in seconds]
    record = {"name": f"{series}@{nbytes}", "value": statistics.median(speeds), "unit": "GB/s", "samples": speeds}
    print(json.dumps(record), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", action="append", help="a store, as often as needed (default: all)")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each number (default %(default)s)")
    parser.add_argument(
        "--largest", type=int, default=SIZES[-1], help="bytes of the largest object (default %(default)s)"
    )
    options = parser.parse_args()
    budget = Budget(options.seconds)
    largest = min(options.largest, int(free_bytes() * SHARE))
    sizes = [size for size in SIZES if size <= largest]
    print(f"sizes up to {sizes[-1]:,} bytes, {os.cpu_count()} processors", file=sys.stderr)
    source = np.random.default_rng(0).integers(0, 2**63, sizes[-1] // 8, dtype=np.uint64).view(np.uint8)
    for size in sizes:
        emit("memcpy", size, memcpy(source[:size], budget))
    for name in options.store or stores():
        capacity_bytes = sizes[-1] + (64 << 20)
        with opened(name, capacity_bytes) as store:
            for size in sizes:
                emit(f"{name} put", size, put(store, source[:size], budget))
                emit(f"{name} get", size, get(store, source[:size], budget, read=True))
                emit(f"{name} look", size, get(store, source[:size], budget, read=False))
        for size in sizes:
            emit(f"{name} fresh put", size, fresh_put(name, capacity_bytes, source[:size]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
