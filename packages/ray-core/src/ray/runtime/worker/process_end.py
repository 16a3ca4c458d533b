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
from ray.messages import node
from ray.runtime.process.supervision import END_S
from ray.runtime.process.telling import tell, write
from ray.threads import UnawaitedThread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ray.abc.transport import Transport
    from ray.runtime.owner.joining import PluginLife
    from ray.runtime.process.node_link import NodeLink
    from ray.runtime.process.polling import Polling
    from ray.runtime.process.timers import Timers

#: Coroutines of other calls are cancelled, and have this long to end.
OTHERS_S = 1.0
#: How often it is looked whether a process is still needed whose end is over its time.
_LOOK_S = 0.1


class Ending(Protocol):
    """A call, as the end of its process sees it."""

    @property
    def coroutine(self) -> object: ...
    def interrupt(self) -> None: ...


class Desk(Protocol):
    """Where the calls are."""

    def others(self, call: object) -> Sequence[Ending]: ...


class Process(Protocol):
    """A worker that ends: what is told, sent and let go of before it has."""

    actor_id: bytes
    lock: Any
    closed: bool
    timers: Timers
    transport: Transport
    node: NodeLink
    polling: Polling
    plugins: PluginLife

    @property
    def desk(self) -> Desk: ...
    def is_needed(self) -> bool: ...
    def flush_all(self) -> None: ...
    def give_up(self, reason: str) -> None: ...
    def drop_actor(self) -> None: ...
    def note(self, task_id: bytes) -> None: ...
    def note_end(self, *, planned: bool) -> None: ...


class ProcessEnd:
    """How one worker ends.

    From ``begin`` on the time for it is limited. The process sees to that itself, as it knows who still needs it; the
    node manager kills one that does not even come to that.
    """

    def __init__(self, runtime: Process) -> None:
        self._runtime = runtime
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
            runtime = self._runtime
            runtime.node.send(node.Leaving(reason, not self._code and runtime.is_needed()))
            runtime.timers.after(END_S, self._look)
            runtime.transport.wake()

    def interrupt_others(self, call: Ending) -> None:
        """The actor ends with ``call``: cancel the coroutines of the others, and end the process if they go on."""
        runtime = self._runtime
        with runtime.lock:
            others = runtime.desk.others(call)
            self.begin()
            if any(other.coroutine is not None for other in others):
                runtime.timers.after(OTHERS_S, self._soon)
                runtime.transport.wake()
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
        runtime = self._runtime
        if not self._running.acquire(False):
            sleep(1e6)  # another thread ends the process
        self._code, self._thread = code, threading.get_ident()
        try:
            with runtime.lock:
                runtime.flush_all()
                self.begin(reason)
            if code and runtime.actor_id:
                runtime.give_up(reason)
            if call:  # after which no other one begins
                runtime.note(call)
            if not code:
                self._step = "a plugin"
                runtime.plugins.leave()
                self._step = "a destructor"
                runtime.drop_actor()
                gc.collect()
            self._step = "a function of atexit"
            atexit._run_exitfuncs()
            self._cleared = True
            if not code and runtime.is_needed():
                runtime.note_end(planned=True)
                runtime.node.send(node.Lingering())
                runtime.polling.serve_while(runtime.is_needed)
        finally:
            self.leave(code)

    def leave(self, code: int) -> NoReturn:
        """Send what is queued and end at once, without waiting for threads."""
        runtime = self._runtime
        if not self._leaving.acquire(False):
            sleep(END_S)  # another thread does
        try:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()
            with runtime.lock:
                runtime.flush_all()
                runtime.closed = True
            runtime.note_end(planned=not code)
            runtime.polling.abandon()
            runtime.transport.close()
        finally:
            os._exit(code)

    def _look(self) -> None:
        """The end is over its time: leave as soon as nobody needs this process. Called under the lock by a poller."""
        if self._cleared:
            return
        runtime = self._runtime
        needed = not self._code and runtime.is_needed()
        if not self._overdue:
            self._overdue = True
            tell(write, f"{self._held_up()}\n")
            if needed:
                runtime.node.send(node.Lingering())
        elif not needed:
            self.leave(self._code)
        runtime.timers.after(_LOOK_S, self._look)

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
