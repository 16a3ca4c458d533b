"""Whole sessions over this transport: what they open and which clients get in, and how soon they notice a death."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import time

import psutil
import pytest
import zmq
from tests.stopwatch import Stopwatch

import ray
from ray.exceptions import RayActorError, WorkerCrashedError
from ray.protocol import recalls
from ray.testing import inside, leaks

SCHEMES = ["ipc", "tcp"]


@pytest.fixture(scope="module", params=SCHEMES)
def session(request):
    """One for all tests of the module; yields the scheme."""
    before = leaks.snapshot()
    options = {"transport": {"scheme": request.param}}
    with ray.init(num_cpus=2, store="heap", transport="zmq", options=options, log_to_driver=False):
        yield request.param
    leaks.assert_clean(before)


@pytest.fixture(autouse=True)
def nothing_left(session):
    """The session keeps its processes; what ran in them has ended with the test."""
    yield
    inside.settled(5.0)


@ray.remote
def identity(value, wait_s=0.0):
    time.sleep(wait_s)
    return value


@ray.remote
def length(value):
    return len(value)


@ray.remote(max_retries=0)
def die():
    os.kill(os.getpid(), signal.SIGKILL)


@ray.remote
class Keeper:
    def __init__(self):
        self.values = []

    def add(self, value):
        self.values.append(value)
        return len(self.values)

    def pid(self):
        return os.getpid()

    def block(self):
        time.sleep(60)


def processes():
    """This one and all of its session."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def listeners():
    """Addresses and ports."""
    found = []
    for process in processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # one that only forked a worker
            listed = getattr(process, "net_connections", None) or process.connections  # before psutil 6
            connections = listed("inet")
            found += [tuple(each.laddr) for each in connections if each.status == psutil.CONN_LISTEN]
    return found


def test_what_a_session_opens(session):
    assert ray.get([identity.remote(number) for number in range(10)]) == list(range(10))
    if session == "ipc":
        assert listeners() == []
    else:
        assert {host for host, _ in listeners()} == {"127.0.0.1"}


class Canary:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("session", ["tcp"], indirect=True)
def test_what_strangers_send_is_never_unpickled(session, tmp_path):
    """To each listener of a session: as raw bytes, without keys, with unknown keys, to another server's key."""
    path = tmp_path / "canary"
    canary = pickle.dumps(Canary(str(path)))
    pickle.loads(canary).close()
    path.unlink()  # so it does sing
    assert ray.get(identity.remote(1)) == 1
    addresses = listeners()
    assert len(addresses) >= 3  # driver, node manager, worker
    with zmq.Context() as context:
        for host, port in addresses:
            with socket.create_connection((host, port), timeout=5) as raw:
                raw.sendall(canary)
            for server_key in (None, zmq.curve_keypair()[0]):
                with context.socket(zmq.DEALER) as client:
                    client.set(zmq.LINGER, 0)
                    client.set(zmq.RECONNECT_IVL, -1)
                    if server_key is not None:
                        client.curve_serverkey = server_key
                        client.curve_publickey, client.curve_secretkey = zmq.curve_keypair()
                    with client.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
                        client.connect(f"tcp://{host}:{port}")
                        with contextlib.suppress(zmq.Again):  # turned away already
                            client.send(b"\0" + canary, zmq.NOBLOCK)
                        assert monitor.poll(1000), "the stranger is turned away within a second"
                        client.disable_monitor()
    assert ray.get([identity.remote(number) for number in range(100)]) == list(range(100))
    assert not path.exists()


def test_tasks_and_actors(session):
    keeper = Keeper.remote()
    assert ray.get([keeper.add.remote(number) for number in range(300)]) == list(range(1, 301))
    assert ray.get([identity.remote(number) for number in range(300)]) == list(range(300))
    refs = [identity.remote(identity.remote(number)) for number in range(20)]
    assert ray.get(refs) == list(range(20))


def test_large_values_go_both_ways(session):
    large = os.urandom(1 << 20) * 20
    assert ray.get(identity.remote(large)) == large
    assert ray.get(identity.remote(ray.put(large))) == large
    refs = [identity.remote(large) for _ in range(4)]
    assert all(value == large for value in ray.get(refs))


def test_tasks_with_large_arguments_do_not_go_to_and_fro(session, monkeypatch):
    """A worker that is slow to answer is asked to give back what it has not begun; here that comes with the tasks."""
    monkeypatch.setattr(recalls, "STALL_S", 0.0001)
    keeper = Keeper.options(num_cpus=1).remote()  # so there is one other worker
    ray.get([keeper.pid.remote(), *(length.remote(b"") for _ in range(20))], timeout=20)
    large = bytes(20 << 20)
    assert ray.get([length.remote(large) for _ in range(4)], timeout=20) == [len(large)] * 4


def test_a_killed_worker_is_noticed_at_once(session):
    ray.get(identity.remote(1))
    started = Stopwatch()
    with pytest.raises(WorkerCrashedError, match="SIGKILL"):
        ray.get(die.remote(), timeout=10)
    assert started.undisturbed_s() < 2.0


def test_a_killed_actor_is_noticed_at_once(session):
    keeper = Keeper.remote()
    pid = ray.get(keeper.pid.remote())
    blocked = keeper.block.remote()
    os.kill(pid, signal.SIGKILL)
    started = Stopwatch()
    with pytest.raises(RayActorError):
        ray.get(blocked, timeout=10)
    assert started.undisturbed_s() < 1.0
