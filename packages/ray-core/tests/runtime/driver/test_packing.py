"""The directory that a program sends along: what goes into its ZIP, and what is said of one that cannot be sent."""

from __future__ import annotations

import io
import logging
import os
import socket
import zipfile
from pathlib import Path

import pytest

from ray.runtime.driver import packing
from ray.runtime.driver.ignoring import IgnoreRules
from ray.runtime.driver.packing import pack
from ray.runtime.process.packed_directory import PIECE_BYTES, PackedDirectory


def fill(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def data_of(packed: PackedDirectory) -> bytes:
    """The ZIP, as it comes in pieces."""
    data = bytearray()
    while len(data) < packed.package.size:
        piece = packed.piece("1", len(data))
        assert (piece.job, piece.offset, piece.error) == ("1", len(data), "")
        data += piece.data
    return bytes(data)


def names_in(root: Path) -> list[str]:
    packed = pack(str(root))
    with zipfile.ZipFile(io.BytesIO(data_of(packed))) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    packed.close()
    return names


def test_what_is_packed(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "main.py": "1",
            "lib/__init__.py": "",
            "lib/deep/er.txt": "2",
            ".env": "A=1",
            "lib/__pycache__/x.pyc": "",
            ".git/config": "",
            "lib/.git": "",
            ".venv/bin/python": "",
        },
    )
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        found = names_in(tmp_path)
    assert found == [".env", "empty/", "lib/", "lib/__init__.py", "lib/deep/", "lib/deep/er.txt", "main.py"]


def test_links_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path / "real", {"a.py": ""})
    (tmp_path / "real" / "b.py").symlink_to("a.py")
    (tmp_path / "real" / "up").symlink_to("..")
    (tmp_path / "link").symlink_to("real")
    caplog.set_level(logging.WARNING, "ray")
    assert names_in(tmp_path / "link") == ["a.py"]  # the directory itself may be one
    (record,) = caplog.records
    assert record.getMessage() == "working_dir: symbolic links are not sent: b.py, up"


def test_the_same_content_makes_the_same_file(tmp_path: Path) -> None:
    one, two = (fill(tmp_path / name, {"b.py": "x" * 1000, "a/c.py": ""}) for name in "12")
    os.utime(two / "b.py", (0, 0))
    packed = [pack(str(one)), pack(str(two))]
    assert packed[0].package == packed[1].package
    fill(two, {"b.py": "y" * 1000})
    packed.append(pack(str(two)))
    assert packed[2].package.digest != packed[0].package.digest
    for each in packed:
        each.close()


def test_who_may_run_a_file_is_kept(tmp_path: Path) -> None:
    fill(tmp_path, {"run.sh": "", "plain": ""})
    (tmp_path / "run.sh").chmod(0o755)
    packed = pack(str(tmp_path))
    with zipfile.ZipFile(io.BytesIO(data_of(packed))) as archive:
        modes = {info.filename: bool(info.external_attr >> 16 & 0o100) for info in archive.infolist()}
    assert modes == {"run.sh": True, "plain": False}
    packed.close()


def test_what_is_compressed_already_is_not_compressed_again(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(os.urandom(3 << 20))
    (tmp_path / "text").write_bytes(b"text " * (1 << 20))
    (tmp_path / "small").write_bytes(os.urandom(100))
    packed = pack(str(tmp_path))
    with zipfile.ZipFile(io.BytesIO(data_of(packed))) as archive:
        assert archive.testzip() is None
        assert archive.read("image") == (tmp_path / "image").read_bytes()
        sizes = {info.filename: (info.file_size, info.compress_size) for info in archive.infolist()}
    assert sizes["image"] == (3 << 20, 3 << 20)
    assert sizes["text"][0] == 5 << 20
    assert sizes["text"][1] < 100_000
    packed.close()


def test_a_large_one_comes_in_pieces_until_it_is_closed(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(os.urandom(2 * PIECE_BYTES + 17))
    packed = pack(str(tmp_path))
    assert packed.package.size > 2 * PIECE_BYTES
    assert len(packed.piece("1", 0).data) == PIECE_BYTES
    assert packed.piece("1", packed.package.size).error
    assert zipfile.is_zipfile(io.BytesIO(data_of(packed)))
    packed.close()
    packed.close()
    assert packed.piece("1", 0).error == "the program has ended its session"


# --- what cannot be sent ---


def test_no_directory(tmp_path: Path) -> None:
    fill(tmp_path, {"file.py": ""})
    with pytest.raises(ValueError, match=r"nope' does not exist$"):
        pack(str(tmp_path / "nope"))
    with pytest.raises(ValueError, match=r"file.py' is a file, not a directory$"):
        pack(str(tmp_path / "file.py"))


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"lib/secret.key": "", "a.py": ""})
    true_open, true_scan = os.open, os.scandir

    def no_open(path: str, *rest: int) -> int:
        if path.endswith("secret.key"):
            raise PermissionError(13, "Permission denied", path)
        return true_open(path, *rest)

    monkeypatch.setattr(packing.os, "open", no_open)
    with pytest.raises(ValueError, match=r"lib/secret.key' cannot be read: Permission denied. Name what"):
        pack(str(tmp_path))
    monkeypatch.undo()

    def no_scan(path: str) -> object:
        if path.endswith("lib"):
            raise PermissionError(13, "Permission denied", path)
        return true_scan(path)

    monkeypatch.setattr(packing.os, "scandir", no_scan)
    with pytest.raises(ValueError, match=r"lib' cannot be read: Permission denied"):
        pack(str(tmp_path))
    monkeypatch.undo()
    (tmp_path / ".rayignore").write_bytes(b"\xff\n")
    with pytest.raises(ValueError, match=r"\.rayignore' cannot be read: it is not in UTF-8"):
        pack(str(tmp_path))


