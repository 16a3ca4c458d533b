"""The leak check finds each kind of leak, and nothing else."""

import os
import pickle
import re
import subprocess
import sys
import threading
import time
import uuid

import pytest

from ray.testing import eventually, leaks

SLEEPER = "import time; time.sleep(600)"


@pytest.fixture
def before():
    return leaks.snapshot()


def found(before, **options):
    with pytest.raises(leaks.LeakError) as caught:
        leaks.assert_clean(before, 0.1, **options)
    return [text for text in caught.value.leaks if not is_of_others(text)]


def is_of_others(text):
    """Whether it was of a store of other tests, run beside these, whose end was just under way."""
    path = text.removeprefix("shared memory ")
    end = time.monotonic() + 0.5
    while path != text and time.monotonic() < end:
        if not os.path.exists(path):
            return True
        time.sleep(0.05)
    return False


def test_nothing_is_clean(before):
    leaks.assert_clean(before)
    assert leaks.leaks(before) == []


def test_what_ends_in_time_is_no_leak(before):
    thread = threading.Timer(0.2, lambda: None)
    thread.start()
    leaks.assert_clean(before)
    thread.join()


def test_what_was_there_is_no_leak():
    with subprocess.Popen([sys.executable, "-c", SLEEPER]) as process, open("/dev/null"):
        leaks.assert_clean(leaks.snapshot(), 0.0)
        process.kill()


def test_a_child_process(before):
    with subprocess.Popen([sys.executable, "-c", SLEEPER]) as process:
        [text] = found(before)
        process.kill()
    assert re.fullmatch(rf"process {process.pid}, child of {os.getpid()}: .*{re.escape(SLEEPER)}", text)
    leaks.assert_clean(before)


def test_a_zombie(before):
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    texts = found(before)
    os.waitpid(pid, 0)
    assert [text.startswith(f"zombie {pid}, child of {os.getpid()}") for text in texts] == [True]
    leaks.assert_clean(before)


def orphan(environ, code=SLEEPER):
    """Start a process whose parent has ended; returns its pid."""
    script = f"""
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", {code!r}], stdin=-3, stdout=-3, stderr=-3).pid)
"""
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, check=True, timeout=20)
    return int(done.stdout)


def test_an_orphan(before):
    pid = orphan(os.environ)
    try:
        [text] = found(before)
    finally:
        os.kill(pid, 9)
    assert text.startswith(f"process {pid}, child of ")
    leaks.assert_clean(before)


def test_a_process_of_a_session(before):
    session = uuid.uuid4().hex
    pid = orphan({"RAY_SESSION": session})
    try:
        assert leaks.leaks(before) == [], "another program's, as far as can be told"
        [text] = found(before, sessions=[session])
        assert text.startswith(f"process {pid} of session {session}, child of ")
    finally:
        os.kill(pid, 9)
    leaks.assert_clean(before, sessions=[session])


def test_a_thread(before):
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait, name="forgotten", daemon=True)
    thread.start()
    assert found(before) == ["thread 'forgotten' (daemon)"]
    gate.set()
    thread.join()
    leaks.assert_clean(before)


def test_a_descriptor(before):
    read_fd, write_fd = os.pipe()
    assert [text.split(": ")[0] for text in found(before)] == [f"descriptor {read_fd}", f"descriptor {write_fd}"]
    os.close(read_fd)
    os.close(write_fd)
    leaks.assert_clean(before)


def test_a_descriptor_in_a_cycle_is_collected(before):
    class Node:
        pass

    node = Node()
    node.self, node.file = node, os.fdopen(os.open("/dev/null", os.O_RDONLY), closefd=False)
    fd = node.file.fileno()
    del node
    os.close(fd)
    leaks.assert_clean(before)


@pytest.fixture
def shared_memory(tmp_path, monkeypatch):
    """A directory in place of /dev/shm, so that what is left there leaks into no other test."""
    monkeypatch.setattr(leaks, "_SHM", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["ray-1-1", "abc"])
