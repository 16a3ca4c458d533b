"""What the handler of a signal raises shows the program's lines, wherever it comes."""

import os
import signal
import threading
import time
import traceback

import pytest
from tests.api.one_session import nothing_left

import ray
from ray.testing import leaks

__all__ = ["nothing_left"]

PACKAGE = os.path.dirname(ray.__file__) + os.sep
END_S = 30


class LimitError(Exception):
    pass


def fail(number, frame):
    raise LimitError


@ray.remote
def waits(path):
    while not os.path.exists(path):
        threading.Event().wait(0.05)


@ray.remote
def nothing():
    pass


def own_code(ref):
    time.sleep(END_S)


def many_puts(ref):
    end = time.monotonic() + END_S
    while time.monotonic() < end:
        ray.put(1)


def many_tasks(ref):
    end = time.monotonic() + END_S
    while time.monotonic() < end:
        ray.get([nothing.remote() for _ in range(10)])


def stream(ref):
    @ray.remote(num_returns="streaming")
    def streams(refs):
        yield ray.get(refs[0])

    for _ in streams.remote([ref]):
        pass


PLACES = {
    "the program's own code": own_code,
    "get": ray.get,
    "get of a list": lambda ref: ray.get([ref, ref]),
    "wait": lambda ref: ray.wait([ref]),
    "stream": stream,
    "puts": many_puts,
    "tasks": many_tasks,
}


@pytest.fixture(scope="module", autouse=True)
def session():
    before = leaks.snapshot()
    with ray.init(num_cpus=4, address="local"):
        yield
    leaks.assert_clean(before)


@pytest.fixture
def raised(tmp_path):
    """Call the functions with a ref of what does not end, and have a signal come; returns what comes out."""

    def call(function):
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises((LimitError, KeyboardInterrupt)) as caught:
            function(ref)
        timer.join()
        return caught.value

    ref = waits.remote(tmp_path / "go")
    yield call
    (tmp_path / "go").touch()
    ray.get(ref)


@pytest.fixture(params=["Python's own", "the program's"])
def handler(request):
    previous = signal.getsignal(signal.SIGINT)
    if request.param == "the program's":
        signal.signal(signal.SIGINT, fail)
    yield request.param
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("place", PLACES)
def test_at_most_one_frame_of_ours_is_below_the_line_of_the_program(place, raised, handler):
    error = raised(PLACES[place])
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f"{frame.filename}:{frame.lineno}" for frame in frames if frame.filename.startswith(PACKAGE)]
    assert len(ours) <= 1, ours
    if handler == "Python's own" and place not in ("stream", "puts", "tasks"):
        assert not ours
    assert (frames[-1].name == "fail") == (handler == "the program's")


def test_all_frames_are_shown_where_that_is_asked_for(raised, monkeypatch):
    monkeypatch.setenv("RAY_CORE_FULL_TRACEBACK", "1")
    frames = traceback.extract_tb(raised(ray.get).__traceback__)
    assert sum(frame.filename.startswith(PACKAGE) for frame in frames) > 3


def test_pytest_hides_what_is_left_of_ours(raised, handler):
    entries = pytest.ExceptionInfo.from_exception(raised(own_code)).traceback
    shown = [entry for entry in entries if not entry.ishidden(None)]
    assert not any(str(entry.path).startswith(PACKAGE) for entry in shown)


def test_the_program_sees_pythons_own_handler():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.signal(signal.SIGINT, fail) is signal.default_int_handler
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is fail
