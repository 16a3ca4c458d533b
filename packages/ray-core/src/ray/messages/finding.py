"""Wire structs by which a process learns where one of another node is reached. Rules as in ``ray.messages.wire``."""

from __future__ import annotations

from ray.messages.wire import Count, Struct


class Where(Struct, frozen=True, tag=90):
    """Any process: where can I reach the process of that node which its own node knows by ``address``?

    Answered with an address.
    """

    request: int
    node: Count
    address: str


class ListenFar(Struct, frozen=True, tag=91):
    """Node manager: others want to reach you from other nodes. Answered with ``Listens``."""


class Listens(Struct, frozen=True, tag=92):
    """A process: that is my address from now on; or why it is not."""

    address: str
    error: str = ""


class Lives(Struct, frozen=True, tag=95):
    """Any process: my connection to that process, of another node, was lost. Does it live? Answered with ``Answer``."""

    request: int
    process: bytes


class Seek(Struct, frozen=True, tag=130):
    """Home, for one of its processes: where can that process of yours be reached? Answered with ``Found``."""

    number: int
    address: str


class Found(Struct, frozen=True, tag=131):
    """The answer to ``Seek``: an address; or an empty one, and why there is none."""

    number: int
    address: str
    reason: str = ""


class SeekLife(Struct, frozen=True, tag=132):
    """Home, for one of its processes: does that process of yours live? Answered with ``FoundLife``."""

    number: int
    process: bytes


class FoundLife(Struct, frozen=True, tag=133):
    """The answer to ``SeekLife``."""

    number: int
    lives: bool
