"""A node that no driver owns, and programs that join it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.nodes import LIMIT_S, Node

from ray.plugins.planning import resolve_plan
from ray.protocol.resources import UNIT
from ray.runtime.driver.launch import StartedNode
from ray.runtime.start_options import StartOptions
from ray.testing import leaks

CPUS = 2


@pytest.fixture
def started() -> Iterator[Node]:
    """A node of two processors; nothing is left of it, or of its programs, in the end."""
    before = leaks.snapshot()
    node = StartedNode(StartOptions(resolve_plan(), num_cpus=CPUS * UNIT, object_store_bytes=64 << 20))
    try:
        yield Node(node)
    finally:
        node.stop()
    leaks.assert_clean(before)


@pytest.fixture
def running(started: Node) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start programs that are ended with the test."""
    programs: list[subprocess.Popen[str]] = []

    def run(program: str, **options: Any) -> subprocess.Popen[str]:
        programs.append(started.start(program, **options))
        return programs[-1]

    yield run
    for program in programs:
        program.kill()
        program.communicate(timeout=LIMIT_S)
