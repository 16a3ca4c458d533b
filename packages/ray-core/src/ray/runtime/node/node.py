"""The node manager: one single-threaded process per machine that leases workers, keeps actors and collects output.

It decides nothing itself: ``LeaseTable`` and ``ActorTable`` do; this shell turns messages into their events and their
effects into messages and processes. It never unpickles what users send.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from ray.abc.control import ControlStore
from ray.abc.scheduler import ResourceRequest, SchedulerPolicy
from ray.abc.store import StoreServer
from ray.abc.transport import Connection, Frame, Transport
from ray.clock import wall_time
from ray.exceptions import RemoteProtocolError, RuntimeEnvSetupError
from ray.ids import ProcessIds, embedded_node, make_lease_ids, node_bytes, node_manager_of, node_number
from ray.messages import codec, jobs, node, wire
from ray.messages.cluster import AskDemands
from ray.plugins.specs import EventSink
from ray.protocol import handshake, leases, waiting
from ray.protocol.resources import UNIT, NodeResources
from ray.runtime.cluster.members import Member
from ray.runtime.cluster.survey import Survey
from ray.runtime.node.actors import NodeActors
from ray.runtime.node.chores import Chores
from ray.runtime.node.client import Client, Handler, of_node
from ray.runtime.node.ends import NodeEnds, expect_end
from ray.runtime.node.failures import NodeFailures
from ray.runtime.node.homes import Homes
from ray.runtime.node.job_ends import JobEnds
from ray.runtime.node.jobs import Job, Jobs, answer_of
from ray.runtime.node.others import Alone, Elsewhere, Others
from ray.runtime.node.output import NodeOutput
from ray.runtime.node.own_demands import OwnDemands, Surveying
from ray.runtime.node.packages import NodePackages
from ray.runtime.node.patience import NodePatience
from ray.runtime.node.questions import Questions
from ray.runtime.node.reception import Arriving, Reception
from ray.runtime.node.recorded_errors import RecordedErrors
from ray.runtime.node.running import NodeRunning
from ray.runtime.node.starts import WorkerStarts
from ray.runtime.node.unserved import UnservedDemands
from ray.runtime.node.worker_pool import WorkerPool
from ray.runtime.node.worker_process import WorkerProcess
from ray.runtime.process.hardware import described
from ray.runtime.process.node_start import JobConfig, NodeConfig
from ray.runtime.process.refusals import Refusals
from ray.runtime.process.session_dirs import NodeEnd
from ray.runtime.process.timers import Timers

if TYPE_CHECKING:  # a node that is alone does not import it
    from ray.runtime.node.joined import Joined

#: After a worker's connection is lost its process has this long to end by itself.
LOST_GRACE_S = 0.3
#: What may be about something of another node.
PASSED_ON = frozenset({
    node.Release, node.Suspect, node.KillLease, node.RecallLease, node.Interrupt, node.WatchActor, node.KillActor,
    node.ActorStarted, node.ActorExiting, node.Lingering, node.CreateActor, node.ActorUnheld, node.Question,
    jobs.Path,
})  # fmt: skip
_TICK_S = 5.0
#: The context of a connection that was dropped before it said who it is; more of its messages may be under way here.
_DROPPED = object()


class NodeManager:
    """The shell. ``run`` serves until ``stop``."""

    def __init__(
        self,
        config: NodeConfig,
        transport: Transport,
        control: ControlStore,
        policy: SchedulerPolicy,
        store: StoreServer,
        sinks: Sequence[EventSink] = (),
        digest: str = "",
        node_id: bytes = b"",
    ) -> None:
        """Make its parts.

        Args:
            config: of the node.
            transport: which it listens with.
            control: the state of record.
            policy: chooses nodes.
            store: of the node.
            sinks: take the ends of tasks.
            digest: of the plan.
            node_id: the node's number; empty: one that no other node has.
        """
        self.config = config
        self.node = node_id or embedded_node()
        self.process_id, self._new_id = node_manager_of(self.node), ProcessIds(self.node).give
        self.transport = transport
        self._store = store
        self._sinks = sinks
        self.timers = Timers()
        self.peers: dict[bytes, Client] = {}
        alone = Alone()
        self.others: Others = alone
        #: Called in each turn of the loop before anything is heard; False: this node may not run any more.
        self._awake: Callable[[], bool] = lambda: True
        self.elsewhere: Elsewhere = alone
        self.jobs = Jobs(config.session_dir)
        self.jobs.node = node_number(self.node)
        #: The job of the driver with which this node ends, if there is one.
        self.own_job = ""
        self._refusals = Refusals(lambda text: print(text, flush=True))
        recorded = self._recorded = RecordedErrors(control, lambda text: print(text, flush=True))
        self.failures = NodeFailures(recorded, self.jobs)
        resources = NodeResources(config.resources, config.gpu_ids)
        name, labels = ("", {}) if config.cluster is None else (config.cluster.node_name, config.cluster.labels)
        self.leases = leases.LeaseTable(self.process_id, resources, policy, make_lease_ids(self.node), name, labels)
        self.output = NodeOutput(transport, self.timers, self.jobs.hears)
        self.pool = WorkerPool(config, transport, self.timers, self._worker_died, self.output, self.fail, self._new_id)
        if store.pid is not None:
            self.pool.vital[store.pid] = "the process of the object store"
        self.actors = NodeActors(self, self.leases, self.peers, self.pool, self.timers, self.process_id, self.failures)
        self.job_ends = JobEnds(
            config.instance, self.jobs, self.leases, self.pool, self.actors.table, self.output, recorded, self.timers
        )
        self.job_ends.on_over = self._job_over
        self._packages = self.jobs.packages = NodePackages(
            config.session_dir,
            self.jobs,
            Chores(self.pool, transport),
            self.timers,
            self._prepared,
            others_may_ask=config.cluster is not None,
        )
        self._homes = Homes(self.timers)
        #: Whether another node manager whose connection is lost is not lost with that.
        self._keeps: Callable[[Client], bool] = lambda home: False
        membership = handshake.Membership(config.session, node_number(self.node), digest=digest)
        self.reception = Reception(
            membership, control, self.peers, self.pool, self.jobs, self._new_id, self._refusals, self._homes
        )
        keep_idle = max(1, min(config.resources.get("CPU", 0) // UNIT, 64))
        self.ends = NodeEnds(self, self.leases, self.pool, self.timers, self._actor_leaves, keep_idle)
        self.starts = WorkerStarts(
            self, self.leases, self.pool, self.timers, self.jobs, self.failures, self.ends.make_room
        )
        self.unserved = UnservedDemands(
            self.leases,
            lambda: self.elsewhere,
            self.timers,
            self.failures,
            self._tell_of_lack,
            alone=config.cluster is None,
        )
        self.demands = OwnDemands(self.leases, self.unserved.lack)
        self._survey: Surveying = self.demands
        self.patience = NodePatience(
            self, self.leases, self.peers, self.timers, self.actors.class_of, self.failures, self.jobs
        )
        self.stopping = self._terminated = False
        #: Why it could not go on; empty while it can.
        self.reason = ""
        #: A child has ended, stopped or continued.
        self.reap_due = False
        self._handlers = self._all_handlers()

    def _all_handlers(self) -> dict[type, Handler]:
        running = NodeRunning(self.leases, self.peers, self.pool, self.timers, self.actors.table)
        questions = Questions(
            self.leases,
            self.actors,
            self.pool,
            self.peers,
            self._recorded,
            self._describe,
            lambda: self.elsewhere,
            lambda: self._survey,
        )
        return {
            node.Demand: self._demand,
            node.Release: self._release,
            node.Suspect: self._suspect,
            node.Blocked: lambda peer, message, frames: self.apply(self.leases.blocked(peer.id)),
            node.Resumed: lambda peer, message, frames: self.leases.resumed(peer.id),
            node.Ready: self._ready,
            node.RecordError: lambda peer, message, frames: self.failures.record(
                peer.job, message.record, print_it=False
            ),
            node.Ping: lambda peer, message, frames: peer.send(node.Pong(message.number)),
            node.ShowFailure: lambda peer, message, frames: self.jobs.tell(peer.job, message),
            node.TaskEvents: self._task_events,
            jobs.OpenJob: self._open_job,
            jobs.Leave: self._leave,
            node.Stop: self._stop_for,
            jobs.AskPath: self._ask_path,
            jobs.Path: self._path,
            jobs.PackagePiece: self._packages.take,
            node.Printed: self.output.printed,
            wire.Got: self._homes.confirmed,
            wire.Forgotten: self._homes.forgotten,
            **self.actors.handlers(),
            **self.ends.handlers(),
            **running.handlers(),
            **questions.handlers(),
            **self.others.handlers(),
        }

    def join(self, others: Joined, survey: Survey) -> None:
        """This node is one of several; called before it serves."""
        self.others, self.elsewhere = others, others.known
        self._awake = others.awake
        self._survey = survey
        self._handlers |= {**others.handlers(), AskDemands: of_node(survey.tell)}
        self.reception.join(others.admit, others.met)
        others.home_gone, self._keeps = self._home_gone, others.keeps

    # --- loop -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until ``stop``; the caller closes what it opened."""
        poll, timers = self.transport.poll, self.timers
        while not self.stopping:
            events = poll(timers.timeout_s(_TICK_S))
            if not self._awake():
                break
            for connection, frames in events:
                if frames is None:
                    self._lost(connection)
                else:
                    self._receive(connection, frames)
            if self.reap_due:  # after the messages: a dead worker's last ones count
                self.reap_due = False
                self.pool.reap()
            timers.run_due()
        if self._terminated and not self.own_job:
            self.jobs.tell_all(node.Ending(self._why_terminated() or "the node was stopped"))
        self.others.leave(self.reason)

    def stop(self) -> None:
        """Leave ``run`` after the current events."""
        self.stopping = True

    def fail(self, reason: str) -> None:
        """The node cannot go on: say so, and stop."""
        if not self.stopping:
            print(reason, flush=True)
            self.reason = reason
            self.jobs.tell_all(node.Ending(reason))
            self.stop()

    def _why_terminated(self) -> str:
        """What the keeper of the cluster has noted; empty if it was asked to end the node."""
        noted = NodeEnd(self.config.session_dir)
        try:
            return noted.reason()
        finally:
            noted.close()

    def terminate(self) -> None:
        """The node was asked to end. In a signal handler: the loop says so when it ends."""
        self.stopping = True
        self._terminated = True

    def owner_ended(self) -> None:
        """The driver whose node this is has ended, and the node ends with it."""
        for job in self.jobs:
            if job.id != self.own_job:
                self.jobs.tell(job.id, node.Ending("the program that started this node has ended"))
        self.stop()

    def _receive(self, connection: Connection, frames: Sequence[Frame]) -> None:
        try:
            peer = connection.context
            if type(peer) is Member:
                self.others.hear(peer, frames)
                return
            if type(peer) is Client and peer.talk is not None:
                frames = self._homes.opened(peer, frames)
                if not frames:
                    return
            message = codec.decode(frames)
            if peer is None:
                self.reception.receive(connection, message)
                return
            if type(peer) is Arriving and not peer.is_gone:
                raise RemoteProtocolError("a driver that does not wait until it is welcome")
            if type(peer) is not Client or self.peers.get(peer.id) is not peer:
                return  # it is dead or was dropped, and what it held was given away
            handler = self._handlers.get(type(message))
            if handler is None:
                raise RemoteProtocolError(f"{type(message).__name__} is not for a node manager")
            if type(message) in PASSED_ON and self.others.pass_on(peer, message):
                return
            handler(peer, message, frames)
        except Exception as error:  # costs nobody but the peer
            self._refusals.note(error)
            connection.abort()
            if connection.context is None:
                connection.context = _DROPPED
            self._lost(connection)

    def _lost(self, connection: Connection) -> None:
        peer = connection.context
        if isinstance(peer, Member):
            self.others.member_lost(peer)
        if isinstance(peer, Arriving):
            peer.is_gone = True
        if not isinstance(peer, Client):
            return
        if peer.kind == "node":
            self._home_lost(peer, connection)
            return
        if self.peers.get(peer.id) is not peer:  # a driver that has left may have been killed before it has cleaned up
            self.pool.place.remove(peer.address)
            self.job_ends.leaver_lost(peer.job, peer)
            return
        if peer.worker is not None:
            self.pool.expect_end(peer.worker, LOST_GRACE_S, "it closed its connections (exec, or closed descriptors)")
        else:
            self._driver_lost(peer, None)

    def _home_lost(self, home: Client, connection: Connection) -> None:
        """The connection of another node manager is lost: it comes again, or the director says that it is dead."""
        if self._homes.broken(home, connection) and not self._keeps(home):
            self._home_gone(home)

    def _home_gone(self, home: Client) -> None:
        """Another node manager is dead: what was lent to it ends."""
        self._homes.end(home)
        if self.peers.get(home.id) is home:
            self._owner_lost(home.id)

    def _driver_lost(self, peer: Client, leaver: Client | None) -> None:
        """A driver has gone, or is about to; an observer likewise."""
        self._owner_lost(peer.id)
        if leaver is None:
            self.pool.place.remove(peer.address)
        job = self.jobs.get(peer.job)
        if job is not None:
            self.job_ends.begin(job, leaver)

    def _owner_lost(self, process: bytes) -> None:
        peer = self.peers.pop(process, None)
        if peer is not None:
            self.others.client_lost(peer)
        for lease in self.leases.owner_lost(process):
            worker = self.pool.workers.get(lease.worker)
            if worker is not None:
                self.pool.kill(worker, "the process that submitted its task has died")
        self.actors.owner_lost(process)
        self._store.owner_lost(process)
        self.apply(self.leases.schedule())

    # --- leases -----------------------------------------------------------------------------------------------------

    def apply(self, effects: Sequence[leases.Effect]) -> None:
        """Carry out what the lease table decided."""
        for effect in effects:
            if type(effect) is leases.Grant:
                self._granted(effect.lease)
            elif type(effect) is leases.StartWorkers:
                self.starts.start(effect.job, effect.count)
            elif type(effect) is leases.RevokeLease:
                owner = self.peers.get(effect.lease.key[0])
                if owner is not None:
                    owner.send(node.Revoke(effect.lease.id, effect.soft))
            elif type(effect) is leases.Infeasible:
                self.unserved.look_at(effect.entry)
        self.others.look()

    def _granted(self, lease: leases.Lease) -> None:
        worker = self.pool.workers[lease.worker]
        owner_id, key = lease.key
        if owner_id == self.process_id:
            self.actors.granted(key, lease, worker)
            return
        owner = self.peers.get(owner_id)
        if owner is None:
            self.apply(self.leases.release(lease.id))
            return
        gpu_ids = list(lease.allocation.gpu_ids)
        owner.send(node.Granted(key, lease.id, worker.address, worker.pid, gpu_ids, worker.id))

    def _demand(self, peer: Client, message: node.Demand, frames: Sequence[Frame]) -> None:
        placement = message.placement
        spread = placement is not None and placement.spread
        request = ResourceRequest(message.resources, message.depth, message.priority, spread)
        key = (peer.id, message.key)
        prefer = node_bytes(message.prefer) if message.prefer else b""
        self.apply(
            self.leases.demand(key, request, message.count, message.name, peer.job, placement=placement, prefer=prefer)
        )
        self.attend()

    def _release(self, peer: Client, message: node.Release, frames: Sequence[Frame]) -> None:
        lease = self.leases.leases.get(message.lease)
        if lease is None:
            return
        worker = self.pool.workers.get(lease.worker)
        self.apply(self.leases.release(message.lease, retired=message.retired))
        if message.retired and worker is not None:
            expect_end(self.pool, worker)
        self.ends.arm_trim()

    def _suspect(self, peer: Client, message: node.Suspect, frames: Sequence[Frame]) -> None:
        lease = self.leases.leases.get(message.lease)
        worker = lease and self.pool.workers.get(lease.worker)
        if worker:
            self.pool.expect_end(worker, LOST_GRACE_S, "it closed its connections (exec, or closed descriptors)")
        elif lease is None:
            peer.send(node.LeaseEnded(message.lease, node.ExitCause(reason="the lease had ended before")))

    def _ready(self, peer: Client, message: node.Ready, frames: Sequence[Frame]) -> None:
        worker = peer.worker
        if worker is None or worker.ready:
            raise RemoteProtocolError("Ready from a process that is not a new worker")
        worker.ready = True
        self.starts.succeeded()
        if worker.timer is not None:
            worker.timer.cancel()
        self.apply(self.leases.worker_ready(worker.id, worker.job))
        self.ends.arm_trim()

    def _worker_died(self, worker: WorkerProcess, cause: node.ExitCause) -> None:
        if worker.ready:
            self._ready_worker_died(worker, cause)
        else:
            self.peers.pop(worker.id, None)
            if not self.stopping:
                self.starts.failed(worker, cause)
        self.job_ends.look(worker.job)

    def _ready_worker_died(self, worker: WorkerProcess, cause: node.ExitCause) -> None:
        lease, effects = self.leases.worker_lost(worker.id)
        if lease is not None and lease.key[0] == self.process_id:
            self.actors.worker_lost(worker, cause)
        elif lease is not None and lease.key[0] in self.peers:
            self.peers[lease.key[0]].send(node.LeaseEnded(lease.id, cause))
        self.apply(effects)
        self._owner_lost(worker.id)

    def _job_over(self, job: str) -> Collection[bytes]:
        known = self.jobs.get(job)
        return self.others.job_over(job, goes_on=known is not None and known.goes_on)

    def actor_died(self, job: str) -> None:
        """See ``NodeDesk``."""
        self.timers.after(0.0, lambda: self.job_ends.look(job))  # its process is to be ended first

    def look_at_infeasible(self) -> None:
        """See ``NodeDesk``."""
        self.unserved.look_at_all()

    def attend(self) -> None:
        """Somebody may have to wait for a worker."""
        self.patience.attend()

    def _actor_leaves(self, lease: leases.Lease, worker: WorkerProcess, cause: node.ExitCause) -> None:
        """A worker that is about to go has given its lease up; if it was an actor, that has ended."""
        if lease.key[0] == self.process_id:
            self.actors.worker_lost(worker, cause)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def open_own_job(self, number: int, config: JobConfig) -> str:
        """The node is to end with a driver, and has workers for it before it comes; returns the name of its job."""
        job = self.jobs.add(number)
        self.jobs.configure(job, config)
        self.own_job = job.id
        return job.id

    def prestart(self, count: int) -> None:
        """Have workers of the own job waiting before its first task."""
        self.apply(self.leases.start_ahead(min(count, self.pool.most), self.own_job))

    def _open_job(self, peer: Client, message: jobs.OpenJob, frames: Sequence[Frame]) -> None:
        job = self.jobs.get(peer.job)
        if job is None or job.config is not None:
            raise RemoteProtocolError("a job that is opened twice, or by a process that is no driver")
        try:
            self.jobs.configure(job, JobConfig.from_json(message.config))
        except ValueError as error:
            peer.send(node.Answer(message.request, False, error=str(error)))
            return
        peer.send(node.Answer(message.request, True))

    def _prepared(self, job: Job, lack: str) -> None:
        """Workers of a job may start; ``lack``: why the directory that it has sent along is not there."""
        if lack:
            text = str(RuntimeEnvSetupError(lack, self.config.shown_node(self.node)))
            self.failures.record(job.id, node.ErrorRecord("runtime_env_setup_failed", text, wall_time()))
        count, job.postponed = job.postponed, 0
        self.starts.start(job.id, count)
        self.others.look()

    def _leave(self, peer: Client, message: jobs.Leave, frames: Sequence[Frame]) -> None:
        if peer.kind != "driver":
            raise RemoteProtocolError(f"a {peer.kind} that leaves its job")
        self._driver_lost(peer, peer)

    def _stop_for(self, peer: Client, message: node.Stop, frames: Sequence[Frame]) -> None:
        if not self.own_job or peer.job != self.own_job or peer.kind != "driver":
            raise RemoteProtocolError("a process that would stop a node which is not its own")
        self.owner_ended()

    # --- errors, logs, questions --------------------------------------------------------------------------------------

    def _tell_of_lack(self, entry: waiting.DemandEntry, lack: str, fails: bool) -> None:
        owner = self.peers.get(entry.key[0])
        if owner is not None:
            owner.send(node.Infeasible(entry.key[1], lack, fails))
            if fails:  # what it asks for next is new, and is looked at anew
                self.apply(self.leases.demand(entry.key, entry.request, 0))
        elif entry.key[0] == self.process_id:
            self.actors.infeasible(entry.key[1], lack, fails)

    def _task_events(self, peer: Client, message: node.TaskEvents, frames: Sequence[Frame]) -> None:
        names = ("task_id", "name", "state", "duration_us", "attempt")
        events = [{**dict(zip(names, row, strict=True)), "pid": peer.pid} for row in message.rows]
        if message.dropped:
            events.append({"state": "dropped", "count": message.dropped, "pid": peer.pid})
        for sink in self._sinks:
            try:
                sink.write(events)
            except Exception as error:  # of no concern to their senders
                self._refusals.note(error)

    def _ask_path(self, peer: Client, message: jobs.AskPath, frames: Sequence[Frame]) -> None:
        driver = self.jobs.driver_of(peer.job)
        if driver is None:
            peer.send(node.Answer(message.request, False, error="its driver has ended"))
        else:
            driver.send(jobs.AskPath(message.request, peer.id, message.module))

    def _path(self, peer: Client, message: jobs.Path, frames: Sequence[Frame]) -> None:
        asker = self.peers.get(message.worker)
        if asker is not None:
            asker.send(answer_of(message))

    def _describe(self) -> dict[str, Any]:
        view = self.leases.view()
        return described(self.node.hex(), self.config.host, view.total, view.name, view.labels)
