"""Uninvited peers on the sockets of a session: bytes that are no messages, floods of connections, half messages."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import subprocess
import sys
import time

import psutil
import pytest
from tests import victims

import ray
from ray.testing.contracts._expect import eventually


@ray.remote
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count


def sockets(context: ray.RayContext) -> list[str]:
    """Paths of everything that listens."""
    folder = context.address_info["session_dir"]
    found = sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".sock"))
    names = [os.path.basename(path) for path in found]
    assert {"driver.sock", "node.sock"} < set(names)
    assert any(name.startswith("w-") for name in names)
    return found


def send(path: str, data: bytes) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1)
        sock.connect(path)
        sock.sendall(data)


def garbage(rng: random.Random) -> bytes:
    """Bytes that are no messages, some of them nearly."""
    return rng.choice(
        (
            lambda: bytes.fromhex("0100020078"),  # ZeroMQ 2
            lambda: b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(rng.randrange(60)) + rng.randbytes(20),
            lambda: rng.randbytes(rng.choice((1, 4, 12, 100, 5000, 70_000))),
            lambda: struct.pack("<IQ", 1, rng.choice((0, 1, 5, 1 << 20, 1 << 34, 1 << 63))) + rng.randbytes(30),
            lambda: struct.pack("<IQQ", 2, 8, rng.choice((1, 100_000, 1 << 34))) + rng.randbytes(100_000),
            lambda: struct.pack("<I", rng.randrange(1 << 32)) * 400,
            lambda: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        )
    )()


@pytest.mark.parametrize("transport", ["unix", "zmq", "routed"])
def test_garbage_ends_nothing(start, transport):
    context = start(num_cpus=1, transport=transport)
    counter = Counter.remote()
    assert ray.get(counter.add.remote(), timeout=20) == 1
    before = victims.family()
    rng = random.Random(7)
    for path in sockets(context):
        for _ in range(40):
            send(path, garbage(rng))
    assert ray.get([counter.add.remote() for _ in range(10)], timeout=20) == list(range(2, 12))
    assert ray.get(ray.remote(lambda: 5).remote(), timeout=20) == 5
    assert set(before) <= set(victims.family()), "a process has ended"
    ray.shutdown()
    assert not os.path.exists(context.address_info["session_dir"])


#: ``python -c FLOOD path…``: connects and leaves, and begins messages that never end, until it is killed.
FLOOD = """
import itertools, resource, socket, struct, sys
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
half = struct.pack("<IQ", 1, 200 << 20) + bytes(200_000)
stream = half + bytes(20 << 20)
held = []
for path in sys.argv[1:] * 10:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    held.append(sock)
    try:
        sock.connect(path)
        sock.sendall(stream)
    except OSError:
        pass
print("begun", flush=True)
for path in itertools.cycle(sys.argv[1:]):
    try:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        held.append(sock)
        sock.connect(path)
        sock.send(half)
    except OSError:
        pass
    if len(held) > min(6000, hard // 2):
        for sock in held[:1000]:
            sock.close()
        del held[:1000]
"""


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["unix", "zmq"])
def test_a_flood_of_connections_keeps_nobody_out(start, transport):
    """Calls go on, new workers join, and nothing is filled."""
    context = start(num_cpus=1, transport=transport)
    counter = Counter.remote()
    assert ray.get(counter.add.remote(), timeout=20) == 1
    family = [psutil.Process(pid) for pid in [os.getpid(), *victims.family()]]
    before = [process.memory_info().rss for process in family]
    with subprocess.Popen([sys.executable, "-c", FLOOD, *sockets(context)], stdout=subprocess.PIPE) as flood:
        try:
            assert flood.stdout is not None
            assert flood.stdout.readline() == b"begun\n"
            end = time.monotonic() + 2.0
            while time.monotonic() < end:
                ray.get(counter.add.remote(), timeout=20)
            other = Counter.remote()
            assert ray.get(other.add.remote(), timeout=40) == 1
            grown = [process.memory_info().rss - was for process, was in zip(family, before, strict=True)]
        finally:
            flood.kill()
    assert max(grown) < 100 << 20
    eventually(lambda: ray.get(counter.add.remote(), timeout=20), "calls go on")
    assert {process.pid for process in family[1:]} <= set(victims.family()), "a process has ended"
