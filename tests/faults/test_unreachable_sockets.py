"""Processes that cannot reach the sockets of their session: they are told so, soon, and nobody else is harmed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import ray
from ray.testing import leaks

_HEAD = """
import ctypes, glob, os, pickle, shutil, sys, tempfile, time
import psutil
import ray

what, transport, store = sys.argv[1:]
context = ray.init(num_cpus=4, transport=transport, store=store, log_to_driver=False)
folder = context.address_info["session_dir"]

def outcome(call):
    try:
        return call()
    except ray.exceptions.RayError as error:
        return f"{type(error).__mro__[0].__name__}: {error}"

@ray.remote
class Actor:
    def one(self):
        return 1

    def own(self):
        self.ref = ray.put(b"its own")
        return pickle.dumps(self.ref)

    def submits(self):
        return ray.get(process.remote(), timeout=30)

@ray.remote(max_retries=0)
def process(seconds=0):
    time.sleep(seconds)
    return os.getpid()

@ray.remote
def nested():
    return ray.get([process.remote(0.1) for _ in range(9)], timeout=30)

def change(how):
    if how == "user":
        os.setresuid(65534, 65534, 65534)
    elif how == "root":
        os.chroot(tempfile.mkdtemp())
    elif how == "mounts":
        libc = ctypes.CDLL(None)
        if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 0x44000, None):
            return False
        return not libc.mount(b"none", folder.encode(), b"tmpfs", 0, None)
    return True
"""

#: ``python -c REMOVED what transport store``: what needs new processes or connections after ``what`` was removed.
REMOVED = f"""{_HEAD}
known = Actor.remote()
assert ray.get(known.one.remote(), timeout=30) == 1
waiting = process.remote(300)
for path in glob.glob(f"{{folder}}/{{what}}"):
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
tried = [
    lambda: ray.get([Actor.remote().one.remote() for _ in range(4)], timeout=30),
    lambda: ray.get(nested.remote(), timeout=30),
    lambda: ray.get(waiting, timeout=30),
    lambda: ray.get(known.one.remote(), timeout=30),
]
for call in tried:
    print(repr(outcome(call)))
ray.shutdown()
print(folder, os.path.exists(folder))
"""


def run(program: str, *arguments: str) -> list[str]:
    """The lines that a program prints, of which nothing is left."""
    before = leaks.snapshot()
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    leaks.assert_clean(before)
    return done.stdout.splitlines()


def slow(*values: str):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("what", "transport", "store"),
    [
        ("", "unix", "plasma"),
        ("*.sock", "zmq", "shm"),
        slow("", "zmq", "shm"),
        slow("*.sock", "unix", "shm"),
        slow("plasma.sock", "zmq", "plasma"),
        slow("", "unix", "heap"),
        slow("*.sock", "zmq", "plasma"),
        slow("node.sock", "zmq", "heap"),
        slow("node.sock", "unix", "plasma"),
        slow("node.sock", "routed", "heap"),
        slow("shm.sock", "unix", "shm"),
    ],
)
def test_a_session_without_its_directory_or_its_sockets_ends(what, transport, store):
    *outcomes, last = run(REMOVED, what, transport, store)
    folder, is_there = last.split()
    assert is_there == "False"
    for text in outcomes:
        assert "NodeDiedError" in text
        assert folder in text
        assert "was removed" in text


#: ``python -c WORKERS _ transport store``: the sockets of the workers are removed.
WORKERS = f"""{_HEAD}
known = Actor.remote()
assert ray.get([known.one.remote(), process.remote()], timeout=30)[0] == 1
for path in glob.glob(f"{{folder}}/w-*.sock"):
    os.unlink(path)
assert len(ray.get([process.remote(0.1) for _ in range(9)], timeout=30)) == 9
assert len(ray.get(nested.remote(), timeout=40)) == 9
assert ray.get(known.one.remote(), timeout=30) == 1
ray.shutdown()
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("transport", ["unix", slow("zmq")])
def test_workers_without_their_sockets_are_replaced(transport):
    run(WORKERS, "", transport, "plasma")


