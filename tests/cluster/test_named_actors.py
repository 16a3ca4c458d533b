"""Actors that have a name or outlive their creators: the director keeps them, and no other death takes them along."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.commands import LIMIT_S, Machine
from tests.quick import first_of
from tests.redis_servers import server_binary, servers_in, stopped
from tests.victims import alive, program, told

import ray
from ray.exceptions import ControlUnavailableError, RayActorError
from ray.testing import eventually, leaks
from ray.testing.cluster import Cluster


@pytest.fixture
def three() -> Iterator[Cluster]:
    """A head that offers nothing but to drivers, and two nodes with a resource of their own each; nothing is left."""
    server_binary()
    before = leaks.snapshot()
    with Cluster(initialize_head=True, head_node_args={"num_cpus": 1}) as cluster:
        for name in "ab":
            cluster.add_node(num_cpus=2, resources={name: 8, "far": 8}, node_name=name)
        cluster.wait_for_nodes()
        yield cluster
    leaks.assert_clean(before)


@ray.remote
class Counter:
    def __init__(self, lock: str = "") -> None:
        self.count = 0
        self.lock = open(lock, "w") if lock else None  # noqa: SIM115 - for the life of the process
        if self.lock is not None:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where another one lives

    def add(self) -> int:
        self.count += 1
        return self.count

    def where(self) -> tuple[str, int]:
        return ray.get_runtime_context().node_id, os.getpid()


#: Of a program that makes named actors.
KEPT = """
import json, os, time, ray
ray.init({address!r})

@ray.remote
class Kept:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count

    def where(self):
        return ray.get_runtime_context().node_id, os.getpid()
"""
CREATOR = (
    KEPT
    + """
