"""The distribution and what it registers."""

from importlib import import_module
from importlib.metadata import distribution

import pytest

import ray_async
from ray.plugins import PLUGIN_API

SEAMS = ("ray.executor", "ray.selector")
ENTRIES = [entry for entry in distribution("ray-async").entry_points if entry.group.startswith("ray.")]


def test_version_is_that_of_the_distribution() -> None:
    assert ray_async.__version__ == distribution("ray-async").version


def test_registers_the_executor() -> None:
    assert "asyncio" in {entry.name for entry in ENTRIES if entry.group == "ray.executor"}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.group}:{entry.name}")
def test_entry_points_lead_somewhere(entry) -> None:
    module = import_module(entry.value)
    if entry.group in SEAMS:
        assert (module.PLUGIN.seam, module.PLUGIN.name) == (entry.group.removeprefix("ray."), entry.name)
        assert module.PLUGIN.api == PLUGIN_API
