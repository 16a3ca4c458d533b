"""The driver is killed: its session ends with it, wherever it is at that moment."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil
import pytest
from tests import victims
from tests.quick import crossed

from ray.testing import eventually, leaks

#: What each driver does when it is killed. A line of output says when.
IDLE = """
import ray, time
ray.init(num_cpus=2)
print(1, flush=True)
time.sleep(60)
"""
IN_GET = """
import ray, time
ray.init(num_cpus=2)

@ray.remote
def slow():
    time.sleep(60)

refs = [slow.remote() for _ in range(4)]
print(1, flush=True)
ray.get(refs)
"""
IN_PUT = """
import ray, os
ray.init(num_cpus=2)
data = bytearray(200_000_000)
print(1, flush=True)
while True:
    ref = ray.put(data)
"""
SUBMITTING = """
import ray
ray.init(num_cpus=2)

@ray.remote
def add(x):
    return x + 1

print(1, flush=True)
while True:
    ray.get([add.remote(i) for i in range(1000)])
"""
WITH_ACTORS = """
import ray, subprocess, time
ray.init(num_cpus=2)

@ray.remote(num_cpus=0)
class Actor:
    def start_child(self):
        self.child = subprocess.Popen(["sleep", "600"])
        self.away = subprocess.Popen(["sleep", "600"], start_new_session=True)

    def block(self):
        time.sleep(60)

actors = [Actor.remote() for _ in range(20)]
ray.get([actor.start_child.remote() for actor in actors[:3]])
refs = [actor.block.remote() for actor in actors]
print(1, flush=True)
time.sleep(60)
"""
DETACHED = """
import ray, time
ray.init(num_cpus=2)

@ray.remote(num_cpus=0)
class Actor:
    def pid(self):
        return 1

actor = Actor.options(name="stays", lifetime="detached").remote()
assert ray.get(actor.pid.remote()) == 1
print(1, flush=True)
time.sleep(60)
"""
IN_INIT = """
import ray, ray.runtime.driver.driver
print(1, flush=True)
ray.init(num_cpus=2)
print(2, flush=True)
import time
time.sleep(60)
"""
IN_SHUTDOWN = """
import ray, time
ray.init(num_cpus=2)

@ray.remote
def one():
    return 1

assert ray.get([one.remote() for _ in range(10)]) == [1] * 10
print(1, flush=True)
ray.shutdown()
print(2, flush=True)
time.sleep(60)
"""
MOMENTS = {
    "idle": IDLE,
    "in get": IN_GET,
    "in put": IN_PUT,
    "submitting": SUBMITTING,
    "with actors": WITH_ACTORS,
    "with a detached actor": DETACHED,
}


def everything(pid: int) -> list[psutil.Process]:
    """The driver's descendants."""
    return psutil.Process(pid).children(recursive=True)


@pytest.fixture
def before():
    """What was there, to compare with."""
    return leaks.snapshot()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("moment", "number"), crossed(list(MOMENTS), [signal.SIGKILL, signal.SIGTERM]))
def test_session_ends_with_its_driver(before, rounds, moment, number):
    for _ in range(rounds(1, 30)):
        with victims.program(MOMENTS[moment]) as driver:
            assert victims.told(driver) == 1
            time.sleep(0.05)  # into what it does
            # a node manager, a zygote and two workers, which may still be starting
            processes = eventually(lambda: found if len(found := everything(driver.pid)) >= 4 else None)
            os.kill(driver.pid, number)
            driver.wait(5)
        leaks.assert_clean(before)
        # One that is just ending has lost its environment, and so its mark, but not yet its number.
        eventually(lambda: not any(victims.alive(process.pid) for process in processes), 1.0)  # noqa: B023


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_driver_killed_inside_init(before, rounds):
    """At moments spread over the whole start."""
    count = rounds(9, 200)
    for step in range(count):
        with victims.program(IN_INIT) as driver:
            assert victims.told(driver) == 1
            time.sleep(0.4 * step / count)
            driver.kill()
        leaks.assert_clean(before)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_driver_killed_inside_shutdown(before, rounds):
    """At moments spread over the whole end."""
    count = rounds(5, 200)
    for step in range(count):
        with victims.program(IN_SHUTDOWN) as driver:
            assert victims.told(driver) == 1
            time.sleep(0.1 * step / count)
            driver.kill()
        leaks.assert_clean(before)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=lambda number: number.name)
