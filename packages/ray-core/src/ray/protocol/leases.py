"""Which worker serves which owner: the node manager's lease table, as a pure machine.

Owners state demand per scheduling class; workers come and go; the machine grants, starts, revokes and reports. Deeper
askers go first, so that the children of blocked tasks are served before more parents start; after that higher
priority, then the owner that holds no worker of the class (a revoked one must not go back), then the one served longest
ago. For the first in this order that has waited long, what becomes free is kept (``ray.protocol.keeping``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias

import msgspec

from ray.abc.scheduler import NodeView, ResourceRequest, SchedulerPolicy
from ray.ids import node_of
from ray.messages.placement import Placement
from ray.protocol import keeping, sharing
from ray.protocol.idle_workers import IdleWorkers
from ray.protocol.other_nodes import NoOtherNodes, OtherNodes
from ray.protocol.placement import candidates, has
from ray.protocol.resources import UNIT, Allocation, NodeResources
from ray.protocol.waiting import DemandEntry, DemandKey, Line, Shape, WaitingLines

#: Leases without any resource are not limited by resources; this many per CPU may run at once.
ZERO_COST_LEASES_PER_CPU = 4


class Lease(msgspec.Struct):
    """A worker held by an owner. ``allocation`` may lack its CPU while the worker is blocked."""

    id: bytes
    worker: bytes
    key: DemandKey
    request: ResourceRequest
    allocation: Allocation
    job: str = ""
    """Of the owner and of the worker."""
    for_life: bool = False
    """An actor's: it ends with its worker."""
    on_loan: bool = False
    """The owner is of another node."""
    revoked: bool = False
    #: The owner was asked to release it as soon as it has nothing for it.
    wanted: bool = False
    blocked: bool = False

    @property
    def is_free(self) -> bool:
        """Nothing but a number limits these; actors are not limited at all."""
        return not (self.request.resources or self.for_life)


class Grant(msgspec.Struct, frozen=True):
    """Tell the owner."""

    lease: Lease


class StartWorkers(msgspec.Struct, frozen=True):
    """Fork this many more workers for a job."""

    count: int
    job: str = ""


class RevokeLease(msgspec.Struct, frozen=True):
    """Ask the owner to release when its running work has ended; ``soft``: when it has no work left for it."""

    lease: Lease
    soft: bool = False


class Infeasible(msgspec.Struct, frozen=True):
    """This node can never serve it."""

    entry: DemandEntry


Effect: TypeAlias = Grant | StartWorkers | RevokeLease | Infeasible


