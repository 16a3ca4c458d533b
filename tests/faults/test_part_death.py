"""Each part of a session is killed, stopped and terminated while every kind of call is blocked: none may hang."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests import victims
from tests.soak import SOAK
from tests.stopwatch import Stopwatch

import ray
from ray.exceptions import NodeDiedError, RayActorError, RayError, WorkerCrashedError
from ray.testing import eventually

#: How long a call may take from the fault on: 5 s for a process, 10 s for a node, and what a busy machine adds.
PART_LIMIT_S = 5.0
NODE_LIMIT_S = 10.0


@ray.remote(num_cpus=0, max_retries=0)
def until_open(gate):
    """Ends when the file exists."""
    while not gate.exists():
        time.sleep(0.01)
    return "opened"


@ray.remote(num_cpus=0)
class Doorman:
    def pid(self):
        return os.getpid()

    def until_open(self, gate):
        while not gate.exists():
            time.sleep(0.01)
        return "opened"


@ray.remote(num_cpus=0)
def double(x):
    return 2 * x


class Scene:
    """A session in which every kind of call is made at the same time, each by a thread of its own."""

    def __init__(self, gate: Path) -> None:
        self.gate = gate
        #: {call: what it came to}
        self.results: dict[str, Any] = {}
        self.stop = threading.Event()
        self.doorman = Doorman.options(name="doorman").remote()
        self.doorman_pid = ray.get(self.doorman.pid.remote(), timeout=10)
        self.task = until_open.remote(gate)
        self.call = self.doorman.until_open.remote(gate)
        self.calls: dict[str, Callable[[], Any]] = {
            "get": lambda: ray.get(self.task),
            "get of a call": lambda: ray.get(self.call),
            "get of many": lambda: ray.get([self.task, self.call]),
            "get with timeout": lambda: ray.get(self.task, timeout=30),
            "wait": lambda: ray.wait([self.task]),
            "wait for all": lambda: ray.wait([self.task, self.call], num_returns=2),
            "wait with timeout": lambda: ray.wait([self.call], timeout=timedelta(seconds=30)),
            "put": lambda: self.repeat(lambda: ray.get(ray.put(bytes(1_000_000)))),
            "submit": lambda: self.repeat(lambda: ray.get([double.remote(i) for i in range(100)])),
            "create and call": lambda: self.repeat(self.create_and_call),
            "create, call and kill": lambda: self.repeat(self.create_and_kill),
            "get_actor": lambda: self.repeat(self.find_doorman),
            "resources": lambda: self.repeat(lambda: (ray.cluster_resources(), ray.nodes(), ray.error_info())),
        }

    def repeat(self, action: Callable[[], Any]) -> str:
        """Until told to stop; each single action has to end in time."""
        while not self.stop.is_set():
            action()
            time.sleep(0.002)
        return "stopped"

    def create_and_call(self) -> None:
        actor = Doorman.remote()
        assert ray.get(actor.pid.remote()) > 0

    def create_and_kill(self) -> None:
        actor = Doorman.options(name="short-lived").remote()
        assert ray.get(actor.pid.remote()) > 0
        ray.kill(actor)
        with contextlib.suppress(RayActorError):
            ray.get(actor.pid.remote())

    def find_doorman(self) -> None:
        with contextlib.suppress(ValueError):  # it may be dead
            ray.get_actor("doorman")

    def start(self, names: list[str]) -> None:
        """Begin the calls, and let each get going."""
        self.threads = [threading.Thread(target=self._run, args=(name,), name=name, daemon=True) for name in names]
        for thread in self.threads:
            thread.start()
        time.sleep(0.3)

    def _run(self, name: str) -> None:
        try:
            outcome = self.calls[name]()
        except BaseException as error:
            outcome = error.with_traceback(None)
        self.results[name] = outcome

    def finish(self, limit_s: float) -> dict[str, Any]:
        """What each call came to."""
        end = time.monotonic() + limit_s
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))
        hanging = [thread.name for thread in self.threads if thread.is_alive()]
        assert not hanging, f"still blocked {limit_s:g} s after the fault: {hanging}; ended: {self.results}"
        return self.results


def pids_of(kind: str, scene: Scene) -> list[int]:
    return {
        "node manager": lambda: [victims.node_manager()],
        "zygote": lambda: [victims.zygote()],
        "worker": lambda: [pid for pid in victims.workers() if pid != scene.doorman_pid],
        "actor": lambda: [scene.doorman_pid],
        "store": victims.store_processes,
    }[kind]()


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # some come and go
            os.kill(pid, number)


CALLS = [
    "get", "get of a call", "get of many", "get with timeout", "wait", "wait for all", "wait with timeout", "put",
    "submit", "create and call", "create, call and kill", "get_actor", "resources",
]  # fmt: skip
#: The calls share a session normally; in the soak each has one of its own as well.
GROUPS = [CALLS, *([name] for name in CALLS)] if SOAK else [CALLS]
#: {kind of process whose end is the end of the node: what the error says of it}
NODE_ENDS = {"node manager": "node manager", "store": "object store"}
ENDS = {
    signal.SIGKILL: r"signal 9 (SIGKILL)",
    signal.SIGTERM: "signal 15 (SIGTERM)",
    signal.SIGSTOP: "stopped by SIGSTOP",
}


#: What was stopped is given some seconds.
NUMBERS = [
    pytest.param(number, id=number.name, marks=() if number == signal.SIGKILL else pytest.mark.slow)
    for number in victims.SIGNALS
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0] if len(names) == 1 else "all calls")
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", ["node manager", "zygote", "worker", "actor", "store"])
def test_no_call_hangs(start, tmp_path, kind, number, names):
    start(num_cpus=2, log_to_driver=False)
    if kind == "store" and not victims.store_processes():
        pytest.skip("this store has no process of its own")
    scene = Scene(tmp_path / "gate")
    scene.start(names)
    signal_all(pids_of(kind, scene), number)
    if kind in NODE_ENDS:  # without its store a node is of no use
        outcomes = scene.finish(NODE_LIMIT_S)
        dead = {kind}
    else:
        # What was hit must be reported in time although the gate stays closed; then the rest may go on to its end.
        hit = {"worker": ["get", "get with timeout", "wait"], "actor": ["get of a call", "wait with timeout"]}.get(
            kind, []
        )
        hit = [name for name in hit if name in names]
        eventually(lambda: scene.results.keys() >= set(hit), PART_LIMIT_S + 1, f"not all of {hit} ended")
        if number == signal.SIGSTOP and not hit:
            time.sleep(3.5)  # those that wait for the part itself find out with the session's patience
        scene.gate.touch()
        scene.stop.set()
        outcomes = scene.finish(PART_LIMIT_S)
        dead = {kind}
    check(outcomes, dead, number)
    after(kind)


def check(outcomes: dict[str, Any], dead: set[str], number: int) -> None:
    for name, outcome in outcomes.items():
        said = f"{name}: {outcome!r}"
        if dead <= NODE_ENDS.keys() and dead:
            if name.startswith("wait"):
                assert isinstance(outcome, (tuple, NodeDiedError)), said
            else:
                assert isinstance(outcome, NodeDiedError), said
                assert all(NODE_ENDS[kind] in str(outcome) for kind in dead), said
        elif dead == {"worker"} and name in {"get", "get of many", "get with timeout"}:
            assert isinstance(outcome, WorkerCrashedError), said
            assert ENDS[number] in str(outcome), said
            assert "until_open" in str(outcome), said
        elif dead == {"actor"} and name in {"get of a call", "get of many"}:
            assert isinstance(outcome, RayActorError), said
            assert ENDS[number] in str(outcome), said
            assert "Doorman" in str(outcome), said
        elif name.startswith("wait"):
            assert isinstance(outcome, tuple), said
            assert not outcome[1], said
        elif name.startswith("get ") or name == "get":
            assert outcome in ("opened", ["opened", "opened"]), said
        elif dead == {"worker"} and name.startswith("create"):  # the new actor's process may be among the dead
            assert outcome == "stopped" or isinstance(outcome, RayActorError), said
        elif dead == {"worker"} and name == "submit":  # a task may be hit three times in a row, not more
            assert outcome == "stopped" or isinstance(outcome, RayError), said
        else:
            assert outcome == "stopped", said


def after(kind: str) -> None:
    """The session goes on, or says clearly that it cannot; a new one works in any case."""
    if kind in NODE_ENDS:
        calls: list[Callable[[], Any]] = [
            lambda: ray.put(1),
            lambda: double.remote(1),
            lambda: Doorman.remote(),
            lambda: ray.get_actor("doorman"),
            lambda: ray.cluster_resources(),
            lambda: ray.nodes(),
        ]
        for call in calls:
            with pytest.raises(NodeDiedError, match=NODE_ENDS[kind]):
                call()
        assert ray.is_initialized()
        ray.shutdown()
        assert not ray.is_initialized()
        ray.init(num_cpus=2)
    assert ray.get([double.remote(i) for i in range(20)], timeout=20) == [2 * i for i in range(20)]
    actor = Doorman.remote()
    assert ray.get(actor.pid.remote(), timeout=20) in victims.workers()
    ray.shutdown()
    with ray.init(num_cpus=1):
        assert ray.get(double.remote(4), timeout=20) == 8


KINDS = ["node manager", "zygote", "worker", "actor", "store"]


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("kinds", [KINDS, *([kind] for kind in KINDS if SOAK)], ids=" and ".join)
def test_a_short_stop_is_no_death(start, tmp_path, kinds):
    """Two seconds without a sign of life, as from a busy machine or a debugger, harm nobody."""
    start(num_cpus=2)
    scene = Scene(tmp_path / "gate")
    scene.start(CALLS)
    pids = [pid for kind in reversed(kinds) for pid in pids_of(kind, scene)]
    signal_all(pids, signal.SIGSTOP)
    time.sleep(2.0)
    signal_all(pids, signal.SIGCONT)
    time.sleep(2.5)  # beyond the patience that a stop without an end would have had
    assert victims.alive(scene.doorman_pid)
    assert victims.alive(victims.node_manager())
    scene.gate.touch()
    scene.stop.set()
    check(scene.finish(PART_LIMIT_S), set(), 0)


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_shutdown_while_a_part_is_stopped(start):
    """Nobody waits for what cannot answer."""
    for find in (victims.node_manager, victims.zygote, lambda: victims.workers()[0]):
        start(num_cpus=2)
        ray.get(double.remote(1), timeout=10)
        os.kill(find(), signal.SIGSTOP)
        began = Stopwatch()
        ray.shutdown()
        assert began.undisturbed_s() < 5.0


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells of stops")
def test_a_store_that_was_stopped_is_told_as_such(start):
    start(num_cpus=1, store="plasma", log_to_driver=False)
    os.kill(victims.store_processes()[0], signal.SIGSTOP)
    with pytest.raises(NodeDiedError, match=r"object store .* died: it was stopped by SIGSTOP and did not continue"):
        ray.get(double.options(max_retries=0).remote(bytes(1 << 20)), timeout=20)
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_zygote_dies_again_and_again(start, rounds):
    start(num_cpus=2, log_to_driver=False)
    seen = set()
    for _ in range(rounds(10, 300)):
        pid = victims.zygote()
        assert pid not in seen
        seen.add(pid)
        os.kill(pid, signal.SIGKILL)
        actors = [Doorman.remote() for _ in range(3)]  # these need new processes
        assert len(set(ray.get([actor.pid.remote() for actor in actors], timeout=10))) == 3
        assert ray.get([double.remote(i) for i in range(10)], timeout=10) == [2 * i for i in range(10)]
        del actors


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_workers_die_while_they_start(start):
    """Whatever is killed at whatever moment of its start, tasks run in the end."""
    start(num_cpus=4, log_to_driver=False)
    stop = threading.Event()

    def kill_new_ones():
        known = victims.workers()
        while not stop.is_set():
            for pid in victims.workers():
                if pid not in known:
                    known.append(pid)
                    if len(known) % 3:  # if none came through, none could come through
                        signal_all([pid], signal.SIGKILL)
            time.sleep(0.01)

    thread = threading.Thread(target=kill_new_ones, daemon=True)
    thread.start()
    try:
        refs = [double.options(max_retries=-1).remote(i) for i in range(50)]
        actors = [Doorman.options(max_restarts=-1, max_task_retries=-1).remote() for _ in range(20)]
        assert ray.get(refs, timeout=30) == [2 * i for i in range(50)]
        assert all(pid > 0 for pid in ray.get([actor.pid.remote() for actor in actors], timeout=30))
    finally:
        stop.set()
        thread.join(5)
    del actors, refs


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_workers_that_never_start_are_no_storm(start):
    """Their number in a row makes the pauses longer; the reason is shown; others' calls go on."""
    context = start(num_cpus=2, log_to_driver=False)
    assert ray.get(double.remote(1), timeout=10) == 2
    path = context.address_info["object_store_address"].partition(":")[2]
    hidden, other = path + "-away", path + "-other"
    os.link(path, hidden)
    Path(other).touch()
    os.rename(other, path)  # at no time is there nothing: nobody new can connect to what is there now
    signal_all(victims.workers(), signal.SIGKILL)
    ref = double.options(max_retries=-1).remote(2)
    with pytest.raises(TimeoutError):
        ray.get(ref, timeout=2)

    def failures():
        return [error for error in ray.error_info() if "failed to start" in error["message"]]

    failed = eventually(lambda: found if len(found := failures()) >= 2 else None, 20.0, "no two have failed")
    assert len(failed) < 20
    assert not any("None" in error["message"] for error in failed)
    assert any("Connection refused" in error["message"] for error in failed)  # some were killed by the test
    os.rename(hidden, path)
    assert ray.get(ref, timeout=20) == 4


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_what_tasks_have_started_goes_with_a_killed_node_manager(start):
    """Also what has left its process group, and whose parent can clean up no more."""
    start(num_cpus=1, log_to_driver=False)

    @ray.remote
    def detach():
        program = [sys.executable, "-c", "import time; time.sleep(600)"]
        options = [{"start_new_session": new, "env": env} for new in (False, True) for env in (None, {})]
        return [subprocess.Popen(program, **kept).pid for kept in options]

    pids = ray.get(detach.remote(), timeout=10)
    manager = victims.node_manager()
    os.kill(manager, signal.SIGKILL)
    with pytest.raises(NodeDiedError):
        ray.get(until_open.remote(Path("/nowhere")), timeout=10)
    eventually(lambda: not any(map(psutil.pid_exists, pids)), 10.0, "they are still there")
    ray.shutdown()


@pytest.mark.timeout(60)
def test_a_zygote_that_cannot_live_ends_the_node_with_the_reason(start):
    """It is not started for ever, and a program that waits for a worker hears why there is none."""
    start(num_cpus=1, log_to_driver=False)
    ref = until_open.remote(Path("/nowhere"))
    last = 0
    with contextlib.suppress(NodeDiedError):
        while True:
            pid = victims.zygote()
            if pid != last:
                os.kill(pid, signal.SIGKILL)
                last = pid
    with pytest.raises(NodeDiedError, match="forks workers died"):
        ray.get(ref, timeout=10)
    ray.shutdown()
