"""Random lives of small simulated clusters: every choice follows from a seed, so a failure can be run again.

    python -m ray.testing.trials [--seeds 10000] [--first 0] [--jobs 2]
    python -m ray.testing.trials --seed 4711

In each life several owners submit tasks of all lengths to a few nodes, and programs create actors, call them, and hand
them refs and handles, which those hand on, over links that are slow or, with a real ``Delivery`` at each end, lose,
double and reorder. Workers keep their interpreters, wait for others, end by plan and die, and so do actors; two that
talk to each other are cut off for a while; connections break, programs and nodes die, tasks and calls are cancelled,
actors are killed. The invariants of all tables are checked after every few events. In the end every task and call has
ended once, no attempt has begun twice, calls have begun in their order, and nothing is held.

With each seed some node managers live as well that lend each other workers: see ``lending_lives``.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import traceback
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor

from ray.abc.scheduler import ResourceRequest, SchedulerPolicy
from ray.builtin.schedulers import HybridPolicy, SpreadPolicy
from ray.protocol.resources import UNIT
from ray.testing import lending_lives
from ray.testing.simulated_program import SimulatedProgram
from ray.testing.simulation import Behaviour, Cluster, LinkQuality

#: More events than any life has that comes to an end.
MAX_EVENTS = 100_000
#: New objects until garbage is looked for: a life makes many, and little garbage.
_GARBAGE = 100_000
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
    for program in cluster.programs.values():
        for _ in range(rng.randint(1, 4)):
            _create(program, rng)
    for _ in range(rng.randint(2, 12)):
        if cluster.owners:
            owner = rng.choice(list(cluster.owners.values()))
            count = rng.choice([1, 1, 3, 10, 40])
            request = rng.choice(_REQUESTS)
            owner.submit(count, request, retries=rng.choice([-1, 0, 1, 3]))
            tasks += count
        _act(cluster, rng)
        cluster.run(cluster.clock.now + rng.choice([0.0, 0.000_5, 0.01, 0.2]))
        for _ in range(rng.randint(0, 2)):
            _disturb(cluster, rng)
            cluster.run(cluster.clock.now + rng.choice([0.0, 0.000_5, 0.01]))
    cluster.run()
    ended = sum(owner.done for owner in cluster.owners.values())
    cluster.check(ended == tasks, f"{ended} of {tasks} tasks have ended")
    pending = sum(program.pending for program in cluster.programs.values())
    cluster.check(not pending, f"{pending} calls have not ended")
    cluster.check_settled()
    return cluster


def _cluster(rng: random.Random, seed: int) -> Cluster:
    policies: list[SchedulerPolicy] = [HybridPolicy(), SpreadPolicy()]
    behaviour = Behaviour(
        task_s=rng.choice([(0.000_01, 0.000_1), (0.000_01, 0.05), (0.001, 0.2)]),
        keep=rng.choice([0.0, 0.2, 0.7]),
        deaf=rng.choice([0.0, 0.3]),
        blocks=rng.choice([0.0, 0.0, 0.1]),
        fails=rng.choice([0.0, 0.05]),
        dies=rng.choice([0.0, 0.0, 0.05]),
        dials=rng.choice([0.0, 0.0, 0.3]),
        unsendable=rng.choice([0.0, 0.0, 0.2]),
        tasks_per_worker=rng.choice([0, 0, 1, 7]),
        hands_on=rng.choice([0.0, 0.3, 0.7]),
        exits=rng.choice([0.0, 0.0, 0.05]),
        refuses=rng.choice([0.0, 0.0, 0.1]),
    )
    quality = LinkQuality(
        max_delay_s=rng.choice([0.000_2, 0.001, 0.02]), loss=rng.choice([0.0, 0.02]), doubled=rng.choice([0.0, 0.05])
    )
    owners, programs = rng.choice([(1, 0), (2, 0), (3, 0), (0, 1), (0, 2), (0, 3), (1, 1)])
    return Cluster(
        rng.randint(1, 4), owners=owners, programs=programs, cpus=rng.choice([2, 3, 8]), policy=rng.choice(policies),
        behaviour=behaviour, warm=rng.choice([0, 2]), quality=quality, delivering=rng.random() < 0.5, strict=True,
        seed=seed,
    )  # fmt: skip


def _create(program: SimulatedProgram, rng: random.Random) -> None:
    program.create(places=rng.choice([1, 1, 1, 3]), restarts=rng.choice([0, 1, 3, -1]))


def _act(cluster: Cluster, rng: random.Random) -> None:
    """What programs do."""
    for _ in range(rng.choice([1, 5, 20, 50])):
        programs = list(cluster.programs.values())
        if not programs:
            return
        program = rng.choice(programs)
        match rng.randrange(16):
            case 0:
                _create(program, rng)
            case 1 | 2:
                program.put()
            case 3 | 4:
                program.read()
            case 5 | 6 | 7:
                program.drop()
            case _:
                program.call(retries=rng.choice([0, 0, 0, 1, -1]), wait_s=rng.choice([0.0] * 9 + [0.01]))
        if rng.random() < 0.3:
            cluster.run(cluster.clock.now + rng.choice([0.0, 0.000_5, 0.01]))


def _disturb(cluster: Cluster, rng: random.Random) -> None:
    """Something that may happen at any time."""
    owners, programs = list(cluster.owners.values()), list(cluster.programs.values())
    match rng.randrange(7):
        case 0:
            node = rng.choice(list(cluster.nodes.values()))
            living = [id for id, worker in node.workers.items() if not worker.dead]
            if living:
                node.kill_worker(rng.choice(living))
        case 1:
            _cut(cluster, rng)
        case 2 if owners:
            owner = rng.choice(owners)
            for id in rng.sample(tasks := owner.unfinished(), min(len(tasks), rng.choice([1, 5]))):
                owner.cancel(id)
        case 2 | 3 if programs:
            rng.choice(programs).cancel()
        case 4 if programs:
            rng.choice(programs).kill(no_restart=rng.random() < 0.5)
        case 5 if programs and rng.random() < 0.2:
            cluster.fail_program(rng.choice(programs).address)
        case 6:
            mortal = [address for address in cluster.nodes if address not in {program.home for program in programs}]
            if len(cluster.nodes) > 1 and mortal and rng.random() < 0.3:
                cluster.fail_node(rng.choice(mortal), detect_s=rng.uniform(0.0, 0.5))
        case _ if owners:
            owner = rng.choice(owners)
            if workers := owner.workers():
                owner.lose_connection(rng.choice(workers))


def _cut(cluster: Cluster, rng: random.Random) -> None:
    """Two that have to do with each other do not hear each other for a while; at times their connection breaks."""
    between = cluster.connections.pairs()
    served = [(owner.address, worker) for owner in cluster.owners.values() for worker in owner.workers()]
    managed = [(address, node) for address in [*cluster.owners, *cluster.programs] for node in cluster.nodes]
    kinds = [pairs for pairs in (between, served, managed) if pairs]
    if not kinds:
        return
    one, other = rng.choice(rng.choice(kinds))
    cluster.cut(one, other, rng.choice([0.001, 0.05, 0.5]))
    if rng.random() < 0.5:
        return
    if one in cluster.owners:
        cluster.owners[one].lose_connection(other)
    elif other not in cluster.nodes:
        cluster.clock.after(rng.choice([0.0, 0.02]), cluster.connections.breaks, one, other)


def failures(seeds: Iterable[int]) -> list[str]:
    """Live with each seed; what went wrong, with the seeds."""
    found = []
    for seed in seeds:
        try:
            live(seed)
            lending_lives.live(seed)
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
        lending_lives.live(chosen.seed)
        print(f"seed {chosen.seed}: all is well after {cluster.clock.now:.3f} s, digest {cluster.digest:08x}")
        return 0
    last = chosen.first + chosen.seeds
    print(f"seeds {chosen.first} to {last - 1}, {chosen.jobs} processes", flush=True)
    found: list[str] = []
    with ProcessPoolExecutor(chosen.jobs, initializer=gc.set_threshold, initargs=(_GARBAGE,)) as pool:
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
