"""Tasks on their way to a leased worker: taken from their queue, made a message, handed to the transport.

Code that interrupts this on its thread may wait for what only these tasks make room for. It finds them in
``Link.batch``, and sends them itself; the call that it has interrupted finds that, and gives up.

Every method is called under the runtime's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ray.clock import monotonic
from ray.exceptions import UnpicklableError
from ray.messages import codec, wire
from ray.protocol.references import ObjectEntry
from ray.runtime.owner.records import Link, Push, SchedulingClass

if TYPE_CHECKING:
    from ray.runtime.owner.handing_over import HandingOver
    from ray.runtime.owner.here import Here


class NotSent(Protocol):
    """Takes tasks back whose push could not be encoded."""

    def __call__(self, link: Link, tasks: Sequence[wire.Task], error: UnpicklableError) -> None: ...


class TaskPushes:
    """The way from a class's queue to its workers."""

    def __init__(
        self,
        here: Here,
        links: dict[bytes, Link],
        handing: HandingOver,
        watch: Callable[[SchedulingClass], None],
        not_sent: NotSent,
    ) -> None:
        """Make one.

        Args:
            here: this process.
            links: {lease id: the leased worker}.
            handing: of what goes along with tasks.
            watch: told that tasks of a class wait at a worker behind others.
            not_sent: as it says.
        """
        self._here = here
        self._links = links
        self._handing = handing
        self._watch = watch
        self._not_sent = not_sent

    def catch_up(self) -> None:
        """Calls of this module may have been interrupted by code that waits for what they were about to send."""
        for link in list(self._links.values()):
            if link.batch:
                self.push(link, 0)

    def push(self, link: Link, count: int) -> None:
        """Take up to ``count`` tasks from the queue for a worker, and send them.

        Those that a call was about to send which this one has interrupted go first.
        """
        batch, inflight = link.batch, link.inflight
        if batch and count:
            self.push(link, 0)
        cls, peer, here = link.cls, link.peer, self._here
        queue = cls.queue
        last = None
        while True:
            if count <= 0 or not queue or link.dead:  # here: a call that interrupts this may come behind a loop's head
                break
            record = queue[0]
            if record.done:
                queue.popleft()
                continue
            export = record.export
            if inflight and (record.alone or record.attempt):  # no note of an earlier attempt may say others have begun
                break
            if export is not last:  # nothing waits behind what may take long
                assert export is not None
                last = export
                if count > 1 or inflight:
                    count = min(count, export.pipeline() - len(inflight))
                    if count <= 0:
                        break
                    if not queue or queue[0] is not record or link.dead:  # a call that has interrupted this was quicker
                        continue
            record.link = link
            # At once: from now on nobody takes the link for idle, and whoever interrupts this sends it.
            inflight[record.id] = batch[record.id] = record
            queue.popleft()
            count = 0 if record.alone else count - 1
        frames: list[Any] = [b""]
        tasks: list[wire.Task] = []
        pushed: dict[bytes, ObjectEntry] = {}
        functions: list[wire.Function] = []
        mine = (frames, pushed, functions)
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
        address, handed = here.address, link.handed
        last = None
        for record in [*batch.values()]:
            export = record.export
            if export is not last:
                assert export is not None
                last = export
                if export.hash not in peer.known and all(export.hash != function.hash for function in functions):
                    functions.append(wire.Function(export.hash, codec.attach(export.data, frames), export.name))
            if record.pins:
                self._handing.arguments(record, peer.address, handed)
            if link.push is not mine:
                return
            try:
                tasks.append(record.to_wire(frames, address, peer, pushed))
            except UnpicklableError as error:
                if link.push is not mine:
                    return
                self._handing.withdraw(link, record, error, pushed)
        if not tasks:
            if link.push is mine:
                link.forget_batch()
            return
        ahead = len(inflight)
        if ahead == len(tasks):
            link.progress = monotonic()
        if ahead > 1 and not cls.checking:
            self._watch(cls)
        try:
            peer.push(wire.Push(tasks, functions, link.gpu_ids, here.depth, cls.resources), frames)
        except UnpicklableError as error:
            if link.push is mine:
                link.forget_batch()
                self._not_sent(link, tasks, error)
            return
        if link.push is mine:
            self._has_left(link, mine)

    def _has_left(self, link: Link, push: Push) -> None:
        """What was about to be sent is with the transport."""
        link.push = None
        link.batch.clear()
        if link.handed:
            link.handed = set()  # a new one: a call that this one has interrupted goes on with the old one
        _, pushed, functions = push
        peer = link.peer
        if functions:  # not before: a push that interrupts this one must not rely on it
            peer.known.update(function.hash for function in functions)
        if pushed or peer.forgets:
            peer.has_left(pushed)
