"""Ctrl-C at random moments of a program: the call ends at once, the session goes on, workers notice nothing.

The program is a process group of its own, and the signal goes to the whole group, as a terminal sends it.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.quick import first_of
from tests.stopwatch import Stopwatch

ROOT = Path(__file__).parents[2]
#: The promise is 100 ms for the middle of all interrupts; one may have to wait for a copy, or for the machine.
TYPICAL_S = 0.1
LONGEST_S = 2.0
#: ``init`` and ``shutdown`` may have to take down what was started.
LONGEST_LIFE_S = 4.0
OPERATIONS = ["get", "get_list", "wait", "put", "submit", "call", "create", "mixed"]

PROGRAM = r"""
import os, sys, time
import ray

@ray.remote
def echo(x):
    return x

@ray.remote
def sleep(seconds):
    try:
        time.sleep(seconds)
    except BaseException as error:
        open(sys_path + "/disturbed", "a").write(repr(error))
        raise
    return seconds

@ray.remote
class Counter:
    def __init__(self):
        self.count = 0
    def next(self):
        self.count += 1
        return self.count

sys_path = sys.argv[1]
big = {"array": [bytes(300_000) for _ in range(10)], "ints": list(range(10_000))}

def init():
    ray.init(num_cpus=2, log_to_driver=False)

def life():
    ray.shutdown()
    while True:
        init()
        ray.get(echo.remote(1))
        ray.shutdown()

def loop(body):
    def run():
        while True:
            body()
    return run

def mixed():
    refs = [echo.remote(ray.put(i)) for i in range(20)]
    ray.wait(refs, num_returns=10)
    ray.get(refs)
    ray.get(counter.next.remote())

OPERATIONS = {
    "get": loop(lambda: ray.get(undisturbed)),
    "get_list": loop(lambda: ray.get([undisturbed, echo.remote(1)])),
    "wait": loop(lambda: ray.wait([undisturbed])),
    "put": loop(lambda: ray.put(big)),
    "submit": loop(lambda: [echo.remote(big["ints"]) for _ in range(100)]),
    "call": loop(lambda: [counter.next.remote() for _ in range(100)]),
    "create": loop(lambda: Counter.remote()),
    "mixed": loop(mixed),
    "life": life,
}

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())

init()
counter = Counter.remote()
keeper = ray.put("kept")
undisturbed = sleep.options(num_cpus=0).remote(3600)
ray.get(counter.next.remote())
say("ready")
for line in sys.stdin:
    operation = line.strip()
    if operation == "end":
        break
    for _ in range(2):
        try:
            say("begin")
            OPERATIONS[operation]()
        except KeyboardInterrupt:
            caught = time.monotonic()
            break
    try:
        if operation == "life":
            ray.shutdown()
            init()
            counter = Counter.remote()
            keeper = ray.put("kept")
            undisturbed = sleep.options(num_cpus=0).remote(3600)
        value = ray.get([echo.remote(operation), keeper, ray.put(2), echo.remote(ray.put(3))], timeout=30)
        assert value == [operation, "kept", 2, 3], value
        counted = ray.get(counter.next.remote(), timeout=30)
        assert ray.wait([undisturbed], timeout=0) == ([], [undisturbed])
        say("usable", caught)
    except BaseException as error:
        say("broken", repr(error))
        raise
ray.shutdown()
say("ended")
"""


class Program:
    """The program, driven from outside."""

    def __init__(self, tmp_path, program=PROGRAM):
        (tmp_path / "program.py").write_text(program)
        errors = (tmp_path / "stderr").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(tmp_path / "program.py"), str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            cwd=ROOT,
        )
        errors.close()
        self._errors = tmp_path / "stderr"
        self._rest = b""

    def line(self, timeout_s=40.0):
        end = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise AssertionError(f"the program says nothing for {timeout_s} s\n{self.stacks()}")
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, f"the program has ended: {self.errors()}"
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return line.decode()

    def stacks(self):
        self.process.send_signal(signal.SIGABRT)
        self.process.wait(10)
        return self.errors()

    def errors(self):
        return self._errors.read_text()

    def tell(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def interrupt(self):
        os.killpg(self.process.pid, signal.SIGINT)
        return time.monotonic()

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def program(tmp_path):
    started = Program(tmp_path)
    yield started
    started.end()


def interrupt_at_random(program, operation, chance, longest_s):
    """One round; returns how long the program took to notice."""
    program.tell(operation)
    assert program.line() == "begin"
    time.sleep(chance.random() * longest_s)
    sent = program.interrupt()
    word, _, caught = program.line().partition(" ")
    assert word == "usable", f"{operation}: {caught}\n{program.errors()}"
    return float(caught) - sent


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_random_moments(start, program, rounds, tmp_path):
    assert program.line() == "ready"
    chance = random.Random(1)
    took = {}
    for i in range(rounds(32, 160)):
        operation = OPERATIONS[i % len(OPERATIONS)]
        took.setdefault(operation, []).append(interrupt_at_random(program, operation, chance, 0.05))
    program.tell("end")
    assert program.line() == "ended"
    assert program.process.wait(20) == 0
    for operation, times in took.items():
        print(f"{operation}: {[round(t * 1000) for t in times]} ms")
    everything = sorted(t for times in took.values() for t in times)
    assert everything[len(everything) // 2] < TYPICAL_S
    assert everything[-1] < LONGEST_S
    assert "Traceback" not in program.errors()
    assert not (tmp_path / "disturbed").exists(), "a worker got the signal"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_random_moments_of_init_and_shutdown(start, program, rounds):
    assert program.line() == "ready"
    chance = random.Random(2)
    took = [interrupt_at_random(program, "life", chance, 0.5) for _ in range(rounds(6, 40))]
    print([round(t * 1000) for t in took], "ms")
    program.tell("end")
    assert program.line() == "ended"
    assert program.process.wait(20) == 0
    assert max(took) < LONGEST_LIFE_S
    assert "Traceback" not in program.errors()


UNCAUGHT = """
import sys, time
import ray
ray.init(num_cpus=1, log_to_driver=False)
@ray.remote
def sleep():
    time.sleep(3600)
