"""Bursts of idle connections to processes with few descriptors, over ZeroMQ: nobody ends, and others get in."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest
from tests.faults.test_descriptors import run
from tests.quick import later

#: ``python -c BURST count path…``: so many connections to each, as fast as can be; ends when its input does.
BURST = """
import socket, sys
held = []
for path in sys.argv[2:]:
    for _ in range(int(sys.argv[1])):
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        held.append(sock)
        try:
            sock.connect(path)
        except OSError:
            pass
print("done", flush=True)
sys.stdin.read()
"""

BEGIN = """
import ctypes, os, resource, socket, sys, time
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
import ray

@ray.remote
class Member:
    def pid(self):
        return os.getpid()

    def hold(self, seconds):
        ctypes.PyDLL(None).usleep(int(1e6 * seconds))  # no other thread runs Python code meanwhile
        return os.getpid()

    def knock(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        return 5

    def take(self, refs):
        return ray.get(refs[0])

@ray.remote
def nap(seconds):
    time.sleep(seconds)
    return 5

context = ray.init(num_cpus=2, transport="zmq")
one = Member.remote()
pid = ray.get(one.pid.remote(), timeout=30)
"""

#: The program tells where it is busy, is told that the burst is there, and goes on.
ATTENDED = """
print(context.address_info["session_dir"], flush=True)
input()
"""

BUSY = """
call = one.hold.remote(2.0)
time.sleep(0.2)
print(context.address_info["session_dir"], flush=True)
input()
assert ray.get(call, timeout=30) == pid
"""

AFTER = """
for _ in range(20):
    assert ray.get(one.pid.remote(), timeout=30) == pid
other = Member.remote()
assert ray.get(other.pid.remote(), timeout=60) != pid
assert ray.get(other.take.remote([nap.remote(0.1)]), timeout=60) == 5
assert ray.nodes()[0]["Alive"]
ray.shutdown()
print("fine", flush=True)
"""


@pytest.mark.parametrize(
    ("limit", "during"), [(128, ATTENDED), later(256, ATTENDED), later(128, BUSY)], ids=["128", "256", "busy"]
)
def test_bursts_end_nobody(limit, during):
    program = subprocess.Popen(
        [sys.executable, "-c", BEGIN + during + AFTER, str(limit)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None
    with program, contextlib.ExitStack() as stack:
        folder = program.stdout.readline().strip()
        paths = [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".sock")]
        paths = [path for path in paths if "plasma" not in path]
        assert len(paths) >= 3
        bursts = [
            subprocess.Popen(
                [sys.executable, "-c", BURST, "400", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for path in paths
        ]
        for burst in bursts:
            stack.callback(burst.communicate)
        for burst in bursts:
            assert burst.stdout is not None
            assert burst.stdout.readline() == "done\n"
        out, err = program.communicate("go on\n", timeout=55)
        assert out == "fine\n", err[-3000:]


#: Others open connections to a program that has nothing left; they get in when it has.
FULL = """
held = []
ref = nap.remote(1.5)
ray.wait([ref], timeout=500)  # it runs
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
path = context.address_info["session_dir"] + "/driver.sock"
calls = [one.take.remote([ref]), one.knock.remote(path), *[one.take.remote([nap.remote(0.1)]) for _ in range(3)]]
ray.wait(calls, num_returns=5, timeout=2000)
began = time.process_time()
time.sleep(1)
assert time.process_time() - began < 0.7, "it is busy with those that it cannot let in"
for fd in held:
    os.close(fd)
assert ray.get(calls, timeout=40) == [5] * 5
"""


@pytest.mark.parametrize("limit", [128, pytest.param(256, marks=pytest.mark.slow)])
def test_a_program_without_descriptors_lets_nobody_in_until_it_has_some(limit):
    done = run(BEGIN + FULL + AFTER, limit)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "fine\n"
