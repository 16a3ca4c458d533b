"""A ``get`` that times out for want of descriptors says so, wherever they are lacking, and only as long as they are."""

from __future__ import annotations

import pytest
from tests.faults.test_descriptors import run
from tests.quick import first_of

BEGIN = """
import os, resource, sys, time
limit, transport = int(sys.argv[1]), sys.argv[2]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
import ray

@ray.remote(num_cpus=0)
class Member:
    def pid(self):
        return os.getpid()

    def fill(self):
        '''This process uses its own descriptors up, and asks for others of its kind.'''
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        members = [Member.remote() for _ in range(3)]
        calls = [member.pid.remote() for member in members]
        text = failure(calls)
        for fd in held:
            os.close(fd)
        assert len(set(ray.get(calls, timeout=40))) == 3
        return text

def failure(refs):
    '''The text of a get that times out, once it names a reason.'''
    for _ in range(20):
        try:
            ray.get(refs, timeout=1)
        except ray.exceptions.GetTimeoutError as error:
            text = str(error)
            if error.reason:
                return text
    return text

ray.init(num_cpus=2, transport=transport)
"""

NODE = """
crowd = [Member.remote() for _ in range(40)]
calls = [member.pid.remote() for member in crowd]
print(failure(calls))
crowd.clear()
ray.shutdown()
"""

WORKER = """
first = Member.remote()
print(ray.get(first.fill.remote(), timeout=55))
ray.shutdown()
"""

OWN = """
first = Member.remote()
ray.get(first.pid.remote(), timeout=30)
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
calls = [member.pid.remote() for member in [Member.remote() for _ in range(3)]]
print(failure(calls))
for fd in held:
    os.close(fd)
assert len(set(ray.get(calls, timeout=40))) == 3
time.sleep(1.5)

@ray.remote
def slow():
    time.sleep(3)

try:
    ray.get(slow.remote(), timeout=0.1)
except ray.exceptions.GetTimeoutError as error:
    assert "open" not in str(error), error
ray.shutdown()
"""


@pytest.mark.parametrize("transport", first_of(["unix", "zmq"]))
@pytest.mark.parametrize(("program", "limit"), [(NODE, 72), (WORKER, 128), (OWN, 128)], ids=["node", "worker", "own"])
def test_a_get_that_times_out_names_the_descriptors(program, limit, transport):
    done = run(BEGIN + program, limit, transport)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Get timed out after 1 s" in done.stdout
    assert f"lets a process have {limit} files open; raise the limit (ulimit -n)" in done.stdout
