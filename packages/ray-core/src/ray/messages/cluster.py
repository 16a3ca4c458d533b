"""Wire structs between node managers. Rules as in ``ray.messages.wire``.

The home of a process is the node manager of its node. Between a home and a lender the messages of ``ray.messages.node``
mean what they mean between an owner and its node manager: the home speaks for its owners.
"""

from __future__ import annotations

from ray.ids import node_bytes, node_title
from ray.messages.node import ActorSpec, ExitCause
from ray.messages.wire import Amount, Count, Depth, Struct


class NodeRecord(Struct, frozen=True):
    """What others know of a node."""

    number: Count
    address: str
    """Of its node manager."""
    name: str = ""
    hostname: str = ""
    pid: int = 0
    total: dict[str, Amount] = {}
    labels: dict[str, str] = {}
    host: str = ""
    """Where other nodes reach it."""

    @property
    def node_id(self) -> str:
        """As users know it."""
        return node_bytes(self.number).hex()

    @property
    def title(self) -> str:
        """How messages name it."""
        return node_title(node_bytes(self.number), self.name, self.host)


class KeptNode(Struct, frozen=True):
    """What the control store has of a node."""

    record: NodeRecord
    state: str
    cause: str = ""
    """Why it is dead."""
    term: Count = 0
    """Of the director that has written this."""
    proofs: Count = 0
    """How often the node itself has shown here that it lives."""


class KeptDirector(Struct, frozen=True):
    """What the control store has of the node that directs the others."""

    record: NodeRecord
    term: Count
    """Higher than that of every director before."""


# --- membership ------------------------------------------------------------------------------------------------------


class Join(Struct, frozen=True, tag=100):
    """A node to the director: let me be one of you, or: I am one. Answered with ``Roster`` or ``JoinRefused``."""

    record: NodeRecord
    term: Count = 0
    """Of the newest director that it has heard of; 0: it is new."""


class JoinRefused(Struct, frozen=True, tag=101):
    """Director: no."""

    reason: str


class Roster(Struct, frozen=True, tag=102):
    """Director to every node: these are alive, and those have died. It replaces every older one of its term."""

    version: int
    alive: list[NodeRecord]
    dead: list[tuple[int, str]] = []
    """(number, why) of the newest."""
    term: Count = 0
    """Of the director: an order of a lower one than is known is refused."""


class Beat(Struct, frozen=True, tag=103):
    """A node to the director: I live, and know that roster."""

    number: int
    version: int = 0


class Heard(Struct, frozen=True, tag=104):
    """Director: I have heard that beat."""

    number: int


class ClusterOver(Struct, frozen=True, tag=126):
    """Director to every node: I was asked to end, and the cluster ends with me."""


class SuspectNode(Struct, frozen=True, tag=105):
    """A node to the director: I have lost my connection to that one."""

    number: Count


class LeaveCluster(Struct, frozen=True, tag=106):
    """A node to the director: I end."""

    reason: str = ""


# --- leases ----------------------------------------------------------------------------------------------------------


class Load(Struct, frozen=True, tag=110):
    """A node to the homes that are connected to it: what is free here."""

    free: dict[str, int]


class Borrow(Struct, frozen=True, tag=111):
    """Home: lend me so many workers of this kind now. Each comes as ``Granted`` with this number as its key."""

    number: int
    resources: dict[str, Amount]
    count: Count
    job: str
    depth: Depth = 0
    priority: int = 0
    name: str = ""
    for_life: bool = False
    """For an actor."""
    claims: bool = False
    """No node is known to have room: where other jobs have more here, some of it is wanted when their tasks have ended.

    What is refused now, an ``Offer`` may follow for.
    """
    has_none: bool = False
    """With ``claims``: the job has no worker for tasks at all, as far as its home knows."""


class Refuse(Struct, frozen=True, tag=112):
    """Lender: so many of those I do not lend."""

    number: int
    count: Count


class Offer(Struct, frozen=True, tag=125):
    """Lender to a home that has claimed: room for one such worker is kept, for that job alone and for a moment.

    Answered with ``Borrow``: for one, or for none.
    """

    job: str
    resources: dict[str, Amount]
    for_life: bool = False
    """For an actor."""


class Abandon(Struct, frozen=True, tag=113):
    """Home: the owner of these leases has died; end their workers."""

    leases: list[bytes]
    reason: str = ""


class LeasesLent(Struct, frozen=True, tag=123):
    """Lender, on each new connection of a home: that is all that I have lent to you. Answered with ``LeasesHeld``."""

    leases: list[bytes]
    number: Count = 0
    """The answer has it as well: one to an earlier list says nothing of what was lent since."""


class LeasesHeld(Struct, frozen=True, tag=124):
    """Home: those of them I have; I know nothing of the others."""

    leases: list[bytes]
    number: Count = 0
    """Of the list that this answers."""


class AdoptJob(Struct, frozen=True, tag=114):
    """Home, before the first worker of a job is lent: what that job wants."""

    job: str
    config: bytes
    """A ``JobConfig`` as JSON."""


class JobOver(Struct, frozen=True, tag=115):
    """Home: the driver of that job has ended, and this home needs no more workers for it."""

    job: str
    goes_on: bool = False
    """Its driver has not, as far as is known; this home alone needs none."""


