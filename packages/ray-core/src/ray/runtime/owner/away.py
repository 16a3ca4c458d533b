"""An actor that this process has not reached."""

from __future__ import annotations

from ray.clock import monotonic
from ray.messages import node


class Away:
    """An actor that was not reached."""

    __slots__ = ("is_due", "since", "update")

    def __init__(self, update: node.ActorUpdate) -> None:
        #: Where it is said to be.
        self.update = update
        self.since = monotonic()
        #: It will be tried again in a while.
        self.is_due = False
