"""Pytest fixtures for programs that use ray, and for ray's own tests.

Switch it on in the top ``conftest.py``::

    pytest_plugins = ["ray.testing.pytest_plugin"]

- The fixture ``ray_runtime`` is a function that starts a session, with the keywords of ``ray.init``, and returns the
  module ``ray``. The session ends with the test, which fails if the session leaves anything behind.
- The fixture ``ray_cluster`` is a function that starts a ``ray.testing.Cluster``, with its keywords, and returns it. It
  ends with the test, after the session, and the test fails if anything is left of it on any node.
- With ``ray_leak_check = true`` in the ini file, every test is checked for what it leaves behind, whether or not it
  uses the fixture. A test marked ``ray_leaks("reason")`` is exempt.
- ``ray_leak_timeout_s = 2`` in the ini file is how long ends may take before they count as leaks (10 s).

Example:
    A test of a task::

        def test_square(ray_runtime):
            ray = ray_runtime(num_cpus=2)
            assert ray.get(ray.remote(lambda x: x * x).remote(4)) == 16
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from ray.testing import leaks

if TYPE_CHECKING:
    from ray.testing.cluster import Cluster


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option."""
    parser.addini("ray_leak_check", "fail tests that leave processes, threads or files behind", "bool", default=False)
    parser.addini("ray_leak_timeout_s", "how long ends may take", default=str(leaks.PATIENCE_S))


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "ray_leaks(reason): the test may leave things behind; not checked for leaks")


@pytest.fixture(autouse=True)
def _ray_leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    if not request.config.getini("ray_leak_check") or request.node.get_closest_marker("ray_leaks"):
        yield
        return
    before = leaks.snapshot()
    yield
    leaks.assert_clean(before, _patience_s(request))


@pytest.fixture
def ray_runtime(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Start sessions that end with the test: call it with the keywords of ``ray.init``; returns the module ``ray``."""
    ray: Any = importlib.import_module("ray")
    before = leaks.snapshot()

    def start(**options: Any) -> Any:
        ray.init(**options)
        return ray

    yield start
    ray.shutdown()
    leaks.assert_clean(before, _patience_s(request))


@pytest.fixture
def ray_cluster(request: pytest.FixtureRequest) -> Iterator[Callable[..., Cluster]]:
    """Start clusters that end with the test: call it with the keywords of ``ray.testing.Cluster``, which it returns."""
    ray: Any = importlib.import_module("ray")
    before = leaks.snapshot()
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> Cluster:
            cluster: Cluster = importlib.import_module("ray.testing.cluster").Cluster(**options)
            return stack.enter_context(cluster)

        yield start
        ray.shutdown()
    leaks.assert_clean(before, _patience_s(request))


def _patience_s(request: pytest.FixtureRequest) -> float:
    return float(request.config.getini("ray_leak_timeout_s"))
