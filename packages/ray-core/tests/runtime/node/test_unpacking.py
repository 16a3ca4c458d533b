"""Unpacking what a program has sent along: nothing of it is trusted, and nothing is left of what is refused."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ray.runtime.node import unpacking
from ray.runtime.node.unpacking import UnpackError, no_room, unpack
from ray.runtime.process.node_start import Package


def facts(archive: Path) -> Package:
    data = archive.read_bytes()
    return Package(hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "a.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "unpacked"


def written(archive: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Package:
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in entries:
            file.writestr(name, data)
    return facts(archive)


def test_files_and_folders_of_this_user_alone(archive: Path, folder: Path) -> None:
    program = zipfile.ZipInfo("bin/run")
    program.external_attr = 0o100755 << 16
    package = written(archive, ("a.py", b"1"), ("lib/deep/b.py", b"2" * 3_000_000), ("empty/", b""), (program, b"3"))
    folder.mkdir()
    (folder / "left").write_text("of an earlier attempt")
    unpack(str(archive), package, str(folder))
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    assert sorted(found) == ["a.py", "bin", "bin/run", "empty", "lib", "lib/deep", "lib/deep/b.py"]
    assert found["lib/deep/b.py"].read_bytes() == b"2" * 3_000_000
    modes = {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()}
    assert {modes[name] for name in ("bin", "empty", "lib", "lib/deep", "bin/run")} == {0o700}
    assert {modes["a.py"], modes["lib/deep/b.py"]} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("../a", "outside"),
        ("a/../../b", "outside"),
        ("a/..", "outside"),
        ("/etc/x", "outside"),
        ("a//b", "outside"),
        ("./a", "outside"),
        (special("link", stat.S_IFLNK | 0o777), "neither a file nor a folder"),
        (special("pipe", stat.S_IFIFO | 0o600), "neither a file nor a folder"),
    ],
    ids=str,
)
def test_entries_that_none_should_have(archive: Path, folder: Path, entry: str, why: str) -> None:
    package = written(archive, ("good.py", b"1"), (entry, b"/etc"))
    with pytest.raises(UnpackError, match=why):
        unpack(str(archive), package, str(folder))
    assert sorted(os.listdir(folder.parent)) == ["a.zip"]


def test_an_entry_that_comes_twice(archive: Path, folder: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        package = written(archive, ("a", b"1"), ("a", b"2"))
    with pytest.raises(UnpackError, match="damaged"):
        unpack(str(archive), package, str(folder))
    package = written(archive, ("a", b"1"), ("a/b", b"2"))
    with pytest.raises(UnpackError, match="damaged"):
        unpack(str(archive), package, str(folder))
    assert not folder.exists()


def test_limits_hold_whatever_the_file_says(archive: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in "abc":
            file.writestr(name, b"0" * 1_000_000)
    package = facts(archive)
    unpack(str(archive), package, str(folder))
    monkeypatch.setattr(unpacking, "MAX_UNPACKED_BYTES", 2_500_000)
    with pytest.raises(UnpackError, match="more than"):
        unpack(str(archive), package, str(folder))
    monkeypatch.setattr(unpacking, "MAX_ENTRIES", 2)
    with pytest.raises(UnpackError, match="3 files and folders, more than 2"):
        unpack(str(archive), package, str(folder))
    assert not folder.exists()


def flipped(data: bytes) -> bytes:
    return data[:40] + bytes([data[40] ^ 1]) + data[41:]


@pytest.mark.parametrize(
    "change", [flipped, lambda data: data[:-1], lambda data: data + b"x", lambda data: b""], ids=range(4)
)
def test_a_damaged_file(archive: Path, folder: Path, change: Callable[[bytes], bytes]) -> None:
    package = written(archive, ("a.py", b"1" * 100))
    archive.write_bytes(change(archive.read_bytes()))
    with pytest.raises(UnpackError, match=r"the ZIP file is damaged: its (size|checksum) is wrong"):
        unpack(str(archive), package, str(folder))
    assert not folder.exists()


@pytest.mark.parametrize("change", [flipped, lambda data: data[:-30], lambda data: b"no ZIP"], ids=range(3))
def test_one_that_was_made_so(archive: Path, folder: Path, change: Callable[[bytes], bytes]) -> None:
    written(archive, ("a.py", b"1" * 100))
    archive.write_bytes(change(archive.read_bytes()))
    with pytest.raises(UnpackError, match="the ZIP file is damaged: "):
        unpack(str(archive), facts(archive), str(folder))
    assert not folder.exists()


def test_no_room(archive: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = written(archive, ("a.py", b"1"))

    def full(path: str, mode: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unpacking, "_create", full)
    with pytest.raises(UnpackError, match=f"the disk of '{folder.parent}' has no room for it"):
        unpack(str(archive), package, str(folder))
    assert not folder.exists()
    assert no_room(OSError(errno.EIO, "Input/output error"), "x") == ""


def test_no_file(folder: Path) -> None:
    with pytest.raises(UnpackError, match=r"cannot be unpacked: .*No such file"):
        unpack("/nope.zip", Package("", 1), str(folder))
