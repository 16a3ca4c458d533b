"""SIGINT of the user's own: in a task it is what it is in any program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import ray
from ray.exceptions import TaskCancelledError
from ray.testing import leaks

LIMIT_S = 20

SENDERS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGINT),
    "raise_signal": lambda: signal.raise_signal(signal.SIGINT),
    "pthread_kill": lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT),
    "child": lambda: subprocess.run([sys.executable, "-c", f"import os; os.kill({os.getpid()}, 2)"], check=True),
}


@pytest.fixture(scope="module")
def session():
    before = leaks.snapshot()
    ray.init(num_cpus=1)
    yield
    ray.shutdown()
    leaks.assert_clean(before)


@pytest.fixture(autouse=True)
def nothing_left(session):
    """The session is that of all tests here."""


def catches(send):
    try:
        send()
        time.sleep(LIMIT_S)
    except KeyboardInterrupt:
        return "caught"
    return "not interrupted"


def handles(send):
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        send()
        end = time.monotonic() + LIMIT_S
        while not seen and time.monotonic() < end:
            time.sleep(0.005)
    finally:
        signal.signal(signal.SIGINT, before)
    return seen


@ray.remote
class Serial:
    catches = staticmethod(catches)
    handles = staticmethod(handles)

    def installs(self):
        self.seen = []
        signal.signal(signal.SIGINT, lambda number, frame: self.seen.append(number))

    def sends(self):
        os.kill(os.getpid(), signal.SIGINT)
        return self.seen


@ray.remote
class Async:
    async def catches(self, send):
        return catches(send)

    async def handles(self, send):
        return handles(send)


@pytest.mark.parametrize("send", SENDERS)
@pytest.mark.parametrize("code", [catches, handles])
def test_in_tasks(send, code):
    expected = {catches: "caught", handles: [signal.SIGINT]}[code]
    for _ in range(3):
        assert ray.get(ray.remote(code).remote(SENDERS[send]), timeout=LIMIT_S) == expected


@pytest.mark.parametrize("cls", [Serial, Async])
def test_in_actors(cls):
    actor = cls.remote()
    for send in SENDERS.values():
        assert ray.get(actor.catches.remote(send), timeout=LIMIT_S) == "caught"
        assert ray.get(actor.handles.remote(send), timeout=LIMIT_S) == [signal.SIGINT]


def test_it_is_the_tasks_error():
    @ray.remote(max_retries=0)
    def fails():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(LIMIT_S)

    with pytest.raises(ray.exceptions.RayTaskError, match="KeyboardInterrupt"):
        ray.get(fails.remote(), timeout=LIMIT_S)


def test_in_the_middle_of_a_get():
    @ray.remote
    def slow():
        time.sleep(LIMIT_S)

    @ray.remote(max_retries=0)
    def parent():
        ref = slow.remote()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            ray.get(ref)
        except KeyboardInterrupt:
            ray.cancel(ref)
            return "caught"

    assert ray.get(parent.remote(), timeout=LIMIT_S) == "caught"


def test_the_handler_of_an_actor_stays():
    actor = Serial.remote()
    ray.get(actor.installs.remote(), timeout=LIMIT_S)
    assert ray.get(actor.sends.remote(), timeout=LIMIT_S) == [signal.SIGINT]
    assert ray.get(actor.sends.remote(), timeout=LIMIT_S) == [signal.SIGINT] * 2


def test_the_handler_of_a_task_goes_with_it():
    @ray.remote
    def installs():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return os.getpid()

    assert ray.get(installs.remote(), timeout=LIMIT_S) > 0
    assert ray.get(ray.remote(catches).remote(SENDERS["kill"]), timeout=LIMIT_S) == "caught"


def test_a_handler_of_the_users_is_called_once_by_a_cancel(tmp_path):
    ready, called = tmp_path / "ready", tmp_path / "called"

    @ray.remote(max_retries=0)
    def handles():
        def handle(number, frame):
            with open(called, "a") as file:
                file.write("x")

        signal.signal(signal.SIGINT, handle)
        ready.touch()
        while not called.exists():
            time.sleep(0.005)
        time.sleep(0.2)

    ref = handles.remote()
    end = time.monotonic() + LIMIT_S
    while not ready.exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    ray.cancel(ref)
    try:
        assert ray.get(ref, timeout=LIMIT_S) is None
    except TaskCancelledError:
        pass
    # Not every 20 ms until the task ends; once more where the worker was too busy to hear of the cancel in time.
    assert called.read_text() in ("x", "xx")
