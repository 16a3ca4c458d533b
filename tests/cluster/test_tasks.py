"""Tasks, actors, values and failures on two nodes."""

from __future__ import annotations

import collections
import os
import re
import subprocess
import sys
import time

import pytest

import ray
from ray.testing import eventually

FAR = {"resources": {"far": 1}}
KEEPS_CLUSTERS = True


@ray.remote
def where():
    return ray.get_runtime_context().node_id


@ray.remote
def slow(seconds):
    time.sleep(seconds)
    return ray.get_runtime_context().node_id


def test_work_spreads_over_both(cluster, joined):
    here, there = (node.node_id for node in cluster.nodes)
    counts = collections.Counter(ray.get([slow.remote(0.1) for _ in range(24)], timeout=60))
    assert counts.keys() == {here, there}
    assert min(counts.values()) >= 6
    assert ray.cluster_resources()["CPU"] == 4


def test_a_resource_of_another_node(cluster, joined):
    assert ray.get(where.options(**FAR).remote(), timeout=30) == cluster.nodes[1].node_id


EACH_STORE = pytest.mark.parametrize(
    "cluster", ["heap", *(pytest.param(store, marks=pytest.mark.slow) for store in ("plasma", "shm"))], indirect=True
)


@EACH_STORE
def test_arguments_results_and_refs_cross(cluster, joined):
    @ray.remote
    def double(value, ref=None):
        return value + value, ray.put(value), ref and len(ray.get(ref[0]))

    big = bytes(3_000_000)
    ref = ray.put(big)
    doubled, put, length = ray.get(double.options(**FAR).remote(ref, [ref]), timeout=30)
    assert (len(doubled), length) == (6_000_000, 3_000_000)
    assert ray.get(put, timeout=30) == big
    chain = where.options(**FAR).remote()
    for _ in range(6):
        chain = double.remote([chain])
        chain = double.options(**FAR).remote([chain])
    assert ray.get(chain, timeout=30)


def test_nested_work_comes_home(cluster, joined):
    @ray.remote
    def fan(depth):
        if not depth:
            return 1
        return sum(ray.get([fan.remote(depth - 1) for _ in range(3)]))

    assert ray.get(fan.options(**FAR).remote(4), timeout=60) == 81


def test_a_failure_there_is_told_here(cluster, joined, capfd):
    @ray.remote(**FAR)
    def fail():
        print("said far away")
        raise ValueError("far away")

    with pytest.raises(ValueError, match="far away"):
        ray.get(fail.remote(), timeout=30)
    eventually(lambda: any("far away" in row["message"] for row in ray.error_info()), 10, "it is recorded")
    said = []
    eventually(lambda: said.append(capfd.readouterr().out) or "said far away" in "".join(said), 10, "it is shown")
    assert re.search(r"^\(fail pid=\d+, node=test-1\) said far away$", "".join(said), re.MULTILINE)


def test_a_worker_that_dies_there(cluster, joined):
    @ray.remote(max_retries=0, **FAR)
    def die():
        os.kill(os.getpid(), 9)

    with pytest.raises(ray.exceptions.WorkerCrashedError, match="SIGKILL"):
        ray.get(die.remote(), timeout=30)

    @ray.remote(max_retries=2, **FAR)
    def die_once(path):
        if not os.path.exists(path):
            open(path, "w").close()
            os.kill(os.getpid(), 9)
        return "survived"

    path = f"/tmp/ray-test-{os.getpid()}-{time.time()}"
    try:
        assert ray.get(die_once.remote(path), timeout=30) == "survived"
    finally:
        os.unlink(path)


@EACH_STORE
def test_an_actor_there(cluster, joined):
    @ray.remote(**FAR)
    class Counter:
        def __init__(self, start):
            self.count = start

        def add(self, number):
            self.count += number
            return self.count

        def where(self):
            return ray.get_runtime_context().node_id, os.getpid()

    counter = Counter.remote(10)
    assert ray.get([counter.add.remote(1) for _ in range(100)], timeout=30)[-1] == 110
    node_id, pid = ray.get(counter.where.remote(), timeout=30)
    assert node_id == cluster.nodes[1].node_id

    @ray.remote
    def use(handle):
        return ray.get(handle[0].add.remote(1))

    assert ray.get([use.remote([counter]), use.options(**FAR).remote([counter])], timeout=30)
    ray.kill(counter)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(counter.add.remote(1), timeout=30)
    eventually(lambda: not os.path.exists(f"/proc/{pid}/fd/0"), 10, "its process is gone")