print("ready", flush=True)
ray.get([sleep.remote(), ray.put(1)])
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("times", first_of([2, 1, 5]))
def test_uncaught(start, rounds, tmp_path, times):
    """It ends the program, the second one sooner if need be, and says so once."""
    chance = random.Random(3)
    for _ in range(rounds(2, 20)):
        program = Program(tmp_path, UNCAUGHT)
        try:
            assert program.line() == "ready"
            time.sleep(0.05 + chance.random() * 0.1)
            started = Stopwatch()
            program.interrupt()
            for _ in range(times - 1):
                time.sleep(chance.random() * 0.03)
                if program.process.poll() is None:
                    program.interrupt()
            program.process.wait(10)
            took = started.undisturbed_s()
            errors = program.errors()
        finally:
            program.end()
        print(f"{took * 1000:.0f} ms, {len(errors.splitlines())} lines")
        assert took < 2.0
        assert program.process.returncode != 0
        assert errors.count("KeyboardInterrupt") >= 1
        if times == 1:
            noise, _, traceback = errors.partition("Traceback (most recent call last):\n")
            _, found, rest = traceback.partition("\nKeyboardInterrupt\n")
            assert found, errors
            assert len(noise.splitlines()) + len(rest.splitlines()) <= 5, errors
            assert "Traceback" not in rest
            assert "internal error" not in errors


IN_IPYTHON = """
import os, sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance(colors="nocolor")
shell.run_cell('''
import asyncio  # as IPython would with the first cell that awaits; Python does not survive an interrupt of that
import time
import ray
ray.init(num_cpus=1, log_to_driver=False)
@ray.remote(num_cpus=0)
def echo(value):
    return value
@ray.remote
def sleep():
    time.sleep(3600)
sleeping = sleep.remote()
ready = ray.get(echo.remote(0))
''').raise_error()
os.write(1, b"ready\\n")
for cell in sys.stdin:
    os.write(1, b"begin\\n")
    ran = shell.run_cell(cell)
    os.write(1, f"outcome {type(ran.error_in_exec).__name__} {ran.result!r}\\n".encode())
shell.run_cell("ray.shutdown()").raise_error()
os.write(1, b"ended\\n")
"""


@pytest.mark.timeout(120)
def test_in_ipython(start, rounds, tmp_path):
    """Also cells that await, which run on a loop of IPython's own."""
    pytest.importorskip("IPython", exc_type=ImportError)
    chance = random.Random(4)
    program = Program(tmp_path, IN_IPYTHON)

    def run(cell):
        program.tell(cell)
        while program.line() != "begin":
            pass

    def outcome():
        lines = [program.line()]
        while not lines[-1].startswith("outcome "):
            lines.append(program.line())
        return lines[-1].removeprefix("outcome "), "\n".join(lines[:-1])

    try:
        assert program.line() == "ready"
        for number in range(rounds(3, 50)):
            for cell in ("ray.get(sleeping)", "ray.wait([sleeping])", "await sleeping"):
                run(cell)
                time.sleep(chance.random() * 0.1)
                program.interrupt()
                how, told = outcome()
                assert how == "KeyboardInterrupt None", program.errors()
                assert told.count("Traceback") <= 1
            for cell in (f"ray.get(echo.remote({number}))", f"await echo.remote({number})"):
                run(cell)
                assert outcome()[0] == f"NoneType {number}"
        program.process.stdin.close()
        while program.line() != "ended":
            pass
        assert program.process.wait(20) == 0
    finally:
        program.end()
    assert "Traceback" not in program.errors()
