"""Parts of programs that tests run as programs of their own, with ``os``, ``ray``, ``sys`` and ``time`` imported."""

from __future__ import annotations

#: Tasks and an actor whose values go from node to node.
REMOTE_PARTS = """
@ray.remote
def where():
    time.sleep(0.05)
    return ray.get_runtime_context().get_node_id()

@ray.remote
def size(value):
    return len(value)

@ray.remote(num_cpus=0.5)
def relay(refs):
    return ray.get(size.options(num_cpus=0.5).remote(refs[0]))

@ray.remote
def large(count):
    return bytes(count)

@ray.remote
class Counter:
    def __init__(self, parts):
        self.seen = [len(ray.get(part)) for part in parts]

    def add(self, value):
        self.seen.append(value)
        return self.seen

@ray.remote(num_returns="streaming")
def some():
    yield from range(3)

@ray.remote
def fails():
    print("heard here", file=sys.stderr)
    return 1 / 0
"""

#: Runs a task in the session that there is; prints 8.
TASK = """
@ray.remote
def double(number):
    return 2 * number
print(ray.get(double.remote(4)))
"""

#: Prints why it cannot join the cluster at an address, which is to be filled in.
ASK = """
try:
    ray.init(address={0!r})
except ray.exceptions.RayError as error:
    print(error)
"""

#: Waits for a task that does not end, until the node does; says why it waits no more.
WAITS_FOR_EVER = """
@ray.remote
def forever():
    time.sleep(600)

ref = forever.remote()
print("begun", flush=True)
try:
    ray.get(ref)
except ray.exceptions.NodeDiedError as error:
    print(error, flush=True)
"""

#: Joins where it is told, and once somebody says so, prints of many tasks when each has run, where, and for whom.
SLEEPS = """
import json, os, sys, time
import ray

@ray.remote
def nap(seconds, owner):
    start = time.monotonic()
    time.sleep(seconds)
    return start, time.monotonic(), ray.get_runtime_context().node_id, owner

address, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with ray.init(address, log_to_driver=False):
    ray.get([nap.remote(0.1, 0) for _ in range(4)])
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(ray.get([nap.remote(seconds, os.getpid()) for _ in range(count)])), flush=True)
    sys.stdin.readline()
"""

#: Keeps many tasks waiting until it is told to end; says when the first has run on a node, and of all when and where.
STAYS_BUSY = """
import json, sys, threading, time
import ray

@ray.remote
def nap(seconds):
    start = time.monotonic()
    time.sleep(seconds)
    return start, time.monotonic(), ray.get_runtime_context().node_id, 0

def listen():
    sys.stdin.readline()
    told.set()

address, there, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
told, found, refs = threading.Event(), [], []
threading.Thread(target=listen, daemon=True).start()
with ray.init(address, log_to_driver=False):
    while not told.is_set():
        refs += [nap.remote(seconds) for _ in range(60 - len(refs))]
        done, refs = ray.wait(refs)
        found += ray.get(done)
        if there in {each[2] for each in found[-len(done):]}:
            print("there", flush=True)
            there = ""
    print(json.dumps(found + ray.get(refs)), flush=True)
"""
