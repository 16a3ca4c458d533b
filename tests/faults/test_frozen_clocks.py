"""Programs and tasks that freeze or shift time, as tests do: limits, beats and pauses go by the real clock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SESSION = """
import asyncio, contextlib, datetime, os, sys
from tests.faults.false_clocks import false_clock, now

path, transport, *kinds = sys.argv[1:]

@contextlib.contextmanager
def session():
    global ray, held, held_up
    import ray

    @ray.remote
    def held_up():
        import time
        while not os.path.exists(path):
            time.sleep(0.01)
        return 1

    with ray.init(num_cpus=3, transport=transport, store="heap", log_to_driver=False):
        held = held_up.remote()
        yield
        open(path, "w").close()
        assert ray.get(held, timeout=30) == 1

def times_out(refs):
    began = now()
    try:
        ray.get(refs, timeout=0.1)
    except ray.exceptions.GetTimeoutError:
        assert 0.08 <= now() - began < 20, now() - began
    else:
        raise AssertionError("it has a value")

def is_ended(ref):
    try:
        ray.get(ref, timeout=30)
    except ray.exceptions.TaskTimeoutError as error:
        assert "0.2" in str(error)
    else:
        raise AssertionError("it was not ended")
"""

IN_THE_PROGRAM = """
def check_program(kind):
    @ray.remote
    def double(value):
        return 2 * value

    @ray.remote
    class Sum:
        value = 0
        def add(self, amount):
            self.value += amount
            return self.value

    @ray.remote(max_retries=2)
    def second_time(path):
        if not os.path.exists(path):
            open(path, "w").close()
            os._exit(1)
        return "done"

    with false_clock(kind):
        dies = second_time.remote(path + "." + kind)
        late = held_up.options(timeout_s=0.2).remote()
        assert ray.get([double.remote(i) for i in range(30)], timeout=30) == list(range(0, 60, 2))
        times_out(held)
        began = now()
        assert ray.wait([held], timeout=datetime.timedelta(seconds=0.2)) == ([], [held])
        assert 0.18 <= now() - began < 20
        is_ended(late)
        total = Sum.remote()
        assert ray.get([total.add.remote(1) for _ in range(3)], timeout=30) == [1, 2, 3]
        assert ray.get(dies, timeout=30) == "done"
    print("program", kind, flush=True)
"""

IN_A_WORKER = """
def check_worker(kind):
    class Frozen:
        def freeze(self):
            self.clock = false_clock(kind)
            self.clock.__enter__()

        def times_out(self, refs):
            times_out(refs)

        def hold(self):
            while not os.path.exists(path):
                os.stat("/")

    @ray.remote
    def freeze():
        false_clock(kind).__enter__()  # nobody thaws it

    @ray.remote
    def limited(refs):
        times_out(refs)

    @ray.remote
    def double(value):
        return 2 * value

    frozen = ray.remote(Frozen).remote()
    ray.get(frozen.freeze.remote(), timeout=30)
    ray.get(frozen.times_out.remote([held]), timeout=30)
    is_ended(frozen.hold.options(timeout_s=0.2).remote())
    ray.get([freeze.remote() for _ in range(2)], timeout=30)
    is_ended(held_up.options(timeout_s=0.2).remote())
    ray.get(limited.remote([held]), timeout=30)
    assert ray.get([double.remote(i) for i in range(30)], timeout=30) == list(range(0, 60, 2))
    print("worker", kind, flush=True)
"""

ON_A_LOOP = """
from ray.experimental import async_api

class Sleeps:
    def freeze(self):
        self.clock = false_clock("stands_still")
        self.clock.__enter__()

    async def sleep(self, seconds):
        began = now()
        await asyncio.sleep(seconds)
        return now() - began

def check_actor():
    actor = ray.remote(Sleeps).remote()
    ray.get(actor.freeze.remote(), timeout=30)
    assert 0.18 <= ray.get(actor.sleep.remote(0.2), timeout=30) < 20

async def wait():
    began = now()
    ready, pending = await async_api.wait([held], timeout=datetime.timedelta(seconds=0.2))
    assert (ready, pending) == ([], [held])
    assert 0.18 <= now() - began < 20
    group = async_api.create_group()
    group.append(held)
    began = now()
    assert [len(futures) for futures in await group.wait(timeout=0.2)] == [0, 1]
    assert 0.18 <= now() - began < 20
"""


def run(program, tmp_path, transport="unix", kinds=()):
    if transport == "zmq":
        pytest.importorskip("ray_transport_zmq")
    done = subprocess.run(
        [sys.executable, "-c", SESSION + program, tmp_path / "end", transport, *kinds],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["unix", "zmq"])
def test_programs_and_tasks(tmp_path, transport):
    program = """
with session():
    for kind in kinds:
        check_program(kind)
    for kind in kinds[:2]:
        check_worker(kind)
"""
    kinds = ["stands_still", "leaps", "goes_back", "patched"] if transport == "unix" else ["stands_still"]
    said = run(IN_THE_PROGRAM + IN_A_WORKER + program, tmp_path, transport, kinds)
    assert said == [f"program {kind}" for kind in kinds] + [f"worker {kind}" for kind in kinds[:2]]


@pytest.mark.parametrize("library", ["freezegun", "time_machine"])
def test_libraries_for_that(tmp_path, library):
    pytest.importorskip(library)
    program = """
with session():
    check_program(*kinds)
    check_worker(*kinds)
"""
    assert run(IN_THE_PROGRAM + IN_A_WORKER + program, tmp_path, kinds=[library]) == [
        f"program {library}",
        f"worker {library}",
    ]


def test_time_that_is_frozen_before_the_import(tmp_path):
    program = """
with false_clock("stands_still"), session():
    assert ray.get(ray.remote(lambda: 1).remote(), timeout=30) == 1
    times_out(held)
    is_ended(held_up.options(timeout_s=0.2).remote())
print("ended")
"""
    assert run(program, tmp_path) == ["ended"]


@pytest.mark.slow
def test_event_loops(tmp_path):
    """Those of the session, and with a limit of ours also those of the program."""
    pytest.importorskip("ray_async")
    program = """
with session():
    check_actor()
    for kind in kinds:
        with false_clock(kind):
            async_api.run_until_complete(wait())
            asyncio.run(wait())
        print(kind, flush=True)
"""
    kinds = ["stands_still", "leaps"]
    assert run(ON_A_LOOP + program, tmp_path, kinds=kinds) == kinds
