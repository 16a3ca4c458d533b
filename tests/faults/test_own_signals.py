"""SIGINT of the user's own: in a task it is what it is in any program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from tests import sessions
from tests.faults.busy import Hold

import ray
from ray.exceptions import TaskCancelledError, TaskTimeoutError
from ray.testing import eventually

LIMIT_S = 20

SENDERS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGINT),
    "raise_signal": lambda: signal.raise_signal(signal.SIGINT),
    "pthread_kill": lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT),
    "child": lambda: subprocess.run([sys.executable, "-c", f"import os; os.kill({os.getpid()}, 2)"], check=True),
}


session = sessions.shared(num_cpus=1)
nothing_left = sessions.unchecked()


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


def handles_what_comes(path, hold):
    """Notes each call of its handler; with ``hold`` its process is too busy to hear of anything but signals."""

    def handle(number, frame):
        with open(path + ".called", "a") as file:
            file.write("x")

    signal.signal(signal.SIGINT, handle)
    with open(path + ".ready", "w"):
        pass
    if hold is not None:
        hold()
    wait_for(path + ".called")
    time.sleep(0.2)


@ray.remote(max_retries=0)
def handles_it(path, hold=None):
    handles_what_comes(path, hold)


@ray.remote
class HandlesIt:
    def call(self, path, hold=None):
        handles_what_comes(path, hold)


def wait_for(path):
    eventually(lambda: os.path.exists(path), LIMIT_S, f"{path} is not there")


def ended(ref):
    try:
        assert ray.get(ref, timeout=LIMIT_S) is None
    except (TaskCancelledError, TaskTimeoutError):
        pass


@pytest.mark.parametrize("kind", ["task", "actor"])
@pytest.mark.parametrize("busy", [False, True], ids=["free", "busy"])
def test_a_handler_of_the_users_is_called_once_by_a_cancel(tmp_path, kind, busy):
    """Not every 20 ms until the task ends, nor by both processes that see to it."""
    function = handles_it if kind == "task" else HandlesIt.remote().call
    for number in range(3):
        path = str(tmp_path / str(number))
        hold = Hold(tmp_path, f"hold{number}") if busy else None
        ref = function.remote(path, hold)
        wait_for(path + ".ready")
        if hold is not None:
            hold.await_held()
        ray.cancel(ref)
        ended(ref)
        with open(path + ".called") as file:
            assert file.read() == "x"


@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True], ids=["free", "busy"])
def test_and_once_by_a_time_limit(tmp_path, busy):
    called = set()
    for number in range(3):
        path = str(tmp_path / str(number))
        hold = Hold(tmp_path, f"hold{number}") if busy else None
        ended(handles_it.options(timeout_s=0.5).remote(path, hold))
        # A busy machine may have started it too late: the limit has passed, or the signal came right before the hold.
        if os.path.exists(path + ".called"):
            with open(path + ".called") as file:
                called.add(file.read())
    assert called == {"x"}


def test_and_again_where_it_is_cancelled_again(tmp_path):
    @ray.remote(max_retries=0)
    def handles_twice(path):
        seen = []
        signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
        for count in (1, 2):
            with open(f"{path}.{count}", "w"):
                pass
            end = time.monotonic() + LIMIT_S
            while len(seen) < count and time.monotonic() < end:
                time.sleep(0.005)
        time.sleep(0.2)
        with open(path, "w") as file:
            file.write(str(len(seen)))

    path = str(tmp_path / "seen")
    ref = handles_twice.remote(path)
    for count in (1, 2):
        wait_for(f"{path}.{count}")
        ray.cancel(ref)
    ended(ref)
    with open(path) as file:
        assert file.read() == "2"
