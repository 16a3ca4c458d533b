"""A process of the session, as its node manager sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ray.abc.transport import Connection, Frame
from ray.exceptions import RemoteProtocolError
from ray.messages import codec, wire
from ray.runtime.node.worker_process import WorkerProcess
from ray.runtime.process.kept_connection import KeptConnection


class Client:
    """A connected process: a driver or a worker."""

    __slots__ = ("address", "connection", "far_address", "id", "job", "kind", "pid", "talk", "worker")

    def __init__(
        self, connection: Connection, hello: wire.Hello, id: bytes, job: str, worker: WorkerProcess | None
    ) -> None:
        self.connection = connection
        self.id = id
        #: Name of its job; an observer has none.
        self.job = job
        self.kind = hello.kind
        self.address = hello.address
        #: Where other nodes reach it; empty until one has wanted to.
        self.far_address = ""
        self.pid = hello.pid
        self.worker = worker
        #: The connection of another node manager, where what is said goes on if it is lost.
        self.talk: KeptConnection | None = None

    @property
    def is_there(self) -> bool:
        """See ``Caller``."""
        return self.talk is None or self.talk.is_open

    def send(self, message: Any) -> None:
        self.connection.send([codec.encode(message)])

    def say(self, message: wire.Struct) -> None:
        """See ``Caller``."""
        if self.talk is None:
            self.send(message)
        else:
            self.talk.now(message)


Handler: TypeAlias = Callable[[Client, Any, Sequence[Frame]], None]
"""What takes a kind of message: (the client that has sent it, the message, its frames)."""


def of_node(take: Callable[[Client, Any], None]) -> Handler:
    """The handler of a message that node managers alone may send."""

    def handler(client: Client, message: Any, frames: Sequence[Frame]) -> None:
        if client.kind != "node":
            raise RemoteProtocolError(f"{type(message).__name__} of a process that is no node manager")
        take(client, message)

    return handler
