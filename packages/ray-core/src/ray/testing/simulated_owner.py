"""One simulated owner: a load for a real table of tasks and a real table of references."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from ray.abc.scheduler import NodeView, ResourceRequest
from ray.messages import node, wire
from ray.protocol import task_effects as effects
from ray.protocol.references import ObjectEntry, ReferenceTable
from ray.protocol.task_records import Lease, SchedulingClass
from ray.protocol.tasks import TaskTable
from ray.testing.simulated_task import SimulatedFunction, SimulatedTask
from ray.testing.simulated_world import ONE_CPU, ConnectionEnd, Load, Node, Returned, World

FINISHED, FAILED, CANCELLED, CRASHED = "finished", "failed", "cancelled", "crashed"
#: In a strict world the invariants are checked after each of so many events.
_CHECKED = 4
#: Where workers are asked for, and for which class.
_Wish = tuple[str, int]


class SimulatedOwner:
    """A driver: has tasks, asks nodes for workers, pushes to those that it is granted, counts its references.

    Every task has the same object of the owner as its argument; some workers keep it for a while. What stands for the
    placement of a home node manager is here: the owner asks the nodes that the policy chooses.
    """

    def __init__(self, world: World, number: int, home: Node, nodes: Mapping[str, Node]) -> None:
        self._world = world
        self.address = f"owner{number}"
        self.table = ReferenceTable()
        self.tasks: TaskTable[SimulatedTask] = TaskTable(world.new_id)
        #: {how a task has ended: how many}
        self.ends = dict.fromkeys((FINISHED, FAILED, CANCELLED, CRASHED), 0)
        self.refused = 0
        self._home = home.address
        self._export = SimulatedFunction()
        self._unfinished: dict[bytes, SimulatedTask] = {}
        #: {(node, class): workers asked for there and not granted yet}
        self._wished: dict[_Wish, int] = {}
        #: Classes for which there seems to be no room anywhere: their demand waits at home.
        self._waiting: set[int] = set()
        #: {lease id: (node, worker)}
        self._places: dict[bytes, tuple[str, str]] = {}
        #: {worker: lease id}
        self._by_worker: dict[str, bytes] = {}
        #: {node: workers there that keep the argument}
        self._keepers: dict[str, set[str]] = {}
        #: What this owner believes to be free; corrected by every grant.
        self._views = {each.address: each.view(is_home=each is home) for each in nodes.values()}
        self._names = list(self._views)
        #: Nodes where something became free lately: worth a look.
        self._freed: deque[str] = deque(maxlen=4)
        self._argument: ObjectEntry | None = None
        self._events = 0
        self._carry: dict[type, Callable[[Any], None]] = {
            effects.Push: self._push,
            effects.Ask: lambda effect: self._place(effect.cls),
            effects.Release: self._release,
            effects.Forget: lambda effect: self._leave(effect.lease),
            effects.Suspect: lambda effect: self._tell_node(effect.lease, node.Suspect(effect.lease.id)),
            effects.Recall: lambda effect: self._tell_worker(effect.lease, wire.Recall(effect.recall.id)),
            effects.Insist: lambda effect: self._tell_node(
                effect.lease, node.RecallLease(effect.lease.id, effect.recall.id)
            ),
            effects.After: lambda effect: world.clock.after(effect.delay_s, self._due, effect.then),
            effects.Cancel: lambda effect: self._end(effect.task, CANCELLED),
            effects.Crash: lambda effect: self._end(effect.task, CRASHED),
            effects.RunAgain: lambda effect: None,
        }

    @property
    def done(self) -> int:
        """How many tasks have ended."""
        return sum(self.ends.values())

    @property
    def pending(self) -> int:
        """How many have not."""
        return len(self._unfinished)

    def submit(self, count: int, request: ResourceRequest = ONE_CPU, retries: int = -1) -> None:
        """So many more tasks."""
        if self._argument is None:
            self._argument = self.table.own(self._world.new_id())
            self._argument.local = 1
        self.table.pin([self._argument] * count)
        cls = self._class(request)
        for _ in range(count):
            id = self._world.new_id()
            result = self.table.own(id + bytes(4))
            result.local = 1
            task = self._unfinished[id] = SimulatedTask(id, self._export, result, retries)
            task.place = cls
            if self.tasks.enqueue(cls, task):
                self.tasks.pump(cls, self._world.clock.now)
                self._carry_out()

    def _class(self, request: ResourceRequest) -> SchedulingClass[SimulatedTask]:
        for cls in self.tasks.classes.values():
            if (cls.resources, cls.priority) == (dict(request.resources), request.priority):
                return cls
        number = len(self.tasks.classes) + 1
        cls = self.tasks.classes[number] = SchedulingClass(number, request.resources, request.priority, 0)
        return cls

    def cancel(self, id: bytes) -> None:
        """Cancel a task wherever it is."""
        task = self._unfinished.get(id)
        if task is None:
            return
        task.cancelled, task.retries = True, 0
        if isinstance(task.place, Lease):
            self._tell_worker(task.place, wire.Cancel(id))
        else:
            self._end(task, CANCELLED)

    def unfinished(self) -> list[bytes]:
        """Ids of the tasks that have not ended."""
        return list(self._unfinished)

    def workers(self) -> list[str]:
        """Addresses of the leased workers."""
        return list(self._by_worker)

    def lose_connection(self, worker: str) -> None:
        """The connection to a leased worker breaks; both live."""
        lease = self.tasks.leases.get(self._by_worker.get(worker, b""))
        if lease is not None:
            self.tasks.connection_lost(lease, self._world.clock.now)
            self._by_worker.pop(worker)
            self._carry_out()

    def finish(self) -> None:
        """Let go of the argument; after the last task nothing may be left in the reference table."""
        entry, self._argument = self._argument, None
        if entry is not None:
            entry.local = 0
            self.table.dropped.append(entry)
        self._collect()

    def idle(self) -> bool:
        """Whether nothing is left to do, asked for or held."""
        return not (self._unfinished or self.tasks.leases or self._places or self.table.entries)

    # --- messages -----------------------------------------------------------------------------------------------------

    def receive(self, sender: str, message: Any) -> None:
        """A message of a node or a worker."""
        now, tasks = self._world.clock.now, self.tasks
        lease = tasks.leases.get(self._by_worker.get(sender, b""))
        match message:
            case Load():
                self._learn(sender, message)
            case node.Granted():
                self._granted(sender, message)
            case node.Revoke():
                tasks.revoked(message.lease, now, soft=message.soft)
            case node.LeaseEnded():
                tasks.lease_ended(message.lease, message.cause, now)
            case node.LeaseRecalled():
                running = message.running if message.in_force else None
                tasks.recalls.in_force(message.lease, message.recall, running, now)
            case node.Infeasible():
                tasks.infeasible(message.key, message.lack, now)
            case Returned():
                if message.node in self._views:  # else its connection is gone already, and its credits are void
                    self.table.take_back(message.object_id, message.borrower.encode(), 1)
            case wire.Replies() if lease is not None:
                self._replied(sender, lease, message)
            case wire.Returned() if lease is not None:
                blocked, recall, settled = message.blocked, message.recall, message.settled
                tasks.returned(lease, message.tasks, now, blocked=blocked, recall=recall, settled=settled)
            case wire.Unblocked() if lease is not None:
                tasks.unblocked(lease, now)
            case ConnectionEnd() if lease is not None:
                tasks.connection_lost(lease, now)
        self._carry_out()

    def node_lost(self, address: str) -> None:
        """A node is gone, with its leases and workers and what was asked for there."""
        self._views.pop(address, None)
        self._names.remove(address)
        if address == self._home and self._names:
            self._home = self._names[0]
            self._waiting.clear()
        for wish in [wish for wish in self._wished if wish[0] == address]:
            del self._wished[wish]
        cause = node.ExitCause(reason="its node has died")
        for id in [id for id, (where, _) in self._places.items() if where == address]:
            self.tasks.lease_ended(id, cause, self._world.clock.now)
        for borrower in sorted(self._keepers.pop(address, ())):
            self.table.borrower_lost(borrower.encode())
        self._carry_out()
        for cls in self.tasks.classes.values():
            self._place(cls)

    def _granted(self, sender: str, message: node.Granted) -> None:
        if sender not in self._views:
            return  # sent before the node died
        wish = (sender, message.key)
        if self._wished.get(wish):
            self._wished[wish] -= 1
        else:
            self._waiting.discard(message.key)
        now = self._world.clock.now
        lease = self.tasks.granted(message.key, message.lease, now)
        if lease is not None:
            self._places[lease.id] = (sender, message.address)
            self._by_worker[message.address] = lease.id
            world = self._world
            if world.rng.random() < world.behaviour.dials:
                world.clock.after(world.rng.uniform(0.0, 0.05), self._dialled, message, world.rng.random() < 0.2)
            else:
                self.tasks.reached(lease, now)

    def _dialled(self, message: node.Granted, fails: bool) -> None:
        """It is decided whether a worker is reached."""
        now = self._world.clock.now
        lease = self.tasks.granted(message.key, message.lease, now)
        if lease is None:
            return
        if not fails:
            self.tasks.reached(lease, now)
        elif (cls := self.tasks.unreached(lease)) is not None:
            self._tell_node(lease, node.Suspect(lease.id))
            self._leave(lease)
            self.tasks.pump(cls, now)
        self._carry_out()

    def _replied(self, worker: str, lease: Lease[SimulatedTask], message: wire.Replies) -> None:
        now = self._world.clock.now
        for done in message.done:
            task = lease.ended(done.id)
            if task is None:
                continue
            self._export.time.observe(done.duration_us)
            if task.done:
                continue
            if not done.ok and done.retry and task.retries and not task.cancelled:
                self.tasks.retry(lease, task, now)
            else:
                self._end(task, FINISHED if done.ok else CANCELLED if task.cancelled else FAILED, worker)
        self.tasks.replied(lease, message.returned, now, exiting=message.exiting)

    # --- what the table of tasks has decided --------------------------------------------------------------------------

    def _carry_out(self) -> None:
        out = self.tasks.out
        while out:
            effect = out.popleft()
            self._carry[type(effect)](effect)
        self._collect()
        self._events += 1
        if self._world.strict and not self._events % _CHECKED:
            self.tasks.validate()
            if not self._world.behaviour.unsendable:  # else a worker may be about to be looked at
                waiting = [cls for cls in self.tasks.classes.values() if cls.queue]
                idle = any(lease.is_idle for cls in waiting for lease in cls.open_leases())
                self._world.check(not idle, "a worker idles while tasks wait for one")

    def _push(self, effect: effects.Push[SimulatedTask]) -> None:
        lease, world = effect.lease, self._world
        for task in list(lease.batch.values()):
            if world.behaviour.unsendable and world.rng.random() < world.behaviour.unsendable:
                self.tasks.withdrawn(lease, task)
                self._end(task, FAILED)
        batch = [wire.Task(task.id, b"f", b"", attempt=task.attempt) for task in lease.batch.values()]
        lease.batch.clear()
        if batch:
            self._tell_worker(lease, wire.Push(batch))

    def _release(self, effect: effects.Release[SimulatedTask]) -> None:
        self._tell_node(effect.lease, node.Release(effect.lease.id, effect.retired))
        self._leave(effect.lease)

    def _leave(self, lease: Lease[SimulatedTask]) -> None:
        """The lease is no more."""
        where, worker = self._places.pop(lease.id)
        if self._by_worker.get(worker) == lease.id:
            del self._by_worker[worker]
        view = self._views.get(where)
        if view is not None:
            _add(view, lease.cls.resources, 1)
            self._freed.append(where)
            for cls in self.tasks.classes.values():
                if cls.demanded:
                    self._place(cls)

    def _due(self, then: Callable[[float], None]) -> None:
        then(self._world.clock.now)
        self._carry_out()

    def _tell_node(self, lease: Lease[SimulatedTask], message: wire.Struct) -> None:
        self._world.network.send(self.address, self._places[lease.id][0], message)

    def _tell_worker(self, lease: Lease[SimulatedTask], message: wire.Struct) -> None:
        self._world.network.send(self.address, self._places[lease.id][1], message)

    def _end(self, task: SimulatedTask, outcome: str, worker: str = "") -> None:
        world = self._world
        world.check(not task.done, f"a task that is {task.outcome} is {outcome}")
        world.check(outcome != CRASHED or not task.retries, "a task has crashed and was to be retried")
        task.done, task.outcome = True, outcome
        self.ends[outcome] += 1
        del self._unfinished[task.id]
        task.result.local = 0
        self.table.dropped.append(task.result)
        argument = self._argument
        assert argument is not None
        where = worker.partition("/")[0]
        if where in self._views and world.behaviour.keep and world.rng.random() < world.behaviour.keep:
            self.table.grant(argument, worker.encode())
            self._keepers.setdefault(where, set()).add(worker)
            world.clock.after(world.behaviour.task_s[1], self._give_back, where, worker, argument.id)
        self.table.unpin([argument])

    def _give_back(self, where: str, borrower: str, object_id: bytes) -> None:
        """What the worker does that has kept the argument."""
        if self._world.lives(where):
            self._world.network.send(borrower, self.address, Returned(object_id, borrower, where))

    def _collect(self) -> None:
        for entry in self.table.collect():
            self._world.check(entry.local == 0 and entry.pins == 0, "an object was freed that is in use")

    # --- placement ----------------------------------------------------------------------------------------------------

    def _place(self, cls: SchedulingClass[SimulatedTask]) -> None:
        """Ask for workers of a class where the policy says, as far as anything seems to be free."""
        wanted = 0 if cls.paused else cls.demanded
        number, home = cls.number, self._home
        wished = sum(count for (_, of), count in self._wished.items() if of == number)
        changed: set[str] = set()
        request = ResourceRequest(cls.resources, 0, cls.priority)
        while wished < wanted:
            where = self._choose(request)
            if where is None:
                break
            _add(self._views[where], cls.resources, -1)
            self._wished[where, number] = self._wished.get((where, number), 0) + 1
            wished += 1
            changed.add(where)
        for (where, of), count in list(self._wished.items()):
            if of == number and count and wished > wanted:
                less = min(count, wished - wanted)
                self._wished[where, of] = count - less
                wished -= less
                _add(self._views[where], cls.resources, less)
                changed.add(where)
        if (wished < wanted) != (number in self._waiting):
            self._waiting ^= {number}
            changed.add(home)
        for where in sorted(changed):
            count = self._wished.get((where, number), 0) + (where == home and number in self._waiting)
            demand = node.Demand(number, cls.resources, count, priority=cls.priority)
            self._world.network.send(self.address, where, demand)

    def _choose(self, request: ResourceRequest) -> str | None:
        world, names = self._world, self._names
        if world.candidates and world.candidates < len(names):
            sample = dict.fromkeys([self._home, *self._freed, *world.rng.choices(names, k=world.candidates)])
            views = [self._views[name] for name in sample if name in self._views]
        else:
            views = list(self._views.values())
        world.decisions += 1
        chosen = world.policy.choose(request, views)
        if chosen is None:
            self.refused += 1
            return None
        return f"node{int.from_bytes(chosen, 'big')}"

    def _learn(self, address: str, load: Load) -> None:
        view = self._views.get(address)
        if view is None:
            return
        available: Any = view.available
        available.update(load.available)
        for (where, number), count in self._wished.items():
            if where == address and count > 1:  # one of them is what has just been granted
                _add(view, self.tasks.classes[number].resources, 1 - count)


def _add(view: NodeView, resources: Mapping[str, int], times: int) -> None:
    available: Any = view.available
    for name, amount in resources.items():
        available[name] += amount * times
