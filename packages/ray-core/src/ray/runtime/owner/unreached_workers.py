"""What a process does about leased workers that it cannot reach. It knows whose fault that is.

A process whose user, root directory or mounts have changed, or whose session has lost its directory, reaches nobody
any more: what needs that fails, after a while in which the cause may pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ray.exceptions import RayConnectionError
from ray.ids import node_of
from ray.messages import node, wire
from ray.runtime.owner.shortage import AGAIN_S
from ray.runtime.process.own_faults import CutOffError, OutOfDescriptorsError

if TYPE_CHECKING:
    from ray.protocol.task_records import SchedulingClass
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.outcomes import Outcomes
    from ray.runtime.owner.records import TaskRecord
    from ray.runtime.owner.shortage import Shortage
    from ray.runtime.process.peers import PeerTable
    from ray.runtime.process.timers import Timers

#: So many workers, one after the other, are given up for one that does not reach them. More are not to blame.
MAX_WORKERS = 20


class Tasks(Protocol):
    """The tasks of this process."""

    def pump(self, cls: SchedulingClass[TaskRecord]) -> None: ...
    def pause(self, cls: SchedulingClass[TaskRecord]) -> None: ...
    def go_on(self, cls: SchedulingClass[TaskRecord]) -> None: ...
    def drain(self, cls: SchedulingClass[TaskRecord]) -> list[TaskRecord]: ...


class UnreachedWorkers:
    """Methods are called under the runtime's lock."""

    def __init__(
        self,
        here: Here,
        peers: PeerTable,
        timers: Timers,
        tell_node: Callable[[wire.Struct], None],
        shortage: Shortage,
        outcomes: Outcomes,
    ) -> None:
        self._node = node_of(here.process_id)
        self._peers = peers
        self._timers = timers
        self._tell_node = tell_node
        self._shortage = shortage
        self._outcomes = outcomes
        #: Workers, one after the other, that were not reached though the node manager was, since this process has made
        #: so many connections.
        self._in_a_row, self._made = 0, 0

    def worker(self, tasks: Tasks, cls: SchedulingClass[TaskRecord], lease: bytes, error: ConnectionError) -> None:
        """A leased worker was not reached: ask for another one, at once if it is to blame and otherwise later."""
        if isinstance(error, OutOfDescriptorsError):
            self._tell_node(node.Release(lease))
            tasks.pause(cls)
            self._shortage.try_again(error, lambda: tasks.go_on(cls))
            return
        if isinstance(error, CutOffError):
            lasts, text = error.lasts, str(error)
        else:
            if self._made != self._peers.made:
                self._in_a_row, self._made = 0, self._peers.made
            self._in_a_row += 1
            if self._in_a_row <= MAX_WORKERS:
                # Something in between may have answered the call: the node manager of a worker elsewhere knows better.
                is_near = node_of(lease) == self._node
                self._tell_node(node.Suspect(lease) if is_near else node.Release(lease))
                tasks.pump(cls)
                return
            lasts, text = True, f"{MAX_WORKERS} workers in a row could not be reached. The last one: {error}"
        self._tell_node(node.Release(lease))
        if lasts and not cls.leases:
            self._outcomes.unreached(tasks.drain(cls), RayConnectionError(text))
        tasks.pause(cls)
        self._timers.after(AGAIN_S, lambda: tasks.go_on(cls))
