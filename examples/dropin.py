"""The same work, written for four ways to run in parallel, on their own pools and on this one.

    pip install ./packages/ray-core joblib
    python examples/dropin.py [--limit N]

The work is real: each source file of the installed standard library is read, compressed and hashed. The programs are
what people have already: ``ProcessPoolExecutor``, ``multiprocessing.Pool`` and joblib. Each runs as it is, and once
more with one line changed, which names the pool; the last line shows ``ray.map``. Every run is checked against a serial
one: the program fails (exit code 1) unless all hashes are equal. The times are of the work alone: the pools have been
started by then, and have run once.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import importlib.util
import multiprocessing
import os
import sys
import sysconfig
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import ray
from ray.util import RayExecutor
from ray.util.multiprocessing import Pool as RayPool

CHUNK = 16
Hashes = list[str]
#: A way to hash these files.
Way = Callable[[list[str]], Hashes]


def hashed(path: str) -> str:
    """The hash of the compressed file."""
    return hashlib.sha256(zlib.compress(Path(path).read_bytes(), 6)).hexdigest()


def sources(limit: int) -> list[str]:
    """Files of the standard library, always the same ones."""
    root = Path(sysconfig.get_path("stdlib"))
    found = sorted(str(path) for path in root.rglob("*.py") if "site-packages" not in path.parts)
    return found[:limit]


def ways(workers: int) -> Iterator[tuple[str, Way]]:
    """Each pool is there while its way is used."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as executor:
        yield "ProcessPoolExecutor", lambda paths: list(executor.map(hashed, paths, chunksize=CHUNK))
    with RayExecutor(workers) as ray_executor:
        yield "  RayExecutor", lambda paths: list(ray_executor.map(hashed, paths, chunksize=CHUNK))
    with context.Pool(workers) as pool:
        yield "multiprocessing.Pool", lambda paths: pool.map(hashed, paths, chunksize=CHUNK)
    with RayPool(workers) as ray_pool:
        yield "  ray.util.multiprocessing.Pool", lambda paths: ray_pool.map(hashed, paths, chunksize=CHUNK)
    if importlib.util.find_spec("joblib") is None:
        print("joblib is not installed: its lines are left out")
    else:
        yield from joblib_ways(workers)
    yield "ray.map", lambda paths: list(ray.map(hashed, paths))


def joblib_ways(workers: int) -> Iterator[tuple[str, Way]]:
    """Those of joblib."""
    import joblib

    from ray.util.joblib import register_ray

    register_ray()

    def way(backend: str) -> Way:
        def run(paths: list[str]) -> Hashes:
            with joblib.parallel_config(backend, n_jobs=workers):
                return list(joblib.Parallel()(joblib.delayed(hashed)(path) for path in paths))

        return run

    yield "joblib, loky", way("loky")
    yield "  joblib, ray", way("ray")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Hash the standard library in parallel, in several ways.")
    parser.add_argument("--limit", type=int, default=sys.maxsize, help="so many files")
    limit = parser.parse_args().limit
    if limit < 1:
        parser.error("--limit is at least 1")
    paths = sources(limit)
    workers = os.cpu_count() or 1
    start = time.perf_counter()
    wanted = [hashed(path) for path in paths]
    serial_s = time.perf_counter() - start
    print(f"{len(paths):,} files, {workers} workers")
    print(f"{'one process':<32}{serial_s:8.3f} s")
    ray.init(num_cpus=workers)
    for name, way in ways(workers):
        way(paths[: workers * CHUNK])
        start = time.perf_counter()
        found = way(paths)
        took_s = time.perf_counter() - start
        print(f"{name:<32}{took_s:8.3f} s")
        if found != wanted:
            print(f"dropin: {name.strip()} found other hashes", file=sys.stderr)
            return 1
    ray.shutdown()
    print("all hashes are equal")
    return 0


if __name__ == "__main__":
    sys.exit(main())
