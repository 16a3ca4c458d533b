"""A child that was stopped is killed only if it does not go on."""

import os
import signal
import subprocess
import sys

import pytest

from ray.builtin.inproc_transport import InprocTransport
from ray.protocol.run_slot import SLOT_BYTES, RunSlot
from ray.runtime.node import worker_pool
from ray.runtime.node.worker_pool import WorkerPool
from ray.runtime.node.worker_process import WorkerProcess
from ray.runtime.process.node_start import NodeConfig
from ray.runtime.process.timers import Timers

CONFIG = NodeConfig(
    session="s", session_dir="/nowhere", plan="", resources={}, gpu_ids=[], store_bytes=0, sys_path=[], preload=[],
)  # fmt: skip
PID = 12345


@pytest.fixture
def killed(monkeypatch):
    """Pids that were killed; grace periods are over at once."""
    killed = []
    monkeypatch.setattr(worker_pool, "STOPPED_GRACE_S", 0.0)
    monkeypatch.setattr(worker_pool, "kill_leader", killed.append)
    monkeypatch.setattr(worker_pool.os, "kill", lambda pid, number: killed.append(pid))
    return killed


def make(*, vital):
    timers = Timers()
    pool = WorkerPool(CONFIG, InprocTransport(), timers, None, None, None, None)
    worker = WorkerProcess(b"w" * 8, [], slot=0, note=RunSlot(memoryview(bytearray(SLOT_BYTES))))
    worker.pid = PID
    if vital:
        pool.vital[PID] = "the store"
    else:
        pool.workers[worker.id] = pool._by_pid[PID] = worker
    return timers, pool


@pytest.mark.parametrize("vital", [True, False])
def test_the_system_tells_of_the_last_of_several_stops_only(killed, vital):
    """It went on in between, which was not reported before it was stopped again."""
    timers, pool = make(vital=vital)
    pool._stopped(PID, signal.SIGTSTP)
    pool._stopped(PID, signal.SIGTSTP)
    pool._continued(PID)
    timers.run_due()
    assert not killed


@pytest.mark.parametrize("vital", [True, False])
def test_a_stop_that_lasts_ends_it(killed, vital):
    timers, pool = make(vital=vital)
    pool._stopped(PID, signal.SIGTSTP)
    pool._continued(PID)
    pool._stopped(PID, signal.SIGTSTP)
    timers.run_due()
    assert killed == [PID]


@pytest.mark.skipif(sys.platform != "linux", reason="others do not tell")
def test_one_that_was_continued_is_stopped_for_a_look():
    """The system has not reported yet that it goes on: what it notes may change at any moment."""
    timers, pool = make(vital=False)
    worker = pool._by_pid[PID]
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    looks = []
    try:
        worker.pid = child.pid
        worker.stopped = timers.after(60, lambda: None)
        pool.stop(worker, looks.append)
        assert not looks
        assert os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED)[1])
        pool.stop(worker, looks.append)
        assert looks == [True]
    finally:
        child.kill()
        child.wait()
