"""Wire structs. Append-only: new fields go last, with a default; a number once used as a tag is never reused.

``Data`` is a value's bytes: in the struct when small, else the index of an out-of-band frame of the same message.
Processes are named by their ids; an address says where to dial, and nothing else.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

#: Limits that a decoder sees to: what is beyond them is no message.
Count: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 32)]
Depth: TypeAlias = Annotated[int, Meta(ge=0, lt=1 << 31)]
Amount: TypeAlias = Annotated[int, Meta(ge=0)]
"""Of a resource, in fixed point."""
Seconds: TypeAlias = Annotated[float, Meta(ge=0)]

#: Bytes in place, or the index (≥ 1) of the frame that holds them.
Data: TypeAlias = bytes | Annotated[int, Meta(ge=1)]


class Struct(msgspec.Struct, frozen=True, array_like=True, gc=False, omit_defaults=True):
    """Base of everything that is not a message of its own."""


# --- between owners and workers -----------------------------------------------------------------------------------


class At(Struct, frozen=True):
    """Where a large value is that travels between nodes by itself: see ``ray.ids.stored_id``."""

    node: Count
    """Whose store has it."""
    nbytes: Amount
    edition: Count = 0


class Ref(Struct, frozen=True):
    """A reference inside a value. The object's id begins with that of its owner."""

    id: bytes
    address: str
    """Where to dial the owner."""
    credits: Count = 0
    """Inside an argument: credits that the submitter, if it is not the owner, has registered for the receiver. Inside
    another value: credits that its owner, which is the receiver as well, has registered for itself."""
    status: int = 0
    """What the sender knows of the object: one of the states of ``ray.protocol.references``, or 0."""
    value: bytes = b""
    """A small value, or the envelope of the failure."""
    nbytes: int = 0
    """Size of a value that is in the store of the node, which is the receiver's as well."""


class Dependency(Struct, frozen=True):
    """A top-level argument that was a ref: where it goes, and its value (or its place in the store)."""

    at: int | str
    """Position of a positional argument, or the name of a keyword argument."""
    data: Data | None
    """None: kept by the receiver from an earlier push, or in the node's store under ``id``; a receiver on another node
    asks the owner for it."""
    id: bytes
    address: str
    """Where to dial the owner of the object."""
    refs: list[Ref] = []
    away: At | None = None
    """Where the value is, if it is in the store of another node than the sender's, or than the receiver's."""


class Resume(Struct, frozen=True):
    """Where a stream goes on whose task is run again: what its owner has got of the earlier attempts is skipped."""

    streamed: Count
    ahead: list[Amount]
    """Sizes in bytes of the last ones of those: their consumer has not taken them yet."""


class Task(Struct, frozen=True):
    """One execution of a function or of an actor method."""

    id: bytes
    function: bytes
    """Hash of the function; for an actor call the method's name in UTF-8."""
    args: Data
    num_returns: int = 1
    name: str = ""
    deps: list[Dependency] = []
    refs: list[Ref] = []
    """Refs inside the arguments, covered by the submitter until the reply."""
    attempt: Count = 0
    timeout_s: Seconds = 0.0
    """0: no limit."""
    max_calls: int = 0
    actor: bytes = b""
    """Id of the actor for a call, empty for a task."""
    group: str = ""
    retry: bytes = b""
    """Pickled exception types to retry on, or ``*`` for all; opaque to control processes."""
    stored: bytes = b""
    """Id of the object that holds the arguments, where they are too large to send, or cannot be read at once for a
    receiver on another node, which asks for them; ``args`` is empty then."""
    resume: Resume | None = None


class Done(Struct, frozen=True):
    """The end of one execution."""

    id: bytes
    ok: bool
    values: list[Data | None]
    """Blob of each return, None where it is in the node's store, the owner's too; on failure one error envelope."""
    duration_us: Amount = 0
    kept: list[bytes] = []
    """Ids of argument refs that this process still holds: the submitter registers a credit for each."""
    refs: list[list[Ref]] = []
    """Refs inside each return value; the worker has registered one credit for the submitter on each."""
    sizes: list[int] = []
    retry: bool = False
    """The failure is one the submitter asked to retry on."""
    away: list[At | None] = []
    """Where the values are that are in the store of the worker's node, and not the owner's: one for each, or none."""


class Function(Struct, frozen=True):
    """A function or class in pickled form."""

    hash: bytes
    data: Data
    name: str = ""


class Again(Struct, frozen=True):
    """An end of a conversation, whose connection was lost, dials anew. See ``ray.protocol.conversations``."""

    have: Amount
    """It has all messages of the other end up to this number,"""
    ahead: list[Amount] = []
    """and these."""
    known: bool = False
    """The other end knows of the conversation, unless it has ended it."""


class Hello(Struct, frozen=True, tag=1):
    """First message on a connection, from the end that has opened it."""

    protocol: int
    session: str
    kind: str
    process: bytes
    """Empty where the node manager is to give it one."""
    address: str
    pid: int
    node: Count = 0
    """Number of its node; 0 where it does not know it yet."""
    job: str = ""
    digest: str = ""
    """Of its plan."""
    to: bytes = b""
    """Id of the process that it wants; empty where any process there will do."""
    talk: bytes = b""
    """Id of the conversation that begins or goes on: with a process of another node."""
    again: Again | None = None
    """It goes on; answered with ``GoesOn`` or ``Forgotten``."""


