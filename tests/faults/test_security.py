"""What others could reach: listening sockets, files, arguments and environments, and which processes unpickle."""

from __future__ import annotations

import os
import signal
import stat
import sys
import tempfile
from pathlib import Path

import pytest
from tests import victims

import ray
from ray.exceptions import RaySystemError
from ray.testing import eventually


@ray.remote
def environment():
    return dict(os.environ)


@ray.remote
def fail():
    raise ValueError("on purpose")


@ray.remote
class Keeper:
    def __init__(self, value=None):
        self.value = value

    def get(self):
        return self.value

    def fail(self):
        raise KeyError("on purpose")

    def pid(self):
        return os.getpid()


class Custom:
    """Pickled by reference, so that the process that opens it looks for the class."""

    def __init__(self, value):
        self.value = value


@ray.remote
def open_custom(custom, refs):
    return Custom(custom.value + ray.get(refs[0]).value)


def use_everything():
    """Move values, refs, handles, functions and errors through all parts."""
    import numpy as np

    made = ray.put(Custom(1))
    assert ray.get(open_custom.remote(made, [ray.put(Custom(2))]), timeout=20).value == 3
    large = ray.put(np.arange(100_000))
    assert ray.get(ray.remote(lambda array: int(array.sum())).remote(large), timeout=20) == 4999950000
    keeper = Keeper.options(name="keeper").remote([made, large])
    assert ray.get(ray.get(ray.get_actor("keeper").get.remote(), timeout=20)[0]).value == 1
    for ref in (
        fail.remote(),
        keeper.fail.remote(),
        fail.options(retry_exceptions=[ValueError], max_retries=1).remote(),
    ):
        with pytest.raises((ValueError, KeyError), match="on purpose"):
            ray.get(ref, timeout=20)
    slow = ray.remote(lambda: __import__("time").sleep(60)).remote()
    ray.cancel(slow, force=True)
    ray.kill(keeper)
    assert ray.error_info() is not None
    assert ray.nodes()
    assert ray.available_resources()


# --- sockets ----------------------------------------------------------------------------------------------------------


def listening_inodes() -> set[str]:
    """Inodes of TCP sockets that listen, and of all UDP sockets."""
    found = set()
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" or name.startswith("udp"):
                found.add(fields[9])
    return found


def open_sockets(pid: int) -> set[str]:
    """Inodes of a process's sockets."""
    found = set()
    for link in Path("/proc", str(pid), "fd").iterdir():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_listens_on_a_network(start):
    before = open_sockets(os.getpid())
    start(num_cpus=2)
    keeper = Keeper.remote(1)
    assert ray.get([keeper.get.remote(), ray.remote(lambda: 1).remote()], timeout=20) == [1, 1]
    listening = listening_inodes()
    processes = victims.family()
    assert ray.get(keeper.pid.remote()) in processes
    assert len(processes) >= 4
    for pid in processes:
        sockets = open_sockets(pid)
        assert sockets, f"process {pid} was not read"
        assert not sockets & listening, f"process {pid} listens on a network"
    assert not (open_sockets(os.getpid()) - before) & listening


# --- files ------------------------------------------------------------------------------------------------------------

MODES = """
import json, os, ray
os.umask(0)
context = ray.init(num_cpus=2)
keeper = ray.remote(type("Keeper", (), {"get": lambda self: 1})).options(name="x").remote()
assert ray.get(keeper.get.remote()) == 1
assert ray.get(ray.remote(lambda: ray.get(ray.remote(lambda: 1).remote())).remote()) == 1
ray.put(bytes(10_000_000))
top = context.address_info["session_dir"]
found = []
for folder, folders, files in os.walk(os.path.dirname(top)):
    if folder != os.path.dirname(top) and not folder.startswith(top):
        continue
    for path in [folder, *(os.path.join(folder, name) for name in files)]:
        status = os.lstat(path)
        found.append([path, status.st_mode, status.st_uid])
ray.shutdown()
print(json.dumps(found))
"""


def test_only_the_user_can_reach_the_session_files(start):
    """Whatever the umask says."""
    found = victims.in_program(MODES)
    sockets = 0
    for path, mode, owner in found:
        assert owner == os.geteuid(), path
        assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), f"{path}: {mode:o}"
        assert not stat.S_ISLNK(mode)
        sockets += stat.S_ISSOCK(mode)
    assert sockets >= 4  # driver, node manager, workers


