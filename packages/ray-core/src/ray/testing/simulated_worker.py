"""One simulated worker: runs what it is pushed, answers recalls by a real ``RunSlot``, and may die."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ray.ids import TASK_ID_BYTES
from ray.messages import wire
from ray.protocol.run_slot import SLOT_BYTES, RunSlot
from ray.testing.simulated_world import ConnectionEnd, World

#: Results of tasks shorter than this are sent together, up to so many.
_SHORT_S = 0.000_1
_MAX_OUTBOX = 64


class SimulatedWorker:
    """Owned by its node, which is told when it blocks, goes on or dies."""

    def __init__(
        self,
        world: World,
        id: bytes,
        address: str,
        blocked: Callable[[bytes, bool], None],
        died: Callable[[bytes], None],
    ) -> None:
        """Make one.

        Args:
            world: around it.
            id: its own.
            address: its own.
            blocked: told when a task of it begins to wait for others, and when that ends.
            died: told when it has died by itself.
        """
        self._world = world
        self.id = id
        self.address = address
        self._blocked = blocked
        self._died = died
        self.slot = RunSlot(memoryview(bytearray(SLOT_BYTES)))
        self.dead = False
        #: It ends within a moment, whatever it is to do.
        self.retires = False
        #: {task id: (owner, task)} that have not started, in order
        self._queue: dict[bytes, tuple[str, wire.Task]] = {}
        self._running: tuple[str, wire.Task] | None = None
        self._waits = self._deaf = False
        #: What has come while it is deaf.
        self._inbox: list[tuple[str, Any]] = []
        #: {owner: ends that it has not been told of}
        self._outbox: dict[str, list[wire.Done]] = {}
        #: How many tasks it still runs; negative: as many as come.
        self._left = world.behaviour.tasks_per_worker or -1
        self._peers: dict[str, None] = {}
        world.network.join(address, self.receive)

    def receive(self, sender: str, message: Any) -> None:
        """A message of an owner."""
        if self._deaf:
            self._inbox.append((sender, message))
            return
        self._peers[sender] = None
        match message:
            case wire.Push():
                self._queue |= {task.id: (sender, task) for task in message.tasks}
                if self._waits or not self._left:
                    self._give_back(sender, list(self._queue))
                else:
                    self._start()
            case wire.Recall():
                self._recalled(sender, message.id)
            case wire.Cancel():
                self._cancel(message.task)
            case _:
                raise AssertionError(f"a worker was sent {message!r}")

    def kill(self) -> None:
        """It ends now; what it has sent still arrives."""
        self.dead = True
        self._world.network.leave(self.address)
        for owner in self._peers:
            self._world.network.send(self.address, owner, ConnectionEnd())

    # --- running ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Begin with the next task, if nothing runs."""
        world, slot = self._world, self.slot
        while self._queue and self._running is None and self._left:
            id = next(iter(self._queue))
            started = slot.running
            slot.memory[:TASK_ID_BYTES] = id
            if not slot.may_start(id):  # it was revoked: its owner has it again
                del self._queue[id]
                slot.memory[:TASK_ID_BYTES] = started
                continue
            self._running = self._queue.pop(id)
            task = self._running[1]
            world.ran(id, task.attempt)
            shortest, longest = world.behaviour.task_s
            duration_s = math.exp(world.rng.uniform(math.log(shortest), math.log(longest)))
            if world.rng.random() < world.behaviour.dies:
                world.clock.after(duration_s / 2, self._fall, task)
            elif world.rng.random() < world.behaviour.blocks:
                world.clock.after(duration_s / 2, self._wait, task, duration_s / 2)
                continue
            else:
                self._deaf = world.rng.random() < world.behaviour.deaf
            world.clock.after(duration_s, self._end, task, duration_s)

    def _fall(self, task: wire.Task) -> None:
        if self._runs(task):
            self.kill()
            self._died(self.id)

    def _wait(self, task: wire.Task, rest_s: float) -> None:
        if not self._runs(task):
            return
        self._waits = True
        self._blocked(self.id, True)
        assert self._running is not None
        self._give_back(self._running[0], list(self._queue))
        self._world.clock.after(self._world.rng.uniform(0.0, 0.05), self._go_on, task, rest_s)

    def _go_on(self, task: wire.Task, rest_s: float) -> None:
        if self._runs(task):
            self._resume()
            self._world.clock.after(rest_s, self._end, task, rest_s)

    def _resume(self) -> None:
        """The task that runs does not wait any more."""
        self._waits = False
        self._blocked(self.id, False)
        assert self._running is not None
        self._world.network.send(self.address, self._running[0], wire.Unblocked())

    def _end(self, task: wire.Task, duration_s: float) -> None:
        if not self._runs(task):
            return
        if self._waits:  # it was cancelled while it waited
            self._resume()
        owner = self._running[0] if self._running is not None else ""
        self._running = None
        fails = self._world.rng.random() < self._world.behaviour.fails
        self._left -= 1
        self._done(owner, wire.Done(task.id, not fails, [b""], round(duration_s * 1e6), retry=fails))
        hears_first = self._world.rng.random() < 0.5  # its reader and its main thread both want to go on
        if not hears_first:
            self._start()
        self._deaf = self._deaf and not hears_first and self._running is not None
        while self._inbox and not self._deaf:
            self.receive(*self._inbox.pop(0))
        self._start()
        if (
            duration_s > _SHORT_S
            or not self._queue
            or len(self._outbox.get(owner, ())) >= _MAX_OUTBOX
            or not self._left
        ):
            self._flush(owner)

    def _runs(self, task: wire.Task) -> bool:
        return not self.dead and self._running is not None and self._running[1] is task

    def _cancel(self, id: bytes) -> None:
        queued = self._queue.pop(id, None)
        if queued is not None:
            self._done(queued[0], wire.Done(id, False, [b""]))
            self._flush(queued[0])
        elif self._running is not None and self._running[1].id == id:
            self._end(self._running[1], 0.001)

    # --- answers ------------------------------------------------------------------------------------------------------

    def _recalled(self, owner: str, recall: bytes) -> None:
        """As the workers of the runtime do: see ``GivingBack``."""
        keep = 0 if self._running is not None else 1
        self._give_back(owner, list(self._queue)[keep:], recall)
        exempt = self.slot.handled(recall)
        if exempt is not None:
            for id in [id for id in self._queue if id != exempt]:
                del self._queue[id]
            self.slot.settled()
            self._world.network.send(self.address, owner, wire.Returned([], self._waits, recall, True))

    def _give_back(self, owner: str, ids: list[bytes], recall: bytes = b"") -> None:
        for id in ids:
            del self._queue[id]
        self._flush(owner)
        self._world.network.send(self.address, owner, wire.Returned(ids, self._waits, recall))

    def _done(self, owner: str, done: wire.Done) -> None:
        self._outbox.setdefault(owner, []).append(done)

    def _flush(self, owner: str) -> None:
        """Tell an owner of ends. A worker that takes no more tasks gives back the rest, and ends soon."""
        done, exiting = self._outbox.pop(owner, []), not self._left
        if not done:
            return
        returned = list(self._queue) if exiting else []
        for id in returned:
            del self._queue[id]
        self._world.network.send(self.address, owner, wire.Replies(done, exiting, returned))
        if exiting:
            self.retires = True
            self._world.clock.after(0.001, self._retire)

    def _retire(self) -> None:
        if not self.dead:
            self.kill()
            self._died(self.id)
