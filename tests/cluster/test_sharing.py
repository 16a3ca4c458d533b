"""Many tasks, of one program and of several, share the nodes of a cluster: all are busy, each has its part."""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.clusters import cluster_of
from tests.programs import SLEEPS, STAYS_BUSY

import ray
from ray.testing import eventually, inside
from ray.testing.cluster import Cluster

LIMIT_S = 60
NODES, CPUS = 4, 2
#: What part of the processors is in use, beside whatever else this machine runs.
BUSY = 0.8
#: Jain's index of what the programs get.
FAIR = 0.9


def nodes_of(*cpus: int) -> contextlib.AbstractContextManager[Cluster]:
    """Nodes with so many processors each."""
    return cluster_of(*({"num_cpus": each} for each in cpus), store="heap")


@pytest.fixture
def four() -> Iterator[Cluster]:
    """Four nodes of two processors."""
    with nodes_of(*[CPUS] * NODES) as cluster:
        yield cluster


class BusyProgram:
    """A program that keeps many tasks waiting until it is told to end."""

    def __init__(self, address: str, there: str, seconds: float = 0.05) -> None:
        self.began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-c", STAYS_BUSY, address, there, str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def is_there(self) -> None:
        """One of its tasks has run on the node that was named."""
        assert self._process.stdout is not None
        found, _, _ = select.select([self._process.stdout], [], [], LIMIT_S)
        assert found, "it has no worker there"
        assert self._process.stdout.readline() == "there\n"

    def end(self) -> list[tuple[float, float, str, int]]:
        """It ends; returns when and where its tasks ran."""
        said, _ = self._process.communicate("\n", timeout=LIMIT_S)
        assert self._process.returncode == 0
        return [tuple(each) for each in json.loads(said.splitlines()[-1])]

    def close(self) -> None:
        """It ends now."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def all_is_free(cluster: Cluster) -> bool:
    return all(node.ask("available") == node.ask("resources") for node in cluster.nodes)


def busy(intervals: list[tuple[float, float, str, int]], begin: float, end: float) -> float:
    """What part of all processors slept for tasks between two moments."""
    worked = sum(max(0.0, min(stop, end) - max(start, begin)) for start, stop, _, _ in intervals)
    return worked / ((end - begin) * NODES * CPUS)


def most_at_a_time(intervals: list[tuple[float, float, str, int]]) -> dict[str, int]:
    """{node: how many ran there at a time, at most}"""
    most: collections.Counter[str] = collections.Counter()
    for node in {each[2] for each in intervals}:
        events = sorted((at, change) for start, stop, there, _ in intervals if there == node
                        for at, change in ((start, 1), (stop, -1)))  # fmt: skip
        now = 0
        for _, change in events:
            now += change
            most[node] = max(most[node], now)
    return dict(most)


@pytest.mark.parametrize(
    ("count", "seconds"), [(160, 0.2), pytest.param(2000, 0.05, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_tasks_of_one_program_keep_all_nodes_busy(four: Cluster, count: int, seconds: float) -> None:
    with ray.init(four.address):

        @ray.remote
        def nap(seconds: float) -> tuple[float, float, str, int]:
            start = time.monotonic()
            time.sleep(seconds)
            return start, time.monotonic(), ray.get_runtime_context().node_id, 0

        ray.get([nap.remote(seconds) for _ in range(NODES * CPUS * 4)], timeout=LIMIT_S)  # workers are there
        intervals = ray.get([nap.remote(seconds) for _ in range(count)], timeout=LIMIT_S)
        assert len({each[2] for each in intervals}) == NODES
        assert most_at_a_time(intervals) == {node.node_id: CPUS for node in four.nodes}
        begin, end = min(each[0] for each in intervals), max(each[0] for each in intervals)
        assert busy(intervals, begin + 0.2, end - 0.2) >= BUSY
        ended = time.monotonic()
        eventually(lambda: all_is_free(four), LIMIT_S, "all is free again")
        assert time.monotonic() - ended < 10
        inside.settled()


@pytest.mark.parametrize(
    ("count", "seconds"), [(60, 0.2), pytest.param(500, 0.05, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_programs_on_each_node_have_parts_alike(four: Cluster, count: int, seconds: float) -> None:
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", SLEEPS, node.address, str(count), str(seconds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for node in four.nodes
    ]  # fmt: skip
    try:
        for driver in drivers:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "ready\n"
        for driver in drivers:
            assert driver.stdin is not None
            driver.stdin.write("go\n")
            driver.stdin.flush()
        found = []
        for driver in drivers:
            assert driver.stdout is not None
            found.append([tuple(each) for each in json.loads(driver.stdout.readline())])
        begin = max(min(each[0] for each in intervals) for intervals in found)
        end = min(max(each[0] for each in intervals) for intervals in found)
        every = [each for intervals in found for each in intervals]
        shares = [sum(begin <= each[0] < end for each in intervals) for intervals in found]
        assert busy(every, begin + 0.2, end - 0.2) >= BUSY, (begin, end, shares)
        assert sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares)) >= FAIR, shares
        assert max(most_at_a_time(every).values()) <= CPUS
        eventually(lambda: all_is_free(four), LIMIT_S, "all is free while they are there")
    finally:
        for driver in drivers:
            driver.communicate("", timeout=LIMIT_S)
    assert [driver.returncode for driver in drivers] == [0] * NODES


def workers_at(intervals: list[tuple[float, float, str, int]], node: str, begin: float, end: float) -> float:
    """How many workers ran its tasks on a node between two moments, on average."""
    worked = sum(max(0.0, min(stop, end) - max(start, begin)) for start, stop, there, _ in intervals if there == node)
    return worked / (end - begin)


@pytest.mark.parametrize("homes", [(0, 1), pytest.param((0, 0), marks=pytest.mark.slow)], ids=["apart", "together"])
def test_a_program_that_comes_later_gets_its_part_where_neither_is_at_home(homes: tuple[int, int]) -> None:
    """Two at homes of their own, or both at a head without processors: they share the other nodes evenly."""
    cpus = (CPUS, CPUS, CPUS) if homes == (0, 1) else (0, CPUS)
    with nodes_of(*cpus) as cluster, contextlib.ExitStack() as programs:
        shared = cluster.nodes[-1].node_id
        first = programs.enter_context(contextlib.closing(BusyProgram(cluster.nodes[homes[0]].address, shared)))
        first.is_there()
        second = programs.enter_context(contextlib.closing(BusyProgram(cluster.nodes[homes[1]].address, shared)))
        second.is_there()
        begin = time.monotonic()
        # Its home claims after half a second, and each second from then on; both nodes start workers meanwhile.
        assert begin - second.began < 15, "it has waited for long"
        time.sleep(2.0)  # what is measured: what both do in this time, some 40 tasks of each worker
        end = time.monotonic()
        parts = [workers_at(program.end(), shared, begin + 0.5, end) for program in (first, second)]
        assert all(0.5 < part < 1.5 for part in parts), parts
        eventually(lambda: all_is_free(cluster), LIMIT_S, "all is free")


@pytest.mark.parametrize("home", [1, pytest.param(0, marks=pytest.mark.slow)], ids=["apart", "together"])
def test_actors_get_room_while_tasks_of_another_program_are_everywhere(home: int) -> None:
    """As they do on one machine: an actor holds a processor for life, and a task soon gives it back."""
    cpus = (CPUS, CPUS, CPUS) if home else (0, CPUS)

    @ray.remote(num_cpus=1)
    class Resident:
        def node(self) -> str:
            return ray.get_runtime_context().node_id

    with nodes_of(*cpus) as cluster:
        shared = cluster.nodes[-1].node_id
        with contextlib.closing(BusyProgram(cluster.nodes[0].address, shared)) as busy:
            busy.is_there()
            with ray.init(cluster.nodes[home].address):
                actors = [Resident.remote() for _ in range(CPUS + 1 if home else 1)]
                nodes = ray.get([actor.node.remote() for actor in actors], timeout=LIMIT_S)
                begin = time.monotonic()
                assert shared in nodes
                time.sleep(1.0)  # what is measured: what it does in this time, some 20 tasks of each worker
                end = time.monotonic()
                intervals = busy.end()
                assert workers_at(intervals, shared, begin, end) > 0.5, "and the other program keeps its part"
                del actors
                inside.settled()


@pytest.mark.parametrize(
    ("outer", "inner"), [(40, 5), pytest.param(1000, 10, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
def test_a_nested_fan(four: Cluster, outer: int, inner: int) -> None:
    """Those that wait give their processor away, and no node has more workers than it can use."""

    @ray.remote(num_cpus=1)
    def leaf(number: int) -> tuple[int, str]:
        return number, ray.get_runtime_context().node_id

    @ray.remote(num_cpus=1)
    def branch(number: int) -> tuple[int, set[str]]:
        found = ray.get([leaf.remote(number * inner + each) for each in range(inner)])
        return sum(each for each, _ in found), {node for _, node in found}

    with ray.init(four.address):
        refs = [branch.remote(number) for number in range(outer)]
        most, left = 0, refs
        end = time.monotonic() + 240
        while left and time.monotonic() < end:
            _, left = ray.wait(left, num_returns=len(left), timeout=0.2)
            most = max(most, *(len(node.workers()) for node in four.nodes))
        assert left == []
        found = ray.get(refs)
        total = outer * inner
        assert sum(each for each, _ in found) == total * (total - 1) // 2
        assert len(set().union(*(nodes for _, nodes in found))) >= 2
        assert most <= CPUS + 16
        inside.settled()


@pytest.mark.parametrize("depth", [24, pytest.param(100, marks=pytest.mark.slow)])
def test_recursion_from_node_to_node(four: Cluster, depth: int) -> None:
    """Each call waits for one on the next node."""
    names = [node.name for node in four.nodes]

    @ray.remote(num_cpus=1)
    def down(left: int) -> tuple[int, list[str]]:
        here = ray.get_runtime_context().node_id
        if not left:
            return 0, [here]
        count, nodes = ray.get(down.options(node=names[(left - 1) % NODES]).remote(left - 1))
        return count + 1, [here, *nodes]

    with ray.init(four.address):
        count, nodes = ray.get(down.options(node=names[depth % NODES]).remote(depth), timeout=LIMIT_S)
        assert count == depth
        assert collections.Counter(nodes).keys() == {node.node_id for node in four.nodes}
        assert all(first != second for first, second in itertools.pairwise(nodes))
        assert all(len(node.workers()) <= CPUS + depth // NODES + 8 for node in four.nodes)
        inside.settled()
