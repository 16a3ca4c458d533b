"""Tasks on their way to a leased worker: made a message, handed to the transport.

Code that interrupts this on its thread may wait for what only these tasks make room for. It finds them in
``Lease.batch``, and sends them itself; the call that it has interrupted finds that, and gives up.

Every method is called under the runtime's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ray.exceptions import UnpicklableError
from ray.messages import codec, wire
from ray.protocol.references import ObjectEntry
from ray.runtime.owner.records import Link, Push, TaskRecord

if TYPE_CHECKING:
    from ray.runtime.owner.handing_over import HandingOver
    from ray.runtime.owner.here import Here


class NotSent(Protocol):
    """Takes tasks back that a message could not be made of: one alone, or those of a whole push."""

    def withdrawn(self, link: Link, record: TaskRecord) -> None: ...
    def unsent(self, link: Link, tasks: Sequence[wire.Task], error: UnpicklableError) -> None: ...


class TaskPushes:
    """The way from the batch of a lease to its worker."""

    def __init__(self, here: Here, handing: HandingOver, not_sent: NotSent) -> None:
        """Make one.

        Args:
            here: this process.
            handing: of what goes along with tasks.
            not_sent: as it says.
        """
        self._here = here
        self._handing = handing
        self._not_sent = not_sent

    def push(self, link: Link) -> None:
        """Send the tasks in the batch, those included that a call was about to send which this one has interrupted."""
        lease, peer, here = link.lease, link.peer, self._here
        batch = lease.batch
        frames: list[Any] = [b""]
        tasks: list[wire.Task] = []
        pushed: dict[bytes, ObjectEntry] = {}
        functions: list[wire.Function] = []
        mine = (frames, pushed, functions, tasks)
        while True:
            begun = link.push
            if begun is None:
                break
            if begun[0][0] is not None:
                begun[0][0] = None  # the call that was to send it gives up
                break
            self._has_left(link, begun)
        if not batch:
            return
        link.push = mine  # no call comes between the look at the other one and this
        address, handed, at_once = here.address, link.handed, self._handing.at_once
        last = None
        for record in [*batch.values()]:
            export = record.export
            if export is not last:
                assert export is not None
                last = export
                if export.hash not in peer.known and all(export.hash != function.hash for function in functions):
                    functions.append(wire.Function(export.hash, codec.attach(export.data, frames), export.name))
            if record.pins:
                self._handing.arguments(record, peer, handed)
            if link.push is not mine:
                return
            try:
                tasks.append(record.to_wire(frames, address, peer, pushed, at_once, self._handing.at))
            except UnpicklableError as error:
                if link.push is not mine:
                    return
                self._not_sent.withdrawn(link, record)
                self._handing.withdraw(link.peer, record, error, pushed)
        if not tasks:
            if link.push is mine:
                link.forget_push()
            return
        try:
            peer.push(wire.Push(tasks, functions, link.gpu_ids, here.depth, lease.cls.resources), frames)
        except UnpicklableError as error:
            if link.push is mine:
                link.forget_push()
                self._not_sent.unsent(link, tasks, error)
            return
        if link.push is mine:
            self._has_left(link, mine)

    def _has_left(self, link: Link, push: Push) -> None:
        """What was about to be sent is with the transport. A call that interrupts this may do the same."""
        _, pushed, functions, tasks = push
        batch = link.lease.batch
        for task in tasks:
            batch.pop(task.id, None)
        if link.push is not push:
            return
        link.push = None
        if link.handed:
            link.handed = set()  # a new one: a call that this one has interrupted goes on with the old one
        peer = link.peer
        if functions:  # not before: a push that interrupts this one must not rely on it
            peer.known.update(function.hash for function in functions)
        if pushed or peer.forgets:
            peer.has_left(pushed)
