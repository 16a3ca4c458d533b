"""``ray.cancel`` of what ignores it: one that waits in vain is told that it was cancelled and has not ended yet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from tests import sessions

import ray
from ray.exceptions import GetTimeoutError, TaskCancelledError
from ray.testing import eventually

session = sessions.shared(num_cpus=3)
nothing_left = sessions.unchecked()


def ignores(begun: Path, told: Path, end: Path) -> int:
    """Goes on until ``end`` is there, whatever it is told."""
    until = time.monotonic() + 50
    while True:
        try:
            begun.touch()  # inside: it may be cancelled as soon as this is seen
            while not end.exists() and time.monotonic() < until:
                time.sleep(0.01)
            return 1
        except BaseException:
            told.touch()


@ray.remote(num_cpus=0)
class Stubborn:
    def ignores(self, begun: Path, told: Path, end: Path) -> int:
        return ignores(begun, told, end)


task = ray.remote(num_cpus=0)(ignores)


@ray.remote(num_cpus=0)
def takes(value: int) -> int:
    return value


def appears(file: Path) -> None:
    eventually(file.exists, 40, f"{file} is not there")


def timed_out(refs: Any) -> GetTimeoutError:
    with pytest.raises(GetTimeoutError) as caught:
        ray.get(refs, timeout=0.02)
    return caught.value


@pytest.mark.parametrize("kind", ["task", "call"])
def test_the_text_of_a_timeout(kind: str, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("begun", "told", "end")]
    other_files = [tmp_path / name for name in ("other begun", "other told", "end")]
    actor = Stubborn.remote()
    ref = task.remote(*files) if kind == "task" else actor.ignores.remote(*files)
    other = task.remote(*other_files)
    for file in (files[0], other_files[0]):
        appears(file)
    assert "The tasks go on: get again" in str(timed_out([ref, other]))

    ray.cancel(ref)
    appears(files[1])
    dependent = takes.remote(ref)
    name, end = (
        ("The task ignores", r"ray.cancel(ref, force=True)") if kind == "task" else ("The call Stubborn", "kill")
    )
    for waited_for in (ref, [ref], dependent):
        error = timed_out(waited_for)
        assert (error.pending, error.cancelled) == (1, 1)
        assert name in error.reason
        assert "was cancelled and has not ended yet" in str(error)
        assert end in str(error)
        assert "go on" not in str(error)
    error = timed_out([ref, other])
    assert (error.pending, error.cancelled) == (2, 1)
    assert "has not ended yet" in str(error)
    assert "The other tasks go on: get again" in str(error)
    error = timed_out(other)
    assert (error.cancelled, error.reason) == (0, "")
    assert "The tasks go on: get again" in str(error)

    files[2].touch()
    assert ray.get([ref, dependent, other], timeout=40) == [1, 1, 1]


def test_several_results_of_one_task(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("begun", "told", "end")]
    refs = task.options(num_returns=2).remote(*files)
    appears(files[0])
    ray.cancel(refs[0])
    appears(files[1])
    error = timed_out(refs)
    assert (error.pending, error.cancelled) == (2, 2)
    assert "go on" not in str(error)
    files[2].touch()
    with pytest.raises(TaskCancelledError):
        ray.get(refs[1], timeout=40)
