"""A cancelled call that waits for its turn in an actor of several calls at a time does not wait for it."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests import sessions

import ray
from ray.exceptions import TaskCancelledError

session = sessions.shared(num_cpus=2)
nothing_left = sessions.unchecked()


class InThreads:
    def __init__(self, path):
        self.path = path

    def hold(self, number):
        (self.path / f"holds {number}").touch()
        while not (self.path / "go on").exists():
            time.sleep(0.01)
        return "held"

    def note(self):
        (self.path / "noted").touch()


class OnALoop(InThreads):
    """The loop goes on while a call waits."""

    async def hold(self, number):
        (self.path / f"holds {number}").touch()
        while not (self.path / "go on").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return "held"

    async def note(self):
        (self.path / "noted").touch()


class HoldsTheLoop(InThreads):
    """It is not run while a call waits."""

    async def note(self):
        (self.path / "noted").touch()


@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize("places", [1, 2])
@pytest.mark.parametrize("cls", [InThreads, OnALoop, HoldsTheLoop])
def test_it_ends_at_once_and_is_not_run(tmp_path, cls, places, recursive):
    actor = ray.remote(cls).options(max_concurrency=places).remote(tmp_path)
    held = [actor.hold.remote(number) for number in range(places)]
    for number in range(1 if cls is HoldsTheLoop else places):
        while not (tmp_path / f"holds {number}").exists():
            time.sleep(0.01)
    waiting = [actor.note.remote() for _ in range(3)]
    for ref in waiting:
        ray.cancel(ref, recursive=recursive)
    for ref in waiting:
        with pytest.raises(TaskCancelledError):
            ray.get(ref, timeout=30)
    assert not (tmp_path / "go on").exists()
    (tmp_path / "go on").touch()
    assert ray.get(held, timeout=30) == ["held"] * places
    assert not (tmp_path / "noted").exists()
    assert ray.get(actor.note.remote(), timeout=30) is None
    assert (tmp_path / "noted").exists()
