"""The end of a worker process: orderly, and never longer than it may take."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ray.clock import sleep
from ray.ids import TASK_ID_BYTES
from ray.messages import node
from ray.runtime.process.supervision import END_S
from ray.runtime.process.telling import tell, write
from ray.runtime.process.waiting import Waiter
from ray.runtime.worker.replies import SETTLE_S
from ray.threads import UnawaitedThread

if TYPE_CHECKING:
    from ray.abc.transport import Transport
    from ray.protocol.run_slot import RunSlot
    from ray.runtime.owner.joining import PluginLife
    from ray.runtime.process.node_link import NodeLink
    from ray.runtime.process.polling import Polling
    from ray.runtime.process.timers import Timers
    from ray.runtime.worker.actor_host import ActorHost
    from ray.runtime.worker.call import TaskCall
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.life import Life
    from ray.runtime.worker.replies import Replies

#: Coroutines of other calls are cancelled, and have this long to end.
OTHERS_S = 1.0
#: How often it is looked whether a process is still needed whose end is over its time.
_LOOK_S = 0.1


class Process(Protocol):
    """An owner that ends: what is told and sent before it has."""

    lock: Any
    closed: bool
    timers: Timers
    transport: Transport
    node: NodeLink
    polling: Polling
    plugins: PluginLife

    def is_needed(self) -> bool: ...


class ProcessEnd:
    """How one worker ends.

    From ``begin`` on the time for it is limited. The process sees to that itself, as it knows which others still need
    it; the node manager kills one that does not even come to that.
    """

    def __init__(
        self, process: Process, desk: Desk, life: Life, actor: ActorHost, slot: RunSlot, replies: Replies
    ) -> None:
        self._process = process
        self._desk = desk
        self._life = life
        self._actor = actor
        self._slot = slot
        self._replies = replies
        self._code = 0
        #: The thread that runs what the user registered for the end.
        self._thread = threading.main_thread().ident or 0
        self._step = "a call, or its thread"
        self._begun = False
        #: Nothing of the user's runs any more that belongs to the end.
        self._cleared = False
        self._overdue = False
        #: Held by the thread that runs what the user registered for the end, and by the one that leaves.
        self._running = threading.Lock()
        self._leaving = threading.Lock()

    def begin(self, reason: str = "") -> None:
        """The last call has ended. Called under the lock.

        Args:
            reason: why the process ends, a clause; empty if that was announced, or planned.
        """
        if not self._begun:
            self._begun = True
            process = self._process
            process.node.send(node.Leaving(reason, not self._code and process.is_needed()))
            process.timers.after(END_S, self._look)
            process.transport.wake()

    def after_last_call(self) -> None:
        """The last call of this process has ended: leave the executor; ``worker_main`` ends the process."""
        desk = self._desk
        desk.next_executor = None
        self._life.left = True
        desk.executor.close()
        with self._process.lock:
            if self._actor.id:
                desk.return_queued(self._actor.announced)
            if not desk.running:  # else it is called again when they have ended
                self.begin()

    def interrupt_others(self, call: TaskCall) -> None:
        """The actor ends with ``call``: cancel the coroutines of the others, and end the process if they go on."""
        process = self._process
        with process.lock:
            others = self._desk.others(call)
            self.begin()
            if any(other.coroutine is not None for other in others):
                process.timers.after(OTHERS_S, self._soon)
                process.transport.wake()
        for other in others:
            other.interrupt()

    def _soon(self) -> None:
        """End the process on a thread of its own, so that the one that polls goes on; on this one if there is none."""
        try:
            UnawaitedThread(target=self.run, args=(0,)).start()
        except RuntimeError:
            self.run(0)

    def run(self, code: int, reason: str = "", call: bytes = b"") -> NoReturn:
        """Run what the user registered for the end and leave; with code 0 not before nobody needs this process.

        Args:
            code: of the process.
            reason: as for ``begin``.
            call: what has the process end, with a code other than 0.
        """
        process = self._process
        if not self._running.acquire(False):
            sleep(1e6)  # another thread ends the process
        self._code, self._thread = code, threading.get_ident()
        try:
            with process.lock:
                self._replies.flush_all()
                self.begin(reason)
            if code and self._actor.id:
                self._give_up(reason)
            if call:  # after which no other one begins
                self._note(call)
            if not code:
                self._step = "a plugin"
                process.plugins.leave()
                self._step = "a destructor"
                self._actor.drop()
                gc.collect()
            self._step = "a function of atexit"
            atexit._run_exitfuncs()
            self._cleared = True
            if not code and process.is_needed():
                self._note_end(planned=True)
                process.node.send(node.Lingering())
                process.polling.serve_while(process.is_needed)
        finally:
            self.leave(code)

    def _give_up(self, reason: str) -> None:
        """This actor dies by its own doing: nobody is to be in doubt about calls that have not started."""
        process = self._process
        with process.lock:
            self._life.exiting = reason
            self._desk.return_queued(self._actor.announced)
        process.polling.wait(Waiter(1), SETTLE_S)  # and what has been sent by now goes back as well
        process.transport.settle(SETTLE_S)

    def _note(self, task_id: bytes) -> None:
        """Tell the node manager what this process is to be thought to have started last."""
        self._slot.memory[:TASK_ID_BYTES] = task_id

    def _note_end(self, *, planned: bool) -> None:
        """Once an actor that ends by plan has answered all that it has started, nothing else of its calls has."""
        desk = self._desk
        answered = planned and self._life.exiting and self._actor.id and not (desk.running or desk.overdue)
        if answered and self._process.transport.settle(SETTLE_S):
            self._note(bytes(TASK_ID_BYTES))

    def leave(self, code: int) -> NoReturn:
        """Send what is queued and end at once, without waiting for threads."""
        process = self._process
        if not self._leaving.acquire(False):
            sleep(END_S)  # another thread does
        try:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            with process.lock:
                self._replies.flush_all()
                process.closed = True
            self._note_end(planned=not code)
            process.polling.abandon()
            process.transport.close()
        finally:
            os._exit(code)

    def _look(self) -> None:
        """The end is over its time: leave as soon as nobody needs this process. Called under the lock by a poller."""
        if self._cleared:
            return
        process = self._process
        needed = not self._code and process.is_needed()
        if not self._overdue:
            self._overdue = True
            tell(write, f"{self._held_up()}\n")
            if needed:
                process.node.send(node.Lingering())
        elif not needed:
            self.leave(self._code)
        process.timers.after(_LOOK_S, self._look)

    def _held_up(self) -> str:
        """What to say of an end that takes too long: where it is."""
        frame = sys._current_frames().get(self._thread)
        place = traceback.extract_stack(frame)[-1] if frame is not None else None
        where = f", in {place.name} ({place.filename}:{place.lineno})" if place and place.filename != __file__ else ""
        return f"[ray] The end of this process took longer than {END_S:g} s: it was held up by {self._step}{where}."


def end_process(ending: ProcessEnd, code: int) -> NoReturn:
    """End in order with code 0, else at once."""
    if code:
        ending.leave(code)
    ending.run(0)
