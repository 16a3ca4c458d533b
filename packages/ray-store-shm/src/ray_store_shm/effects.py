"""What the table of the broker asks to be done."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from ray_store_shm.messages import Reply


class Send(NamedTuple):
    """Reply to a client, with a descriptor unless it is -1."""

    client: int
    reply: Reply
    fd: int = -1


class Tell(NamedTuple):
    """Notify a client."""

    client: int
    object_id: bytes
    nbytes: int


class Close(NamedTuple):
    """Nobody needs this memory any more."""

    fd: int


class Order(NamedTuple):
    """Have a client protect its mapping of a segment while the object ``serial`` is in it; 0: forget it for ever."""

    client: int
    segment: int
    serial: int = 0


Effect: TypeAlias = Send | Tell | Close | Order
