"""One simulated actor: a process that runs the calls it is sent, in order or side by side, and may end in many ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ray.ids import TASK_ID_BYTES
from ray.messages import codec, node, wire
from ray.protocol.actor_entries import places_of
from ray.protocol.references import PENDING, ObjectEntry
from ray.protocol.run_slot import SLOT_BYTES, RunSlot
from ray.runtime.process.peers import Peer
from ray.testing.simulated_process import SimulatedProcess
from ray.testing.simulated_world import World

_EXITED = "exit_actor() was called"
_TERMINATED = "all handles went out of scope"
#: How many refs an actor holds at most.
_MOST_HELD = 8


class ActorCall:
    """One call, at the actor."""

    __slots__ = ("arguments", "held", "is_abandoned", "peer", "task")

    def __init__(self, peer: Peer, task: wire.Task, held: Sequence[ObjectEntry]) -> None:
        self.peer = peer
        self.task = task
        #: Argument refs that were handed over with it, pinned.
        self.held = held
        #: Its arguments, which are held while it runs.
        self.arguments: list[ObjectEntry] = []
        #: Nobody waits for it any more.
        self.is_abandoned = False


class SimulatedActor:
    """Owned by its node, which is told when it has died."""

    def __init__(
        self, world: World, id: bytes, address: str, home: str, spec: node.ActorSpec, died: Callable[[bytes], None]
    ) -> None:
        """Make one, which begins with its ``__init__``.

        Args:
            world: around it.
            id: of its process.
            address: of its process.
            home: address of its node.
            spec: of the actor.
            died: told when it has died by itself.
        """
        self._world = world
        self.id = id
        self.address = address
        self._home = home
        self._actor_id = spec.id
        self._places = places_of(spec)
        self._died = died
        self.slot = RunSlot(memoryview(bytearray(SLOT_BYTES)))
        self.dead = False
        self.process = SimulatedProcess(world, id, address, home, self._flush)
        self._has_started = False
        #: {call id: call} that have not begun.
        self._queue: dict[bytes, ActorCall] = {}
        self._running: dict[bytes, ActorCall] = {}
        self._outbox: dict[Peer, list[wire.Done]] = {}
        #: Why it takes no more calls, if it does not: it ends behind those that it has …
        self._closing = ""
        #: … or when those that run have ended.
        self._exiting = ""
        #: Its work is over, and others still need what it owns.
        self._lingers = False
        #: What its code keeps.
        self._kept: list[ObjectEntry] = []
        world.connections.join(address, self)
        world.clock.after(self._duration_s() / 10, self._init)

    def kill(self) -> None:
        """It ends now; what it has sent still arrives."""
        self.dead = True
        if any(any(done.refs) for unsent in self._outbox.values() for done in unsent):
            self._world.connections.broken += 1  # others hold these, as far as their owners know
        self._world.connections.leave(self.address)

    def _ends(self) -> None:
        """By itself."""
        self.kill()
        self._died(self.id)

    def _init(self) -> None:
        if self.dead:
            return
        self.slot.begin_actor()
        world = self._world
        if world.rng.random() < world.behaviour.dies:
            self._ends()
            return
        self._has_started = True
        error = b"error" if world.rng.random() < world.behaviour.refuses else b""
        self.process.tell_node(node.ActorStarted(self._actor_id, error))
        self._start()
        self._end_if_done()

    # --- messages -----------------------------------------------------------------------------------------------------

    def hear(self, message: Any) -> None:
        """A message of the node manager."""
        if not isinstance(message, wire.Terminate):
            self.process.hear(message)
            return
        self._closing = self._closing or _TERMINATED
        self._end_if_done()

    def receive(self, sender: str, frames: Sequence[Any]) -> None:
        """A message of another process."""
        message, id = codec.decode(list(frames)), self._world.connections.ids[sender]
        match message:
            case wire.Push():
                self._pushed(self.process.peers.of(id, sender), message)
            case wire.Cancel():
                self._cancel(message.task)
            case _:
                self.process.receive(id, sender, message, frames)
        self._settle()

    def peer_lost(self, process: bytes) -> None:
        """There is no connection to that one any more: what it has sent goes on, and is not answered."""
        self.process.peer_lost(process)
        self._settle()

    def holds(self) -> list[tuple[str, bytes]]:
        """What it has borrowed and holds: addresses of owners and ids."""
        return self.process.holds()

    def owns(self, object_id: bytes) -> bool:
        """Whether it owns an object that is not freed."""
        return object_id in self.process.table.entries

    def validate(self) -> None:
        """Raise AssertionError if an invariant does not hold."""
        self.process.validate()

    def _pushed(self, peer: Peer, message: wire.Push) -> None:
        if self._exiting:
            for task in message.tasks:
                self.process.table.unpin(self.process.borrowing.receive_arguments(task))
            peer.send(wire.Replies([], True, [task.id for task in message.tasks], self._exiting))
            return
        refused = []
        for task in message.tasks:
            if task.attempt:
                self._supersede(task.id)
            call = ActorCall(peer, task, self.process.borrowing.receive_arguments(task) if task.refs else ())
            if self._closing:
                self.process.table.unpin(call.held)
                refused.append(task.id)
            else:
                self._queue[task.id] = call
        if refused:
            peer.send(wire.Replies([], returned=refused, reason=self._closing))
        self._start()

    def _supersede(self, id: bytes) -> None:
        """A call comes anew: an earlier attempt goes on without a caller, or does not start."""
        queued, running = self._queue.pop(id, None), self._running.get(id)
        if queued is not None:
            self.process.table.unpin(queued.held)
        if running is not None:
            running.is_abandoned = True
            self._running[id + b"again"] = self._running.pop(id)

    def _cancel(self, id: bytes) -> None:
        call = self._queue.pop(id, None)
        if call is not None:
            self.process.table.unpin(call.held)
            self._reply(call, wire.Done(id, False, [b"cancelled"]))
            self._flush(call.peer)

    # --- running ------------------------------------------------------------------------------------------------------

    def _duration_s(self) -> float:
        shortest, longest = self._world.behaviour.task_s
        return math.exp(self._world.rng.uniform(math.log(shortest), math.log(longest)))

    def _start(self) -> None:
        world = self._world
        while self._queue and self._has_started and len(self._running) < self._places and not self._exiting:
            id = next(iter(self._queue))
            self.slot.memory[:TASK_ID_BYTES] = id
            call = self._running[id] = self._queue.pop(id)
            world.called(self._actor_id, id, call.task.attempt)
            if not call.peer.lost:  # else nobody covers what it was given
                self._unpack(call)
            duration_s = self._duration_s()
            if world.rng.random() < world.behaviour.dies:
                world.clock.after(duration_s / 2, self._fall, call)
            else:
                world.clock.after(duration_s, self._end, call, duration_s)

    def _unpack(self, call: ActorCall) -> None:
        """Hold the arguments of a call, the handles of actors first."""
        process = self.process
        for ref in call.task.refs:
            entry = process.borrowing.borrow(ref.id, ref.address)
            call.arguments.append(process.take(entry))
            process.table.unpin([entry])
        actors = call.task.args  # whose handles these are
        assert isinstance(actors, bytes)
        for place, start in enumerate(range(0, len(actors), TASK_ID_BYTES)):
            process.adopt(actors[start : start + TASK_ID_BYTES], call.arguments[place])

    def _runs(self, call: ActorCall) -> bool:
        return not self.dead and call in self._running.values()

    def _fall(self, call: ActorCall) -> None:
        if self._runs(call):
            self._ends()

    def _end(self, call: ActorCall, duration_s: float) -> None:
        """A call ends: it may have called others, kept refs, and return some."""
        if not self._runs(call):
            return
        world, process = self._world, self.process
        behaviour, rng = world.behaviour, world.rng
        if rng.random() < behaviour.hands_on:
            self._hand_on()
        returned, whole = [], [entry for entry in self._kept if self._is_whole(entry)]
        if rng.random() < behaviour.keep:
            returned.append(process.put(whole[:1]))
        if whole and rng.random() < behaviour.keep:
            returned.append(process.take(rng.choice(whole)))
        for entry in call.arguments:
            if len(self._kept) < _MOST_HELD and rng.random() < behaviour.keep:
                self._keep(entry)
            else:
                process.drop(entry)
        for key in [key for key, running in self._running.items() if running is call]:
            del self._running[key]
        process.collect()
        fails = rng.random() < behaviour.fails
        if rng.random() < behaviour.exits and not self._closing:
            self._announce_exit(_EXITED)
        self._answer(call, [] if fails else returned, duration_s, fails=fails)
        for entry in returned:
            process.drop(entry)
        if self._exiting:
            self._return_queued()
        self._start()
        if not self._queue or self._exiting or rng.random() < 0.3:
            for peer in list(self._outbox):
                self._flush(peer)
        process.collect()
        self._settle()

    def _is_whole(self, entry: ObjectEntry) -> bool:
        """Whether its value is made. A result that is not may come to hold what it is handed to, and both stay then."""
        return entry.owner is not None or entry.status != PENDING

    def _keep(self, entry: ObjectEntry) -> None:
        """For a while. Values of others are asked for."""
        self._kept.append(entry)
        self.process.borrowing.want(entry)
        self.process.after(self._duration_s() * 10, lambda: self._drop(entry))

    def _drop(self, entry: ObjectEntry) -> None:
        self._kept.remove(entry)
        self.process.drop(entry)
        self.process.collect()
        self._settle()

    def _hand_on(self) -> None:
        """Call another actor, with what is kept."""
        handles = [handle for handle in self.process.handles() if handle[0].callee.actor_id != self._actor_id]
        if not handles:
            return
        rng = self._world.rng
        client, _ = rng.choice(handles)
        lives = [life for other, life in handles if other is not client and rng.random() < 0.5]
        refs = [entry for entry in self._kept if entry.id not in self.process.calls.by_life and self._is_whole(entry)]
        record = self.process.call(client, lives[:1], refs[:2], rng.choice([0, 1, -1]))
        (entry,) = record.entries
        self._kept.append(entry)
        self.process.after(self._duration_s() * 10, lambda: self._drop(entry))

    # --- answers ------------------------------------------------------------------------------------------------------

    def _answer(self, call: ActorCall, returned: Sequence[ObjectEntry], duration_s: float, *, fails: bool) -> None:
        """As the workers of the runtime do: see ``Replies``."""
        process, task, peer = self.process, call.task, call.peer
        if call.held:
            process.table.unpin(call.held)
        if peer.lost or call.is_abandoned:
            return
        kept = []
        for ref in task.refs:
            entry = process.table.entries.get(ref.id)
            if entry is not None and entry.owner is not None and not ref.credits and (entry.local or entry.pins):
                process.table.hand_on(entry)
                kept.append(ref.id)
        refs = process.borrowing.hand_over(returned, peer)
        self._reply(call, wire.Done(task.id, not fails, [b"value"], round(duration_s * 1e6), kept, [refs], [], fails))

    def _reply(self, call: ActorCall, done: wire.Done) -> None:
        self._outbox.setdefault(call.peer, []).append(done)

    def _flush(self, peer: Peer) -> None:
        done = self._outbox.pop(peer, [])
        if done and not peer.lost:
            ends = bool(self._exiting)
            peer.send(wire.Replies(done, ends, self._take_back(peer) if ends else [], self._exiting))

    def _take_back(self, peer: Peer) -> list[bytes]:
        returned = [id for id, call in self._queue.items() if call.peer is peer]
        for id in returned:
            self.process.table.unpin(self._queue.pop(id).held)
        return returned

    def _return_queued(self) -> None:
        """The actor ends: what has not started goes back to its callers."""
        for peer in {call.peer: None for call in self._queue.values()}:
            if not peer.lost:
                self._flush(peer)
                peer.send(wire.Replies([], True, self._take_back(peer), self._exiting))

    def _announce_exit(self, reason: str) -> None:
        self._exiting = reason
        self.process.tell_node(node.ActorExiting(self._actor_id, reason))

    # --- the end ------------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        self.process.collect()
        self._end_if_done()

    def _end_if_done(self) -> None:
        """It ends by plan as soon as nothing runs, and nobody needs what it owns."""
        if self.dead or self._running or not self._has_started:
            return
        if not (self._exiting or (self._closing and not self._queue)):
            return
        if not self._exiting:
            self._announce_exit(self._closing)
        for peer in list(self._outbox):
            self._flush(peer)
        self.slot.memory[:TASK_ID_BYTES] = bytes(TASK_ID_BYTES)
        if not self.process.is_needed():
            self._ends()
        elif not self._lingers:
            self._lingers = True
            self.process.tell_node(node.Lingering())
