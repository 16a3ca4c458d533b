"""``ray memory`` says who holds what."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from tests.api.meeting import wait_for

import ray

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
    """Who holds an object, as the report for programs says it."""
    reports = json.loads(memory("--format", "json").stdout)
    [entry] = [entry for report in reports for entry in report["objects"] if entry["object_id"] == ref_id]
    return sorted(entry["holders"])


@ray.remote(num_cpus=0)
class Keeper:
    def __init__(self):
        self.kept = []

    def keep(self, value):
        self.kept.append(value)
        return os.getpid()

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
    assert holders(name) == [f"actor Keeper {pid}", f"driver {os.getpid()}"]
    del ref
    assert holders(name) == [f"actor Keeper {pid}"]


def test_an_attribute_that_is_a_view(session):
    numpy = pytest.importorskip("numpy")
    keeper = Keeper.remote()
    ref = ray.put(numpy.ones(100_000))
    pid, name = ray.get(keeper.keep.remote(ref)), ref.hex()
    del ref
    assert holders(name) == [f"actor Keeper {pid}"]


def test_what_an_actor_has_put(session):
    keeper = Keeper.remote()
    name = ray.get(keeper.put.remote())
    assert [re.sub(r"\d+", "N", text) for text in holders(name)] == ["actor Keeper N"]


def test_what_another_object_contains(session):
    inner = ray.put(LARGE)
    outer, name = ray.put([inner]), inner.hex()
    del inner
    assert holders(name) == [f"driver {os.getpid()}"]
    del outer


def test_what_a_task_is_given(session, tmp_path):
    ref = ray.put(LARGE)
    running, name = hold.remote(tmp_path, ref), ref.hex()
    del ref
    wait_for(tmp_path, 1)
    assert f"driver {os.getpid()}" in holders(name)
    (tmp_path / "go").touch()
    assert ray.get(running) == len(LARGE)


def test_a_process_that_does_not_answer_is_named(session):
    keeper = Keeper.remote()
    ref = ray.put(LARGE)
    pid, name = ray.get(keeper.keep.remote([ref])), ref.hex()
    del ref
    os.kill(pid, signal.SIGSTOP)
    try:
        done = memory()
    finally:
        os.kill(pid, signal.SIGCONT)
    [row] = [line for line in done.stdout.splitlines() if name in line]
    assert row.endswith(f"actor Keeper {pid}?")
    assert f"actor Keeper {pid} does not answer: it may hold more" in done.stderr


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
