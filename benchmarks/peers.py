"""What else a user would pick: ``ProcessPoolExecutor``, loky and Dask on the same three lines. Needs no ``ray``."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from harness import Budget, Line, latencies, parse, rates, report

CORES = len(os.sched_getaffinity(0))


def nothing() -> None:
    return None


def _executor() -> Any:
    return ProcessPoolExecutor(CORES)


def _loky() -> Any:
    return importlib.import_module("loky").ProcessPoolExecutor(CORES)


def _dask() -> Any:
    importlib.import_module("logging").getLogger("distributed").setLevel("ERROR")
    distributed = importlib.import_module("distributed")
    return distributed.Client(n_workers=CORES, threads_per_worker=1, processes=True, dashboard_address=None)


PEERS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "ProcessPoolExecutor": (_executor, {}),
    "loky": (_loky, {}),
    "dask": (_dask, {"pure": False}),
}


def _first_result(make: Callable[[], Any], keywords: dict[str, Any], budget: Budget) -> list[float]:
    samples = []
    for _ in range(budget.samples):
        start = time.perf_counter()
        pool = make()
        pool.submit(nothing, **keywords).result()
        samples.append(time.perf_counter() - start)
        pool.shutdown()
    return samples


def _sync(make: Callable[[], Any], keywords: dict[str, Any], budget: Budget) -> list[float]:
    pool = make()
    samples = latencies(lambda: pool.submit(nothing, **keywords).result(), budget, warm_up=20)
    pool.shutdown()
    return samples


def _pipelined(make: Callable[[], Any], keywords: dict[str, Any], budget: Budget) -> list[float]:
    pool, count = make(), 1_000

    def batch() -> None:
        futures = [pool.submit(nothing, **keywords) for _ in range(count)]
        for future in futures:
            future.result()

    samples = rates(batch, count, budget)
    pool.shutdown()
    return samples


MEASURES = {
    "init_first_result": ("s", _first_result),
    "task_sync": ("µs", _sync),
    "tasks_pipelined": ("/s", _pipelined),
}


def _line(peer: str, name: str) -> Line:
    (make, keywords), (unit, function) = PEERS[peer], MEASURES[name]
    return Line(f"{name}@{peer}", unit, lambda budget: function(make, keywords, budget))


LINES = [_line(peer, name) for peer in PEERS for name in MEASURES]


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("loky", "distributed"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    sys.exit(report(*parse(LINES, __doc__), versions()))
