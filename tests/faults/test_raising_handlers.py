"""Signal handlers that raise, as those of time limits do: the call ends with it, and nothing else is hurt."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest
from tests import sessions

import ray
from ray.testing import eventually, leaks

_LIMIT_S = 30


class Late(Exception):
    """What the handlers of these tests raise."""


@ray.remote
def same(value):
    return value


@ray.remote
class Echo:
    def same(self, value):
        return value


@ray.remote
class EchoOnALoop:
    async def same(self, value):
        return value


nothing_left = sessions.unchecked()


@pytest.fixture(scope="module", params=["unix", "zmq", "routed"])
def session(request):
    before = leaks.snapshot()
    with ray.init(num_cpus=2, log_to_driver=False, transport=request.param):
        yield request.param
    leaks.assert_clean(before)


class Alarm:
    """Raises ``Late`` once, at some moment of a call."""

    def __init__(self):
        self.armed = False
        self.count = 0
        self.main = threading.main_thread().ident

    def handle(self, number, frame):
        if self.armed:
            self.armed = False
            self.count += 1
            raise Late

    def during(self, call, seconds):
        try:
            self.armed = True
            sender = threading.Timer(random.uniform(1e-5, seconds), signal.pthread_kill, (self.main, signal.SIGUSR1))
            sender.start()
            call()
            self.armed = False
        except Late:
            pass
        sender.join()


@pytest.fixture
def alarm():
    alarm = Alarm()
    previous = signal.signal(signal.SIGUSR1, alarm.handle)
    yield alarm
    signal.signal(signal.SIGUSR1, previous)


def tasks():
    assert ray.get([same.remote(number) for number in range(20)], timeout=_LIMIT_S) == list(range(20))


def nested():
    first = [same.remote(number) for number in range(5)]
    assert ray.get([same.remote(ref) for ref in first], timeout=_LIMIT_S) == list(range(5))


def puts():
    refs = [ray.put(bytes(size)) for size in (10, 10_000, 1_000_000)]
    assert [len(value) for value in ray.get(refs, timeout=_LIMIT_S)] == [10, 10_000, 1_000_000]


def waits():
    ready, rest = ray.wait([same.remote(number) for number in range(5)], num_returns=5, timeout=_LIMIT_S * 1000)
    assert (len(ready), rest) == (5, [])


def cancels():
    ref = same.remote(1)
    ray.cancel(ref)
    with contextlib.suppress(ray.exceptions.TaskCancelledError):
        assert ray.get(ref, timeout=_LIMIT_S) == 1


def by(actor):
    def calls():
        assert ray.get([actor.same.remote(number) for number in range(20)], timeout=_LIMIT_S) == list(range(20))

    return calls


def by_new_actors():
    assert ray.get(Echo.remote().same.remote(1), timeout=_LIMIT_S) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [tasks, nested, puts, waits, cancels, Echo, EchoOnALoop],
    ids=lambda call: getattr(call, "__name__", "actor"),
)
def test_at_random_moments(session, alarm, call):
    if call in (Echo, EchoOnALoop):
        call = by(call.remote())
    call()
    started = time.monotonic()
    call()
    took_s = time.monotonic() - started
    started = time.monotonic()
    while time.monotonic() < started + 0.8 or alarm.count < 3:
        assert time.monotonic() < started + _LIMIT_S
        alarm.during(call, took_s * 1.5)
    for go_on in (call, tasks, nested, puts, waits):
        go_on()


def test_while_actors_are_made(session, alarm):
    for _ in range(10):
        alarm.during(by_new_actors, 0.2)
    by_new_actors()
    tasks()


def test_a_wait_ends_at_once(session, alarm):
    @ray.remote
    def long():
        time.sleep(60)

    ref = long.remote()
    started = time.monotonic()
    alarm.during(lambda: ray.get(ref), 0.3)
    assert alarm.count == 1
    assert time.monotonic() - started < 5
    ray.cancel(ref, force=True)


@pytest.mark.parametrize("method", ["result", "exception"])
def test_a_wait_for_a_future_ends_at_once(session, alarm, method):
    @ray.remote
    def long():
        time.sleep(60)

    ref = long.remote()
    future = ref.future()
    started = time.monotonic()
    alarm.during(lambda: getattr(future, method)(timeout=30), 0.3)
    assert alarm.count == 1
    assert time.monotonic() - started < 5
    ray.cancel(ref, force=True)


class Slow:
    """Takes its time to be pickled."""

    def __getstate__(self):
        time.sleep(1)
        return {}


class Plain:
    def __init__(self, number):
        self.number = number


def sent_by(value):
    @ray.remote
    def holds():
        return value

    return holds.remote()


PICKLES = {
    "put": lambda value: ray.put(value),
    "argument": lambda value: same.remote(value),
    "actor's argument": lambda value: Echo.remote().same.remote(value),
    "function": sent_by,
}


@pytest.mark.parametrize("call", PICKLES)
def test_in_a_pickle_of_the_programs(session, alarm, call):
    """It is not taken for an object that cannot be pickled, nor for one to be tried in another way."""
    value = Slow()
    started = time.monotonic()
    alarm.during(lambda: PICKLES[call](value), 0.3)
    assert alarm.count == 1
    assert time.monotonic() - started < 0.9
    tasks()


def test_in_a_large_pickle(session, alarm):
    value = [Plain(number) for number in range(100_000)]
    started = time.monotonic()
    ray.put(value)
    took_s = time.monotonic() - started
    end = time.monotonic() + _LIMIT_S
    while alarm.count < 2:  # with luck the pickle is ready before
        assert time.monotonic() < end
        started = time.monotonic()
        alarm.during(lambda: ray.put(value), took_s / 3)
        assert time.monotonic() - started < took_s + 5
    tasks()


def test_in_a_task(session):
    @ray.remote
    def interrupted(seconds, times):
        alarm = Alarm()
        signal.signal(signal.SIGUSR1, alarm.handle)
        while alarm.count < times:  # on a busy machine most come too late
            alarm.during(tasks, seconds)
            tasks()

    ray.get(interrupted.remote(0.01, 6), timeout=_LIMIT_S)
    tasks()


def test_after_its_task(session, tmp_path):
    """No code of the program runs that could take what it raises: the worker goes on."""

    @ray.remote(num_cpus=2)
    def leaves(seconds, came):
        def raises(number, frame):
            came.touch()
            raise Late

        signal.signal(signal.SIGALRM, raises)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return ray.get_runtime_context().get_worker_id()

    @ray.remote(num_cpus=2)
    def worker():
        return ray.get_runtime_context().get_worker_id()

    first = ray.get(leaves.remote(0.05, tmp_path / "came"), timeout=_LIMIT_S)
    eventually((tmp_path / "came").exists, _LIMIT_S)
    assert ray.get(worker.remote(), timeout=_LIMIT_S) == first


@pytest.mark.parametrize("end", ["exception", "exit", "interrupt"])
def test_after_the_call_of_an_actor(session, tmp_path, end):
    """Whatever it raises: other callers need the actor."""

    @ray.remote
    class Leaves:
        def leave(self, seconds, came):
            def raises(number, frame):
                came.touch()
                raise {"exception": Late, "exit": SystemExit, "interrupt": KeyboardInterrupt}[end]

            signal.signal(signal.SIGALRM, raises)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            return 1

        def ping(self):
            return 2

    actor = Leaves.remote()
    assert ray.get(actor.leave.remote(0.05, tmp_path / "came"), timeout=_LIMIT_S) == 1
    eventually((tmp_path / "came").exists, _LIMIT_S)
    assert ray.get(actor.ping.remote(), timeout=_LIMIT_S) == 2


PROFILED = """
import random, signal, sys, threading, time
import ray

