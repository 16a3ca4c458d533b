"""Forks by the user's code in driver, task and actor: children get clear errors, parents notice nothing."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

import pytest

import ray
from ray.exceptions import RayError

ROOT = Path(__file__).parents[2]
#: The longest a child may take that uses the session of its parent.
LIMIT_S = 1.0


@ray.remote
def echo(x):
    return x


def use_of_session(refs):
    """In a child: each way to use the parent's session must fail at once, with an error of ours."""
    problems = []
    ways = {
        "get": lambda: ray.get(refs[0]),
        "get of pending": lambda: ray.get(refs[1]),
        "wait": lambda: ray.wait([refs[1]]),
        "put": lambda: ray.put(1),
        "submit": lambda: echo.remote(1),
        "cancel": lambda: ray.cancel(refs[1]),
        "nodes": ray.nodes,
    }
    for name, way in ways.items():
        started = time.monotonic()
        try:
            way()
            problems.append(f"{name}: no error")
        except RayError as error:
            if not str(error):
                problems.append(f"{name}: {error!r} says nothing")
        if time.monotonic() - started > LIMIT_S:
            problems.append(f"{name}: {time.monotonic() - started:.1f} s")
    if ray.is_initialized():
        problems.append("is_initialized()")
    ray.shutdown()
    return problems


def child_that_ends(way):
    """A target for multiprocessing."""
    if way == "exits":
        sys.exit(7)
    if way == "raises":
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # it says so there
        raise RuntimeError("on purpose")


def status_of(pid):
    """Exit code of a child; it is killed if it does not end."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"


def fork_and(run):
    """Exit code of a forked child that does ``run()``; 0 if that returns nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: this process has threads
        pid = os.fork()
    if pid:
        return status_of(pid)
    code = 99
    try:
        problems = run()
        if problems:
            os.write(2, f"{problems}\n".encode())
        code = 98 if problems else 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def disturbed(i):
    """Whether this process's own session does not work."""
    try:
        ref = ray.put(i)
        return ray.get([ref, echo.remote(i), echo.remote(ref)], timeout=20) != [i, i, i]
    except RayError as error:
        return repr(error)


def fork_rounds(rounds):
    """Fork in all ways; returns what went wrong."""
    problems = []
    refs = [ray.put(b"x" * 200_000), echo.remote(0)]
    ray.get(refs[1])
    refs[1] = forever.remote()
    ways = [
        lambda: fork_and(lambda: use_of_session(refs)),
        lambda: fork_and(lambda: None),
        lambda: process("fork", "returns", 0),
        lambda: process("fork", "exits", 7),
        lambda: process("fork", "raises", 1),
        lambda: subprocess.run([sys.executable, "-S", "-c", "raise SystemExit(3)"], check=False).returncode - 3,
        lambda: subprocess.run("exit 5", shell=True, check=False).returncode - 5,
        lambda: pool("fork"),
    ]
    for i in range(rounds):
        result = ways[i % len(ways)]()
        if result:
            problems.append(f"round {i}: child gave {result}")
        failure = disturbed(i)
        if failure:
            problems.append(f"round {i}: parent: {failure}")
    for method in ("forkserver", "spawn"):
        if process(method, "exits", 7):
            problems.append(method)
        if disturbed(method):
            problems.append(f"parent after {method}")
    ray.cancel(refs[1], force=True)
    stop_fork_server()
    return problems


@ray.remote(max_retries=0, num_cpus=0)
def forever():
    time.sleep(1000)


def process(method, way, code):
    """0 if a child of ``multiprocessing`` ends as it should."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = multiprocessing.get_context(method).Process(target=child_that_ends, args=(way,))
        child.start()
    child.join(20)
    result = child.exitcode
    if result is None:
        child.kill()
        child.join()
    child.close()
    return 0 if result == code else f"{method} {way}: {result}"


def pool(method):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with multiprocessing.get_context(method).Pool(2) as workers:
            return 0 if workers.map(abs, [-1, 2, -3]) == [1, 2, 3] else "wrong"


def stop_fork_server():
    from multiprocessing import forkserver, resource_tracker

    forkserver._forkserver._stop()
    with contextlib.suppress(Exception):
        resource_tracker._resource_tracker._stop()


@ray.remote(max_retries=0)
def rounds_in_task(rounds):
    pid = os.getpid()
    return fork_rounds(rounds), pid == os.getpid()


@ray.remote
class Forker:
    def rounds(self, rounds):
        return fork_rounds(rounds)

    def child_goes_on(self, way):
        return go_on(way)


def go_on(way):
    """The child is not ended here: it leaves the task as the parent does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return "parent", status_of(pid)
    if way == "exits":
        sys.exit(7)
    if way == "raises":
        raise ValueError("in the child")
    return "child", 0


child_goes_on = ray.remote(max_retries=0)(go_on)


@pytest.mark.timeout(300)
def test_in_the_driver(start, rounds, capfd):
    start(num_cpus=2)
    assert fork_rounds(rounds(50, 500)) == []
    ray.shutdown()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.timeout(300)
def test_in_a_task(start, rounds):
    start(num_cpus=2)
    assert ray.get(rounds_in_task.remote(rounds(50, 500)), timeout=280) == ([], True)


@pytest.mark.timeout(300)
def test_in_an_actor(start, rounds):
    start(num_cpus=2)
    actor = Forker.remote()
    assert ray.get(actor.rounds.remote(rounds(50, 500)), timeout=280) == []


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("way", "code"), [("returns", 0), ("exits", 7), ("raises", 1)])
def test_child_that_leaves_the_task(start, rounds, way, code):
    """Only the parent answers; the child ends where the task ends."""
    start(num_cpus=1, log_to_driver=False)
    actor = Forker.remote()
    for _ in range(rounds(5, 50)):
        assert ray.get(child_goes_on.remote(way), timeout=30) == ("parent", code)
        assert ray.get(actor.child_goes_on.remote(way), timeout=30) == ("parent", code)
        assert ray.get(echo.remote(1), timeout=30) == 1


def own_session():
    with ray.init(num_cpus=1, log_to_driver=False):
        assert ray.get(echo.remote(3), timeout=20) == 3


def test_child_with_a_session_of_its_own(start):
    start(num_cpus=1)
    assert fork_and(own_session) == 0
    assert not disturbed(1)


@ray.remote(max_retries=0)
def fork_with_own_session():
    return fork_and(own_session)


def test_child_of_a_task_with_a_session_of_its_own(start):
    start(num_cpus=1)
    assert ray.get(fork_with_own_session.remote(), timeout=30) == 0
    assert ray.get(echo.remote(1), timeout=30) == 1


HOOKS = """
import os, sys
import ray
ray.init(num_cpus=1)
@ray.remote
def echo(x):
    return x
ref = echo.remote(1)
pid = os.fork()
if not pid:
    sys.exit(5)  # the long way out: atexit, destructors
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
print(ray.get([ref, echo.remote(2)], timeout=20))
"""


def test_end_of_a_child_runs_none_of_our_hooks():
    options = ["-W", "error", "-W", "ignore::DeprecationWarning"]
    run = subprocess.run(
        [sys.executable, *options, "-c", HOOKS], capture_output=True, text=True, timeout=50, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "[1, 2]\n"
    assert "Error" not in run.stderr
    assert "Warning" not in run.stderr
