"""What can be said of the package before its plugin exists."""

from importlib.metadata import distribution

import ray_transport_zmq


def test_version_is_that_of_the_distribution() -> None:
    assert ray_transport_zmq.__version__ == distribution("ray-transport-zmq").version


def test_registers_no_plugin_yet() -> None:
    assert [ep for ep in distribution("ray-transport-zmq").entry_points if ep.group.startswith("ray.")] == []
