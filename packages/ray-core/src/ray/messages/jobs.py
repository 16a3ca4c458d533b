"""Wire structs between the node manager and drivers about their jobs. Rules as in ``ray.messages.wire``."""

from __future__ import annotations

from ray.messages.wire import Struct


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


class Path(Struct, frozen=True, tag=73):
    """Driver to node manager: its ``sys.path``. The worker gets it as the ``Answer`` to its request."""

    request: int
    worker: bytes
    path: list[str]
    odd: list[bytes] = []
    """Folders whose names are not in UTF-8."""
