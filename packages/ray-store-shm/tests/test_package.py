"""What the distribution says of itself."""

from importlib.metadata import distribution

import ray_store_shm
from ray.plugins import resolve_plan


def test_version_is_that_of_the_distribution() -> None:
    assert ray_store_shm.__version__ == distribution("ray-store-shm").version


def test_the_store_is_found_by_its_name() -> None:
    plan = resolve_plan(store="shm")
    assert plan.store.module == "ray_store_shm.plugin"
    assert plan.store.distribution == "ray-store-shm"
