"""Sessions begin and end: many times, several at once, twice, in threads, and in the wrong order."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import threading
import time

import psutil
import pytest
from tests import victims

import ray
from ray.exceptions import NodeDiedError, RayConnectionError
from ray.testing import leaks


@ray.remote
def double(x):
    return 2 * x


@ray.remote
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count


@pytest.fixture
def before():
    """What was there, to compare with."""
    return leaks.snapshot()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_sessions_one_after_the_other(before, rounds, capsys):
    starts, ends = [], []
    process = psutil.Process()
    for number in range(rounds(20, 500)):
        began = time.perf_counter()
        ray.init(num_cpus=2, log_to_driver=False)
        starts.append((time.perf_counter() - began) * 1000)
        if number % 5 == 0:
            assert ray.get([double.remote(i) for i in range(10)], timeout=20) == [2 * i for i in range(10)]
            assert ray.get(Counter.remote().add.remote(), timeout=20) == 1
        began = time.perf_counter()
        ray.shutdown()
        ends.append((time.perf_counter() - began) * 1000)
        if number == 4:
            fds, threads = process.num_fds(), threading.active_count()
        elif number > 4:
            assert process.num_fds() <= fds
            assert threading.active_count() <= threads
    leaks.assert_clean(before)
    with capsys.disabled():
        for what, times in (("init", starts), ("shutdown", ends)):
            cuts = statistics.quantiles(times, n=100)
            print(f"\n{what}, {len(times)} times: p50 {cuts[49]:.0f} ms, p99 {cuts[98]:.0f} ms", end="")
        print()


SESSION = """
import os, ray, sys
ray.init(num_cpus=2, log_to_driver=False)

@ray.remote
def square(x):
    return x * x, os.environ["WHOSE"]

@ray.remote
class Named:
    def whose(self):
        return os.environ["WHOSE"]

named = Named.options(name="the same name everywhere").remote()
for _ in range(20):
    values = ray.get([square.remote(i) for i in range(50)], timeout=30)
    assert values == [(i * i, os.environ["WHOSE"]) for i in range(50)]
    assert ray.get(ray.get_actor("the same name everywhere").whose.remote(), timeout=30) == os.environ["WHOSE"]
ray.shutdown()
print(1)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_several_sessions_at_once(before, rounds):
    count = rounds(5, 20)
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(victims.program(SESSION, env={**os.environ, "WHOSE": str(number)}))
            for number in range(count)
        ]
        assert [victims.told(program) for program in programs] == [1] * count
        assert [program.wait(20) for program in programs] == [0] * count
    leaks.assert_clean(before)


def test_second_init_is_refused_and_harms_nothing(start):
    start(num_cpus=1)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="twice"):
            ray.init(num_cpus=1)
    again = ray.init(ignore_reinit_error=True)
    assert again.address_info["session_dir"] in victims.session_dirs()
    assert ray.get(double.remote(2), timeout=10) == 4


def test_use_after_the_end(before):
    ray.init(num_cpus=1)
    held = [double.remote(1), ray.put(5), Counter.remote()]
    assert ray.get([held[0], held[2].add.remote()], timeout=10) == [2, 1]
    ray.shutdown()
    ray.shutdown()
    uses = [
        lambda: ray.get(held[0]),
        lambda: ray.get(held[1]),
        lambda: ray.wait(held[:1]),
        lambda: held[2].add.remote(),
        lambda: ray.put(1),
        lambda: ray.get_actor("x"),
        lambda: ray.cluster_resources(),
    ]
    for use in uses:
        with pytest.raises(RayConnectionError) as caught:
            use()
        assert not isinstance(caught.value, NodeDiedError)
    with ray.init(num_cpus=1):
        for use in uses[:4]:
            with pytest.raises(RayConnectionError, match="session"):
                use()
        assert ray.get(double.remote(21), timeout=10) == 42
        with pytest.raises(RayConnectionError, match="session"):
            ray.get(double.remote(held[0]))
        for handle in (held[2], held[2].add):
            with pytest.raises(RayConnectionError, match="The handle of actor Counter belongs to a session"):
                double.remote([handle])
    held.clear()
    leaks.assert_clean(before)


def test_waiting_thread_is_told_of_the_end(before):
    """Other threads that are blocked when the session ends get an error."""
    ray.init(num_cpus=1)

    @ray.remote
    def slow():
        time.sleep(60)

    ref = slow.remote()
    outcomes = []

    def wait():
        try:
            outcomes.append(ray.get(ref))
        except BaseException as error:
            outcomes.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    ray.shutdown()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert [type(outcome) for outcome in outcomes] == [RayConnectionError] * 3
    leaks.assert_clean(before)


def test_init_in_a_thread(before):
    """The thread that began the session may end; any other one uses it and ends it."""
    failures = []

    def within(action):
        def run():
            try:
                action()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        assert not failures

    within(lambda: ray.init(num_cpus=1))
    assert ray.get(double.remote(1), timeout=10) == 2
    counter = Counter.remote()
    within(lambda: ray.get(counter.add.remote(), timeout=10))
    assert ray.get(counter.add.remote(), timeout=10) == 2
    time.sleep(0.5)
    assert ray.get(double.remote(3), timeout=10) == 6
    within(ray.shutdown)
    assert not ray.is_initialized()
    leaks.assert_clean(before)


def test_only_one_of_many_threads_begins_a_session(before):
    outcomes = []
    gate = threading.Barrier(4)

    def begin():
        gate.wait(5)
        try:
            outcomes.append(ray.init(num_cpus=1))
        except RuntimeError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sum(isinstance(outcome, RuntimeError) for outcome in outcomes) == 3
    assert ray.get(double.remote(3), timeout=10) == 6
    ray.shutdown()
    leaks.assert_clean(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "ending",
    ["", "ray.shutdown()", "raise SystemExit(0)", "sys.exit(0)", "1 / 0", "os._exit(3)", "os.kill(os.getpid(), 15)"],
)
def test_any_end_of_the_program_ends_its_session(before, ending):
    code = f"""
import os, ray, sys, time
ray.init(num_cpus=2)
slow = ray.remote(lambda: time.sleep(60)).remote()
quick = ray.get(ray.remote(lambda: 1).remote())
print(quick, flush=True)
{ending}
"""
    with victims.program(code, stderr=subprocess.DEVNULL) as program:
        assert victims.told(program) == 1
        program.wait(10)
    leaks.assert_clean(before)


def test_failed_start_leaves_nothing(before, monkeypatch):
    """The node manager dies while the driver waits for it."""
    from ray.exceptions import RaySystemError
    from ray.runtime.driver.embedded_node import EmbeddedNode

    begin = EmbeddedNode.begin

    def begin_and_kill(self):
        begin(self)
        self._process.kill()

    monkeypatch.setattr(EmbeddedNode, "begin", begin_and_kill)
    with pytest.raises(RaySystemError, match="node manager did not start"):
        ray.init(num_cpus=1)
    assert not ray.is_initialized()
    monkeypatch.undo()
    leaks.assert_clean(before)
    with ray.init(num_cpus=1):
        assert ray.get(double.remote(1), timeout=10) == 2
