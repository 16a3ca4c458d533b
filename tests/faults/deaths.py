"""Ways for a worker to end. Apart from the tests, so that new workers have little to import."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

import ray


@ray.remote(max_retries=0)
def run(function, *args):
    return function(*args)


@ray.remote
def answer():
    return 42


def die_noting_when(path):
    with open(path, "w") as file:
        file.write(repr(time.monotonic()))
    os.kill(os.getpid(), signal.SIGKILL)


def overflow(_):
    """Recursion through C code, which uses the C stack."""
    sys.setrecursionlimit(10**9)

    def deeper(number):
        return max(map(deeper, (number,)))

    return deeper(0)


def read_null(_):
    return ctypes.string_at(0)


def close_everything(_):
    os.closerange(3, 1000)
    time.sleep(30)


def become_another_program(_):
    os.execv("/bin/sleep", ["sleep", "30"])


def become_a_short_program(_):
    os.execv("/bin/sh", ["sh", "-c", "exit 9"])


def import_what_exits(folder):
    sys.path.insert(0, str(folder))
    import module_that_ends_the_process  # noqa: F401


def exit_at_once(code):
    os._exit(code)


def kill_itself(number):
    os.kill(os.getpid(), number)
    time.sleep(30)


def say_much_then_die(lines):
    for number in range(lines):
        print(f"line {number} of my last words", file=sys.stderr)
    sys.stderr.write("the very last, without an end of line")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def from_a_thread(_):
    thread = threading.Thread(target=ctypes.string_at, args=(0,), name="doomed")
    thread.start()
    thread.join(30)


def abort(_):
    os.abort()


@ray.remote
class Doomed:
    def end(self, way, argument):
        return way(argument)
