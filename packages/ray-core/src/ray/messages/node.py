"""Wire structs between the node manager and the processes of its node. Rules as in ``ray.messages.wire``."""

from __future__ import annotations

from ray.messages.placement import Placement
from ray.messages.wire import Amount, Count, Dependency, Depth, Ref, Struct

# --- leases ---------------------------------------------------------------------------------------------------------


class Demand(Struct, frozen=True, tag=31):
    """Owner: I can use ``count`` more workers of this class now. Replaces its earlier demand for ``key``."""

    key: int
    resources: dict[str, Amount]
    count: Count
    depth: Depth = 0
    priority: int = 0
    name: str = ""
    placement: Placement | None = None
    prefer: Count = 0
    """The node that has most of what these tasks take as arguments, 1 MiB more than others at least; 0: none has."""


class Granted(Struct, frozen=True, tag=32):
    """Node manager: this worker is yours until ``Release``, ``LeaseEnded`` or your own end."""

    key: int
    lease: bytes
    address: str
    pid: int
    gpu_ids: list[str] = []
    process: bytes = b""
    """The worker's id; ``address`` says where to dial it."""


class Release(Struct, frozen=True, tag=33):
    """Owner: I am done with the lease. ``retired``: the worker ends itself and must not be granted again."""

    lease: bytes
    retired: bool = False


class Revoke(Struct, frozen=True, tag=34):
    """Node manager: others wait; release the lease when what runs there has ended."""

    lease: bytes
    soft: bool = False
    """Only when there is no more work for it."""


class Infeasible(Struct, frozen=True, tag=62):
    """Node manager: what you asked for with ``key`` no node has at all."""

    key: int
    lack: str = ""
    """What is needed and what there is: a predicate."""
    fails: bool = False
    """No node that may come can change that: what waits for it has failed."""


class ExitCause(Struct, frozen=True):
    """How a process ended, as far as its parent knows."""

    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    stderr: list[str] = []
    pid: int = 0
    oom: bool = False
    running: bytes = b""
    """Id of the task it started last; zeros if it started none, or has answered all; empty if unknown."""
    restarts: int = 0
    """Of an actor that is not started again because it was so often: as often as it may be."""
    began: bytes = b""
    """Of a process that is about to be ended: id of a task that it has started; it may start others yet."""
    node: str = ""
    """What messages call the node, where that has died as a whole."""
    unplaced: bool = False
    """Of an actor that has no process as no node can have it; ``reason`` says why."""


class LeaseEnded(Struct, frozen=True, tag=35):
    """Node manager: the leased worker is dead."""

    lease: bytes
    cause: ExitCause


class Suspect(Struct, frozen=True, tag=36):
    """Owner: my connection to the leased worker is gone; tell me how it ended, and end it if it has not."""

    lease: bytes


class KillLease(Struct, frozen=True, tag=37):
    """Owner: kill the worker of my lease if it runs this task: a forced cancel."""

    lease: bytes
    running: bytes
    reason: str


class RecallLease(Struct, frozen=True, tag=80):
    """Owner: the worker of my lease does not answer this recall, as its interpreter is busy. See to it."""

    lease: bytes
    recall: bytes


class LeaseRecalled(Struct, frozen=True, tag=81):
    """Node manager: what has become of the recall."""

    lease: bytes
    recall: bytes
    in_force: bool = False
    """The worker starts nothing any more of what it holds but ``running``; else it answers the recall by itself."""
    running: bytes = b""
    """Id of the task that it has started last, whether that has ended or not; zeros if it has started none."""


class Interrupt(Struct, frozen=True, tag=82):
    """Owner: the worker that has my cancelled task has not ended it. Interrupt it; one of the two places is given.

    Answered with ``CallRevoked`` where it is a call that the actor does not run.
    """

    task: bytes
    lease: bytes = b""
    actor: bytes = b""


class CallRevoked(Struct, frozen=True, tag=86):
    """Node manager to the owner of a cancelled call: the actor does not run it, and will not start it any more."""

    task: bytes
    actor: bytes
    running: bytes = b""
    """Id of the call that the actor has started last, of any caller; zeros if it has started none."""


class Limited(Struct, frozen=True, tag=83):
    """Worker: I run a call that is to end by this time, in seconds of the machine's monotonic clock."""

    until: float


class Overdue(Struct, frozen=True, tag=84):
    """Node manager to an owner: its task is over its time, and the worker is too busy to say so."""

    task: bytes


class Blocked(Struct, frozen=True, tag=38):
    """Worker: my task waits for other tasks; my CPU is free."""


class Resumed(Struct, frozen=True, tag=39):
    """Worker: it goes on."""


class Ready(Struct, frozen=True, tag=57):
    """Worker: started and listening; may be leased."""

    worker: bytes
    address: str


# --- actors ---------------------------------------------------------------------------------------------------------


class ActorSpec(Struct, frozen=True):
    """Everything needed to start, and restart, an actor. ``handle`` is opaque to the node manager."""

    id: bytes
    class_name: str
    function: bytes
    code: bytes
    args: bytes
    address: str
    """Where to dial its owner, whose id its own begins with."""
    resources: dict[str, Amount]
    placement: dict[str, Amount]
    handle: bytes
    deps: list[Dependency] = []
    refs: list[Ref] = []
    name: str = ""
    namespace: str = ""
    max_concurrency: int = 0
    max_restarts: int = 0
    detached: bool = False
    is_async: bool = False
    groups: dict[str, int] = {}
    depth: Depth = 0
    stored: bytes = b""
    """Id of the object that holds the arguments, where they are too large to send; ``args`` is empty then."""
    where: Placement | None = None


