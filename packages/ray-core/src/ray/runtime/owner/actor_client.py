"""What a process keeps about its way to one actor."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ray.messages import node
from ray.protocol import actors
from ray.protocol.references import ObjectEntry
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.runtime.owner.away import Away
    from ray.runtime.process.peers import Peer

#: Calls handed to one actor ahead of its replies, besides those that it runs at a time; more wait here. Those in front
#: may wait for one that is behind them, as long as there is a place for it.
MAX_AHEAD = 2000
#: Fewer calls under way at an actor that runs them side by side: each is sent at once. What is not sent yet waits where
#: a call in C keeps the interpreter, and is lost with the process; so this is for floods only.
MANY_CALLS = 500
#: Calls that are about to be sent together, frames of their message (see ``Peer.push``), and large values with it.
Batch: TypeAlias = tuple[list[TaskRecord], list[Any], dict[bytes, ObjectEntry]]


class Fallen(NamedTuple):
    """A call whose process has ended: what is known of it (see ``fates``), and what was said of the process."""

    record: TaskRecord
    fate: str
    update: node.ActorUpdate


class ActorClient:
    """This process's way to one actor."""

    __slots__ = (
        "actor_id", "away", "batch", "calls", "cause", "class_name", "closed", "concurrent", "crash",
        "created_here", "creating", "creation", "dead", "error", "fallen", "groups", "handed", "held", "incarnation",
        "inflight", "lack", "latest", "life", "limits", "looks_at", "many", "peer", "place", "queue", "window",
    )  # fmt: skip

    def __init__(self, calls: object, actor_id: bytes, class_name: str, concurrent: bool) -> None:
        #: Whose client it is; tells handles of an ended session.
        self.calls = calls
        self.actor_id = actor_id
        self.class_name = class_name
        #: Whether calls may overlap there.
        self.concurrent = concurrent
        #: With fewer under way each is sent at once. Where calls do not overlap, one is enough to wait for its reply.
        self.many = MANY_CALLS if concurrent else 1
        self.queue: deque[TaskRecord] = deque()
        self.inflight: dict[bytes, TaskRecord] = {}
        #: What is about to be sent.
        self.batch: Batch | None = None
        #: What goes along with them and is handed over: (task id, place of a ref in the arguments).
        self.handed: set[tuple[bytes, int]] = set()
        self.peer: Peer | None = None
        #: It was not reached at the last try.
        self.away: Away | None = None
        self.incarnation = -1
        #: The newest of what the node manager has said that was, or is being, acted upon.
        self.latest: node.ActorUpdate | None = None
        #: Calls whose process has ended, of which nothing has become yet.
        self.fallen: deque[Fallen] = deque()
        #: Where its process is, while it lives, as the node manager has said.
        self.place: node.ActorUpdate | None = None
        #: Calls that may be under way at a time.
        self.window = MAX_AHEAD
        #: The actor's concurrency groups, once they are known.
        self.groups: Collection[str] | None = None
        #: No call starts there any more; it may still run some.
        self.closed = False
        #: It has ended.
        self.dead = False
        self.cause: node.ExitCause | None = None
        self.error = b""
        #: What the node manager has said, from the end of the process on, while its last replies are still to be read.
        self.held: list[node.ActorUpdate] = []
        #: The entry that keeps the actor alive, or None (detached actors).
        self.life: Any = None
        #: This process has created the actor, and reports the failure of its ``__init__``.
        self.created_here = False
        #: A ref that keeps the actor until its ``__init__`` has ended, as a task runs whose ref was dropped.
        self.creating: Any = None
        #: What this process pins for the actor's ``__init__``, which may run again: arguments, and refs in its class.
        self.creation: tuple[ObjectEntry, ...] = ()
        #: {id of a call with a time limit that runs there beside others: monotonic time when it is over}
        self.limits: dict[bytes, float] = {}
        #: When the first of them is over; 0 if there is none.
        self.looks_at = 0.0
        #: Why the actor cannot be placed, where no node has what it needs: a predicate.
        self.lack = ""
        #: How its process has died again and again, while it is started anew.
        self.crash = ""

    def ended(self, id: bytes) -> TaskRecord | None:
        """The actor reports the end of a call. Returns the call, if it is still under way."""
        return self.inflight.pop(id, None)

    def back(self, record: TaskRecord) -> None:
        """What was reported of a call was none of its ends."""
        self.inflight[record.id] = record

    def has_heard(self, update: node.ActorUpdate) -> bool:
        """Whether it has ended, or the node manager has said something later than this."""
        return self.dead or (self.latest is not None and _age(update) < _age(self.latest))

    def says_ended(self, update: node.ActorUpdate) -> bool:
        """Whether the process that was known so far has ended."""
        return update.incarnation > self.incarnation >= 0 or update.state in (actors.RESTARTING, actors.DEAD)

    def is_to_connect(self, update: node.ActorUpdate) -> bool:
        """Whether its process is the one that ``update`` tells of, and there is no connection to it."""
        place = self.place
        return self.peer is None and not self.dead and place is not None and place.incarnation == update.incarnation

    def forget_batch(self) -> None:
        """What is about to be sent is not to be sent any more."""
        batch, self.batch = self.batch, None
        if batch is not None:
            batch[1][0] = None
        self.handed = set()

    @property
    def ends(self) -> bool:
        """Whether its actor is known to be dead, or about to end."""
        return self.closed or not self.window


def _age(update: node.ActorUpdate) -> tuple[int, int]:
    """Orders what is said of one actor."""
    return update.incarnation, 2 if update.state == actors.DEAD else update.state == actors.ALIVE
