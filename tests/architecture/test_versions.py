"""One version everywhere."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from ray.plugins.discovery import normalise

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))


def declared(package: Path) -> str:
    (path,) = package.glob("src/*/_version.py")
    match = re.search(r'^__version__ = "([^"]+)"$', path.read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def project(package: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    return found


CORE = ROOT / "packages" / "ray-core"
VERSION = declared(CORE)
SERIES = f"~={VERSION.rsplit('.', 1)[0]}.0"


def test_there_are_five_distributions() -> None:
    assert {package.name for package in PACKAGES} == {
        "ray-async", "ray-core", "ray-store-plasma", "ray-store-shm", "ray-transport-zmq",
    }  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_versions_are_equal(package: Path) -> None:
    assert declared(package) == VERSION
    assert project(package)["name"] == package.name
    assert project(package)["dynamic"] == ["version"], "the version is in _version.py only"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_the_installed_version_is_that_of_the_sources(package: Path) -> None:
    assert version(package.name) == VERSION


def test_ray_tells_its_version() -> None:
    import ray

    assert ray.__version__ == VERSION


@pytest.mark.parametrize("package", [path for path in PACKAGES if path != CORE], ids=lambda path: path.name)
def test_plugins_and_extras_ask_for_the_same_series(package: Path) -> None:
    assert project(package)["dependencies"][0] == f"ray-core{SERIES}"
    extras = project(CORE)["optional-dependencies"]
    assert [f"{package.name}{SERIES}"] in extras.values()


def test_all_asks_for_every_extra_but_the_test_kit() -> None:
    extras = project(CORE)["optional-dependencies"]
    (everything,) = extras["all"]
    match = re.fullmatch(r"ray-core\[([a-z,]+)\]", everything)
    assert match is not None
    assert set(match[1].split(",")) == set(extras) - {"all", "cluster", "testing"}
    assert extras["cluster"] == ["ray-core[redis,zmq]"]


def test_the_changelog_has_a_place_for_the_next_release() -> None:
    assert "\n## Unreleased\n" in (ROOT / "CHANGELOG.md").read_text()


CONSTRAINTS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
PINNED = {normalise(name): version for name, version in CONSTRAINTS.items()}


def test_the_groups_and_the_constraints_say_the_same() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    wanted = [entry for name, group in groups.items() if name != "bench" for entry in group if isinstance(entry, str)]
    assert len(wanted) > 20
    for requirement in wanted:
        name, _, exact = requirement.partition("==")
        assert PINNED[normalise(re.sub(r"\[.*\]", "", name))] == exact


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_what_a_package_needs_is_pinned_for_the_tests(package: Path) -> None:
    for requirement in project(package)["dependencies"]:
        name = re.split(r"[<>=~!\[ ]", requirement)[0]
        assert name.startswith("ray-") or normalise(name) in PINNED, name


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_nox_is_installed_with_the_constraints(page: str) -> None:
    assert "install -q -c constraints.txt nox" in (ROOT / page).read_text().replace("--disable-pip-version-check ", "")
