"""Random lives of small simulated clusters: every choice follows from a seed, so a failure can be run again.

    python -m ray.testing.trials [--seeds 10000] [--first 0] [--jobs 2]
    python -m ray.testing.trials --seed 4711

In each life several owners submit tasks of all lengths to a few nodes, over links that are slow or, with a real
``Delivery`` at each end, lose, double and reorder. Workers keep their interpreters, wait for others, end by plan and
die; connections break, nodes die, tasks are cancelled. The invariants of all tables are checked after each event. In
the end every task has ended once, no attempt has begun twice, and nothing is held.
"""

from __future__ import annotations

import argparse
import random
import sys
import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor

from ray.abc.scheduler import ResourceRequest, SchedulerPolicy
from ray.builtin.schedulers import HybridPolicy, SpreadPolicy
from ray.protocol.resources import UNIT
from ray.testing.simulation import Behaviour, Cluster, LinkQuality

#: More events than any life has that comes to an end.
MAX_EVENTS = 100_000
_REQUESTS = [
    ResourceRequest({"CPU": UNIT}),
    ResourceRequest({"CPU": UNIT // 2}),
    ResourceRequest({"CPU": 2 * UNIT}),
    ResourceRequest({"CPU": UNIT}, priority=1),
]


def live(seed: int) -> Cluster:
    """One life.

    Raises:
        AssertionError: something does not hold.
    """
    rng = random.Random(seed)
    cluster = _cluster(rng, seed)
    cluster.most_events = MAX_EVENTS
    tasks = 0
    for _ in range(rng.randint(2, 12)):
        owner = rng.choice(list(cluster.owners.values()))
        count = rng.choice([1, 1, 3, 10, 40])
        request = rng.choice(_REQUESTS)
        owner.submit(count, request, retries=rng.choice([-1, 0, 1, 3]))
        tasks += count
        cluster.run(cluster.clock.now + rng.choice([0.0, 0.000_5, 0.01, 0.2]))
        for _ in range(rng.randint(0, 2)):
            _disturb(cluster, rng)
            cluster.run(cluster.clock.now + rng.choice([0.0, 0.000_5, 0.01]))
    cluster.run()
    ended = sum(owner.done for owner in cluster.owners.values())
    cluster.check(ended == tasks, f"{ended} of {tasks} tasks have ended")
    cluster.check_settled()
    return cluster


def _cluster(rng: random.Random, seed: int) -> Cluster:
    policies: list[SchedulerPolicy] = [HybridPolicy(), SpreadPolicy()]
    behaviour = Behaviour(
        task_s=rng.choice([(0.000_01, 0.000_1), (0.000_01, 0.05), (0.001, 0.2)]),
        keep=rng.choice([0.0, 0.2]),
        deaf=rng.choice([0.0, 0.3]),
        blocks=rng.choice([0.0, 0.0, 0.1]),
        fails=rng.choice([0.0, 0.05]),
        dies=rng.choice([0.0, 0.0, 0.05]),
        dials=rng.choice([0.0, 0.0, 0.3]),
        unsendable=rng.choice([0.0, 0.0, 0.05]),
        tasks_per_worker=rng.choice([0, 0, 1, 7]),
    )
    quality = LinkQuality(
        max_delay_s=rng.choice([0.000_2, 0.001, 0.02]), loss=rng.choice([0.0, 0.02]), doubled=rng.choice([0.0, 0.05])
    )
    return Cluster(
        rng.randint(1, 4), owners=rng.randint(1, 3), cpus=rng.choice([2, 3, 8]), policy=rng.choice(policies),
        behaviour=behaviour, warm=rng.choice([0, 2]), quality=quality, delivering=rng.random() < 0.5, strict=True,
        seed=seed,
    )  # fmt: skip


def _disturb(cluster: Cluster, rng: random.Random) -> None:
    """Something that may happen at any time."""
    owner = rng.choice(list(cluster.owners.values()))
    match rng.randrange(4):
        case 0:
            node = rng.choice(list(cluster.nodes.values()))
            living = [id for id, worker in node.workers.items() if not worker.dead]
            if living:
                node.kill_worker(rng.choice(living))
        case 1:
            workers = owner.workers()
            if workers:
                owner.lose_connection(rng.choice(workers))
        case 2:
            for id in rng.sample(tasks := owner.unfinished(), min(len(tasks), rng.choice([1, 5]))):
                owner.cancel(id)
        case _:
            if len(cluster.nodes) > 1 and rng.random() < 0.3:
                cluster.fail_node(rng.choice(list(cluster.nodes)), detect_s=rng.uniform(0.0, 0.5))


def failures(seeds: Iterable[int]) -> list[str]:
    """Live with each seed; what went wrong, with the seeds."""
    found = []
    for seed in seeds:
        try:
            live(seed)
        except Exception:
            found.append(f"--seed {seed}\n{traceback.format_exc()}")
    return found


def main(arguments: Sequence[str]) -> int:
    """The command line; 0: all is well, 1: some seed has failed."""
    parser = argparse.ArgumentParser(prog="python -m ray.testing.trials", description="Random simulated clusters.")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--seed", type=int, help="only this one, here")
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        cluster = live(chosen.seed)
        print(f"seed {chosen.seed}: all is well after {cluster.clock.now:.3f} s, digest {cluster.digest:08x}")
        return 0
    last = chosen.first + chosen.seeds
    print(f"seeds {chosen.first} to {last - 1}, {chosen.jobs} processes", flush=True)
    found: list[str] = []
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for texts in pool.map(
            failures, [range(first, min(first + 50, last)) for first in range(chosen.first, last, 50)]
        ):
            for text in texts:
                print(text, flush=True)
            found += texts
    print(f"{chosen.seeds} seeds, {len(found)} failures")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
