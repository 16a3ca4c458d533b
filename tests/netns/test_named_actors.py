"""The host of a named actor is cut off: briefly, which is nothing, or for long: another begins once it is over."""

from __future__ import annotations

import fcntl
import time

import pytest

from ray.testing import eventually

PROGRAM = """
    import fcntl

    ray.init({address!r})

    @ray.remote
    class Locked:
        def __init__(self, path):  # fails where another one lives: all hosts have the files of this machine
            self.lock = open(path, "w")
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.count = 0

        def add(self):
            self.count += 1
            return self.count

    options = dict(max_restarts=1, max_task_retries=-1, num_cpus=0, lifetime="detached", name="one")
    one = Locked.options(labels={{"kind": "host"}}, **options).remote({lock!r})
    assert ray.get(one.add.remote()) == 1
    print("ready", flush=True)
    for line in sys.stdin:
        found = ray.get_actor("one")
        print(ray.get(found.add.remote()), time.monotonic(), flush=True)
"""


def is_free(lock):
    """Whether no process has it."""
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_cuts(network, tmp_path):
    head, second, third = network.hosts
    head.done("start", "--head", "--host", head.address_of_host, "--num-cpus", "1")
    address = f"{head.address_of_host}:6379"
    lock = str(tmp_path / "lock")

    def join(host):
        host.take_key(head)
        host.done("start", "--address", address, "--num-cpus", "2", "--labels", "kind=host")

    join(second)
    with head.program(PROGRAM.format(address=address, lock=lock)) as program:

        def ask():
            program.stdin.write("\n")
            program.stdin.flush()

        assert program.stdout.readline() == "ready\n", program.stderr.read()
        join(third)
        second.net.cut()
        time.sleep(3)
        second.net.cut(False)
        ask()
        assert program.stdout.readline().split()[0] == "2"
        time.sleep(5)
        second.net.cut()
        began = time.monotonic()
        eventually(lambda: is_free(lock), 30, "it has ended by itself")
        ended = time.monotonic() - began
        assert 6 < ended < 9.5
        ask()
        count, when = program.stdout.readline().split()
        assert count == "1"
        assert float(when) - began > max(8.0, ended)
        program.stdin.close()
        assert program.wait(60) == 0
    second.net.cut(False)
