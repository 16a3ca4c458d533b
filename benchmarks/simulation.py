"""Cost of one decision of the pure machines with 1 to 10,000 of what could make it slower. It has to stay flat.

No process is started: a simulated cluster of 10,000 nodes runs in this one. Lines end in the number that varies. Set
BENCH_TASKS for another number of tasks than a million at most. ``curves.py`` runs it and draws it.
"""

from __future__ import annotations

import cProfile
import dataclasses
import functools
import gc
import os
import platform
import sys
import time
from collections.abc import Callable
from itertools import count

from harness import Budget, Line, parse, report

from ray import __version__
from ray.abc.scheduler import NodeView, ResourceRequest, SchedulerPolicy
from ray.builtin.schedulers import HybridPolicy, SpreadPolicy
from ray.protocol.leases import Grant, LeaseTable
from ray.protocol.references import ReferenceTable
from ray.protocol.resources import UNIT, NodeResources
from ray.testing.simulation import ONE_CPU, Behaviour, Cluster

SIZES = (1, 10, 100, 1_000, 10_000)
NODES = (100, 1_000, 10_000)
QUEUED = (10_000, 100_000, 1_000_000)
TASKS = int(os.environ.get("BENCH_TASKS", "1000000"))

Measured = Callable[[int, Budget], list[float]]


def timed(step: Callable[[], object], budget: Budget, steps: int = 200) -> list[float]:
    """Microseconds of one ``step``, a sample for each ``steps`` of them."""
    samples: list[float] = []
    end = time.perf_counter() + budget.seconds
    while len(samples) < budget.samples or (time.perf_counter() < end and len(samples) < 1_000):
        start = time.perf_counter()
        for _ in range(steps):
            step()
        samples.append((time.perf_counter() - start) / steps * 1e6)
        if time.perf_counter() > end and samples:
            break
    return samples


