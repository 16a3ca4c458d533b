"""Lines of ``cluster.py`` about births: many actors at once on two other nodes, with a name and without, and here."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Mapping
from typing import Any

import processes
from adapter import ray, remote
from cluster_nodes import Nodes
from harness import Line

#: Actors that are born at once, and how often.
COUNT, TIMES = 100, 3
#: Until the workers of those before have ended.
SETTLE_S = 2.0
FAR: dict[str, Any] = {"num_cpus": 0, "resources": {"far": 1 / COUNT}}


def birth_lines(nodes: Nodes) -> list[Line]:
    """Births a second from the first order to the last answer, and the processor time of one, in all processes."""

    @functools.cache
    def samples() -> dict[str, list[float]]:
        try:
            nodes.head("--num-cpus", "2")
            for _ in range(2):
                nodes.join("--num-cpus", "0", "--resources", "far=1")
            nodes.await_all(3)
            ray.init(redis_address=nodes.address(), log_to_driver=False)
            try:
                return _measured(nodes)
            finally:
                ray.shutdown()
        finally:
            nodes.stop()

    def line(name: str, unit: str) -> Line:
        return Line(name, unit, lambda budget: samples()[name])

    kinds = ("here", "far", "named")
    return [line(f"{kind}_{what}", unit) for kind in kinds for what, unit in (("births", "/s"), ("birth_cpu", "ms"))]


def _measured(nodes: Nodes) -> dict[str, list[float]]:
    # The class of a module would be imported by each worker, which would cost more than all that is measured here.
    class Server:
        def ping(self) -> None:
            return None

    actor_class, numbers = remote(num_cpus=0)(Server), itertools.count()
    found: dict[str, list[float]] = {}

    def born(kind: str, options: Mapping[str, Any], *, named: bool = False) -> None:
        time.sleep(SETTLE_S)
        before = _cpu(nodes)
        start = time.perf_counter()
        names = [{"name": f"born-{next(numbers)}"} if named else {} for _ in range(COUNT)]
        made = [actor_class.options(**options, **name).remote() for name in names]
        ray.get([actor.ping.remote() for actor in made])
        took = time.perf_counter() - start
        after = _cpu(nodes)
        spent = sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
        found.setdefault(f"{kind}_births", []).append(COUNT / took)
        found.setdefault(f"{kind}_birth_cpu", []).append(1000 * spent / COUNT)
        for actor in made:
            ray.kill(actor)

    for _ in range(TIMES):
        born("here", {})
        born("far", FAR)
        born("named", FAR, named=True)
    return found


def _cpu(nodes: Nodes) -> dict[int, float]:
    """{pid: processor time so far} of this program and all processes of the nodes."""
    return {pid: processes.cpu_seconds([pid]) for pid in (*nodes.pids(), os.getpid())}