class LeaseTable:
    """State of all leases of one node."""

    def __init__(
        self,
        node_id: bytes,
        resources: NodeResources,
        policy: SchedulerPolicy,
        new_id: Callable[[], bytes],
        name: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.node_id = node_id
        #: Those to which the policy may prefer this one.
        self.others: OtherNodes = NoOtherNodes()
        self.resources = resources
        self._policy = policy
        self._new_id = new_id
        #: {(owner, class): demand}; entries of count 0 are removed
        self.demands: dict[DemandKey, DemandEntry] = {}
        #: The same without those that are infeasible, in the order of service.
        self._waiting = WaitingLines()
        #: {lease id: lease}
        self.leases: dict[bytes, Lease] = {}
        #: {worker id: its lease}
        self.by_worker: dict[bytes, Lease] = {}
        self.idle = IdleWorkers()
        #: {job: workers that are not ready yet}
        self._starting: Counter[str] = Counter()
        #: {key: leases} of owners, and how many leases without needs run: both follow ``leases``.
        self._holders: Counter[DemandKey] = Counter()
        self._free_running = 0
        #: {job: leases} that are not for life.
        self._of_job: Counter[str] = Counter()
        #: More workers were missing than were to be started at a time.
        self._held_back = False
        #: What is not given to owners that come after the one that it is kept for.
        self.kept: Mapping[str, int] = {}
        #: What workers will hold that are to start.
        self._promised: Counter[str] = Counter()
        self._turn = 0
        self._total = dict(resources.available())
        self._view = NodeView(node_id, self._total, self._total, labels=dict(labels or {}), name=name)
        self._cpus = max(1, self._total.get("CPU", 0) // UNIT)

    @property
    def starting(self) -> int:
        """Workers that are not ready yet, of all jobs."""
        return self._starting.total()

    # --- events -----------------------------------------------------------------------------------------------------

    def demand(
        self,
        key: DemandKey,
        request: ResourceRequest,
        count: int,
        name: str = "",
        job: str = "",
        *,
        for_life: bool = False,
        placement: Placement | None = None,
        on_loan: bool = False,
        prefer: bytes = b"",
    ) -> list[Effect]:
        """An owner, which is of ``job``, wants ``count`` more workers, of actors ``for_life``; 0 withdraws.

        ``on_loan``: it is another node manager, and wants them of this node. ``prefer``: the node to ask first.
        """
        entry = self.demands.get(key)
        if not count:
            self._withdraw(key)
            return self.schedule() if self.kept or self._starting else []  # what was meant for it is free
        if entry is not None:
            entry.count = count
            entry.request = request
            self._line_up(entry)
            return self.schedule()
        self._turn += 1
        entry = self.demands[key] = DemandEntry(
            key,
            request,
            count,
            name,
            self._turn,
            job,
            for_life or key[0] == self.node_id,
            placement,
            on_loan,
            prefer=prefer,
        )
        if not self._could_serve(entry):
            entry.infeasible = True
            return [Infeasible(entry)]
        self._line_up(entry)
        return self.schedule()

    def nodes_changed(self) -> list[Effect]:
        """Another node has come or gone: what was for it may be for this one now, or the other way round."""
        for entry in self.demands.values():
            if entry.placement is not None and entry.infeasible is self._could_serve(entry):
                entry.infeasible, entry.placed = not entry.infeasible, 0
                self._waiting.remove(entry.key)
                self._line_up(entry)
        return self.schedule()

    def start_ahead(self, count: int, job: str = "") -> list[Effect]:
        """A job begins, and will want ``count`` workers."""
        self._starting[job] += count
        return [StartWorkers(count, job)]

    def worker_ready(self, worker: bytes, job: str = "") -> list[Effect]:
        """A forked worker is listening."""
        self._started(job)
        self.idle.add(worker, job)
        return self.schedule(start=self._held_back)

    def worker_failed_to_start(self, job: str = "") -> list[Effect]:
        """A fork did not lead to a ready worker."""
        self._started(job)
        return self.schedule()

    def _started(self, job: str) -> None:
        """One worker of the job that was starting is not starting any more."""
        self._starting[job] -= 1
        if self._starting[job] <= 0:
            del self._starting[job]

    def worker_lost(self, worker: bytes) -> tuple[Lease | None, list[Effect]]:
        """A worker died; returns the lease that ended with it. What it wanted for its own tasks is void."""
        for key in [key for key in self.demands if key[0] == worker]:
            self._withdraw(key)
        return self.worker_retired(worker)

    def worker_retired(self, worker: bytes) -> tuple[Lease | None, list[Effect]]:
        """A worker takes no more work, but wants what it has asked for: its own tasks are still to run."""
        self.idle.discard(worker)
        lease = self.by_worker.get(worker)
        if lease is not None:
            self._end(lease)
        return lease, self.schedule()

    def release(self, lease_id: bytes, *, retired: bool = False) -> list[Effect]:
        """The owner is done. A retired worker is ending itself and is not granted again."""
        lease = self.leases.get(lease_id)
        if lease is None:
            return []
        self._end(lease)
        if not retired:
            self.idle.add(lease.worker, lease.job)
        return self.schedule()

    def hand_over(self, lease: Lease, key: DemandKey) -> None:
        """A lease that is for life is another owner's from now on: such leases count for no demand."""
        assert lease.for_life
        lease.key = key

    def blocked(self, worker: bytes) -> list[Effect]:
        """The worker's task waits for others: its CPU serves them meanwhile."""
        lease = self.by_worker.get(worker)
        if lease is None or lease.blocked:
            return []
        lease.blocked = True
        self._free_running -= lease.is_free
        self.resources.release_cpu(lease.allocation)
        return self.schedule()

    def resumed(self, worker: bytes) -> None:
        """It goes on at once; CPUs may be oversubscribed until others end."""
        lease = self.by_worker.get(worker)
        if lease is not None and lease.blocked:
            lease.blocked = False
            self._free_running += lease.is_free
            self.resources.reacquire_cpu(lease.allocation)

    def owner_lost(self, owner: bytes) -> list[Lease]:
        """An owner died; returns its leases, which have ended: their workers must be killed."""
        for key in [key for key in self.demands if key[0] == owner]:
            self._withdraw(key)
        ended = [lease for lease in self.leases.values() if lease.key[0] == owner]
        for lease in ended:
            self._end(lease)
        return ended

    def unmet(self) -> Iterator[tuple[DemandEntry, int]]:
        """The demands of owners that wait for more than what starts for them, and for how many workers more.

        In the order of service; those that this node could never serve come last.
        """
        for _, entry in self._waiting.in_order(set()):
            if entry.count > entry.placed and not entry.on_loan:
                yield entry, entry.count - entry.placed
        for entry in self.demands.values():
            if entry.infeasible:
                yield entry, entry.count

    def met_elsewhere(self, key: DemandKey) -> bool:
        """Another node has given one of the workers that are wanted; False if none is wanted any more."""
        entry = self.demands.get(key)
        if entry is None:
            return False
        entry.count -= 1
        entry.since, entry.overdue, entry.told = None, False, False
        if not entry.count:
            self._withdraw(key)
        return True

    def room_for(self, request: ResourceRequest, most: int) -> int:
        """How many workers another node may have for this now."""
        if self.own_wait(request):
            return 0
        if not any(request.resources.values()):
            return max(0, min(most, self._cpus * ZERO_COST_LEASES_PER_CPU - self._free_running))
        held: list[Allocation] = []
        while len(held) < most and (allocation := self._place(request)) is not None:
            held.append(allocation)
        for allocation in held:
            self.resources.release(allocation)
        return len(held)

    def own_wait(self, request: ResourceRequest) -> bool:
        """Whether an owner of this node waits that is as deep or urgent: other nodes get nothing meanwhile."""
        rank = (request.depth, request.priority)
        return any(
            not entry.infeasible and (entry.request.depth, entry.request.priority) >= rank for entry, _ in self.unmet()
        )

    def has_workers(self, job: str) -> bool:
        """Whether tasks of a job have any worker of this node."""
        return job in self._of_job

    def take_back(self, lease: Lease) -> list[Effect]:
        """What is on loan is wanted for another home: it is given back when its task has ended."""
        lease.revoked = True
        return [RevokeLease(lease)]

    def end_job(self, job: str) -> None:
        """A job is over: no worker is wanted for it any more."""
        for key in [key for key, entry in self.demands.items() if entry.job == job]:
            self._withdraw(key)
        self._starting.pop(job, None)

    def shrink(self, lease: Lease, resources: dict[str, int]) -> list[Effect]:
        """A placed actor keeps only ``resources``."""
        if dict(lease.request.resources) == resources:
            return []
        self.resources.shrink(lease.allocation, resources)
        lease.request = replace(lease.request, resources=resources)
        return self.schedule()

    def tick(self, now: float) -> list[Effect]:
        """Time has come so far; called now and then while somebody waits."""
        return self.schedule() if keeping.grow_old(self.demands.values(), self._holders, now) else []

    # --- decisions --------------------------------------------------------------------------------------------------

    def schedule(self, *, start: bool = True) -> list[Effect]:
        """Grant what can be granted now and say how many workers are missing.

        Args:
            start: whether something has happened that may make more workers missing than are starting.
        """
        effects: list[Effect] = []
        self.kept = {}
        self._promised.clear()
        if not self.demands:
            return effects
        #: What workers that are to be started will hold, and how many of them each job needs.
        missing: list[Allocation] = []
        wanted: Counter[str] = Counter()
        most = self._cpus * ZERO_COST_LEASES_PER_CPU
        zero_cost = self._cpus * ZERO_COST_LEASES_PER_CPU - self._free_running
        #: Needs for which there is no room, and lines for whose rest nothing more can be done now.
        refused: set[Shape] = set()
        closed: set[Line] = set()
        #: Lines for which the policy prefers other nodes.
        elsewhere: set[Line] = set()
        others = self.others.nodes
        #: Those that do not belong any more where they are in their line.
        moved: dict[DemandKey, DemandEntry] = {}
        for line, entry in self._waiting.in_order(closed):
            if not (self.idle or start):
                break
            lacking, job = 0, line.job
            entry.placed, entry.elsewhere = 0, False
            asked = self.others.asked(entry.key) if others else 0
            if entry.prefer and others and self.others.keeps(entry):
                continue
            while entry.count - asked > lacking:
                if others and (line in elsewhere or self._goes_elsewhere(entry)):
                    elsewhere.add(line)
                    entry.elsewhere = True
                    break
                if line.free and zero_cost <= 0:
                    self._revoke_for(entry, line, closed, moved, effects)
                    break
                is_idle = self.idle.has(job)
                if not is_idle and (len(missing) >= most or not (start or wanted[job] < self._starting[job])):
                    closed.add(line)  # more start when these are ready, for which there is room then
                    break
                allocation = self._place(entry.request) if line.shape not in refused else None
                if allocation is None:
                    refused.add(line.shape)
                    if entry.overdue and not self.kept:
                        self._keep_for(entry)
                    self._revoke_for(entry, line, closed, moved, effects)
                    break
                zero_cost -= line.free
                if not is_idle:
                    missing.append(allocation)
                    wanted[job] += 1
                    lacking += 1
                    entry.placed = lacking
                    continue
                effects.append(Grant(self._grant(entry, allocation)))
                moved[entry.key] = entry
        for entry in moved.values():
            if entry.count:
                self._line_up(entry)
            else:
                self._withdraw(entry.key)
        if start:
            self._held_back = len(missing) >= most
        for allocation in missing:
            self.resources.release(allocation)
            if others:
                self._promised.update(allocation.resources)
        for job, count in wanted.items():
            more = count - self._starting[job]
            if more > 0:
                self._starting[job] += more
                effects.append(StartWorkers(more, job))
        return effects

    def _grant(self, entry: DemandEntry, allocation: Allocation) -> Lease:
        worker = self.idle.take(entry.job)
        lease = Lease(
            self._new_id(), worker, entry.key, entry.request, allocation, entry.job, entry.for_life, entry.on_loan
        )
        self.leases[lease.id] = self.by_worker[worker] = lease
        if not entry.for_life:
            self._holders[entry.key] += 1
            self._of_job[entry.job] += 1
        self._free_running += lease.is_free
        entry.count -= 1
        entry.placed = max(0, entry.placed - 1)
        entry.since, entry.overdue = None, False
        entry.revoked = max(0, entry.revoked - 1)
        self._turn += 1
        entry.turn = self._turn
        return lease

    def _line_up(self, entry: DemandEntry) -> None:
        """Put an entry where it belongs by what it wants and what it holds; not if no node could ever serve it."""
        if entry.infeasible:
            return
        free = not (entry.request.resources or entry.for_life)
        self._waiting.put(entry, holds=entry.key in self._holders, free=free)

    def _withdraw(self, key: DemandKey) -> None:
        """Nobody waits for this any more."""
        self.demands.pop(key, None)
        self._waiting.remove(key)

    def _keep_for(self, entry: DemandEntry) -> None:
        """Keep what this one needs from owners that come later, if there will be room for it."""
        needed, free = entry.request.resources, self.resources.available()
        if keeping.comes_free(needed, free, self.leases.values()):
            self.kept = keeping.to_keep(needed, free)

    def view(self) -> NodeView:
        """What a policy may know of this node; what workers will hold that start is not free."""
        free = self.resources.available()
        for name, amount in self._promised.items():
            free[name] -= amount
        return replace(self._view, available=free, leased=len(self.leases))

    def _could_serve(self, entry: DemandEntry) -> bool:
        """Whether this node has enough, and is one on which the work may run."""
        needs = entry.request.resources
        feasible = self.resources.feasible(needs)
        if entry.placement is None or not feasible:
            return feasible
        able = candidates(entry.placement, needs, (self._view, *self.others.nodes.values()))
        return any(node is self._view for node in able)

    def _goes_elsewhere(self, entry: DemandEntry) -> bool:
        """Whether there is room here, and the policy prefers another node."""
        if entry.on_loan or (entry.prefer and entry.prefer == node_of(self.node_id)):
            return False
        others: Collection[NodeView] = self.others.nodes.values()
        request, here = entry.request, self.view()
        if not has(here.available, request.resources):
            return False
        if entry.placement is not None:
            able = candidates(entry.placement, request.resources, (self._view, *others))
            others = [node for node in able if node is not self._view]
        views = (here, *(node for node in others if node.available))
        return self._policy.choose(request, views) not in (self.node_id, None)

    def _place(self, request: ResourceRequest) -> Allocation | None:
        if self.kept and not keeping.leaves(request.resources, self.resources.available(), self.kept):
            return None
        view = NodeView(self.node_id, self._total, self.resources.available())
        if self._policy.choose(request, (view,)) != self.node_id:
            return None
        return self.resources.try_acquire(request.resources)

    def _revoke_for(
        self,
        entry: DemandEntry,
        line: Line,
        closed: set[Line],
        moved: dict[DemandKey, DemandEntry],
        effects: list[Effect],
    ) -> None:
        """An owner without a worker of this class waits: take one from the one that holds most, not from deeper askers.

        Actors keep theirs for life: nobody could answer for them. So those that wait cannot use what others of their
        class hold. Where there is nobody to take from, the line is closed.
        """
        if entry.revoked >= entry.count and not self._needs_more(entry):
            return
        if entry.key in self._holders:
            if len(self._of_job) > 1:
                lease = sharing.to_take(entry, self.leases.values(), self.demands.values(), self._lacking(entry))
                if lease is not None:
                    self._revoke(lease, entry, moved, effects)
            return
        held: dict[bytes, list[Lease]] = {}
        lacking = self._lacking(entry)
        others = [
            lease
            for lease in self.leases.values()
            if not lease.for_life and sharing.helps(lease.request.resources, lacking)
        ]
        own = entry.key[0]
        usable = False
        for lease in others:
            if lease.key[0] == own:
                usable = True  # of use to others of this shape
                continue
            if lease.request.depth > entry.request.depth and not lease.wanted:
                lease.wanted = True
                effects.append(RevokeLease(lease, soft=True))
            if not (lease.blocked or lease.revoked) and lease.request.depth <= entry.request.depth:
                held.setdefault(lease.key[0], []).append(lease)
        if not held and not usable:
            closed.add(line)
        if held:
            self._revoke(max(held.values(), key=len)[-1], entry, moved, effects)

    def _lacking(self, entry: DemandEntry) -> set[str]:
        """What there is not enough of; all that it needs if there is enough of everything."""
        free = self.resources.available()
        needed = entry.request.resources
        return {name for name, amount in needed.items() if free.get(name, 0) < amount} or set(needed)

    def _revoke(
        self, lease: Lease, entry: DemandEntry, moved: dict[DemandKey, DemandEntry], effects: list[Effect]
    ) -> None:
        """An owner gives a worker back when its task has ended, for another one that waits."""
        lease.revoked = True
        entry.revoked += 1
        loser = self.demands.get(lease.key)
        if loser is not None:  # goes to the end of the queue, or it would get the worker back
            self._turn += 1
            loser.turn = self._turn
            moved[loser.key] = loser
        effects.append(RevokeLease(lease))

    def _needs_more(self, entry: DemandEntry) -> bool:
        """Whether what was revoked gives no room to an owner that has waited long."""
        if not entry.overdue:
            return False
        revoked = (lease for lease in self.leases.values() if lease.revoked)
        return not keeping.comes_free(entry.request.resources, self.resources.available(), revoked)

    def _end(self, lease: Lease) -> None:
        del self.leases[lease.id]
        del self.by_worker[lease.worker]
        if self._holders[lease.key] > 1:
            self._holders[lease.key] -= 1
        else:
            del self._holders[lease.key]
            if lease.key in self.demands:
                self._line_up(self.demands[lease.key])
        if not lease.for_life:
            self._of_job[lease.job] -= 1
            if not self._of_job[lease.job]:
                del self._of_job[lease.job]
        if lease.blocked:
            self.resources.reacquire_cpu(lease.allocation)
        else:
            self._free_running -= lease.is_free
        self.resources.release(lease.allocation)

    def surplus(self, keep: int) -> list[bytes]:
        """Idle workers beyond ``keep``, longest idle first; the caller ends them and forgets them here."""
        return list(self.idle)[: max(0, len(self.idle) - keep)]

    def stayed(self, worker: bytes, job: str = "") -> list[Effect]:
        """A worker that was to end, and was forgotten, is needed by others: it may take work again."""
        self.idle.add(worker, job)
        return self.schedule()

    def forget(self, workers: Iterable[bytes]) -> None:
        """These idle workers are being ended."""
        for worker in workers:
            self.idle.discard(worker)