def test_an_actor_there_starts_again(cluster, joined):
    @ray.remote(max_restarts=2, max_task_retries=2, **FAR)
    class Fragile:
        def pid(self):
            return os.getpid()

    fragile = Fragile.remote()
    first = ray.get(fragile.pid.remote(), timeout=30)
    os.kill(first, 9)
    second = ray.get(fragile.pid.remote(), timeout=30)
    assert second != first


def test_an_actor_there_whose_constructor_fails(cluster, joined):
    @ray.remote(**FAR)
    class Broken:
        def __init__(self):
            raise ValueError("no such thing")

        def call(self):
            pass

    with pytest.raises(ray.exceptions.ActorDiedError, match="no such thing"):
        ray.get(Broken.remote().call.remote(), timeout=30)


def test_an_actor_that_nobody_holds_ends(cluster, joined):
    @ray.remote(**FAR)
    class Short:
        def pid(self):
            return os.getpid()

    handle = Short.remote()
    pid = ray.get(handle.pid.remote(), timeout=30)
    del handle
    eventually(lambda: not os.path.exists(f"/proc/{pid}/fd/0"), 10, "its process is gone")


def test_what_no_node_has_is_said(cluster, joined, capfd):
    ref = where.options(resources={"nowhere": 1}).remote()
    said = []
    eventually(lambda: said.append(capfd.readouterr().err) or "no node has" in "".join(said), 10, "it is said")
    ray.cancel(ref)


def test_a_cancel_there(cluster, joined):
    ref = slow.options(**FAR).remote(60)
    waiting = [slow.options(resources={"far": 4}).remote(60) for _ in range(3)]
    time.sleep(0.5)
    for each in [ref, *waiting]:
        ray.cancel(each)
    for each in [ref, *waiting]:
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(each, timeout=30)


@EACH_STORE
def test_streams_and_async_cross(cluster, joined):
    @ray.remote(num_returns="streaming", **FAR)
    def numbers(count):
        for number in range(count):
            yield number, bytes(200_000)

    assert [ray.get(ref)[0] for ref in numbers.remote(20)] == list(range(20))


def test_a_name_is_taken_once_in_the_whole_cluster(cluster, joined):
    @ray.remote(num_cpus=0)
    class Keeper:
        def node(self):
            return ray.get_runtime_context().node_id

    @ray.remote
    def make(name):
        """Of the node where it runs, which keeps it for as long as the task takes."""
        keeper = Keeper.options(name=name).remote()
        ray.get(keeper.node.remote())
        time.sleep(1)
        return ray.get_runtime_context().node_id

    @ray.remote
    def find(name):
        return ray.get(ray.get_actor(name).node.remote())

    kept = make.options(**FAR).remote("box")
    eventually(lambda: found("box"), 20, "it is found here")
    assert ray.get([find.remote("box"), find.options(**FAR).remote("box")], timeout=30)
    with pytest.raises(ValueError, match="already taken"):
        Keeper.options(name="box").remote()
    ray.get(kept, timeout=30)
    eventually(lambda: not found("box"), 20, "its name is free")
    # The store learns of it a moment later.
    mine = eventually(lambda: made_as(Keeper, "box"), 20, "another one can have the name")
    assert ray.get(find.options(**FAR).remote("box"), timeout=30) == ray.get(mine.node.remote())


def made_as(cls, name):
    try:
        return cls.options(name=name).remote()
    except ValueError:
        return None


def found(name):
    try:
        return ray.get_actor(name)
    except ValueError:
        return None


PRINTS = """
import sys
import ray

@ray.remote(resources={"far": 1} if sys.argv[2] == "far" else {})
def prints():
    for number in range(2_000):
        print("line", number, "of the last words")

ray.init(sys.argv[1])
ray.get(prints.remote())
"""


@pytest.mark.parametrize("where", ["near", "far"])
def test_a_program_that_ends_prints_all_that_its_workers_have_printed(cluster, where):
    program = [sys.executable, "-c", PRINTS, cluster.address, where]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    assert [line for line in range(2_000) if f"line {line} of the last words\n" not in done.stdout] == []
