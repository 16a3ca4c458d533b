"""What a node does that hears no director: it looks into the control store, and shows there that it lives."""

from __future__ import annotations

from typing import Any, Protocol

from ray.abc.control import ControlStore
from ray.abc.control_operations import Get
from ray.clock import boottime
from ray.exceptions import ControlStoreError
from ray.messages.cluster import KeptDirector
from ray.protocol.director import DIRECTOR, decode_director, node_key
from ray.protocol.membership import Proof

#: What has no answer after so long is asked again.
_ANSWER_S = 2.0


class Looking(Protocol):
    """Who wants to know."""

    def found(self, kept: KeptDirector) -> None:
        """That node directs, by what the store says; it may be known."""

    def shown(self, sent: float) -> None:
        """The store has taken what was sent at that time."""

    def condemned(self, cause: str) -> None:
        """This node was declared dead."""


class Lookout:
    """Of one node manager, which does not wait for the store."""

    def __init__(self, control: ControlStore, number: int, looking: Looking) -> None:
        """Look for nothing yet.

        Args:
            control: the state of record.
            number: of this node.
            looking: told what is found.
        """
        self._control = control
        self._looking = looking
        self._proof = Proof(node_key(number))
        self._is_looking = False

    def look(self) -> None:
        """Find out who directs."""
        if not self._is_looking:
            self._is_looking = True
            self._control.ask(Get(DIRECTOR), self._found, timeout_s=_ANSWER_S)

    def _found(self, value: bytes | ControlStoreError | None) -> None:
        self._is_looking = False
        if isinstance(value, bytes):
            self._looking.found(decode_director(value))

    def prove(self) -> None:
        """Show that this node lives."""
        op = self._proof.ask(boottime())
        if op is not None:
            self._control.ask(op, self._proven, timeout_s=_ANSWER_S)

    def _proven(self, answer: Any) -> None:
        sent = self._proof.answered(answer)
        if sent is not None:
            self._looking.shown(sent)
        elif self._proof.is_dead:
            self._looking.condemned(self._proof.verdict)
        elif self._proof.has_looked:
            self.prove()
