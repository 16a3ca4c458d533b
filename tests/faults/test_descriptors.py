"""Few descriptors: a process that lacks one waits or fails, and is told of the limit. No other process notices."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile

import pytest
from tests.quick import later

#: ``python -c CROWD limit transport store actors``: prints what came of them.
CROWD = """
import json, os, resource, sys
limit, transport, store, count = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), int(limit)))
import ray

@ray.remote
class Member:
    def pid(self):
        return os.getpid()

@ray.remote
def double(x):
    return 2 * x

ray.init(num_cpus=2, transport=transport, store=store)
first = Member.remote()
pid = ray.get(first.pid.remote(), timeout=30)
crowd = [Member.remote() for _ in range(int(count))]
calls = [member.pid.remote() for member in crowd]
said = []
while not said:
    done, _ = ray.wait(calls, num_returns=len(calls), timeout=200)
    said = [each["message"] for each in ray.error_info() if each["type"] == "no_room_for_workers"]
done, waiting = ray.wait(calls, num_returns=len(calls), timeout=500)
pids = ray.get(done, timeout=30)
again = ray.get([crowd[calls.index(ref)].pid.remote() for ref in done], timeout=30)
others = [each for each in ray.error_info() if each["type"] != "no_room_for_workers"]
late = double.remote(4)  # there is no worker for it, as actors have them all
for member in [first, *(crowd[calls.index(ref)] for ref in done[:3])]:
    ray.kill(member)
more, _ = ray.wait(waiting, num_returns=min(3, len(done)), timeout=30_000)
ray.get(more)
for member in crowd:
    ray.kill(member)
print(json.dumps({"live": len(pids), "unchanged": again == pids, "more": len(more), "said": said[0],
    "others": others, "late": ray.get(late, timeout=30)}))
ray.shutdown()
"""


def run(program: str, *args: object, limit: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    def few() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-c", program, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        preexec_fn=few,
        env={**os.environ, **env},
    )


def check_crowd(limit: int, transport: str, store: str) -> None:
    done = run(CROWD, limit, transport, store, 120 if limit > 128 else 60)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert 1 <= found["live"] < 120
    assert found["unchanged"], "an actor that lived was lost"
    assert found["more"] >= min(3, found["live"]), "those that wait have their turn when others end"
    assert found["late"] == 8
    assert f"{limit} files open" in found["said"]
    assert "ulimit -n" in found["said"]
    assert found["others"] == [], "a process has died"
    assert done.stderr.count("No more workers can be started") == 1


@pytest.mark.parametrize(
    ("limit", "transport", "store"), [(64, "unix", "heap"), later(128, "zmq", "plasma"), later(64, "zmq", "shm")]
)
def test_actors_that_find_no_descriptor_wait(limit, transport, store):
    check_crowd(limit, transport, store)


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("store", ["heap", "shm", "plasma"])
@pytest.mark.parametrize("transport", ["unix", "zmq"])
@pytest.mark.parametrize("limit", [64, 128, 256])
def test_actors_that_find_no_descriptor_wait_everywhere(limit, transport, store):
    check_crowd(limit, transport, store)


#: ``python -c CROWDED limit transport count``: others hold so many idle connections to each socket of a session.
CROWDED = """
import os, resource, socket, subprocess, sys
limit, transport, count = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), int(limit)))
import ray
context = ray.init(num_cpus=1, transport=transport)

@ray.remote
class Member:
    def pid(self):
        return os.getpid()

one = Member.remote()
pid = ray.get(one.pid.remote(), timeout=30)
print(context.address_info["session_dir"], flush=True)
assert input() == "all have connected"
for _ in range(20):
    assert ray.get(one.pid.remote(), timeout=30) == pid