#: ``python -c OWN _ transport store``: tasks change what their processes see, and then use ray.
OWN = f"""{_HEAD}
def held_by(how, own):
    get_actor = ray.get_actor  # comes from a file, which a process may not find later
    if not change(how):
        return []
    tried = [
        lambda: ray.get(process.remote(), timeout=30),
        lambda: ray.get(Actor.remote().one.remote(), timeout=30),
        lambda: ray.get(get_actor("bystander").one.remote(), timeout=30),
        lambda: ray.get([process.remote() for _ in range(200)], timeout=30),
        lambda: ray.get(pickle.loads(own), timeout=30),
        lambda: ray.wait([process.remote()], timeout=30_000)[1],
    ]
    return [str(outcome(call)) for call in tried]

odd = ray.remote(max_retries=0)(held_by)
OddActor = ray.remote(type("Odd", (), {{"do": lambda self, *args: held_by(*args)}}))

bystander = Actor.options(name="bystander").remote()
own = ray.get(bystander.own.remote(), timeout=30)
pids = set(ray.get([process.remote(0.5) for _ in range(4)], timeout=30))
assert len(pids) == 4
hows = what.split(",")
answers = ray.get([*(odd.remote(how, own) for how in hows), OddActor.remote().do.remote(hows[0], own)], timeout=60)
began = time.monotonic()
assert ray.get([process.remote(), bystander.one.remote()], timeout=30)[1] == 1
print(time.monotonic() - began)
print(repr([row for row in ray.error_info() if row["type"] == "worker_died"]))
for texts in answers:
    for text in texts:
        print(repr(text))
ray.shutdown()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may change that")


@pytest.mark.slow
@as_root
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("hows", "transport", "store"),
    [
        ("user,root", "unix", "plasma"),
        slow("user,root", "zmq", "shm"),
        slow("user,root", "unix", "heap"),
        slow("mounts", "unix", "shm"),
        slow("mounts", "zmq", "plasma"),
    ],
)
def test_who_reaches_nobody_by_his_own_doing_is_told_and_harms_nobody(hows, transport, store):
    seconds, deaths, *texts = run(OWN, hows, transport, store)
    assert float(seconds) < 10  # for a busy machine
    assert deaths == "[]"
    assert hows == "mounts" or len(texts) == 18
    for text in texts:
        if hows == "mounts":  # only the thread that has changed them sees it
            assert "TimeoutError" not in text
        elif text != repr("[]"):  # of ``ray.wait``
            assert "RayConnectionError: This process (pid " in text
            assert "cannot reach the other processes of its session any more" in text


#: ``python -c DRIVER how transport store``: the same in the program that has started the session.
DRIVER = f"""{_HEAD}
actor = Actor.remote()
change(what)
for call in (
    lambda: ray.get([process.remote() for _ in range(9)], timeout=30),
    lambda: ray.get(actor.one.remote(), timeout=30),
):
    print(repr(outcome(call)))
ray.shutdown()
"""


@pytest.mark.slow
@as_root
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("how", "transport"), [("user", "unix"), slow("root", "zmq"), slow("user", "zmq")])
def test_a_program_that_reaches_nobody_is_told(how, transport):
    for text in run(DRIVER, how, transport, "plasma"):
        assert "RayConnectionError: This process (pid " in text


#: ``python -c PASSES _ transport store``: a user is changed for a moment, or for good.
PASSES = f"""{_HEAD}
@ray.remote
def back_soon():
    os.seteuid(65534)
    refs = [process.remote(), Actor.remote().one.remote()]
    time.sleep(0.3)
    os.seteuid(0)
    return ray.get(refs, timeout=30)

@ray.remote
def leave():
    time.sleep(0.5)
    os.setresuid(65534, 65534, 65534)
    return os.getpid()

others = [Actor.remote() for _ in range(4)]
assert ray.get(back_soon.remote(), timeout=60)[1] == 1
changed = ray.get([leave.remote() for _ in range(4)], timeout=30)
assert len(set(changed)) == 4
for other in others:
    assert ray.get(other.submits.remote(), timeout=60) in changed
ray.shutdown()
"""


@as_root
@pytest.mark.timeout(120)
@pytest.mark.parametrize("transport", [slow("unix"), slow("zmq")])
def test_another_user_for_a_moment_and_workers_of_another_user(transport):
    run(PASSES, "", transport, "plasma")


@ray.remote
class Actor:
    def one(self):
        return 1


@ray.remote(max_retries=-1)
def two():
    return 2


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("late", [False, True])
def test_nobody_waits_for_ever_for_workers_that_he_does_not_reach(start, tmp_path, late):
    """They live, and the node manager can be reached."""
    gate = tmp_path / "gate"
    options = {"transport": {"gate": str(gate), "late": late}}
    start(num_cpus=2, store="heap", transport="tests.faults.shy_transport", options=options, log_to_driver=False)
    actor = Actor.remote()
    call = actor.one.remote()
    with pytest.raises(ray.exceptions.RayConnectionError, match="20 workers in a row could not be reached"):
        ray.get([two.remote() for _ in range(10)], timeout=60)
    for ref in (call, actor.one.remote()):
        with pytest.raises(ray.exceptions.RayConnectionError, match="The actor Actor has not died"):
            ray.get(ref, timeout=30)
    gate.touch()
    assert ray.get([two.remote() for _ in range(10)], timeout=30) == [2] * 10
    assert ray.get([actor.one.remote(), Actor.remote().one.remote()], timeout=30) == [1, 1]
