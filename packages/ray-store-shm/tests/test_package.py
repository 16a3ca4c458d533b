"""What can be said of the package before its plugin exists."""

from importlib.metadata import distribution

import ray_store_shm


def test_version_is_that_of_the_distribution() -> None:
    assert ray_store_shm.__version__ == distribution("ray-store-shm").version


def test_registers_no_plugin_yet() -> None:
    assert [ep for ep in distribution("ray-store-shm").entry_points if ep.group.startswith("ray.")] == []
