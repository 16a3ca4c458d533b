"""The test kit: contract suites for parts, fault injection, a simulated cluster, leak checks and a pytest plugin.

``ray.testing.contracts`` has a suite per seam. ``ray.testing.faults`` wraps a transport, a store or a control store and
makes it fail on purpose. ``Cluster`` has real nodes, each with its processes, on this machine or each on a host of its
own; ``ray.testing.simulation`` is a cluster without processes, on a virtual clock.
``ray.testing.leaks`` tells what a session has left behind. ``ray.testing.pytest_plugin`` brings the fixture
``ray_runtime`` and ``ray_cluster``, and a leak check after every test. Only the contract classes and the plugin need
pytest.
``eventually`` waits for what others make true. ``ray.testing.inside``, for the tests of ray itself, sees what a session
holds.
"""

from typing import TYPE_CHECKING

from ray.testing.waiting import eventually

if TYPE_CHECKING:
    from ray.testing.cluster import Cluster, ClusterNode

__all__ = ["Cluster", "ClusterNode", "eventually"]


def __getattr__(name: str) -> object:
    # A cluster needs more than most tests import.
    if name not in ("Cluster", "ClusterNode"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ray.testing import cluster

    return getattr(cluster, name)