class CreateActor(Struct, frozen=True, tag=40):
    """Owner: start this actor; answered by ``Answer`` (name taken or not), then by ``ActorUpdate``."""

    request: int
    spec: ActorSpec
    ready: bool = True
    """False: its arguments are not there, so that neither they nor its code are in ``spec``; another one follows."""


class ActorUpdate(Struct, frozen=True, tag=41):
    """Node manager, to every process that asked: where the actor is. ``state``: starting, alive, restarting, dead."""

    id: bytes
    state: str
    incarnation: int
    address: str = ""
    pid: int = 0
    cause: ExitCause | None = None
    error: bytes = b""
    """Envelope of the exception that ``__init__`` raised."""
    class_name: str = ""
    concurrent: bool = False
    """Calls may overlap there: nobody may hold one back until another has ended."""
    lack: str = ""
    """Why it cannot be placed, where no node has what it needs: a predicate."""
    places: int = 1
    """How many calls run at a time, besides those of concurrency groups."""
    groups: list[str] = []
    """Its concurrency groups."""
    process: bytes = b""
    """Id of the process that is the actor; ``address`` says where to dial it."""


class WatchActor(Struct, frozen=True, tag=42):
    """Caller: keep me told about this actor; answered at once with its state."""

    id: bytes


class KillActor(Struct, frozen=True, tag=43):
    """Any process: end the actor's process now; answered when the signal is sent (not ok: no such actor)."""

    request: int
    id: bytes
    no_restart: bool
    reason: str
    error: bytes = b""
    """Envelope of the exception that kept its creator from starting it."""


class StartActor(Struct, frozen=True, tag=44):
    """Node manager to worker: become this actor."""

    spec: ActorSpec
    incarnation: int
    gpu_ids: list[str] = []


class ActorStarted(Struct, frozen=True, tag=45):
    """Worker: ``__init__`` has ended; ``error`` is its envelope, empty if all is well."""

    id: bytes
    error: bytes = b""


class ActorExiting(Struct, frozen=True, tag=46):
    """Worker: this actor ends by its own will; no restart."""

    id: bytes
    reason: str


class ActorUnheld(Struct, frozen=True, tag=58):
    """Owner: nobody holds a handle any more; end the actor after the calls it has received."""

    id: bytes


# --- questions, errors, logs -----------------------------------------------------------------------------------------


class Question(Struct, frozen=True, tag=48):
    """Any process: ``what`` names the question; ``data`` is msgpack."""

    request: int
    what: str
    data: bytes = b""


class Answer(Struct, frozen=True, tag=49):
    """The answer to the request of the same number on this connection."""

    request: int
    ok: bool
    data: bytes = b""
    error: str = ""
    unavailable: bool = False
    """Not ok, for want of a control store or of a director."""


class ErrorRecord(Struct, frozen=True):
    """One row of ``ray.error_info()``."""

    type: str
    message: str
    timestamp: float
    task_id: str = ""
    actor_id: str = ""
    pid: int = 0
    function: str = ""


class RecordError(Struct, frozen=True, tag=50):
    """A failure for ``ray.error_info``; the node manager tells the driver of its own in the same form."""

    record: ErrorRecord


class Logs(Struct, frozen=True, tag=51):
    """Node manager to driver: lines that a worker wrote. ``stream``: 1 is stdout, 2 is stderr."""

    pid: int
    name: str
    stream: int
    lines: list[bytes]
    dropped: int = 0
    rest: bytes = b""
    """The newest state of a line that has no end yet, instead of lines; a carriage return alone takes it away."""
    node: str = ""
    """What messages call the node of the worker, where that is not the driver's."""


class Printed(Struct, frozen=True, tag=85):
    """Driver to node manager: so much more of what workers printed is dealt with; in the unit that both know."""

    amount: Amount


class ShowFailure(Struct, frozen=True, tag=59):
    """Worker to node manager to driver: a failure in a nested task that nobody has asked for."""

    text: str


class TaskEvents(Struct, frozen=True, tag=60):
    """Owner to node manager: ends of tasks, for the event sinks. Only sent where the plan has sinks."""

    rows: list[tuple[str, str, str, int, int]]
    """Task id, name, ``finished`` or ``failed``, duration in microseconds, attempt."""
    dropped: int = 0


class Ping(Struct, frozen=True, tag=52):
    """Are you there? Answered with ``Pong``."""

    number: int


class Pong(Struct, frozen=True, tag=53):
    """I am."""

    number: int


class Stop(Struct, frozen=True, tag=54):
    """Driver whose node this is: end the node and everything on it."""


class Ending(Struct, frozen=True, tag=63):
    """Node manager to driver: the node ends without having been asked to."""

    reason: str


class Exit(Struct, frozen=True, tag=56):
    """Node manager to idle worker: end now, orderly, or answer with ``Stay``."""


class Collect(Struct, frozen=True, tag=71):
    """Node manager to every process: look for handles that only a cycle of references keeps; others wait for room."""


class Lingering(Struct, frozen=True, tag=64):
    """Worker to node manager: its last call has ended, and it ends when nobody needs what it owns any more."""


class Leaving(Struct, frozen=True, tag=70):
    """Worker to node manager: its last call has ended; unless it lingers, it ends soon or is to be killed."""

    reason: str = ""
    """Why it ends, where that was neither planned nor announced."""
    needed: bool = False
    """Others need what it owns or has submitted, so it will linger."""


class Stay(Struct, frozen=True, tag=61):
    """Worker to node manager: others need what it owns or has submitted, so it did not end."""