@pytest.fixture
def base(monkeypatch):
    """An empty directory, with a short name, for session directories."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def test_root_directory_is_made_private(base, start):
    root = base / f"ray-{os.geteuid()}"
    root.mkdir(mode=0o777)
    root.chmod(0o777)
    context = start(num_cpus=1)
    assert Path(context.address_info["session_dir"]).parent == root
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["symlink", "file", "other user's"])
def test_root_directory_of_somebody_else_is_not_used(base, start, monkeypatch, kind):
    root = base / f"ray-{os.geteuid()}"
    if kind == "symlink":
        (base / "elsewhere").mkdir()
        root.symlink_to(base / "elsewhere")
    elif kind == "file":
        root.write_text("")
    else:
        root.mkdir()
        if os.geteuid() != 0:
            pytest.skip("only root can give a directory to another user")
        os.chown(root, 65534, 65534)
    context = start(num_cpus=1)
    assert Path(context.address_info["session_dir"]).parent != root
    assert not (base / "elsewhere").exists() or not list((base / "elsewhere").iterdir())
    ray.shutdown()
    from ray.runtime.process import session_dirs

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(session_dirs.os, "access", lambda path, mode: path == str(base))
    with pytest.raises(RaySystemError, match="no safe place"):
        ray.init(num_cpus=1)
    assert signal.getsignal(signal.SIGINT) is handler


def test_no_secret_in_arguments_and_environment(start, monkeypatch):
    monkeypatch.setenv("MINE", "seen by tasks")
    context = start(num_cpus=2)
    session_dir = context.address_info["session_dir"]
    for pid in victims.family():
        command = Path("/proc", str(pid), "cmdline").read_text()
        assert session_dir not in command
        assert Path(session_dir).name not in command
    seen = ray.get(environment.remote(), timeout=20)
    assert seen["MINE"] == "seen by tasks"
    added = {
        name for name in seen.keys() - os.environ.keys() if not name.endswith(("_NUM_THREADS", "_MAXIMUM_THREADS"))
    }
    assert added <= {"RAY_SESSION", "CUDA_VISIBLE_DEVICES"}
    assert not [name for name in seen if "TOKEN" in name or "PASSWORD" in name if name not in os.environ]


# --- which processes unpickle -----------------------------------------------------------------------------------------

WATCH = """
import os, pickle, _pickle, sys

def note(what):
    fd = os.open(os.environ["UNPICKLE_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{os.getpid()} {what}\\n".encode())
    os.close(fd)

def on_event(event, args):
    if event == "pickle.find_class":
        note("find_class " + " ".join(map(str, args)))

def watched(function):
    def call(*args, **kwargs):
        note(function.__name__)
        return function(*args, **kwargs)
    return call

class Unpickler(_pickle.Unpickler):
    def load(self):
        note("Unpickler.load")
        return super().load()

sys.addaudithook(on_event)
pickle.loads = _pickle.loads = watched(_pickle.loads)
pickle.load = _pickle.load = watched(_pickle.load)
pickle.Unpickler = _pickle.Unpickler = Unpickler
"""


@pytest.mark.parametrize("store", ["heap", "plasma", "shm"])
def test_only_drivers_and_workers_unpickle(start, tmp_path, monkeypatch, store):
    """The node manager, the process that forks workers and the store pass on what users send, and never open it."""
    if store != "heap":
        pytest.importorskip(f"ray_store_{store}")
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    log = tmp_path / "log"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("UNPICKLE_LOG", str(log))
    start(num_cpus=2, log_to_driver=False, store=store)
    control = {victims.node_manager(), forker := victims.zygote(), *victims.store_processes()}
    assert len(control) == (2 if store == "heap" else 3)
    use_everything()
    os.kill(forker, 9)  # the next one is forked from a node manager that has served
    eventually(lambda: victims.zygote() != forker)
    control.add(victims.zygote())
    use_everything()
    seen = [line.split(" ", 1) for line in log.read_text().splitlines()]
    by_workers = [what for pid, what in seen if int(pid) not in control]
    assert any(what.startswith("find_class") and "Custom" in what for what in by_workers), "the watch does not work"
    assert any(what in ("loads", "Unpickler.load") for what in by_workers), "the watch does not work"
    by_others = [(pid, what) for pid, what in seen if int(pid) in control]
    assert not by_others


def test_node_manager_has_no_code_that_unpickles(start):
    """The modules whose job it is are the only ones that can."""
    code = """
import json, sys
import ray.runtime.mains.node, ray.protocol.leases, ray.protocol.actors
opening = {"deserialize", "deserialize_copy", "load_function", "open_envelope", "loads"}
modules = [m for n, m in sys.modules.items() if n.startswith("ray.runtime.node.")]
print(json.dumps([f"{m.__name__}.{name}" for m in modules for name in opening & vars(m).keys()]))
"""
    assert victims.in_program(code) == []
