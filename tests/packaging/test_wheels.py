"""What is in the wheels and source archives."""

import email
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {path.parent.name: path.parent for path in sorted(ROOT.glob("packages/*/pyproject.toml"))}


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive of each distribution, built without a network."""
    folder = tmp_path_factory.mktemp("dist")
    for package in PACKAGES.values():
        subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(package)],
            check=True, capture_output=True, text=True, timeout=50,
        )  # fmt: skip
    return folder


def wheel_of(archives: Path, name: str) -> zipfile.ZipFile:
    (path,) = archives.glob(f"{name.replace('-', '_')}-*-py3-none-any.whl")
    return zipfile.ZipFile(path)


def metadata_of(wheel: zipfile.ZipFile) -> Message:
    (path,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return email.message_from_bytes(wheel.read(path))


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.timeout(120)
def test_wheel_holds_its_own_package_and_nothing_else(archives: Path, name: str) -> None:
    (package,) = [path.parent for path in PACKAGES[name].glob("src/*/__init__.py")]
    with wheel_of(archives, name) as wheel:
        files = {path for path in wheel.namelist() if ".dist-info/" not in path}
    expected = {
        str(path.relative_to(package.parent)) for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    assert files == expected
    assert f"{package.name}/py.typed" in files


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.timeout(120)
def test_metadata_is_complete(archives: Path, name: str) -> None:
    with wheel_of(archives, name) as wheel:
        metadata = metadata_of(wheel)
        licences = [path for path in wheel.namelist() if path.endswith("licenses/LICENSE")]
    assert metadata["Name"] == name
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert "ray.init(" in str(metadata.get_payload())
    assert len(licences) == 1


@pytest.mark.timeout(120)
def test_entry_points_of_the_core_lead_to_modules_in_the_wheel(archives: Path) -> None:
    with wheel_of(archives, "ray-core") as wheel:
        files = set(wheel.namelist())
        (path,) = [name for name in files if name.endswith(".dist-info/entry_points.txt")]
        parser = ConfigParser(delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(wheel.read(path).decode())
    assert parser["console_scripts"]["ray"] == "ray.cli:main"
    groups = {group for group in parser.sections() if group.startswith("ray.")}
    assert groups >= {"ray.store", "ray.transport", "ray.scheduler", "ray.control", "ray.executor"}
    for group in groups:
        for value in parser[group].values():
            stem = value.split(":")[0].replace(".", "/")
            assert {f"{stem}.py", f"{stem}/__init__.py"} & files, f"{group}: {value}"


@pytest.mark.parametrize("name", [name for name in PACKAGES if name != "ray-core"])
@pytest.mark.timeout(120)
def test_plugins_ship_no_file_under_ray(archives: Path, name: str) -> None:
    with wheel_of(archives, name) as wheel:
        assert not [path for path in wheel.namelist() if path.startswith("ray/")]


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.timeout(120)
def test_source_archive_can_be_built_from(archives: Path, name: str) -> None:
    (path,) = archives.glob(f"{name.replace('-', '_')}-*.tar.gz")
    with tarfile.open(path) as archive:
        files = {"/".join(member.split("/")[1:]) for member in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} <= files
    allowed = ("src", "tests", "pyproject.toml", "README.md", "LICENSE", "PKG-INFO", ".gitignore")
    assert {file for file in files if file and not file.startswith(allowed)} == set()
    assert not [file for file in files if file.endswith(".pyc")]
