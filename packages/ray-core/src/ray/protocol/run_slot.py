"""What a worker and its node manager tell each other through memory, without the worker's interpreter.

Each worker has a slot that both see. The worker notes what it runs. The node manager stops the worker for a moment, so
that what the slot says stays true, decides, writes what it has decided, and lets the worker go on. The worker reads
that where it matters, however long it has not come to look at its messages.

*Recalls.* An owner wants back what a worker has not started. The worker answers when its interpreter has time for it.
If it does not answer, the owner turns to the node manager, which puts the recall in force instead: everything that the
worker holds is revoked but the task that it has started last. So that owner and worker agree on which tasks may still
be started, whatever the moment at which the worker was stopped:

1. The worker notes a task as started *before* it looks whether a recall is in force.
2. It notes a recall as handled *after* it has answered. If it was in force by then, it drops what was revoked, and
   answers again.
3. It answers while it does not look at a task, so no note of one that it was not to start lasts beyond the recall.
4. The owner sends a task that has run before behind no other: the note may be of that time.
5. It sends nothing between a recall and its end, when worker and node manager have answered, as far as they were asked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ray.ids import TASK_ID_BYTES

SLOT_BYTES = 1024
#: Where the flag lies that says that something is not to be started: read before each task.
IN_FORCE = 4 * TASK_ID_BYTES
#: Its values: a recall is in force; calls have been revoked.
_RECALLED, _REVOKED = 1, 2

_RUNNING = slice(0, TASK_ID_BYTES)
_HANDLED = slice(TASK_ID_BYTES, 2 * TASK_ID_BYTES)
_RECALL = slice(2 * TASK_ID_BYTES, 3 * TASK_ID_BYTES)
_EXEMPT = slice(3 * TASK_ID_BYTES, 4 * TASK_ID_BYTES)
_ORDER = 4 * TASK_ID_BYTES + 1
_CREATES = 4 * TASK_ID_BYTES + 2
_DEADLINE = 4 * TASK_ID_BYTES + 8
_ORDERED = slice(5 * TASK_ID_BYTES, 6 * TASK_ID_BYTES)
_HEARD = slice(6 * TASK_ID_BYTES, 7 * TASK_ID_BYTES)
#: Ids of calls that are not to be started, zeros where there is room for more.
_CALLS = range(8 * TASK_ID_BYTES, SLOT_BYTES, TASK_ID_BYTES)
_NONE = bytes(TASK_ID_BYTES)
_SECONDS = struct.Struct("<d")

#: Why a task is to be interrupted.
CANCELLED, TIMED_OUT = 1, 2


class RunSlot:
    """One slot, from either side. Starts as zeros."""

    __slots__ = ("memory",)

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory
        """``SLOT_BYTES``, writable. Begins with the id of the task that the worker has started last."""

    @property
    def running(self) -> bytes:
        """Id of the task that the worker has started last; zeros if none."""
        return bytes(self.memory[_RUNNING])

    @property
    def has_begun_actor(self) -> bool:
        """Whether the worker has come to the code of the actor that it was made: its class, arguments, ``__init__``."""
        return bool(self.memory[_CREATES])

    def begin_actor(self) -> None:
        """Worker: what follows is the actor's own code."""
        self.memory[_CREATES] = 1

    # --- recalls, the node manager's side: the worker is stopped ------------------------------------------------------

    def revoke(self, recall: bytes) -> bytes | None:
        """Put a recall in force; returns the id of the only task that it spares, None if the worker has answered it."""
        memory = self.memory
        if memory[_HANDLED] == recall:
            return None
        exempt = self.running
        memory[_RECALL], memory[_EXEMPT] = recall, exempt
        memory[IN_FORCE] = _RECALLED
        return exempt

    # --- recalls, the worker's side ---------------------------------------------------------------------------------

    def may_start(self, task: bytes) -> bool:
        """Whether a task that was noted as ``running`` has not been revoked."""
        memory = self.memory
        if memory[IN_FORCE] == _REVOKED:
            return self._place_of(task) is None
        return not memory[IN_FORCE] or bytes(memory[_EXEMPT]) == task

    def handled(self, recall: bytes) -> bytes | None:
        """The worker has answered a recall. If it was in force before, returns the id of the only task to be kept.

        All others are to be dropped before ``settled``.
        """
        self.memory[_HANDLED] = recall
        return bytes(self.memory[_EXEMPT]) if self.memory[IN_FORCE] == _RECALLED else None

    def settled(self) -> None:
        """The worker holds nothing any more that was revoked."""
        self.memory[IN_FORCE] = 0

    # --- calls of actors, which are revoked one by one: there are other callers' calls -------------------------------

    def revoke_call(self, call: bytes) -> bool:
        """Node manager, while the worker is stopped: keep the actor from starting a call. False if that is too late."""
        place = None if self.running == call else self._place_of(call) or self._place_of(_NONE)
        if place is None:
            return False
        self.memory[place] = call
        self.memory[IN_FORCE] = _REVOKED
        return True

    def forget_call(self, call: bytes) -> None:
        """Worker: it does not hold the call, and will never get it again."""
        if self.memory[IN_FORCE]:
            place = self._place_of(call)
            if place is not None:
                self.memory[place] = _NONE

    def _place_of(self, call: bytes) -> slice | None:
        memory = self.memory
        starts = (start for start in _CALLS if memory[start : start + TASK_ID_BYTES] == call)
        start = next(starts, None)
        return None if start is None else slice(start, start + TASK_ID_BYTES)

    # --- interrupts: the worker's reader may be held up, so the reason for a signal lies here -------------------------

    def order(self, reason: int, task: bytes) -> bool:
        """Node manager: a signal follows, and this is why. False if the worker does not run the task, or has heard.

        Each of the two says what it does before it looks at what the other one does, so that a task is never
        interrupted by both. The node manager gives way.
        """
        memory = self.memory
        if memory[_RUNNING] != task or memory[_HEARD] == task:
            return False
        memory[_ORDERED] = task
        if memory[_HEARD] == task:
            memory[_ORDERED] = _NONE
            return False
        memory[_ORDER] = reason
        return True

    def heard(self, task: bytes) -> None:
        """Worker: its interpreter had time to learn that the task is to end, so it sees to that itself."""
        self.memory[_HEARD] = task

    def is_ordered(self, task: bytes) -> bool:
        """Worker, after ``heard``: whether the node manager interrupts the task; it may still give way."""
        return self.memory[_ORDERED] == task

    def begin_anew(self) -> None:
        """Worker: what was said of the task was of an earlier attempt."""
        self.memory[_HEARD] = self.memory[_ORDERED] = _NONE

    def take_order(self) -> tuple[int, bytes]:
        """Worker: the reason for a signal, and for which task; 0 if it does not come from the node manager."""
        memory = self.memory
        reason, memory[_ORDER] = memory[_ORDER], 0
        return reason, bytes(memory[_ORDERED])

    # --- limits -------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """Monotonic time by which the task that runs is to end; 0 if there is no such time."""
        deadline: float = _SECONDS.unpack_from(self.memory, _DEADLINE)[0]
        return deadline

    @deadline.setter
    def deadline(self, at: float) -> None:
        _SECONDS.pack_into(self.memory, _DEADLINE, at)

    @property
    def has_heard(self) -> bool:
        """Whether the worker sees to the end of what it runs by itself."""
        return self.memory[_HEARD] == self.memory[_RUNNING]


class OpenRecall:
    """A recall from its owner's side: until it ends, the worker gets no more tasks."""

    __slots__ = ("answered", "asked", "exempt", "held", "id", "settled")

    def __init__(self, id: bytes, held: Iterable[bytes]) -> None:
        self.id = id
        #: Ids of the tasks that the worker has not reported as ended, in their order.
        self.held = list(held)
        #: The worker has given back what it had not started.
        self.answered = False
        #: The node manager was asked as well, and has not answered.
        self.asked = False
        #: The only task that the worker may still start, where the recall was put in force.
        self.exempt = b""
        #: The worker has dropped what was revoked.
        self.settled = False

    def put_in_force(self, running: bytes) -> list[bytes]:
        """The node manager has revoked all but ``running``; returns the ids of what the worker will not start.

        It starts them in order: what came before ``running`` was started, or given back.
        """
        self.exempt = running
        return self.held[self.held.index(running) + 1 :] if running in self.held else self.held

    @property
    def ended(self) -> bool:
        """All that were asked have answered, so that owner and worker agree on what the worker holds."""
        return self.answered and not self.asked and (self.settled or not self.exempt)
