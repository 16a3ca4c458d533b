"""Tasks that print faster than the output is read wait, as with any pipe: nothing is lost, and nothing else waits."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from tests.victims import ROOT

BEGIN = """
import json, os, sys, threading, time
import psutil
import ray

told = int(sys.argv[1])

def tell(**what):
    os.write(told, json.dumps(what).encode() + b"\\n")

@ray.remote
def flood(count, text="", to="stdout"):
    stream = getattr(sys, to).buffer
    line = b"%08d " + text.encode() + b".\\n"
    for begin in range(0, count, 1000):
        stream.write(b"".join([line % number for number in range(begin, min(begin + 1000, count))]))
        stream.flush()
    return count

@ray.remote
def add(x):
    return x + 1

def node():
    return psutil.Process(ray.nodes()[0]["Pid"])

class Watch:
    '''Whether others wait, and what memory is taken.'''

    def __enter__(self):
        self.processes = [psutil.Process(), node()]
        self.before = [process.memory_info().rss for process in self.processes]
        self.slowest = 0.0
        self.grown = 0
        self.ends = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def run(self):
        number = 0
        while not self.ends:
            number += 1
            began = time.monotonic()
            assert ray.get(add.remote(number), timeout=50) == number + 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            memory = [process.memory_info().rss for process in self.processes]
            self.grown = max([self.grown, *(now - was for now, was in zip(memory, self.before))])
            time.sleep(0.01)

    def __exit__(self, *error):
        self.ends = True
        self.thread.join()
"""


class Program:
    """One whose stdout and stderr are read by the test alone, when it likes."""

    def __init__(self, code: str, *args: object, **env: str) -> None:
        read, write = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(BEGIN) + textwrap.dedent(code), str(write), *map(str, args)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            pass_fds=[write],
            env={**os.environ, **env},
        )
        os.close(write)
        #: Without a buffer: ``select`` would not see the lines in that.
        self._told = os.fdopen(read, "rb", buffering=0)

    def told(self) -> dict[str, Any]:
        """What the program tells next, past its output."""
        line = self._told.readline()
        assert line, "it has ended"
        return dict(json.loads(line))

    def read(self, nbytes: int = 1 << 30) -> bytes:
        """Of what it has printed, so much or all."""
        assert self.process.stdout is not None
        return self.process.stdout.read(nbytes)

    def read_slowly_until_told(self) -> bytes:
        """What it has printed meanwhile, of which little is read at a time."""
        assert self.process.stdout is not None
        taken = []
        while not select.select([self._told], [], [], 0.05)[0]:
            if select.select([self.process.stdout], [], [], 0)[0]:
                taken.append(os.read(self.process.stdout.fileno(), 4096))
        return b"".join(taken)

    def close(self) -> None:
        self.process.kill()
        self._told.close()
        self.process.communicate()


@pytest.fixture
def run() -> Iterator[type[Program]]:
    with contextlib.ExitStack() as stack:

        class Closed(Program):
            def __init__(self, code: str, *args: object, **env: str) -> None:
                super().__init__(code, *args, **env)
                stack.callback(self.close)

        yield Closed


def numbers(output: bytes) -> dict[bytes, list[int]]:
    """{pid: the numbers of the whole lines that it has printed, in order}"""
    found: dict[bytes, list[int]] = {}
    for pid, number in re.findall(rb"^\(flood pid=(\d+)\) (\d{8}) x*\.$", output, re.MULTILINE):
        found.setdefault(pid, []).append(int(number))
    return found


def check_whole(output: bytes, tasks: int, count: int) -> None:
    """Each of the tasks has printed so many lines, in order."""
    assert missing(output) == 0
    found = list(numbers(output).values())
    assert [len(each) for each in found] == [count] * tasks
    assert all(each == list(range(count)) for each in found), "out of order"


def missing(output: bytes) -> int:
    """How many lines are said to be missing."""
    return sum(int(count.replace(b",", b"")) for count in re.findall(rb"\[ray\] ([\d,]+) lines .* are missing", output))


FLOODS = """
    ray.init(num_cpus=3, transport=sys.argv[2])
    ray.get(add.remote(1))
    count, text = int(sys.argv[3]), "x" * int(sys.argv[4])
    with Watch() as watch:
        floods = [flood.remote(count, text), flood.remote(count, text, "stderr")]
        ready, _ = ray.wait(floods, timeout=1000)
        tell(ended=len(ready))
        ray.get(floods, timeout=100)
    tell(slowest=watch.slowest, grown=watch.grown)
    ray.shutdown()