other = Member.remote()
assert ray.get(other.pid.remote(), timeout=60) != pid
assert ray.nodes()[0]["Alive"]
ray.shutdown()
print("fine", flush=True)
"""


@pytest.mark.parametrize(("limit", "transport"), [(64, "unix"), (256, "unix"), (256, "zmq")])
def test_idle_connections_use_nothing_up(limit, transport):
    """Of all processes that can reach the sockets, while those of the session have few descriptors."""
    program = subprocess.Popen(
        [sys.executable, "-c", CROWDED, str(limit), transport, "300"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    with program, contextlib.ExitStack() as stack:
        folder = program.stdout.readline().strip()
        for name in sorted(os.listdir(folder)):
            if not name.endswith(".sock") or name.startswith("plasma"):
                continue
            for _ in range(300):
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.settimeout(10)
                sock.connect(os.path.join(folder, name))
        out, err = program.communicate("all have connected\n", timeout=50)
        assert out == "fine\n", err[-3000:]


#: The program itself has nothing left when it calls actors that live already; then it closes some.
FULL = """
import os, resource, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
import ray
ray.init(num_cpus=2, transport=sys.argv[1])

@ray.remote
class Member:
    def pid(self):
        return os.getpid()

@ray.remote
def double(x):
    return 2 * x

assert ray.get(double.remote(1), timeout=30) == 2
assert ray.error_info() == []
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
members = [Member.remote() for _ in range(4)]
calls = [member.pid.remote() for member in members]
while not any(each["type"] == "out_of_descriptors" for each in ray.error_info()):
    ray.wait(calls, num_returns=4, timeout=100)
(told,) = [each["message"] for each in ray.error_info() if each["type"] == "out_of_descriptors"]
assert "256 files open" in told and "ulimit -n" in told, told
for fd in held:
    os.close(fd)
assert len(set(ray.get(calls, timeout=30))) == 4
assert ray.get([double.remote(n) for n in range(100)], timeout=30) == [2 * n for n in range(100)]
ray.shutdown()
print("fine")
"""


@pytest.mark.parametrize("transport", ["unix", "zmq", "routed"])
def test_a_program_that_has_used_its_descriptors_up(transport):
    """It is told so, and its calls go on when it has closed some."""
    done = run(FULL, transport)
    assert done.stdout == "fine\n", done.stderr[-3000:]
    assert done.stderr.count("no connection to another process") == 1


#: A program whose soft limit is low, as that of most systems is.
SOFT = """
import os, resource, sys
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (44, hard))
import ray
ray.init(num_cpus=1)

@ray.remote(num_cpus=0)
class Member:
    def limits(self):
        return resource.getrlimit(resource.RLIMIT_NOFILE)

one = Member.remote()
assert ray.get(one.limits.remote(), timeout=30) == (hard, hard)
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (44, hard), "raised before it was needed"
crowd = [Member.remote() for _ in range(32)]
ray.get([member.limits.remote() for member in crowd], timeout=60)
ray.shutdown()
print("fine")
"""


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 512, reason="the hard limit is too low")
def test_a_soft_limit_limits_nobody(tmp_path):
    """It is raised in the processes of the session, and in the program's own when that needs it."""
    done = run(SOFT)
    assert done.stdout == "fine\n", done.stderr[-3000:]


INIT = """
import ray, sys
try:
    ray.init(num_cpus=1, transport=sys.argv[1], store=sys.argv[2])
except ray.exceptions.RayError as error:
    print(error)
else:
    ray.shutdown()
    print("started")
"""


@pytest.mark.parametrize(
    ("limit", "transport", "store"), [(30, "unix", "plasma"), (16, "unix", "heap"), (24, "zmq", "shm")]
)
def test_a_session_that_cannot_start_says_so_in_a_line(limit, transport, store):
    with tempfile.TemporaryDirectory(prefix="few") as folder:  # a short name, as those of sockets must be
        done = run(INIT, transport, store, limit=limit, XDG_RUNTIME_DIR=folder)
        left = [name for top in os.scandir(folder) for name in os.listdir(top)]
    line = done.stdout.strip()
    assert "\n" not in line, line
    assert f"{limit} files open" in line, line + done.stderr[-2000:]
    assert "ulimit -n" in line
    assert "Traceback" not in done.stderr
    assert left == []
