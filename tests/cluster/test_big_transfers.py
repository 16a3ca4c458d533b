"""Values of a gibibyte on their way between nodes, while processes and nodes die at any byte of them.

The soak session has such, and many rounds, for which it needs 6 GiB of memory; the slow one has smaller values.
"""

from __future__ import annotations

import datetime
import os
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from tests.data_ways import DataWays, cluster_with_ways
from tests.moved_values import kill, mover_of, received, stored
from tests.soak import SOAK

import ray
from ray.exceptions import ObjectLostError, RayActorError
from ray.testing import eventually, inside
from ray.testing.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(14400 if SOAK else 240)]

MiB = 1 << 20
NBYTES = 1024 * MiB if SOAK else 128 * MiB
STORE_BYTES = NBYTES + 64 * MiB
LIMIT_S = 120
LIMIT = datetime.timedelta(seconds=LIMIT_S)
_WORD = np.dtype(np.uint64)
_CHUNK = 8 * MiB // _WORD.itemsize
_ODD = np.uint64(0x9E3779B97F4A7C15)

Array = np.ndarray[tuple[int], np.dtype[np.uint64]]
Rounds = Callable[[int, int], int]


def part(seed: int, start: int, stop: int) -> Array:
    """Words of a value: each says where it is, and of which value."""
    return (np.arange(start, stop, dtype=_WORD) + np.uint64(seed << 40)) * _ODD


def is_right(value: Array, seed: int) -> bool:
    count = NBYTES // _WORD.itemsize
    ends = ((start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))
    return len(value) == count and all(
        np.array_equal(value[start:stop], part(seed, start, stop)) for start, stop in ends
    )


@ray.remote(num_cpus=0)
def make(seed: int) -> Array:
    made = np.empty(NBYTES // _WORD.itemsize, _WORD)
    for start in range(0, len(made), _CHUNK):
        made[start : start + _CHUNK] = part(seed, start, min(start + _CHUNK, len(made)))
    return made


@ray.remote(num_cpus=0)
class Reader:
    def pid(self) -> int:
        return os.getpid()

    def is_right(self, refs: list[ray.ObjectRef[Array]], seed: int, keeps: bool = False) -> bool:
        value = ray.get(refs[0])
        self.kept = refs if keeps else None  # as long as it has the ref, its node has a copy
        return is_right(value, seed)

    def forget(self) -> None:
        self.kept = None


class World:
    """The head reads; "far" has a value, and "third" may have another copy."""

    def __init__(self, cluster: Cluster, ways: DataWays) -> None:
        self.cluster = cluster
        self.way_to = ways.to
        self.head, self.far, self.third = cluster.nodes

    def is_let_go(self) -> None:
        """The head has no copy any more."""
        eventually(lambda: not stored(self.cluster, self.head), 15, "the copy stays")


@pytest.fixture(scope="module")
def nodes() -> Iterator[World]:
    with cluster_with_ways("head", "far", "third", num_cpus=1, object_store_memory=STORE_BYTES) as made:
        yield World(*made)


@pytest.fixture
def world(nodes: World) -> Iterator[World]:
    with ray.init(nodes.cluster.address):
        yield nodes
        inside.settled()


def made(seed: int, node: str) -> ray.ObjectRef[Array]:
    ref = make.options(resources={node: 1}).remote(seed)
    ray.wait([ref], timeout=LIMIT)
    return ref


def reader_on(node: str) -> ray.ActorHandle[Reader]:
    return Reader.options(resources={node: 1}).remote()


@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_an_object_manager_is_killed_at_any_byte(world: World, rounds: Rounds, side: str) -> None:
    """What a sender has sent is not sent again."""
    chance = random.Random(side)
    ref, reader = made(1, "far"), reader_on("head")
    for _ in range(rounds(5, 100)):
        before, way = received(world.head), world.way_to(world.far)
        victim = mover_of(world.far if side == "sender" else world.head)
        killed = way.after(chance.randrange(NBYTES), lambda victim=victim: kill(victim))
        assert ray.get(reader.is_right.remote([ref], 1), timeout=LIMIT_S)
        assert killed.is_set()
        if side == "sender":
            assert received(world.head) - before <= 1.1 * NBYTES
        world.is_let_go()


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "a second holder"])
def test_the_node_that_has_it_is_killed_at_any_byte(world: World, rounds: Rounds, others: int) -> None:
    chance = random.Random(others)
    reader, keeper = reader_on("head"), reader_on("third")
    for number in range(rounds(3, 100)):
        node = world.cluster.add_node(num_cpus=0, resources={"extra": 1}, object_store_memory=STORE_BYTES)
        world.cluster.wait_for_nodes()
        ref, way = made(number, "extra"), world.way_to(node)
        if others:
            assert ray.get(keeper.is_right.remote([ref], number, True), timeout=LIMIT_S)
        before = received(world.head)
        victims = (mover_of(node), node.pid)
        killed = way.after(chance.randrange(NBYTES), lambda victims=victims: kill(*victims))
        try:
            assert ray.get(reader.is_right.remote([ref], number), timeout=LIMIT_S)
        except ObjectLostError:
            assert not others
        else:
            assert others
            assert received(world.head) - before <= 1.1 * NBYTES
        assert killed.is_set()
        world.cluster.kill(node)
        del ref
        world.is_let_go()
        if others:
            ray.get(keeper.forget.remote(), timeout=LIMIT_S)
            eventually(lambda: not stored(world.cluster, world.third), 15, "the copy stays")


def test_who_asks_is_killed_at_any_byte(world: World, rounds: Rounds) -> None:
    """Another process of its node, which has asked as well or does so later, has the value."""
    chance = random.Random(2)
    ref, way = made(1, "far"), world.way_to(world.far)
    for number in range(rounds(5, 100)):
        first, second = reader_on("head"), reader_on("head")
        pid, _ = ray.get([first.pid.remote(), second.pid.remote()], timeout=LIMIT_S)
        way.after(chance.randrange(NBYTES), lambda pid=pid: kill(pid))
        reading = first.is_right.remote([ref], 1)
        also = second.is_right.remote([ref], 1) if number % 2 else None
        with pytest.raises(RayActorError):
            ray.get(reading, timeout=LIMIT_S)
        assert ray.get(also or second.is_right.remote([ref], 1), timeout=LIMIT_S)
        del first, second
        world.is_let_go()
