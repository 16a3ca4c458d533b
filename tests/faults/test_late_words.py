"""What a worker has said before its death, heard when its task runs elsewhere, harms nothing of what that makes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.faults.late_transport import MARK
from tests.quick import crossed

import ray
from ray.testing import eventually

LIMIT_S = 40.0
#: Goes to the node's store.
LARGE = 200_000
COUNT = 6
SHARED = [name for name in ("shm", "plasma") if find_spec(f"ray_store_{name}")]


def appears(file: Path) -> None:
    eventually(file.exists, LIMIT_S, f"{file} is not there")


def values(folder: Path) -> Iterator[Any]:
    """All but the first value is heard late; the first attempt dies behind the last one."""
    attempt = ray.get_runtime_context().attempt
    yield 0
    yield MARK
    for i in range(COUNT):
        yield (i, bytes(LARGE))
    if attempt == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / "again").touch()
    appears(folder / "end")


@ray.remote(num_returns="streaming", max_retries=1)
def task(folder: Path) -> Iterator[Any]:
    yield from values(folder)


@ray.remote(max_restarts=1, max_task_retries=1)
class Actor:
    @ray.method(num_returns="streaming")
    def method(self, folder: Path) -> Iterator[Any]:
        yield from values(folder)


@ray.remote
class Keeper:
    def put(self) -> list[Any]:
        return [ray.put(bytes(LARGE))]


@ray.remote(max_retries=1)
def gives(file: Path, refs: list[Any]) -> list[Any]:
    if ray.get_runtime_context().attempt:
        return []
    file.write_text(str(os.getpid()))
    return [MARK, *refs]


@ray.remote(num_returns="streaming", max_retries=1)
def small_again(folder: Path) -> Iterator[Any]:
    """The second time no value goes to the store."""
    for value in values(folder):
        yield value if ray.get_runtime_context().attempt == 0 or type(value) is not tuple else value[:1]


@ray.remote(num_returns="streaming", max_retries=0)
def unrepeated(folder: Path) -> Iterator[Any]:
    yield from values(folder)


def begin(start: Any, store: str, folder: Path) -> None:
    start(
        num_cpus=2,
        store=store,
        transport="tests.faults.late_transport",
        options={"transport": {"gate": str(folder / "gate")}},
        log_to_driver=False,
    )


@pytest.mark.parametrize(("kind", "store"), crossed(["task", "actor"], SHARED[::-1]))
def test_a_stream(start: Any, kind: str, store: str, tmp_path: Path) -> None:
    begin(start, store, tmp_path)
    actor = Actor.remote() if kind == "actor" else None
    stream = task.remote(tmp_path) if actor is None else actor.method.remote(tmp_path)
    appears(tmp_path / "again")
    (tmp_path / "gate").touch()
    found = [ray.get(next(stream), timeout=LIMIT_S) for _ in range(2 + COUNT)]
    assert found[:2] == [0, MARK]
    assert [i for i, _ in found[2:]] == [*range(COUNT)]
    assert all(data == bytes(LARGE) for _, data in found[2:])
    (tmp_path / "end").touch()
    assert list(stream) == []


@pytest.mark.parametrize("store", SHARED)
def test_one_that_is_not_repeated(start: Any, store: str, tmp_path: Path) -> None:
    """What it has stored does not stay there: the fixture sees that."""
    begin(start, store, tmp_path)
    stream = unrepeated.remote(tmp_path)
    assert ray.get(next(stream), timeout=LIMIT_S) == 0
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(next(stream), timeout=LIMIT_S)
    (tmp_path / "gate").touch()
    assert list(stream) == []


@pytest.mark.parametrize("store", SHARED)
def test_a_stream_of_other_values(start: Any, store: str, tmp_path: Path) -> None:
    """What the first attempt has stored does not stay there either."""
    begin(start, store, tmp_path)
    stream = small_again.remote(tmp_path)
    appears(tmp_path / "again")
    (tmp_path / "gate").touch()
    found = [ray.get(next(stream), timeout=LIMIT_S) for _ in range(2 + COUNT)]
    assert found == [0, MARK, *((i,) for i in range(COUNT))]
    (tmp_path / "end").touch()
    assert list(stream) == []


@pytest.mark.parametrize("store", SHARED)
def test_a_reply_with_refs(start: Any, store: str, tmp_path: Path) -> None:
    """Nobody holds what they refer to: the fixture sees that it goes."""
    begin(start, store, tmp_path)
    keeper = Keeper.remote()
    refs = ray.get(keeper.put.remote(), timeout=LIMIT_S)
    given = gives.remote(tmp_path / "pid", refs)
    appears(tmp_path / "gate-held")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    assert ray.get(given, timeout=LIMIT_S) == []
    (tmp_path / "gate").touch()
    assert ray.get(ray.get(keeper.put.remote(), timeout=LIMIT_S)[0], timeout=LIMIT_S) == bytes(LARGE)
