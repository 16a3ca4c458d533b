"""Objects: small and large, with the machine's memcpy beside them."""

from __future__ import annotations

import sys
import time
from functools import cache
from typing import Any

from adapter import ray, remote
from harness import Budget, Line, UnavailableError, rates, register, repeat
from harness import main as run

LINES: list[Line] = []
MIB = 1 << 20
LARGE = 100 * MIB
#: Before each large copy, of either kind, so that both find the machine in the same state: freeing is asynchronous in
#: some runtimes and must not be charged to the next copy, and a processor that has just been busy copies faster.
PAUSE_S = 0.02


@remote
def size_of(array: Any) -> int:
    return int(array.nbytes)


@cache
def array(nbytes: int) -> Any:
    """An array of so many bytes whose pages have all been written."""
    try:
        import numpy
    except ImportError as error:
        raise UnavailableError("needs numpy") from error
    return numpy.ones(nbytes, numpy.uint8)


@register(LINES, "get_small", "/s")
def get_small(budget: Budget) -> list[float]:
    ref = ray.put(1)
    return rates(lambda: repeat(lambda: ray.get(ref), 2_000), 2_000, budget)


@register(LINES, "put_small", "/s")
def put_small(budget: Budget) -> list[float]:
    return rates(lambda: repeat(lambda: ray.put(1), 1_000), 1_000, budget)


@register(LINES, "put_1mib", "/s")
def put_1mib(budget: Budget) -> list[float]:
    data = array(MIB)
    return rates(lambda: repeat(lambda: ray.put(data), 200), 200, budget)


def copy_rate(target: Any) -> float:
    """GB/s of one memcpy of 100 MiB between warm pages in this thread."""
    import numpy

    data = array(LARGE)
    time.sleep(PAUSE_S)
    start = time.perf_counter()
    numpy.copyto(target, data)
    return LARGE / (time.perf_counter() - start) / 1e9


def put_rate() -> float:
    """GB/s of one ``put`` of 100 MiB; the ref is dropped at once, so that the store can use its pages again."""
    data = array(LARGE)
    time.sleep(PAUSE_S)
    start = time.perf_counter()
    ref = ray.put(data)
    elapsed = time.perf_counter() - start
    del ref
    return LARGE / elapsed / 1e9


def _pairs(budget: Budget) -> list[tuple[float, float]]:
    """(put, memcpy) rates measured in turn, after unmeasured ones that warm the pages up."""
    target = array(LARGE).copy()
    samples = [(put_rate(), copy_rate(target)) for _ in range(5 + max(10, budget.samples))]
    return samples[5:]


@register(LINES, "memcpy_100mib", "GB/s")
def memcpy_100mib(budget: Budget) -> list[float]:
    return [copied for _, copied in _pairs(budget)]


@register(LINES, "put_100mib", "GB/s")
def put_100mib(budget: Budget) -> list[float]:
    return [put for put, _ in _pairs(budget)]


@register(LINES, "put_100mib_of_memcpy", "%")
def put_100mib_of_memcpy(budget: Budget) -> list[float]:
    return [100 * put / copied for put, copied in _pairs(budget)]


@register(LINES, "get_100mib", "/s")
def get_100mib(budget: Budget) -> list[float]:
    ref = ray.put(array(LARGE))
    return rates(lambda: repeat(lambda: ray.get(ref), 500), 500, budget)


@register(LINES, "task_ref_100mib", "/s")
def task_ref_100mib(budget: Budget) -> list[float]:
    ref = ray.put(array(LARGE))
    return rates(lambda: ray.get([size_of.remote(ref) for _ in range(300)]), 300, budget)


if __name__ == "__main__":
    sys.exit(run(LINES, __doc__))
