"""What goes along with a push: refs are handed over with it, and taken back where it could not be sent.

Options are checked at the call, so a message that cannot be encoded is the last resort: what was to go with it fails,
alone, and nothing is left of the attempt. Without that one such call would hold up all that follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray.exceptions import UnpicklableError
from ray.messages import codec, wire
from ray.runtime.owner.handed_refs import handed_over
from ray.runtime.owner.records import TaskRecord, nowhere
from ray.runtime.process.encoding import ADVICE

if TYPE_CHECKING:
    from ray.protocol.references import ObjectEntry
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.outcomes import Outcomes
    from ray.runtime.owner.records import AtOf, AtOnce
    from ray.runtime.process.peers import Peer


class HandingOver:
    """Methods are called under the runtime's lock."""

    def __init__(self, borrowing: Borrowing, outcomes: Outcomes, at_once: AtOnce, at: AtOf = nowhere) -> None:
        self._borrowing = borrowing
        self._outcomes = outcomes
        #: Hands over the refs in a task's arguments: see ``Borrowing``.
        self.arguments = borrowing.hand_over_arguments
        #: What processes of other nodes do not find in their store.
        self.at_once = at_once
        #: Where they find it, if it does not go along.
        self.at = at

    def withdraw(
        self, peer: Peer, record: TaskRecord, error: UnpicklableError, pushed: dict[bytes, ObjectEntry]
    ) -> None:
        """One that was about to be pushed fails, and nobody relies on its values; it is with the worker no more."""
        for _, entry in record.deps:
            pushed.pop(entry.id, None)
        self._undo(record, peer)
        self.fail(record, error)

    def take_back(
        self, inflight: dict[bytes, TaskRecord], tasks: Sequence[wire.Task], peer: Peer, error: UnpicklableError
    ) -> list[TaskRecord]:
        """A push was not sent: those that cannot be encoded fail, or all if each can; returns the others."""
        bad = {task.id for task in tasks if not _can_be_sent(task)} or {task.id for task in tasks}
        records = [record for task in tasks if (record := inflight.pop(task.id, None)) is not None]
        for record in records:
            self._undo(record, peer)
        for record in records:
            if record.id in bad:
                self.fail(record, error)
        return [record for record in records if not record.done]

    def _undo(self, record: TaskRecord, peer: Peer) -> None:
        """The receiver has got neither the refs in the arguments nor the values that it would have kept."""
        if self._borrowing.borrows:
            for entry in handed_over(record, peer.process):
                self._borrowing.send_to_owner(entry, wire.Credit(entry.id, peer.process, -1))
        for _, entry in record.deps:
            if entry.id in peer.kept:
                peer.drop_kept(entry.id)

    def fail(self, record: TaskRecord, error: UnpicklableError) -> None:
        """A message with what this task needs cannot be encoded."""
        if record.done:
            self._outcomes.let_arguments_go(record)
            return
        told: Any = UnpicklableError(f"the call of {record.name}", error.reason, ADVICE)
        told.__cause__ = error.__cause__
        self._outcomes.refused(record, told)


def _can_be_sent(task: wire.Task) -> bool:
    try:
        codec.encode(task)
    except codec.UNENCODABLE:
        return False
    return True
