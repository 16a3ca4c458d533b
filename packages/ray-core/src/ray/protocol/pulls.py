"""Which objects of other nodes are brought to this one, in which order, and how long their copies stay.

The table of one node. Its processes ask for objects by the keys that stores have them under; many may ask for the same
one, which comes once. A copy stays for as long as a process needs it, and a moment longer. What brings them is the
``mover``: it is told to begin and to give up, and says how each transfer has ended. No transfer of a key begins before
the one before it has ended, so attempts and ends are never mixed up.

The caller carries out what the methods return, in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import TypeAlias

import msgspec

from ray.protocol.story import check

#: Transfers at a time.
MAX_TRANSFERS = 8
#: Bytes on their way at a time: this share of the store, and not more than so many. What is larger comes alone.
SHARE, MAX_BYTES = 0.25, 1 << 30
#: A transfer that broke off is begun anew so often, at most.
MAX_TRIES = 4
#: A copy that nobody needs any more stays for so long: the next task may take the same argument.
REST_S = 0.1

#: States of a copy. ENDING: its transfer is to end, and nobody has said that it has.
QUEUED, COMING, ENDING, HERE = range(4)
#: How a transfer may end: it is HERE; LOST: it is nowhere any more; FULL: there is no room; AGAIN: it broke off.
LOST, FULL, AGAIN = "lost", "full", "again"


class Failure(msgspec.Struct, frozen=True):
    """Why there is no copy."""

    kind: str
    text: str = ""
    full: tuple[int, int, int] = (0, 0, 0)
    """FULL: the bytes needed, the size of the store, and what is in use of it."""


#: Told to a process that has let go of what it has asked for.
_NOT_NEEDED = Failure(LOST, "the process that has asked for it needs it no more")


class Begin(msgspec.Struct, frozen=True):
    """The mover is to bring this."""

    key: bytes
    node: bytes
    nbytes: int
    anywhere: bool = False
    """Its node is dead: any other one may have a copy."""


class GiveUp(msgspec.Struct, frozen=True):
    """The mover is to end this transfer, and to say so."""

    key: bytes


class Gone(msgspec.Struct, frozen=True):
    """That node is dead: what comes from there goes on from other nodes that have it."""

    node: bytes


class Delete(msgspec.Struct, frozen=True):
    """Nobody needs this copy."""

    key: bytes


class Tell(msgspec.Struct, frozen=True):
    """To a process that has asked: it is here, or why not."""

    asker: bytes
    request: int
    failure: Failure | None = None


Effect: TypeAlias = Begin | GiveUp | Gone | Delete | Tell


class Copy(msgspec.Struct):
    """One object of another node, as far as this one is concerned."""

    key: bytes
    node: bytes
    nbytes: int
    urgency: int
    order: int
    state: int = QUEUED
    tries: int = 0
    #: All nodes are asked for it, or were.
    is_sought: bool = False
    #: Processes that need it, in the order in which they came.
    askers: dict[bytes, None] = msgspec.field(default_factory=dict)
    #: (process, request) of those that wait for an answer.
    waiting: list[tuple[bytes, int]] = msgspec.field(default_factory=list)
    #: When it is deleted, unless somebody needs it by then.
    until: float = 0.0


class PullTable:
    """All of them."""

    def __init__(self, capacity_bytes: int) -> None:
        """There are none, and no mover yet.

        Args:
            capacity_bytes: of the node's store; 0: it has no limit.
        """
        share = int(capacity_bytes * SHARE) if capacity_bytes else MAX_BYTES
        self._budget = min(share, MAX_BYTES)
        self._is_ready = False
        self._orders = 0
        #: {key: copy}
        self.copies: dict[bytes, Copy] = {}
        #: {key: copy} of those that are here and nobody needs, the oldest first.
        self._resting: dict[bytes, Copy] = {}
        #: (urgency, order, key) of those that are queued, and of some that are not any more.
        self._queue: list[tuple[int, int, bytes]] = []
        #: What is on its way.
        self._coming: dict[bytes, Copy] = {}
        self._coming_bytes = 0
        #: {dead node: what to say of its objects}
        self._gone: dict[bytes, str] = {}

    # --- processes ----------------------------------------------------------------------------------------------------

    def ask(self, asker: bytes, request: int, key: bytes, node: bytes, nbytes: int, urgency: int) -> list[Effect]:
        """A process needs an object, and waits for an answer."""
        copy = self.copies.get(key)
        if copy is None:
            self._orders += 1
            copy = self.copies[key] = Copy(key, node, nbytes, urgency, self._orders)
            self._enqueue(copy)
        copy.askers[asker] = None
        if copy.state == HERE:
            self._resting.pop(key, None)
            return [Tell(asker, request)]
        copy.waiting.append((asker, request))
        if urgency < copy.urgency:
            copy.urgency = urgency
            if copy.state == QUEUED:
                self._enqueue(copy)
        return self._admit()

    def _enqueue(self, copy: Copy) -> None:
        copy.state = QUEUED
        heappush(self._queue, (copy.urgency, copy.order, copy.key))

    def let_go(self, asker: bytes, key: bytes, now: float) -> list[Effect]:
        """A process needs it no more; what it still waits for is answered, so that it need not keep the question."""
        copy = self.copies.get(key)
        waiting = [] if copy is None else copy.waiting
        answers = [Tell(asker, request, _NOT_NEEDED) for each, request in waiting if each == asker]
        return [*answers, *self._leave(asker, key, now)]

    def _leave(self, asker: bytes, key: bytes, now: float) -> list[Effect]:
        copy = self.copies.get(key)
        if copy is None or asker not in copy.askers:
            return []
        del copy.askers[asker]
        copy.waiting = [waiting for waiting in copy.waiting if waiting[0] != asker]
        if copy.askers:
            return []
        if copy.state == QUEUED:
            del self.copies[key]
        elif copy.state == HERE:
            copy.until = now + REST_S
            self._resting[key] = copy
        elif copy.state == COMING:
            copy.state = ENDING
            return [GiveUp(key)]
        return []

    def asker_lost(self, asker: bytes, now: float) -> list[Effect]:
        """A process has ended."""
        found = [copy.key for copy in self.copies.values() if asker in copy.askers]
        return [effect for key in found for effect in self._leave(asker, key, now)]

    # --- time ---------------------------------------------------------------------------------------------------------

    def rests_until(self) -> float | None:
        """When ``rest_over`` has something to do next; None: there is nothing to wait for."""
        return next((copy.until for copy in self._resting.values()), None)

    def rest_over(self, now: float) -> list[Effect]:
        """Copies that nobody has needed for a while go."""
        return self._drop([copy for copy in self._resting.values() if copy.until <= now])

    def _drop(self, copies: Iterable[Copy]) -> list[Effect]:
        effects: list[Effect] = []
        for copy in copies:
            del self.copies[copy.key]
            self._resting.pop(copy.key, None)
            effects.append(Delete(copy.key))
        return effects

    # --- the mover ----------------------------------------------------------------------------------------------------

    def ended(self, key: bytes, failure: Failure | None) -> list[Effect]:
        """A transfer has ended."""
        copy = self._coming.pop(key, None)
        if copy is None:
            return []
        self._coming_bytes -= copy.nbytes
        if copy.state == ENDING:
            return [*self._gave_up(copy, is_here=failure is None), *self._admit()]
        if failure is None:
            return [*self._arrived(copy), *self._admit()]
        if failure.kind == FULL and self._resting:
            self._enqueue(copy)
            return [*self._drop(list(self._resting.values())), *self._admit()]
        copy.tries += 1
        if failure.kind != FULL and copy.node in self._gone:
            failure = Failure(LOST if copy.is_sought else AGAIN, self._gone[copy.node])
        if failure.kind == AGAIN and (copy.tries < MAX_TRIES or copy.node in self._gone):
            self._enqueue(copy)
            return self._admit()
        return [*self._fail(copy, failure), *self._admit()]

    def _gave_up(self, copy: Copy, *, is_here: bool) -> list[Effect]:
        if is_here and copy.askers:
            return self._arrived(copy)
        if is_here:
            return self._drop([copy])
        if copy.askers:
            copy.tries = 0
            self._enqueue(copy)
        else:
            del self.copies[copy.key]
        return []

    def _arrived(self, copy: Copy) -> list[Effect]:
        copy.state = HERE
        waiting, copy.waiting = copy.waiting, []
        return [Tell(asker, request) for asker, request in waiting]

    def _fail(self, copy: Copy, failure: Failure) -> list[Effect]:
        del self.copies[copy.key]
        return [Tell(asker, request, failure) for asker, request in copy.waiting]

    def mover_ready(self) -> list[Effect]:
        """There is one, which has begun nothing."""
        self._is_ready = True
        return self._admit()

    def mover_lost(self) -> list[Effect]:
        """It has died, with all transfers; another one will be ready."""
        self._is_ready = False
        coming, self._coming, self._coming_bytes = self._coming, {}, 0
        effects: list[Effect] = []
        for copy in coming.values():
            if copy.state == ENDING:
                effects += self._gave_up(copy, is_here=False)
                continue
            copy.tries += 1
            if copy.tries < MAX_TRIES:
                self._enqueue(copy)
            else:
                effects += self._fail(copy, Failure(AGAIN, "the object manager of this node died again and again"))
        return effects

    def node_down(self, node: bytes, reason: str) -> list[Effect]:
        """A node is gone: what it has made comes from others that have it, or is lost once none of them does."""
        self._gone[node] = reason
        return [Gone(node)]

    def _admit(self) -> list[Effect]:
        """Begin what there is room for, in order: what does not fit holds up what follows, or it would never come."""
        effects: list[Effect] = []
        queue, coming = self._queue, self._coming
        while self._is_ready and queue and len(coming) < MAX_TRANSFERS:
            urgency, order, key = queue[0]
            copy = self.copies.get(key)
            if copy is None or copy.state != QUEUED or (copy.urgency, copy.order) != (urgency, order):
                heappop(queue)
                continue
            if coming and self._coming_bytes + copy.nbytes > self._budget:
                break
            heappop(queue)
            copy.state = COMING
            copy.is_sought = copy.node in self._gone
            coming[key] = copy
            self._coming_bytes += copy.nbytes
            effects.append(Begin(key, copy.node, copy.nbytes, copy.is_sought))
        return effects

    def validate(self) -> None:
        """Check the invariants.

        Raises:
            AssertionError: one does not hold.
        """
        coming = {copy.key: copy for copy in self.copies.values() if copy.state in (COMING, ENDING)}
        resting = {copy.key for copy in self.copies.values() if copy.state == HERE and not copy.askers}
        check(coming == self._coming, "a transfer is not counted, or one that has ended is")
        check(sum(copy.nbytes for copy in coming.values()) == self._coming_bytes, "bytes on their way are miscounted")
        check(resting == self._resting.keys(), "a copy rests that is needed, or does not rest")
        check(len(coming) <= MAX_TRANSFERS, "more transfers than there may be at a time")
        check(len(coming) <= 1 or self._coming_bytes <= self._budget, "too many bytes on their way")
        for key, copy in self.copies.items():
            check(copy.key == key, "a copy is kept by another one's key")
            check(all(asker in copy.askers for asker, _ in copy.waiting), "an answer is owed to a process that let go")
            check(copy.state != HERE or not copy.waiting, "a process waits for what is here")
            check(copy.state in (HERE, ENDING) or bool(copy.askers), "something comes that nobody needs")
