"""What a session can tell about itself."""

from __future__ import annotations

from typing import Any

import msgspec

from ray.exceptions import RemoteProtocolError
from ray.messages import node
from ray.protocol.references import ObjectEntry, ReferenceTable
from ray.protocol.resources import UNIT
from ray.runtime.owner.here import OwnerBase
from ray.runtime.process.waiting import Waiter
from ray.runtime.refs.session import Listener


class Inspection(OwnerBase):
    """The inspection methods of an owner. Most ask the node manager and wait for its answer."""

    def is_needed(self) -> bool:
        """Whether the end of this process would be a loss to others: of objects they hold, or of unfinished tasks."""
        with self.lock:
            self.collect()
            entries = list(self.table.entries.values())  # other threads may put, which takes no lock
            return (
                any((entry.credits and entry.owner is None) or _serves(entry) for entry in entries)
                or self.tasks.is_busy()
                or any(client.inflight or client.queue for client in list(self.calls.clients.values()))
            )

    def errors(self) -> list[dict[str, Any]]:
        self._check_open()
        return list(self.node.ask("errors"))

    def nodes(self) -> list[dict[str, Any]]:
        self._check_open()
        return [{**node, "Resources": _amounts(node["Resources"])} for node in self.node.ask("nodes")]

    def cluster_resources(self) -> dict[str, float]:
        self._check_open()
        return _amounts(self.node.ask("resources"))

    def available_resources(self) -> dict[str, float]:
        self._check_open()
        return _amounts(self.node.ask("available"))

    def context(self) -> dict[str, Any]:
        return {
            "job_id": self.session_id,
            "node_id": self.node_id,
            "worker_id": self.process_id.hex(),
            "task_id": None,
            "actor_id": None,
            "attempt": 0,
            "namespace": self.namespace,
            "gpu_ids": [],
            "resources": {},
        }


def answer(table: ReferenceTable, question: node.Question) -> node.Answer:
    """The answer of a process to an observer: ``held`` asks which of some objects it has a reference to.

    Raises:
        RemoteProtocolError: it is no such question.
    """
    if question.what != "held":
        return node.Answer(question.request, False, error=f"this process knows no answer to {question.what!r}")
    try:
        ids = msgspec.msgpack.decode(question.data, type=list[bytes])
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(f"a question is about {error}") from error
    entries = ((id, table.entries.get(id)) for id in ids)
    held = [id for id, entry in entries if entry is not None and (entry.local > 0 or entry.pins > 0)]
    return node.Answer(question.request, True, msgspec.msgpack.encode(held))


def _serves(entry: ObjectEntry) -> bool:
    """Whether somebody waits for the object other than threads and loops of this process, which end with it."""
    return any(not isinstance(waiter, (Waiter, Listener)) for waiter in entry.waiters or ())


def _amounts(fixed: dict[str, int]) -> dict[str, float]:
    return {name: amount / UNIT for name, amount in fixed.items()}