class JobPrinted(Struct, frozen=True, tag=122):
    """Home: so much more of what workers of that job printed is dealt with; in the unit that both know."""

    job: str
    amount: Amount


class ToDriver(Struct, frozen=True, tag=116):
    """Lender to home: for the driver of a job."""

    job: str
    message: bytes
    """A message of one frame."""


class ToProcess(Struct, frozen=True, tag=117):
    """Home to the node manager of a process: pass this on."""

    process: bytes
    message: bytes
    """A message of one frame."""


class OfProcess(Struct, frozen=True, tag=118):
    """Lender to the home of a lease: the leased worker says this."""

    process: bytes
    message: bytes
    """A message of one frame."""


class KillProcess(Struct, frozen=True, tag=119):
    """Keeper of an actor to the node manager of its process: end it now."""

    process: bytes
    reason: str


class ShrinkLease(Struct, frozen=True, tag=120):
    """Keeper of an actor: it runs, and from here on the lease holds only this."""

    lease: bytes
    resources: dict[str, Amount]


class ExpectProcess(Struct, frozen=True, tag=121):
    """Keeper of an actor: its process is ending in order; see that it comes to that."""

    process: bytes


# --- questions -------------------------------------------------------------------------------------------------------


class DemandRow(Struct, frozen=True):
    """What processes of one node wait for, of one kind."""

    home: str
    """The node, as 8 hexadecimal digits."""
    job: str
    name: str
    resources: dict[str, Amount]
    count: Count
    """Workers."""
    reason: str
    """Why they are not there: a clause."""
    waited_ms: Count = 0
    """For how long the oldest has waited; 0 where that was not looked at."""


class AskDemands(Struct, frozen=True, tag=146):
    """A node manager to another one: what waits at you? Answered with ``Demands`` of the same number."""

    number: Count


class Demands(Struct, frozen=True, tag=147):
    """That is what waits here."""

    number: Count
    rows: list[DemandRow]


# --- actors that the director keeps ----------------------------------------------------------------------------------


class BornActor(Struct, frozen=True):
    """What the control store has of an actor for as long as it lives: all that it takes to start it anew."""

    spec: ActorSpec
    job: str
    config: bytes
    """What its job wants: a ``JobConfig`` as JSON."""
    ready: bool = True
    """False: its arguments are not there, so that neither they nor its code are in ``spec``."""


class KeptActor(Struct, frozen=True):
    """What the control store has of an actor: where its newest process is, or why it is dead."""

    id: bytes
    incarnation: Count = 0
    process: bytes = b""
    """Id of its process; empty: it has none yet, or none any more."""
    pid: int = 0
    address: str = ""
    dead: bool = False
    cause: ExitCause | None = None
    error: bytes = b""
    exiting: str = ""
    """It has announced its end, for this reason, and has no name any more."""
    class_name: str = ""
    """With ``name``, ``namespace`` and ``owner``: what is known of it once it is dead."""
    name: str = ""
    namespace: str = ""
    owner: str = ""
    kills: list[tuple[bytes, int]] = []
    """(Id of a home, number of its last order to end a process that another one follows): it is carried out."""


class Order(Struct, frozen=True, tag=140):
    """Home to the director, for a process of its own: do this about an actor. Answered with ``Ordered``.

    An order that is not answered is given again, to the next director as well. Orders of one home are in order.
    """

    number: int
    job: str
    """Of the process; empty where the director need not know it."""
    message: bytes
    """A message of one frame: ``CreateActor``, ``KillActor``, ``ActorUnheld`` or ``ProcessGone``."""


class Ordered(Struct, frozen=True, tag=141):
    """Director: it is done, and on record; or it cannot be."""

    number: int
    ok: bool = True
    error: str = ""
    unavailable: bool = False
    """For want of a control store."""


class ProcessGone(Struct, frozen=True, tag=142):
    """In an order: this process has ended, which has made actors."""

    process: bytes


class StartDirected(Struct, frozen=True, tag=143):
    """Director to a lender: let the worker of that lease be this actor. The lease is the lender's own from then on."""

    term: Count
    lease: bytes
    spec: ActorSpec
    incarnation: Count
    gpu_ids: list[str] = []
    process: bytes = b""
    """Id of the worker. If it cannot be the actor, the lender says of this process that it has ended."""


class AskHosted(Struct, frozen=True, tag=144):
    """Director: tell me of all actors that you host for directors, and from now on of every change."""

    term: Count
    number: Count = 0
    """Of the question."""


class HostedActor(Struct, frozen=True):
    """One process of an actor that a director keeps, on the node that says this."""

    id: bytes
    incarnation: Count
    process: bytes
    state: str
    cause: ExitCause | None = None
    error: bytes = b""
    exiting: str = ""
    begun: bool = True
    """It had come to the actor's own code, if it is dead."""


class Hosting(Struct, frozen=True, tag=145):
    """Host to the director: these have changed; or all that there are."""

    actors: list[HostedActor]
    whole: bool = False
    """All that run here, and the last of those that have ended: the answer to a question."""
    number: Count = 0
    """Of the question. What has begun since it was asked may be missing."""
