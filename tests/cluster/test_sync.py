"""Locks and queues between nodes and programs: what a dead node or a killed program had comes back."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from tests.commands import LIMIT_S
from tests.redis_servers import server_binary
from tests.victims import program, told

import ray
from ray.exceptions import NodeDiedError, WorkerCrashedError
from ray.testing import leaks
from ray.testing.cluster import Cluster
from ray.util.queue import Queue
from ray.util.sync import Lock


@pytest.fixture
def two() -> Iterator[Cluster]:
    """A head and another node, of two processors each; nothing is left."""
    server_binary()
    before = leaks.snapshot()
    with Cluster(initialize_head=True, head_node_args={"num_cpus": 2}) as cluster:
        cluster.add_node(num_cpus=2, resources={"far": 2})
        cluster.wait_for_nodes()
        yield cluster
    leaks.assert_clean(before)


@ray.remote(resources={"far": 1}, max_retries=0)
def hold(lock: Lock, pids: Queue[int]) -> None:
    lock.acquire()
    pids.put(os.getpid())
    threading.Event().wait()


@ray.remote(resources={"far": 1}, max_retries=0)
def wait_for_item(queue: Queue[str], pids: Queue[int]) -> str:
    pids.put(os.getpid())
    return queue.get()


def test_what_a_killed_node_had_comes_back(two: Cluster) -> None:
    with ray.init(two.address):
        lock, pids = Lock(), Queue[int]()
        queue = Queue[str]()
        held, waits = hold.remote(lock, pids), wait_for_item.remote(queue, pids)
        for _ in range(2):
            pids.get(timeout=LIMIT_S)
        assert not lock.acquire(timeout=0.5)
        two.kill(two.nodes[1])
        assert lock.acquire(timeout=LIMIT_S)
        queue.put("kept")
        for ref in (held, waits):
            with pytest.raises((NodeDiedError, WorkerCrashedError)):
                ray.get(ref, timeout=LIMIT_S)
        assert queue.get(timeout=LIMIT_S) == "kept"


def test_what_a_killed_program_had_comes_back(two: Cluster) -> None:
    code = f"""
    import time
    import ray
    from ray.util.sync import Lock
    ray.init({two.nodes[1].address!r})
    lock = Lock(name="shared")
    lock.acquire()
    print(1, flush=True)
    time.sleep(600)
    """
    with program(code) as process:
        assert told(process) == 1
        with ray.init(two.address):
            lock = Lock(name="shared")
            assert not lock.acquire(timeout=0.5)
            process.kill()
            assert lock.acquire(timeout=LIMIT_S)
            lock.release()
            lock.delete()
