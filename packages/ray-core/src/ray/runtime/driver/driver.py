"""The driver: owns what the program submits, and takes its job down at the end, with its node if that is its own."""

from __future__ import annotations

import os

from ray.abc.store import Store
from ray.abc.transport import Transport
from ray.exceptions import NodeDiedError, RayConnectionError, RayError, RaySystemError
from ray.messages import jobs, node, wire
from ray.plugins.compose import Composition
from ray.plugins.plan import ResolvedPlan
from ray.protocol.handshake import Membership, hello
from ray.runtime.driver.hosting import Hosting
from ray.runtime.driver.leaving import NodeLeavesError
from ray.runtime.driver.printer import Printer
from ray.runtime.driver.unfinished import unfinished_line
from ray.runtime.node.trouble import NodeTrouble
from ray.runtime.owner.here import Here
from ray.runtime.owner.owner import OwnerRuntime
from ray.runtime.process import descriptors
from ray.runtime.process.admission import Admission, admit, guard_parts
from ray.runtime.process.forked import watch_forks
from ray.runtime.process.node_start import JobConfig, NodeFacts
from ray.runtime.process.packed_directory import PackedDirectory
from ray.runtime.process.signal_guard import SignalGuard
from ray.runtime.process.standard_streams import fill_standard_descriptors
from ray.runtime.process.telling import write
from ray.runtime.worker import driver_path
from ray.threads import Flag

_START_S = 30.0
#: The node manager ends within this time, unless it waits for resource trackers.
_STOP_S = 2.0
_LAST_WORDS_S = 0.5
#: A node that goes on has so long to end what this job has left.
_LEAVE_S = 5.0
#: What a session without workers needs in this process.
_DESCRIPTORS = 32


