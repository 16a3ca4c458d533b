"""What stands in for executors of the standard library, beside these, in one run: ratios of their times and rates.

A ratio of times below 1, and one of rates above 1, says that this package is quicker.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
from harness import Budget, Line, UnavailableError, main, register

import ray
from ray.util import RayExecutor
from ray.util.multiprocessing import Pool

LINES: list[Line] = []
ITEMS = 10_000
WORKERS = 2


def nothing(item: int) -> None:
    return None


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(here: Callable[[], object], there: Callable[[], object], budget: Budget) -> list[float]:
    """``here``'s time by ``there``'s, one sample for each pair of runs; the first, unmeasured pair warms up."""
    here(), there()
    samples: list[float] = []
    end = time.perf_counter() + budget.seconds
    while len(samples) < budget.samples or time.perf_counter() < end:
        samples.append(seconds(here) / seconds(there))
    return samples


def beside(use: Callable[[Any], Callable[[], object]], budget: Budget, **options: Any) -> list[float]:
    """The ratio of times of the same use of both executors."""
    with RayExecutor(**options) as ours, concurrent.futures.ProcessPoolExecutor(WORKERS) as theirs:
        return in_turn(use(ours), use(theirs), budget)


@register(LINES, "executor_submit_result", "x time")
def executor_submit_result(budget: Budget) -> list[float]:
    return beside(lambda executor: lambda: [executor.submit(nothing, 1).result() for _ in range(100)], budget)


@register(LINES, "executor_submit_1000", "x time")
def executor_submit_1000(budget: Budget) -> list[float]:
    def use(executor: Any) -> Callable[[], object]:
        return lambda: [future.result() for future in [executor.submit(nothing, i) for i in range(1_000)]]

    return beside(use, budget)


def map_rate(chunksize: int, budget: Budget) -> list[float]:
    def use(executor: Any) -> Callable[[], object]:
        return lambda: list(executor.map(nothing, range(ITEMS), chunksize=chunksize))

    return [1 / ratio for ratio in beside(use, budget)]


@register(LINES, "executor_map_chunksize_1", "x rate")
def executor_map_chunksize_1(budget: Budget) -> list[float]:
    return map_rate(1, budget)


@register(LINES, "executor_map_chunksize_64", "x rate")
def executor_map_chunksize_64(budget: Budget) -> list[float]:
    return map_rate(64, budget)


@register(LINES, "map_10000", "/s")
def map_10000(budget: Budget) -> list[float]:
    """``ray.map`` of calls that do nothing, alone: the standard library has nothing like it."""
    list(ray.map(nothing, range(ITEMS)))
    times: list[float] = []
    end = time.perf_counter() + budget.seconds
    while len(times) < budget.samples or time.perf_counter() < end:
        times.append(seconds(lambda: list(ray.map(nothing, range(ITEMS)))))
    return [ITEMS / each for each in times]


def pools(use: Callable[[Any], Callable[[], object]], budget: Budget) -> list[float]:
    """The ratio of rates of the same use of both pools. Theirs is of processes that are not forked from this one."""
    with Pool(WORKERS) as ours, multiprocessing.get_context("spawn").Pool(WORKERS) as theirs:
        return [1 / ratio for ratio in in_turn(use(ours), use(theirs), budget)]


@register(LINES, "pool_map_10000", "x rate")
def pool_map_10000(budget: Budget) -> list[float]:
    """With the chunks that pools choose by themselves."""
    return pools(lambda pool: lambda: pool.map(nothing, range(ITEMS)), budget)


@register(LINES, "pool_map_chunksize_64", "x rate")
def pool_map_chunksize_64(budget: Budget) -> list[float]:
    return pools(lambda pool: lambda: pool.map(nothing, range(ITEMS), 64), budget)


@register(LINES, "pool_apply", "x rate")
def pool_apply(budget: Budget) -> list[float]:
    return pools(lambda pool: lambda: [pool.apply(nothing, (1,)) for _ in range(100)], budget)


@register(LINES, "pool_imap_chunksize_64", "x rate")
def pool_imap_chunksize_64(budget: Budget) -> list[float]:
    return pools(lambda pool: lambda: list(pool.imap(nothing, range(ITEMS), 64)), budget)


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def joblib_parts() -> Any:
    try:
        import joblib
    except ImportError as error:
        raise UnavailableError(str(error)) from error
    from ray.util.joblib import register_ray

    register_ray()
    return joblib


@register(LINES, "joblib_1000_of_1_ms", "x rate")
def joblib_1000_of_1_ms(budget: Budget) -> list[float]:
    """``Parallel`` of 1,000 calls of 1 ms of work, by the rate with joblib's own processes (loky)."""
    joblib = joblib_parts()

    def with_backend(name: str) -> Callable[[], object]:
        def call() -> None:
            with joblib.parallel_config(name, n_jobs=WORKERS):
                joblib.Parallel()(joblib.delayed(work)(0.001) for _ in range(1_000))

        return call

    return [1 / ratio for ratio in in_turn(with_backend("ray"), with_backend("loky"), budget)]


def total(array: Any, item: int) -> float:
    return float(array[item::512].sum())  # of each page


@register(LINES, "joblib_array_100_mib", "copies")
def joblib_array_100_mib(budget: Budget) -> list[float]:
    """How many copies of an array of 100 MiB there are while 100 calls have it as an argument, the program's apart."""
    joblib = joblib_parts()
    import numpy

    array = numpy.ones(100 << 17)
    with joblib.parallel_config("ray", n_jobs=WORKERS):
        joblib.Parallel()(joblib.delayed(total)(numpy.ones(1 << 18), 0) for _ in range(20))
        before = resident()
        results = joblib.Parallel(return_as="generator", batch_size=1)(
            joblib.delayed(total)(array, item) for item in range(100)
        )
        most = max((resident() - before for _ in results), default=0)
    return [most / array.nbytes] * budget.samples


def resident() -> int:
    """The memory of this process and those it has started; what several share counts once."""
    me = psutil.Process()
    return sum(process.memory_full_info().pss for process in [me, *me.children(recursive=True)])


if __name__ == "__main__":
    sys.exit(main(LINES, __doc__, num_cpus=WORKERS))
