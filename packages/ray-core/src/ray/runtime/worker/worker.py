"""A worker process: an owner of what its tasks submit, and the parts that take calls, run them and answer them.

``WorkerRuntime`` makes the parts and gives them to each other; it is the owner's host.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from ray.abc.store import Store
from ray.abc.transport import Transport
from ray.exceptions import RayConnectionError, RaySystemError
from ray.messages import node
from ray.plugins.compose import Composition
from ray.protocol.actor_entries import places_of
from ray.protocol.resources import UNIT
from ray.protocol.run_slot import RunSlot
from ray.runtime.interface import ActorCore
from ray.runtime.owner.here import Here
from ray.runtime.owner.owner import OwnerRuntime
from ray.runtime.process.node_link import DESCRIPTORS_CLOSED, NODE_DIED
from ray.runtime.process.peers import Peer
from ray.runtime.process.telling import write
from ray.runtime.process.titles import TITLE_S, Title
from ray.runtime.process.waiting import Waiter
from ray.runtime.worker.abandoning import Abandoning
from ray.runtime.worker.actor_exit import ActorExit
from ray.runtime.worker.actor_host import ActorHost
from ray.runtime.worker.actor_maker import ActorMaker
from ray.runtime.worker.arguments import SpilledArguments
from ray.runtime.worker.becoming import Becoming
from ray.runtime.worker.call import TaskCall
from ray.runtime.worker.cancellations import Cancellations
from ray.runtime.worker.claiming import Claiming
from ray.runtime.worker.code_cache import ArgumentCache, CodeCache
from ray.runtime.worker.cpu_loan import CpuLoan
from ray.runtime.worker.desk import Desk
from ray.runtime.worker.failing import Failing
from ray.runtime.worker.finishing import Finishing
from ray.runtime.worker.giving_back import GivingBack
from ray.runtime.worker.gpus import Gpus
from ray.runtime.worker.intake import Intake
from ray.runtime.worker.interrupting import Interrupting
from ray.runtime.worker.life import Life
from ray.runtime.worker.limits import Limits
from ray.runtime.worker.loop_loan import LoopLoan
from ray.runtime.worker.native_threads import NativeThreads
from ray.runtime.worker.own_calls import OwnCalls
from ray.runtime.worker.preparing import Preparing
from ray.runtime.worker.process_end import ProcessEnd, end_process
from ray.runtime.worker.replies import Replies
from ray.runtime.worker.streams import Flusher
from ray.runtime.worker.waiting import Waiting

if TYPE_CHECKING:
    from ray.abc.executor import Executor
    from ray.runtime.refs.counted import CountedRef
    from ray.runtime.refs.session import Listener

#: What a worker says whose node manager lives.
_CUT_OFF = (
    "it has lost its connection to the node manager, which still runs; code of a task may have closed descriptors that "
    "are not its own, as os.closerange() does"
)


class WorkerRuntime(OwnerRuntime):
    """The session, seen from inside a worker."""

    is_worker = True
    store_death_s = 1.0

    def __init__(
        self,
        here: Here,
        transport: Transport,
        store: Store,
        composition: Composition,
        slot: memoryview,
        threads: NativeThreads,
    ) -> None:
        super().__init__(here, "worker", transport, store, composition)
        self.output = Flusher()
        self.code, self.arguments = CodeCache(), ArgumentCache()
        self.gpus, self.spilled_arguments = Gpus(), SpilledArguments(self.values)
        self._title: Title[TaskCall] = Title()
        #: The node manager, unless it has died.
        self._parent = os.getppid()
        run_slot = RunSlot(slot)
        self._make_calls(run_slot, threads)
        self._make_ends(run_slot)
        self._make_actor(run_slot, threads)
        self._make_runs(run_slot)

    def _make_calls(self, slot: RunSlot, threads: NativeThreads) -> None:
        """The calls, what they came to, and what they wait for."""
        tell_node, transport = self.node.send, self.transport
        self.life = life = Life()
        self.desk = desk = Desk(self.lock, self.table, life, self.composition.make_executor("serial", 1, {}))
        self.actor = actor = ActorHost(life, tell_node)
        self.replies = Replies(desk, actor, life, self.table, self.borrowing, self.values, transport, self.peers)
        self.interrupting = Interrupting(desk, self.timers, transport.wake, slot)
        callees = self.calls.table.callees
        own_calls = OwnCalls(self.lock, self.table, self.timers, callees, desk, actor, self.unsubscribe)
        self.giving_back = GivingBack(desk, slot, self.replies.flush, lambda: self.loan.blocked > 0)
        self.loan = loan = CpuLoan(desk, actor, threads, self.giving_back, tell_node)
        self.waiting = Waiting(desk, self.replies, loan, own_calls, self.interrupting, self.polling.wait)
        self.loops = LoopLoan(desk, actor, self.table, loan, own_calls, self.listening.subscribe, transport.wake)

    def _make_ends(self, slot: RunSlot) -> None:
        """How calls fail, and the process ends."""
        desk, actor, life, replies = self.desk, self.actor, self.life, self.replies
        self.ending = ProcessEnd(self, desk, life, actor, slot, replies)
        self.preparing = Preparing(self.code, actor, self.values, self.losses, self.access.blob_of)
        self.failing = Failing(
            self.here, desk, actor, life, self.values, self.reports, self.ending, self.preparing.name_of
        )

    def _make_actor(self, slot: RunSlot, threads: NativeThreads) -> None:
        """How this becomes an actor."""
        here, actor, tell_node, leave = self.here, self.actor, self.node.send, self.ending.after_last_call
        maker = ActorMaker(here, actor, slot, self.gpus, self.arguments, self.access.blob_of, tell_node, leave)
        self.becoming = Becoming(
            here, self.desk, actor, threads, self.ending, maker, self._make_executor, self.guard_loop
        )

    def _make_runs(self, slot: RunSlot) -> None:
        """The way of a call: from its push to its reply."""
        desk, actor, life, replies, interrupting = self.desk, self.actor, self.life, self.replies, self.interrupting
        abandoning = Abandoning(desk, replies, self.failing, life, self.ending)
        limits = Limits(
            desk, slot, self.timers, self.transport.wake, self.node.send, self.output, interrupting, abandoning
        )
        self.cancellations = Cancellations(
            desk, slot, replies, self.reports, interrupting, self.cancelling, self.preparing.name_of
        )
        leave = self.ending.after_last_call
        self.begin = Claiming(desk, actor, replies, slot, self.gpus, limits, self.cancellations.refuse).begin
        self.end = Finishing(desk, actor, life, replies, limits, self.output, interrupting.handler, leave).end
        self.intake = Intake(self, desk, actor, life, self.here, self.code, self.arguments, self.loan)

    def _make_executor(self, spec: node.ActorSpec) -> Executor:
        """The one for an actor whose calls may overlap."""
        self.polling.shareable = self.polling.shareable and not spec.is_async  # the main thread waits elsewhere
        return self.composition.make_executor("asyncio" if spec.is_async else "threads", places_of(spec), spec.groups)

    # --- messages, and what follows them; called under the lock -------------------------------------------------------

    def flush(self, peer: Peer) -> None:
        self.replies.flush(peer)

    def peer_lost(self, peer: Peer) -> None:
        super().peer_lost(peer)
        self.desk.peer_lost(peer)

    def on_start_actor(self, message: node.StartActor) -> None:
        self.becoming.on_start_actor(message)
        self._title.based_on(message.spec.class_name)

    def on_exit(self, message: node.Exit) -> None:
        """The node manager has no more use for this process."""
        if self.is_needed():
            self.node.send(node.Stay())
        else:
            self.ending.after_last_call()

    def after_events(self) -> None:
        loops = self.loops
        if loops.since or self.table.listeners:
            loops.look()
        if self.replies.unsent:
            self.replies.flush_old()
        desk = self.desk
        call = desk.oldest_call() if desk.concurrent else desk.call
        if call is not self._title.call or call is not None:
            self._title.look(call, lambda call: call.name or self.preparing.name_of(call.task))

    def patience_s(self) -> float:
        desk = self.desk
        patience_s = 0.01
        if not (desk.queued or self.replies.unsent):
            patience_s = self.loops.patience_s(super().patience_s())
        return min(patience_s, TITLE_S) if desk.running and not self._title.shows(desk.oldest_call()) else patience_s

    # --- waiting ------------------------------------------------------------------------------------------------------

    def block(self, waiter: Waiter, timeout_s: float | None) -> bool:
        return self.waiting.block(waiter, timeout_s)

    def wait_for_future(self, ref: CountedRef[Any], wait: Callable[[float | None], bool]) -> None:
        self.waiting.wait_for_future(ref, wait)

    def subscribe(self, listener: Listener) -> bool:
        return self.loops.subscribe(listener)

    def guard_loop(self) -> None:
        """This thread runs the event loop of an async actor: from now on no call may wait on it."""
        self.actor.loop_thread = get_ident()
        self.guarded = True

    def may_wait(self) -> bool:
        return get_ident() != self.actor.loop_thread or sys.modules["asyncio"]._get_running_loop() is None

    def catch_up(self) -> None:
        super().catch_up()
        self.replies.flush_all()

    def known_code(self, target: Any) -> tuple[bytes, bytes] | None:
        return self.code.origin(target)

    # --- context ------------------------------------------------------------------------------------------------------

    def parent_task_id(self) -> bytes | None:
        call = self.desk.this_call()
        if call is None or call.cleans_up:
            return None
        if call.recursive:  # later it may not know any more what it has submitted
            self.interrupting.check(call)
        return call.task.id

    def current_name(self) -> str:
        """For the mark before output."""
        if self.actor.id:
            return self.actor.name
        call = self.desk.call
        return call.name if call is not None else ""

    def context(self) -> dict[str, Any]:
        call = self.desk.this_call()
        facts = super().context()
        facts["gpu_ids"] = list(self.gpus.ids or ())
        if self.actor.id:
            facts |= self.actor.facts()
        if call is not None:
            facts["task_id"] = call.task.id
            facts["task_name"] = call.name
            facts["attempt"] = call.task.attempt
            if not self.actor.id:
                facts["resources"] = {name: amount / UNIT for name, amount in call.resources.items()}
        return facts

    # --- ends ---------------------------------------------------------------------------------------------------------

    def own_actor(self) -> ActorCore:
        message = self.actor.started_as
        if message is None:
            return super().own_actor()
        return self.handles.adopt_packed(message.spec.id, message.spec.handle)

    def exit_actor(self) -> NoReturn:
        if not self.actor.id:
            raise RaySystemError("ray.exit_actor() works only inside an actor.")
        raise ActorExit

    def node_lost(self, reason: str) -> None:
        """End. Where the node manager lives, what is said here is in the error that the caller gets."""
        if os.getppid() == self._parent:
            write(f"[ray] This worker ends: {_CUT_OFF if reason in (NODE_DIED, DESCRIPTORS_CLOSED) else reason}.\n")
        os._exit(1)

    def cut_off(self, error: RayConnectionError) -> None:
        """A worker without the store is of no use: it ends, so that others do what it was given."""
        write(f"This worker ends, since it has lost its connection to the store: {error}\n")
        end_process(self.ending, 1)

    def show_failure(self, text: str) -> None:
        self.node.send(node.ShowFailure(text))

    def shutdown(self) -> None:
        raise RaySystemError("ray.shutdown() cannot be called inside a worker; the driver ends the session.")
