"""The owner: what every process that submits work is. Drivers and workers build on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.abc.store import Store
from ray.abc.transport import Transport
from ray.headroom import SENDING, check
from ray.messages import wire
from ray.plugins.compose import Composition
from ray.protocol.references import PENDING, ObjectEntry
from ray.runtime.interface import ActorCore, MethodOptions
from ray.runtime.lanes import check_group
from ray.runtime.owner.actor_calls import ActorCalls
from ray.runtime.owner.actor_client import ActorClient
from ray.runtime.owner.actors import ActorOwner
from ray.runtime.owner.borrowing import ObjectExchange
from ray.runtime.owner.cancels import Cancels
from ray.runtime.owner.collecting import Collecting
from ray.runtime.owner.events import TaskEventLog
from ray.runtime.owner.failed_chains import FailedChains
from ray.runtime.owner.inbox import Reader
from ray.runtime.owner.inspection import NodeQuestions, serves_others
from ray.runtime.owner.joining import PluginLife
from ray.runtime.owner.last_calls import TERMINATE
from ray.runtime.owner.leasing import TaskSubmitter
from ray.runtime.owner.overdue import Overdue
from ray.runtime.owner.records import TaskRecord
from ray.runtime.owner.reports import Failures
from ray.runtime.owner.shortage import Shortage
from ray.runtime.owner.streams import Streaming
from ray.runtime.owner.subscription import Subscription
from ray.runtime.owner.unreached import Unreached
from ray.runtime.process.interrupts import guard_plugin, may_interrupt
from ray.runtime.process.node_link import NodeLink
from ray.runtime.process.polling import Polling
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.session import Listener


class OwnerRuntime(ActorOwner, Streaming):
    """One process's part of a session. Public methods are those of ``ray.runtime.interface.Runtime``."""

    def __init__(
        self,
        session_id: str,
        kind: str,
        process_id: bytes,
        namespace: str,
        transport: Transport,
        store: Store,
        composition: Composition,
    ) -> None:
        super().__init__(session_id, kind, process_id, namespace, transport, store, composition)
        timers, wake = self.timers, transport.wake
        rests: list[Callable[[], None]] = []
        self.tasks = TaskSubmitter(self)
        self.calls = ActorCalls(self)
        clients, pump = self.calls.clients, self.calls.pump
        self.cancels = Cancels(clients, timers, wake, self.tell_node, self.fail_cancelled, process_id)
        self.clock = Overdue(self.tasks.links, clients, timers, pump, self.fail_overdue)
        self.objects = ObjectExchange(self)
        self.failures = Failures(self, timers, self.peers, self.objects.send_to_owner)
        self.chains = FailedChains(rests, self.fail, pump)
        self.events = TaskEventLog(timers, self.tell_node)
        self.shortage = Shortage(timers, self.tell_node)
        self.unreached = Unreached(
            self.tasks, self.calls, self.objects, self.peers, timers, self.tell_node, self.shortage, self.fail_unreached
        )
        self.reader = Reader(self, rests)
        self.collecting = Collecting(self.calls.holds_handles, wake)
        self.polling = Polling(self, self.reader)
        self.plugins = PluginLife(composition, self._plugin_facts)
        listening = self.listening = Subscription(
            self.table, self.lock, self.objects, self._own_entry, self._check_open, self.polling.attend
        )
        # The API calls the parts directly.
        self.knows, self.is_done, self.done_of = listening.knows, listening.is_done, listening.done_of
        self.unsubscribe, self.on_disk = listening.unsubscribe, listening.on_disk
        questions = NodeQuestions(self._ask_node)
        self.errors, self.nodes = questions.errors, questions.nodes
        self.cluster_resources = questions.cluster_resources
        self.available_resources = questions.available_resources
        may_interrupt(transport.wait_code)
        for seam in ("store", "transport"):  # others' code, such as that of selectors, is called by the program
            part = composition.plan.parts[seam]
            guard_plugin(part.module, bool(part.distribution))

    def attach(self, hint: str, node_address: str) -> None:
        """Listen and connect to the node manager; called once, before the reader starts."""
        self.address = self.peers.address = self.transport.listen(hint)
        self.peers.node_address = node_address
        connection = self.transport.connect(node_address)
        connection.send((self.peers.hello(),))
        self.node = connection.context = NodeLink(connection, node_address, self.polling.wait)

    def _ask_node(self, question: str) -> Any:
        self._check_open()
        return self.node.ask(question)

    def _plugin_facts(self) -> dict[str, Any]:
        return {
            "session_id": self.session_id,
            "node_id": self.node_id,
            "kind": "worker" if self.is_worker else "driver",
            "address": self.address,
        }

    def subscribe(self, listener: Listener) -> bool:
        return self.listening.subscribe(listener)

    def is_needed(self) -> bool:
        """Whether the end of this process would be a loss to others: of objects they hold, or of unfinished tasks."""
        with self.lock:
            self.collect()
            entries = list(self.table.entries.values())  # other threads may put, which takes no lock
            return (
                any(map(serves_others, entries))
                or self.tasks.is_busy()
                or any(client.inflight or client.queue for client in list(self.calls.clients.values()))
            )

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

    def submit_call(
        self, actor: ActorCore, method: str, options: MethodOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        client: ActorClient | None = actor.client
        if client is None or client.calls is not self.calls:
            self._check_open()
            client = self.adopt_actor(actor).client
            assert client is not None
        retries = options.max_task_retries
        if retries is None:
            retries = actor.max_task_retries
        label, group = options.name, options.concurrency_group
        name = label or f"{actor.class_name}.{method}"
        if group is not None and client.groups is not None:
            check_group(name, group, client.groups)
        target = method.encode()
        record = self._record(name, options.num_returns, retries, options.timeout_s, args, kwargs)
        record.actor = actor.actor_id
        record.method = target
        if label:
            record.label = label
        if group is not None:
            record.group = group
        with self.lock:
            if client.life is not None:  # pending calls keep the actor alive
                record.pins += (client.life,)
            try:
                refs = self._register(record)
                if record.deps:
                    self._dependencies_ready(record)
                elif method is TERMINATE:
                    record.waiting = 1  # for the calls before it
                if not record.done:
                    self.calls.submit(client, record)
            except BaseException:  # as in ``submit_task``
                self.torn = (record, self.torn)
                self.behind = True
                raise
        return refs

    def check_force(self, ref: CountedRef[Any]) -> None:
        entry = self._own_entry(ref)
        record = entry.task
        if entry.status == PENDING and isinstance(record, TaskRecord) and record.actor:
            raise ValueError(
                f"force=True is not supported for calls of actors, such as {record.name}: it would end all calls of "
                "the actor with its process. ray.kill(actor) does that; ray.cancel(ref) interrupts the call alone."
            )

    def cancel(self, ref: CountedRef[Any], force: bool, recursive: bool, *, again: bool = False) -> None:
        entry = self._own_entry(ref)
        check(SENDING)
        with self.lock:
            self.cancel_entry(entry, force, recursive, again)

    def cancel_entry(self, entry: ObjectEntry, force: bool, recursive: bool, again: bool = False) -> None:
        """``cancel`` under the lock."""
        if entry.status != PENDING:
            return
        record = entry.task
        if entry.owner is not None:
            self.objects.send_to_owner(entry, wire.CancelMade(entry.id, force, recursive, again))
        elif isinstance(record, TaskRecord):
            self._cancel_record(record, force, recursive, again)

    def _cancel_record(self, record: TaskRecord, force: bool, recursive: bool, again: bool) -> None:
        if isinstance(record.link, ActorClient):
            if force:  # somebody else has asked for it, who could not know
                self.cancels.not_forced(record)
            self.calls.cancel(record, record.link, recursive, again)
        else:
            self.tasks.cancel(record, force, recursive, again)

    def cancel_children(self, parent: bytes) -> None:
        """Cancel what the task ``parent`` has submitted, also where it has dropped the refs; called under the lock."""
        known = [entry.task for entry in self.table.entries.values() if isinstance(entry.task, TaskRecord)]
        pushed = [record for link in self.tasks.links.values() for record in link.inflight.values()]
        queued = [record for cls in self.tasks.classes.all() for record in cls.queue]
        for record in dict.fromkeys([*known, *pushed, *queued, *self.calls.records()]):
            if record.parent == parent and not record.done:
                self._cancel_record(record, force=False, recursive=True, again=False)
