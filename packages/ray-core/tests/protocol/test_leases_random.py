"""The lease table through random lives of a node: all invariants after each event, everything back at the end."""

import random
from collections import Counter
from itertools import count

import pytest

from ray.abc.scheduler import ResourceRequest
from ray.builtin.schedulers import HybridPolicy
from ray.protocol.keeping import leaves
from ray.protocol.leases import ZERO_COST_LEASES_PER_CPU, Grant, Infeasible, LeaseTable, RevokeLease, StartWorkers
from ray.protocol.resources import UNIT, NodeResources

NODE = b"node"
OWNERS = [NODE, b"a", b"b", b"c"]
SEEDS, EVENTS = 240, 220
#: The last two no node has.
WISHES = [
    {}, {"CPU": UNIT}, {"CPU": UNIT}, {"CPU": UNIT // 2}, {"CPU": 2 * UNIT}, {"GPU": UNIT}, {"GPU": UNIT // 2},
    {"CPU": UNIT, "GPU": UNIT // 2}, {"x": 3}, {"CPU": UNIT, "x": 1}, {"CPU": 99 * UNIT}, {"nowhere": 1},
]  # fmt: skip


class Life:
    """Drives a table as a node manager would, keeps its own books and compares."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.event = 0
        self.cpus = self.rng.choice([1, 2, 4])
        self.total = {"CPU": self.cpus * UNIT, "GPU": 2 * UNIT, "x": 5}
        self.numbers = count(1)
        self.table = LeaseTable(NODE, NodeResources(self.total), HybridPolicy(), self.new_id)
        #: {job: workers that are forked and not yet ready or failed}
        self.starting = Counter()
        #: {worker: its job}
        self.workers = {}
        #: {owner: its job}; a worker's is that of the worker, and asks for actors come from the node itself.
        self.jobs = {b"a": "1", b"b": "2", b"c": "2"} if self.rng.random() < 0.7 else {}
        #: Asked to end; may yet stay.
        self.ending = set()
        self.revokes = Counter()
        self.infeasible = set()
        self.now = 0.0
        #: Hard revoked leases, to be answered.
        self.owed = []

    def new_id(self):
        return b"%d" % next(self.numbers)

    def job_of(self, owner):
        """Of the actors that the node places, half are of each job."""
        jobs = sorted(set(self.jobs.values())) or [""]
        return self.rng.choice(jobs) if owner == NODE else self.workers.get(owner, self.jobs.get(owner, ""))

    # --- events

    def step(self):
        rng, table = self.rng, self.table
        leased = list(table.leases.values())
        match rng.choices(range(13), [9, 3, 12, 1, 2, 8, 4, 4, 1, 4, 1, 3, 2])[0]:
            case 0:
                asker = rng.choice([*OWNERS, *(lease.worker for lease in leased)])
                key = (asker, rng.randrange(6) if asker != NODE else next(self.numbers))
                old = table.demands.get(key)
                wish = dict(old.request.resources) if old else rng.choice(WISHES)
                depth = 1 if asker not in OWNERS else rng.choice([0, 0, 2])
                request = ResourceRequest(wish, depth, rng.choice([0, 0, 1, -1]))
                job = old.job if old else self.job_of(asker)
                self.check(table.demand(key, request, 1 if asker == NODE else rng.randint(1, 12), job=job))
            case 1 if table.demands:
                key = rng.choice(list(table.demands))
                self.check(table.demand(key, table.demands[key].request, 0))
                assert key not in table.demands
            case 2 if self.starting:
                self.ready()
            case 3 if self.starting:
                self.check(table.worker_failed_to_start(self.one_starts()))
            case 4 if self.workers:
                self.lose(rng.choice(sorted(self.workers)))
            case 5 if leased:
                self.release(rng.choice(leased), retired=rng.random() < 0.1)
            case 6 if leased:
                self.check(table.blocked(rng.choice(leased).worker))
            case 7 if leased:
                table.resumed(rng.choice(leased).worker)
                self.check([], scheduled=False)
            case 8:
                self.lose_owner(rng.choice(OWNERS[1:]))
            case 9 if self.owed:
                lease = self.owed.pop(rng.randrange(len(self.owed)))
                self.release(lease, retired=False)
            case 10:
                self.trim()
            case 12:
                self.now += self.rng.choice([0.5, 1.0, 3.0])
                before = {key for key, entry in table.demands.items() if entry.overdue}
                effects = table.tick(self.now)
                self.check(effects, scheduled=before != {key for key, entry in table.demands.items() if entry.overdue})
            case 11 if actors := [lease for lease in leased if lease.key[0] == NODE]:
                lease = rng.choice(actors)
                gpu_ids = lease.allocation.gpu_ids
                kept = {name: amount for name, amount in lease.request.resources.items() if name != "CPU"}
                self.check(table.shrink(lease, kept), scheduled=False)
                assert lease.allocation.gpu_ids == gpu_ids

    def one_starts(self):
        """The job of a worker that is starting no more."""
        job = self.rng.choice(sorted(self.starting.elements()))
        self.starting -= Counter([job])
        return job

    def ready(self):
        worker = self.new_id()
        job = self.workers[worker] = self.one_starts()
        self.check(self.table.worker_ready(worker, job))

    def release(self, lease, retired):
        known = lease.id in self.table.leases
        effects = self.table.release(lease.id, retired=retired)
        if not known:
            assert effects == []
        elif retired:
            self.workers.pop(lease.worker, None)
        self.check(effects, scheduled=known)

    def lose(self, worker):
        held = self.table.by_worker.get(worker)
        lease, effects = self.table.worker_lost(worker)
        assert lease is held
        self.workers.pop(worker, None)
        self.ending.discard(worker)
        self.check(effects)
        self.lose_owner(worker)

    def lose_owner(self, owner):
        held = {lease.id for lease in self.table.leases.values() if lease.key[0] == owner}
        ended = self.table.owner_lost(owner)
        assert {lease.id for lease in ended} == held
        assert not any(key[0] == owner for key in self.table.demands)
        for lease in ended:  # the node manager kills them
            self.workers.pop(lease.worker, None)
        self.check(self.table.schedule())
        for lease in ended:
            self.lose(lease.worker)

    def trim(self):
        surplus = self.table.surplus(1)
        assert len(self.table.idle) - len(surplus) <= 1
        self.table.forget(surplus)
        self.ending.update(surplus)
        if self.ending and self.rng.random() < 0.5:
            self.ending.remove(worker := min(self.ending))
            self.check(self.table.stayed(worker, self.workers[worker]))
        else:
            self.check([], scheduled=False)

    # --- what must hold

    def check(self, effects, scheduled=True):
        grants = []
        for effect in effects:
            match effect:
                case StartWorkers(more, job):
                    waiting = [entry for entry in self.table.demands.values() if not entry.infeasible]
                    wanted = sum(entry.count for entry in waiting if entry.job == job)
                    self.starting[job] += more
                    assert 0 < more <= self.starting[job] <= wanted
                    assert self.starting[job] <= self.cpus * ZERO_COST_LEASES_PER_CPU
                    assert not self.table.idle.has(job)
                case RevokeLease(lease, soft):
                    assert lease.id in self.table.leases
                    assert lease.key[0] != NODE
                    self.revokes[lease.id, soft] += 1
                    if not soft:
                        self.owed.append(lease)
                case Infeasible(entry):
                    assert not self.table.resources.feasible(entry.request.resources)
                    assert entry.key not in self.infeasible or entry.key[0] != NODE
                    self.infeasible.add(entry.key)
                case Grant(lease):
                    assert lease.job == self.workers[lease.worker]
                    grants.append(lease)
        self.scheduled = scheduled
        ranks = [(-lease.request.depth, -lease.request.priority) for lease in grants]
        assert ranks == sorted(ranks)
        if scheduled:
            self.check_served(grants)
        assert max(self.revokes.values(), default=0) <= 1
        self.check_kept()
        self.check_books()

    def check_kept(self):
        """Room is kept for somebody who has waited long and will find it, and only when there is none now."""
        table = self.table
        if not table.kept:
            return
        free = table.resources.available()
        waits = [
            entry for entry in table.demands.values()
            if entry.overdue and not entry.infeasible and table.kept.items() <= entry.request.resources.items()
        ]  # fmt: skip
        assert waits or not self.scheduled
        if self.scheduled and free.get("CPU", 0) > 0 and "CPU" in table.kept:
            assert any(
                all(free.get(name, 0) >= amount for name, amount in entry.request.resources.items() if name != "CPU")
                for entry in waits
            ), "a CPU idles until something else is free"

    def check_books(self):
        table = self.table
        assert table.starting == self.starting.total()
        assert {worker: self.workers[worker] for worker in table.idle} == dict(table.idle)
        assert table.by_worker == {lease.worker: lease for lease in table.leases.values()}
        assert len(table.by_worker) == len(table.leases)
        assert table.idle.keys() | table.by_worker.keys() | self.ending == self.workers.keys()
        assert not table.idle.keys() & table.by_worker.keys()
        assert all(entry.count > 0 for entry in table.demands.values())
        held = Counter()
        for lease in table.leases.values():
            assert lease.allocation.held
            assert dict(lease.allocation.resources) == dict(lease.request.resources)
            held.update(lease.allocation.resources)
            if lease.blocked:
                held["CPU"] -= lease.allocation.resources.get("CPU", 0)
        assert {name: free + held[name] for name, free in table.resources.available().items()} == self.total

    def check_served(self, grants):
        """Nobody waits who could run, and nobody was served before a deeper or higher one with the same wish."""
        table = self.table
        limited = [
            lease for lease in table.leases.values()
            if not (lease.blocked or lease.request.resources or lease.key[0] == NODE)
        ]  # fmt: skip
        for entry in table.demands.values():
            request = entry.request
            if entry.infeasible:
                assert not table.resources.feasible(request.resources)
                continue
            assert table.resources.feasible(request.resources)
            if table.idle.has(entry.job):
                room = len(limited) < self.cpus * ZERO_COST_LEASES_PER_CPU
                if request.resources or entry.key[0] == NODE or room:
                    kept = not leaves(request.resources, table.resources.available(), table.kept)
                    kept = kept or self.another_starts_for_that(entry)
                    assert kept or table.resources.try_acquire(request.resources) is None, entry
            for lease in grants:
                same = lease.request.resources == request.resources and lease.job == entry.job
                if same and lease.key[0] != NODE != entry.key[0]:
                    rank = (lease.request.depth, lease.request.priority)
                    assert rank >= (request.depth, request.priority)

    def another_starts_for_that(self, entry):
        """Whether what it needs may be meant for a worker of another job that is starting."""
        needed = entry.request.resources
        for other in self.table.demands.values():
            starts = not (other.infeasible or self.table.idle.has(other.job) or other.job == entry.job)
            if starts and (not needed or not needed.keys().isdisjoint(other.request.resources)):
                return True
        return False

    # --- the end

    def wind_down(self):
        table = self.table
        for key in list(table.demands):
            if table.demands[key].infeasible:
                self.check(table.demand(key, table.demands[key].request, 0))
        for _ in range(5000):
            if not table.demands:
                break
            if self.starting:
                self.ready()
            elif table.leases:
                self.release(next(iter(table.leases.values())), retired=False)
            else:
                self.trim()
        assert not table.demands, "somebody starves"
        for lease in list(table.leases.values()):
            self.release(lease, retired=False)
        assert table.resources.available() == table.resources.total() == self.total
        assert not table.leases
        assert not table.by_worker
        assert table.idle.keys() == self.workers.keys() - self.ending


@pytest.mark.timeout(60)
@pytest.mark.parametrize("block", [*range(4), *(pytest.param(each, marks=pytest.mark.slow) for each in range(4, 8))])
def test_a_random_life_keeps_every_invariant(block):
    for seed in range(block, SEEDS, 8):
        life = Life(seed)
        try:
            for life.event in range(EVENTS):
                life.step()
            life.wind_down()
        except Exception as error:
            error.add_note(f"seed {seed}, event {life.event}")
            raise
