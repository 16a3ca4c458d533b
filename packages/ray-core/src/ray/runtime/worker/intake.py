"""What a worker does with the tasks and calls that it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray.exceptions import RemoteProtocolError
from ray.ids import TASK_ID_BYTES
from ray.messages import wire
from ray.protocol.last_calls import TERMINATE_BYTES
from ray.runtime.worker.call import CallHost, TaskCall

if TYPE_CHECKING:
    from ray.abc.transport import Frame
    from ray.runtime.owner.here import Here
    from ray.runtime.process.peers import Peer
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.code_cache import ArgumentCache, CodeCache
    from ray.runtime.worker.cpu_loan import CpuLoan
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.life import Life


class Intake:
    """Makes calls of pushes, and queues them."""

    __slots__ = ("_actor", "_arguments", "_code", "_desk", "_here", "_host", "_life", "_loan", "_receive")

    def __init__(
        self,
        host: CallHost,
        desk: Desk,
        actor: ActorHost,
        life: Life,
        here: Here,
        code: CodeCache,
        arguments: ArgumentCache,
        loan: CpuLoan,
    ) -> None:
        """Make one.

        Args:
            host: runs the calls.
            desk: where they are.
            actor: what the process is.
            life: whether it goes on.
            here: what others know of it.
            code: functions that it was sent.
            arguments: values that it was sent.
            loan: the CPUs that the calls use.
        """
        self._host = host
        self._desk = desk
        self._actor = actor
        self._life = life
        self._here = here
        self._code = code
        self._arguments = arguments
        self._loan = loan
        self._receive = host.borrowing.receive_arguments

    def on_push(self, peer: Peer, message: wire.Push, frames: Sequence[Frame]) -> None:
        """Run these, in order; called by the reader under the lock."""
        if message.gpu_ids and "\0" in "".join(message.gpu_ids):
            raise RemoteProtocolError("GPUs that the environment cannot name")
        for function in message.functions:
            self._code.add(function, frames)
        desk, actor, loan = self._desk, self._actor, self._loan
        if self._life.exiting:
            for task in message.tasks:
                if task.refs or task.deps:  # what was handed over with it goes back
                    call = TaskCall(self._host, peer, task, frames, message)
                    call.held = self._receive(task, peer.process)
                    desk.let_go(call)
            ids = [task.id for task in message.tasks]
            peer.send(wire.Replies([], True, ids, actor.announced) if actor.id else wire.Returned(ids))
            return
        self._here.depth = message.depth + 1
        if not actor.id:
            desk.lessee = peer
            if message.resources != loan.resources:
                loan.renew(message.resources)
        host, queued, submit, closing = self._host, desk.queued, desk.executor.submit, desk.closing
        refused: list[bytes] = []
        for task in message.tasks:
            if len(task.id) != TASK_ID_BYTES:
                raise RemoteProtocolError(f"a task with an id of {len(task.id)} bytes")
            if task.attempt:
                desk.supersede(task.id)
            call = TaskCall(host, peer, task, frames, message)
            if task.deps:
                call.values = self._arguments.take(task.deps, frames)
                call.held = self._receive(task, peer.process)
            elif task.refs:
                call.held = self._receive(task, peer.process)
            if closing.reason and closing.refuses():
                desk.let_go(call)
                refused.append(task.id)
                continue
            queued[task.id] = call
            if actor.id and task.function == TERMINATE_BYTES:
                closing.begin(task.id)
            submit(call)
        if refused:
            peer.send(wire.Replies([], returned=refused, reason=closing.reason))
        if loan.blocked and not actor.id:
            loan.give_back()
