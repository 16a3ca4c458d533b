"""Large values on their way between nodes, while processes die, stores are full, and tasks run again."""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.clusters import cluster_of
from tests.moved_values import kill, mover_of, received, stored

import ray
from ray.testing import eventually, inside
from ray.testing.cluster import Cluster

MiB = 1 << 20
LIMIT_S = 60
LIMIT = datetime.timedelta(seconds=LIMIT_S)
NBYTES = 24 * MiB
STORE_BYTES = 96 * MiB
#: A transfer of so many bytes takes about as long.
WAY_S = 0.06


@pytest.fixture(scope="module", params=["unix", pytest.param("routed", marks=pytest.mark.slow)])
def nodes(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A head, and two nodes "far" and "third"."""
    settings = {"num_cpus": 2, "object_store_memory": STORE_BYTES}
    others = [{**settings, "resources": {name: 4}, "node_name": name} for name in ("far", "third")]
    with cluster_of(settings, *others, store="plasma", transport=request.param) as made:
        yield made


@pytest.fixture
def cluster(nodes: Cluster) -> Iterator[Cluster]:
    """The program is a driver at the head; in the end nothing is taken, and no store has anything."""
    with ray.init(nodes.address):
        yield nodes
        inside.settled()
        eventually(lambda: not any(stored(nodes, node) for node in nodes.nodes), 15, "objects are left in stores")


def seeds(few: int, many: int) -> list[Any]:
    return [seed if seed < few else pytest.param(seed, marks=pytest.mark.slow) for seed in range(many)]


def pattern(seed: int, nbytes: int = NBYTES) -> bytes:
    block = bytes((seed + index * index) % 251 for index in range(4099))
    return (block * (nbytes // len(block) + 1))[:nbytes]


@ray.remote
def make(seed: int, nbytes: int = NBYTES) -> bytes:
    return pattern(seed, nbytes)


@ray.remote(num_cpus=0)
class Reader:
    """Reads values on its node, and keeps them."""

    def pid(self) -> int:
        return os.getpid()

    def read(self, refs: list[ray.ObjectRef[bytes]]) -> int:
        self.kept = refs, [ray.get(ref) for ref in refs]
        return sum(sum(value[::4096]) for value in self.kept[1])


def check(value: bytes) -> int:
    return sum(value[::4096])


class Getting(threading.Thread):
    """A thread that gets a value, or what that raises."""

    def __init__(self, ref: ray.ObjectRef[bytes]) -> None:
        super().__init__(daemon=True)
        self._ref: Any = ref
        self.found: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.found = ray.get(self._ref, timeout=LIMIT_S)
        except BaseException as error:
            self.found = error
        self._ref = None

    def end(self) -> Any:
        self.join(LIMIT_S + 5)
        assert not self.is_alive()
        return self.found


@pytest.mark.parametrize("seed", seeds(1, 20))
@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_a_mover_is_killed_at_any_byte(cluster: Cluster, side: str, seed: int) -> None:
    chance = random.Random(seed)
    ref = make.options(resources={"far": 1}).remote(seed)
    ray.wait([ref], timeout=LIMIT)
    pid = mover_of(cluster.nodes[1 if side == "sender" else 0])
    getting = Getting(ref)
    time.sleep(chance.random() * WAY_S)
    kill(pid)
    assert getting.end() == pattern(seed)


@pytest.mark.parametrize("seed", seeds(1, 20))
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "a second holder"])
def test_the_node_that_has_it_is_killed_at_any_byte(cluster: Cluster, others: int, seed: int) -> None:
    chance = random.Random(seed)
    extra = cluster.add_node(num_cpus=1, resources={"extra": 1}, object_store_memory=STORE_BYTES)
    ref = make.options(resources={"extra": 1}).remote(seed)
    reader = Reader.options(resources={"third": 0.1}).remote()
    ray.wait([ref], timeout=LIMIT)
    if others:
        assert ray.get(reader.read.remote([ref]), timeout=LIMIT_S) == check(pattern(seed))
    before, pid = received(cluster.head_node), mover_of(extra)
    getting = Getting(ref)
    time.sleep(chance.random() * WAY_S)
    kill(pid)
    cluster.kill(extra)
    found = getting.end()
    if found == pattern(seed):
        assert received(cluster.head_node) - before <= 1.1 * NBYTES
    else:
        assert type(found) is ray.exceptions.ObjectLostError, found
    del ref, found


@pytest.mark.parametrize("seed", seeds(1, 20))
def test_who_asks_is_killed_at_any_byte(cluster: Cluster, seed: int) -> None:
    chance = random.Random(seed)
    ref = make.options(resources={"far": 1}).remote(seed)
    reader = Reader.remote()
    pid = ray.get(reader.pid.remote(), timeout=LIMIT_S)
    ray.wait([ref], timeout=LIMIT)
    reading = reader.read.remote([ref])
    time.sleep(chance.random() * WAY_S)
    getting = Getting(ref) if seed % 2 else None
    kill(pid)
    with contextlib.suppress(ray.exceptions.RayActorError):
        ray.get(reading, timeout=LIMIT_S)
    if getting is not None:
        assert getting.end() == pattern(seed)
        getting.found = None


@pytest.mark.parametrize("seed", seeds(1, 10))
def test_arguments_that_do_not_fit_together_while_the_node_reads(cluster: Cluster, seed: int) -> None:
    """What a program waits for comes first, and all of it comes."""
    each = 20 * MiB
    refs = [make.options(resources={"third": 0.1}).remote(number, each) for number in range(3)]
    refs += [ray.put(pattern(number, each)) for number in (3, 4)]
    reader = Reader.options(resources={"far": 0.1}).remote()
    ray.get(reader.pid.remote(), timeout=LIMIT_S)
    looks = [look.remote(refs[(number + seed) % 5]) for number in range(10)]
    read = reader.read.remote(refs[:1])
    assert ray.get(read, timeout=LIMIT_S) == check(pattern(0, each))
    assert ray.get(looks, timeout=LIMIT_S) == [check(pattern((number + seed) % 5, each)) for number in range(10)]


@ray.remote(resources={"far": 1}, num_cpus=0)
def look(value: bytes) -> int:
    return check(value)


@ray.remote(max_retries=-1, resources={"far": 1})
def differs(nbytes: int, folder: str, deaths: int) -> bytes:
    """Another value at each attempt; the first ones store theirs, and die before they say so."""
    attempts = len(os.listdir(folder))
    open(f"{folder}/{attempts}-{os.getpid()}", "w").close()
    if attempts < deaths:
        inside.die_with_next_result()
    return bytes([random.randrange(256)]) * nbytes


@pytest.mark.parametrize("seed", seeds(1, 20))
def test_a_task_that_runs_again_has_one_result(cluster: Cluster, tmp_path: Any, seed: int) -> None:
    chance = random.Random(seed)
    ref = differs.remote(8 * MiB, str(tmp_path), chance.randrange(3))
    readers = [Reader.options(resources=where).remote() for where in ({"third": 0.1}, {"far": 0.1}, {})]
    reads = [reader.read.remote([ref]) for reader in readers]
    getting = Getting(ref)
    ray.wait([ref], timeout=LIMIT)
    time.sleep(chance.random() * WAY_S / 2)
    kill(mover_of(cluster.nodes[chance.randrange(3)]))
    value = getting.end()
    assert isinstance(value, bytes), value
    assert value == value[:1] * (8 * MiB)
    assert ray.get(reads, timeout=LIMIT_S) == [check(value)] * 3
    assert ray.get(ref, timeout=LIMIT_S) == value
    getting.found = None
