"""In local mode a task runs on the caller's thread: what a signal handler raises there ends the call of the caller."""

import asyncio
import signal
import sys
import threading
import time
from importlib.util import find_spec

import pytest

import ray

LIMIT_S = 0.05
END_S = 30

pytestmark = pytest.mark.usefixtures("session")
needs_loop = pytest.mark.skipif(find_spec("ray_async") is None, reason="needs ray-async")


class LateError(Exception):
    pass


class LateExit(BaseException):
    pass


@pytest.fixture(params=[LateError, LateExit, SystemExit, KeyboardInterrupt])
def late(request):
    """What the handler raises that a timer calls."""

    def handler(number, frame):
        raise request.param("late")

    before = signal.signal(signal.SIGALRM, handler)
    yield request.param
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def session():
    with ray.init(local_mode=True, num_cpus=1):
        yield


def arm():
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)


def ends(late, call, before=arm):
    called = []

    def armed():
        before()
        called.append(time.monotonic())
        call()

    while not called:  # on a busy machine the timer may be over before that
        with pytest.raises(late, match="late") as caught:
            armed()
    assert time.monotonic() - called[0] < END_S
    assert type(caught.value) is late


@ray.remote(retry_exceptions=True)
def sleeps(seconds=END_S):
    time.sleep(seconds)
    return "slept"


@ray.remote
def asks():
    return ray.get(sleeps.remote())


@ray.remote(num_returns="streaming")
def streams(after=0):
    yield from range(after)
    time.sleep(END_S)


class Slow:
    def __init__(self, seconds=0):
        time.sleep(seconds)

    def sleeps(self, seconds=END_S):
        time.sleep(seconds)
        return "slept"

    @ray.method(num_returns="streaming")
    def streams(self):
        time.sleep(END_S)
        yield


class SlowOnALoop:
    async def sleeps(self, seconds=END_S):
        time.sleep(seconds)  # noqa: ASYNC251
        return "slept"

    async def streams(self, after=0):
        for number in range(after):
            yield number
        await asyncio.sleep(END_S)
        yield


def test_tasks(late):
    for task in (sleeps, asks, streams, ray.remote(lambda: time.sleep(END_S)).options(num_returns=0)):
        ends(late, task.remote)
    ends(late, lambda: ray.remote(time.sleep).remote(END_S))
    assert ray.get(sleeps.remote(0)) == "slept"


def test_actors(late):
    slow = ray.remote(Slow).remote()
    for method in (slow.sleeps, slow.streams):
        ends(late, method.remote)
    assert ray.get(slow.sleeps.remote(0)) == "slept"


def test_constructors(late):
    ends(late, lambda: ray.remote(Slow).options(name="slow").remote(END_S))
    with pytest.raises(ValueError, match="no live actor"):
        ray.get_actor("slow")
    assert ray.get(ray.remote(Slow).options(name="slow").remote().sleeps.remote(0)) == "slept"


@needs_loop
def test_actors_on_a_loop(late):
    slow = ray.remote(SlowOnALoop).remote()
    ends(late, slow.sleeps.remote)
    ends(late, slow.streams.remote)
    assert ray.get(slow.sleeps.remote(0)) == "slept"


@needs_loop
def test_a_coroutine_that_waits_is_left(late):
    class Waits:
        def __init__(self):
            self.left = []

        async def waits(self):
            try:
                arm()
                await asyncio.sleep(END_S)
            finally:
                self.left.append("left")

        async def all(self):
            return self.left

    waits = ray.remote(Waits).remote()
    ends(late, waits.waits.remote, before=lambda: None)
    assert ray.get(waits.all.remote()) == ["left"]


@pytest.mark.parametrize("kind", ["task", pytest.param("async actor", marks=needs_loop)])
def test_streams_that_go_on(late, kind):
    stream = streams.remote(300) if kind == "task" else ray.remote(SlowOnALoop).remote().streams.remote(300)
    assert [ray.get(next(stream)) for _ in range(300)] == [*range(300)]
    ends(late, lambda: next(stream))
    [last] = stream
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(last)


def test_of_a_call_within_a_loop(late):
    async def main():
        await sleeps.remote()

    ends(late, lambda: asyncio.run(main()))


def test_what_the_task_handles_is_its_own(late):
    @ray.remote
    def handles():
        try:
            arm()
            time.sleep(END_S)
        except BaseException:
            return "handled"

    assert ray.get(handles.remote()) == "handled"


def test_what_the_task_raises_itself_is_its_failure():
    @ray.remote
    def raises():
        raise LateError

    with pytest.raises(LateError):
        ray.get(raises.remote())


def test_at_the_end_of_the_session(late):
    @ray.remote(num_returns="streaming")
    def lingers():
        try:
            yield from range(1000)
        finally:
            time.sleep(END_S)

    stream = lingers.remote()
    ends(late, ray.shutdown)
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGALRM).__name__ == "handler"
    del stream


def test_handlers_are_as_they_were():
    ray.shutdown()
    before = signal.getsignal(signal.SIGINT)
    with ray.init(local_mode=True):
        assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGINT) is before
    assert sys.getprofile() is None
    assert threading.current_thread() is threading.main_thread()
