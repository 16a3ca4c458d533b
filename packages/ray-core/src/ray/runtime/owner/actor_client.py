"""What a process keeps about its way to one actor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ray.protocol.call_records import Callee
from ray.protocol.references import ObjectEntry
from ray.runtime.interface import Client
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.runtime.process.peers import Peer
    from ray.runtime.refs.ref import ObjectRef

#: A message that is being made: frames (see ``Peer.push``), {call id: call} of those in it that were about to be sent
#: by the one that this one has interrupted, the same of the others, and the large values that go along.
CallPush: TypeAlias = tuple[list[Any], dict[bytes, TaskRecord], dict[bytes, TaskRecord], dict[bytes, ObjectEntry]]


class ActorClient(Client):
    """This process's way to one actor."""

    __slots__ = ("callee", "calls", "creating", "creation", "handed", "inflight", "life", "peer", "push")

    def __init__(self, calls: object, callee: Callee[TaskRecord]) -> None:
        #: Whose client it is; tells handles of an ended session.
        self.calls = calls
        self.callee = callee
        #: That of the callee.
        self.inflight = callee.inflight
        self.peer: Peer | None = None
        #: What is being sent …
        self.push: CallPush | None = None
        #: … and what is handed over with it: (task id, place of a ref in the arguments).
        self.handed: set[tuple[bytes, int]] = set()
        #: The entry that keeps the actor alive, or None (detached actors).
        self.life: ObjectEntry | None = None
        #: A ref that keeps the actor until its ``__init__`` has ended, as a task runs whose ref was dropped.
        self.creating: ObjectRef[Any] | None = None
        #: What this process pins for the actor's ``__init__``, which may run again: arguments, and refs in its class.
        self.creation: tuple[ObjectEntry, ...] = ()

    def forget_push(self) -> None:
        """What is about to be sent is not to be sent any more."""
        push, self.push = self.push, None
        if push is not None:
            push[0][0] = None
        self.handed = set()
