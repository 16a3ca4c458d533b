"""Wire structs between the node manager and drivers about their jobs. Rules as in ``ray.messages.wire``."""

from __future__ import annotations

from ray.messages.wire import Count, Struct


class OpenJob(Struct, frozen=True, tag=87):
    """Driver of a node that is not its own, before anything else: what its workers are to have; answered."""

    request: int
    config: bytes
    """A ``JobConfig`` as JSON."""


class Leave(Struct, frozen=True, tag=88):
    """Driver of such a node: my job is over. The node manager closes the connection when it has ended what is left."""


class AskPath(Struct, frozen=True, tag=72):
    """Worker to node manager, which passes it on to the driver: where does the program look for modules now?"""

    request: int
    worker: bytes = b""
    """The owner that asks; filled in by the node manager."""
    module: str = ""
    """What it looks for."""


class Path(Struct, frozen=True, tag=73):
    """Driver to node manager: its ``sys.path``. The worker gets it as the ``Answer`` to its request."""

    request: int
    worker: bytes
    path: list[str]
    odd: list[bytes] = []
    """Folders whose names are not in UTF-8."""
    beside: str = ""
    """The folder of the program in which the module lies, where it is not sent along; empty if it does not."""


class AskPackage(Struct, frozen=True, tag=93):
    """Node manager to the driver of a job, or to the home of its workers: send me a piece of its directory's ZIP."""

    job: str
    offset: Count


class PackagePiece(Struct, frozen=True, tag=94):
    """The answer: as much as one message may hold, and is left; or why there is none."""

    job: str
    offset: Count
    data: bytes = b""
    error: str = ""
    """A clause."""
