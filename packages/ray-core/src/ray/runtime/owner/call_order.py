"""The order in which the calls of one process to one actor start: that in which they were submitted."""

from __future__ import annotations

from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.runtime.owner.actor_client import ActorClient

#: Ids of one process count up: of calls of which one was submitted after the other, the later has the higher one.
_submitted = attrgetter("id")


def put_in_order(client: ActorClient) -> None:
    """Have calls that came back, in whatever order and in however many messages, start as they were submitted.

    A call that interrupts this may add some, and send some: the queue is replaced in one step, if it is still the same.
    """
    while True:
        before = client.queue.copy()
        ordered = deque(sorted(before, key=_submitted))
        if client.queue == before:
            client.queue = ordered
            return