class Late(Exception):
    pass

def handle(number, frame):
    if armed:
        raise Late

def hook(frame, event, arg):
    len(str(event))
    return hook

@ray.remote
def same(value):
    return value

armed, how = False, sys.argv[1]
signal.signal(signal.SIGALRM, handle)
if how == "init in a thread":
    thread = threading.Thread(target=ray.init, kwargs={"num_cpus": 2, "log_to_driver": False})
    thread.start()
    thread.join()
else:
    ray.init(num_cpus=2, log_to_driver=False)
count, end = 0, time.monotonic() + 2
while time.monotonic() < end:
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 0.004))
        if how in ("setprofile", "settrace"):
            getattr(sys, how)(hook)
        assert ray.get([same.remote(number) for number in range(10)], timeout=30) == list(range(10))
        armed = False
    except Late:
        count += 1
    armed = False
sys.setprofile(None)
sys.settrace(None)
assert ray.get([same.remote(number) for number in range(10)], timeout=30) == list(range(10))
end = time.monotonic() + 10
while ray.available_resources().get("CPU") != 2 and time.monotonic() < end:
    time.sleep(0.01)
print(count > 2, ray.available_resources()["CPU"])
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["setprofile", "settrace", "init in a thread"])
def test_beside_what_the_program_does_with_its_interpreter(how):
    done = subprocess.run([sys.executable, "-c", PROFILED, how], capture_output=True, text=True, timeout=55)
    assert done.stdout == "True 2.0\n", done.stdout + done.stderr[-2000:]


