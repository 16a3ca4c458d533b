"""The command that a message ends in works where ray-core came from: an index, or a clone."""

import importlib.metadata
import json
import subprocess

import pytest

from ray.plugins import installing
from ray.plugins.installing import clone
from ray.plugins.seams import SEAMS

PLASMA = SEAMS["store"].known["plasma"]
REDIS = SEAMS["control"].known["redis"]


@pytest.fixture(autouse=True)
def look(neutral, monkeypatch):
    """Here it matters where ray-core came from."""
    monkeypatch.setattr(installing, "clone", clone)
    clone.cache_clear()
    yield
    clone.cache_clear()


class Installed:
    """Stands in for the metadata of an installed distribution."""

    def __init__(self, record):
        self.record = record

    def read_text(self, name):
        return self.record if name == "direct_url.json" else None


@pytest.fixture
def installed(monkeypatch):
    def install(record):
        monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(record))

    return install


@pytest.fixture
def folders(tmp_path, request):
    """A clone's folder of packages."""
    home = tmp_path / getattr(request, "param", "packages")
    for name in ("ray-core", "ray-store-plasma"):
        (home / name).mkdir(parents=True)
    return home


@pytest.mark.parametrize(
    "record",
    [None, "{", '{"url": "https://example.org/ray_core-0.1.0-py3-none-any.whl", "archive_info": {}}', '{"url": ""}'],
)
def test_from_an_index_it_is_the_extra(installed, record):
    installed(record)
    assert installing.command_for(PLASMA) == 'pip install "ray-core[plasma]"'
    assert installing.command_for(REDIS, upgrade=True) == 'pip install --upgrade "ray-core[redis]"'


def test_without_metadata_it_is_the_extra(monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", nothing)
    assert installing.command_for(PLASMA) == 'pip install "ray-core[plasma]"'


@pytest.mark.parametrize("folders", ["packages", "of mine"], indirect=True)
def test_from_a_clone_it_is_the_folder_beside(installed, folders):
    installed(json.dumps({"url": (folders / "ray-core").as_uri(), "dir_info": {"editable": True}}))
    command = installing.command_for(PLASMA)
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert words.stdout.splitlines() == ["pip", "install", str(folders / "ray-store-plasma")]


def test_what_is_only_a_library_comes_by_the_extra_of_the_clone(installed, folders):
    installed(json.dumps({"url": (folders / "ray-core").as_uri(), "dir_info": {}}))
    assert installing.command_for(REDIS) == f'pip install "{folders}/ray-core[redis]"'


def test_a_clone_that_is_gone_is_not_named(installed, tmp_path):
    installed(json.dumps({"url": (tmp_path / "gone" / "ray-core").as_uri(), "dir_info": {}}))
    assert installing.command_for(PLASMA) == 'pip install "ray-core[plasma]"'
