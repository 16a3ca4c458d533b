"""Programs whose output nobody reads, or that have no stdout: the library neither waits for ever nor complains."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading

import pytest

_SAYS = """
import os, sys, time
import ray

def mark(text):
    os.write(int(sys.argv[1]), f"{text}\\n".encode())

@ray.remote
def fail():
    print("of a worker")
    print("of a worker", file=sys.stderr)
    raise ValueError("nobody asks for this")

if sys.argv[2] == "local":
    ray.init(local_mode=True, configure_logging=True)  # where tasks print into the program's own streams
else:
    ray.init(num_cpus=1, configure_logging=True, store="heap")
mark("init")
if sys.argv[2] == "processes":
    ref = fail.remote()
    ray.wait([ref])
    time.sleep(0.5)  # until it has been said that the task has failed
ray.shutdown()
mark("shutdown")
"""


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


@contextlib.contextmanager
def full_pipe():
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, b"x")
    os.set_blocking(theirs, True)
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


@contextlib.contextmanager
def program(*arguments, **streams):
    """A program and the pipe on which it says how far it is."""
    ours, theirs = os.pipe()
    started = subprocess.Popen([sys.executable, "-c", _SAYS, str(theirs), *arguments], pass_fds=[theirs], **streams)
    os.close(theirs)
    late = threading.Timer(40, started.kill)
    late.start()
    try:
        with os.fdopen(ours) as marks:
            yield started, marks
    finally:
        late.cancel()
        started.kill()
        started.wait()


@pytest.mark.slow
@pytest.mark.parametrize("streams", [slow("err"), slow("out"), "out and err"])
def test_a_session_beside_a_full_pipe(streams):
    with full_pipe() as (_, pipe):
        which = {f"std{name}": pipe for name in ("out", "err") if name in streams}
        with program("processes", **{"stderr": subprocess.DEVNULL, **which}) as (started, marks):
            assert marks.read().split() == ["init", "shutdown"]
            assert started.wait(20) == 0


@pytest.mark.slow
def test_what_was_to_be_said_comes_when_somebody_reads():
    with full_pipe() as (reader, pipe), program("processes", stderr=pipe) as (started, marks):
        assert marks.readline() == "init\n"
        said = b""
        while b" started: " not in said:
            said += os.read(reader, 65536)
        assert b"configure_logging= of ray.init is ignored" in said
        assert marks.read().split() == ["shutdown"]
        assert started.wait(20) == 0


@pytest.mark.slow
def test_local_mode_beside_a_full_pipe():
    with full_pipe() as (_, pipe), program("local", stderr=pipe) as (started, marks):
        assert marks.read().split() == ["init", "shutdown"]
        assert started.wait(20) == 0


_PRINTS = """
import sys
import ray

ray.init(num_cpus=1, store="heap")

@ray.remote
def chat(number):
    for line in range(100):
        print("of a worker", line)
        print("of a worker", line, file=sys.stderr)
    return number

assert sum(ray.get([chat.remote(number) for number in range(5)], timeout=40)) == 10
ray.shutdown()
"""
#: What Python itself says of a stdout that takes nothing.
_OF_PYTHON = ("Exception ignored", "OSError: [Errno 28]", "BrokenPipeError: [Errno 32]")


@pytest.mark.parametrize(
    "streams",
    [
        *(">/dev/full 2>&1", "2>&1 | head -n 1", slow(">&- 2>&-")),
        *(slow(">/dev/full"), slow("2>/dev/full"), slow(">&-"), slow("2>&-"), slow("| head -n 1")),
    ],
)
def test_streams_that_fail_while_workers_print(streams, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(_PRINTS)
    script = f'("{sys.executable}" "{program}"; echo $? >"{tmp_path}/code") {streams}'
    if "|" not in streams:
        script = f'"{sys.executable}" "{program}" {streams}; echo $? >"{tmp_path}/code"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=50)
    assert (tmp_path / "code").read_text().strip() in ("0", "120")  # the latter is Python's, for its own stdout
    others = [
        line for line in done.stderr.splitlines() if not line.startswith(("[ray] session ", "(chat pid=", *_OF_PYTHON))
    ]
    assert not others
