"""Which thread polls: one of a process at a time.

A thread that has to wait anyway polls by itself and so is not woken by another one, which saves a switch of threads at
each end of a call. The reader thread polls whenever nobody else has done so for a few milliseconds; it makes sure that
messages are taken while the program computes.

Finalisers that the garbage collector runs, and signal handlers, run between two steps of whatever their thread does,
and may wait in their turn. So the role is re-entrant: a wait inside a wait polls as well, and goes on where the one
around it was interrupted; a wait inside code that has the runtime's lock lets go of the lock meanwhile.
"""

from __future__ import annotations

import errno
import threading
import traceback
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from ray import headroom
from ray.abc.transport import Connection, Frame, Transport
from ray.clock import monotonic, sleep
from ray.exceptions import RaySystemError
from ray.protocol.references import ReferenceTable
from ray.runtime.process.node_link import BEAT_S, DESCRIPTORS_CLOSED, NodeLink
from ray.runtime.process.telling import write
from ray.runtime.process.timers import Timers
from ray.runtime.process.waiting import Waiter
from ray.threads import UnawaitedThread

Event: TypeAlias = tuple[Connection, Sequence[Frame] | None]
"""A message that has arrived; None for the frames when the connection is lost."""

#: How often the reader thread looks whether a thread polls; longer while one does so without a break.
_FIRST_LOOK_S = 0.005
_LAST_LOOK_S = 2.0
#: Between two slices of a batch of messages: as short as a sleep can be that lets another thread run Python code.
PAUSE_S = 1e-5
#: An end at once waits for so long until nobody polls.
_LEAVE_S = 0.2
#: A thread that has polled for longer than this wakes the reader thread when it leaves.
_LONG_S = 0.01
#: What ``poll`` says of descriptors that were closed, and may be others by now.
_CLOSED = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK)


class _ClosedError(Exception):
    """The program has closed what is polled."""


class Polled(Protocol):
    """What the thread that polls asks of its process. ``lock`` is re-entrant."""

    lock: Any
    is_worker: bool
    node: NodeLink
    table: ReferenceTable
    timers: Timers
    transport: Transport

    def catch_up(self) -> None:
        """Do what code that was interrupted by a call that waits may have left undone; called under the lock."""

    def expects(self) -> bool:
        """Whether messages are to be taken though nobody waits for them."""

    def leave_to_poller(self) -> None:
        """Have the thread that polls go on with what this one has begun."""

    def node_lost(self, reason: str) -> None:
        """The node manager, or the way to it, is gone."""

    def patience_s(self) -> float:
        """How long the thread that polls may sleep."""


class Taker(Protocol):
    """Takes what has arrived."""

    pending: deque[Event]

    def take(self) -> bool:
        """Take what is pending and do what is due; whether that was all. Called under the lock."""


