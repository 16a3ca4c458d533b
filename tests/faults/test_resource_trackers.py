"""What a resource tracker would remove is removed, however a worker, an actor or the session ends.

``multiprocessing`` and joblib leave it to a process of their own to remove shared memory, semaphores and folders: it
outlives those that use them, and then ends by itself, or is ended.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import signal
import sys
import time

import pytest
from tests import victims
from tests.faults import tracked

import ray
from ray.exceptions import RayError
from ray.testing import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells of the trackers")

PROGRAM = """
import json, os, signal, sys, time
import ray
from tests.faults import tracked

end, hows = sys.argv[1], sys.argv[2:]
ray.init(num_cpus=2)
paths, pids, users = {}, [], []
for how in hows:
    user = tracked.User.remote()
    users.append(user)
    if how == "stubborn":
        pids += ray.get(user.stubborn.remote())
    elif how == "stopped":
        paths[how] = ray.get(user.use.remote("memory"))
        ray.get(user.stop_trackers.remote())
    else:
        paths[how] = ray.get(user.use.remote(how))
print(json.dumps([paths, pids]), flush=True)
if end == "driver":
    os.kill(os.getpid(), signal.SIGKILL)
if end == "node":
    os.kill(ray.nodes()[0]["Pid"], signal.SIGKILL)
if end == "all":
    import psutil
    node = psutil.Process(ray.nodes()[0]["Pid"])
    for process in [node, *node.children(recursive=True)]:
        if "resource_tracker" not in " ".join(process.cmdline()):
            process.kill()
ray.shutdown()
"""
ENDS = ["shutdown", "driver", "node", "all"]
JOBLIB = pytest.mark.skipif(importlib.util.find_spec("joblib") is None, reason="it is not installed")
HOWS = [
    "memory",
    *(pytest.param(how, marks=pytest.mark.slow) for how in ("child", "pool")),
    pytest.param("joblib", marks=[pytest.mark.slow, JOBLIB]),
]


def gone(paths, pids=()):
    """Wait for the end of files, by the name of what has made them, and of processes."""

    def left():
        files = {name: there for name, made in paths.items() if (there := tracked.there(made))}
        return files, [pid for pid in pids if victims.alive(pid)]

    end = time.monotonic() + 20
    while left() != ({}, []) and time.monotonic() < end:
        time.sleep(0.02)
    assert left() == ({}, [])


# --- the session ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [*ENDS[:-1], pytest.param(ENDS[-1], marks=pytest.mark.slow)])
def test_the_session_ends(end):
    hows = ["memory", "stopped", "pool", "child"] if end == "shutdown" else ["memory", "child"]
    with victims.program(PROGRAM, end, *hows) as program:
        paths, _ = victims.told(program)
        assert program.wait(30) == (-signal.SIGKILL if end == "driver" else 0)
        gone(paths)


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS)
def test_a_tracker_that_never_ends_ends_with_the_session(end):
    with victims.program(PROGRAM, end, "memory", "stubborn") as program:
        paths, pids = victims.told(program)
        assert len(pids) == 2
        program.wait(30)
        gone(paths, pids)


# --- workers ----------------------------------------------------------------------------------------------------------


@ray.remote(num_cpus=0, max_calls=1)
def use_once(how):
    return tracked.KINDS[how]()[1]


@ray.remote(num_cpus=0, max_retries=0)
def use_for_long(how, path):
    kept = tracked.KINDS[how]()
    path.with_suffix(".new").write_text(json.dumps(kept[1]))
    path.with_suffix(".new").rename(path)
    end = time.monotonic() + 600
    while time.monotonic() < end:  # only force ends it
        with contextlib.suppress(BaseException):
            time.sleep(600)


@pytest.mark.parametrize("how", HOWS)
def test_a_worker_ends(start, how, tmp_path):
    """By itself or not, with or without an error, after one call or when nobody needs it any more."""
    start(num_cpus=2, log_to_driver=False)
    killed, leaving, crashing, unneeded = users = [tracked.User.remote() for _ in range(4)]
    cancelled, once = use_for_long.remote(how, tmp_path / "paths"), use_once.remote(how)
    made = ray.get([user.use.remote(how) for user in users])
    paths = dict(zip(["killed", "leaving", "crashing", "unneeded"], made, strict=True))
    paths["once"] = ray.get(once)
    eventually((tmp_path / "paths").exists, 30)
    paths["cancelled"] = json.loads((tmp_path / "paths").read_text())
    assert all(paths.values())

    ray.kill(killed)
    ray.cancel(cancelled, force=True)
    for ref in (leaving.leave.remote(), crashing.crash.remote(), cancelled):
        with pytest.raises(RayError):
            ray.get(ref, timeout=30)
    del unneeded, users
    gone(paths)


def test_a_tracker_that_was_stopped_goes_on(start):
    start(num_cpus=1, log_to_driver=False)
    user = tracked.User.remote()
    paths = {"stopped": ray.get(user.use.remote("memory"))}
    ray.get(user.stop_trackers.remote())
    ray.kill(user)
    gone(paths)


@pytest.mark.slow
def test_a_tracker_that_never_ends_is_killed(start):
    """One that has left the group of its worker ends with the session, as any process does."""
    start(num_cpus=1, log_to_driver=False)
    user, other = tracked.User.remote(), tracked.User.remote()
    beside, away = ray.get(user.stubborn.remote())
    ray.kill(user)
    paths = {"other": ray.get(other.use.remote("memory"))}
    ray.kill(other)
    gone(paths, [beside])
    ray.shutdown()
    gone({}, [away])
