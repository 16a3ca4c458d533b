"""Strangers at the ports of a cluster: what they send is not read, and those that say nothing have to leave."""

from __future__ import annotations

import contextlib
import pickle
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.canary import Canary
from tests.commands import LIMIT_S, Machine

from ray.testing import eventually

pytest.importorskip("ray_transport_zmq")

#: Silent ones at each port: more than any of them needs.
SILENT = 40
#: Works on both nodes, with values that are large, so that every kind of port is open and used.
WORK = """
import pickle

@ray.remote
def make(count):
    return bytearray(count)

@ray.remote
def size(value):
    return len(value)

@ray.remote
class Holder:
    def size(self, value):
        return len(value)

def work():
    refs = [make.options(node=name).remote(2_000_000) for name in ("first", "second")]
    sizes = [size.options(node=name).remote(ref) for name in ("second", "first") for ref in refs]
    sizes += [holder.size.remote(ref) for holder in holders for ref in refs]
    return sum(ray.get(sizes, timeout=60))

ray.init("auto")
holders = [Holder.options(node=name, num_cpus=0).remote() for name in ("first", "second")]
print(work(), flush=True)
for line in sys.stdin:
    print(work(), flush=True)
"""
DONE = f"{8 * 2_000_000}\n"


class Attacked:
    """A cluster of two nodes, with a program that works there."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.environ |= {"RAY_TRANSPORT": "routed"}
        machine.done("start", "--head", "--num-cpus", "2", "--node-name", "first", "--data-encryption", "aes-gcm")
        machine.done("start", "--address", "auto", "--num-cpus", "2", "--node-name", "second")
        self.program = machine.program(WORK)

    def hears(self, line: str) -> None:
        assert self.program.stdout is not None
        heard = self.program.stdout.readline()
        assert heard == line, self.program.stderr and self.program.stderr.read()

    def works(self) -> float:
        """See that it does, by a program that is there; returns how long that has taken."""
        begun = time.monotonic()
        assert self.program.stdin is not None
        self.program.stdin.write("go\n")
        self.program.stdin.flush()
        self.hears(DONE)
        return time.monotonic() - begun

    def processes(self) -> list[psutil.Process]:
        """All of it: of the nodes, of the keeper, and the program."""
        found = [psutil.Process(self.program.pid)]
        for path in self.machine.runtime.glob("ray-*/*/node.pid"):
            made = psutil.Process(int(path.read_text().split()[0]))
            found += [made, *made.children(recursive=True)]
        return list({process.pid: process for process in found}.values())

    def ports(self) -> dict[int, str]:
        """{port: name of the process that listens there}"""
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        assert connection.laddr.ip == "127.0.0.1"
                        found[connection.laddr.port] = " ".join(process.cmdline())[:80] or process.name()
        return found

    def descriptors(self) -> int:
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.num_fds()
        return total

    def logs(self) -> str:
        return "".join(path.read_text(errors="replace") for path in self.machine.runtime.rglob("*.log"))

    def close(self) -> None:
        out, err = self.program.communicate("", timeout=LIMIT_S)
        assert (self.program.returncode, out) == (0, ""), err


@pytest.fixture
def attacked(machine: Machine) -> Iterator[Attacked]:
    made = Attacked(machine)
    try:
        made.hears(DONE)
        yield made
        made.close()
    finally:
        made.program.kill()
        made.program.communicate()


def is_hung_up_on(sock: socket.socket, patience_s: float) -> bool:
    """Whether the other end hangs up, whatever it says before."""
    end = time.monotonic() + patience_s
    with contextlib.suppress(OSError):
        while (left_s := end - time.monotonic()) > 0 and select.select([sock], [], [], left_s)[0]:
            if not sock.recv(65536):
                return True
        return False
    return True


def greetings(data: bytes) -> list[bytes]:
    """What somebody may say first who means no good, or the wrong port: ``data`` is in all of them."""
    frame = bytes([0x02]) + len(data).to_bytes(8, "big") + data
    null = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL" + bytes(16) + b"\0" + bytes(31)
    curve = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0CURVE" + bytes(15) + b"\0" + bytes(31)
    return [
        data,
        len(data).to_bytes(4, "big") + data,
        len(data).to_bytes(4, "little") + data,
        len(data).to_bytes(8, "little") + data,
        null + b"\x04\x26\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0" + frame,
        curve + b"\x04\xc8\x05HELLO\x01\0" + bytes(192) + frame,
        b"*2\r\n$4\r\nAUTH\r\n$" + str(len(data)).encode() + b"\r\n" + data + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + str(len(data)).encode() + b"\r\n\r\n" + data,
        bytes(65536) + data,
    ]


def test_what_strangers_send_is_not_read(attacked: Attacked, tmp_path: Path) -> None:
    """At each port, in each form: it is not unpickled, and they have to leave."""
    canary = tmp_path / "canary"
    data = [pickle.dumps(Canary(canary), protocol) for protocol in (0, 2, 5)]
    ports = attacked.ports()
    assert len(ports) >= 5, ports  # the control server, two node managers, two object managers, and workers
    with contextlib.ExitStack() as stack:
        socks = []
        for port, name in ports.items():
            for said in [greeting for each in data for greeting in greetings(each)]:
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
                with contextlib.suppress(OSError):  # it may have hung up
                    sock.sendall(said)
                socks.append((sock, name))
        assert [name for sock, name in socks if not is_hung_up_on(sock, LIMIT_S)] == []
    attacked.works()
    assert not canary.exists()
    assert attacked.ports().keys() >= {port for port, name in ports.items() if "worker" not in name}
    assert "Traceback" not in attacked.logs()


def test_those_that_say_nothing_have_to_leave(attacked: Attacked) -> None:
    """They are few, they cost no descriptor for long, and the cluster goes on meanwhile."""
    attacked.works()
    before = attacked.descriptors()
    with contextlib.ExitStack() as stack:
        socks = [
            (port, name, stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)))
            for port, name in attacked.ports().items()
            for _ in range(SILENT)
        ]
        for _, _, sock in socks[::2]:
            sock.sendall(b"\xff\0")  # has begun, and does not go on
        assert attacked.works() < LIMIT_S
        left = [(port, name) for port, name, sock in socks if not is_hung_up_on(sock, LIMIT_S)]
        assert left == []
    eventually(lambda: attacked.descriptors() <= before + SILENT, LIMIT_S, "descriptors are given back")
    attacked.works()


def test_what_the_control_server_does_for_nobody(attacked: Attacked) -> None:
    """Over the network as well: neither without the password, nor with it beyond the keys of the cluster."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    key = attacked.machine.key()
    context = {"host": key["host"], "port": key["port"], "ssl": True, "ssl_ca_data": key["certificate"],
               "ssl_check_hostname": False, "socket_timeout": 10, "retry": Retry(NoBackoff(), 0)}  # fmt: skip
    for login in ({}, {"password": "x"}, {"username": "default", "password": ""}, {"username": key["user"]}):
        client = redis.Redis(**context, **login)
        with client, pytest.raises(redis.exceptions.AuthenticationError):
            client.get(f"ray:{{{key['name']}}}:current")
    client = redis.Redis(**context, username=key["user"], password=key["password"])
    with client:
        assert client.ping()
        for command in (
            "CONFIG SET dir /tmp", "CONFIG GET *", "EVAL return(1) 0", "FUNCTION LIST", "MODULE LIST", "DEBUG SLEEP 0",
            "FLUSHALL", "FLUSHDB", "KEYS *", "KEYS ray:{other}:*", "SCAN 0", "GET ray:{other}:current", "SET other 1",
            "SUBSCRIBE other", "PUBLISH other 1", "SAVE", "SHUTDOWN", "REPLICAOF 127.0.0.1 1", "ACL LIST",
            "MIGRATE 127.0.0.1 1 x 0 1",
            "ACL SETUSER x", "CLIENT LIST", "CLIENT KILL ID 1", "MONITOR", "SLOWLOG GET", "RESTORE x 0 x", "SWAPDB 0 1",
        ):  # fmt: skip
            with pytest.raises(
                redis.exceptions.ResponseError, match=r"no permissions|NOPERM|not allowed|unknown command"
            ):
                client.execute_command(*command.split())
    with socket.create_connection((key["host"], key["port"]), 10) as plain:
        plain.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert is_hung_up_on(plain, LIMIT_S)
    attacked.works()
