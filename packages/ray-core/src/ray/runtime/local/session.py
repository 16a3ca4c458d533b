"""``local_mode``: the whole system in the calling thread, for breakpoints and for tests.

A task runs to its end inside ``remote``, a stream until it is far ahead of its consumer. Everything else is as usual:
references, values copied through the serializer, failures that show at ``get``. There is no other process or thread, so
nothing is pending, ``cancel`` finds nothing to cancel but streams, ``timeout_s`` is noticed when the task has ended,
and resources are counted but never waited for.
"""

from __future__ import annotations

from typing import Any

from ray.plugins.compose import Composition
from ray.runtime.local.actor_table import ActorTable
from ray.runtime.local.calls import Calls
from ray.runtime.local.entries import Entries
from ray.runtime.local.facts import Facts
from ray.runtime.local.failures import Failures
from ray.runtime.local.freeing import Freeing
from ray.runtime.local.nothing_pending import NothingPending
from ray.runtime.local.tasks import Tasks
from ray.runtime.local.values import Values
from ray.runtime.process.hardware import gpu_ids
from ray.runtime.process.signal_guard import SignalGuard
from ray.runtime.start_options import StartOptions, offered
from ray.serialization import register_reducer


class LocalRuntime:
    """A session without other processes: its parts, and what they need of each other.

    Public methods are those of ``ray.runtime.interface.Runtime``. Safe from several threads; each runs what it submits.
    """

    is_worker = False
    is_local_mode = True

    def __init__(self, options: StartOptions) -> None:
        self._entries = entries = Entries()
        self._failures = failures = Failures()
        self._actors = actors = ActorTable(entries, options.namespace)
        self._freeing = Freeing(entries, self._freed)
        collect = self._freeing.collect
        values = Values(entries, failures, collect)
        tasks = Tasks(entries, failures, values, actors, collect)
        self._signals = SignalGuard()
        totals = offered(options, len(gpu_ids()) if options.num_gpus is None else 0)
        self._facts = Facts(totals, options.namespace, actors.held)
        self._offer(values, tasks, Calls(entries, failures, values, actors, tasks, collect), NothingPending(entries))
        self.composition = Composition(options.plan)
        self.composition.lifecycle("plan_resolved", {})
        for cls, reducer in self.composition.serializers():
            register_reducer(cls, reducer)
        self.address_info = self._facts.address_info()
        self.composition.lifecycle("runtime_started", self._facts.for_plugins())
        self._signals.install()

    def _offer(self, values: Values, tasks: Tasks, calls: Calls, pending: NothingPending) -> None:
        """The API calls the parts directly."""
        self.put, self.get, self.get_one, self.asked_for = values.put, values.get, values.get_one, values.asked_for
        self.promise = self._entries.promise
        self.get_done = values.get_done
        self.reduce_ref, self.find_entry = values.reduce_ref, self._entries.find
        self.submit_task, self.submit_call = tasks.submit_task, calls.submit_call
        self.create_actor, self.adopt_actor = calls.create_actor, self._actors.adopt
        self.kill_actor, self.terminate_actor, self.exit_actor = (
            calls.kill_actor,
            calls.terminate_actor,
            calls.exit_actor,
        )
        self.get_named_actor, self.own_actor = calls.get_named_actor, calls.own_actor
        self.wait, self.remembers, self.knows = pending.wait, pending.remembers, pending.knows
        self.is_done, self.done_of, self.on_disk = pending.is_done, pending.done_of, pending.on_disk
        self.subscribe, self.unsubscribe = pending.subscribe, pending.unsubscribe
        self.check_blocking, self.wait_for_next = pending.check_blocking, pending.wait_for_next
        self.wait_for_future = pending.wait_for_future
        self.check_force, self.cancel = pending.check_force, pending.cancel
        facts = self._facts
        self.nodes, self.context = facts.nodes, facts.context
        self.cluster_resources, self.available_resources = facts.cluster_resources, facts.available_resources

    @property
    def session_id(self) -> str:
        return self._facts.session_id

    def _freed(self, id: bytes) -> None:
        self._failures.tell(id)
        self._actors.freed(id)

    def errors(self, job: str | None = None) -> list[dict[str, Any]]:
        """See ``Runtime``: there is one job."""
        if job not in (None, self._facts.job_id.hex()):
            return []
        self._freeing.collect()
        with self._entries.lock:
            return self._failures.rows()

    def shutdown(self) -> None:
        """See ``Runtime``."""
        self.composition.lifecycle("runtime_stopping", self._facts.for_plugins())
        try:
            self._freeing.close_streams()
        finally:
            self._signals.remove()
        with self._entries.lock:
            actors = self._actors.clear()
            self._entries.kept.clear()
            self._entries.table.close()
        for actor in actors:
            actor.end("the session has ended")
        self._failures.close()
