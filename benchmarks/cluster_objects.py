"""Lines of ``cluster.py`` about large values: one that many nodes want, and one between two nodes."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from typing import Any

from adapter import ray, remote
from cluster_nodes import Nodes
from harness import Line

from ray.runtime.driver.observer import SessionObserver

#: Nodes that want it, and how large it is.
RECEIVERS, NBYTES = 8, 256 << 20


@remote
def read(refs: list[Any]) -> float:
    """Have a value brought to this node; seconds."""
    start = time.perf_counter()
    ray.wait(refs, fetch_local=True)
    return time.perf_counter() - start


def broadcast_lines(nodes: Nodes) -> list[Line]:
    """One value of 256 MiB that eight nodes ask for at a time, beside one that asks alone."""

    @functools.cache
    def sample() -> dict[str, float]:
        with _cluster(nodes), _joined(nodes):
            names = [f"r{number}" for number in range(RECEIVERS)]
            ray.get([_warm.options(node=name).remote() for name in names])
            value = os.urandom(1 << 20) * (NBYTES >> 20)
            one = ray.put(value)
            start = time.perf_counter()
            ray.get(read.options(node=names[0]).remote([one]))
            single = time.perf_counter() - start
            del one
            time.sleep(1)
            many = ray.put(value)
            before = _transfers(nodes)
            start = time.perf_counter()
            ray.get([read.options(node=name).remote([many]) for name in names])
            took = time.perf_counter() - start
            after = _transfers(nodes)
            moved = [{what: new[what] - old[what] for what in new} for new, old in zip(after, before, strict=True)]
            return {
                "broadcast_sent": moved[0]["sent_bytes"] / len(value),
                "broadcast_received": max(each["received_bytes"] for each in moved) / len(value),
                "broadcast": took,
                "broadcast_single": RECEIVERS * single,
            }

    def line(name: str, unit: str) -> Line:
        return Line(name, unit, lambda budget: [sample()[name]])

    return [
        line("broadcast_sent", "times"),
        line("broadcast_received", "times"),
        line("broadcast", "s"),
        line("broadcast_single", "s"),
    ]


@remote
def _warm() -> None:
    """There is a worker."""


@contextlib.contextmanager
def _cluster(nodes: Nodes) -> Iterator[None]:
    store = ("--num-cpus", "1", "--object-store-memory", "640MiB")
    before, nodes.environ = nodes.environ, nodes.environ | {"RAY_STORE": "plasma"}
    try:
        nodes.head(*store)
        for number in range(RECEIVERS):
            nodes.join(*store, "--node-name", f"r{number}")
        nodes.await_all(RECEIVERS + 1)
        yield
    finally:
        nodes.stop()
        nodes.environ = before


@contextlib.contextmanager
def _joined(nodes: Nodes) -> Iterator[None]:
    ray.init(redis_address=nodes.address(), log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def _transfers(nodes: Nodes) -> list[dict[str, int]]:
    """What each node has sent and received so far; the oldest first."""
    found = []
    for node in nodes.nodes():
        with contextlib.closing(SessionObserver(node.session_dir, node.facts)) as observer:
            found.append({what: int(observer.ask("transfers")[what]) for what in ("sent_bytes", "received_bytes")})
    return found
