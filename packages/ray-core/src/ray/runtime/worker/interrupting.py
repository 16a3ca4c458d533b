"""A worker's interrupts of the user's code: for a cancel, or for a time limit."""

from __future__ import annotations

import signal
import threading
from _signal import getsignal  # type: ignore[import-not-found]  # that of ``signal`` takes as long as a short task
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from ray.protocol.run_slot import CANCELLED, TIMED_OUT
from ray.runtime.process.interrupts import deliver_later, in_critical_code, in_destructor
from ray.runtime.worker.call import TaskCall

if TYPE_CHECKING:
    from ray.protocol.run_slot import RunSlot
    from ray.runtime.process.timers import Timers
    from ray.runtime.worker.desk import Desk

#: A signal that comes right before a system call does not end it: it is sent again this often, until it is noticed.
INSIST_S = 0.02


class Interrupting:
    """Cancels coroutines; sends the main thread of a worker that runs one call at a time SIGINT, and takes it."""

    def __init__(self, desk: Desk, timers: Timers, wake: Callable[[], None], slot: RunSlot) -> None:
        """Make one.

        Args:
            desk: the calls of the process.
            timers: run under its lock.
            wake: has the thread that polls look at them.
            slot: shared with the node manager.
        """
        self._desk = desk
        self._timers = timers
        self._wake = wake
        self._slot = slot
        #: The handler of SIGINT, as Python hands it back.
        self.handler = self._on_signal

    def insist(self, call: TaskCall, *, sent: bool = False, anew: bool = False) -> None:
        """Interrupt the user's code; called under the lock, so that a signal cannot come to a later call.

        Args:
            call: whose code it is.
            sent: this has sent a signal for it before.
            anew: it was interrupted before, has gone on, and is to be interrupted once more.
        """
        desk = self._desk
        if desk.running.get(call.task.id) is not call or call.noticed:
            return
        # A handler of the user's is called once, be it by this or by the node manager.
        if anew or self.is_handler() or not (sent or self._slot.is_ordered(call.task.id)):
            self._interrupt(call)
            sent = True
        if call.coroutine is None and not desk.concurrent:
            self._timers.after(INSIST_S, lambda: self.insist(call, sent=sent))

    def is_handler(self) -> bool:
        """Whether the user's code has not taken over SIGINT."""
        return getsignal(signal.SIGINT) is self.handler

    def check(self, call: TaskCall) -> None:
        """Interrupt a call that is cancelled, if this is its thread, and its code may be interrupted."""
        if call.coroutine is not None:
            call.check_on_loop()
        elif call.interruptible and not self._desk.concurrent and self.is_handler() and _on_main_thread():
            call.check()

    def _interrupt(self, call: TaskCall) -> None:
        if call.stream is not None:
            call.stream.look()
        if call.coroutine is not None:
            call.interrupt()
        elif not self._desk.concurrent:
            _signal_main_thread()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """SIGINT in the main thread, of ours or of the user's: for the code of the call that runs there."""
        desk = self._desk
        call = desk.this_call()
        if not self._hear(call) or call is None or call.noticed or not (call.interruptible or desk.concurrent):
            return  # it comes between two calls, or the call cleans up already
        if in_critical_code(frame, inside=_user_call_code):
            # This thread may poll, and so be the one that sends signals: another one would come at the same place.
            if not deliver_later(number, lambda frame: self._raise_in(call, frame)):
                self._send_later(call)
            return
        self._raise_in(call, frame)

    def _hear(self, call: TaskCall | None) -> bool:
        """A signal has come: take what the node manager says about it. False if it is for a call that has ended."""
        reason, task_id = self._slot.take_order()
        if reason:
            if call is None or call.task.id != task_id:
                return False
            call.cancelled = call.cancelled or reason == CANCELLED
            call.timed_out = call.timed_out or reason == TIMED_OUT
        return True

    def _raise_in(self, call: TaskCall, frame: FrameType | None) -> None:
        """Raise in the user's code that this thread is in, if it is still that of ``call``."""
        desk = self._desk
        if desk.this_call() is not call or call.noticed or not (call.interruptible or desk.concurrent):
            return
        if in_destructor(frame):
            self._send_later(call)
            return
        # Ctrl-C, or a signal that the user's code has sent. (A comment in the next line would be in its traceback.)
        if desk.concurrent or not (call.cancelled or call.timed_out):
            raise KeyboardInterrupt
        call.check()

    def _send_later(self, call: TaskCall) -> None:
        self._timers.after(0.001, lambda: self._send_again(call))
        self._wake()

    def _send_again(self, call: TaskCall) -> None:
        with self._desk.lock:
            if self._desk.running.get(call.task.id) is call:
                _signal_main_thread()


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _signal_main_thread() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


_user_call_code = TaskCall.run.__code__