def test_the_node_manager_cannot_clean_up_after_its_driver(before, number):
    """It was stopped, or killed too, and tasks have started what has neither its group nor its environment."""
    with victims.program(f"{victims.STARTS_CHILDREN}\ntime.sleep(60)") as driver:
        *children, manager = victims.told(driver)
        others = [process.pid for process in everything(driver.pid)]
        os.kill(manager, number)
        driver.kill()
        driver.wait(5)
        eventually(lambda: not any(map(victims.alive, [manager, *children, *others])), 30.0, "some are left")
    leaks.assert_clean(before)


@pytest.mark.timeout(120)
def test_the_driver_is_killed_while_it_cleans_up_after_the_node_manager(before):
    """The other one that could do it ends last. Here that one is stopped, and ends at the driver's hand only."""
    with victims.program(f"{victims.STARTS_CHILDREN}\ntime.sleep(60)") as driver:
        *_, manager = victims.told(driver)
        (zygote,) = (process.pid for process in everything(driver.pid) if "zygote" in process.name())
        os.kill(zygote, signal.SIGSTOP)
        eventually(lambda: psutil.Process(zygote).status() == psutil.STATUS_STOPPED)
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(manager, signal.SIGKILL)
            while psutil.Process(zygote).status() == psutil.STATUS_STOPPED:
                pass  # a pause might be the time that the driver needs for the rest
        driver.kill()
    leaks.assert_clean(before, 2.0)


@pytest.mark.timeout(120)
def test_driver_stopped_and_killed(before):
    with victims.program(SUBMITTING) as driver:
        assert victims.told(driver) == 1
        os.kill(driver.pid, signal.SIGSTOP)
        time.sleep(0.2)
        driver.kill()
    leaks.assert_clean(before)


@pytest.mark.timeout(120)
def test_whole_process_group_killed(before):
    """As a batch system or a terminal does it: the node manager has a group of its own and must find out by itself."""
    with victims.program(WITH_ACTORS, start_new_session=True) as driver:
        assert victims.told(driver) == 1
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait(5)
    leaks.assert_clean(before)


@pytest.mark.timeout(120)
def test_driver_and_node_manager_killed_together(before):
    """Nobody is left to clean up: the processes go at once, the directory with the next session."""
    with victims.program(SUBMITTING) as driver:
        assert victims.told(driver) == 1
        (manager,) = psutil.Process(driver.pid).children()
        manager.kill()
        driver.kill()
    eventually(lambda: not [leak for leak in leaks.leaks(before) if "process" in leak], 2.0, "processes are left")
    assert victims.in_program("import ray; ray.init(num_cpus=1); ray.shutdown(); print(1)") == 1
    leaks.assert_clean(before)


@pytest.mark.timeout(120)
def test_other_sessions_are_untouched(before):
    with victims.program(SUBMITTING) as victim, victims.program(OTHER) as other:
        assert victims.told(victim) == 1
        assert victims.told(other) == 1
        victim.kill()
        assert victims.told(other) == 1000
        assert other.wait(30) == 0
    leaks.assert_clean(before)


OTHER = """
import ray, time
ray.init(num_cpus=1)

@ray.remote
class Counter:
    count = 0

    def add(self):
        self.count += 1
        return self.count

counter = Counter.remote()
print(ray.get(counter.add.remote()), flush=True)
for _ in range(999):
    last = ray.get(counter.add.remote())
    time.sleep(0.001)
print(last, flush=True)
ray.shutdown()
"""
