"""The test kit: contract suites for parts, fault injection, a simulated cluster, leak checks and a pytest plugin.

``ray.testing.contracts`` has a suite per seam. ``ray.testing.faults`` wraps a transport, a store or a control store and
makes it fail on purpose. ``ray.testing.simulation`` is a cluster without processes, on a virtual clock.
``ray.testing.leaks`` tells what a session has left behind. ``ray.testing.pytest_plugin`` brings the fixture
``ray_runtime`` and a leak check after every test. Only the contract classes and the plugin need pytest.
``eventually`` waits for what others make true. ``ray.testing.inside``, for the tests of ray itself, sees what a session
holds.
"""

from ray.testing.waiting import eventually

__all__ = ["eventually"]
