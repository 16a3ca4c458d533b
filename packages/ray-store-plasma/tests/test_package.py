"""What can be said of the package before its plugin exists."""

from importlib.metadata import distribution

import ray_store_plasma


def test_version_is_that_of_the_distribution() -> None:
    assert ray_store_plasma.__version__ == distribution("ray-store-plasma").version


def test_registers_no_plugin_yet() -> None:
    assert [ep for ep in distribution("ray-store-plasma").entry_points if ep.group.startswith("ray.")] == []
