"""A signal that was held back, as it came in the middle of a call, is not sent once the program has turned it off."""

import subprocess
import sys

PROGRAM = """
import random, signal, sys, time
import ray
ray.init(num_cpus=1)

@ray.remote
def echo(value):
    return value

sys.setprofile(lambda *_: None)  # a profiler of the program's: what is held back is sent again
random.seed(1)
end = time.monotonic() + 5
while time.monotonic() < end:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0003 + random.random() * 0.002)
    refs = [echo.remote(1) for _ in range(8)]
    ray.put(1)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    ray.get(refs)
sys.setprofile(None)
print("alive")
ray.shutdown()
"""


def test_one_of_a_timer():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=55, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
