"""What the table of calls keeps: actors, as their caller sees them, with a queue each. Nothing here knows a process."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Generic, NamedTuple, Protocol, TypeVar

from ray.messages.node import ActorUpdate, ExitCause
from ray.protocol.actor_entries import ALIVE, DEAD, RESTARTING

#: Calls handed to one actor ahead of its replies, besides those that it runs at a time; more wait here. Those in front
#: may wait for one that is behind them, as long as there is a place for it.
MAX_AHEAD = 2000
#: Fewer calls under way at an actor that runs them side by side: each is sent at once. What is not sent yet waits where
#: a call in C keeps the interpreter, and is lost with the process; so this is for floods only.
MANY_CALLS = 500


class Call(Protocol):
    """What the table knows of a call."""

    #: The actor that the call is for, as its caller sees it. Only to be read.
    place: object
    #: Executions that have ended without an outcome.
    attempt: int
    #: Executions that may still follow; negative: as many as it takes.
    retries: int
    #: Arguments that are not there yet; of a call that ends its actor 1, until those before it have ended.
    waiting: int

    @property
    def id(self) -> bytes:
        """Ids of one process count up: of two calls the one that was submitted later has the higher one."""

    @property
    def method(self) -> bytes: ...
    @property
    def parent(self) -> bytes | None: ...
    @property
    def done(self) -> bool: ...
    @property
    def cancelled(self) -> bool: ...


T = TypeVar("T", bound=Call)


class Fallen(NamedTuple, Generic[T]):
    """A call whose process has ended: what is known of it (see ``fates``), and what was said of the process."""

    call: T
    fate: str
    update: ActorUpdate


class Away:
    """An actor that was not reached."""

    __slots__ = ("is_due", "since", "update")

    def __init__(self, update: ActorUpdate, now: float) -> None:
        #: Where it is said to be.
        self.update = update
        self.since = now
        #: It will be tried again in a while.
        self.is_due = False


class Callee(Generic[T]):
    """An actor, as its caller sees it."""

    __slots__ = (
        "actor_id", "away", "batch", "cause", "class_name", "closed", "concurrent", "connected", "crash",
        "created_here", "dead", "error", "fallen", "groups", "held", "incarnation", "inflight", "is_due", "lack",
        "latest", "limits", "looks_at", "many", "place", "queue", "window",
    )  # fmt: skip

    def __init__(self, actor_id: bytes, class_name: str, concurrent: bool) -> None:
        self.actor_id = actor_id
        self.class_name = class_name
        #: Whether calls may overlap there.
        self.concurrent = concurrent
        #: With fewer under way each is sent at once. Where calls do not overlap, one is enough to wait for its reply.
        self.many = MANY_CALLS if concurrent else 1
        #: It is another one where calls have been put in order.
        self.queue: deque[T] = deque()
        #: {call id: call} in the order of pushing
        self.inflight: dict[bytes, T] = {}
        #: {call id: call} of those in flight that are about to be sent together; the shell takes it to make a message.
        self.batch: dict[bytes, T] = {}
        #: The shell has a connection to its process, and sets this in the step in which it keeps, or loses, that.
        self.connected = False
        #: It was not reached at the last try.
        self.away: Away | None = None
        self.incarnation = -1
        #: The newest of what the node manager has said that was, or is being, acted upon.
        self.latest: ActorUpdate | None = None
        #: Calls whose process has ended, of which nothing has become yet.
        self.fallen: deque[Fallen[T]] = deque()
        #: Where its process is, while it lives, as the node manager has said.
        self.place: ActorUpdate | None = None
        #: Calls that may be under way at a time.
        self.window = MAX_AHEAD
        #: The actor's concurrency groups, once they are known.
        self.groups: Collection[str] | None = None
        #: No call starts there any more; it may still run some.
        self.closed = False
        #: It has ended.
        self.dead = False
        self.cause: ExitCause | None = None
        self.error = b""
        #: What the node manager has said, from the end of the process on, while its last replies are still to be read …
        self.held: list[ActorUpdate] = []
        #: … and they are not waited for any more.
        self.is_due = False
        #: This process has created the actor, and reports the failure of its ``__init__``.
        self.created_here = False
        #: {id of a call with a time limit that runs there beside others: monotonic time when it is over}
        self.limits: dict[bytes, float] = {}
        #: When the first of them is over; 0 if there is none.
        self.looks_at = 0.0
        #: Why the actor cannot be placed, where no node has what it needs: a predicate.
        self.lack = ""
        #: How its process has died again and again, while it is started anew.
        self.crash = ""

    def ended(self, id: bytes) -> T | None:
        """The actor reports the end of a call. Returns the call, if it is still under way."""
        return self.inflight.pop(id, None)

    def back(self, call: T) -> None:
        """What was reported of a call was none of its ends."""
        self.inflight[call.id] = call

    def has_heard(self, update: ActorUpdate) -> bool:
        """Whether it has ended, or the node manager has said something later than this."""
        return self.dead or (self.latest is not None and _age(update) < _age(self.latest))

    def says_ended(self, update: ActorUpdate) -> bool:
        """Whether the process that was known so far has ended."""
        return update.incarnation > self.incarnation >= 0 or update.state in (RESTARTING, DEAD)

    def is_to_connect(self, update: ActorUpdate) -> bool:
        """Whether its process is the one that ``update`` tells of, and there is no connection to it."""
        place = self.place
        return not self.connected and not self.dead and place is not None and place.incarnation == update.incarnation

    @property
    def ends(self) -> bool:
        """Whether the actor is known to be dead, or about to end."""
        return self.closed or not self.window


def _age(update: ActorUpdate) -> tuple[int, int]:
    """Orders what is said of one actor."""
    return update.incarnation, 2 if update.state == DEAD else update.state == ALIVE