kept = Kept.options(name={name!r}, **{options!r}).remote()
print(json.dumps(ray.get(kept.where.remote())), flush=True)
time.sleep(600)
"""
)


def creator(address: str, name: str, **options: Any) -> Any:
    return program(CREATOR.format(address=address, name=name, options=options))


def has_gone(name: str) -> bool:
    try:
        ray.get_actor(name)
    except ValueError:
        return True
    return False


def test_a_name_is_found_from_every_node_and_free_after_a_kill_from_any(three: Cluster) -> None:
    for maker, finder in zip(three.nodes, [*three.nodes[1:], three.nodes[0]], strict=True):
        with ray.init(maker.address):
            counter = Counter.options(name="one", lifetime="detached", resources={"far": 1}).remote()
            node, pid = ray.get(counter.where.remote(), timeout=LIMIT_S)
            assert node in {each.node_id for each in three.nodes[1:]}
            with pytest.raises(ValueError, match="The name 'one' is already taken by a live actor in namespace 'def"):
                Counter.options(name="one").remote()
        with ray.init(finder.address):
            found = ray.get_actor("one")
            assert ray.get(found.where.remote(), timeout=LIMIT_S) == (node, pid)
            with pytest.raises(ValueError, match="does not exist"):
                ray.get_actor("one", namespace="other")
            inner = ray.remote(lambda: ray.get(ray.get_actor("one").add.remote()))
            assert ray.get(inner.options(resources={"a": 1}).remote(), timeout=LIMIT_S) == 1
            ray.kill(found)
            assert has_gone("one")
            with pytest.raises(RayActorError):
                ray.get(found.add.remote(), timeout=LIMIT_S)
            eventually(lambda pid=pid: not alive(pid), LIMIT_S, "its process has ended")
            again = Counter.options(name="one", get_if_exists=True).remote()
            assert ray.get(again.add.remote(), timeout=LIMIT_S) == 1


def test_of_two_that_want_a_name_at_once_one_has_it(three: Cluster) -> None:
    @ray.remote(num_cpus=0)
    def take(name: str, at: float) -> str:
        time.sleep(max(0.0, at - time.time()))
        try:
            Counter.options(name=name, lifetime="detached").remote()
        except ValueError as error:
            return str(error)
        return ""

    with ray.init(three.address):
        ray.get([take.options(resources={each: 1}).remote(f"warm{each}", 0.0) for each in "ab"], timeout=LIMIT_S)
        for number in range(10):
            name, at = f"raced{number}", time.time() + 0.1
            both = [take.options(resources={each: 1}).remote(name, at) for each in "ab"]
            answers = sorted(ray.get(both, timeout=LIMIT_S))
            assert answers[0] == ""
            assert answers[1] == f"The name {name!r} is already taken by a live actor in namespace 'default'."
            assert ray.get(ray.get_actor(name).add.remote(), timeout=LIMIT_S) == 1
            ray.kill(ray.get_actor(name))
        for each in "ab":
            ray.kill(ray.get_actor(f"warm{each}"))


@pytest.mark.parametrize("lifetime", first_of(["detached", None]))
def test_a_creator_is_killed(three: Cluster, lifetime: str | None) -> None:
    """A detached actor lives on, and any later driver finds it; another one ends with its creator."""
    a, b = three.nodes[1:]
    with creator(a.address, "kept", lifetime=lifetime, resources={"b": 1}) as driver:
        node, pid = told(driver)
        assert node == b.node_id
        with ray.init(three.address):
            assert ray.get(ray.get_actor("kept").add.remote(), timeout=LIMIT_S) == 1
        driver.kill()
        driver.wait()
    with ray.init(a.address):
        if lifetime is None:
            eventually(lambda: has_gone("kept") and not alive(pid), LIMIT_S, "it has ended")
            return
        found = ray.get_actor("kept")
        assert [ray.get(found.add.remote(), timeout=LIMIT_S) for _ in range(2)] == [2, 3]
        ray.kill(found)
        eventually(lambda: not alive(pid), LIMIT_S, "it has ended")


@pytest.mark.parametrize("lifetime", first_of([None, "detached"]))
def test_the_node_of_a_creator_dies(three: Cluster, lifetime: str | None) -> None:
    a, b = three.nodes[1:]
    with creator(a.address, "kept", lifetime=lifetime, resources={"b": 1}) as driver:
        _, pid = told(driver)
        with ray.init(b.address):
            found = ray.get_actor("kept")
            assert ray.get(found.add.remote(), timeout=LIMIT_S) == 1
            three.kill(a)
            if lifetime is None:
                eventually(lambda: has_gone("kept") and not alive(pid), LIMIT_S, "it has ended")
                return
            time.sleep(1)
            assert ray.get(found.add.remote(), timeout=LIMIT_S) == 2
            assert ray.get(ray.get_actor("kept").where.remote(), timeout=LIMIT_S) == (b.node_id, pid)
            ray.kill(found)


def test_the_node_of_an_actor_dies(three: Cluster, tmp_path: Path) -> None:
    """It is started again on another node, and never while the first one lives."""
    a, b = three.nodes[1:]
    lock = str(tmp_path / "lock")
    with ray.init(three.address):
        options = {"resources": {"far": 1}, "max_restarts": 1, "max_task_retries": -1, "lifetime": "detached"}
        counter = Counter.options(name="moved", **options).remote(lock)
        node, pid = ray.get(counter.where.remote(), timeout=LIMIT_S)
        victim, other = (a, b) if node == a.node_id else (b, a)
        assert ray.get(counter.add.remote(), timeout=LIMIT_S) == 1
        three.kill(victim)
        again, new = ray.get(counter.where.remote(), timeout=LIMIT_S)
        assert (again, new) != (node, pid)
        assert again == other.node_id
        assert ray.get(ray.get_actor("moved").where.remote(), timeout=LIMIT_S) == (again, new)
        three.kill(other)  # it has no restart left
        eventually(lambda: has_gone("moved"), LIMIT_S, "its name is free")
        with pytest.raises(RayActorError):
            ray.get(counter.add.remote(), timeout=LIMIT_S)


def test_a_crash_and_a_kill_restart_it_once_the_first_process_has_ended(three: Cluster, tmp_path: Path) -> None:
    lock = str(tmp_path / "lock")
    with ray.init(three.address):
        counter = Counter.options(name="c", max_restarts=-1, max_task_retries=-1, resources={"far": 1}).remote(lock)
        seen = set()
        for number in range(4):
            _, pid = ray.get(counter.where.remote(), timeout=LIMIT_S)
            assert pid not in seen
            seen.add(pid)
            if number % 2:
                os.kill(pid, signal.SIGKILL)
            else:
                ray.kill(counter, no_restart=False)
            eventually(lambda pid=pid: not alive(pid), LIMIT_S, "it has ended")
        assert ray.get(ray.get_actor("c").add.remote(), timeout=LIMIT_S) == 1
        del counter
        eventually(lambda: has_gone("c"), LIMIT_S, "no handle is left")


def test_a_class_that_fails_and_arguments_that_fail(three: Cluster) -> None:
    @ray.remote
    class Fails:
        def __init__(self, argument: Any = None) -> None:
            raise RuntimeError("it cannot be")

        def any(self) -> None: ...

    @ray.remote(resources={"a": 1})
    def fails() -> None:
        raise KeyError("no argument")

    with ray.init(three.nodes[2].address):
        for argument, said in ((None, "it cannot be"), (fails.remote(), "no argument")):
            broken = Fails.options(name="broken", resources={"a": 1}).remote(argument)
            with pytest.raises(Exception, match=said):
                ray.get(broken.any.remote(), timeout=LIMIT_S)
            eventually(lambda: has_gone("broken"), LIMIT_S, "its name is free")


def start(machine: Machine, *names: str) -> dict[str, dict]:
    """A cluster whose head can be killed, and these further nodes of two CPUs each."""
    machine.done("start", "--head", "--num-cpus", "1", "--node-name", "head")
    for name in names:
        resources = f"{name}=8,far=8"
        machine.done("start", "--address", "auto", "--num-cpus", "2", "--node-name", name, "--resources", resources)
    return nodes(machine)


def nodes(machine: Machine) -> dict[str, dict]:
    return {each["node_name"]: each for each in machine.status()["nodes"] if each["state"] == "alive"}


def head_dies(machine: Machine) -> None:
    """Returns once there is another one."""
    pid = nodes(machine)["head"]["pid"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid), LIMIT_S, "it is gone")
    eventually(lambda: "head" in nodes(machine), LIMIT_S, "there is another one")


def test_the_node_manager_that_directs_dies(machine: Machine, tmp_path: Path) -> None:
    """Actors on other nodes go on, and take calls meanwhile; the next one knows them, and restarts what dies then."""
    before = start(machine, "a", "b")
    lock = str(tmp_path / "lock")
    with ray.init(f"unix:{before['a']['session_dir']}"):
        options = {"max_restarts": 2, "max_task_retries": -1}
        kept = Counter.options(name="kept", lifetime="detached", resources={"b": 1}, **options).remote(lock)
        named = Counter.options(name="named", resources={"a": 1}, **options).remote()
        node, pid = ray.get(kept.where.remote(), timeout=LIMIT_S)
        ray.get(named.add.remote(), timeout=LIMIT_S)
        head = before["head"]["pid"]
        os.kill(head, signal.SIGKILL)
        counts = []
        killed = time.monotonic()
        while "head" not in nodes(machine) or nodes(machine)["head"]["pid"] == head:
            counts.append(ray.get(kept.add.remote(), timeout=LIMIT_S))
            assert time.monotonic() < killed + LIMIT_S
        assert counts == list(range(1, len(counts) + 1))
        assert ray.get(ray.get_actor("kept").where.remote(), timeout=LIMIT_S) == (node, pid)
        with pytest.raises(ValueError, match="already taken"):
            Counter.options(name="kept").remote()
        os.kill(pid, signal.SIGKILL)
        again, new = ray.get(kept.where.remote(), timeout=LIMIT_S)
        assert (again, new != pid) == (node, True)
        assert ray.get(named.add.remote(), timeout=LIMIT_S) == 2
        del named
        eventually(lambda: has_gone("named"), LIMIT_S, "no handle is left")
        ray.kill(kept)
        assert has_gone("kept")
        eventually(lambda: not alive(new), LIMIT_S, "it has ended")
    machine.done("stop")


@pytest.mark.slow
def test_it_dies_under_creations_and_lookups(machine: Machine) -> None:
    before = start(machine, "a")
    with ray.init(f"unix:{before['a']['session_dir']}"):
        first = Counter.options(name="first", lifetime="detached", resources={"a": 1}, num_cpus=0).remote()
        assert ray.get(first.add.remote(), timeout=LIMIT_S) == 1
        made: list[Any] = []
        failed: list[BaseException] = []

        def create() -> None:
            try:
                for number in range(20):
                    options = {"resources": {"a": 0.2}, "num_cpus": 0}
                    made.append(Counter.options(name=f"made{number}", **options).remote())
                    ray.get_actor("first")
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=create)
        thread.start()
        eventually(lambda: len(made) > 2, LIMIT_S, "some are made")
        head_dies(machine)
        thread.join(LIMIT_S * 2)
        assert not thread.is_alive()
        assert not failed
        assert ray.get([each.add.remote() for each in made], timeout=LIMIT_S) == [1] * 20
        for number in range(20):
            assert ray.get(ray.get_actor(f"made{number}").add.remote(), timeout=LIMIT_S) == 2
        made.clear()
        for number in range(20):
            eventually(lambda number=number: has_gone(f"made{number}"), LIMIT_S, "no handle is left")
        ray.kill(first)
    machine.done("stop")


@pytest.mark.slow
def test_hosts_and_creators_die_while_nobody_directs(machine: Machine) -> None:
    before = start(machine, "a", "b")
    address = f"unix:{before['a']['session_dir']}"
    with ray.init(address):
        options = {"lifetime": "detached", "resources": {"far": 1}, "max_restarts": 1, "max_task_retries": -1}
        there = Counter.options(name="there", node="b", soft=True, **options).remote()
        node, host = ray.get(there.where.remote(), timeout=LIMIT_S)
        assert node == before["b"]["node_id"]
        with creator(address, "ends", resources={"a": 1}) as driver:
            _, pid = told(driver)
            for victim in (before["head"]["pid"], before["b"]["pid"]):
                os.kill(victim, signal.SIGKILL)
            driver.kill()
            driver.wait()
        eventually(lambda: not alive(host), LIMIT_S, "it has ended with its node")
        assert ray.get(there.where.remote(), timeout=LIMIT_S)[0] == before["a"]["node_id"]
        eventually(lambda: has_gone("ends") and not alive(pid), LIMIT_S, "it has ended with its creator")
        ray.kill(there)
    machine.done("stop")


@pytest.mark.slow
def test_while_the_control_store_is_away() -> None:
    """Names wait, and say in the end which store it is that does not answer; all else goes on."""
    server_binary()
    before = leaks.snapshot()
    args = {"num_cpus": 1}
    with Cluster(initialize_head=True, head_node_args=args, control_timeout_s=2.0) as cluster:
        node = cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        (server,) = servers_in(cluster.head_node.started.session_dir)
        with ray.init(node.address):
            known = Counter.options(name="known").remote()
            assert ray.get(known.add.remote(), timeout=LIMIT_S) == 1
            with stopped(server):
                for wants in (
                    lambda: ray.get_actor("known"),
                    lambda: ray.get_actor("unknown"),
                    lambda: Counter.options(name="new").remote(),
                    lambda: Counter.options(name="new", get_if_exists=True).remote(),
                ):
                    began = time.monotonic()
                    with pytest.raises(ControlUnavailableError, match=r"The control store failed: .*redis.* for \d"):
                        wants()
                    assert 1.5 < time.monotonic() - began < LIMIT_S
                assert ray.get(known.add.remote(), timeout=LIMIT_S) == 2
                unnamed = Counter.remote()
                assert ray.get(unnamed.add.remote(), timeout=LIMIT_S) == 1
                waits = ThreadPoolExecutor().submit(ray.get_actor, "known")
                time.sleep(0.5)
            assert ray.get(waits.result(LIMIT_S).add.remote(), timeout=LIMIT_S) == 3
            new = Counter.options(name="new").remote()
            assert ray.get(new.add.remote(), timeout=LIMIT_S) == 1
    leaks.assert_clean(before)


@pytest.mark.slow
def test_programs_on_machines_without_a_node(machines: Any) -> None:
    """They make named actors, find those of others, and end them; a detached one outlives the program."""
    pytest.importorskip("ray_transport_zmq")
    head, other = machines(), machines()
    head.environ["RAY_TRANSPORT"] = "routed"
    head.done("start", "--head", "--num-cpus", "2")
    other.take_key(head)
    guest = KEPT.format(address=head.address())
    made = other.run(
        f"{guest}\n"
        'kept = Kept.options(name="kept", lifetime="detached").remote()\n'
        'named = Kept.options(name="named").remote()\n'
        "print(ray.get(kept.add.remote()), ray.get(named.add.remote()))"
    )
    assert made == ["1 1"]
    found = "print([ray.get(ray.get_actor(n).add.remote()) for n in ['kept']])"
    assert head.run(f"ray.init('auto')\n{found}") == ["[2]"]
    gone = """
