"""Two processes that clean up after a session die, or stand, at about the same time: another one does it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable

import psutil
import pytest
from tests import victims

from ray.testing import eventually, leaks

#: A line of input shuts down.
PROGRAM = f"""
{victims.STARTS_CHILDREN}
sys.stdin.readline()
ray.shutdown()
print(1, flush=True)
sys.stdin.readline()
"""

pytestmark = pytest.mark.timeout(120)


class Session:
    """Pids of a session of ``PROGRAM``."""

    def __init__(self, driver):
        self.driver = driver
        *self.children, self.manager = victims.told(driver)
        self.zygote = next(child.pid for child in psutil.Process(self.manager).children() if "zygote" in child.name())
        self.others = [process.pid for process in psutil.Process(self.manager).children(recursive=True)]

    def shut_down(self) -> None:
        self.driver.stdin.write("\n")
        self.driver.stdin.flush()


@pytest.fixture
def session():
    """A session of ``PROGRAM``, of which nothing is left at the end."""
    before = leaks.snapshot()
    with victims.program(PROGRAM, stdin=subprocess.PIPE) as driver:
        session = Session(driver)
        with driver.stdin:
            yield session
    leaks.assert_clean(before)
    eventually(lambda: not any(map(victims.alive, session.others)))


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)


def kill_as_soon_as(pid: int, condition: Callable[[], bool]) -> None:
    """Without a pause: what is to be hit takes a few milliseconds."""
    while not condition():
        pass
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def node_of(session_dir: str) -> str:
    """Pid of the node manager that has made the directory; empty if it is not written yet."""
    with contextlib.suppress(OSError), open(f"{session_dir}/node.pid") as file:
        return file.read().partition(" ")[0]
    return ""


@pytest.mark.parametrize("by_plan", [False, True], ids=["driver killed", "shutdown"])
def test_the_node_manager_is_killed_while_it_ends(session, by_plan):
    if by_plan:
        session.shut_down()
    else:
        session.driver.kill()
    kill_as_soon_as(session.manager, lambda: not all(map(victims.alive, [session.zygote, *session.children])))
    if by_plan:
        assert victims.told(session.driver) == 1
        eventually(lambda: not any(map(victims.alive, session.others)))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_shutdown_of_a_node_that_stands(session, number):
    """Neither it nor the process that would take its place does anything."""
    stop(session.manager)
    os.kill(session.zygote, number)
    session.shut_down()
    assert victims.told(session.driver) == 1
    eventually(lambda: not any(map(victims.alive, session.others)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=lambda number: number.name)
def test_the_next_session_ends_what_stands(session, number):
    """Nobody of the session that could clean up is able to."""
    stop(session.zygote)
    os.kill(session.manager, number)
    session.driver.kill()
    session.driver.wait(5)
    assert victims.in_program("import ray; ray.init(num_cpus=1); ray.shutdown(); print(1)") == 1


#: A line of input has it ask for three more workers.
ASKS = """
import ray, sys
ray.init(num_cpus=1)

@ray.remote(num_cpus=0)
class Actor:
    pass

print(ray.nodes()[0]["Pid"], flush=True)
sys.stdin.readline()
actors = [Actor.remote() for _ in range(3)]
sys.stdin.readline()
"""


def test_both_are_killed_before_the_news_of_workers_were_read():
    """What the node manager has not read any more is no reason for the zygote not to clean up."""
    before = leaks.snapshot()
    with victims.program(ASKS, stdin=subprocess.PIPE) as driver, driver.stdin:
        manager = psutil.Process(victims.told(driver))
        (zygote,) = eventually(lambda: [child for child in manager.children() if "zygote" in child.name()])
        eventually(lambda: len(manager.children()) > 2)  # the store's, and a worker
        known, used = set(manager.children()), manager.num_fds()
        stop(zygote.pid)
        driver.stdin.write("\n")
        driver.stdin.flush()
        eventually(lambda: manager.num_fds() >= used + 4)  # it has asked for two of them
        stop(manager.pid)
        zygote.resume()
        eventually(lambda: len(set(manager.children()) - known) >= 2)  # of the first, it has told
        stop(driver.pid)
        manager.kill()
        driver.kill()
        driver.wait(5)
    leaks.assert_clean(before)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_the_driver_is_killed_while_the_node_manager_starts(number):
    """It was stopped before it had a process to take its place."""
    before = leaks.snapshot()
    with victims.program("import ray; ray.init(num_cpus=1)") as driver:
        (manager,) = eventually(lambda: psutil.Process(driver.pid).children())
        eventually(lambda: str(manager.pid) in map(node_of, victims.session_dirs()))
        stop(manager.pid)
        driver.send_signal(number)
        driver.wait(5)
    leaks.assert_clean(before)


def test_a_session_that_others_cannot_see_goes_on():
    """Containers may share the directory: of such a session no process is there, but its sockets answer."""
    starts = "import ray; ray.init(num_cpus=1); ray.shutdown(); print(1)"
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as base, socket.socket(socket.AF_UNIX) as listener:
        root = os.path.join(base, f"ray-{os.geteuid()}")
        path = os.path.join(root, "0123456789abcdef")
        os.mkdir(root, 0o700)
        os.mkdir(path, 0o700)
        for name in ("owner.pid", "node.pid"):
            with open(os.path.join(path, name), "w") as file:
                file.write("1 0")
        listener.bind(os.path.join(path, "node.sock"))
        listener.listen()
        environment = {**os.environ, "XDG_RUNTIME_DIR": base}
        assert victims.in_program(starts, env=environment) == 1
        assert os.listdir(root) == ["0123456789abcdef"]
        listener.close()
        assert victims.in_program(starts, env=environment) == 1
        assert os.listdir(root) == []
