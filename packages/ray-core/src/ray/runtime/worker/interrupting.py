"""A worker's interrupts of the user's code: for a cancel, or for a time limit."""

from __future__ import annotations

import signal
import threading
from _signal import getsignal  # type: ignore[import-not-found]  # that of ``signal`` takes as long as a short task
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from ray.runtime.process.interrupts import deliver_later, in_critical_code, in_destructor
from ray.runtime.worker.call import TaskCall

if TYPE_CHECKING:
    from ray.abc.transport import Transport
    from ray.protocol.run_slot import RunSlot
    from ray.runtime.process.timers import Timers
    from ray.runtime.worker.desk import Desk
    from ray.runtime.worker.limits import Limits

#: A signal that comes right before a system call does not end it: it is sent again this often, until it is noticed.
INSIST_S = 0.02


class Worker(Protocol):
    """What runs the calls."""

    desk: Desk
    lock: Any
    timers: Timers
    transport: Transport


class Interrupting:
    """Cancels coroutines; sends the main thread of a worker that runs one call at a time SIGINT, and takes it."""

    def __init__(self, worker: Worker, slot: RunSlot, limits: Limits) -> None:
        self._worker = worker
        self._slot = slot
        self._limits = limits
        #: The handler of SIGINT, as Python hands it back.
        self.handler = self._on_signal

    def insist(self, call: TaskCall, *, sent: bool = False, anew: bool = False) -> None:
        """Interrupt the user's code; called under the lock, so that a signal cannot come to a later call.

        Args:
            call: whose code it is.
            sent: this has sent a signal for it before.
            anew: it was interrupted before, has gone on, and is to be interrupted once more.
        """
        worker = self._worker
        if worker.desk.running.get(call.task.id) is not call or call.noticed:
            return
        # A handler of the user's is called once, be it by this or by the node manager.
        if anew or self.is_handler() or not (sent or self._slot.is_ordered(call.task.id)):
            self._interrupt(call)
            sent = True
        if call.coroutine is None and not worker.desk.concurrent:
            worker.timers.after(INSIST_S, lambda: self.insist(call, sent=sent))

    def is_handler(self) -> bool:
        """Whether the user's code has not taken over SIGINT."""
        return getsignal(signal.SIGINT) is self.handler

    def _interrupt(self, call: TaskCall) -> None:
        if call.stream is not None:
            call.stream.look()
        if call.coroutine is not None:
            call.interrupt()
        elif not self._worker.desk.concurrent:
            _signal_main_thread()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """SIGINT in the main thread, of ours or of the user's: for the code of the call that runs there."""
        desk = self._worker.desk
        call = desk.this_call()
        if not self._limits.hear(call) or call is None or call.noticed or not (call.interruptible or desk.concurrent):
            return  # it comes between two calls, or the call cleans up already
        if in_critical_code(frame, inside=_user_call_code):
            # This thread may poll, and so be the one that sends signals: another one would come at the same place.
            if not deliver_later(number, lambda frame: self._raise_in(call, frame)):
                self._send_later(call)
            return
        self._raise_in(call, frame)

    def _raise_in(self, call: TaskCall, frame: FrameType | None) -> None:
        """Raise in the user's code that this thread is in, if it is still that of ``call``."""
        worker = self._worker
        if worker.desk.this_call() is not call or call.noticed or not (call.interruptible or worker.desk.concurrent):
            return
        if in_destructor(frame):
            self._send_later(call)
            return
        # Ctrl-C, or a signal that the user's code has sent. (A comment in the next line would be in its traceback.)
        if worker.desk.concurrent or not (call.cancelled or call.timed_out):
            raise KeyboardInterrupt
        call.check()

    def _send_later(self, call: TaskCall) -> None:
        self._worker.timers.after(0.001, lambda: self._send_again(call))
        self._worker.transport.wake()

    def _send_again(self, call: TaskCall) -> None:
        with self._worker.lock:
            if self._worker.desk.running.get(call.task.id) is call:
                _signal_main_thread()


def _signal_main_thread() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


_user_call_code = TaskCall.run.__code__