"""


def check_flood(run: type[Program], transport: str, count: int, width: int) -> None:
    program = run(FLOODS, transport, count, width)
    output = [program.read_slowly_until_told()]
    assert program.told() == {"ended": 0}, "they do not wait for the reader"
    output.append(program.read())
    check_whole(b"".join(output), 2, count)
    watch = program.told()
    assert watch["slowest"] < 2.0
    assert watch["grown"] < 64 << 20
    assert program.process.wait(20) == 0


@pytest.mark.parametrize(("transport", "count", "width"), [("unix", 60_000, 100), ("zmq", 80_000, 0)])
def test_whoever_prints_waits_for_whoever_reads(run, transport, count, width):
    """All lines arrive, of both streams, while others run as ever and memory is limited."""
    check_flood(run, transport, count, width)


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("width", [0, 200])
@pytest.mark.parametrize("transport", ["unix", "zmq"])
def test_a_million_lines(run, transport, width):
    check_flood(run, transport, 1_000_000, width)


ENDS = """
    import atexit

    @ray.remote(num_cpus=0)
    class Speaker:
        def __init__(self):
            atexit.register(lambda: [print(f"last word {number}", "x" * 2000) for number in range(100)])

        def pid(self):
            return os.getpid()

        def flood(self):
            while True:
                print("x" * 1000)

    @ray.remote(num_cpus=0)
    def endless():
        while True:
            print("x" * 1000)

    def ends(what, ref, kind):
        began = time.monotonic()
        try:
            ray.get(ref, timeout=30)
        except kind:
            tell(**{what: time.monotonic() - began})

    ray.init(num_cpus=2, transport=sys.argv[2])
    one, two, three = [Speaker.remote() for _ in range(3)]
    pid, _, _ = ray.get([each.pid.remote() for each in (one, two, three)])
    flood = endless.remote()
    limited = endless.options(timeout_s=1.5).remote()
    calls = [two.flood.remote(), three.flood.remote()]
    ready, _ = ray.wait([flood, limited, *calls], timeout=1000)
    assert not ready
    ends("limited", limited, ray.exceptions.TaskTimeoutError)
    began = time.monotonic()
    del one
    while psutil.pid_exists(pid) and time.monotonic() < began + 20:
        time.sleep(0.01)
    tell(ended=time.monotonic() - began)
    ray.kill(two)
    ends("killed", calls[0], ray.exceptions.RayActorError)
    ray.cancel(flood)
    ends("cancelled", flood, ray.exceptions.TaskCancelledError)
    began = time.monotonic()
    ray.shutdown()
    tell(shut=time.monotonic() - began)
"""


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["unix", "zmq"])
def test_whoever_waits_can_be_ended(run, transport):
    """By a time limit, by their actors' and the session's end, by force and by a cancel; last words are taken."""
    program = run(ENDS, transport)
    output, took = [], {}
    for _ in range(4):
        output.append(program.read_slowly_until_told())
        took |= program.told()
    output.append(program.read())
    took |= program.told()
    assert list(took) == ["limited", "ended", "killed", "cancelled", "shut"]
    assert max(took.values()) < 10
    assert program.process.wait(20) == 0
    printed = b"".join(output)
    assert re.findall(rb"last word (\d+) x{2000}", printed) == [b"%d" % number for number in range(100)]
    assert b"took longer" not in printed


CANCELLED = """
    @ray.remote
    def endless(how, path):
        import logging
        write = {
            "print": print, "stderr": lambda text: print(text, file=sys.stderr), "logging": logging.warning,
            "no end": lambda text: print(text, end=""), "flush": lambda text: print(text, end="", flush=True),
        }[how]
        while True:
            write("a line")
            if path:
                open(path, "w").close()
                path = ""

    ray.init(num_cpus=2)
    for how in ("print", "stderr", "logging", "no end", "flush"):
        path = f"{sys.argv[2]}/{how}"
        ref = endless.remote(how, path)
        while not os.path.exists(path):
            ray.wait([ref], timeout=10)
        began = time.monotonic()
        ray.cancel(ref)
        try:
            ray.get(ref, timeout=50)
        except ray.exceptions.TaskCancelledError:
            tell(how=how, took=time.monotonic() - began)
    ray.shutdown()
"""


def test_whoever_prints_all_the_time_can_be_cancelled(run, tmp_path):
    program = run(CANCELLED, tmp_path)
    output = program.read()
    for how in ("print", "stderr", "logging", "no end", "flush"):
        told = program.told()
        assert told["how"] == how
        assert told["took"] < 5
    assert b"cannot be interrupted" not in output
    assert program.process.wait(20) == 0


#: Nobody reads for as long as it runs.
STUCK = """
    ray.init(num_cpus=3, transport=sys.argv[2])
    count = int(sys.argv[3])
    with Watch() as watch:
        assert ray.get([flood.remote(count, "x" * 100), flood.remote(count, "x" * 100, "stderr")]) == [count] * 2
    tell(slowest=watch.slowest, grown=watch.grown)
    ray.shutdown()
"""


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["unix", "zmq"])
def test_nobody_waits_for_ever_for_a_reader_that_reads_nothing(run, transport):
    """What is missing then is told."""
    program = run(STUCK, transport, 100_000)
    watch = program.told()
    assert watch["slowest"] < 2.0
    assert watch["grown"] < 64 << 20
    output = program.read()
    found = numbers(output)
    assert all(each == sorted(set(each)) for each in found.values())
    assert missing(output) > 0
    assert sum(map(len, found.values())) + missing(output) == 200_000
    assert program.process.wait(20) == 0


#: The program itself is stopped for a while, so that nothing of it takes anything.
STOPPED = """
    ray.init(num_cpus=2)
    ray.get(add.remote(1))
    tell(node=node().pid)
    assert ray.get(flood.remote(60_000, "x" * 100)) == 60_000
    ray.shutdown()
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_program_that_was_stopped_misses_nothing(run, unbuffered):
    program = run(STOPPED, PYTHONUNBUFFERED=unbuffered)
    node = psutil.Process(int(program.told()["node"]))
    before = node.memory_info().rss
    begun = [program.read(100_000)]
    program.process.send_signal(signal.SIGSTOP)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        assert node.memory_info().rss - before < 64 << 20
        time.sleep(0.01)
    program.process.send_signal(signal.SIGCONT)
    check_whole(b"".join([*begun, program.read()]), 1, 60_000)
    assert program.process.wait(20) == 0


UNSHOWN = """
    ray.init(num_cpus=1, log_to_driver=False)
    assert ray.get(flood.remote(60_000, "x" * 100), timeout=50) == 60_000
    tell(fine=1)
    ray.shutdown()
"""


def test_nobody_waits_where_nothing_is_shown(run):
    program = run(UNSHOWN)
    assert program.told() == {"fine": 1}
    assert program.read() == b""