class Polling:
    """Hands the transport's ``poll`` from thread to thread."""

    def __init__(self, runtime: Polled, reader: Taker) -> None:
        self._runtime = runtime
        self._reader = reader
        #: Held by the thread that polls; re-entrant, like the runtime's lock.
        self._role: Any = threading.RLock()
        #: How often, so to say: a hint for other threads.
        self._depth = 0
        self._lock: Any = runtime.lock
        #: Released to wake the reader thread while it stands by.
        self._standby = allocate_lock()
        self._standby.acquire()
        #: A thread would rather poll itself the next time.
        self._wanted = False
        #: A thread waits for the role.
        self._claimed = False
        #: Turns taken by other threads than the reader; tells it whether they come and go.
        self._turns = 0
        #: What threads wait for that let the reader thread poll for them.
        self._waiting: set[Waiter] = set()
        self._next_beat = 0.0
        self._stopping = False
        #: Whether Ctrl-C ends the program, which is held up by threads that wait; None where nobody knows.
        self.program_ends: Callable[[], bool] | None = None
        #: Threads other than the main one wait no longer.
        self._given_up = False
        self.shareable = runtime.transport.wait_code is not None
        self._thread = UnawaitedThread(target=self._run, name="ray-reader", daemon=True)

    def start(self) -> None:
        """Begin to receive.

        Raises:
            RaySystemError: the system gives no thread.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            raise RaySystemError(
                f"{error}: a session needs at least one thread beside the program's (see 'ulimit -u', and pids.max of "
                "the control group)"
            ) from error

    def stop(self) -> None:
        """Have every thread leave ``poll`` soon, and wait for that; nobody polls afterwards."""
        self._stopping = True
        self._runtime.transport.wake()
        self.nudge()
        if threading.current_thread() is not self._thread and self._thread.is_alive():
            self._thread.join(2.0)
        self._role.acquire(timeout=2.0)

    def abandon(self) -> None:
        """The process ends at once: have the thread that polls leave the transport, if that is soon; mind no errors."""
        self._stopping = True
        self._runtime.transport.wake()
        self._role.acquire(timeout=_LEAVE_S)

    def nudge(self) -> None:
        """Have the reader thread look at once whether it should poll."""
        try:
            self._standby.release()
        except RuntimeError:
            pass  # it is about to look already

    # --- the reader thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        look_s = _FIRST_LOOK_S
        turns = -1
        try:
            while not self._stopping:
                if self._claimed or not self._role.acquire(False):
                    look_s = _FIRST_LOOK_S if turns != self._turns else min(look_s * 2, _LAST_LOOK_S)
                    turns = self._turns
                    self._standby.acquire(timeout=look_s)
                    continue
                self._wanted = False
                try:
                    self._depth = 1
                    while not self._should_leave():
                        self._turn(None, None)
                        if self._wanted:
                            self._standby.acquire(False)  # a nudge so far was for the turn just taken
                finally:
                    self._depth = 0
                    self._role.release()
                if self._wanted:
                    look_s = _FIRST_LOOK_S
                    self._standby.acquire(timeout=look_s)
        except _ClosedError:
            self._runtime.node_lost(DESCRIPTORS_CLOSED)
        except BaseException:
            if not self._stopping:
                text = traceback.format_exc()
                said = f"[ray] internal error in the reader thread:\n{text}"
                if self._runtime.is_worker:  # which ends with that; the node manager reads what it says
                    write(said)
                self._runtime.node_lost(f"internal error in the reader thread: {text.splitlines()[-1]}")
                if not self._runtime.is_worker:  # the program's stderr may take nothing
                    write(said)

    def _should_leave(self) -> bool:
        return self._stopping or self._claimed or (self._wanted and not self._awaited() and not self._listened())

    def _listened(self) -> bool:
        """Whether code awaits an object without a thread that could poll."""
        return self._runtime.table.listeners > 0

    def attend(self) -> None:
        """There is a new listener: see to it that messages are taken without delay."""
        if not self._depth:
            self.nudge()

    def _awaited(self) -> bool:
        """Whether some thread still needs the reader thread; one whose wait has just ended does not."""
        return any(waiter.needed > 0 for waiter in list(self._waiting))

    def _turn(self, ceiling_s: float | None, waiter: Waiter | None) -> None:
        """Poll once and take what came; the caller has the role."""
        runtime = self._runtime
        limit_s = runtime.patience_s()
        if (waiter is not None or self._waiting) and limit_s > BEAT_S:
            limit_s = BEAT_S
        if ceiling_s is not None and ceiling_s < limit_s:
            limit_s = ceiling_s
        reader, pending = self._reader, self._reader.pending
        if pending:  # an interrupted turn has left them
            limit_s = 0.0
        # Nothing can come between the two: what is not in the transport any more is in ``pending``.
        try:
            pending.extend(runtime.transport.poll(runtime.timers.timeout_s(limit_s)))
        except OSError as error:
            if error.errno not in _CLOSED:
                raise
            if waiter is None and not runtime.is_worker:
                raise _ClosedError from error  # the reader thread of a driver ends
            runtime.node_lost(DESCRIPTORS_CLOSED)
        except ValueError:  # a signal handler that came meanwhile has ended the session, and closed what this waits on
            if not self._stopping:
                raise
        while not self._stopping:
            with runtime.lock:
                if waiter is not None:
                    waiter.wake = None
                is_done = reader.take()
                if waiter is not None and waiter.needed > 0:
                    waiter.wake = runtime.transport.wake
            if is_done:
                break
            sleep(PAUSE_S)
        if self._stopping:
            return
        now = monotonic()
        if now >= self._next_beat:
            self._next_beat = now + BEAT_S
            if self.program_ends is not None and self.program_ends():
                self._given_up = True
                for waiting in list(self._waiting):
                    waiting.leave()
            for connection in runtime.transport.cut_off():
                if connection is runtime.node.connection:
                    runtime.node_lost(DESCRIPTORS_CLOSED)
                else:
                    pending.append((connection, None))
            if not runtime.node.beat():
                runtime.node_lost("its node manager does not answer (stopped, or overloaded)")

    # --- other threads ------------------------------------------------------------------------------------------------

    def wait(self, waiter: Waiter, timeout_s: float | None) -> bool:
        """Wait until ``waiter`` is done, polling meanwhile if nobody else does; False when the time is over.

        Raises:
            RecursionError: there is no room to poll, and nobody else can.
        """
        if headroom.lacks(headroom.TAKING):
            return self._wait_without_room(waiter, timeout_s)
        if self._lock._is_owned():
            return self._wait_inside(waiter, timeout_s)
        if not (self.shareable or self._role._is_owned()) or not self._role.acquire(False):
            return self._wait_for_reader(waiter, timeout_s)
        transport = self._runtime.transport
        started = monotonic()
        depth = self._depth
        try:
            self._depth = depth + 1
            self._turns += 1
            with self._lock:
                if waiter.needed > 0:
                    waiter.wake = transport.wake
            left_s = timeout_s
            while waiter.needed > 0:
                if self._stopping:
                    return waiter.block(timeout_s)
                if timeout_s is not None:
                    left_s = started + timeout_s - monotonic()
                    if left_s <= 0:
                        return False
                self._turn(left_s, waiter)
                if self._given_up:
                    self._check_end(waiter)
            return True
        finally:
            waiter.wake = None
            self._depth = depth
            self._role.release()
            if depth:
                transport.wake()  # the wait around this one: what it waits for may have been taken here
            elif self._runtime.expects() or self._waiting or self._listened() or monotonic() - started > _LONG_S:
                self.nudge()

    def _wait_inside(self, waiter: Waiter, timeout_s: float | None) -> bool:
        """A finaliser or a signal handler has interrupted code that has the lock, and waits.

        What that code has begun may be what it waits for, so it is brought to an end here as far as possible.
        """
        with self._lock:
            self._runtime.catch_up()
            self._runtime.transport.catch_up()
        held = self._lock._release_save()
        try:
            return self.wait(waiter, timeout_s)
        finally:
            self._lock._acquire_restore(held)

    def _wait_without_room(self, waiter: Waiter, timeout_s: float | None) -> bool:
        """The reader thread takes the messages, and ends what this thread may have begun."""
        runtime = self._runtime
        if threading.current_thread() is self._thread or self._role._is_owned():
            headroom.check(headroom.TAKING)
        runtime.leave_to_poller()
        if not self._lock._is_owned():
            return self._wait_for_reader(waiter, timeout_s)
        held = self._lock._release_save()
        try:
            return self._wait_for_reader(waiter, timeout_s)
        finally:
            self._lock._acquire_restore(held)

    def _wait_for_reader(self, waiter: Waiter, timeout_s: float | None) -> bool:
        if threading.current_thread() is self._thread:
            return self._wait_in_reader(waiter, timeout_s)
        self._waiting.add(waiter)
        try:
            self._wanted = self.shareable  # next time this thread would rather poll itself
            self.nudge()
            done = waiter.block(timeout_s)
            self._check_end(waiter)
            return done
        finally:
            self._waiting.discard(waiter)

    def _check_end(self, waiter: Waiter) -> None:
        """Raise KeyboardInterrupt in a thread that would hold up the end of a program that was interrupted."""
        if self._given_up and waiter.needed > 0 and threading.current_thread() is not threading.main_thread():
            raise KeyboardInterrupt

    def _wait_in_reader(self, waiter: Waiter, timeout_s: float | None) -> bool:
        """A finaliser that the reader thread runs waits while another thread polls, which may leave at any time."""
        end = None if timeout_s is None else monotonic() + timeout_s
        self._waiting.add(waiter)
        try:
            while not waiter.block(_FIRST_LOOK_S):
                left_s = None if end is None else end - monotonic()
                if left_s is not None and left_s <= 0:
                    return False
                if self._role.acquire(False):
                    try:
                        return self.wait(waiter, left_s)
                    finally:
                        self._role.release()
            return True
        finally:
            self._waiting.discard(waiter)

    def serve_while(self, idle: Callable[[], bool]) -> None:
        """Poll on this thread for as long as ``idle()``; takes the role from the reader thread."""
        if not self._role.acquire(False):
            self._claimed = True
            self._runtime.transport.wake()
            try:
                while not self._role.acquire(timeout=_FIRST_LOOK_S):  # one of the user's threads may wait for long
                    if not idle():
                        return
            finally:
                self._claimed = False
        started = monotonic()
        try:
            self._turns += 1
            while idle() and not self._stopping:
                self._turn(None, None)
        finally:
            self._role.release()
        if self._listened() or not self.shareable or monotonic() - started > _LONG_S:
            self.nudge()
