"""Actors asked for: at once, or when their arguments are there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.exceptions import ControlUnavailableError, UnpicklableError
from ray.messages import node
from ray.protocol.references import AWAY, FAILED, PENDING, READY, STORED, ObjectEntry
from ray.runtime.interface import ActorOptions
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.runtime.owner.actor_client import ActorClient
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.host import Host
    from ray.runtime.owner.reports import Reports
    from ray.runtime.process.node_link import NodeLink


class Starting:
    """Asks the node manager for actors."""

    def __init__(self, host: Host, lock: Any, node_link: NodeLink, borrowing: Borrowing, reports: Reports) -> None:
        self._host = host
        self._lock = lock
        self._node = node_link
        self._borrowing = borrowing
        self._reports = reports

    def start(
        self, client: ActorClient, record: TaskRecord, options: ActorOptions, spec: Callable[[bool], node.ActorSpec]
    ) -> None:
        """Ask for the actor. Where its arguments are not there, that reserves its name, and it is placed when they are.

        Args:
            client: of the actor.
            record: of the call of its ``__init__``.
            options: of the actor.
            spec: makes the message; all that is needed for its start, or what is known before.

        Raises:
            ValueError: the name is taken.
            ControlUnavailableError: it is not known whether the name is free.
            UnpicklableError: it holds what no message can hold.
        """
        ready = all(entry.status in (READY, STORED, AWAY) for _, entry in record.deps)
        if options.name:
            with self._lock:  # the node manager is to know which actors this process has let go of
                self._host.collect()
            answer = self._node.request(lambda number: node.CreateActor(number, spec(ready), ready), None)
            if answer.unavailable:
                raise ControlUnavailableError(reason=answer.error)
            if not answer.ok:
                raise ValueError(answer.error)
        else:
            self._node.send(node.CreateActor(0, spec(ready), ready))
        if not ready:
            with self._lock:
                self._await_arguments(client, record, spec)

    def _await_arguments(self, client: ActorClient, record: TaskRecord, spec: Callable[[bool], node.ActorSpec]) -> None:
        """Have the actor placed when its arguments are there, or ended as soon as one has failed."""
        callee = client.callee

        def look(_: ObjectEntry | None) -> None:
            failed = next((entry for _, entry in record.deps if entry.status == FAILED), None)
            if callee.dead:
                pass
            elif failed is not None:
                reason = "an argument of its __init__ failed"
                self._reports.passed_on(failed, callee.actor_id)
                self._node.send(node.KillActor(0, callee.actor_id, True, reason, bytes(failed.failure())))
            elif all(entry.status != PENDING for _, entry in record.deps):
                try:
                    self._node.send(node.CreateActor(0, spec(True)))
                except UnpicklableError as error:
                    envelope = self._reports.envelope(error, record.name, record.id, 0)
                    self._node.send(node.KillActor(0, callee.actor_id, True, "it could not be sent", envelope))

        pending = {entry for _, entry in record.deps if entry.status == PENDING}
        for entry in pending:
            entry.call_when_done(look)
        for entry in pending:
            self._borrowing.want(entry)  # may fail it at once
        look(None)