class GoesOn(Struct, frozen=True, tag=19):
    """The answer to ``Hello``: go on; I have all of your messages up to this number, and those ahead."""

    have: Amount
    ahead: list[Amount] = []
    talk: bytes = b""
    """My id of the conversation, where I have begun it as well, and you may not have heard of that."""


class Forgotten(Struct, frozen=True, tag=20):
    """The conversation is over: I do not have any more what it takes to go on."""


class Got(Struct, frozen=True, tag=21):
    """I have all of your messages up to this number, and those ahead."""

    have: Amount
    ahead: list[Amount] = []


class Welcome(Struct, frozen=True, tag=17):
    """Node manager to a process that it has accepted: the answer to its Hello."""

    node: Count
    process: bytes
    """The id of the process that is welcome, from here on."""
    job: str
    digest: str
    serves: bool = False
    """Processes of other nodes may read what is in the store of this one."""


class Push(Struct, frozen=True, tag=2):
    """Owner to worker: run these, in order."""

    tasks: list[Task]
    functions: list[Function] = []
    gpu_ids: list[str] = []
    depth: Depth = 0
    """How many tasks deep the submitter is."""
    resources: dict[str, Amount] = {}


class Replies(Struct, frozen=True, tag=3):
    """Worker to owner: these have ended."""

    done: list[Done]
    exiting: bool = False
    """The process ends by plan (``max_calls``, ``exit_actor``); unstarted tasks are in ``returned``."""
    returned: list[bytes] = []
    reason: str = ""
    """Why an actor is to end, never to be started anew: what it returns starts nowhere."""


class Recall(Struct, frozen=True, tag=4):
    """Owner to worker: give back what has not started. Answered with ``Returned``."""

    id: bytes = b""


class Returned(Struct, frozen=True, tag=5):
    """Worker to owner: these were not started and will not be."""

    tasks: list[bytes]
    blocked: bool = False
    """The worker waits for others and takes no new tasks until ``Unblocked``."""
    recall: bytes = b""
    """The recall that this answers; empty: it gives them back by itself."""
    settled: bool = False
    """The recall was in force, and what it revoked is dropped."""


class Unblocked(Struct, frozen=True, tag=6):
    """Worker to owner: it takes tasks again."""


class Cancel(Struct, frozen=True, tag=7):
    """Owner to worker: cancel one task, queued or running.

    ``again``: also one that was cancelled before, and has gone on.
    """

    task: bytes
    recursive: bool = True
    again: bool = False


class Fetch(Struct, frozen=True, tag=8):
    """Borrower to owner: send the value as soon as there is one."""

    id: bytes


class Fetched(Struct, frozen=True, tag=9):
    """Owner to borrower. ``status`` is one of the states of ``ray.protocol.references``; STORED within a node only."""

    id: bytes
    status: int
    data: Data | None
    refs: list[Ref] = []
    nbytes: int = 0
    away: At | None = None
    """AWAY: where the value is."""


class Credit(Struct, frozen=True, tag=18):
    """To an owner: the process ``borrower`` was handed ``credits`` of ``id`` (negative: returns them)."""

    id: bytes
    borrower: bytes
    credits: Annotated[int, Meta(gt=-(1 << 32), lt=1 << 32)]
    address: str = ""
    """Where to dial the borrower; empty where it returns."""
    given: list[tuple[bytes, Count]] = []
    """Of what it returns: what processes of other nodes than the owner's had handed it."""


class Holds(Struct, frozen=True, tag=22):
    """To an owner: I keep ``id``, which I have from a process of another node than yours, and was handed so many
    credits.
    """

    id: bytes
    credits: Count
    given: list[tuple[bytes, Count]] = []
    """(Id of a process of another node than yours, what it has handed me)."""


class Terminate(Struct, frozen=True, tag=11):
    """To an actor: end after the calls received so far."""


class Forget(Struct, frozen=True, tag=13):
    """Owner to worker: you need not keep these argument values any longer."""

    ids: list[bytes]


class Yielded(Struct, frozen=True, tag=14):
    """Worker to owner: a task with ``num_returns`` -1 has yielded its object number ``index``."""

    task: bytes
    index: Count
    data: Data | None
    """None: in the node's store, which is the owner's."""
    refs: list[Ref] = []
    nbytes: int = 0
    full: bool = False
    """It waits for ``Taken`` before it goes on."""
    away: At | None = None
    """Where the value is, if it is in the store of the worker's node, and not the owner's."""


class Taken(Struct, frozen=True, tag=15):
    """Owner to worker: so many objects of a stream have been taken by their consumer, in all."""

    task: bytes
    count: int


class Began(Struct, frozen=True, tag=16):
    """Worker to owner: a call with a time limit has begun, beside others, and its clock runs."""

    task: bytes
    over: bool = False
    """Its time is over, and its process has heard of that and sees to its end."""
    ended: bool = False
    """Its code has ended in time, and its clock is stopped; the result follows when its output has been taken."""


class CancelMade(Struct, frozen=True, tag=12):
    """To an owner, from a borrower: cancel the task that makes ``id``."""

    id: bytes
    force: bool
    recursive: bool = True
    again: bool = False
