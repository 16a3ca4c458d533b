"""Connections between processes of two nodes are reset, with what is in their queues: nothing runs twice or is lost."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import resets
from tests.quick import first_of

import ray
from ray.testing import eventually, inside

LIMIT_S = 60


@ray.remote(max_retries=0, num_cpus=0, resources={"far": 1})
def tick(path: str, number: int) -> int:
    with open(path, "a") as file:
        file.write(f"{number}\n")
    time.sleep(0.002)
    return number


@ray.remote(max_retries=0, num_cpus=0, resources={"far": 1})
def lose(caller: bytes, number: int) -> int:
    """The result of this task is lost with the connection."""
    inside.cut_far_with_next_message(caller)
    return number


@ray.remote(num_cpus=0, resources={"far": 1})
class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count

    def lose(self, caller: bytes) -> int:
        inside.cut_far_with_next_message(caller)
        return self.add()

    def yields(self, caller: bytes, count: int) -> Iterator[int]:
        for number in range(count):
            if number % 5 == 2:
                inside.cut_far(caller)
            yield number


def test_a_result_in_the_queue(cluster, joined):
    """It was ready, and not sent: it is not made again, and the worker lives."""
    for number in range(5):
        assert ray.get(lose.remote(inside.process_id(), number), timeout=LIMIT_S) == number
    eventually(lambda: not inside.unconfirmed(), LIMIT_S, "both ends know what has come")


def test_an_actor_call_in_the_queue(cluster, joined):
    counter = Counter.remote()
    assert ray.get([counter.lose.remote(inside.process_id()) for _ in range(5)], timeout=LIMIT_S) == [1, 2, 3, 4, 5]
    assert ray.get(counter.add.remote(), timeout=LIMIT_S) == 6


def test_what_is_on_its_way_there(cluster, joined, tmp_path):
    """Tasks, calls and arguments in the queue of the driver."""
    counter, path = Counter.remote(), tmp_path / "ran"
    for number in range(1, 6):
        ray.get([counter.add.remote(), tick.remote(str(path), 0)], timeout=LIMIT_S)
        inside.cut_far()
        refs = [counter.add.remote(), tick.remote(str(path), number)]
        inside.cut_far()
        assert ray.get(refs, timeout=LIMIT_S) == [2 * number, number]
    assert path.read_text().split() == ["0", "1", "0", "2", "0", "3", "0", "4", "0", "5"]
    assert inside.reconnections() > 0


def test_a_stream(cluster, joined):
    counter = Counter.remote()
    stream = counter.yields.options(num_returns="streaming").remote(inside.process_id(), 40)
    assert [ray.get(ref, timeout=LIMIT_S) for ref in stream] == list(range(40))


@contextlib.contextmanager
def again_and_again(pause_s: float, cut: Callable[[], int]) -> Iterator[list[int]]:
    """Connections are lost all the while, after a pause each time; the list tells how many."""
    over, made = threading.Event(), [0]

    def run() -> None:
        while not over.wait(pause_s):
            made[0] += cut()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield made
    finally:
        over.set()
        thread.join()


def run_with_cuts(path: Path, seconds: float) -> None:
    counter, number = Counter.remote(), 0
    calls: list[ray.ObjectRef[int]] = []
    with again_and_again(0.03, inside.cut_far) as made:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            refs = [tick.remote(str(path), number + i) for i in range(20)]
            calls += [counter.add.remote() for _ in range(20)]
            held = ray.put([number])
            assert ray.get(tick.remote(str(path), held), timeout=LIMIT_S) == [number]
            assert ray.get(refs, timeout=LIMIT_S) == list(range(number, number + 20))
            number += 20
        assert ray.get(calls, timeout=LIMIT_S) == list(range(1, len(calls) + 1))
    assert made[0] > 10
    ran = [line for line in path.read_text().split("\n") if line and not line.startswith("[")]
    assert sorted(map(int, ran)) == list(range(number)), "each ran once"
    del held, refs, calls
    eventually(lambda: not inside.entries() or len(inside.entries()) <= 1, LIMIT_S, "only the actor is left")


def test_again_and_again(cluster, joined, tmp_path):
    run_with_cuts(tmp_path / "ran", 3)


@pytest.mark.slow
def test_for_long(cluster, joined, tmp_path):
    run_with_cuts(tmp_path / "ran", 30)


def test_a_process_that_ends_meanwhile(cluster, joined):
    """Its own node manager says so, and what it ran fails as it does without a cut."""

    @ray.remote(max_retries=0, num_cpus=0, resources={"far": 1})
    def die() -> None:
        inside.cut_far()
        os.kill(os.getpid(), 9)

    with pytest.raises(ray.exceptions.WorkerCrashedError, match="SIGKILL"):
        ray.get(die.remote(), timeout=LIMIT_S)


# --- resets of TCP connections, by the kernel ------------------------------------------------------------------------

OVER_TCP = pytest.mark.parametrize("cluster", ["heap routed"], indirect=True)


@ray.remote(max_retries=0, num_cpus=1, resources={"far": 1})
def once(path: str, number: int) -> int:
    with open(path, "a") as file:
        file.write(f"{number}\n")
    time.sleep(0.05)
    return number


def resetting(cluster, managers: bool, pause_s: float = 0.1) -> contextlib.AbstractContextManager[list[int]]:
    """Connections between node managers, or those of all other processes, are reset."""
    lack = resets.lack()
    if lack:
        pytest.skip(lack)
    nodes = [node.pid for node in cluster.nodes]

    def reset() -> int:
        processes = resets.family([*nodes, os.getpid()])
        return resets.reset(resets.ports(each for each in processes if (each.pid in nodes) is managers))

    return again_and_again(pause_s, reset)


@OVER_TCP
@pytest.mark.parametrize("managers", first_of([True, False]), ids=["node managers", "other processes"])
def test_over_tcp(cluster, joined, tmp_path, managers):
    """Workers are lent, actors begin and end, values come, logs are printed, all while connections are reset."""
    path = tmp_path / "ran"
    with resetting(cluster, managers) as made:
        end, number = time.monotonic() + 4, 0
        while time.monotonic() < end:
            counter = Counter.remote()
            refs = [once.remote(str(path), number + i) for i in range(4)]
            assert ray.get([counter.add.remote() for _ in range(3)], timeout=LIMIT_S) == [1, 2, 3]
            assert ray.get(refs, timeout=LIMIT_S) == list(range(number, number + 4))
            number += 4
            del counter, refs
        assert made[0] > 3
    assert sorted(map(int, path.read_text().split())) == list(range(number))
    assert [row["Alive"] for row in ray.nodes()] == [True, True]
    for node in cluster.nodes:
        eventually(lambda node=node: node.ask("resources") == node.ask("available"), LIMIT_S, "all is free")
    eventually(lambda: not inside.entries(), LIMIT_S, "nothing is kept")
