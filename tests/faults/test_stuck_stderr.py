"""A program whose stderr takes nothing any more: what the session has to say holds up no wait for objects."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

_PROGRAM = """
import os, signal, sys, threading, time
import psutil
import ray

ray.init(num_cpus=2, log_to_driver=False)

@ray.remote
def sleep():
    time.sleep(60)

@ray.remote
class Sleeper:
    def sleep(self):
        time.sleep(60)

def fill(fd):
    os.set_blocking(fd, False)
    try:
        while True:
            os.write(fd, b"x")
    except BlockingIOError:
        os.set_blocking(fd, True)

def wait(name, function):
    try:
        function()
    except Exception as error:
        os.write(1, f"{name} {type(error).__name__}\\n".encode())

actor = Sleeper.remote()
refs = [sleep.remote(), actor.sleep.remote()]
node, = [child for child in psutil.Process().children() if "ray.runtime.mains.node" in " ".join(child.cmdline())]
threads = [
    threading.Thread(target=wait, args=("task", lambda: ray.get(refs[0])), daemon=True),
    threading.Thread(target=wait, args=("call", lambda: ray.get(refs[1], timeout=50)), daemon=True),
    threading.Thread(target=wait, args=("both", lambda: ray.get(refs)), daemon=True),
]
for thread in threads:
    thread.start()
fill(2)
node.send_signal(getattr(signal, sys.argv[1]))
for thread in threads:
    thread.join()
wait("later", sleep.remote)
os.write(1, b"end\\n")
sys.stdin.read()
"""


@pytest.mark.parametrize("sign", ["SIGKILL", "SIGTERM"])
def test_those_who_wait_are_told_that_the_node_is_gone(sign):
    ours, theirs = os.pipe()
    try:
        program = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, sign],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        )
        os.close(theirs)
        late = threading.Timer(30, program.kill)
        late.start()
        try:
            said = []
            for line in program.stdout:
                said.append(line.strip())
                if said[-1] == "end":
                    break
            assert sorted(said) == [
                "both NodeDiedError",
                "call NodeDiedError",
                "end",
                "later NodeDiedError",
                "task NodeDiedError",
            ]
            program.stdin.close()
            printed = b""
            while data := os.read(ours, 65536):  # also what was to be said when there was no room
                printed += data
            assert b"x[ray] the node manager" in printed
            assert program.wait(30) == 0
        finally:
            late.cancel()
            program.kill()
            program.wait()
            program.stdout.close()
    finally:
        os.close(ours)
