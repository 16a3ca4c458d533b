"""Two programs at one cluster: neither sees what the other prints or where it fails, and the end of one is its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

import pytest
from tests.victims import alive

from ray.testing import eventually
from ray.testing.cluster import Cluster

LIMIT_S = 50
#: A bound of tests, not the promise, which is 2 s.
CLEAN_S = 10.0

FLOODS = """
import os, subprocess, sys, time
import ray

@ray.remote(num_cpus=0.1)
def flood(number):
    print("of the flood", number)
    print("of the flood, an error", number, file=sys.stderr)
    raise ValueError(f"flooded {number}")

@ray.remote(num_cpus=0)
class Sitter:
    def pids(self):
        program = [sys.executable, "-c", "import time; time.sleep(600)"]
        return os.getpid(), subprocess.Popen(program, start_new_session=True).pid

ray.init(sys.argv[1])
names = [node["NodeID"] for node in ray.nodes()]
sitters = [Sitter.options(node=name).remote() for name in names]
kept = [ray.put(bytes(1_000_000)) for _ in range(8)]
print(*[pid for pids in ray.get([each.pids.remote() for each in sitters]) for pid in pids], flush=True)
number = 0
while True:
    refs = [flood.options(node=name, soft=True).remote(number) for name in names for _ in range(20)]
    ray.wait(refs, num_returns=len(refs))
    number += 1
"""

WORKS = """
import sys, time
import ray

@ray.remote(num_cpus=0.5)
def work(number):
    print("of the work", number)
    return number * number

@ray.remote(num_cpus=0)
def fails(number):
    raise KeyError(f"worked {number}")

ray.init(sys.argv[1])
names = [node["NodeID"] for node in ray.nodes()]
for line in sys.stdin:
    began = time.monotonic()
    numbers = range(20)
    refs = [work.options(node=names[number % len(names)]).remote(number) for number in numbers]
    assert ray.get(refs) == [number * number for number in numbers]
    ray.wait([fails.options(node=name).remote(1) for name in names], num_returns=len(names))
    print("round", time.monotonic() - began, flush=True)
messages = [row["message"] for row in ray.error_info()]
print("errors", len(messages), sum("flooded" in each for each in messages), flush=True)
"""


@contextlib.contextmanager
def program(text: str, address: str) -> Iterator[subprocess.Popen[str]]:
    """One that is at its end afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", text, address],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()


def a_round(works: subprocess.Popen[str]) -> tuple[float, list[str]]:
    """Have it do something; returns how long it has taken, and what it has printed besides."""
    assert works.stdin is not None
    assert works.stdout is not None
    works.stdin.write("go\n")
    works.stdin.flush()
    lines = []
    while not (line := works.stdout.readline()).startswith("round "):
        assert line
        lines.append(line)
    return float(line.split()[1]), lines


class Heard:
    """What a program prints, from now on: read all the time, as a terminal does."""

    def __init__(self, *streams: IO[str] | None) -> None:
        self.lines: list[str] = []
        self._threads = [threading.Thread(target=self._read, args=[each], daemon=True) for each in streams]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: IO[str]) -> None:
        while line := stream.readline():
            self.lines.append(line)

    def text(self) -> str:
        """All of it, once it has ended."""
        for thread in self._threads:
            thread.join(LIMIT_S)
        return "".join(self.lines)


def is_free(cluster: Cluster) -> bool:
    return all(node.ask("available") == node.ask("resources") for node in cluster.nodes)


def no_workers_of_the_flood(cluster: Cluster, pids: list[int]) -> bool:
    return not any(map(alive, pids)) and is_free(cluster)


@pytest.mark.parametrize("rounds", [5, pytest.param(40, marks=pytest.mark.slow)])
def test_one_floods_and_is_killed(cluster: Cluster, rounds: int) -> None:
    with program(WORKS, cluster.address) as works, program(FLOODS, cluster.nodes[1].address) as floods:
        assert floods.stdout is not None
        pids = [int(word) for word in floods.stdout.readline().split()]
        assert len(pids) == 4
        heard = Heard(floods.stdout, floods.stderr)
        lines = []
        for _ in range(rounds):
            lines += a_round(works)[1]
        floods.kill()
        killed = time.monotonic()
        eventually(lambda: no_workers_of_the_flood(cluster, pids), LIMIT_S, "nothing is left of it")
        assert time.monotonic() - killed < CLEAN_S
        for _ in range(rounds):
            lines += a_round(works)[1]
        out, err = works.communicate("", timeout=LIMIT_S)
        assert works.returncode == 0, err
        lines += out.splitlines(keepends=True)
        flooded = heard.text()
        assert flooded.count("of the flood") > 100
        assert "flooded" in flooded
        for text in ("".join(lines), err):
            assert "flood" not in text.replace("errors", ""), text
        shown = [line for line in lines if not line.startswith("errors ")]
        assert len(shown) == 20 * 2 * rounds
        assert all(re.match(r"\(work pid=\d+(, node=test-1)?\) of the work \d+\n", line) for line in shown), shown
        assert {", node=test-1)" in line for line in shown} == {True, False}
        assert f"errors {4 * rounds} 0\n" in lines
        assert "work" not in flooded.replace("worker", "")


def test_a_driver_that_dies_with_its_node(cluster: Cluster) -> None:
    """What it has on other nodes ends as well, and the other program does not notice."""
    with program(WORKS, cluster.address) as works:
        a_round(works)
        third = cluster.add_node(num_cpus=2, resources={"third": 1})
        cluster.wait_for_nodes()
        with program(FLOODS, third.address) as floods:
            assert floods.stdout is not None
            pids = [int(word) for word in floods.stdout.readline().split()]
            assert len(pids) == 6
            Heard(floods.stdout, floods.stderr)
            os.kill(floods.pid, signal.SIGSTOP)  # neither has a word to say
            os.kill(third.pid, signal.SIGKILL)
            floods.kill()
            killed = time.monotonic()
            cluster.kill(third)
            eventually(lambda: no_workers_of_the_flood(cluster, pids), LIMIT_S, "nothing is left of it")
            assert time.monotonic() - killed < CLEAN_S
        a_round(works)
        _, err = works.communicate("", timeout=LIMIT_S)
        assert works.returncode == 0, err
