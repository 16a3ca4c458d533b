"""What the server knows of one object and of one client, and what its state machines ask to be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from ray_store_plasma.messages import Reply

#: States of an object. It waits for room, is written by its creator, and is sealed; if its only copy, on the disk,
#: proves to be damaged it is lost, which is remembered until the id is deleted or created again.
WAITING, CREATED, SEALED, LOST = "waiting", "created", "sealed", "lost"
#: What the disk does with it now.
STILL, GOES_OUT, COMES_IN = "still", "goes out", "comes in"


class Violation(Exception):  # noqa: N818 - it is the client's, not an error of ours
    """A client has done what no client of ours does: it is to be disconnected."""


class Stored:
    """One object, from the request for room to the last byte's return."""

    __slots__ = (
        "answers",
        "checksum",
        "creator",
        "deadline",
        "deleted",
        "disk_refused",
        "holders",
        "moving",
        "nbytes",
        "number",
        "object_id",
        "offset",
        "pinned",
        "place",
        "serial",
        "state",
    )

    def __init__(self, serial: int, object_id: bytes, nbytes: int, creator: int, number: int) -> None:
        self.serial = serial
        self.object_id = object_id
        self.nbytes = nbytes
        self.state = WAITING
        #: The client that creates it, and the number of its request; the client is 0 once the object is sealed.
        self.creator, self.number = creator, number
        #: Of its head in the arena; None: it is not there.
        self.offset: int | None = None
        #: In the spill file; None: it is not there. Two places: the copy on the disk is good for the next time.
        self.place: int | None = None
        self.checksum = 0
        self.moving = STILL
        self.pinned = True
        #: The id is not its any more. It goes when nobody uses it.
        self.deleted = False
        #: {client: how many holds}
        self.holders: Counter[int] = Counter()
        #: Requests that wait for it to come back from the disk: (client, number).
        self.answers: list[tuple[int, int]] = []
        #: While it waits for room: until when, and whether the disk could not take what was to go out for it.
        self.deadline = 0.0
        self.disk_refused = False

    @property
    def is_idle(self) -> bool:
        """Whether its memory may be taken."""
        return self.state == SEALED and self.offset is not None and not self.holders and self.moving == STILL


class Client:
    """What one connection has of the store."""

    __slots__ = ("creating", "holds", "pid", "subscriptions")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        #: Serials of objects that it has not sealed yet.
        self.creating: set[int] = set()
        #: Serials of objects that it holds.
        self.holds: set[int] = set()
        self.subscriptions: set[bytes] = set()


# Effects, in the order in which they are to be done.


class Send(NamedTuple):
    """Reply to a client."""

    client: int
    reply: Reply


class Tell(NamedTuple):
    """Notify a client."""

    client: int
    object_id: bytes
    nbytes: int


class Mark(NamedTuple):
    """Write the serial into the head at ``offset``; 0: there is no such object any more."""

    offset: int
    serial: int


class WriteOut(NamedTuple):
    """Copy from the arena to the spill file, then report with ``written``."""

    serial: int
    offset: int
    nbytes: int
    place: int


class ReadBack(NamedTuple):
    """Copy from the spill file to the arena, then report with ``read``."""

    serial: int
    offset: int
    nbytes: int
    place: int
    checksum: int


class Trim(NamedTuple):
    """The spill file does not need these bytes any more."""

    place: int
    size: int


Effect: TypeAlias = Send | Tell | Mark | WriteOut | ReadBack | Trim


def describe(entries: Iterable[Stored], clients: dict[int, Client]) -> str:
    """``<id> 5,000 bytes held by 41`` for each."""
    return ", ".join(f"{entry.object_id.hex()} {entry.nbytes:,} bytes {_use(entry, clients)}" for entry in entries)


def pids(entry: Stored, clients: dict[int, Client]) -> list[int]:
    """Of the processes that hold it, or create it."""
    users = [entry.creator, *entry.holders] if entry.creator else entry.holders
    return sorted({clients[user].pid for user in users if user in clients})


def _use(entry: Stored, clients: dict[int, Client]) -> str:
    numbers = ", ".join(map(str, pids(entry, clients)))
    if entry.creator:
        return f"being written by {numbers}"
    return f"held by {numbers}" if numbers else "held by references alone"