def policy_over_all(policy: SchedulerPolicy) -> Measured:
    """One choice among all nodes: linear, since a policy looks at every node it is shown."""

    def run(nodes: int, budget: Budget) -> list[float]:
        total = {"CPU": 8 * UNIT}
        views = [NodeView(i.to_bytes(8, "big"), total, {"CPU": (i % 8 + 1) * UNIT}, i == 0) for i in range(nodes)]
        return timed(lambda: policy.choose(ONE_CPU, views), budget, max(1, 2_000 // nodes))

    return run


def cluster_task(policy: SchedulerPolicy) -> Measured:
    """A whole task where the policy is shown 16 nodes at random: choice, demand, grant, release, references."""

    def run(nodes: int, budget: Budget) -> list[float]:
        cluster = Cluster(nodes, owners=4, policy=policy, candidates=16, warm=8)
        gc.collect()
        gc.freeze()  # what the collector would go through is the simulation, not the decision

        def wave() -> None:
            cluster.submit(200)
            cluster.run()

        wave()
        samples = [sample / 200 for sample in timed(wave, budget, 10)]
        cluster.check_settled()
        return samples

    return run


def cluster_calls(policy: SchedulerPolicy) -> Measured:
    """The same in calls of functions: free of noise, and of caches that grow with the cluster."""

    def run(nodes: int, budget: Budget) -> list[float]:
        cluster = Cluster(nodes, owners=4, policy=policy, candidates=16, warm=8)
        cluster.submit(200)
        cluster.run()
        profile = cProfile.Profile()
        profile.enable()
        cluster.submit(1_000)
        cluster.run()
        profile.disable()
        return [sum(entry.callcount for entry in profile.getstats()) / 1_000]

    return run


def table_of(cpus: int) -> tuple[LeaseTable, Callable[[], bytes]]:
    numbers = count(1)

    def new_id() -> bytes:
        return next(numbers).to_bytes(8, "big")

    resources = NodeResources({"CPU": cpus * UNIT, "x": UNIT})
    return LeaseTable(b"node", resources, HybridPolicy(), new_id), new_id


def grant_and_release(table: LeaseTable, owner: bytes) -> Callable[[], None]:
    def step() -> None:
        for effect in table.demand((owner, 0), ONE_CPU, 1):
            if type(effect) is Grant and effect.lease.key[0] == owner:
                table.release(effect.lease.id)

    return step


def grant_beside_leases(leases: int, budget: Budget) -> list[float]:
    """A grant and its release on a node where so many leases are held by somebody else."""
    table, new_id = table_of(leases + 4)
    for _ in range(leases + 1):
        table.worker_ready(new_id())
    table.demand((b"other", 0), ONE_CPU, leases)
    return timed(grant_and_release(table, b"owner"), budget, max(1, 20_000 // (leases + 100)))


def grant_beside_demands(demands: int, budget: Budget) -> list[float]:
    """A grant and its release on a node where so many owners wait for something else."""
    table, new_id = table_of(4)
    table.worker_ready(new_id())
    wish = ResourceRequest({"x": UNIT})
    table.demand((b"holder", 0), wish, 1)
    for _ in range(2):
        table.worker_ready(new_id())
    for number in range(demands):
        table.demand((b"%d" % number, 0), wish, 1)
    return timed(grant_and_release(table, b"owner"), budget, max(1, 20_000 // (demands + 100)))


def worker_start(wanted: int, budget: Budget) -> list[float]:
    """A worker that becomes ready while so many are wanted: what starting that many costs, divided by their number."""
    samples: list[float] = []
    end = time.perf_counter() + budget.seconds
    while not samples or (time.perf_counter() < end and len(samples) < 1_000):
        table, new_id = table_of(wanted)
        start = time.perf_counter()
        table.demand((b"owner", 0), ONE_CPU, wanted)
        while table.starting:
            table.worker_ready(new_id())
        samples.append((time.perf_counter() - start) / wanted * 1e6)
        assert len(table.leases) == wanted
    return samples


def references(alive: int, budget: Budget) -> list[float]:
    """An object made, pinned, lent, given back and freed while so many others live."""
    table = ReferenceTable()
    numbers = count(1)
    for _ in range(alive):
        table.own(next(numbers).to_bytes(20, "big")).local = 1

    def step() -> None:
        entry = table.own(next(numbers).to_bytes(20, "big"))
        table.pin((entry,))
        table.grant(entry, b"borrower")
        table.unpin((entry,))
        table.take_back(entry.id, b"borrower", 1)
        for _ in table.collect():
            pass

    return timed(step, budget)


def queued(tasks: int, budget: Budget) -> list[float]:
    """A task when so many are queued at once, by 16 owners, on 10,000 nodes of 8 processors."""
    cluster = Cluster(10_000, owners=16, policy=SpreadPolicy(), candidates=16, behaviour=Behaviour(keep=0.01))
    gc.collect()
    gc.freeze()
    start = time.perf_counter()
    cluster.submit(tasks)
    cluster.run()
    elapsed = time.perf_counter() - start
    cluster.check_settled()
    assert sum(owner.done for owner in cluster.owners.values()) == tasks
    return [elapsed / tasks * 1e6]


#: {series: (what varies, how it is measured)}. A choice among all nodes is linear, so clusters show a policy only some.
SERIES: dict[str, tuple[tuple[int, ...], Measured]] = {
    "a task by nodes, hybrid": (NODES, cluster_task(HybridPolicy())),
    "a task by nodes, spread": (NODES, cluster_task(SpreadPolicy())),
    "… in function calls, hybrid": (NODES, cluster_calls(HybridPolicy())),
    "… in function calls, spread": (NODES, cluster_calls(SpreadPolicy())),
    "a task by tasks queued": (tuple(count for count in QUEUED if count <= TASKS), queued),
    "a grant by leases held": (SIZES, grant_beside_leases),
    "a grant by demands waiting": (SIZES, grant_beside_demands),
    "a worker by workers wanted": (SIZES[:4], worker_start),
    "an object by objects alive": ((*SIZES, 1_000_000), references),
    "a choice of all nodes, hybrid": (SIZES, policy_over_all(HybridPolicy())),
    "a choice of all nodes, spread": (SIZES, policy_over_all(SpreadPolicy())),
}
LINES = [
    Line(f"{series}@{size}", "calls" if "calls" in series else "µs", functools.partial(run, size))
    for series, (sizes, run) in SERIES.items()
    for size in sizes
]


def main() -> int:
    chosen, budget = parse(LINES, __doc__)
    budget = dataclasses.replace(budget, limit=max(budget.limit, 900.0))
    return report(chosen, budget, {"ray-core": __version__, "python": platform.python_version()})


if __name__ == "__main__":
    sys.exit(main())
