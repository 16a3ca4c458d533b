"""The directories of jobs on a node: from where they are fetched, who unpacks them, and when workers may start."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ray.exceptions import RemoteProtocolError
from ray.messages import cluster, codec, jobs
from ray.runtime.cluster.lending import RemoteDriver
from ray.runtime.node.chores import DIED, Chore
from ray.runtime.node.jobs import Job, Jobs
from ray.runtime.node.packages import AHEAD, NodePackages
from ray.runtime.process.node_start import JobConfig, Package, job_file
from ray.runtime.process.packed_directory import PIECE_BYTES
from ray.runtime.process.timers import Timers

DATA = os.urandom(1000) * 6000
PACKAGE = Package("", len(DATA))
CONFIG = JobConfig(["/their/path"], "default", True, "/nowhere", 0o022, {"A": "1"}, PACKAGE)
PIECES = -(-len(DATA) // PIECE_BYTES)


class Program:
    """A driver, or another node manager."""

    job = ""

    def __init__(self, id: bytes, kind: str = "driver") -> None:
        self.id = id
        self.kind = kind
        self.asked: list[int] = []

    def send(self, message: Any) -> None:
        if isinstance(message, cluster.ToDriver):
            message = codec.decode([message.message])
        assert isinstance(message, jobs.AskPackage)
        self.asked.append(message.offset)


class Chores:
    """Notes what is to be done; the test says what comes of it."""

    def __init__(self) -> None:
        self.begun: list[tuple[Chore, Callable[[str], None]]] = []

    def begin(self, chore: Chore, on_end: Callable[[str], None]) -> None:
        self.begun.append((chore, on_end))

    def end(self, problem: str = "") -> Chore:
        chore, on_end = self.begun.pop(0)
        if chore.package is not None and not problem:
            os.mkdir(chore.folder)
        on_end(problem)
        return chore


class Node:
    def __init__(self, folder: Path, *, others_may_ask: bool = True) -> None:
        self.folder = folder
        self.jobs = Jobs(str(folder))
        self.chores = Chores()
        self.timers = Timers()
        self.prepared: list[tuple[str, str]] = []
        self.packages = self.jobs.packages = NodePackages(
            str(folder),
            self.jobs,
            self.chores,  # type: ignore[arg-type]
            self.timers,
            lambda job, lack: self.prepared.append((job.id, lack)),
            others_may_ask=others_may_ask,
        )

    def open(self, driver: Any, config: JobConfig = CONFIG) -> Job:
        job = self.jobs.add(1)
        job.driver = driver
        self.jobs.configure(job, config)
        return job

    def give(
        self, source: Program, offset: int, data: bytes | None = None, error: str = "", job: str = "00000001"
    ) -> None:
        data = DATA[offset : offset + PIECE_BYTES] if data is None else data
        self.packages.take(source, jobs.PackagePiece(job, offset, data, error))  # type: ignore[arg-type]

    def give_all(self, source: Program) -> None:
        for offset in source.asked:  # it grows meanwhile
            self.give(source, offset)

    def written(self) -> JobConfig:
        return JobConfig.from_json(Path(job_file(str(self.folder), "00000001")).read_bytes())

    def left(self) -> list[str]:
        return sorted(name for name in os.listdir(self.folder) if name.startswith("working_dir"))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_pieces_are_asked_for_a_few_at_a_time_and_then_unpacked(node: Node) -> None:
    driver = Program(b"driver..")
    job = node.open(driver)
    assert driver.asked == [number * PIECE_BYTES for number in range(AHEAD)]
    node.give(driver, driver.asked[1])
    assert len(driver.asked) == AHEAD + 1
    node.give(driver, driver.asked[1])  # twice
    for offset in [driver.asked[0], *driver.asked[2:4], 4 * PIECE_BYTES, 5 * PIECE_BYTES]:
        assert not node.chores.begun
        node.give(driver, offset)
    assert len(driver.asked) == PIECES
    assert (job.is_prepared, node.prepared) == (False, [])
    (chore, _), *_ = node.chores.begun
    assert Path(chore.archive).read_bytes() == DATA
    assert chore.package == PACKAGE
    node.chores.end()
    assert (job.is_prepared, node.prepared) == (True, [("00000001", "")])
    told = node.written()
    assert told.sys_path == [chore.folder, "/their/path"]
    assert (told.env_vars, told.lack) == ({"A": "1"}, "")
    assert os.path.samestat(os.stat(chore.folder), os.fstat(job.cwd))
    assert job.config == CONFIG  # what other nodes are told


def test_workers_that_start_too_early_are_told_that_it_is_not_there(node: Node) -> None:
    node.open(Program(b"driver.."))
    assert node.written().lack


def test_a_job_without_one_waits_for_nothing(node: Node) -> None:
    job = node.open(Program(b"driver.."), JobConfig([], "default", True))
    assert job.is_prepared
    assert node.written().lack == ""
    node.jobs.forget(job)
    assert not node.chores.begun


def test_it_waits_for_the_driver_of_a_job_that_the_node_begins_with(node: Node) -> None:
    job = node.open(None)
    assert node.left() == []
    job.driver = driver = Program(b"driver..")
    node.packages.changed(job)
    node.packages.changed(job)
    assert len(driver.asked) == AHEAD


def test_another_node_is_asked_by_its_connection(node: Node) -> None:
    home = Program(b"node-a..", "node")
    job = node.jobs.adopt("00000001", RemoteDriver(home, "00000001"))
    node.jobs.configure(job, CONFIG)
    assert len(home.asked) == AHEAD
    node.give_all(home)
    node.chores.end()
    assert job.is_prepared
    piece = node.packages.piece("00000001", 2 * PIECE_BYTES)  # a third node may ask here
    assert piece.data == DATA[2 * PIECE_BYTES : 3 * PIECE_BYTES]
    assert node.packages.piece("00000001", len(DATA)).error
    assert node.packages.piece("00000009", 0).error


def test_what_was_asked_for_is_asked_for_again_at_the_next_home(node: Node) -> None:
    one, two = Program(b"node-a..", "node"), Program(b"node-b..", "node")
    job = node.jobs.adopt("00000001", RemoteDriver(one, "00000001"))
    node.jobs.configure(job, CONFIG)
    node.give(one, PIECE_BYTES)
    job.driver = RemoteDriver(two, "00000001")
    node.packages.changed(job)
    assert two.asked == [number * PIECE_BYTES for number in (0, 2, 3, 4)]
    node.give(one, 0, b"late")  # counts for nothing
    node.give_all(two)
    node.chores.end()
    assert node.prepared == [("00000001", "")]


def test_nobody_asks_the_only_node_so_that_the_file_goes(tmp_path: Path) -> None:
    node, driver = Node(tmp_path, others_may_ask=False), Program(b"driver..")
    node.open(driver)
    node.give_all(driver)
    assert node.left() == ["working_dir-00000001-1.zip"]
    node.chores.end()
    assert node.left() == ["working_dir-00000001-1"]
    assert node.packages.piece("00000001", 0).error


def test_strangers_send_nothing(node: Node) -> None:
    driver = Program(b"driver..")
    node.open(driver)
    with pytest.raises(RemoteProtocolError):
        node.give(Program(b"worker..", "worker"), 0)
    node.give(Program(b"another."), 0, error="no")
    node.give(driver, 0, job="00000007")
    node.give(driver, 5 * PIECE_BYTES)  # not asked for
    node.give(driver, 17)
    assert len(driver.asked) == AHEAD
    assert node.prepared == []


# --- what does not come ---


def fails(node: Node, job: Job, why: str) -> None:
    """It has failed: workers may start, and say that."""
    assert job.is_prepared
    ((name, lack),) = node.prepared
    assert name == job.id
    assert why in lack
    assert node.written().lack == lack
    assert node.written().sys_path == ["/their/path"]
    assert job.cwd == -1


def test_a_source_that_has_it_not(node: Node) -> None:
    driver = Program(b"driver..")
    job = node.open(driver)
    node.give(driver, 0, b"", "the program has ended its session")
    fails(node, job, "the program has ended its session")
    node.give(driver, PIECE_BYTES)  # they were under way
    assert node.left() == []
    assert len(node.prepared) == 1


@pytest.mark.parametrize("data", [b"", DATA[:1000], DATA[: PIECE_BYTES + 1]], ids=len)
def test_a_piece_of_another_size(node: Node, data: bytes) -> None:
    driver = Program(b"driver..")
    job = node.open(driver)
    node.give(driver, 0, data)
    fails(node, job, "another size")


def test_no_room_for_the_file(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Program(b"driver..")
    job = node.open(driver)
    true_pwrite, written = os.pwrite, []

    def pwrite(fd: int, data: Any, at: int) -> int:
        if written:
            raise OSError(28, "No space left on device")
        written.append(true_pwrite(fd, data[:100], at))
        return 100

    monkeypatch.setattr(os, "pwrite", pwrite)
    node.give(driver, 0)
    monkeypatch.undo()
    fails(node, job, "has no room for it")


@pytest.mark.parametrize("size", [0, (100 << 20) + 1])
def test_one_that_is_too_large(node: Node, size: int) -> None:
    job = node.open(Program(b"driver.."), JobConfig(["/their/path"], "default", True, package=Package("", size)))
    fails(node, job, "too large")


def test_a_file_that_cannot_be_made(node: Node) -> None:
    (node.folder / "working_dir-00000001-1.zip").touch()
    driver = Program(b"driver..")
    fails(node, node.open(driver), "cannot be written down: File exists")
    assert driver.asked == []


def test_what_cannot_be_unpacked(node: Node) -> None:
    driver = Program(b"driver..")
    job = node.open(driver)
    node.give_all(driver)
    node.chores.end("the ZIP file is damaged")
    fails(node, job, "the ZIP file is damaged")


def test_a_folder_that_is_gone(node: Node) -> None:
    driver = Program(b"driver..")
    job = node.open(driver)
    node.give_all(driver)
    node.chores.begun[0][1]("")
    fails(node, job, "cannot be used: No such file")


def run_timers(node: Node) -> None:
    """Those of the near future."""
    for delay, _, timer in sorted(node.timers._heap):
        if node.timers._heap and timer.callback is not None and delay < node.timers._heap[0][0] + 10:
            callback, timer.callback = timer.callback, None
            callback()


def test_a_process_that_is_killed_is_followed_by_another(node: Node) -> None:
    driver = Program(b"driver..")
    job = node.open(driver)
    node.give_all(driver)
    for _ in range(3):
        node.chores.end(DIED)
        assert not node.chores.begun
        run_timers(node)
        assert len(node.chores.begun) == 1
    node.chores.end(DIED)
    fails(node, job, DIED)


def test_a_program_that_ends_before_all_was_sent(node: Node) -> None:
    """Its detached actors live on, and learn why they have no process."""
    driver = Program(b"driver..")
    job = node.open(driver)
    node.give(driver, 0)
    job.driver = None
    node.packages.changed(job)
    fails(node, job, "the program has ended before it was sent")


def test_a_program_that_ends_when_all_was_sent(node: Node) -> None:
    driver = Program(b"driver..")
    job = node.open(driver)
    node.give_all(driver)
    job.driver = None
    node.packages.changed(job)
    node.chores.end()
    assert node.prepared == [("00000001", "")]


# --- the end ---


def test_all_is_removed_with_the_job(node: Node) -> None:
    driver = Program(b"driver..")
    job = node.open(driver)
    node.give_all(driver)
    unpacked = node.chores.end()
    node.jobs.forget(job)
    removed = node.chores.end(DIED)  # killed
    run_timers(node)
    assert node.chores.end() == removed == Chore(unpacked.archive, unpacked.folder)
    assert job.cwd == -1


def test_a_job_that_ends_while_its_directory_comes(node: Node) -> None:
    driver = Program(b"driver..")
    job = node.open(driver)
    node.give(driver, 0)
    node.jobs.forget(job)
    assert node.chores.end().package is None
    node.give(driver, PIECE_BYTES)
    assert node.prepared == []


@pytest.mark.parametrize("problem", ["", "damaged"])
def test_a_job_that_ends_while_it_is_unpacked(node: Node, problem: str) -> None:
    driver = Program(b"driver..")
    job = node.open(driver)
    node.give_all(driver)
    node.jobs.forget(job)
    assert len(node.chores.begun) == 1  # it is not removed under the hands of the other process
    node.chores.end(problem)
    assert node.chores.end().package is None
    assert node.prepared == []


def test_a_job_that_comes_again_has_a_place_of_its_own(node: Node) -> None:
    home = Program(b"node-a..", "node")
    for number in (1, 2):
        job = node.jobs.adopt("00000001", RemoteDriver(home, "00000001"))
        node.jobs.configure(job, CONFIG)
        assert f"working_dir-00000001-{number}.zip" in node.left()
        node.jobs.forget(job)
