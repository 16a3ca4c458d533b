"""The worker's half of a worker process: takes pushed calls, runs them through an executor, sends results back.

It is an owner as well: of what its tasks submit.
"""

from __future__ import annotations

import os
import sys
from _signal import SIGINT, getsignal  # type: ignore[import-not-found]  # that of ``signal`` takes as long as a task
from _signal import signal as set_handler  # ours needs no guard
from _thread import get_ident
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ray.abc.store import Store
from ray.abc.transport import Frame, Transport
from ray.exceptions import RayConnectionError, RaySystemError, RemoteProtocolError, TaskCancelledError
from ray.ids import TASK_ID_BYTES
from ray.messages import node, wire
from ray.plugins.compose import Composition
from ray.protocol.actors import places_of
from ray.protocol.resources import UNIT
from ray.protocol.run_slot import IN_FORCE, RunSlot
from ray.runtime.interface import ActorCore
from ray.runtime.owner.here import Here
from ray.runtime.owner.last_calls import TERMINATE_BYTES
from ray.runtime.owner.owner import OwnerRuntime
from ray.runtime.process.clean_signals import unblock_signals
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
from ray.runtime.worker.code_cache import ArgumentCache, CodeCache
from ray.runtime.worker.cpu_loan import CpuLoan
from ray.runtime.worker.desk import Desk
from ray.runtime.worker.failing import Failing
from ray.runtime.worker.giving_back import GivingBack
from ray.runtime.worker.gpus import Gpus
from ray.runtime.worker.interrupting import Interrupting
from ray.runtime.worker.life import Life
from ray.runtime.worker.limits import Limits
from ray.runtime.worker.loop_loan import LoopLoan
from ray.runtime.worker.native_threads import NativeThreads
from ray.runtime.worker.outcome import Outcome
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
        tell_node = self.node.send
        self._slot = RunSlot(slot)
        self.life = Life()
        self.desk = Desk(self.lock, self.table, self.life, composition.make_executor("serial", 1, {}))
        self.actor = ActorHost(self.life, tell_node)
        self.replies = Replies(
            self.desk, self.actor, self.life, self.table, self.borrowing, self.values, transport, self.peers
        )
        self.own_calls = OwnCalls(
            self.lock, self.table, self.timers, self.calls.clients, self.desk, self.actor, self.unsubscribe
        )
        self.giving_back = GivingBack(self.desk, self._slot, self.replies.flush, lambda: self.loan.blocked > 0)
        self.loan = CpuLoan(self.desk, self.actor, threads, self.giving_back, tell_node)
        #: The memory of the slot: it begins with the id of the task that was started last.
        self._noted = slot
        self.gpus = Gpus()
        self.code = CodeCache()
        self.arguments = ArgumentCache()
        self.spilled_arguments = SpilledArguments(self.values)
        #: The node manager, unless it has died.
        self._parent = os.getppid()
        self.ending = ProcessEnd(self, self.desk, self.life, self.actor, self._slot, self.replies)
        leave = self.ending.after_last_call
        maker = ActorMaker(
            here, self.actor, self._slot, self.gpus, self.arguments, self.access.blob_of, tell_node, leave
        )
        self.becoming = Becoming(
            here, self.desk, self.actor, threads, self.ending, maker, self._make_executor, self.guard_loop
        )
        self.preparing = Preparing(self.code, self.actor, self.values, self.losses)
        name_of = self.preparing.name_of
        self.failing = Failing(here, self.desk, self.actor, self.life, self.values, self.reports, self.ending, name_of)
        self.output = Flusher()
        abandoning = Abandoning(self.desk, self.replies, self.failing, self.life, self.ending)
        self.interrupting = Interrupting(self.desk, self.timers, transport.wake, self._slot)
        self._limits = Limits(
            self.desk, self._slot, self.timers, transport.wake, tell_node, self.output, self.interrupting, abandoning
        )
        self._title: Title[TaskCall] = Title()
        self.waiting = Waiting(self.desk, self.replies, self.loan, self.own_calls, self.interrupting, self.polling.wait)
        self.loops = LoopLoan(
            self.desk, self.actor, self.table, self.loan, self.own_calls, self.listening.subscribe, transport.wake
        )

    def _make_executor(self, spec: node.ActorSpec) -> Executor:
        """The one for an actor whose calls may overlap."""
        self.polling.shareable = self.polling.shareable and not spec.is_async  # the main thread waits elsewhere
        return self.composition.make_executor("asyncio" if spec.is_async else "threads", places_of(spec), spec.groups)

    # --- messages; called by the reader under the lock ----------------------------------------------------------------

    def on_push(self, peer: Peer, message: wire.Push, frames: Sequence[Frame]) -> None:
        """Run these, in order."""
        if message.gpu_ids and "\0" in "".join(message.gpu_ids):
            raise RemoteProtocolError("GPUs that the environment cannot name")
        for function in message.functions:
            self.code.add(function, frames)
        if self.life.exiting:
            ids = [task.id for task in message.tasks]
            peer.send(wire.Replies([], True, ids, self.actor.announced) if self.actor.id else wire.Returned(ids))
            return
        self.here.depth = message.depth + 1
        if not self.actor.id:
            self.desk.lessee = peer
            if message.resources != self.loan.resources:
                self.loan.renew(message.resources)
        desk = self.desk
        submit, closing = desk.executor.submit, desk.closing
        refused: list[bytes] = []
        for task in message.tasks:
            if len(task.id) != TASK_ID_BYTES:
                raise RemoteProtocolError(f"a task with an id of {len(task.id)} bytes")
            if task.attempt:
                desk.supersede(task.id)
            call = TaskCall(self, peer, task, frames, message)
            if task.deps:
                call.values = self.arguments.take(task.deps, frames)
                call.held = self.borrowing.receive_arguments(task)
            elif task.refs:
                call.held = self.borrowing.receive_arguments(task)
            if closing.reason and closing.refuses():
                desk.let_go(call)
                refused.append(task.id)
                continue
            desk.queued[task.id] = call
            if self.actor.id and task.function == TERMINATE_BYTES:
                closing.begin(task.id)
            submit(call)
        if refused:
            peer.send(wire.Replies([], returned=refused, reason=closing.reason))
        if self.loan.blocked and not self.actor.id:
            self.loan.give_back()

    def on_cancel(self, peer: Peer, message: wire.Cancel, frames: Sequence[Frame]) -> None:
        """Cancel a task that is queued or running here; one that has ended is left alone."""
        call = self.desk.queued.pop(message.task, None)
        self._slot.forget_call(message.task)
        if call is not None:
            self._refuse(call)
            return
        call = self.desk.running.get(message.task)
        if call is not None:
            if not call.cancelled:
                call.cancelled = True
                self._slot.heard(message.task)
                self.replies.flush_all()  # what has ended before must not be lost if the process is killed
                self.interrupting.insist(call)  # before its children fail, which would interrupt it as well
            elif message.again and call.coroutine is None:
                call.noticed = False  # unless it cleans up still
                self.interrupting.insist(call, anew=True)
            call.recursive = call.recursive or message.recursive
        if message.recursive:
            self.cancelling.cancel_children(message.task)

    def _refuse(self, call: TaskCall) -> None:
        """A call was cancelled before it began; called under the lock."""
        task = call.task
        error = TaskCancelledError(task.name or self.preparing.name_of(task), task.id)
        envelope = self.reports.envelope(error, call.name, task.id, task.attempt)
        self.replies.queue(call, Outcome(False, [envelope]), 0)
        self.replies.flush(call.peer)

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

    # --- running; called by executors ---------------------------------------------------------------------------------

    def begin(self, call: TaskCall) -> bool:
        """Claim a call that is about to run; False if it was given back or cancelled meanwhile."""
        task, desk = call.task, self.desk
        queued, running = desk.queued, desk.running
        id = task.id
        replies = self.replies
        if (replies.long_ended or task.function not in replies.brief) and id in queued:
            replies.secure()  # it may take long, or the process along
            if not self.actor.id:
                unblock_signals()  # what the user's code has blocked was for the task that did it
        running[id] = call  # at every moment in one of the two, so that no cancel misses it
        if queued.get(id) is not call:  # it was given back, and may have come again as another call
            del running[id]
            return False
        noted = self._noted
        noted[:TASK_ID_BYTES] = id  # before the look at recalls: see ``RunSlot``
        if noted[IN_FORCE] and not self._slot.may_start(id):
            revoked = queued.pop(id, None)
            if revoked is not None and task.actor:
                with self.lock:
                    self._refuse(revoked)
        if queued.pop(id, None) is None:
            noted[:TASK_ID_BYTES] = desk.started
            del running[id]
            with self.lock:
                desk.let_go(call)
            return False
        desk.started = id
        if not desk.concurrent:
            desk.call = call
        if call.gpu_ids is not self.gpus.ids and call.gpu_ids != self.gpus.ids and not self.actor.id:
            self.gpus.show(call.gpu_ids)
        if task.timeout_s:
            self._limits.begin(call)
        return True

    def end(self, call: TaskCall, outcome: Outcome, duration_us: int) -> None:
        """A call has ended: queue its reply, and send the queue when that is worth it."""
        task, desk = call.task, self.desk
        if task.timeout_s:
            self._limits.end(call)  # the user's code has ended: it is not to blame for a slow reader of what it printed
        if call.cancelled or call.timed_out:
            self.output.try_flush()
        else:
            self.output.flush()  # before the reply, and under the name of this call
        if not desk.concurrent:
            desk.call = None
            if getsignal(SIGINT) is not self.interrupting.handler and not self.actor.id:
                set_handler(SIGINT, self.interrupting.handler)  # the user's was for this task
        if task.max_calls and not (self.life.exiting or self.actor.id):
            self.life.executed(task.function, task.max_calls)
        with self.lock:
            if call.abandoned:
                desk.overdue.discard(call)
                self.replies.drop(call, outcome)
            else:
                del desk.running[task.id]
                self.replies.reply(call, outcome, duration_us)
        if self.life.exiting:
            self.ending.after_last_call()

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
