"""Many objects, arguments and returns at a time, and arrays as large as memory allows."""

from __future__ import annotations

import sys
import time

import psutil
import pytest
from tests.soak import SOAK

import ray
from ray.testing import inside

pytestmark = pytest.mark.timeout(300)


@ray.remote
def count(*values):
    return len(values), sum(values)


@ray.remote
def numbers(n):
    return list(range(n))


@ray.remote
def echo(x):
    return x


def test_ten_thousand_arguments_that_are_refs(start):
    start(num_cpus=2, log_to_driver=False)
    n = 10_000
    began = time.monotonic()
    assert ray.get(count.remote(*[ray.put(i) for i in range(n)]), timeout=120) == (n, n * (n - 1) // 2)
    print(f"{n} arguments: {time.monotonic() - began:.2f} s")


def test_three_thousand_returns(start):
    start(num_cpus=2, log_to_driver=False)
    began = time.monotonic()
    refs = numbers.options(num_returns=3_000).remote(3_000)
    assert ray.get(refs, timeout=120) == list(range(3_000))
    print(f"3000 returns: {time.monotonic() - began:.2f} s")


def test_ten_thousand_objects_in_one_get(start):
    start(num_cpus=2, log_to_driver=False)
    began = time.monotonic()
    refs = [echo.remote(i) for i in range(10_000)]
    assert ray.get(refs, timeout=120) == list(range(10_000))
    print(f"10,000 objects: {time.monotonic() - began:.2f} s")


def test_ten_thousand_large_objects_at_a_time(start):
    """Each in the store, where there is one that is shared."""
    start(num_cpus=2, log_to_driver=False)
    n = 2_000 if SOAK else 500
    refs = [ray.put(i.to_bytes(4, "big") + bytes(110_000)) for i in range(n)]
    for i, value in enumerate(ray.get(refs, timeout=120)):
        assert value[:4] == i.to_bytes(4, "big")
        assert len(value) == 110_004


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_copy_of_an_array_as_large_as_memory_allows(start):
    np = pytest.importorskip("numpy")
    free = psutil.virtual_memory().available
    nbytes = min((16 if SOAK else 1) << 29, free // 5) // 8 * 8
    start(num_cpus=4, object_store_memory=nbytes + (256 << 20), log_to_driver=False)

    if not inside.shares_memory():
        pytest.skip("each process has its own copy with this store")

    @ray.remote
    def look(array):
        return float(array[0]), float(array[-1]), psutil.Process().memory_full_info().uss

    array = np.arange(nbytes // 8, dtype=np.float64)
    began = time.monotonic()
    ref = ray.put(array)
    put_s = time.monotonic() - began
    last = float(array[-1])
    del array
    began = time.monotonic()
    again = ray.get(ref)
    get_s = time.monotonic() - began
    assert again[-1] == last
    assert get_s < 0.1, "a get without a copy does not depend on the size"
    for first, end, private in ray.get([look.remote(ref) for _ in range(4)], timeout=60):
        assert (first, end) == (0.0, last)
        assert private < nbytes / 4
    print(f"{nbytes / 2**30:.1f} GiB: put {nbytes / 2**30 / put_s:.1f} GiB/s, get {get_s * 1000:.2f} ms")
