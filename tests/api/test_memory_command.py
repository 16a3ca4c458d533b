"""``ray memory`` says which process holds what."""

import json
import os
import re
import subprocess
import sys

import pytest
from tests import victims
from tests.api.meeting import LIMIT_S, wait_for

import ray
from ray.testing import eventually

LARGE = b"x" * 300_000


@pytest.fixture
def session(start):
    pytest.importorskip("ray_store_shm")
    start(num_cpus=1, log_to_driver=False, store="shm")


def memory(*arguments):
    command = [sys.executable, "-m", "ray", "memory", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return done


def holders(ref_id):
    """The processes that hold an object, as the report for programs says it."""
    reports = json.loads(memory("--format", "json").stdout)
    entries = [entry for report in reports for entry in report["objects"] if entry["object_id"] == ref_id]
    return sorted(entries[0]["holders"]) if entries else "not listed"


def until_held(name, by):
    """On a busy machine a process may not answer in time, and is shown with a question mark then."""
    eventually(lambda: holders(name) == by, LIMIT_S, f"{name} is not held by {by}")


@ray.remote(num_cpus=0)
class Keeper:
    def __init__(self):
        self.kept = []

    def keep(self, value):
        self.kept.append(value)
        return os.getpid()

    def compute(self, folder):
        (folder / "runs").touch()
        re.match(r"(a+)+$", "a" * 60 + "b")  # never ends, nor lets another thread run

    def put(self):
        self.kept.append(ray.put(LARGE))
        return self.kept[-1].hex()


@ray.remote(num_cpus=0)
def hold(folder, value):
    (folder / "runs").touch()
    wait_for(folder, 2)
    return len(value)


def test_an_attribute_that_is_a_reference(session):
    keeper = Keeper.remote()
    ref = ray.put(LARGE)
    pid, name = ray.get(keeper.keep.remote([ref])), ref.hex()
    until_held(name, [f"actor Keeper {pid}", f"driver {os.getpid()}"])
    del ref
    until_held(name, [f"actor Keeper {pid}"])


def test_an_attribute_that_is_a_view(session):
    numpy = pytest.importorskip("numpy")
    keeper = Keeper.remote()
    ref = ray.put(numpy.ones(100_000))
    pid, name = ray.get(keeper.keep.remote(ref)), ref.hex()
    del ref
    until_held(name, [f"actor Keeper {pid}"])


def test_what_an_actor_has_put(session):
    keeper = Keeper.remote()
    name = ray.get(keeper.put.remote())
    until_held(name, [f"actor Keeper {ray.get(keeper.keep.remote(0))}"])


def test_what_another_object_contains(session):
    inner = ray.put(LARGE)
    outer, name = ray.put([inner]), inner.hex()
    del inner
    until_held(name, [f"driver {os.getpid()}"])
    del outer


def test_what_a_task_is_given(session, tmp_path):
    ref = ray.put(LARGE)
    running, name = hold.remote(tmp_path, ref), ref.hex()
    del ref
    wait_for(tmp_path, 1)
    eventually(lambda: f"driver {os.getpid()}" in holders(name), LIMIT_S, "the driver does not hold it")
    (tmp_path / "go").touch()
    assert ray.get(running) == len(LARGE)


@pytest.mark.slow
def test_a_process_that_does_not_answer_is_named(session, tmp_path):
    keeper = Keeper.remote()
    ref = ray.put(LARGE)
    pid, name = ray.get(keeper.keep.remote([ref])), ref.hex()
    del ref
    computing = keeper.compute.remote(tmp_path)
    wait_for(tmp_path, 1)
    done = memory()
    [row] = [line for line in done.stdout.splitlines() if name in line]
    assert f"actor Keeper {pid}?" in row
    assert f"actor Keeper {pid} does not answer: it may hold more" in done.stderr
    ray.kill(keeper)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(computing)


def test_what_nobody_holds_is_not_listed_for_long(session):
    keeper = Keeper.remote()
    ref = ray.put(LARGE)
    ray.get(keeper.keep.remote([ref]))
    name = ref.hex()
    del ref, keeper
    for _ in range(20):
        if name not in memory().stdout:
            return
    raise AssertionError(memory().stdout)


STORE = """
from ray.builtin.heap_store import HeapStore, HeapStoreServer
from ray.plugins import PluginInfo, hookimpl

PLUGIN = PluginInfo(seam="store", name="elsewhere", api=2, summary="a store of another environment")


@hookimpl
def ray_start_store(capacity_bytes):
    return HeapStoreServer(capacity_bytes)


@hookimpl
def ray_open_store(address):
    return HeapStore.open(address)
"""

ELSEWHERE = """
import ray

ray.init(num_cpus=1, store="elsewhere")
print(f'"{ray.get_runtime_context().session_id}"', flush=True)
input()
"""


@pytest.fixture
def elsewhere(tmp_path):
    """The id of a session whose store is not installed here."""
    (tmp_path / "elsewhere.py").write_text(STORE)
    info = tmp_path / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ray.store]\nelsewhere = elsewhere\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with victims.program(ELSEWHERE, env=environment, stdin=subprocess.PIPE) as process, process.stdin:
        yield victims.told(process)
        process.communicate("\n", timeout=30)


@pytest.mark.slow
def test_a_session_that_cannot_be_looked_at_does_not_hide_the_others(session, elsewhere):
    ref = ray.put(LARGE)
    done = memory()
    assert ref.hex() in done.stdout
    [line] = [line for line in done.stderr.splitlines() if elsewhere in line]
    assert "cannot be looked at" in line
    assert "'elsewhere'" in line
    command = [sys.executable, "-m", "ray", "memory", "--session", elsewhere]
    alone = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert alone.returncode == 2  # a plugin that does not exist here
    assert "'elsewhere'" in alone.stderr
    assert "Traceback" not in alone.stderr
