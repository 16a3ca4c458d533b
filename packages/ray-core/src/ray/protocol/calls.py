"""The calls of one process to actors: in submission order for each, across restarts. It decides, and does nothing: what
is to be done is appended to ``out`` (see ``call_effects``), and the time is an argument.

A call is queued at its actor, in the order of submission, until its arguments are there and its actor's process is
reached; it is in flight from then on until that process has answered. When a process ends, its last replies are read
first. What it had not started goes to the next process; the rest is repeated where that is asked for, or fails with its
fate (``fates``). Connections may also be lost while the actor lives, as the program, or code of the actor, may close
them. Of calls that were sent by such a connection nobody knows whether they have come to the actor, or their results
back. So they fail, or are repeated where that is asked for; those that follow go by a new connection, behind them.

Code that interrupts a call of this module on its thread (finalisers, signal handlers) may call any method here. So each
step that others rely on is one that nothing can come in the middle of, and comes after the look that it depends on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from copy import copy
from functools import partial
from typing import Generic, TypeVar

from msgspec.structs import replace

from ray.messages.node import ActorUpdate, ExitCause
from ray.protocol import actor_entries
from ray.protocol.call_effects import (
    Cancel,
    Connect,
    Drop,
    Effect,
    End,
    Ended,
    LetGo,
    Placed,
    Push,
    Refuse,
    Restarts,
)
from ray.protocol.call_order import put_in_order
from ray.protocol.call_records import MANY_CALLS, MAX_AHEAD, Away, Call, Callee, Fallen
from ray.protocol.fates import UNKNOWN, UNSTARTED, fates_of
from ray.protocol.gathering import Gathering
from ray.protocol.last_calls import ends_next
from ray.protocol.story import Story, check
from ray.protocol.task_effects import After
from ray.protocol.tasks import BATCH_TASKS, LAST_WORDS_S

T = TypeVar("T", bound=Call)

#: Where a process has ended, the node manager says so in this time.
ENDED_S = 0.5
#: Where each concurrency group has places of its own, and those for one group must not hold up those for another.
_WITHOUT_LIMIT = 1 << 62
_LOST = "one of the two processes has closed it, or dropped it for a message that could not be handled"


class CallTable(Generic[T]):
    """The actors that one process calls. Called under the runtime's lock.

    Invariants, as soon as ``out`` has been carried out (``validate`` checks them):
    - a call is in one place, the queue or the flight of its actor;
    - nothing is queued at an actor that takes no more, and nothing is in flight to one that is dead;
    - what waits at an actor that is connected, and has room, waits behind one whose arguments are not there, or for
      calls that follow it closely;
    - nothing waits in a batch, nor for its fate.
    """

    def __init__(self, process_id: bytes) -> None:
        """Make one; ``process_id`` is what the ids of this process's calls begin with."""
        self._process_id = process_id
        #: {actor id: actor}
        self.callees: dict[bytes, Callee[T]] = {}
        #: What is to be done; the shell takes each away when it has done it.
        self.out: deque[Effect[T]] = deque()
        self._gathering: Gathering[T] = Gathering(self.out, self.pump)
        self._story = Story()

    # --- calls --------------------------------------------------------------------------------------------------------

    def submit(self, callee: Callee[T], call: T) -> None:
        """Queue a call behind the earlier ones and send what can go."""
        if callee.closed:
            self.out.append(End(call, callee, UNSTARTED))
            return
        call.place = callee
        queue = callee.queue
        queue.append(call)
        if callee.connected:
            ahead = len(callee.inflight)
            if ahead >= callee.many and len(queue) % BATCH_TASKS:
                if callee.many > 1:
                    self._gathering.add(callee)
            elif (
                queue is callee.queue
                and queue
                and queue[0] is call
                and not (call.waiting or call.done)
                and ahead < callee.window
                and callee.connected
            ):  # as ``pump`` does, for the one that most calls are
                callee.inflight[call.id] = callee.batch[call.id] = call
                queue.popleft()
                self.out.append(Push(callee))
            else:
                self.pump(callee)
            return
        away = callee.away
        if away is not None and not away.is_due:
            self.out.append(Connect(callee, away.update))

    def pump(self, callee: Callee[T]) -> None:
        """Send calls in order, up to the first one whose arguments are not there."""
        inflight = callee.inflight
        while True:
            is_full = len(inflight) >= callee.window
            queue = callee.queue  # here: what comes behind ``len`` may put another one there, and may send from it
            if is_full or not queue or not callee.connected:
                break
            call = queue[0]
            if call.done:
                self.out.append(LetGo(call))  # it may have ended while it was to be sent once more
                if queue is callee.queue and queue and queue[0] is call:
                    queue.popleft()
                continue
            if call.waiting:
                if ends_next(call, inflight):
                    continue  # another one may be the first by now
                break
            # At once: what is in flight is in the batch, until it is sent.
            inflight[call.id] = callee.batch[call.id] = call
            queue.popleft()
        if callee.batch:
            self.out.append(Push(callee))

    def replied(self, callee: Callee[T], returned: Iterable[bytes], reason: str, *, exiting: bool) -> None:
        """An actor has reported ends, and gives calls back; ``reason``: why it takes no more, if that is so.

        ``exiting``: its process ends, and starts none of the others.
        """
        cause = None
        if reason:
            callee.many = MANY_CALLS  # the rest wait for no reply: the actor takes no more, and says so at once
            cause = ExitCause(reason=reason)
        inflight = callee.inflight
        for id in returned:
            call = inflight.get(id)
            if call is None:
                continue
            if call.done:
                self._take(callee, call, LetGo(call))
            elif cause is not None:
                self._take(callee, call, End(call, callee, UNSTARTED, cause))
            else:
                self._take(callee, call, Cancel(call) if call.cancelled else None)
        if exiting:
            callee.window = 0  # nothing more is sent to that process
            if cause is not None:
                # What the process still runs may wait for one of these, and the end waits for what runs.
                self.close(callee, cause)
        elif callee.closed:
            self._end_queue(callee)  # of one that was to be repeated
        elif callee.queue:
            self.pump(callee)

    def again(self, callee: Callee[T], call: T, now: float) -> None:
        """Have a call repeated that has ended."""
        call.attempt += 1
        if call.retries > 0:
            call.retries -= 1
        callee.queue.append(call)
        self._note(now, f"attempt {call.attempt} is next", callee, call)

    def unsent(self, callee: Callee[T], calls: list[T]) -> None:
        """A push was not sent: these go first next time."""
        backwards = calls[::-1]
        callee.queue.extendleft(backwards)
        self.out.append(After(0.0, lambda now: self.pump(callee)))

    def close(self, callee: Callee[T], cause: ExitCause | None) -> None:
        """No call starts any more."""
        callee.cause = cause
        callee.closed = True
        self._end_queue(callee)

    def _end_queue(self, callee: Callee[T], error: Exception | None = None) -> None:
        """What is queued ends with ``error``, or as its actor has ended."""
        while True:
            queue = callee.queue
            if not queue:
                return
            call = queue[0]
            if not call.done:  # first: if this is interrupted after that, it is done all the same
                self.out.append(End(call, callee, UNSTARTED) if error is None else Refuse(call, error))
            if queue is callee.queue and queue and queue[0] is call:
                queue.popleft()

    def _take(
        self, callee: Callee[T], call: T, effect: Effect[T] | None, *, is_lost: bool = False, repeated: bool = False
    ) -> None:
        """Take a call from the flight in one step, to its end, which ``effect`` is, or into the queue.

        ``is_lost``: it was sent by a connection that there is no more; where there is another one, what was to become
        of it is decided. ``repeated``: it may have run.
        """
        inflight = callee.inflight
        if (is_lost and callee.connected) or call.id not in inflight or inflight[call.id] is not call:
            return
        del inflight[call.id]
        if effect is not None:
            self.out.append(effect)
            return
        if repeated:
            call.attempt += 1
            if call.retries > 0:
                call.retries -= 1
        callee.queue.append(call)

    # --- what the node manager says -----------------------------------------------------------------------------------

    def updated(self, update: ActorUpdate, now: float) -> None:
        """It says where an actor is."""
        callee = self.callees.get(update.id)
        if callee is None:
            return
        ends = callee.says_ended(update)
        if callee.has_heard(update):
            return
        if callee.held:
            callee.held.append(update)
        elif callee.connected and callee.inflight and ends:
            callee.held.append(update)
            self.out.append(After(LAST_WORDS_S, partial(self._apply_held, callee)))
        else:
            self._apply(callee, update, now)

    def _apply_held(self, callee: Callee[T], now: float) -> None:
        callee.is_due = True
        while True:
            if not callee.held:
                break
            first = callee.held[0]
            self._apply(callee, copy(first), now)  # of which it can tell whether it is the one being acted upon
            if callee.held and callee.held[0] is first:
                del callee.held[0]
        callee.is_due = False

    def _apply(self, callee: Callee[T], update: ActorUpdate, now: float) -> None:
        """Do what follows from that. A call that interrupts this does so too, and may go on with what is said later."""
        latest = callee.latest
        if callee.has_heard(update):
            return
        if callee.latest is not latest:
            self.pump(callee)
            return
        callee.latest = update
        self._note(now, f"its process {update.incarnation} is {update.state}", callee)
        if callee.says_ended(update):
            self._process_ended(callee, update, now)
        effects = _effects(callee, update)
        if callee.latest is not update:  # a call that has interrupted this one has done the rest
            self.pump(callee)
            return
        # From here on no call comes between, until all that follows is in ``out``.
        callee.incarnation = update.incarnation
        callee.concurrent = callee.concurrent or update.concurrent
        if callee.concurrent:
            callee.many = MANY_CALLS
        callee.lack = update.lack
        if update.state == actor_entries.ALIVE:
            callee.window = _WITHOUT_LIMIT if update.groups else MAX_AHEAD + update.places
            callee.groups = update.groups
            callee.place = update
        elif update.state == actor_entries.DEAD:
            callee.error, callee.cause = update.error, update.cause
            callee.closed = callee.dead = True
        self.out.extend(effects)
        if callee.dead:
            self._end_queue(callee)

    def _process_ended(self, callee: Callee[T], update: ActorUpdate, now: float) -> None:
        """Calls that had not started go to the next process; those that had, or may have, are retried or fail."""
        self._meet_fates(callee, now)  # of a call that this one has interrupted
        drop: Drop[T] = Drop(callee)
        batch: dict[bytes, T] = {}
        if callee.latest is not update:
            return
        heard_out = not callee.connected
        callee.connected = False
        callee.away = None
        callee.batch = batch
        self.out.append(drop)
        inflight = list(callee.inflight.values())
        # One may go on without a caller.
        fates = fates_of(callee, inflight, _known_cause(update, heard_out=heard_out), self._process_id)
        fallen = [Fallen(call, fate, update) for call, fate in zip(inflight, fates, strict=True)]
        callee.limits.clear()
        if callee.latest is not update:
            return
        callee.closed = update.state == actor_entries.DEAD
        callee.place = None
        callee.fallen.extend(fallen)
        self._meet_fates(callee, now)

    def _meet_fates(self, callee: Callee[T], now: float) -> None:
        """Decide about calls whose process has ended; a call that interrupts this goes on with the rest of them."""
        fallen = callee.fallen
        while True:
            if not fallen:
                return
            one = fallen[0]
            call, fate, update = one
            restarts = update.state != actor_entries.DEAD
            effect: Effect[T] | None = None
            repeated = False
            if call.done:
                effect = LetGo(call)
            elif restarts and fate is UNSTARTED:
                effect = Cancel(call) if call.cancelled else None
            elif restarts and call.retries and not call.cancelled:
                repeated = True
            else:
                effect = End(call, callee, fate, update.cause, update.error, restarts)
            self._note(now, f"its process has ended: {fate}", callee, call)
            self._take(callee, call, effect, is_lost=True, repeated=repeated)
            if fallen and fallen[0] is one:
                fallen.popleft()

    def killed(self, callee: Callee[T], place: ActorUpdate | None, cause: ExitCause | None) -> None:
        """The process of an actor ends, which was at ``place``; ``cause``: of the end of the actor, if that is one."""
        if callee.place is place:  # else that process has ended already
            callee.window = 0  # nothing more is sent to it
        if cause is not None and not callee.closed:
            self.close(callee, cause)

    # --- connections --------------------------------------------------------------------------------------------------

    def connection_lost(self, callee: Callee[T], now: float) -> None:
        """Its connection is gone; the node manager tells what became of the actor, unless that lives.

        The shell has taken the connection and the batch away before, as one step.
        """
        self._note(now, "the connection was lost", callee)
        if not callee.held:
            self.lost(callee)
        self._apply_held(callee, now)

    def lost(self, callee: Callee[T]) -> None:
        """There is no connection: connect again, unless the process is said to have ended."""
        place = callee.place
        if place is not None:
            self.out.append(After(ENDED_S, partial(self._look, callee, place)))

    def _look(self, callee: Callee[T], place: ActorUpdate, now: float) -> None:
        if callee.place is place and callee.window:  # else it has ended, or is about to
            self.out.append(Connect(callee, place))

    def reached(self, callee: Callee[T], now: float) -> None:
        """The process of an actor was reached: a connection is about to be there."""
        callee.away = None
        if callee.inflight:
            self.settle(callee, now)
        put_in_order(callee)
        self._note(now, "its process was reached", callee)

    def settle(self, callee: Callee[T], now: float) -> None:
        """Decide about the calls that were sent by a connection that is lost for good."""
        cause = ExitCause(reason=_LOST, pid=callee.place.pid if callee.place is not None else 0)
        for call in list(callee.inflight.values()):
            if callee.connected:  # a call that has interrupted this one has connected
                return
            callee.limits.pop(call.id, None)
            if call.done:  # it went on without a caller
                self._take(callee, call, LetGo(call), is_lost=True)
            elif call.retries and not call.cancelled:
                self._note(now, "its connection was lost, and it is sent once more", callee, call)
                self._take(callee, call, None, is_lost=True, repeated=True)
            else:
                self._take(callee, call, End(call, callee, UNKNOWN, cause, lives=True), is_lost=True)

    # --- actors that are not reached: see ``UnreachedActors`` ---------------------------------------------------------

    def unreached(self, callee: Callee[T], update: ActorUpdate, now: float) -> Away:
        """An actor was not reached where it is said to be. Returns what is known of that."""
        away = callee.away
        if away is None or away.update.incarnation != update.incarnation:
            away = callee.away = Away(update, now)
        return away

    def try_later(self, callee: Callee[T], away: Away, delay_s: float) -> None:
        """Try to reach it in a while."""
        if not away.is_due:
            away.is_due = True
            self.out.append(After(delay_s, lambda now: self.try_again(callee, away)))

    def try_again(self, callee: Callee[T], away: Away) -> None:
        """Try to reach it now."""
        away.is_due = False
        if callee.away is away and not callee.dead:
            self.out.append(Connect(callee, away.update))

    def give_up(self, callee: Callee[T], error: Exception, now: float) -> None:
        """It is not expected to be reached soon: nothing waits for that."""
        self.settle(callee, now)
        self._end_queue(callee, error)

    # --- what was interrupted -----------------------------------------------------------------------------------------

    def catch_up(self, now: float) -> None:
        """A call of this table was interrupted by code that waits for what it was about to decide."""
        for callee in list(self.callees.values()):
            if callee.fallen:
                self._meet_fates(callee, now)
            if callee.is_due:
                self._apply_held(callee, now)
            if callee.closed:
                self._end_queue(callee)
            elif callee.queue or callee.batch:
                self.pump(callee)

    # --- for a look from outside --------------------------------------------------------------------------------------

    def calls(self) -> list[T]:
        """All that are queued or in flight."""
        callees = list(self.callees.values())
        return [call for callee in callees for call in (*callee.inflight.values(), *callee.queue)]

    def forget(self, id: bytes) -> Callee[T] | None:
        """No handle of this process is left. Returns the actor, if no call is either that anybody waits for."""
        callee = self.callees.get(id)
        if callee is None:
            return None
        # Calls that were cancelled may stay here for as long as the actor is not reached; their handle has gone.
        if any(not call.done for call in [*callee.inflight.values(), *callee.queue]):
            return None
        cause = ExitCause(reason="its handle was collected as garbage")
        if self.callees.pop(id, None) is None:
            return None
        # A destructor may use a handle that was collected together with its object, and before it.
        callee.cause = cause
        callee.dead = callee.closed = True
        return callee

    def validate(self) -> None:
        """Check the invariants; ``out`` has been carried out.

        Raises:
            AssertionError: one does not hold.
        """
        found = [call.id for call in self.calls()]
        check(len(found) == len(set(found)), "a call is in two places")
        for id, callee in self.callees.items():
            check(callee.actor_id == id, "an actor is kept by another one's id")
            for call in (*callee.inflight.values(), *callee.queue):
                if call.place is not callee:
                    raise AssertionError("a call is placed elsewhere")
            check(not callee.batch, "a call was not sent")
            check(not (callee.fallen or callee.is_due), "a fate was not met")
            check(not (callee.queue and callee.closed), "a call waits for an actor that takes no more")
            check(not (callee.inflight and callee.dead), "a call is under way at a dead actor")
            check(not (callee.connected and callee.place is None), "there is a connection to an ended process")
            has_room = callee.connected and len(callee.inflight) < min(callee.many, callee.window)
            first = callee.queue[0] if callee.queue else None
            check(not has_room or first is None or bool(first.waiting), "a call waits for nothing")

    def story(self, id: bytes) -> list[str]:
        """What has happened to a call or an actor, as far as it is remembered, with the times."""
        calls = {call.id: call for call in self.calls()}
        place = calls[id].place if id in calls else None
        known = {id, place.actor_id} if isinstance(place, Callee) else {id}
        lines = self._story.lines(lambda event: event.work == id or (not event.work and event.place in known))
        if isinstance(place, Callee):
            lines.append("it was sent to the actor" if id in place.inflight else "it is queued")
        return lines

    def _note(self, now: float, what: str, callee: Callee[T], call: T | None = None) -> None:
        self._story.note(now, what, callee.actor_id, b"" if call is None else call.id)


def _known_cause(update: ActorUpdate, *, heard_out: bool) -> ExitCause | None:
    """How a process has ended. One that ends by plan has answered all: that is of use where its answers have come."""
    cause = update.cause
    if heard_out or cause is None or update.state != actor_entries.DEAD or any(cause.running):
        return cause
    return replace(cause, running=b"")


def _effects(callee: Callee[T], update: ActorUpdate) -> list[Effect[T]]:
    """What is to be done when that is said of an actor."""
    found: list[Effect[T]] = []
    state = update.state
    if state in (actor_entries.ALIVE, actor_entries.DEAD) or update.lack:  # what nobody can place need not be kept
        found.append(Placed(callee, state == actor_entries.ALIVE))
    if state == actor_entries.RESTARTING:
        found.append(Restarts(callee, update))
    elif state == actor_entries.ALIVE:
        found.append(Connect(callee, update))
    elif state == actor_entries.DEAD:
        found.append(Ended(callee, update.error if callee.created_here else b"", asked=bool(callee.queue)))
    return found
