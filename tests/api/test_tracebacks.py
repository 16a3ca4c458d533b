"""What a failure looks like here: frames of the program, then the error with the remote ones, and none of ray's own."""

import asyncio
import os
import re
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import pytest
from tests.api.one_session import nothing_left, session

import ray

__all__ = ["nothing_left", "session"]

PACKAGES = [os.path.dirname(ray.__file__) + os.sep]


@ray.remote
def fail(*given):
    raise KeyError("boom")


@ray.remote
def nap():
    import time

    time.sleep(0.5)


@ray.remote
class Actor:
    def fail(self):
        raise KeyError("boom")


@ray.remote
class Unborn:
    def __init__(self):
        raise KeyError("boom")

    def get(self):
        return 1


def ready(ref):
    ray.wait([ref])
    return ref


def awaiting(make):
    async def main():
        return await make()

    return asyncio.run(main())


CALLS = {
    "get": lambda: ray.get(fail.remote()),
    "get of a list": lambda: ray.get([ray.put(1), fail.remote()]),
    "get of a call": lambda: ray.get(Actor.remote().fail.remote()),
    "get of a failed actor": lambda: ray.get(Unborn.remote().get.remote()),
    "get of a failed argument": lambda: ray.get(fail.remote(fail.remote())),
    "await": lambda: awaiting(fail.remote),
    "gather": lambda: awaiting(lambda: asyncio.gather(fail.remote(), fail.remote())),
    "result": lambda: ready(fail.remote()).result(),
    "future": lambda: fail.remote().future().result(30),
    "put": lambda: ray.put(threading.Lock()),
    "argument": lambda: fail.remote(threading.Lock()),
    "wrong arguments": lambda: Actor.remote().fail.remote(1),
    "wrong arguments of a constructor": lambda: Unborn.remote(1),
}


def frames_of(call):
    with pytest.raises((KeyError, TypeError)) as caught:
        call()
    summaries = list(traceback.walk_tb(caught.value.__traceback__))
    visible = [frame for frame, _ in summaries if not frame.f_locals.get("__tracebackhide__")]
    return [frame.f_code.co_filename for frame in visible]


@pytest.mark.parametrize("name", CALLS)
def test_no_frame_of_ours_is_shown(name):
    files = frames_of(CALLS[name])
    assert __file__ in files
    assert not [file for file in files if file.startswith(PACKAGES[0])]


def test_a_time_out_neither(session):
    if session == "processes":
        with pytest.raises(ray.exceptions.GetTimeoutError) as caught:
            ray.get(nap.remote(), timeout=0.01)
        assert [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)] == ["test_a_time_out_neither"]


def test_the_remote_ones_are(session):
    with pytest.raises(KeyError) as caught:
        ray.get(fail.remote())
    assert "Remote traceback:" in str(caught.value)
    assert "in fail" in str(caught.value)


@ray.remote
class Async:
    async def fail(self):
        raise KeyError("boom")

    async def stream(self):
        yield 1
        raise KeyError("boom")


def test_the_remote_ones_are_the_programs_alone():
    actor = Async.remote()
    for ref in (actor.fail.remote(), list(actor.stream.options(num_returns="streaming").remote())[-1]):
        with pytest.raises(KeyError) as caught:
            ray.get(ref)
        remote = str(caught.value).partition("Remote traceback:")[2]
        assert re.findall('File "(.*)", line', remote) == [__file__]


def test_all_are_shown_where_that_is_asked_for(monkeypatch):
    monkeypatch.setenv("RAY_CORE_FULL_TRACEBACK", "1")
    with pytest.raises(KeyError) as caught:
        ray.get(fail.remote())
    assert len(traceback.extract_tb(caught.value.__traceback__)) > 2


TEST = """
import ray
@ray.remote
def fail():
    raise KeyError("boom")
def test_it():
    with ray.init(local_mode=True):
        ray.get(fail.remote())
def test_arguments():
    with ray.init(local_mode=True):
        fail.remote(1, 2)
"""


@pytest.mark.slow
def test_in_pytest(tmp_path):
    (tmp_path / "test_it.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "2 failed" in done.stdout
    assert str(Path(ray.__file__).parent) not in done.stdout
    assert "api/objects.py" not in done.stdout
    assert "remote_function.py" not in done.stdout


def test_in_ipython():
    ultratb = pytest.importorskip("IPython.core.ultratb")
    with pytest.raises(KeyError) as caught:
        ray.get(fail.remote())
    if hasattr(ultratb, "VerboseTB"):
        text = ultratb.VerboseTB().text(caught.type, caught.value, caught.tb)
        assert "api/objects.py" not in text
        assert "boom" in text
