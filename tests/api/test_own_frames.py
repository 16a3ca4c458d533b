"""A traceback shows the lines of the program, and at most one frame of ray's own."""

import os
import signal
import threading
import traceback
from pathlib import Path

import pytest
from tests.api.one_session import nothing_left, session

import ray

__all__ = ["nothing_left", "session"]

PACKAGE = os.path.dirname(ray.__file__) + os.sep


class Unreadable:
    """Can be pickled, and not be opened."""

    def __reduce__(self):
        return rebuild, ()


def rebuild():
    raise ValueError("on purpose")


@ray.remote(num_returns=2)
def three():
    return 1, 2, 3


@ray.remote(num_returns=2)
def one_number():
    return 5


@ray.remote
def lock():
    return threading.Lock()


@ray.remote
def unreadable():
    return Unreadable()


@ray.remote
def take(x):
    return x


@ray.remote
def wrong_get():
    return ray.get(3)


@ray.remote
def wrong_option():
    return take.options(num_cpus="many")


@ray.remote
def asks():
    return input("a number? ")


@ray.remote
def waits(path):
    while not os.path.exists(path):
        threading.Event().wait(0.05)


@ray.remote
class Actor:
    @ray.method(num_returns=2)
    def three(self):
        return 1, 2, 3

    def lock(self):
        return threading.Lock()


FAILURES = {
    "too many results": lambda: three.remote()[0],
    "a single result": lambda: one_number.remote()[0],
    "too many results of a method": lambda: Actor.remote().three.remote()[0],
    "a result that cannot be pickled": lock.remote,
    "a result of a method that cannot be pickled": lambda: Actor.remote().lock.remote(),
    "a result that cannot be opened": unreadable.remote,
    "an argument that cannot be opened": lambda: take.remote(Unreadable()),
    "a ref whose value cannot be opened": lambda: take.remote(unreadable.remote()),
    "a wrong call": wrong_get.remote,
    "a wrong option": wrong_option.remote,
}


def own_frames(error):
    """Of the text that Python prints, causes included."""
    text = "".join(traceback.format_exception(error))
    return [line for line in text.splitlines() if PACKAGE in line], text


@pytest.mark.parametrize("name", FAILURES)
def test_failures_of_tasks_show_one_frame_of_ours_at_most(name):
    with pytest.raises((TypeError, ValueError)) as caught:
        ray.get(FAILURES[name]())
    # What goes out of a call of this process is cut by its own tests.
    own, text = own_frames(caught.value)
    assert len(own) <= 1, text
    assert "passed on by" not in "".join(own)


def test_the_lines_of_the_program_stay():
    with pytest.raises(ValueError, match="object ref or a list") as caught:
        ray.get(wrong_get.remote())
    assert "in wrong_get\n    return ray.get(3)" in str(caught.value)
    with pytest.raises(ValueError, match="on purpose") as caught:
        ray.get(unreadable.remote())
    assert "in rebuild\n" in "".join(traceback.format_exception(caught.value))


def test_input_names_the_line_that_asks(session, monkeypatch):
    if session == "processes":
        with pytest.raises(EOFError) as caught:
            ray.get(asks.remote())
        own, text = own_frames(caught.value)
        assert len(own) == 1
        assert text.index("in asks\n") < text.index(own[0])


def test_all_frames_are_shown_where_that_is_asked_for():
    full = ray.remote(lambda: os.environ.update(RAY_CORE_FULL_TRACEBACK="1") or ray.get(3))
    try:
        with pytest.raises(ValueError, match="object ref or a list") as caught:
            ray.get(full.remote())
        own, _ = own_frames(caught.value)
        assert len(own) > 1
    finally:
        os.environ.pop("RAY_CORE_FULL_TRACEBACK", None)
        ray.get(ray.remote(lambda: os.environ.pop("RAY_CORE_FULL_TRACEBACK", None)).remote())


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


def forwards(refs):
    for _ in refs:
        pass


WAITS = {
    "get": ray.get,
    "get of a list": lambda ref: ray.get([ref, ref]),
    "get with a timeout": lambda ref: ray.get(ref, timeout=50),
    "wait": lambda ref: ray.wait([ref]),
}


def interrupted(wait, given):
    """The frames of the KeyboardInterrupt with which ``wait`` ends."""
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            wait(given)
    finally:
        timer.join()
    return [Path(frame.filename).name for frame in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize("way", WAITS)
def test_an_interrupted_wait_shows_the_line_that_waits(way, session, tmp_path):
    if session == "processes":
        ref = waits.remote(tmp_path / "go")
        assert set(interrupted(WAITS[way], ref)) == {Path(__file__).name}
        (tmp_path / "go").touch()
        ray.get(ref)


def test_an_interrupted_loop_over_a_stream_too(session, tmp_path):
    @ray.remote(num_returns="streaming")
    def stream(path):
        yield 1
        while not os.path.exists(path):
            threading.Event().wait(0.05)

    if session == "processes":
        refs = stream.remote(tmp_path / "go")
        assert interrupted(forwards, refs).count("streams.py") <= 1
        (tmp_path / "go").touch()
        forwards(refs)


def test_a_handler_of_the_program_is_shown(session, tmp_path):
    if session == "processes":

        def handler(number, frame):
            raise KeyboardInterrupt

        ref = waits.remote(tmp_path / "go")
        previous = signal.signal(signal.SIGINT, handler)
        try:
            timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt) as caught:
                ray.get(ref)
            timer.join()
        finally:
            signal.signal(signal.SIGINT, previous)
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert [frame.name for frame in frames] == ["test_a_handler_of_the_program_is_shown", "handler"]
        (tmp_path / "go").touch()
        ray.get(ref)
