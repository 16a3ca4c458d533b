"""The worker's half of a worker process: takes pushed calls, runs them through an executor, sends results back.

It is an owner as well: of what its tasks submit.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ray.abc.store import Store
from ray.abc.transport import Frame, Transport
from ray.exceptions import RaySystemError, TaskCancelledError
from ray.messages import node, wire
from ray.plugins.compose import Composition
from ray.runtime.actor_exit import ActorExit
from ray.runtime.code_cache import ArgumentCache, CodeCache
from ray.runtime.execution import Outcome, TaskCall, current_call
from ray.runtime.interrupts import in_critical_code
from ray.runtime.peers import Peer
from ray.runtime.process_end import ProcessEnd, end_process
from ray.runtime.records import return_ids
from ray.runtime.replies import Replying
from ray.runtime.spilled_arguments import SpilledArguments

#: After a timed-out task was interrupted in vain, its process ends.
TIMEOUT_GRACE_S = 1.0
#: A signal that comes right before a system call does not end it: it is sent again this often, until it is noticed.
INSIST_S = 0.02


class WorkerRuntime(Replying):
    """The session, seen from inside a worker."""

    is_worker = True

    def __init__(
        self,
        session_id: str,
        worker_id: bytes,
        namespace: str,
        transport: Transport,
        store: Store,
        composition: Composition,
        slot: memoryview,
    ) -> None:
        super().__init__(session_id, "worker", worker_id, namespace, transport, store, composition)
        self._slot = slot
        self.executor = composition.make_executor("serial", 1, {})
        self.next_executor = None
        #: The call that runs on the main thread of a serial worker.
        self.call: TaskCall | None = None
        self.code = CodeCache()
        self.arguments = ArgumentCache()
        self.spilled_arguments = SpilledArguments(self.objects)
        #: {hash: executions} of functions with max_calls
        self._calls: dict[bytes, int] = {}
        #: The process is about to end.
        self.left = False
        self.ending = ProcessEnd(self)
        self._gpu_ids: list[str] | None = None
        #: Writes what was printed without an end of line.
        self.flush_output: Callable[[], None] = lambda: None

    # --- messages; called by the reader under the lock ----------------------------------------------------------------

    def on_push(self, peer: Peer, message: wire.Push, frames: Sequence[Frame]) -> None:
        """Run these, in order."""
        for function in message.functions:
            self.code.add(function, frames)
        if self.exiting:
            peer.send(wire.Returned([task.id for task in message.tasks]))
            return
        self.depth = message.depth + 1
        if not self.actor_id:
            self._lessee = peer
        submit = self.executor.submit
        for task in message.tasks:
            call = self.queued[task.id] = TaskCall(self, peer, task, frames, message)
            if task.deps:
                call.values = self.arguments.take(task.deps, frames)
            if task.deps or task.refs:
                call.held = self.objects.receive_arguments(task)
            submit(call)
        if self._blocked and not self.actor_id:
            self._give_back(blocked=True)

    def on_forget(self, peer: Peer, message: wire.Forget, frames: Sequence[Frame]) -> None:
        """An owner has no more use for argument values that are kept here."""
        self.arguments.forget(message.ids)

    def on_recall(self, peer: Peer, message: wire.Recall, frames: Sequence[Frame]) -> None:
        """The owner wants back what has not started, except what is about to.

        A recall may arrive together with the tasks, when they are large: were all given back, they would go to and fro
        for ever.
        """
        about_to = 0 if self.running.keys() - self.queued.keys() else 1
        self._give_back(blocked=self._blocked > 0, keep=about_to)

    def _give_back(self, *, blocked: bool, keep: int = 0) -> None:
        """Return unstarted tasks but the first ``keep`` to whoever pushed them; say whether this worker is blocked."""
        returned: dict[Peer, list[bytes]] = {}
        if self._lessee is not None:
            returned[self._lessee] = []
        for task_id in list(self.queued)[keep:]:
            call = self.queued.pop(task_id, None)
            if call is not None:
                self.let_go(call)
                returned.setdefault(call.peer, []).append(task_id)
        for peer, tasks in returned.items():
            self.flush(peer)
            peer.send(wire.Returned(tasks, blocked))

    def on_cancel(self, peer: Peer, message: wire.Cancel, frames: Sequence[Frame]) -> None:
        """Cancel a task that is queued or running here; one that has ended is left alone."""
        if message.recursive:
            self.cancel_children(message.task)
        call = self.queued.pop(message.task, None)
        if call is not None:
            error = TaskCancelledError(call.task.name or self.name_of(call.task), message.task)
            envelope = self.failures.envelope(error, call.name, message.task, call.task.attempt)
            self._append(call, Outcome(False, [envelope]), 0)
            self.flush(peer)
            return
        call = self.running.get(message.task)
        if call is not None:
            call.cancelled = True
            self.flush_all()  # what has ended before must not be lost if the process is killed
            call.noticed = False
            self._insist(call)

    def on_taken(self, peer: Peer, message: wire.Taken, frames: Sequence[Frame]) -> None:
        """The consumer of a stream has come so far."""
        call = self.running.get(message.task)
        if call is not None and call.stream is not None:
            call.stream.taken(message.count)

    def peer_lost(self, peer: Peer) -> None:
        super().peer_lost(peer)
        for call in self.running.values():
            if call.peer is peer and call.stream is not None:
                call.stream.look()

    def _interrupt(self, call: TaskCall) -> None:
        if call.stream is not None:
            call.stream.look()
        if call.coroutine is not None:
            call.interrupt()
        elif not self.concurrent:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _insist(self, call: TaskCall) -> None:
        if self.running.get(call.task.id) is call and not call.noticed:
            self._interrupt(call)
            if call.coroutine is None and not self.concurrent:
                self.timers.after(INSIST_S, lambda: self._insist(call))

    def on_interrupt(self, number: int, frame: Any) -> None:
        """SIGINT in the main thread: for the user's code if it runs and is meant, else for nobody."""
        call = self.call
        if call is None or not call.interruptible or not (call.cancelled or call.timed_out) or call.noticed:
            return  # meant for a call that has ended meanwhile, or that cleans up already
        if in_critical_code(frame, inside=_user_call_code):
            timer = threading.Timer(0.001, lambda: self._interrupt(call) if self.call is call else None)
            timer.daemon = True
            timer.start()
            return
        call.noticed = True
        raise KeyboardInterrupt

    def _time_out(self, call: TaskCall) -> None:
        """A task is over its time: interrupt it, and end the process if that does not help."""
        if self.running.get(call.task.id) is not call:
            return
        if call.timed_out:
            self._append(call, call._fail(TimeoutError()), 0)
            self.exiting = "a task ran over its time and could not be interrupted"
            end_process(self, 1)
        call.timed_out = True
        call.noticed = False
        self._insist(call)
        self.timers.after(TIMEOUT_GRACE_S, lambda: self._time_out(call))

    # --- running; called by executors ---------------------------------------------------------------------------------

    def begin(self, call: TaskCall) -> bool:
        """Claim a call that is about to run; False if it was given back or cancelled meanwhile."""
        task = call.task
        self.running[task.id] = call  # at every moment in one of the two, so that no cancel misses it
        if self.queued.pop(task.id, None) is None:
            del self.running[task.id]
            return False
        if self._long_ended or task.function not in self._brief:  # it may take long, or the process along
            self._secure()
        self._slot[:] = task.id
        if not self.concurrent:
            self.call = call
        if call.gpu_ids is not self._gpu_ids and call.gpu_ids != self._gpu_ids and not self.actor_id:
            self.use_gpus(call.gpu_ids)
        if task.timeout_s:
            with self.lock:
                self.timers.after(task.timeout_s, lambda: self._time_out(call))
            self.transport.wake()
        return True

    def use_gpus(self, gpu_ids: list[str]) -> None:
        """Show the user's code the GPUs it was given, and no others."""
        if gpu_ids or self._gpu_ids is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu_ids)
        self._gpu_ids = gpu_ids

    def end(self, call: TaskCall, outcome: Outcome, duration_us: int) -> None:
        """A call has ended: queue its reply, and send the queue when that is worth it."""
        task = call.task
        self.flush_output()  # before the reply, and under the name of this call
        if not self.concurrent:
            self.call = None
        if task.max_calls and not self.exiting:
            count = self._calls[task.function] = self._calls.get(task.function, 0) + 1
            if count >= task.max_calls:
                self.exiting = f"max_calls={task.max_calls} was reached"
        with self.lock:
            if self.running.pop(task.id, None) is None:  # it was over its time, and the reply has been sent
                self.objects.discard(id for id in return_ids(task.id, task.num_returns) if None in outcome.blobs)
                return
            self._reply(call, outcome, duration_us)
        if self.exiting:
            self.leave()

    def target_of(self, task: wire.Task) -> Any:
        """The function, or the actor's bound method, that a task names."""
        return self.method_of(task) if task.actor else self.code.load(task.function)

    def known_code(self, target: Any) -> tuple[bytes, bytes] | None:
        return self.code.origin(target)

    def name_of(self, task: wire.Task) -> str:
        """What messages call it."""
        if task.actor:
            return f"{self.actor_name}.{task.function.decode(errors='replace')}"
        return task.name or self.code.name(task.function)

    # --- context ------------------------------------------------------------------------------------------------------

    def this_call(self) -> TaskCall | None:
        """The call that this thread runs."""
        return current_call.get() if self.concurrent else self.call

    def current_task_id(self) -> bytes | None:
        call = self.this_call()
        return None if call is None else call.task.id

    def current_name(self) -> str:
        """For the mark before output."""
        if self.actor_id:
            return self.actor_name
        call = self.call
        return call.name if call is not None else ""

    def context(self) -> dict[str, Any]:
        call = self.this_call()
        facts = super().context()
        facts["gpu_ids"] = list(self._gpu_ids or ())
        if self.actor_id:
            facts["actor_id"] = self.actor_id
            facts["resources"] = self.actor_resources
        if call is not None:
            facts["task_id"] = call.task.id
            facts["attempt"] = call.task.attempt
            if not self.actor_id:
                facts["resources"] = {name: amount / 10_000 for name, amount in call.resources.items()}
        return facts

    # --- ends ---------------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """The last call of this process has ended: leave the executor; ``worker_main`` ends the process."""
        self.next_executor = None
        self.left = True
        self.executor.close()
        with self.lock:
            if not self.running:  # else it is called again when they have ended
                self.ending.begin()

    def interrupt_others(self, call: TaskCall) -> None:
        """The actor ends with ``call``: cancel the coroutines of the others, and end the process if they go on."""
        with self.lock:
            others = [other for other in self.running.values() if other is not call]
            self.ending.begin()
            if any(other.coroutine is not None for other in others):
                self.timers.after(TIMEOUT_GRACE_S, threading.Thread(target=end_process, args=(self, 0)).start)
                self.transport.wake()
        for other in others:
            other.interrupt()

    def exit_actor(self) -> NoReturn:
        if not self.actor_id:
            raise RaySystemError("ray.exit_actor() works only inside an actor.")
        raise ActorExit

    def node_lost(self, reason: str) -> None:
        os._exit(1)

    def show_failure(self, text: str) -> None:
        self.node.send(node.ShowFailure(text))

    def shutdown(self) -> None:
        raise RaySystemError("ray.shutdown() cannot be called inside a worker; the driver ends the session.")


_user_call_code = TaskCall.run.__code__
