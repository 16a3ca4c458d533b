"""Work on files in a process that another one forks, as the node manager has it done."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from pathlib import Path

import msgspec

from ray.builtin.unix_transport import UnixTransport
from ray.runtime.node.chores import DIED, Chore, Chores, do_chore
from ray.runtime.node.forking import decode_request
from ray.runtime.process.node_start import Package
from ray.testing import eventually


class Forker:
    """Does at once what it is asked for, or nothing."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works

    def ask(self, request: bytes, fds: list[int]) -> None:
        if not self.works:
            raise OSError("there is none")
        (answer,) = fds
        do_chore(decode_request(request).chore, answer)


def pipes() -> set[str]:
    """Those that this process has open."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{fd}"))
    return {name for name in found if name.startswith("pipe:")}


def done(folder: Path, chore: Chore, forker: Forker) -> str:
    """What the node manager is told."""
    transport = UnixTransport(str(folder))
    before = pipes()
    told: list[str] = []
    Chores(forker, transport).begin(chore, told.append)
    eventually(lambda: transport.poll(0.01) or told)
    assert pipes() <= before
    transport.close()
    (text,) = told
    return text


def test_it_is_unpacked_and_removed(tmp_path: Path) -> None:
    archive, folder = tmp_path / "a.zip", tmp_path / "folder"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("lib/a.py", "1")
    package = Package(hashlib.sha256(archive.read_bytes()).hexdigest(), archive.stat().st_size)
    assert done(tmp_path, Chore(str(archive), str(folder), package), Forker()) == ""
    assert (folder / "lib" / "a.py").read_text() == "1"
    wrong = msgspec.structs.replace(package, digest="")
    assert "checksum is wrong" in done(tmp_path, Chore(str(archive), str(folder), wrong), Forker())
    for _ in range(2):
        assert done(tmp_path, Chore(str(archive), str(folder)), Forker()) == ""
        assert os.listdir(tmp_path) == []


def test_without_a_process_there_is_an_answer_too(tmp_path: Path) -> None:
    assert done(tmp_path, Chore("a", "b"), Forker(works=False)) == DIED
