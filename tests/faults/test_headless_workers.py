"""A call that ends the main thread of its process alone: the process is ended, and the call is answered."""

from __future__ import annotations

import ctypes
import platform
import sys
import threading

import pytest
from tests import sessions

import ray
from ray.exceptions import RayActorError, WorkerCrashedError

LIMIT_S = 20
NUMBERS = {"x86_64": 60, "aarch64": 93}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in NUMBERS, reason="the number of exit(2) is not known here"
)
session = sessions.shared(num_cpus=1, log_to_driver=False)
nothing_left = sessions.unchecked()


def end_thread():
    assert threading.current_thread() is threading.main_thread()
    ctypes.CDLL(None).syscall(NUMBERS[platform.machine()], 0)


@ray.remote
class Actor:
    def end_thread(self):
        end_thread()


@ray.remote
class AsyncActor:
    async def end_thread(self):
        end_thread()


@pytest.mark.slow
def test_in_a_task():
    with pytest.raises(WorkerCrashedError, match="its main thread was ended without the process"):
        ray.get(ray.remote(max_retries=0)(end_thread).remote(), timeout=LIMIT_S)
    assert ray.get(ray.remote(lambda: "ran").remote(), timeout=LIMIT_S) == "ran"


@pytest.mark.parametrize("cls", [Actor, AsyncActor])
def test_in_an_actor(cls):
    with pytest.raises(RayActorError, match="its main thread was ended without the process"):
        ray.get(cls.remote().end_thread.remote(), timeout=LIMIT_S)
