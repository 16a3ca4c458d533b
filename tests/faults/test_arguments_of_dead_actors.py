"""Once an actor has died for good, what its ``__init__`` was given is let go, whatever handles are left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import ray
from ray.exceptions import RayActorError

_MIB = 1 << 20


class Keeper:
    def __init__(self, *arguments):
        pass

    def pid(self):
        return os.getpid()


def _stored_bytes():
    session = ray.get_runtime_context().session_id
    command = [sys.executable, "-m", "ray", "memory", "--session", session, "--format", "json"]
    (report,) = json.loads(subprocess.run(command, stdout=subprocess.PIPE, timeout=30, check=True).stdout)
    return report["used_bytes"]


def _die(how, actor):
    if how == "kill":
        ray.kill(actor)
    elif how == "signal":
        os.kill(ray.get(actor.pid.remote(), timeout=30), signal.SIGKILL)
    else:
        actor.__ray_terminate__.remote()
    end = time.monotonic() + 30
    while _lives(actor) and time.monotonic() < end:
        pass


def _lives(actor):
    try:
        return ray.get(actor.pid.remote(), timeout=30)
    except RayActorError:
        return 0


@pytest.mark.parametrize("lifetime", ["detached", None])
def test_arguments_are_let_go(start, lifetime):
    """Those given as refs, those inside others, and those of actors that had been restarted."""
    start(num_cpus=1)
    cls = ray.remote(Keeper).options(lifetime=lifetime)
    value = ray.put(bytes(_MIB))
    alive = cls.options(max_restarts=1).remote(value, bytes(_MIB), [ray.put(bytes(_MIB))])
    del value
    pid = ray.get(alive.pid.remote(), timeout=30)
    dead = []
    for how in ("kill", "signal", "terminate"):
        dead.append(cls.remote(ray.put(bytes(_MIB)), bytes(_MIB), [ray.put(bytes(_MIB))]))
        _die(how, dead[-1])
    end = time.monotonic() + 20
    while (stored := _stored_bytes()) >= 4 * _MIB and time.monotonic() < end:
        time.sleep(0.05)
    assert stored >= 3 * _MIB  # of the one that lives
    assert stored < 4 * _MIB
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 30
    while (again := _lives(alive)) in (0, pid) and time.monotonic() < end:
        pass
    assert again not in (0, pid)  # what it was given, it was given again
    ray.kill(alive)  # the fixture sees whether anything is held