def test_shared_memory(shared_memory, name):
    """Ours is what is named as the stores name it, and whatever one of our processes holds."""
    before = leaks.snapshot()
    path = f"{shared_memory}/{name}"
    with open(path, "wb") as file:
        texts = found(before)
        assert f"shared memory {path}" in texts
    if name == "abc":
        leaks.assert_clean(before)
    else:
        assert found(before) == [f"shared memory {path}"]
    os.unlink(path)
    assert file.closed
    leaks.assert_clean(before)


HOLD = {"open": "", "mapped": "memory = mmap.mmap(file.fileno(), 1); file.close(); "}
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="psutil tells of mapped files on Linux only")


def holder(path, how):
    return f"import mmap; file = open({path!r}, 'wb+', buffering=0); file.write(b'x'); {HOLD[how]}{SLEEPER}"


def until_written(path):
    eventually(lambda: os.path.exists(path) and os.path.getsize(path), 30)


@only_linux
@pytest.mark.parametrize("how", HOLD)
def test_shared_memory_of_a_child(shared_memory, how):
    before = leaks.snapshot()
    path = f"{shared_memory}/abc"
    with subprocess.Popen([sys.executable, "-c", holder(path, how)]) as process:
        until_written(path)
        process_text, text = found(before)
        process.kill()
    assert (process_text.split(",")[0], text) == (f"process {process.pid}", f"shared memory {path}")


@only_linux
@pytest.mark.parametrize("how", HOLD)
@pytest.mark.parametrize("name", ["abc", "sem.loky-1-abc", "psm_12345678", "ray-1-1"])
def test_shared_memory_of_others(shared_memory, how, name):
    """What other programs make is not ours: neither while they hold it nor when they leave it behind."""
    before = leaks.snapshot()
    path = f"{shared_memory}/{name}"
    pid = orphan({}, holder(path, how))
    try:
        until_written(path)
        assert leaks.leaks(before) == []
    finally:
        os.kill(pid, 9)
    if not name.startswith("ray-"):
        leaks.assert_clean(before)


def test_shared_memory_that_nobody_holds_is_not_ours(shared_memory):
    before = leaks.snapshot()
    for name in ("abc", "sem.mp-abc", "psm_12345678", "pulse-shm-1", "rayon", "folder"):
        if name == "folder":
            (shared_memory / name).mkdir()
        else:
            (shared_memory / name).write_bytes(b"x")
        leaks.assert_clean(before, 0.0)


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    root = tmp_path / f"ray-{os.geteuid()}"
    root.mkdir()
    return root


def test_a_session_directory(root):
    (root / "old").mkdir()
    before = leaks.snapshot()
    path = root / "abc"
    path.mkdir()
    assert found(before) == [f"session directory {path}"]
    path.rmdir()
    leaks.assert_clean(before)


def test_a_session_directory_of_another_driver(root):
    before = leaks.snapshot()
    (root / "theirs").mkdir()
    (root / "theirs" / "owner.pid").write_text("1 123")
    leaks.assert_clean(before)
    (root / "ours").mkdir()
    (root / "ours" / "owner.pid").write_text(f"{os.getpid()} 123")
    assert found(before) == [f"session directory {root / 'ours'}"]


def test_a_session_directory_of_another_container(root):
    """Its pids mean something else there."""
    before = leaks.snapshot()
    (root / "theirs").mkdir()
    (root / "theirs" / "owner.pid").write_text("999999999 123")
    (root / "theirs" / "pids.txt").write_text("pid:[1]")
    leaks.assert_clean(before)


class Runtime:
    def __init__(self, free):
        self.free = iter(free)

    def cluster_resources(self):
        return {"CPU": 2.0, "memory": 100.0}

    def available_resources(self):
        return next(self.free)


def test_settled():
    leaks.assert_settled(Runtime([{"CPU": 1.0, "memory": 100.0}, {"CPU": 2.0, "memory": 100.0}]))
    with pytest.raises(leaks.LeakError, match=r"CPU: 1\.5 of 2 free"):
        leaks.assert_settled(Runtime([{"CPU": 1.5, "memory": 100.0}] * 100), 0.05)


def test_the_error_travels():
    error = pickle.loads(pickle.dumps(leaks.LeakError(["one", "two"], 2.0)))
    assert (str(error), error.leaks) == ("left behind after 2 s:\n  one\n  two", ["one", "two"])
