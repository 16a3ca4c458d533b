"""Files of tasks and actors have the modes that the driver's umask leaves them; those of the session are private."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import textwrap

import pytest
from tests.victims import ROOT

#: Each process of the session makes a file and a folder; then the session's own are listed.
PROGRAM = """
import glob, json, os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
import ray

umask, store, transport, folder = int(sys.argv[1], 8), *sys.argv[2:]
os.umask(umask)
context = ray.init(num_cpus=3, store=store, transport=transport, object_store_memory=200 << 20)
top = context.address_info["session_dir"]

def make(name):
    path = os.path.join(folder, name)
    open(path, "w").close()
    os.mkdir(path + ".d")
    return [os.stat(path).st_mode, os.stat(path + ".d").st_mode]

@ray.remote
def task(name):
    return make(name)

@ray.remote
def outer(name):
    return ray.get(task.remote(name))

@ray.remote
def in_thread(name):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(make, name).result()

@ray.remote
def in_child(name):
    text = f"open({os.path.join(folder, name)!r}, 'w'); import os; os.mkdir({os.path.join(folder, name)!r} + '.d')"
    subprocess.run([sys.executable, "-c", text], check=True)
    return [os.stat(os.path.join(folder, name)).st_mode, os.stat(os.path.join(folder, name) + ".d").st_mode]

@ray.remote
class Actor:
    def __init__(self, name):
        self.made = make(name)
    def of_init(self):
        return self.made
    def method(self, name):
        return make(name)

@ray.remote
def changes(name):
    before = os.umask(0o027)
    made = make(name)
    os.umask(before)
    return made

made = {"driver": make("driver")}
for name, function in {"task": task, "outer": outer, "thread": in_thread, "child": in_child}.items():
    made[name] = ray.get(function.remote(name))
actor = Actor.remote("init")
made["init"], made["method"] = ray.get([actor.of_init.remote(), actor.method.remote("method")])
stored = [ray.put(bytes(60 << 20)) for _ in range(5 if store == "plasma" else 1)]  # some are spilled
stored.append(ray.remote(lambda: bytes(1 << 20)).remote())
ray.wait(stored[-1:])
changed = ray.get(changes.remote("changed"))

own = []
for each, folders, files in os.walk(top):
    own += [[path, os.lstat(path).st_mode] for path in (each, *(os.path.join(each, file) for file in files))]
own += [[path, os.lstat(path).st_mode] for path in glob.glob("/dev/shm/*ray*")]
print(json.dumps([made, changed, own]))
"""


def modes(tmp_path, umask, store="plasma", transport="unix"):
    """What files there are, with their modes."""
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), oct(umask), store, transport, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=55, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("umask", "store", "transport"),
    [
        (0o002, "plasma", "unix"),
        (0o000, "heap", "zmq"),
        pytest.param(0o022, "shm", "unix", marks=pytest.mark.slow),
        pytest.param(0o077, "plasma", "zmq", marks=pytest.mark.slow),
    ],
)
def test_modes(tmp_path, umask, store, transport):
    made, changed, own = modes(tmp_path, umask, store, transport)
    assert len(made) == 7
    for name, (file, folder) in made.items():
        assert [stat.S_IMODE(file), stat.S_IMODE(folder)] == [0o666 & ~umask, 0o777 & ~umask], name
    assert list(map(stat.S_IMODE, changed)) == [0o640, 0o750]
    assert sum(map(stat.S_ISSOCK, (mode for _, mode in own))) >= 4
    for path, mode in own:
        assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), f"{path}: {mode:o}"
