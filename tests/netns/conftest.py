"""Machines in network namespaces."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import namespaces
from tests.redis_servers import server_binary

from ray.testing import leaks
from ray.testing.namespaces import lack

HOSTS = 3


@pytest.fixture
def network(tmp_path: Path) -> Iterator[namespaces.Network]:
    """Three hosts. After the test nothing runs on any of them, and nothing is left in their directories."""
    why = lack()
    if why:
        pytest.skip(why)
    pytest.importorskip("ray_transport_zmq")
    server_binary()
    before = leaks.snapshot()
    with contextlib.ExitStack() as stack:
        runtimes = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="r", dir="/tmp"))) for _ in range(HOSTS)
        ]
        made = namespaces.Network(HOSTS, tmp_path, runtimes)
        stack.callback(made.close)
        yield made
        left = []
        for host in reversed(made.hosts):
            host.net.cut(False)
            host.ray("stop")
        for host in made.hosts:
            left += [*host.net.processes(), *(str(path) for path in host.runtime.glob("ray-*/*"))]
        assert left == []
    leaks.assert_clean(before)