try:
    ray.get_actor("named")
except ValueError as error:
    print("it does not exist" in str(error))
kept = ray.get_actor("kept")
print(ray.get(kept.add.remote()))
ray.kill(kept)
try:
    ray.get_actor("kept")
except ValueError:
    print("gone")
"""
    assert other.run(f"{guest}{gone}") == ["True", "3", "gone"]
    head.done("stop")
    other.key_path().unlink()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_node_manager_that_stands_still_is_over_before_its_actor_begins_elsewhere(
    three: Cluster, tmp_path: Path
) -> None:
    """Its actor goes on until the zygote ends the node. Beside it the second one would fail: it has the lock."""
    a, b = three.nodes[1:]
    lock = str(tmp_path / "lock")
    with ray.init(three.address):
        options = {"max_restarts": 1, "max_task_retries": -1, "lifetime": "detached", "resources": {"far": 1}}
        counter = Counter.options(name="one", **options).remote(lock)
        node, pid = ray.get(counter.where.remote(), timeout=LIMIT_S)
        victim, other = (a, b) if node == a.node_id else (b, a)
        began = time.monotonic()
        os.kill(victim.pid, signal.SIGSTOP)
        assert ray.get(counter.add.remote(), timeout=LIMIT_S) == 1  # between two processes nobody stands still
        eventually(lambda: not alive(pid), LIMIT_S, "it has ended")
        assert time.monotonic() - began > 5
        assert ray.get(ray.get_actor("one").where.remote(), timeout=LIMIT_S)[0] == other.node_id
        ray.kill(counter)
        three.kill(victim)
