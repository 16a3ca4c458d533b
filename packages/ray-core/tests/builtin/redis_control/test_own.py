"""The session's own server: what it lets in, how it comes back, and that it never outlives its owner."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.redis_servers import free_port, server_binary, server_of, servers_in

from ray.abc.blocking_control import BlockingControl
from ray.abc.control_operations import Get, Incr, Put
from ray.builtin.redis_control import own as own_module
from ray.builtin.redis_control.access import Access, load
from ray.builtin.redis_control.handle import RedisControlStore
from ray.builtin.redis_control.options import RedisOptions
from ray.builtin.redis_control.own import OwnRedis
from ray.exceptions import ControlStoreError
from ray.testing import eventually, leaks


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the keeper says goes there."""
    path = tmp_path / "said"
    path.touch()

    def say(line: str) -> None:
        with path.open("a") as file:
            file.write(line + "\n")

    monkeypatch.setattr(own_module, "_say", say)
    return path


@pytest.fixture
def own(said: Path, short_dir: Path) -> Iterator[OwnRedis]:
    server_binary()
    before = leaks.snapshot()
    own = OwnRedis(str(short_dir))
    yield own
    own.close()
    leaks.assert_clean(before)


@pytest.fixture
def control(own: OwnRedis) -> Iterator[BlockingControl]:
    handle = RedisControlStore(load(own.address))
    yield BlockingControl(handle)
    handle.close()


def test_nothing_of_it_tells_the_password(own: OwnRedis, short_dir: Path) -> None:
    password = load(own.address).password
    assert len(password) == 64
    assert password not in own.address
    for pid in (own.pid, server_of(own.pid)):
        process = psutil.Process(pid)
        assert password not in " ".join(process.cmdline()) + " ".join(process.environ().values())
    holders = {
        path.name
        for path in (short_dir / "redis").rglob("*")
        if path.is_file() and password.encode() in path.read_bytes()
    }
    assert holders == {"access.json"}
    modes = {path.name: oct(path.stat().st_mode & 0o077) for path in [short_dir / "redis", *short_dir.rglob("redis/*")]}
    assert {modes["redis"], modes["s"], modes["access.json"]} == {"0o0"}


def test_it_listens_on_no_network(own: OwnRedis) -> None:
    kinds = {connection.family for connection in psutil.Process(server_of(own.pid)).net_connections("all")}
    assert kinds == {socket.AF_UNIX}


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "GET", "dir"), ("FLUSHALL",), ("EVAL", "return 1", "0"), ("KEYS", "*"), ("SCAN", "0"),
        ("GET", "elsewhere"), ("SUBSCRIBE", "elsewhere"), ("MODULE", "LIST"), ("SHUTDOWN",), ("DEBUG", "SLEEP", "0"),
        ("ACL", "LIST"), ("SAVE",), ("REPLICAOF", "NO", "ONE"), ("CLIENT", "LIST"), ("MONITOR",),
    ],
)  # fmt: skip
def test_its_user_may_do_nothing_else(own: OwnRedis, command: tuple[str, ...]) -> None:
    import redis

    access = load(own.address)
    client = redis.Redis(unix_socket_path=access.path, username=access.user, password=access.password)
    with client, pytest.raises(redis.exceptions.ResponseError, match=r"no permissions|not allowed"):
        client.execute_command(*command)


@pytest.mark.parametrize(
    "login",
    [
        {},
        {"password": "x"},
        pytest.param({"username": "default", "password": ""}, marks=pytest.mark.slow),
        pytest.param({"username": "ray"}, marks=pytest.mark.slow),
    ],
)
def test_nobody_else_is_let_in(own: OwnRedis, login: dict[str, str]) -> None:
    import redis

    client = redis.Redis(unix_socket_path=load(own.address).path, **login)
    with client, pytest.raises(redis.exceptions.AuthenticationError):
        client.get("ray:{default}:a")


def test_it_comes_back_with_its_data(own: OwnRedis, control: BlockingControl, said: Path) -> None:
    import redis

    access = load(own.address)

    def is_written() -> bool:
        """While the disk is busy the server keeps what is to be written for up to two seconds."""
        with redis.Redis(unix_socket_path=access.path, username=access.user, password=access.password) as client:
            return bool(client.info("persistence")["aof_buffer_length"] == 0)

    control.ask(Put("a", b"1"))
    for round in range(1, 4):
        eventually(is_written)
        server = server_of(own.pid)
        os.kill(server, signal.SIGKILL)
        assert control.ask(Incr("count")) == round
        assert control.ask(Get("a")) == b"1"
        assert server_of(own.pid) != server
    assert said.read_text().count("has ended (signal 9 (SIGKILL)), and is started again with its data") == 3


