"""The node manager's worker processes: forked through the zygote, watched, reaped, ended."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from ray.abc.strangers import Strangers
from ray.abc.transport import Transport
from ray.clock import monotonic
from ray.exceptions.base import exit_text
from ray.messages.node import ExitCause
from ray.protocol.run_slot import SLOT_BYTES, RunSlot
from ray.runtime.node import forking
from ray.runtime.node.headless import HEADLESS, Headless
from ray.runtime.node.output import NodeOutput
from ray.runtime.node.place import NodePlace
from ray.runtime.node.renewals import Renewals
from ray.runtime.node.stops import Look, Stops
from ray.runtime.node.worker_process import WorkerProcess
from ray.runtime.process import descriptors
from ray.runtime.process.group_ends import TRACKER_S, end_group, kill_leader, kill_trackers
from ray.runtime.process.node_start import NodeConfig
from ray.runtime.process.supervision import OomWatch, exit_cause, is_stopped
from ray.runtime.process.timers import Timer, Timers

#: A stopped process (SIGSTOP, SIGTSTP) is killed after this time: its callers get an error, not a hang.
STOPPED_GRACE_S = 3.0
#: A forked worker that does not say it is ready within this time is killed.
START_GRACE_S = 30.0
MAX_WORKERS = 8192
#: Of the node manager's descriptors, what a worker takes (its connection, stdout and stderr), and what is kept back for
#: other programs that look into the session, and for what is open for a moment only.
_WORKER_DESCRIPTORS, _SPARE_DESCRIPTORS = 3, 12
#: Of the store's clients, those that are no workers: the driver, and programs that look into the session.
_OTHER_CLIENTS = 3
#: How often it is looked for workers whose end the system does not tell, and the share of the time that it may take.
_LOOK_S, _LOOK_SHARE = 1.0, 0.005
#: Zygotes that die within this time, one after the other, are replaced this many times.
BARREN_S, MAX_BARREN_ZYGOTES = 1.0, 5


class WorkerPool:
    """Owns the zygote and every worker process. Runs on the node manager's one thread."""

    def __init__(
        self,
        config: NodeConfig,
        transport: Transport,
        timers: Timers,
        on_death: Callable[[WorkerProcess, ExitCause], None],
        output: NodeOutput,
        on_ruin: Callable[[str], None],
        new_id: Callable[[], bytes],
    ) -> None:
        self._config = config
        self._transport = transport
        self._timers = timers
        self._on_death = on_death
        self._output = output
        #: Called with the reason when there can be no more workers.
        self._on_ruin = on_ruin
        self._new_id = new_id
        self.place = NodePlace(config.session_dir, transport.contacts)
        self.node_address = ""
        #: Descriptor of a channel that ends with the driver.
        self.lifeline = -1
        #: {worker id: process}, until reaped
        self.workers: dict[bytes, WorkerProcess] = {}
        self._by_pid: dict[int, WorkerProcess] = {}
        #: {pid: wait status} of children that ended before the zygote's report of them was read
        self._unclaimed: dict[int, int] = {}
        self._slots = memoryview(mmap.mmap(-1, MAX_WORKERS * SLOT_BYTES))
        self._free_slots = list(range(MAX_WORKERS - 1, -1, -1))
        self._renewals = Renewals()
        self._stops = Stops(timers)
        self._headless = Headless()
        timers.about(_LOOK_S, self._look)
        self._oom = OomWatch()
        self._zygote_pid = 0
        self._zygote: socket.socket | None = None
        self._zygote_started = 0.0
        #: Zygotes in a row that died soon, and before they had forked anything.
        self._barren = 0
        #: What the last one said at its end.
        self._last_words = ""
        #: {pid: name} of children without which the node is of no use
        self.vital: dict[int, str] = {}
        #: Pids of children that the node manager replaces when they end.
        self.replaceable: set[int] = set()
        #: How many workers there may be, and why not more.
        self.most, self.most_reason = MAX_WORKERS, f"a node has at most {MAX_WORKERS} workers"
        #: {pid: timer} of vital children, and of the zygote, that were stopped
        self._frozen: dict[int, Timer] = {}
        #: {pid: why} of those that were ended for it
        self._ended_for: dict[int, str] = {}
        self.closing = False

    # --- zygote -----------------------------------------------------------------------------------------------------

    def begin(self, serve: forking.Serve) -> None:
        """Fork the zygote, which does ``serve``, now and when it has died; the process must have no threads."""
        self._serve = serve
        self._zygote_started = monotonic()
        self._zygote_pid, self._zygote = forking.start(serve, self._config, self._slots, self._renewals, self.lifeline)
        self._zygote.setblocking(False)
        self._transport.watch(self._zygote.fileno(), self._read_forked)

    def _zygote_lost(self) -> None:
        assert self._zygote is not None
        self._transport.unwatch(self._zygote.fileno())
        self._zygote.close()
        self._zygote = None
        if self.closing:
            return
        lasted = monotonic() - self._zygote_started > BARREN_S
        self._barren = 1 if lasted else self._barren + 1
        if self._barren > MAX_BARREN_ZYGOTES:
            told = f"; it said:\n{self._last_words}" if self._last_words else ""
            text = f"the process that forks workers died {self._barren} times in a row before it forked any{told}"
            self._on_ruin(text)
            return
        lost = [worker for worker in self.workers.values() if not worker.pid]
        self.begin(self._serve)
        for worker in lost:
            self._forget(worker, ExitCause(reason="the process that forks workers died"))

    def renewed(self, sent: float) -> None:
        """This node may run for some time from then on, by ``boottime``; if it does not end, the zygote sees to it."""
        self._renewals.note(sent, self._zygote)

    def knows(self, pid: int) -> bool:
        """Whether the process is a worker, or one that the node needs."""
        return pid in self._by_pid or pid in self.vital or pid in self.replaceable or pid == self._zygote_pid

    @property
    def has_room(self) -> bool:
        """Whether one more worker may be started."""
        return len(self.workers) < self.most and self._zygote is not None

    def count_room(self, store_clients: int | None) -> None:
        """Find out how many workers there can be; called once everything else that the node needs is open.

        Args:
            store_clients: how many processes the store lets in, if it has a limit of its own.
        """
        room = descriptors.limit() - descriptors.in_use() - Strangers[int]().limit - _SPARE_DESCRIPTORS
        limits = [(room // _WORKER_DESCRIPTORS, f"the node manager needs {_WORKER_DESCRIPTORS} of them for each")]
        if store_clients is not None:
            limits.append((store_clients - _OTHER_CLIENTS, "the object store needs some of them for each"))
        most, why = min(limits)
        if most < self.most:
            self.most = max(1, most)
            self.most_reason = f"{descriptors.describe()}; {why}"

    def start_worker(self, job: str = "", cwd: int = -1) -> bytes:
        """Ask the zygote for one more worker; ``on_death`` follows if it does not come up.

        Args:
            job: the name of the job that it is for.
            cwd: descriptor of the directory in which it begins; -1: that of this process.

        Returns:
            Its id.
        """
        worker_id = self._new_id()
        slot = self._free_slots.pop()
        place = self._slots[forking.place(slot)]
        place[:] = bytes(SLOT_BYTES)
        worker = self.workers[worker_id] = WorkerProcess(worker_id, [], slot, RunSlot(place), job)
        request = forking.encode(forking.ForkRequest(worker_id, self.node_address, slot, job))
        ends: list[int] = []
        try:
            for stream in (1, 2):
                reader, write = self._output.open(stream, job)
                worker.readers.append(reader)
                ends.append(write)
            self.ask(request, [*ends, cwd] if cwd >= 0 else ends)
        except OSError as error:
            cause = ExitCause(reason=f"it could not be asked for: {error}")
            self._timers.after(0.0, lambda: self._forget(worker, cause))
        for write in ends:
            os.close(write)
        worker.timer = self._timers.after(START_GRACE_S, lambda: self.kill(worker, "it did not start in time"))
        return worker_id

    def ask(self, request: bytes, fds: list[int]) -> None:
        """Send the zygote a request; raises OSError where it takes none."""
        if self._zygote is None:
            raise OSError("there is no process that forks others")
        self._zygote.setblocking(True)
        try:
            socket.send_fds(self._zygote, [request], fds)
        finally:
            self._zygote.setblocking(False)

    def _read_forked(self) -> None:
        """Take what the zygote has reported."""
        channel = self._zygote
        while channel is not None and channel is self._zygote:
            try:
                data = channel.recv(4096)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if data:
                self._take_report(forking.decode_forked(data))
            else:
                self._zygote_lost()

    def _take_report(self, forked: forking.Forked) -> None:
        if not forked.worker:
            self._last_words = forked.error
            return
        self._barren = 0
        worker = self.workers.get(forked.worker)
        if worker is None:
            return
        if not forked.pid:
            self._forget(worker, ExitCause(reason=f"fork failed: {forked.error}"))
            return
        worker.pid = forked.pid
        for reader in worker.readers:
            reader.pid = forked.pid
        self._by_pid[forked.pid] = worker
        if forked.pid in self._unclaimed:
            self._reaped(forked.pid, self._unclaimed.pop(forked.pid))
        elif worker.kill_reason:
            kill_leader(worker.pid)
        elif is_stopped(forked.pid):  # before it was this process's child
            self._stopped(forked.pid, signal.SIGSTOP)
        if self._unclaimed and all(worker.pid for worker in self.workers.values()):
            self._unclaimed.clear()  # pids are used again: what nobody claims now must not be taken for a later worker

    # --- deaths ------------------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Collect every child that ended, stopped or continued."""
        flags = os.WNOHANG | os.WUNTRACED | os.WCONTINUED
        while True:
            try:
                pid, status = os.waitpid(-1, flags)
            except ChildProcessError:
                return
            if not pid:
                return
            if os.WIFSTOPPED(status):
                self._stopped(pid, os.WSTOPSIG(status))
            elif os.WIFCONTINUED(status):
                self._continued(pid)
            else:
                self._reaped(pid, status)

    def _stopped(self, pid: int, number: int) -> None:
        name = signal.Signals(number).name
        self._continued(pid)  # if it was stopped before: of a stop that follows soon, only that is reported
        reason = f"it was stopped by {name} and did not continue within {STOPPED_GRACE_S:g} s"
        if pid == self._zygote_pid or pid in self.vital or pid in self.replaceable:
            self._frozen[pid] = self._timers.after(STOPPED_GRACE_S, lambda: self._end_frozen(pid, reason))
            return
        if number == signal.SIGSTOP and self._stops.stopped(pid):
            return
        worker = self._by_pid.get(pid)
        if worker is not None and number != signal.SIGTRAP:  # a debugger may stop it for as long as it likes
            worker.stopped = self._timers.after(STOPPED_GRACE_S, lambda: self.kill(worker, reason))

    def _end_frozen(self, pid: int, reason: str) -> None:
        self._ended_for[pid] = reason
        os.kill(pid, signal.SIGKILL)

    def _continued(self, pid: int) -> None:
        worker = self._by_pid.get(pid)
        timer = self._frozen.pop(pid, None) or (worker.stopped if worker else None)
        if timer is not None:
            timer.cancel()
        if worker is not None:
            worker.stopped = None

    def _reaped(self, pid: int, status: int) -> None:
        frozen = self._frozen.pop(pid, None)
        if frozen is not None:
            frozen.cancel()
        self.replaceable.discard(pid)
        if pid == self._zygote_pid:
            self._read_forked()
            if self._zygote_pid == pid and self._zygote is not None:  # a process that it has forked holds the other end
                self._zygote_lost()
            return
        if pid in self.vital:
            cause = exit_cause(pid, status, "", [])
            ended = self._ended_for.pop(pid, "") or exit_text(cause.exit_code, cause.signal)
            self._on_ruin(f"{self.vital.pop(pid)} (pid {pid}) died: {ended}")
            return
        worker = self._by_pid.get(pid)
        if worker is None:
            if any(not worker.pid for worker in self.workers.values()):  # else it is an orphan that a worker left
                self._unclaimed[pid] = status
            return
        self._stops.ended(pid)
        trackers = end_group(pid)  # what it started goes with it
        if trackers:
            self._timers.after(TRACKER_S, lambda: kill_trackers(trackers))
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        oom = killed and not worker.kill_reason and self._oom.happened()
        for reader in worker.readers:
            if reader.fd >= 0:
                reader.drain()
        tail = worker.readers[1].last_words()
        reason = worker.kill_reason
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGABRT:
            reason = reason or self._transport.abort_reason(tail)
        cause = exit_cause(pid, status, reason, tail, oom=oom)
        self._forget(worker, msgspec.structs.replace(cause, running=worker.note.running))

    def _forget(self, worker: WorkerProcess, cause: ExitCause) -> None:
        if self.workers.pop(worker.id, None) is None:
            return
        self._by_pid.pop(worker.pid, None)
        self._free_slots.append(worker.slot)
        if worker.timer is not None:
            worker.timer.cancel()
        for reader in worker.readers:
            self._output.close(reader)
        if worker.connection is not None:
            worker.connection.abort()
        self.place.remove(worker.address)
        self._on_death(worker, cause)

    def stop(self, worker: WorkerProcess, look: Look) -> None:
        """Call ``look`` while the worker stands still, so that its note stays true; it goes on if it did before."""
        if worker.stopped is not None and (sys.platform != "linux" or is_stopped(worker.pid)):
            look(True)
        elif worker.pid:  # also one that was stopped, and has just been continued, which is still to be reported
            self._stops.stop(worker.pid, look)
        else:
            look(False)

    def look_at_place(self) -> None:
        """End all if new workers cannot find the node any more."""
        lack = self.place.lack()
        if lack:
            self._on_ruin(lack)

    def _look(self) -> None:
        began = monotonic()
        for pid in self._headless.look(self._by_pid):
            self.kill(self._by_pid[pid], HEADLESS)
        self.look_at_place()
        self._timers.about(max(_LOOK_S, (monotonic() - began) / _LOOK_SHARE), self._look)

    # --- ends --------------------------------------------------------------------------------------------------------

    def kill(self, worker: WorkerProcess, reason: str) -> None:
        """SIGKILL, with a reason for the report; the death itself is reported by ``reap``."""
        if worker.id in self.workers:
            worker.kill_reason = worker.kill_reason or reason
            if worker.pid:
                kill_leader(worker.pid)

    def kill_if_running(self, worker: WorkerProcess, task: bytes, reason: str) -> None:
        """Kill the worker if ``task`` is what it started last; it is stopped meanwhile, so that it cannot go on."""

        def look(stands: bool) -> None:
            if worker.note.running == task:
                self.kill(worker, reason)

        if worker.note.running == task:
            self.stop(worker, look)

    def expect_end(self, worker: WorkerProcess, grace_s: float, reason: str) -> None:
        """Kill the worker unless it ends by itself in time."""
        for reader in worker.readers:
            self._output.take_last(reader)
        self._timers.after(grace_s, lambda: None if worker.lingers else self.kill(worker, reason))

    def close(self) -> None:
        """Kill all workers, and take what they still wrote. The zygote stays: it survives this process."""
        self.closing = True
        for worker in list(self.workers.values()):
            self.kill(worker, "the node is shutting down")
            for reader in worker.readers:
                if reader.fd >= 0:
                    reader.drain()

    def diagnostics(self) -> dict[str, Any]:
        """Counts for ``ray doctor`` and tests."""
        pids = {"pids": sorted(self._by_pid), "vital_pids": sorted(self.vital)}
        return {"workers": len(self.workers), "zygote_pid": self._zygote_pid, **pids}
