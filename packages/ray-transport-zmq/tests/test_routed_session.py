"""Sessions over the routed transport: on one machine this package is not even imported; a process of another node that
asks one of the session's processes finds it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import pytest

import ray
from ray.plugins import Composition, ResolvedPlan
from ray.runtime.driver.observer import SessionObserver
from ray.runtime.process.session_dirs import live_sessions
from ray.testing import eventually, inside, leaks

_PROGRAM = """
import contextlib, json, os, sys
import psutil
import ray
from ray.runtime.process import interrupts


def imported():
    return sorted({name.partition(".")[0] for name in sys.modules} & {"zmq"})


@ray.remote
class Keeper:
    def imported(self):
        return imported(), os.getpid()


def connected_over_tcp(process):
    inodes = set()
    for folder in ("tcp", "tcp6"):
        with open(f"/proc/{process.pid}/net/{folder}") as file:
            inodes |= {line.split()[9] for line in file.readlines()[1:]}
    found = []
    for fd in os.listdir(f"/proc/{process.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it is closed by now
            name = os.readlink(f"/proc/{process.pid}/fd/{fd}")
            found += [name] if name.startswith("socket:[") and name[8:-1] in inodes else []
    return found


ray.init(num_cpus=2, transport="routed", log_to_driver=False)
large = ray.put(b"x" * 1_000_000)
keeper = Keeper.remote()
found = [ray.get(ray.remote(imported).remote()), *ray.get(keeper.imported.remote())[:1], imported()]
assert ray.get(ray.remote(len).remote(large)) == 1_000_000
processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
mapped = [process.pid for process in processes for region in process.memory_maps() if "zmq" in region.path]
tcp = {process.pid: connected_over_tcp(process) for process in processes}
guarded = [path for path in interrupts._ours if "ray_transport_zmq" in path]
print(json.dumps([guarded, found, mapped, list(filter(None, tcp.values())), len(processes)]))
"""


def test_a_session_on_one_machine_opens_nothing_of_it(tmp_path):
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    guarded, found, mapped, tcp, count = json.loads(done.stdout)
    assert len(guarded) == 1, "nothing may be torn in it once it is used"
    assert found == [[], [], []]
    assert mapped == []
    assert tcp == []
    assert count > 3


@pytest.fixture
def session():
    before = leaks.snapshot()
    with ray.init(num_cpus=2, transport="routed", log_to_driver=False) as context:
        yield context.address_info["session_dir"]
    leaks.assert_clean(before)


@pytest.fixture(autouse=True)
def nothing_left():
    """The check around each test wants no session."""


@ray.remote
class Reached:
    def __init__(self):
        self.kept = []

    def keep(self, value):
        self.kept.append(value)
        return os.getpid()

    def listen_far(self):
        return inside.listen_far()


def test_a_process_is_reached_from_another_node_once_it_listens_there(session):
    actor = Reached.remote()
    ref = ray.put(b"x" * 200_000)
    ray.get(actor.keep.remote([ref]))
    near, full = ray.get(actor.listen_far.remote())
    assert full.startswith(f"{near}|tcp://127.0.0.1:")
    assert ray.get(actor.listen_far.remote())[1] == full
    ((path, facts),) = [found for found in live_sessions() if found[0] == session]
    with contextlib.closing(SessionObserver(path, facts)) as observer:
        assert observer.holders([ref.binary()], [near]) == {near: {ref.binary()}}
    composition = Composition(ResolvedPlan.from_json(facts.plan))
    with contextlib.closing(SessionObserver(path, facts)) as observer:
        observer._transport.close()
        observer._transport = composition.open_transport(path, 5)
        eventually(lambda: observer.holders([ref.binary()], [full]) == {full: {ref.binary()}}, 10)
        assert ray.get([actor.keep.remote(number) for number in range(100)], timeout=30)
        assert observer.holders([ref.binary()], [near]) == {near: set()}, "it cannot be reached by that one"


def test_the_memory_of_such_a_session_is_shown(session):
    actor = Reached.remote()
    ref = ray.put(b"x" * 200_000)
    ray.get(actor.keep.remote([ref]))
    command = [sys.executable, "-m", "ray", "memory", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    shown = [entry for report in json.loads(done.stdout) for entry in report["objects"]]
    assert [len(entry["holders"]) for entry in shown if entry["object_id"] == ref.hex()] == [2], done.stdout
