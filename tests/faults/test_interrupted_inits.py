"""``ray.init`` and ``ray.shutdown`` that are interrupted by code which calls them: no session is forgotten."""

import subprocess
import sys

import pytest
from tests.quick import first_of

HANDLER = """
import signal, threading, time
import ray

def handle(*_):
    if not ray.is_initialized():
        ray.init(num_cpus=1)

ray.init(num_cpus=1)  # the first time takes imports
ray.shutdown()
signal.signal(signal.SIGUSR1, handle)
threading.Timer({delay}, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)).start()
try:
    ray.init(num_cpus=1)
except RuntimeError as error:
    print("refused:", "in the middle of ray.init()" in str(error))
else:
    print("in time")
print(ray.is_initialized())
ray.shutdown()
"""

FINALISER = """
import gc
import ray
from ray.runtime.driver.embedded_node import EmbeddedNode

found = []

class Calls:
    def __init__(self):
        self.me = self
    def __del__(self):
        try:
            ray.{call}()
            found.append("done")
        except RuntimeError as error:
            found.append("in the middle of" in str(error))

whole = EmbeddedNode.{inside}
def interrupted(self, *given):
    Calls()
    gc.collect()
    return whole(self, *given)
EmbeddedNode.{inside} = interrupted
ray.init(num_cpus=1)
print(found, ray.is_initialized(), flush=True)
ray.shutdown()
print(found, ray.is_initialized())
"""


def run(program, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=55, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("delay", first_of([0.03, 0.005, 0.06, 0.1]))
def test_a_signal_handler_that_makes_sure_of_a_session(tmp_path, delay):
    """Where it comes in the middle of ``init`` that fails and leaves nothing; there is one session, or none."""
    said = run(HANDLER.format(delay=delay), tmp_path)
    assert said in (["refused: True", "False"], ["in time", "True"])


def test_a_destructor_that_starts_a_session_in_the_middle_of_init(tmp_path):
    said = run(FINALISER.format(call="init", inside="await_facts"), tmp_path)
    assert said == ["[True] True", "[True] False"]


@pytest.mark.parametrize(("call", "told"), [("init", "[True]"), ("shutdown", "['done']")])
def test_a_destructor_in_the_middle_of_shutdown(tmp_path, call, told):
    said = run(FINALISER.format(call=call, inside="end"), tmp_path)
    assert said == ["[] True", f"{told} False"]


FORK = """
import os, signal, threading, time
import ray
ray.init(num_cpus=1)  # the first time takes imports
ray.shutdown()
other = threading.Thread(target=lambda: ray.init(num_cpus=1))
other.start()
time.sleep(0.03)
pid = os.fork()
if not pid:
    signal.alarm(30)
    ray.init(num_cpus=1)
    print(ray.get(ray.remote(lambda: 42).remote()), flush=True)
    ray.shutdown()
    os._exit(0)
print(os.waitpid(pid, 0)[1])
other.join()
ray.shutdown()
"""


def test_a_child_that_is_forked_while_another_thread_starts_a_session(tmp_path):
    """It has neither that thread nor its session, and waited for ever for it to be through."""
    assert run(FORK, tmp_path) == ["42", "0"]
