"""What a node manager can be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, TypeAlias

import msgspec

from ray.abc.scheduler import NodeView
from ray.abc.transport import Frame
from ray.exceptions import ControlStoreError, RemoteProtocolError
from ray.messages import node
from ray.messages.cluster import DemandRow
from ray.protocol.leases import LeaseTable
from ray.runtime.node.actors import NodeActors
from ray.runtime.node.client import Client, Handler
from ray.runtime.node.others import Elsewhere
from ray.runtime.node.own_demands import Surveying
from ray.runtime.node.recorded_errors import RecordedErrors
from ray.runtime.node.worker_pool import WorkerPool

_Job: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
_wanted_job = msgspec.msgpack.Decoder(_Job | None)


class Questions:
    """Answers them."""

    def __init__(
        self,
        leases: LeaseTable,
        actors: NodeActors,
        pool: WorkerPool,
        clients: Mapping[bytes, Client],
        recorded: RecordedErrors,
        describe: Callable[[], dict[str, Any]],
        elsewhere: Callable[[], Elsewhere],
        survey: Callable[[], Surveying],
    ) -> None:
        """Make the part.

        Args:
            leases: of this node.
            actors: that it keeps.
            pool: its workers.
            clients: the processes that are connected to it.
            recorded: what has failed.
            describe: the row of ``ray.nodes()`` for this node.
            elsewhere: what is known of the others.
            survey: finds out what waits for workers.
        """
        self._recorded = recorded
        self._survey = survey
        self._answers: dict[str, Callable[[bytes], Any]] = {
            "resources": lambda data: _sum(leases.resources.total(), elsewhere().total()),
            "available": lambda data: _sum(leases.resources.available(), elsewhere().available()),
            "director": lambda data: elsewhere().director(),
            "unheard": lambda data: _unheard(elsewhere().views()),
            "nodes": lambda data: _ordered([describe(), *elsewhere().rows()], elsewhere().director()[0]),
            "actor": actors.find_named,
            "actors": lambda data: actors.describe(),
            "workers": lambda data: pool.diagnostics(),
            "transfers": lambda data: elsewhere().transfers(),
            "processes": lambda data: [[p.id, p.kind, p.pid, p.address] for p in clients.values() if p.kind != "node"],
        }

    def handlers(self) -> dict[type, Handler]:
        """What the node manager passes on."""
        return {node.Question: self._question}

    def _question(self, client: Client, message: node.Question, frames: Sequence[Frame]) -> None:
        if message.what == "errors":
            self._ask_errors(client, message)
            return
        if message.what == "demands":
            self._survey().ask(partial(self._answer_demands, client, message.request))
            return
        answer = self._answers.get(message.what)
        if answer is None:
            client.send(node.Answer(message.request, False, error=f"unknown question {message.what!r}"))
            return
        try:
            found = answer(message.data)
        except msgspec.MsgspecError as error:
            raise _odd(message, error) from None
        client.send(node.Answer(message.request, True, msgspec.msgpack.encode(found)))

    def _ask_errors(self, client: Client, message: node.Question) -> None:
        """Those of the asker's job, or of the one that it names."""
        try:
            job = _wanted_job.decode(message.data) if message.data else None
        except msgspec.MsgspecError as error:
            raise _odd(message, error) from None
        self._recorded.ask(job or client.job, partial(self._answer_errors, client, message.request))

    def _answer_demands(self, client: Client, request: int, rows: list[DemandRow]) -> None:
        found = [{name: getattr(row, name) for name in row.__struct_fields__} for row in rows]
        client.send(node.Answer(request, True, msgspec.msgpack.encode(found)))

    def _answer_errors(self, client: Client, request: int, rows: list[dict[str, Any]] | ControlStoreError) -> None:
        if isinstance(rows, ControlStoreError):
            client.send(node.Answer(request, False, error=str(rows)))
        else:
            client.send(node.Answer(request, True, msgspec.msgpack.encode(rows)))


def _odd(question: node.Question, error: Exception) -> RemoteProtocolError:
    return RemoteProtocolError(f"a question after {question.what!r} of {len(question.data)} bytes: {error}")


def _ordered(rows: list[dict[str, Any]], head: str) -> list[dict[str, Any]]:
    """The head, then the others as they have joined, as their numbers are; then those that are dead."""
    return sorted(rows, key=lambda row: (not row["Alive"], row["NodeID"] != head, row["NodeID"]))


def _unheard(views: Sequence[NodeView]) -> dict[str, int]:
    """What nodes have that do not say how much of it is free."""
    total: dict[str, int] = {}
    for view in views:
        if not view.available:
            total = _sum(total, view.total)
    return total


def _sum(here: Mapping[str, int], elsewhere: Mapping[str, int]) -> dict[str, int]:
    return {name: here.get(name, 0) + elsewhere.get(name, 0) for name in {**here, **elsewhere}}
