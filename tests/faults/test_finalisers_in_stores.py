"""Finalisers that the collector runs inside calls of the stores, and put and get objects themselves."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from tests.quick import first_of

STORES = ["heap", "shm", "plasma"]
TRANSPORTS = ["unix", "zmq"]


def run(program, *arguments):
    """Run a program of its own; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "transport"), [("heap", "unix"), ("shm", "unix"), ("plasma", "unix"), ("shm", "zmq")]
)
def test_finalisers_put_and_get_while_the_program_does(store, transport):
    program = """
    import gc, sys, threading, time
    import ray

    ray.init(num_cpus=1, store=sys.argv[1], transport=sys.argv[2], log_to_driver=False)

    @ray.remote
    def size(data):
        return len(data)

    finalised, is_over = 0, False

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            global finalised
            finalised += 1
            data = b"%06d" % finalised * 20_000
            try:
                assert ray.get(ray.put(data)) == data
                if finalised % 20 == 0:
                    assert ray.get(size.remote(data)) == len(data)
            except ray.exceptions.RayConnectionError:
                assert is_over

    def use():
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            Cycle()
            assert len(ray.get(ray.put(bytes(150_000)))) == 150_000
            assert ray.get(ray.put(b"small")) == b"small"

    gc.set_threshold(20)
    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    use()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    gc.set_threshold(700)
    is_over = True
    assert finalised > 20, finalised
    ray.shutdown()
    print("fine")
    """
    assert run(program, store, transport) == "fine\n"


@pytest.mark.parametrize("store", first_of(reversed(STORES)))
def test_signal_handlers_put_and_get_while_the_program_does(store):
    program = """
    import signal, sys, time
    import ray

    ray.init(num_cpus=1, store=sys.argv[1], log_to_driver=False)
    handled, inside = 0, False
    data = bytes(range(250)) * 800

    def handle(*_):
        global handled, inside
        if not inside:
            inside = True
            handled += 1
            assert ray.get(ray.put(data)) == data
            inside = False

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
    end = time.monotonic() + 1.0
    while time.monotonic() < end or handled < 20:
        assert len(ray.get(ray.put(bytes(150_000)))) == 150_000
        assert ray.get(ray.put(b"small")) == b"small"
    inside = True  # a last signal may be handled late
    signal.setitimer(signal.ITIMER_REAL, 0)
    ray.shutdown()
    print("fine")
    """
    assert run(program, store) == "fine\n"
