"""A large matrix that several processes read at the same time, in one copy; the memory is measured to prove it.

    pip install ./packages/ray-core ./packages/ray-store-plasma numpy
    python examples/shared_matrix.py [--megabytes N] [--workers N]

The matrix is put into the object store once. Each worker adds up all of it, so that all its pages are read everywhere,
and estimates the largest singular value of some of its columns by power iteration. Then the program adds up what is
shared and what is private in all processes. It fails (exit code 1) if the matrix is in memory more than once, or if
a sum differs from numpy's own.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from typing import Any

import numpy as np
import psutil

import ray

#: Room for everything else in the processes, in bytes; far less than a second copy.
SLACK = 150 << 20


class Reader:
    """Keeps the matrix and works on it in place."""

    def __init__(self, matrix: np.ndarray[Any, Any]) -> None:
        self.matrix = matrix

    def place(self) -> tuple[int, bool]:
        """This process, and whether the matrix could be changed here."""
        return psutil.Process().pid, self.matrix.flags.writeable

    def largest(self, number: int, of: int, rounds: int = 3) -> float:
        """An estimate of the largest singular value of every ``of``-th column block, row by row."""
        columns = self.matrix[:, number::of]
        vector = np.ones(columns.shape[1]) / np.sqrt(columns.shape[1])
        norm = 0.0
        for _ in range(rounds):
            product = columns.T @ (columns @ vector)
            norm = float(np.linalg.norm(product))
            vector = product / norm
        return float(np.sqrt(norm))

    def total(self) -> float:
        """The sum of all elements: touches every page."""
        return float(self.matrix.sum())


ReaderActor = ray.remote(Reader)


def memory_of(pids: list[int]) -> tuple[int, int]:
    """Bytes that processes have in memory together, shared pages counted once; and of those, private ones."""
    shared = private = 0
    for pid in pids:
        full = psutil.Process(pid).memory_full_info()
        shared += full.pss
        private += full.uss
    return shared, private


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=512, help="size of the matrix; default: %(default)s")
    parser.add_argument("--workers", type=int, default=4, help="processes that read it; default: %(default)s")
    given = parser.parse_args()
    if given.megabytes < 1 or given.workers < 1:
        parser.error("--megabytes and --workers must be at least 1")
    if not any(importlib.util.find_spec(name) for name in ("ray_store_plasma", "ray_store_shm")):
        sys.exit("shared_matrix: this example needs a store in shared memory: pip install ./packages/ray-store-plasma")
    columns = 512
    rows = given.megabytes * (1 << 20) // (8 * columns)
    capacity = 2 * given.megabytes * (1 << 20) + (64 << 20)
    with ray.init(num_cpus=given.workers, object_store_memory=capacity, log_to_driver=False):
        node = psutil.Process(ray.nodes()[0]["Pid"])

        def everybody() -> list[int]:
            return [psutil.Process().pid, node.pid, *(child.pid for child in node.children(recursive=True))]

        before, _ = memory_of(everybody())
        matrix = np.random.default_rng(1).standard_normal((rows, columns))
        expected = float(matrix.sum())
        started = time.perf_counter()
        ref = ray.put(matrix)
        put_s = time.perf_counter() - started
        nbytes = matrix.nbytes
        del matrix
        readers = [ReaderActor.remote(ref) for _ in range(given.workers)]
        places = ray.get([reader.place.remote() for reader in readers])
        totals = ray.get([reader.total.remote() for reader in readers])
        largest = ray.get([reader.largest.remote(i, given.workers) for i, reader in enumerate(readers)])
        after, private = memory_of(everybody())
        grown = after - before
        print(f"a matrix of {rows:,} x {columns}, {nbytes / 2**20:,.0f} MiB; put in {put_s:.2f} s")
        print(f"{given.workers} processes read it, all of it; their largest singular values: {np.round(largest, 1)}")
        print(f"memory of all processes grew by {grown / 2**20:,.0f} MiB, {grown / nbytes:.2f} times the matrix")
        print(f"private memory of all {len(everybody())} processes together: {private / 2**20:,.0f} MiB")
        print("what `ray memory` says:")
        listing = subprocess.run(
            [sys.executable, "-m", "ray.cli", "memory", "--limit", "3"], capture_output=True, text=True, check=False
        )
        print(listing.stdout or listing.stderr, end="")
        writable = any(writeable for _, writeable in places)
        wrong = [total for total in totals if not np.isclose(total, expected)]
        if writable or wrong or grown > nbytes + SLACK:
            print(f"FAILED: writable={writable}, wrong={wrong}, grown={grown:,}", file=sys.stderr)
            return 1
        print("one copy, read-only everywhere, and all results right")
        return 0


if __name__ == "__main__":
    sys.exit(main())
