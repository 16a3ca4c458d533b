"""What a session can tell about itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ray.exceptions import RaySystemError, RemoteProtocolError
from ray.messages import node
from ray.protocol.references import ObjectEntry, ReferenceTable
from ray.protocol.resources import UNIT
from ray.runtime.owner.promises import Promise
from ray.runtime.process.waiting import Waiter
from ray.runtime.refs.session import Listener


class NodeQuestions:
    """What the node manager is asked for, by threads that wait for its answer."""

    def __init__(self, ask: Callable[[str, str | None], Any]) -> None:
        """Make one.

        Args:
            ask: asks the node manager one of its questions, with a word on what is meant, and waits.

        Every method raises RayConnectionError once the session has ended.
        """
        self._ask = ask

    def errors(self, job: str | None = None) -> list[dict[str, Any]]:
        """See ``Runtime``.

        Raises:
            RaySystemError: the control store gives no answer.
        """
        try:
            return list(self._ask("errors", job))
        except ValueError as error:
            raise RaySystemError(f"the failures that were recorded cannot be had: {error}") from None

    def nodes(self) -> list[dict[str, Any]]:
        """See ``Runtime``."""
        return [{**node, "Resources": _amounts(node["Resources"])} for node in self._ask("nodes", None)]

    def cluster_resources(self) -> dict[str, float]:
        """See ``Runtime``."""
        return _amounts(self._ask("resources", None))

    def available_resources(self) -> dict[str, float]:
        """See ``Runtime``."""
        return _amounts(self._ask("available", None))


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


def serves_others(entry: ObjectEntry) -> bool:
    """Whether another process holds the object, or waits for it; threads and loops of this one end with it.

    What this process has promised, and now will not do, is nothing to wait for.
    """
    if type(entry.task) is Promise:
        return False
    if entry.credits and entry.owner is None:
        return True
    return any(not isinstance(waiter, (Waiter, Listener)) for waiter in entry.waiters or ())


def _amounts(fixed: dict[str, int]) -> dict[str, float]:
    return {name: amount / UNIT for name, amount in fixed.items()}
