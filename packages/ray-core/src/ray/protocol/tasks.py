"""The tasks of one owner: queued per scheduling class, pushed to leased workers, ended or retried. It decides, and does
nothing: what is to be done is appended to ``out`` (see ``task_effects``), and the time is an argument.

A task comes here when all its arguments are there. It is queued in its class, and a class with a queue asks for
workers. A granted worker gets as many tasks at a time as it is expected to run in a few milliseconds; until the run
time of a function is known, that is one. A worker that does not get on is asked to give back what it has not started
(``recalls``), and a worker that other classes of this owner, or other owners, wait for is released as soon as what it
runs has ended. An idle worker is kept for a moment. When a worker dies, what it had not started goes to others, and the
rest is retried or fails.

Code that interrupts a call of this module on its thread (finalisers, signal handlers) may call any method here. So each
step that others rely on is one that nothing can come in the middle of, and comes after the look that it depends on.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, TypeVar

import msgspec

from ray.ids import node_of
from ray.messages.node import ExitCause
from ray.protocol.recalls import Recalls
from ray.protocol.story import Story, check
from ray.protocol.task_effects import (
    After,
    Ask,
    Cancel,
    Crash,
    Effect,
    Forget,
    Push,
    Release,
    RunAgain,
    Suspect,
)
from ray.protocol.task_records import Lease, SchedulingClass, Task

T = TypeVar("T", bound=Task)

#: Tasks shorter than this are pushed in batches rather than one by one.
SHORT_US = 200
BATCH_TASKS = 32
#: … while a worker has at least this many ahead.
AHEAD_TASKS = 16
#: An idle lease is kept this long for the next task.
IDLE_HOLD_S = 0.1
#: Most workers asked for at a time per class.
MAX_DEMAND = 1000
#: What a dead process has said is still read for at most this long, when its death is reported before that.
LAST_WORDS_S = 0.25
#: The second retry of a task waits for twice this, and each one after it for twice as long as the one before it, …
RETRY_S = 0.025
#: … but no longer than this.
MAX_RETRY_S = 2.0
_RESULT_LOST = "it ran a later task by then, and the result of this one, not sent yet, was lost with it"


class TaskTable(Generic[T]):
    """Queues and leases of one owner. Called under the runtime's lock.

    Invariants, as soon as ``out`` has been carried out (``validate`` checks them):
    - a task is in one place: a queue, the flight of one lease, or at rest before its next attempt;
    - a class that is not paused asks for workers, or waits for one that is dialled, where its queue is not empty, and
      asks for none where it is;
    - a lease is with its class if, and only if, it is in ``leases``;
    - nothing waits in a batch.
    """

    def __init__(self, new_id: Callable[[], bytes]) -> None:
        """Make one; ``new_id`` gives ids for recalls, which nothing else has."""
        #: {lease id: lease}
        self.leases: dict[bytes, Lease[T]] = {}
        #: {number: class}
        self.classes: dict[int, SchedulingClass[T]] = {}
        #: What is to be done; the shell takes each away when it has done it.
        self.out: deque[Effect[T]] = deque()
        self.recalls: Recalls[T] = Recalls(self, new_id)
        #: Classes with tasks and without a worker.
        self._starving: set[SchedulingClass[T]] = set()
        #: The leases that were granted last.
        self._granted: deque[bytes] = deque(maxlen=100)
        self._release_armed = False
        self._story = Story()

    # --- tasks --------------------------------------------------------------------------------------------------------

    def enqueue(self, cls: SchedulingClass[T], task: T) -> bool:
        """All arguments of a task are there: queue it. Returns whether ``pump`` is to be called now."""
        queue = cls.queue
        is_first = not queue  # no call comes between the two; one that comes behind leaves what it adds to this one
        queue.append(task)
        is_slow = (export := task.export) is not None and export.time.mean_us >= SHORT_US
        return is_slow or is_first or len(queue) % BATCH_TASKS == 0

    def pump(self, cls: SchedulingClass[T], now: float, replied: Lease[T] | None = None) -> None:
        """Push what the leased workers take, and ask for more workers if that is not all.

        ``replied``: only this one of them may take more than before; the others have something to do, and come here in
        their turn. It gets its share of the queue, and no look at the others is needed.
        """
        queue = cls.queue
        while True:
            if not (queue and queue[0].done):
                break
            queue.popleft()  # cancelled meanwhile
        if queue:
            if replied is None or (self._starving and self._yields(replied, now)):
                if self._starving:
                    self._yield(cls, now)
                open_leases = cls.open_leases()
                if cls.near:
                    open_leases.sort(key=lambda lease: node_of(lease.id) != cls.near)
                left = len(open_leases)
            else:
                left = len(cls.leases) or 1
                open_leases = [replied] if replied.is_open else []
            for lease in open_leases:
                if not queue:
                    break
                export = queue[0].export
                assert export is not None
                time = export.time
                waiting = len(queue)
                share = -(-waiting // left)
                left -= 1
                inflight = len(lease.inflight)
                if inflight >= AHEAD_TASKS and waiting < BATCH_TASKS and 0 <= time.mean_us < SHORT_US:
                    continue
                room = time.pipeline() - inflight
                if inflight and room > 0:
                    room = min(room, lease.room())
                if room > 0:
                    self._push(lease, min(share, room), now)
        self._update_demand(cls, now)

    def _push(self, lease: Lease[T], count: int, now: float) -> None:
        """Take up to ``count`` tasks from the queue for a worker."""
        cls, batch, inflight = lease.cls, lease.batch, lease.inflight
        queue = cls.queue
        last = None
        while True:
            if count <= 0 or not queue or lease.dead:  # here: a call that interrupts this may come behind a loop's head
                break
            task = queue[0]
            if task.done:
                queue.popleft()
                continue
            export = task.export
            if inflight and (task.alone or task.attempt):  # no note of an earlier attempt may say others have begun
                break
            if export is not last:  # nothing waits behind what may take long
                assert export is not None
                last = export
                if count > 1 or inflight:
                    count = min(count, export.time.pipeline() - len(inflight))
                    if count <= 0:
                        break
                    if not queue or queue[0] is not task or lease.dead:  # a call that has interrupted this was quicker
                        continue
            task.place = lease
            # At once: from now on nobody takes the lease for idle, and ``catch_up`` sends it.
            inflight[task.id] = batch[task.id] = task
            queue.popleft()
            count = 0 if task.alone else count - 1
        if not batch:
            return
        self.out.append(Push(lease))
        ahead = len(inflight)
        if ahead == len(batch):
            lease.progress = now
        if ahead > 1 and not cls.checking:
            self.recalls.watch(cls)

    def replied(self, lease: Lease[T], returned: Iterable[bytes], now: float, *, exiting: bool) -> None:
        """A worker has reported ends, and gives tasks back; ``exiting``: it ends, and starts none of the others."""
        inflight = lease.inflight
        lease.progress = now
        lease.stalled = False
        if returned:
            self.take_back(lease, returned)
        if exiting:
            self.requeue(lease, list(inflight.values()))
            inflight.clear()
            lease.batch.clear()
            self._release(lease, now, retired=True)
        cls = lease.cls
        if cls.queue:
            self.pump(cls, now, None if returned or exiting else lease)
        if not inflight and not lease.dead:
            self.became_idle(lease, now)

    def returned(
        self, lease: Lease[T], ids: Iterable[bytes], now: float, *, blocked: bool, recall: bytes, settled: bool
    ) -> None:
        """Tasks were not started and come back; ``blocked``: the running task waits for others."""
        lease.blocked = lease.blocked or blocked
        self.take_back(lease, ids)
        self.recalls.answered(lease, recall, now, settled=settled)
        self.pump(lease.cls, now)
        if lease.revoked and not (lease.inflight or lease.recall or lease.dead):
            self._release(lease, now)

    def unblocked(self, lease: Lease[T], now: float) -> None:
        """The running task goes on."""
        lease.blocked = False
        if lease.inflight:
            self.pump(lease.cls, now)
        elif not lease.dead:
            self.became_idle(lease, now)

    def take_back(self, lease: Lease[T], ids: Iterable[bytes]) -> None:
        """The worker will not start these, as far as they are still its own: they go to others."""
        inflight = lease.inflight
        self.requeue(lease, [inflight.pop(id) for id in ids if id in inflight])

    def requeue(self, lease: Lease[T], tasks: list[T]) -> None:
        """They go first next time, in order, unless they were cancelled."""
        cls, batch = lease.cls, lease.batch
        for task in reversed(tasks):
            if task.done:
                continue
            batch.pop(task.id, None)
            if task.cancelled:  # its cancel came to the worker too late, or never
                self.out.append(Cancel(task))
                continue
            task.place = cls
            cls.queue.appendleft(task)

    def unsent(self, lease: Lease[T], tasks: list[T]) -> None:
        """A push was not sent: these go first next time."""
        self.requeue(lease, tasks)
        self.out.append(After(0.0, partial(self._was_not_sent, lease)))  # not from within the loop of a pump

    def withdrawn(self, lease: Lease[T], task: T) -> None:
        """A task that was about to be pushed cannot be."""
        lease.inflight.pop(task.id, None)
        lease.batch.pop(task.id, None)
        if not lease.inflight:
            self.out.append(After(0.0, partial(self._was_not_sent, lease)))

    def _was_not_sent(self, lease: Lease[T], now: float) -> None:
        self.pump(lease.cls, now)
        if not (lease.inflight or lease.dead):
            self.became_idle(lease, now)

    def retry(self, lease: Lease[T], task: T, now: float) -> None:
        """Run a task once more, after a pause that grows with the attempts."""
        task.attempt += 1
        if task.retries > 0:
            task.retries -= 1
        cls = lease.cls
        task.place = cls
        self._note(now, f"attempt {task.attempt} is next", lease, task)
        cls.resting[task.id] = task
        if task.attempt == 1:
            self._rested(cls, task, now)
        else:
            pause_s = min(MAX_RETRY_S, RETRY_S * 2.0 ** min(task.attempt, 10))
            self.out.append(After(pause_s, partial(self._rested, cls, task)))

    def _rested(self, cls: SchedulingClass[T], task: T, now: float) -> None:
        if cls.resting.pop(task.id, None) is task and not task.done:
            cls.queue.appendleft(task)
            self.pump(cls, now)

    def drain(self, cls: SchedulingClass[T]) -> list[T]:
        """Take away what is queued in a class, which nobody is going to run."""
        tasks = list(cls.queue)
        cls.queue.clear()
        return tasks

    def is_busy(self) -> bool:
        """Whether any task is queued or pushed, or rests before it is tried again."""
        leases, classes = list(self.leases.values()), list(self.classes.values())
        return any(lease.inflight for lease in leases) or any(cls.waits() for cls in classes)

    # --- demand -------------------------------------------------------------------------------------------------------

    def _update_demand(self, cls: SchedulingClass[T], now: float) -> None:
        waiting = len(cls.queue)
        if waiting and not (cls.leases or cls.lack):
            self._starving.add(cls)
        else:
            self._starving.discard(cls)
        if cls.paused:
            return
        if waiting:
            if not cls.demanded:
                if not cls.leases:
                    self._release_for(cls, now)
                cls.demanded = min(waiting, MAX_DEMAND)
                self.out.append(Ask(cls))
        elif cls.demanded:
            cls.demanded, cls.lack = 0, ""
            self.out.append(Ask(cls))

    def infeasible(self, number: int, lack: str, now: float) -> None:
        """No node has what a class needs: others need not make room for it."""
        cls = self.classes[number]
        cls.lack = lack if cls.demanded else ""
        self._update_demand(cls, now)

    def pause(self, cls: SchedulingClass[T]) -> None:
        """Ask for no more workers until ``go_on``."""
        cls.demanded = 0
        cls.paused = True
        self.out.append(Ask(cls))

    def go_on(self, cls: SchedulingClass[T], now: float) -> None:
        """Ask for workers again."""
        cls.paused = False
        self.pump(cls, now)

    def unasked(self, cls: SchedulingClass[T]) -> None:
        """The question for workers could not be put."""
        cls.demanded = 0

    # --- leases -------------------------------------------------------------------------------------------------------

    def granted(self, number: int, id: bytes, now: float) -> Lease[T] | None:
        """A worker was leased for a class: the shell dials it, and calls ``reached`` or ``unreached``.

        It calls this again when the worker has answered, and a call that interrupts this may call it for the same
        lease. Returns None if the lease has ended meanwhile.
        """
        cls = self.classes[number]
        cls.lack = ""
        lease = Lease(id, cls, now)
        if id in self.leases:
            return self.leases[id]
        if id in self._granted:
            return None
        self.leases[id] = lease
        cls.demanded = cls.demanded - 1 if cls.demanded > 0 else 0
        cls.leases.append(lease)
        self._granted.append(id)
        self._note(now, "the worker was granted", lease)
        return lease

    def reached(self, lease: Lease[T], now: float) -> None:
        """Tasks can be pushed to the worker of a lease."""
        lease.ready = True
        self.pump(lease.cls, now)
        if not (lease.inflight or lease.dead):
            self.became_idle(lease, now)

    def unreached(self, lease: Lease[T]) -> SchedulingClass[T] | None:
        """The worker of a lease cannot be reached. Returns its class; None if the lease has ended, or is in use."""
        if lease.dead or lease.ready:
            return None
        lease.dead = True
        self._remove(lease)
        return lease.cls

    def revoked(self, id: bytes, now: float, *, soft: bool) -> None:
        """Others wait: no more pushes; release when what runs has ended (``soft``: when there is nothing to push)."""
        lease = self.leases.get(id)
        if lease is None:
            return
        lease.wanted = True
        if soft:
            if not (lease.inflight or lease.recall or lease.cls.queue or lease.dead):
                self._release(lease, now)
            return
        lease.revoked = True
        self._note(now, "the node manager wants the worker back", lease)
        if len(lease.inflight) > 1:
            self.recalls.start(lease)
        elif not (lease.inflight or lease.recall):
            self._release(lease, now)
        self._update_demand(lease.cls, now)

    def became_idle(self, lease: Lease[T], now: float) -> None:
        """A worker has nothing to do: keep it for the next task, unless others wait for it."""
        if lease.recall is not None:  # it counts as busy until it has answered
            return
        if lease.wanted or not self._starving <= {lease.cls}:
            self._release(lease, now)
            return
        lease.idle_since = now
        if not self._release_armed:
            self._release_armed = True
            self.out.append(After(IDLE_HOLD_S, self._release_idle))

    def _release_idle(self, now: float) -> None:
        self._release_armed = False
        limit = now - IDLE_HOLD_S
        idle = [lease for lease in list(self.leases.values()) if lease.is_idle]
        for lease in idle:
            if lease.idle_since <= limit:
                self._release(lease, now)
        if any(lease.idle_since > limit for lease in idle):
            self._release_armed = True
            self.out.append(After(IDLE_HOLD_S / 2, self._release_idle))

    def _release(self, lease: Lease[T], now: float, *, retired: bool = False) -> None:
        effect = Release(lease, retired)
        if lease.dead or (lease.inflight and not retired):  # a call that has interrupted this one has been quicker
            return
        lease.dead = True
        self.out.append(effect)
        self._remove(lease)
        self._note(now, "the worker is given back", lease)

    def _remove(self, lease: Lease[T]) -> None:
        self.leases.pop(lease.id, None)
        if lease in lease.cls.leases:
            lease.cls.leases.remove(lease)

    def _release_for(self, cls: SchedulingClass[T], now: float) -> None:
        """Tasks of ``cls`` wait for a worker: they need not wait for those that are kept for others' next tasks."""
        for lease in list(self.leases.values()):
            if lease.cls is not cls and lease.is_idle:
                self._release(lease, now)

    def _yield(self, cls: SchedulingClass[T], now: float) -> None:
        """Stop pushing to workers that other classes should have now, and release those that have nothing to do."""
        starving = list(self._starving)  # a tuple is not made in one step
        for lease in list(cls.leases):
            if not lease.dead and any(other.precedes(lease, now) for other in starving):
                lease.wanted = lease.revoked = True
                if lease.is_idle:
                    self._release(lease, now)

    def _yields(self, lease: Lease[T], now: float) -> bool:
        """Whether another class should have the worker now."""
        starving = list(self._starving)  # a tuple is not made in one step
        return any(other.precedes(lease, now) for other in starving)

    # --- ends of workers ----------------------------------------------------------------------------------------------

    def connection_lost(self, lease: Lease[T], now: float) -> None:
        """Nothing more comes from a worker; the node manager will say how it ended."""
        if lease.cause is not None:
            self._worker_ended(lease, lease.cause, now)
        elif not lease.dead:
            lease.dead = True
            self._note(now, "the connection to the worker was lost", lease)
            self.out.append(Suspect(lease))

    def lease_ended(self, id: bytes, cause: ExitCause, now: float) -> None:
        """The worker is dead; the replies that it has sent come first, up to the end of the connection."""
        lease = self.leases.get(id)
        if lease is None:
            return
        if lease.dead or not lease.inflight:
            self._worker_ended(lease, cause, now)
        else:
            lease.cause = cause
            lease.wanted = lease.revoked = True
            self.out.append(After(LAST_WORDS_S, partial(self._worker_ended, lease, cause)))

    def _worker_ended(self, lease: Lease[T], cause: ExitCause, now: float) -> None:
        """What the worker had not started goes elsewhere, the rest is retried or fails."""
        if self.leases.get(lease.id) is not lease:
            return
        self._note(now, "the worker has died", lease)
        lease.dead = True
        self._remove(lease)
        self.out.append(Forget(lease))
        tasks, started = list(lease.inflight.values()), lease.started(cause.running, died=True)
        lease.inflight.clear()
        lease.batch.clear()
        self.requeue(lease, tasks[started:])
        for task in tasks[:started]:
            if task.done:
                continue
            if task.retries and not task.cancelled:
                self.out.append(RunAgain(task, cause))
                self.retry(lease, task, now)
            elif task is tasks[started - 1]:
                self.out.append(Crash(task, cause))
            else:  # results of short tasks are sent in batches
                self.out.append(Crash(task, msgspec.structs.replace(cause, reason=_RESULT_LOST)))
        self.pump(lease.cls, now)

    # --- what was interrupted -----------------------------------------------------------------------------------------

    def catch_up(self, now: float) -> None:
        """A call of this table was interrupted by code that waits for what it was about to decide."""
        for lease in list(self.leases.values()):
            if lease.batch:
                self.out.append(Push(lease))
        for cls in list(self.classes.values()):
            if cls.queue:
                self.pump(cls, now)
                if cls.queue and not (cls.leases or cls.paused):
                    self.out.append(Ask(cls))
        for lease in list(self.leases.values()):
            if lease.is_idle:  # that call may have been about to release it
                self.became_idle(lease, now)

    # --- for a look from outside --------------------------------------------------------------------------------------

    def tasks(self) -> list[T]:
        """All that are queued, pushed or at rest."""
        found: list[T] = []
        for cls in list(self.classes.values()):
            found += [*list(cls.queue), *list(cls.resting.values())]
        for lease in list(self.leases.values()):
            found += list(lease.inflight.values())
        return found

    def validate(self) -> None:
        """Check the invariants; ``out`` has been carried out.

        Raises:
            AssertionError: one does not hold.
        """
        counts = Counter(task.id for task in self.tasks() if not task.done)
        check(all(count == 1 for count in counts.values()), "a task is in two places")
        for cls in self.classes.values():
            waits = cls.demanded or not all(lease.ready for lease in cls.leases)
            check(cls.paused or bool(waits) or not cls.queue, f"class {cls.number}: a queue without demand")
            check(cls.paused or bool(cls.queue) or not cls.demanded, f"class {cls.number}: demand without a queue")
            check(all(task.place is cls for task in cls.queue if not task.done), "a queued task is placed elsewhere")
        with_classes = Counter(id(lease) for cls in self.classes.values() for lease in cls.leases)
        check(Counter(map(id, self.leases.values())) == with_classes, "a lease is with no class")
        for lease in self.leases.values():
            check(not lease.batch, "a task was not sent")
            check(all(task.place is lease for task in lease.inflight.values()), "a pushed task is placed elsewhere")

    def story(self, id: bytes) -> list[str]:
        """What has happened to a task or a lease, as far as it is remembered, with the times."""
        tasks = {task.id: task for task in self.tasks()}
        place = tasks[id].place if id in tasks else None
        leases = {id, place.id} if isinstance(place, Lease) else {id}
        lines = self._story.lines(lambda event: event.work == id or event.place in leases)
        if id in tasks:
            lines.append("it was pushed to a worker" if isinstance(place, Lease) else "it is queued")
        return lines

    def _note(self, now: float, what: str, lease: Lease[T], task: T | None = None) -> None:
        self._story.note(now, what, lease.id, b"" if task is None else task.id)
