"""What the package is to others: a name, a plugin, options, and an import that costs little and works everywhere."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

import ray_store_plasma
from ray.abc import Store, StoreServer
from ray.exceptions import PluginOptionsError
from ray.plugins import Composition, resolve_plan
from ray_store_plasma import plugin

from .conftest import an_id


def run(code: str) -> str:
    """What the code prints, in an interpreter of its own."""
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_version_is_that_of_the_distribution() -> None:
    assert ray_store_plasma.__version__ == distribution("ray-store-plasma").version


def test_the_plugin_is_registered_under_its_name() -> None:
    (entry,) = [entry for entry in distribution("ray-store-plasma").entry_points if entry.group == "ray.store"]
    assert (entry.name, entry.value) == (plugin.PLUGIN.name, "ray_store_plasma.plugin")


def test_the_hooks_start_and_open_what_the_plan_says(tmp_path: Path) -> None:
    options = {"store": {"capacity_bytes": 1 << 20, "spill_dir": str(tmp_path), "full_timeout_s": 0.0, "spill": False}}
    composition = Composition(resolve_plan(store="ray_store_plasma.plugin", options=options))
    server = composition.start_store(str(tmp_path), 1 << 30)
    store = composition.open_store(server.address)
    assert isinstance(server, StoreServer)
    assert isinstance(store, Store)
    assert store.stats().capacity_bytes == 1 << 20
    assert store.capabilities == plugin.PLUGIN.capabilities
    store.put(an_id(1), [b"x"], 1)
    store.close()
    store.close()
    server.close()


@pytest.mark.parametrize("options", [{"spil": True}, {"full_timeout_s": -1}, {"memcopy_threads": 0}, {"spill_dir": 7}])
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(PluginOptionsError):
        Composition(resolve_plan(store="ray_store_plasma.plugin", options={"store": options}))


def test_nothing_heavy_is_imported() -> None:
    code = """
import ray_store_plasma.plugin
early = set(sys.modules)
import ray_store_plasma.process, ray_store_plasma.client
assert "ray_store_plasma.client" not in early and "ctypes" not in early, "the plugin itself imports nothing"
print(sorted({"numpy", "pyarrow", "pandas", "asyncio", "multiprocessing"} & set(sys.modules)))
"""
    assert run(code) == "[]"


def test_a_system_without_memory_files_is_told_what_to_use() -> None:
    code = """
import os, fcntl, socket, select, signal
for module, names in {os: ["memfd_create", "MFD_CLOEXEC", "MFD_ALLOW_SEALING", "eventfd", "pidfd_open", "O_TMPFILE"],
                      fcntl: ["F_ADD_SEALS", "F_SEAL_GROW", "F_SEAL_SHRINK", "F_SEAL_SEAL"],
                      socket: ["SO_PEERCRED"], signal: ["pidfd_send_signal"],
                      select: [name for name in dir(select) if name.lower().startswith("epoll")]}.items():
    for name in names:
        delattr(module, name)
sys.platform = "darwin"
from ray_store_plasma.client import PlasmaStore
from ray_store_plasma.process import PlasmaStoreServer
from ray.exceptions import RaySystemError
try:
    PlasmaStoreServer("/nowhere", 1 << 20)
except RaySystemError as error:
    print(error)
"""
    text = run(code)
    assert "store='plasma' needs anonymous memory files" in text
    assert "use store='shm' or store='heap'" in text