def test_what_goes_away_meanwhile_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"a.py": "", "b.py": ""})
    true_open = os.open

    def gone(path: str, *rest: int) -> int:
        if path.endswith("a.py"):
            os.unlink(path)
        return true_open(path, *rest)

    monkeypatch.setattr(packing.os, "open", gone)
    packed = pack(str(tmp_path))
    with zipfile.ZipFile(io.BytesIO(data_of(packed))) as archive:
        assert archive.namelist() == ["b.py"]
    packed.close()


def test_a_name_that_is_not_in_utf8(tmp_path: Path) -> None:
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff.py", os.O_CREAT))
    with pytest.raises(ValueError, match=r"not in UTF-8: '\\udcff.py'"):
        pack(str(tmp_path))
    fill(tmp_path, {".rayignore": "?.py"})
    assert names_in(tmp_path) == [".rayignore"]


def sparse(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, size)


def test_too_large_before_it_is_packed(tmp_path: Path) -> None:
    sparse(tmp_path / "data" / "x", 1 << 30)
    sparse(tmp_path / "model.bin", 5 << 20)
    fill(tmp_path, {"a.py": ""})
    with pytest.raises(ValueError, match="too large") as raised:
        pack(str(tmp_path))
    text = str(raised.value)
    assert "1.005 GiB, and at most 1 GiB can be" in text
    assert "Its largest entries: data/ (1 GiB), model.bin (5 MiB), a.py (0 bytes). Name what" in text
    fill(tmp_path, {".rayignore": "/data/\n"})
    assert names_in(tmp_path) == [".rayignore", "a.py", "model.bin"]


def test_too_large_when_it_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_PACKED_BYTES", 2 << 20)
    for name in "abc":
        (tmp_path / name).write_bytes(os.urandom(1 << 20))
    with pytest.raises(ValueError, match=r"more than 2 MiB when it is packed, 3 MiB before. Its largest entries: a "):
        pack(str(tmp_path))


def test_a_file_that_grows_while_it_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_UNPACKED_BYTES", 3 << 20)
    fill(tmp_path, {"log": ""})
    monkeypatch.setattr(packing, "_read", lambda source, path: b"x" * (1 << 20))
    with pytest.raises(ValueError, match="too large"):
        pack(str(tmp_path))


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_ENTRIES", 5)
    fill(tmp_path, {f"modules/{number}": "" for number in range(5)})
    with pytest.raises(ValueError, match=r"6 files and folders, and at most 5 can be. Most are in modules/ \(6\)\."):
        pack(str(tmp_path))


def test_no_room_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing.tempfile, "TemporaryFile", full)
    with pytest.raises(ValueError, match=r"cannot be packed: .*No space left"):
        pack(str(tmp_path))


# --- .rayignore ---


@pytest.mark.parametrize(
    ("lines", "out", "kept"),
    [
        ("*.log", ["a.log", "deep/er/b.log", ".log"], ["a.log.txt", "log"]),
        ("/*.log", ["a.log"], ["deep/b.log"]),
        ("data/", ["data/", "lib/data/"], ["data"]),
        ("/data", ["data/", "data"], ["lib/data"]),
        ("lib/data", ["lib/data"], ["data", "x/lib/data"]),
        ("**/data/x", ["data/x", "a/b/data/x"], ["data/y"]),
        ("a/**", ["a/b", "a/b/c"], ["a/"]),
        ("a/**/z", ["a/z", "a/b/c/z"], ["b/z"]),
        ("a/*/z", ["a/b/z"], ["a/z", "a/b/c/z"]),
        ("?.py", ["a.py"], ["ab.py"]),
        ("[a-c].py\n[!x]1", ["b.py", "y1"], ["d.py", "x1"]),
        ("*.py\n!keep.py", ["a.py"], ["keep.py", "lib/keep.py"]),
        ("!keep.py\n*.py", ["keep.py"], []),
        ("# no\n\n  \n\\#yes\na+b.txt  ", ["#yes", "a+b.txt"], ["no", "aab.txt"]),
        ("[", ["["], ["a"]),
        ("/\n!\n", [], ["a", "a/"]),
        ("", ["x/__pycache__/", ".git", ".venv/"], ["git", "venv/"]),
    ],
)
def test_patterns(lines: str, out: list[str], kept: list[str]) -> None:
    rules = IgnoreRules(lines.split("\n"))

    def leaves_out(path: str) -> bool:
        return rules.leaves_out(path.removesuffix("/"), is_folder=path.endswith("/"))

    assert [path for path in out if not leaves_out(path)] == []
    assert [path for path in kept if leaves_out(path)] == []


def test_what_is_in_a_folder_that_is_left_out_is_not_looked_at(tmp_path: Path) -> None:
    fill(tmp_path, {"out/keep.py": "", "a.py": "", ".rayignore": "out/\n!keep.py\n.rayignore\n"})
    assert names_in(tmp_path) == ["a.py"]


@pytest.mark.parametrize("kind", ["pipe", "device", "large"])
def test_patterns_that_have_no_end(tmp_path, kind):
    path = tmp_path / ".rayignore"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"a\n" * (1 << 20))
    with pytest.raises(ValueError, match="has more than 1 MiB" if kind == "large" else "rayignore' is no file"):
        pack(str(tmp_path))


def test_a_path_below_a_directory_that_was_removed(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ValueError, match="working_dir='here' cannot be found: No such file"):
        pack("here")
