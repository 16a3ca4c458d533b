"""The end of a program takes exactly what is its own along, and the end of a node is told to all that are on it."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import psutil
import pytest
from tests.nodes import LIMIT_S, Node, line, tell
from tests.programs import WAITS_FOR_EVER
from tests.victims import alive

from ray.testing import eventually

#: How long the end of a program may take on a node; longer on a machine that is busy.
END_S = 2.0

OWNS = """
import subprocess

@ray.remote(num_cpus=0)
class Actor:
    def child(self, env):
        program = [sys.executable, "-c", "import time; time.sleep(600)"]
        return subprocess.Popen(program, start_new_session=True, env=env).pid
    def pid(self):
        return os.getpid()

@ray.remote(num_cpus=0)
def parent():
    child = Actor.remote()
    return ray.get([child.pid.remote(), busy.remote()])

@ray.remote(num_cpus=1)
def busy():
    time.sleep(600)

actor, named = Actor.remote(), Actor.options(name="mine").remote()
kept = ray.put(bytes(8_000_000))
pids = ray.get([actor.pid.remote(), named.pid.remote(), actor.child.remote(None), actor.child.remote({})])
working = [busy.remote(), parent.remote()]
time.sleep(0.3)
print(*pids, flush=True)
told()
"""
LOST = """
try:
    ray.get(working)
except ray.exceptions.NodeDiedError:
    print("died", flush=True)
"""
GOES_ON = """
@ray.remote(num_cpus=0)
class Keeper:
    def value(self):
        return len(ray.get(self.ref))
    def keep(self, ref):
        self.ref = ref[0]
        return os.getpid()

keeper = Keeper.options(name="keeper").remote()
ref = ray.put(bytes(2_000_000))
print(ray.get(keeper.keep.remote([ref])), flush=True)
while told():
    print(ray.get(keeper.value.remote()), flush=True)
