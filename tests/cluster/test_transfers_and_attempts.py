"""A task that gives other values each time runs again, on the node that has them, while one of them is on its way."""

from __future__ import annotations

import datetime
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.data_ways import DataWays, cluster_with_ways
from tests.moved_values import mover_of
from tests.soak import SOAK

import ray
from ray.testing import eventually, inside
from ray.testing.cluster import Cluster

pytestmark = pytest.mark.timeout(7200 if SOAK else 60)

MiB = 1 << 20
LIMIT_S = 40
LIMIT = datetime.timedelta(seconds=LIMIT_S)
NBYTES = 8 * MiB
STORE_BYTES = 96 * MiB
#: How the transfer goes on once the task has run again.
WAYS_ON = ["by the same connection", "by another one", "by another object manager"]


class World:
    """Three nodes, and ways to two of them."""

    def __init__(self, cluster: Cluster, ways: DataWays) -> None:
        self.cluster = cluster
        self._way_to = ways.to
        self.holders = cluster.nodes[:2]
        self.ways = [ways.to(node) for node in self.holders]

    def replace_mover(self, number: int) -> None:
        """Kill the object manager of a holder; there is a way to the one that takes its place."""
        node, pid = self.holders[number], mover_of(self.holders[number])
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: mover_of(node) != pid, LIMIT_S, "there is no other one")
        self.ways[number] = self._way_to(node)


@pytest.fixture(scope="module")
def nodes() -> Iterator[World]:
    """The holders are the head, which has the owner, and "far"; "third" reads."""
    with cluster_with_ways("head", "far", "third", num_cpus=2, object_store_memory=STORE_BYTES) as made:
        yield World(*made)


@pytest.fixture
def world(nodes: World) -> Iterator[World]:
    with ray.init(nodes.cluster.address):
        yield nodes
        inside.settled()


def values(folder: Path) -> Iterator[bytes]:
    """Two; each attempt gives others."""
    attempt = len(os.listdir(folder))
    (folder / f"{attempt}-{os.getpid()}").touch()
    yield bytes([attempt + 1]) * NBYTES
    if attempt == 0:
        time.sleep(LIMIT_S)
    yield bytes([attempt + 1]) * NBYTES


@ray.remote(num_returns="streaming", max_retries=-1)
def task(folder: Path) -> Iterator[bytes]:
    yield from values(folder)


@ray.remote(max_restarts=-1, max_task_retries=-1)
class Actor:
    @ray.method(num_returns="streaming")
    def give(self, folder: Path) -> Iterator[bytes]:
        yield from values(folder)


@ray.remote(num_cpus=0, resources={"third": 1})
class Reader:
    def read(self, refs: list[ray.ObjectRef[bytes]]) -> bytes:
        """What there is of each byte in a value."""
        value = ray.get(refs[0])
        assert len(value) == NBYTES
        return bytes(sorted(set(value)))


def one_round(world: World, reader: Any, kind: str, holder: int, way_on: str, at: int, folder: Path) -> None:
    folder.mkdir()
    where = {"num_cpus": 0, "resources": {["head", "far"][holder]: 1}}
    actor = Actor.options(**where).remote() if kind == "actor" else None
    stream = task.options(**where).remote(folder) if actor is None else actor.give.remote(folder)
    first = next(stream)
    ray.wait([first], timeout=LIMIT)
    half, go_on = threading.Event(), threading.Event()

    def stop() -> None:
        half.set()
        go_on.wait(LIMIT_S)

    world.ways[holder].after(at, stop)
    reading = reader.read.remote([first])
    try:
        assert half.wait(LIMIT_S)
        (name,) = os.listdir(folder)
        os.kill(int(name.partition("-")[2]), signal.SIGKILL)
        second = next(stream)
        ray.wait([second], timeout=LIMIT)
        if way_on == WAYS_ON[1]:
            world.ways[holder].hang_up()
        elif way_on == WAYS_ON[2]:
            world.replace_mover(holder)
    finally:
        go_on.set()
    assert ray.get(reading, timeout=LIMIT_S) == b"\1"
    assert ray.get(first, timeout=LIMIT_S) == b"\1" * NBYTES
    assert ray.get(second, timeout=LIMIT_S) == b"\2" * NBYTES
    assert list(stream) == []


@pytest.mark.parametrize("kind", ["task", pytest.param("actor", marks=pytest.mark.slow)])
def test_no_value_is_of_two_attempts(
    world: World, rounds: Callable[[int, int], int], tmp_path: Path, kind: str
) -> None:
    chance, reader = random.Random(kind), Reader.remote()
    for number in range(rounds(3, 200)):
        holder = chance.randrange(2) if number >= 3 else number % 2
        one_round(world, reader, kind, holder, WAYS_ON[number % 3], chance.randrange(NBYTES), tmp_path / str(number))
