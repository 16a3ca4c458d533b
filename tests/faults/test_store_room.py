"""/dev/shm and the spill directory may be small, full, read-only or gone: in mount namespaces of our own."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import textwrap

import pytest
from tests.victims import ROOT

STORES = [name for name in ("shm", "plasma") if importlib.util.find_spec(f"ray_store_{name}")]
each_store = pytest.mark.parametrize("store", STORES)
pytestmark = [pytest.mark.timeout(180), pytest.mark.skipif(not shutil.which("unshare"), reason="there is no unshare")]

BEGIN = """
import os, sys, threading, time
import numpy as np
import ray
from tests.stopwatch import Stopwatch
from ray.exceptions import ObjectLostError, OutOfDiskError
from ray.testing import inside

MB = 1 << 20

@ray.remote
def total(array):
    return int(array.sum())

@ray.remote
def make(number, size):
    return np.full(size, number, np.uint8)

def is_right(array, number):
    return bool((array == number).all())
"""


def run(code, *arguments, mounts):
    """Run a program in a mount namespace of its own; it must say "done" and nothing else, on either stream.

    Warnings are errors there.
    """
    commands = " && ".join(["mount --make-rprivate /", *mounts])
    allowed = subprocess.run(["unshare", "-m", "sh", "-c", commands], capture_output=True, check=False)
    if allowed.returncode:
        pytest.skip(f"mounting in a namespace of one's own is not allowed here: {allowed.stderr.decode().strip()}")
    script = textwrap.dedent(BEGIN) + textwrap.dedent(code)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{commands} && exec "$0" -W error -c "$@"', sys.executable, script]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=150,
        cwd=ROOT,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("[ray] session")]
    assert (done.returncode, done.stdout, said) == (0, "done\n", [])


# --- /dev/shm ---------------------------------------------------------------------------------------------------------

GIGABYTE = """
store, state = sys.argv[1:]
def fill():
    # Another process takes every byte of /dev/shm, and keeps it.
    pid = os.fork()
    if not pid:
        file = os.open("/dev/shm/full", os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                os.write(file, bytes(1 << 16))
        except OSError:
            pass
        time.sleep(60)
        os._exit(0)
    return pid
filler = 0
ray.init(num_cpus=1, store=store, object_store_memory=2400 * MB, log_to_driver=True)
data = np.arange(1 << 27)  # 1 GiB
if state == "filled meanwhile":
    timer = threading.Timer(0.1, lambda: globals().update(filler=fill()))
    timer.start()
ref = ray.put(data)
assert (ray.get(ref) == data).all()
assert ray.get(total.remote(ref), timeout=60) == (1 << 27) * ((1 << 27) - 1) // 2
del ref
del data
result = ray.get(make.remote(3, 1 << 28), timeout=60)
assert is_right(result, 3)
del result
if state == "filled meanwhile":
    timer.join()
    while os.statvfs("/dev/shm").f_bfree:
        time.sleep(0.01)
    assert is_right(ray.get(make.remote(4, 1 << 28), timeout=60), 4)
    os.kill(filler, 9)
    os.waitpid(filler, 0)
ray.shutdown()
print("done")
"""

STATES = {
    "no bytes": "mount -t tmpfs -o ro,size=4k tmpfs /dev/shm",
    "filled meanwhile": "mount -t tmpfs -o size=64m tmpfs /dev/shm",
}


@each_store
@pytest.mark.slow
@pytest.mark.parametrize("state", ["no bytes", "filled meanwhile"])
def test_objects_of_a_gigabyte_whatever_dev_shm_is(store, state):
    run(GIGABYTE, store, state, mounts=[STATES[state]])


# --- the disk of the plasma store -------------------------------------------------------------------------------------

FULL_DISK = """
folder, state = sys.argv[1:]
options = {"store": {"spill_dir": folder, "full_timeout_s": 0.3}}
ray.init(num_cpus=2, store="plasma", object_store_memory=100 * MB, options=options, log_to_driver=False)
if state == "removed":
    os.rmdir(folder)
elif state == "read-only":
    os.system(f"mount -o remount,ro {folder}")
refs, size = [], 20 * MB
try:
    while len(refs) < 50:
        refs.append(ray.put(np.full(size, len(refs), np.uint8)))
except OutOfDiskError as error:
    assert error.path == folder
    assert folder in str(error)
count = len(refs)
assert (12 <= count <= 14) if state == "full" else count == 4, count
began = Stopwatch()
try:
    ray.get(make.remote(99, size), timeout=60)
    raise SystemExit("a result found room")
except OutOfDiskError:
    assert began.undisturbed_s() < 5
assert ray.get(total.remote(np.ones(1000)), timeout=60) == 1000  # what needs no room goes on
wanted = range(count - 4, count) if state == "full" else range(count)  # those in memory
for number in wanted:
    assert is_right(ray.get(refs[number]), number)
time.sleep(0.2)  # until nobody holds them
if state == "full":  # something goes: then there is room again, and everything is as it was
    dropped = refs[:3]
    refs[:3] = [None] * 3
    del dropped
    result = make.remote(77, size)
    assert is_right(ray.get(result, timeout=60), 77)
else:  # the disk comes back
    os.system(f"mount -o remount,rw {folder}") if state == "read-only" else os.mkdir(folder)
    for number in range(count, 8):
        refs.append(ray.put(np.full(size, number, np.uint8)))
    result = make.remote(77, size)
for number, ref in enumerate(refs):
    assert ref is None or is_right(ray.get(ref), number)
    time.sleep(0.1)
assert is_right(ray.get(result, timeout=60), 77)
del refs, ref, result
store = inside.store()
end = time.monotonic() + 5
while store.stats().used_bytes or store.stats().spilled_bytes:
    assert time.monotonic() < end
    time.sleep(0.01)
ray.shutdown()
print("done")
"""

DAMAGED_DISK = """
folder, state = sys.argv[1:]
options = {"store": {"spill_dir": folder}}
ray.init(num_cpus=2, store="plasma", object_store_memory=100 * MB, options=options, log_to_driver=False)
size = 20 * MB
refs = [ray.put(np.full(size, number, np.uint8)) for number in range(10)]
spilled = inside.spilled_bytes()
assert spilled >= 6 * size, spilled
(pid,) = inside.ask_node("workers")["vital_pids"]
for descriptor in os.listdir(f"/proc/{pid}/fd"):
    path = f"/proc/{pid}/fd/{descriptor}"
    if os.readlink(path).startswith(folder):
        if state == "truncated":
            os.truncate(path, size * 5 // 2)
        else:
            with open(path, "r+b", buffering=0) as file:
                file.seek(size // 2)
                byte = file.read(1)
                file.seek(size // 2)
                file.write(bytes([byte[0] ^ 1]))
lost = []
for number, ref in enumerate(refs):
    try:
        assert ray.get(total.remote(ref), timeout=60) == number * size
        assert is_right(ray.get(ref), number)
    except ObjectLostError as error:
        lost.append(number)
        assert ref.hex() in str(error)
        try:
            ray.get(ref)
            raise SystemExit("what is lost was read")
        except ObjectLostError as error:
            assert ref.hex() in str(error)
    time.sleep(0.1)
assert lost and len(lost) <= (1 if state == "flipped" else 8), lost
assert is_right(ray.get(make.remote(5, size), timeout=60), 5)
ray.shutdown()
print("done")
"""


@pytest.mark.skipif("plasma" not in STORES, reason="ray-store-plasma is not installed")
@pytest.mark.parametrize(
    "state", ["full", *(pytest.param(state, marks=pytest.mark.slow) for state in ("read-only", "removed"))]
)
def test_a_disk_without_room_fails_only_who_needs_it(tmp_path, state):
    mount = f"mount -t tmpfs -o size=200m tmpfs {tmp_path}"
    folder = tmp_path
    mounts = [mount]
    if state == "removed":
        folder = tmp_path / "spill"
        mounts.append(f"mkdir {folder}")
    run(FULL_DISK, folder, state, mounts=mounts)


@pytest.mark.skipif("plasma" not in STORES, reason="ray-store-plasma is not installed")
@pytest.mark.parametrize("state", [pytest.param("truncated", marks=pytest.mark.slow), "flipped"])
def test_a_damaged_disk_loses_objects_and_never_changes_them(tmp_path, state):
    run(DAMAGED_DISK, tmp_path, state, mounts=[f"mount -t tmpfs -o size=400m tmpfs {tmp_path}"])
