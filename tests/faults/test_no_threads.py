"""Sessions that the system gives no more processes and threads, in a control group of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

_PIDS = Path("/sys/fs/cgroup/pids")


@pytest.fixture
def group():
    """A control group with a limit of processes and threads, for one program."""
    path = _PIDS / f"ray-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"needs a control group of processes: {error}")
    yield path
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            path.rmdir()
            return
        time.sleep(0.05)
    pytest.fail(f"processes are left: {(path / 'cgroup.procs').read_text().split()}")


_HEAD = """
import os, sys, time
from pathlib import Path
import ray

group = Path(sys.argv[1])
(group / "cgroup.procs").write_text(str(os.getpid()))

def allow(more):
    here = int((group / "pids.current").read_text())
    (group / "pids.max").write_text("max" if more is None else str(here + more))
"""


def run(group, program):
    done = subprocess.run(
        [sys.executable, "-c", _HEAD + textwrap.dedent(program), str(group)],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "internal error" not in done.stderr, done.stderr
    return done.stdout, done.stderr


def test_a_session_without_a_thread_for_its_reader_says_so(group):
    out, _ = run(
        group,
        """
        import threading
        start = threading.Thread.start

        def limited(self):  # the driver's first thread, when all processes are there
            allow(0)
            try:
                start(self)
            finally:
                allow(None)

        threading.Thread.start = limited
        try:
            ray.init(num_cpus=1)
        except ray.exceptions.RaySystemError as error:
            assert "thread" in str(error), error
        threading.Thread.start = start
        assert not ray.is_initialized()
        with ray.init(num_cpus=1):
            print(ray.get(ray.put("fine")))
        """,
    )
    assert out == "fine\n"


@pytest.mark.slow
def test_what_cannot_be_started_waits_and_says_why(group):
    out, err = run(
        group,
        """
        ray.init(num_cpus=4)

        @ray.remote
        def pid():
            time.sleep(0.05)
            return os.getpid()

        @ray.remote(num_cpus=0)
        class Actor:
            def pid(self):
                return os.getpid()

        ray.get([pid.remote() for _ in range(8)])
        allow(0)
        actors = [Actor.remote() for _ in range(6)]
        pids = [actor.pid.remote() for actor in actors]
        try:
            ray.get(pids, timeout=3)
        except ray.exceptions.GetTimeoutError as error:
            print("cause" if "process" in str(error) and "start" in str(error) else str(error))
        allow(None)
        assert len(set(ray.get(pids, timeout=40))) == 6
        ray.shutdown()
        print("fine")
        """,
    )
    assert out == "cause\nfine\n"
    assert err.count("failed to start") == 1, err


def test_calls_go_on_without_further_threads(group):
    out, _ = run(
        group,
        """
        import signal
        ray.init(num_cpus=1, log_to_driver=True)

        @ray.remote
        def twice(number):
            print("printed", number)
            return 2 * number

        assert ray.get(twice.remote(1)) == 2
        allow(0)
        assert ray.get([twice.remote(number) for number in range(20)]) == [2 * number for number in range(20)]
        large = ray.put(bytes(50_000_000))
        assert len(ray.get(large)) == 50_000_000
        try:
            twice.remote(1).future()
        except RuntimeError as error:
            assert "thread" in str(error)
        long = ray.remote(lambda: time.sleep(60)).remote()
        ray.wait([long], timeout=500)
        ray.cancel(long)
        try:
            ray.get(long, timeout=20)
        except ray.exceptions.TaskCancelledError:
            print("cancelled")
        allow(None)
        assert twice.remote(4).future().result(20) == 8
        ray.shutdown()
        print("fine")
        """,
    )
    assert "cancelled\n" in out
    assert out.endswith("fine\n")