@pytest.mark.slow
def test_many_signals_of_two_kinds():
    """They become few where they cannot be handled at once, and do not pile up."""
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True, timeout=55)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr[-2000:]


MANY = """
import signal, sys, threading, time
import ray

class Late(Exception):
    pass

def handle(number, frame):
    if armed:
        raise Late

armed = False
ray.init(num_cpus=2, log_to_driver=False)
for number in (signal.SIGALRM, signal.SIGUSR1):
    signal.signal(number, handle)

@ray.remote
def same(value):
    return value

main, going = threading.main_thread().ident, True

def send():
    while going:
        signal.pthread_kill(main, signal.SIGUSR1)
        time.sleep(0.0005)

thread = threading.Thread(target=send)
thread.start()
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
end, most = time.monotonic() + 2, 0
while time.monotonic() < end:
    try:
        armed = True
        ray.get(same.remote(1), timeout=30)
        armed = False
    except Late:
        pass
    armed = False
    most = max(most, threading.active_count())
going = False
thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
ray.get(same.remote(1), timeout=30)
print(most < 12)
"""


def test_two_signals_at_once(session):
    told = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: told.append("usr1"))
    other = signal.signal(signal.SIGUSR2, lambda *_: told.append("usr2"))
    main = threading.main_thread().ident
    done = threading.Event()

    def send():
        for _ in range(100):
            signal.pthread_kill(main, signal.SIGUSR1)
            signal.pthread_kill(main, signal.SIGUSR2)
            time.sleep(0.001)
        done.set()

    try:
        thread = threading.Thread(target=send)
        thread.start()
        while not done.is_set():
            tasks()
        thread.join()
        tasks()
        end = time.monotonic() + 5
        while {"usr1", "usr2"} - set(told) and time.monotonic() < end:
            tasks()
        assert set(told) == {"usr1", "usr2"}
    finally:
        signal.signal(signal.SIGUSR1, previous)
        signal.signal(signal.SIGUSR2, other)


def test_the_program_sees_its_own_handlers(session):
    def mine(number, frame):
        pass

    previous = signal.signal(signal.SIGUSR1, mine)
    assert signal.getsignal(signal.SIGUSR1) is mine
    assert signal.signal(signal.SIGUSR1, previous) is mine
    assert signal.getsignal(signal.SIGUSR1) == previous
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(TypeError):
        signal.signal(signal.SIGUSR1, "no handler")
