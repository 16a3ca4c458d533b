"""Wire structs about values in the stores of other nodes. Rules as in ``ray.messages.wire``.

A key is what a store has an object under: see ``ray.ids.stored_id``.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ray.messages.wire import Amount, Count, Struct

#: Who waits for an object: the smaller, the sooner it comes.
GET, WAIT, ARGUMENT = range(3)

# --- between a process and its node manager --------------------------------------------------------------------------


class Pull(Struct, frozen=True, tag=150):
    """Process: I need a copy of that object in the store of this node. Answered when it is there, or cannot be."""

    request: int
    key: bytes
    node: Count
    """Whose store has it."""
    nbytes: Amount
    urgency: int = 0
    """``GET``, ``WAIT`` or ``ARGUMENT``."""


class LetGo(Struct, frozen=True, tag=151):
    """Process: I need these copies no more."""

    keys: list[bytes]


class FreeAt(Struct, frozen=True, tag=152):
    """Owner: nobody holds these any more, which the store of that node has."""

    node: Count
    keys: list[bytes]


# --- between node managers -------------------------------------------------------------------------------------------


class AskTicket(Struct, frozen=True, tag=160):
    """I need one more data connection to you. Answered with ``DataTicket``."""


class DataTicket(Struct, frozen=True, tag=161):
    """Where your object manager is to connect to, and what lets it in, once; or why it is not."""

    host: str
    port: Annotated[int, Meta(ge=0, lt=1 << 16)]
    id: bytes
    secret: bytes
    reason: str = ""
    sealed: bool = False
    """What goes over the connection is encrypted."""
    store: str = ""
    """Address of my store; …"""
    machine: bytes = b""
    """… if you are on this machine, your object manager may read it there. Empty: it may not."""


class AskDoor(Struct, frozen=True, tag=164):
    """Director: where do other nodes reach your object manager? Answered with ``Door``, once it listens."""


class Door(Struct, frozen=True, tag=165):
    """There; port 0: it serves nobody."""

    host: str
    port: Annotated[int, Meta(ge=0, lt=1 << 16)]


class FreeObjects(Struct, frozen=True, tag=162):
    """Their owners are of this node, and nobody holds these any more: delete them from your store."""

    keys: list[bytes]


class ProcessOver(Struct, frozen=True, tag=163):
    """A process of this node has ended: what it owned is nobody's."""

    process: bytes
