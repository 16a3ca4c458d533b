"""Fake distributions: a metadata folder, and modules beside it, on ``sys.path``."""

import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ray.plugins.seams import SEAMS

Install = Callable[..., Path]

#: A store plugin in one file; tests change a line of it.
STORE_PLUGIN = """
from ray.plugins import PluginInfo, hookimpl

PLUGIN = PluginInfo(seam="store", name="traced", api=2, summary="a store of the tests")


@hookimpl
def ray_start_store(capacity_bytes):
    from ray.builtin.heap_store import HeapStoreServer

    return HeapStoreServer(capacity_bytes)


@hookimpl
def ray_open_store(address):
    from ray.builtin.heap_store import HeapStore

    return HeapStore.open(address)
"""

#: A selector plugin that asks for a store with notifications.
SELECTOR_PLUGIN = """
from ray.plugins import PluginInfo, hookimpl

PLUGIN = PluginInfo(seam="selector", name="epoll", api=2, needs_store=frozenset({"notifications"}))


@hookimpl
def ray_make_selector(options, runtime):
    return None
"""


@pytest.fixture(autouse=True)
def neutral(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No choice comes from where the tests run."""
    for variable in ("RAY_CONFIG", "RAY_OBSERVERS", "RAY_TRACE_PLUGINS", *(seam.env for seam in SEAMS.values())):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("ray.plugins.installing.clone", lambda: "")
    empty = tmp_path / "cwd"
    empty.mkdir()
    monkeypatch.chdir(empty)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory at the end of ``sys.path``; modules imported from it are forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    yield folder
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """Return ``install(distribution, entry_points, modules)``, which puts a distribution on ``sys.path``."""

    def install_distribution(
        name: str,
        entry_points: str = "",
        modules: Mapping[str, str] | None = None,
        version: str = "1.0",
        record: str = "",
        folder: Path = site,
    ) -> Path:
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text(record)
        if entry_points:
            (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
        for module, text in (modules or {}).items():
            (folder / f"{module}.py").write_text(text)
        return info

    return install_distribution


@pytest.fixture
def traced(install: Install) -> Callable[..., None]:
    """Return a function that installs the store ``traced`` with changes to its text."""

    def install_traced(*changes: tuple[str, str], extra: str = "") -> None:
        text = STORE_PLUGIN
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        install("traced-dist", "[ray.store]\ntraced = traced_plugin\n", {"traced_plugin": text + extra})

    return install_traced


@pytest.fixture
def epoll(install: Install) -> None:
    """Install a selector that needs store notifications."""
    install("ray-async", "[ray.selector]\nepoll = fake_epoll\n", {"fake_epoll": SELECTOR_PLUGIN}, version="0.1.0")
