"""What a node manager does, beyond its table, about the actors that it keeps or hosts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ray.protocol.actor_entries import ActorEntry


class ActorRecords(Protocol):
    """Of one node manager."""

    def placed(self, entry: ActorEntry, start: Callable[[], None]) -> None:
        """There is a process for an actor; ``start`` is called once it may be told so."""

    def may_place(self, entry: ActorEntry, place: Callable[[], None]) -> None:
        """An actor is to have a process; ``place`` is called once no earlier one can run any more."""

    def changed(self, entry: ActorEntry) -> None:
        """An actor is dead, or has lost its name."""

    def hosted(self, entry: ActorEntry) -> None:
        """The same, or another change, of one that another node manager keeps."""


class AtOnce:
    """Nobody else has to know of these actors. Implements ``ActorRecords``."""

    def placed(self, entry: ActorEntry, start: Callable[[], None]) -> None:
        start()

    def may_place(self, entry: ActorEntry, place: Callable[[], None]) -> None:
        place()

    def changed(self, entry: ActorEntry) -> None:
        pass

    def hosted(self, entry: ActorEntry) -> None:
        pass