class DriverRuntime(OwnerRuntime):
    """A job of this program, on a node of its own or on one that others use as well."""

    def __init__(
        self, hosting: Hosting, plan: ResolvedPlan, job: JobConfig, directory: PackedDirectory | None = None
    ) -> None:
        """Become a part of a session.

        Args:
            hosting: the node, which is running, or is to be started.
            plan: of the session.
            job: what the program wants.
            directory: that it sends along.
        """
        fill_standard_descriptors()
        self._hosting = hosting
        self._directory = directory
        here = self.here = Here(hosting.session, b"", job.namespace)
        self._signals = SignalGuard()
        self._signals.install()
        #: Nothing more will come from the node manager.
        self._node_gone = Flag()
        self._pid = os.getpid()
        transport: Transport | None = None
        store: Store | None = None
        facts: NodeFacts | None = None
        sent = "" if directory is None else directory.root
        try:
            descriptors.secure(_DESCRIPTORS, "the program that starts a session")
            hosting.begin()
            composition = Composition(plan)
            composition.lifecycle("plan_resolved", {})
            facts = hosting.await_facts()
            transport = composition.open_transport(hosting.session_dir, facts.node)
            guard_parts(composition, transport)
            admission = _admit(hosting, transport, facts, plan.digest)
            here.name(admission.welcome.process, admission.welcome.job)
            store = composition.open_store(facts.store)
            super().__init__(here, "driver", transport, store, composition)
            self.values.serves = admission.welcome.serves and not hosting.is_guest
            self._printer = Printer(lambda amount: self.node.send(node.Printed(amount)), self.timers.after, facts.home)
            self._trouble = NodeTrouble(self._printer.show)
            self.events.wanted = facts.events
            self.attach(admission.address, admission.connection, facts.address)
            self.inbox.node_handlers |= {
                node.Logs: self._printer.show,
                node.RecordError: lambda message: self._trouble.note(message.record),
                node.ShowFailure: lambda message: self.show_failure(message.text),
                jobs.AskPath: lambda message: self.node.send(driver_path.answer_to(message, sent)),
                node.Ending: lambda message: self.node_lost(message.reason, orderly=True),
            }
            if directory is not None:
                self.inbox.node_handlers[jobs.AskPackage] = lambda message: self.node.send(
                    directory.piece(message.job, message.offset)
                )
            self.inbox.pending.extend(admission.events)
            self.polling.program_ends = self._signals.ends_program
            self.polling.start()
            if not hosting.is_owner:
                self._open_job(job)
            self.plugins.join()
        except BaseException as problem:
            failed = self._joining_failed(problem) if facts is not None else ""
            if hasattr(self, "polling"):
                self.here.closed = True
                self.polling.stop()
            if transport is not None:
                transport.close()
            if store is not None:
                store.close()
            hosting.end()
            hosting.clear_away()
            self._signals.remove()
            if failed:
                raise (RaySystemError if hosting.is_owner else NodeLeavesError)(failed) from problem
            raise
        self.address_info = {
            "address": self.node.address,
            "node_ip_address": facts.host,
            "node_id": self.node_id,
            "session_dir": hosting.session_dir,
            "object_store_address": facts.store,
            "raylet_socket_name": self.node.address,
            "redis_address": facts.cluster or None,
            "webui_url": None,
        }
        if job.log_to_driver:
            verb = "started" if hosting.is_owner else f"joined as job {here.job}"
            write(f"[ray] session {hosting.session} {verb}: {plan.describe()}\n")
        watch_forks(self)

    def _open_job(self, job: JobConfig) -> None:
        """Tell the node manager what workers of this job are to have.

        Raises:
            RayConnectionError: it refuses.
        """
        answer = self.node.request(lambda number: jobs.OpenJob(number, job.to_json()))
        if not answer.ok:
            raise RayConnectionError(f"the node refuses this program: {answer.error}")

    def _joining_failed(self, problem: BaseException) -> str:
        """What to say of an error of this process as it joins the session, if that is not the error to raise.

        Mostly the node manager has ended; it does so as well where the store has died.
        """
        unreached = isinstance(problem, OSError)
        ended = self._hosting.how_it_ended(_STOP_S if unreached else 0.0) if isinstance(problem, Exception) else ""
        if ended:
            return f"the node manager has ended while the session was started{ended}{self._hosting.log_tail()}"
        if unreached and not isinstance(problem, RayError):
            if not self._hosting.is_owner:
                return f"the node does not take this program, and may be ending: {problem}"
            return f"the session was started, and cannot be joined: {problem}{self._hosting.log_tail()}"
        is_over = isinstance(problem, NodeDiedError) and not self._hosting.is_owner
        return "the node has ended while this program joined it" if is_over else ""

    # --- the end ------------------------------------------------------------------------------------------------------

    def node_lost(self, reason: str, *, orderly: bool = False) -> None:
        """The node manager is gone, or ends, and with it every worker: whatever waits gets an error."""
        self._node_gone.set()
        if not orderly:
            reason = self._hosting.why_it_ended() or reason
        with self.lock:
            if self.closed:
                return
            self.node.dead = reason  # first: a caller that finds the session closed is told why
            self.here.closed = True
            # The program may close the log as soon as it has the error.
            text = f"[ray] {reason}{self._hosting.log_tail()}\n"
            self.node.lost(reason)
            self.abandon_all(NodeDiedError(self.node_id, reason))
        self._hosting.lost(orderly=orderly)
        self._printer.show(text)  # the caller may hold the lock, and stderr take nothing

    def shutdown(self) -> None:
        if os.getpid() != self._pid:
            return  # a forked child: the session is its parent's
        undone = ""
        with self.lock:
            if not self.closed:
                self.plugins.leave()
                undone = unfinished_line(self)
                self.reports.flush()
                self.events.flush()
                self.node.send(node.Stop() if self._hosting.is_owner else jobs.Leave())
            self.here.closed = True
        self.polling.nudge()  # the last words of workers come before the node manager ends
        self._hosting.end()
        self._node_gone.wait(_LAST_WORDS_S if self._hosting.is_owner else _LEAVE_S)
        with self.lock:
            self.node.end()
            self.abandon_all(None)
        self.polling.stop()
        self.table.close()
        self.transport.close()
        self.values.views.close()
        self.store.close()
        if self._directory is not None:
            self._directory.close()
        if undone:
            self._printer.show(undone)
        self._printer.close()
        self._hosting.clear_away()
        self._signals.remove()

    @property
    def session_dir(self) -> str:
        """The directory of the session."""
        return self._hosting.session_dir

    def trouble(self) -> str:
        return super().trouble() or self._trouble.sentence()

    def show_failure(self, text: str) -> None:
        self._printer.show(f"[ray] {text}\n")

    def after_fork_in_child(self) -> None:
        """This is a copy of the driver: let go of everything without touching it."""
        super().after_fork_in_child()
        self._hosting.after_fork_in_child()
        if self._directory is not None:
            self._directory.close()
        self._signals.remove()


def _admit(hosting: Hosting, transport: Transport, facts: NodeFacts, digest: str) -> Admission:
    """Get this process's id."""
    here = Membership(hosting.session, 0, facts.job, digest)
    # Other drivers may listen in the directory of a session that is not this one's own.
    hint = "driver" if hosting.is_owner else f"d-{os.urandom(4).hex()}"

    def greet(own: str) -> wire.Hello:
        return hello(here, "driver", b"", own, os.getpid())

    return admit(transport, hint, facts.address, greet, here, _START_S, is_guest=hosting.is_guest)
