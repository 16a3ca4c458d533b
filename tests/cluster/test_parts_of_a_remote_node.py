"""Each process of another node is killed under each kind of call: that ends soon, with a value or a typed error."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.redis_servers import server_binary

import ray
from ray.runtime.process.session_dirs import survivor_of
from ray.testing import eventually, inside, leaks
from ray.testing.cluster import Cluster, ClusterNode

#: What a call may take after the death; the test is as patient as a machine that is busy needs it.
LIMIT_S = 20
FAR = {"resources": {"far": 1}, "num_cpus": 0}
LARGE = 300_000
#: What may be said of a call that is not done again.
ERRORS = (
    ray.exceptions.NodeDiedError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.RayActorError,
    ray.exceptions.ObjectLostError,
)


class Nodes:
    """A cluster whose second node is killed in parts, and replaced where it does not live on."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def victim(self) -> ClusterNode:
        """The second node, with a process that forks."""
        if len(self.cluster.nodes) == 1:
            self.replace()
        return self.cluster.nodes[1]

    def replace(self) -> None:
        """There is a second node, whatever has become of the one before."""
        for node in self.cluster.nodes[1:]:
            self.cluster.remove_node(node)
        node = self.cluster.add_node(num_cpus=2, resources={"far": 8})
        eventually(lambda: survivor_of(node.started.session_dir), LIMIT_S, "it forks")
        self.cluster.wait_for_nodes()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    server_binary()
    before = leaks.snapshot()
    with Cluster(initialize_head=True, head_node_args={"num_cpus": 2}, store="plasma") as cluster:
        yield Nodes(cluster)
    leaks.assert_clean(before)


@pytest.fixture
def joined(nodes: Nodes) -> Iterator[None]:
    """This program is a driver at the head."""
    with ray.init(nodes.cluster.address, log_to_driver=False):
        yield
        _held.clear()
        inside.settled()


# --- what runs there --------------------------------------------------------------------------------------------------


@ray.remote(max_retries=0, **FAR)
def until(folder: str, value: Any = None) -> Any:
    """Say which process this is, and wait to be released."""
    say_pid(folder)
    await_release(folder)
    return value


@ray.remote(max_retries=0, **FAR)
def put_until(folder: str) -> int:
    """Put large values until it is released."""
    say_pid(folder)
    count = 0
    while not os.path.exists(f"{folder}/go"):
        ray.put(bytes(LARGE))
        count += 1
    return count


@ray.remote(max_retries=0, **FAR)
def one(number: int) -> int:
    time.sleep(0.01)
    return number


@ray.remote(max_retries=3, **FAR)
def again(number: int) -> int:
    time.sleep(0.01)
    return number


@ray.remote(**FAR)
class Actor:
    def __init__(self, folder: str, *, waits: bool = False) -> None:
        self.folder = folder
        say_pid(folder)
        if waits:
            await_release(folder)

    def until(self) -> str:
        await_release(self.folder)
        return "released"

    def put_until(self) -> int:
        count = 0
        while not os.path.exists(f"{self.folder}/go"):
            ray.put(bytes(LARGE))
            count += 1
        return count

    def one(self, number: int) -> int:
        return number


def say_pid(folder: str) -> None:
    Path(folder, "new").write_text(str(os.getpid()))
    os.rename(f"{folder}/new", f"{folder}/pid")


def await_release(folder: str) -> None:
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.01)


# --- the calls --------------------------------------------------------------------------------------------------------


def begin_of(folder: str, call: str, *, is_actor: bool) -> Callable[[], Any]:
    """Begin what the call is to wait for; returns the call."""
    if call == "create":
        actor = Actor.remote(folder, waits=True)
        return lambda: ray.get(actor.one.remote(1))
    made = Actor.remote(folder) if is_actor else None
    if call == "submit":
        if made is None:
            say_pid_of(until.remote(folder))
        return lambda: submit(made)
    if call == "put":
        ref = made.put_until.remote() if made else put_until.remote(folder)
    else:
        ref = made.until.remote() if made else until.remote(folder, bytes(LARGE))
    if call == "wait":
        return lambda: waited(ref, made)
    if call == "await":
        return lambda: asyncio.run(awaited(ref, made))
    return lambda: (ray.get(ref), made)[0]


_held: list[Any] = []


def say_pid_of(ref: Any) -> None:
    """Hold a task whose process is the victim."""
    _held[:] = [ref]


def submit(actor: Any) -> None:
    """Call for as long as the death takes, and take every answer."""
    end = time.monotonic() + 1.0
    refs: list[Any] = []
    while time.monotonic() < end:
        refs += [actor.one.remote(len(refs))] if actor else [one.remote(len(refs)), again.remote(len(refs))]
        time.sleep(0.002)
    for number, ref in enumerate(refs):
        try:
            assert ray.get(ref) in (number, number - 1)
        except ERRORS:
            pass


def waited(ref: Any, actor: Any) -> Any:
    ready, _ = ray.wait([ref])
    assert ready == [ref]
    return ray.get(ref)


async def awaited(ref: Any, actor: Any) -> Any:
    return await ref


class Call(threading.Thread):
    """A call on a thread of its own, and how it ends."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.call = call
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.call()
        except BaseException as error:
            self.error = error
        del self.call


def pid_of(victim: str, node: ClusterNode, folder: str) -> int:
    if victim == "node manager":
        return node.pid
    if victim == "zygote":
        return int(node.ask("workers")["zygote_pid"])
    if victim == "store":
        (pid,) = node.ask("workers")["vital_pids"]
        return int(pid)
    return int(Path(folder, "pid").read_text())


CELLS = [
    pytest.param(victim, call, marks=() if call == "get" or (victim, call) in QUICK else pytest.mark.slow)
    for QUICK in [{("node manager", "submit"), ("worker", "submit")}]
    for victim in ("node manager", "zygote", "store", "worker", "actor")
    for call in ("get", "wait", "await", "put", "submit", "create")
]


@pytest.mark.parametrize(("victim", "call"), CELLS)
def test_a_part_of_another_node_is_killed(nodes: Nodes, joined: None, tmp_path: Path, victim: str, call: str) -> None:
    node, folder = nodes.victim(), str(tmp_path)
    waiting = Call(begin_of(folder, call, is_actor=victim == "actor"))
    eventually(lambda: os.path.exists(f"{folder}/pid"), LIMIT_S, "it has begun there")
    time.sleep(0.1)
    os.kill(pid_of(victim, node, folder), signal.SIGKILL)
    killed = time.monotonic()
    if victim == "zygote":  # what runs goes on
        (tmp_path / "go").touch()
    elif victim in ("node manager", "store"):
        nodes.replace()
    waiting.join(LIMIT_S)
    assert not waiting.is_alive(), "it hangs"
    assert time.monotonic() - killed < LIMIT_S
    if victim == "zygote" or call == "submit":
        assert waiting.error is None
    elif victim == "worker" and call == "create":
        assert isinstance(waiting.error, ray.exceptions.RayActorError)
    else:
        assert isinstance(waiting.error, ERRORS)
    (tmp_path / "go").touch()
    assert ray.get(one.remote(7), timeout=LIMIT_S) == 7