def test_it_is_given_up_after_six_deaths(own: OwnRedis, control: BlockingControl, said: Path) -> None:
    for _ in range(6):
        eventually(lambda: psutil.pid_exists(own.pid) and psutil.Process(own.pid).children())
        server = server_of(own.pid)
        os.kill(server, signal.SIGKILL)
        eventually(lambda server=server: server not in [c.pid for c in psutil.Process(own.pid).children()])
    eventually(lambda: psutil.Process(own.pid).status() == psutil.STATUS_ZOMBIE)
    with pytest.raises(ControlStoreError, match=r"connection refused|no such file"):
        control.ask(Get("a"), timeout_s=0.5)
    assert "for the 6th time within a minute (signal 9 (SIGKILL)), and is not started again" in said.read_text()


def test_it_dies_with_the_process_that_keeps_it(own: OwnRedis) -> None:
    server = psutil.Process(server_of(own.pid))
    os.kill(own.pid, signal.SIGKILL)
    server.wait(10)


def test_one_that_was_stopped_is_ended_all_the_same(short_dir: Path) -> None:
    server_binary()
    own = OwnRedis(str(short_dir))
    server = psutil.Process(server_of(own.pid))
    server.suspend()
    own.close()
    server.wait(10)


OWNER = """
import os, signal, sys, time
from ray.builtin.redis_control.own import OwnRedis
own = OwnRedis(sys.argv[1])
print(own.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("victims", ["owner", "owner and keeper", "keeper stopped, then owner"])
def test_it_never_outlives_its_owner(short_dir: Path, how: int, victims: str) -> None:
    server_binary()
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(short_dir)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    keeper = int(owner.stdout.readline())
    server = psutil.Process(server_of(keeper))
    if victims == "keeper stopped, then owner":
        os.kill(keeper, signal.SIGSTOP)
    if victims == "owner and keeper":
        os.kill(keeper, signal.SIGKILL)
    owner.send_signal(how)
    owner.wait(10)
    owner.stdout.close()
    eventually(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    eventually(lambda: servers_in(str(short_dir)) == [])


def test_a_server_that_cannot_start_says_why(short_dir: Path) -> None:
    pytest.importorskip("cryptography")
    server_binary()
    before = leaks.snapshot()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ControlStoreError) as caught:
        OwnRedis(str(short_dir), RedisOptions(host="127.0.0.1", port=taken.getsockname()[1]))
    assert "its server does not start" in str(caught.value)
    assert "listen" in str(caught.value).lower()
    assert "redis-server" in str(caught.value)
    leaks.assert_clean(before)


def test_a_port_that_somebody_takes_meanwhile(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography")
    server_binary()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [free_port(), taken.getsockname()[1], taken.getsockname()[1]]
        monkeypatch.setattr(own_module, "_free_port", lambda host: ports.pop())
        own = OwnRedis(str(short_dir), RedisOptions(host="127.0.0.1"))
        remote = own.remote
        own.close()
    assert remote is not None
    assert remote.hosts[0][1] != taken
    assert ports == []


def test_a_path_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    server_binary()
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    with pytest.raises(ControlStoreError, match="the path of its socket is too long"):
        OwnRedis(str(deep))


def test_no_binary_is_one_sentence(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(short_dir))
    monkeypatch.delenv("RAY_REDIS_SERVER", raising=False)
    with pytest.raises(ControlStoreError, match="apt-get install -y --no-install-recommends redis-server"):
        OwnRedis(str(short_dir))


def test_the_remote_access_is_tls_with_that_certificate(short_dir: Path) -> None:
    pytest.importorskip("cryptography")
    server_binary()
    own = OwnRedis(str(short_dir), RedisOptions(host="127.0.0.1", name="mine"))
    remote = own.remote
    assert isinstance(remote, Access)
    assert remote.tls
    assert remote.certificate.startswith("-----BEGIN CERTIFICATE-----")
    assert (short_dir / "redis" / "key.pem").stat().st_mode & 0o777 == 0o600
    handle = RedisControlStore(remote)
    assert BlockingControl(handle).ask(Incr("a")) == 1
    server = server_of(own.pid)
    os.kill(server, signal.SIGKILL)
    assert BlockingControl(handle).ask(Get("b")) is None  # on the same port again
    handle.close()
    own.close()