"""


def ends(program: subprocess.Popen[str], how: str) -> None:
    if how == "killed":
        program.kill()
    elif how == "closed":
        assert program.stdin is not None
        program.stdin.close()  # it comes to its end, and shuts down
        program.stdin = None
    else:
        program.send_signal(signal.SIGINT)
    program.wait(LIMIT_S)


@pytest.mark.parametrize("how", ["killed", "closed", "interrupted"])
def test_what_a_program_leaves_is_its_own(started: Node, running, how: str) -> None:
    keeper, program = running(GOES_ON), running(OWNS)
    kept = int(line(keeper))
    pids = [int(pid) for pid in line(program).split()]
    assert all(map(alive, pids))
    ends(program, how)
    ended = time.monotonic()
    eventually(lambda: not any(map(alive, pids)), LIMIT_S, "what it has started is gone")
    eventually(lambda: started.workers() == [kept], LIMIT_S, "its workers are gone, and no others")
    assert time.monotonic() - ended < 5 * END_S
    eventually(started.is_free, LIMIT_S, "nothing is taken")
    assert os.listdir(started.session_dir).count("session.json") == 1
    tell(keeper)
    assert line(keeper) == "2000000"
    (said,), _ = started.run("print([actor for actor in [ray.get_actor('keeper')]][0].value.remote() is not None)")
    assert said == "True"


def test_after_shutdown_nothing_is_left(started: Node) -> None:
    """``ray.shutdown`` waits for it."""
    lines, _ = started.run(
        OWNS.replace("told()\n", "")
        + "job = ray.get_runtime_context().job_id\n"
        + "ray.shutdown()\n"
        + "alive = [pid for pid in pids if os.path.exists(f'/proc/{pid}/fd/0')]\n"
        + "print(alive)\n"
    )
    assert lines[1] == "[]"
    assert started.workers() == []
    assert not [name for name in os.listdir(started.session_dir) if name.startswith(("job-", "w-", "d-"))]


def test_a_program_that_joins_again_is_another_job(started: Node) -> None:
    lines, _ = started.run(
        """
        first = ray.get_runtime_context().job_id
        ray.shutdown()
        ray.init(address={address!r})
        print(first, ray.get_runtime_context().job_id)
        """.replace("{address!r}", repr(started.address))
    )
    first, second = lines[0].split()
    assert first != second


def test_a_detached_actor_lives_on_and_works(started: Node) -> None:
    """Also with tasks of its own, in the directory of the program that has made it; until it is killed."""
    (pid,), _ = started.run(
        """
        @ray.remote
        def nested(number):
            return number + 1

        @ray.remote(num_cpus=0)
        class Stays:
            def work(self, number):
                return ray.get(nested.remote(number)), os.getcwd()
            def pid(self):
                return os.getpid()
        stays = Stays.options(name="stays", lifetime="detached").remote()
        print(ray.get(stays.pid.remote()))
        """,
        cwd="/usr",
    )
    assert int(pid) in started.workers()
    lines, _ = started.run(
        """
        stays = ray.get_actor("stays")
        print(ray.get(stays.work.remote(4)), ray.get(stays.pid.remote()))
        ray.kill(stays)
        """
    )
    assert lines == [f"(5, '/usr') {pid}"]
    eventually(lambda: not started.workers(), LIMIT_S, "the job of the actor is over")
    assert not [name for name in os.listdir(started.session_dir) if name.startswith("job-")]


def test_a_node_that_is_stopped_tells_its_programs(started: Node, running) -> None:
    program = running(WAITS_FOR_EVER)
    assert line(program) == "begun"
    started.started.stop()
    assert "the node was stopped" in line(program)
    assert program.wait(LIMIT_S) == 0
    assert not os.path.exists(started.session_dir)


def test_a_node_manager_that_is_killed(started: Node, running) -> None:
    """Its survivor ends the rest."""
    program = running(OWNS.replace("told()", LOST))
    pids = [int(pid) for pid in line(program).split()]
    os.kill(started.started.pid, signal.SIGKILL)
    assert line(program) == "died"
    assert program.wait(LIMIT_S) == 0
    eventually(lambda: not any(map(alive, pids)), LIMIT_S, "all is gone")
    eventually(lambda: not os.path.exists(started.session_dir), LIMIT_S, "the directory is gone")


def test_a_node_of_a_driver_ends_with_it(running, started: Node) -> None:
    """Also for others that have joined it."""
    owner = running(
        """
        ray.shutdown()
        context = ray.init(num_cpus=1)
        print(context["session_dir"], flush=True)
        told()
        """
    )
    guest = running(
        """
        ray.shutdown()
        ray.init(address="unix:" + told())
        @ray.remote
        def double(number):
            return 2 * number
        print(ray.get(double.remote(4)), flush=True)
        @ray.remote
        def forever():
            time.sleep(600)
        try:
            ray.get(forever.remote())
        except ray.exceptions.NodeDiedError as error:
            print(error, flush=True)
        """
    )
    tell(guest, line(owner))
    assert line(guest) == "8"
    ends(owner, "closed")
    assert "the program that started this node has ended" in line(guest)
    assert guest.wait(LIMIT_S) == 0


def test_a_guest_takes_nothing_of_the_owner_along(started: Node, running) -> None:
    owner = running(
        """
        ray.shutdown()
        context = ray.init(num_cpus=2)
        @ray.remote(num_cpus=0)
        class Counter:
            def __init__(self):
                self.count = 0
            def add(self):
                self.count += 1
                return self.count
        counter = Counter.remote()
        print(ray.get(counter.add.remote()), context["session_dir"], flush=True)
        told()
        print(ray.get(counter.add.remote()), len(ray.error_info()), flush=True)
        """
    )
    count, session_dir = line(owner).split()
    assert count == "1"
    joins = f"ray.shutdown()\nray.init(address='unix:{session_dir}')\nimport subprocess"
    program = running(OWNS.replace("import subprocess", joins))
    pids = [int(pid) for pid in line(program).split()]
    ends(program, "killed")
    eventually(lambda: not any(map(alive, pids)), LIMIT_S, "what it has started is gone")
    tell(owner)
    assert line(owner) == "2 0"


def test_a_driver_that_stands_still_holds_no_other_up(started: Node, running) -> None:
    program = running(
        """
        @ray.remote
        def speak():
            for _ in range(20_000):
                print("x" * 200)
        refs = [speak.remote() for _ in range(2)]
        print("ready", flush=True)
        ray.get(refs)
        """
    )
    assert line(program) == "ready"
    os.kill(program.pid, signal.SIGSTOP)
    lines, _ = started.run(
        """
        @ray.remote(num_cpus=0)
        def speak():
            print("heard")
        ray.get([speak.remote() for _ in range(10)])
        """
    )
    assert sum("heard" in text for text in lines) == 10
    assert psutil.Process(program.pid).status() == psutil.STATUS_STOPPED
