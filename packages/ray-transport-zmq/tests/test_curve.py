"""What may connect over TCP: no client without an allowed key, and keys that others could read are not used."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import threading

import msgspec
import pytest
import zmq
from zmq.utils import z85

from ray.exceptions import PluginError
from ray.testing.contracts._link import Reader, eventually
from ray_transport_zmq import curve
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.refusals import Refusals
from ray_transport_zmq.transport import ZmqTransport

CANARY = b"\x00canary"


@pytest.fixture
def server(folders):
    """A polled server over TCP, its address and its keys."""
    folder = folders()
    path = os.path.join(folder, "cluster.json")
    keys = curve.write_keys(path)
    transport = ZmqTransport(folder, ZmqOptions(scheme="tcp", key_file=path))
    with Reader(transport) as at_server:
        yield transport.listen("server"), at_server, keys, path, folder
    transport.close()


@pytest.fixture
def context():
    """The context of a stranger, as if in another process."""
    with zmq.Context() as context:
        yield context


def stranger(context, address, server_public=None, keys=None):
    """A plain client that sends a canary; whether its handshake succeeded."""
    with context.socket(zmq.DEALER) as client:
        client.set(zmq.LINGER, 0)
        client.set(zmq.RECONNECT_IVL, -1)
        if server_public is not None:
            client.set(zmq.CURVE_SERVERKEY, server_public.encode())
            client.set(zmq.CURVE_PUBLICKEY, keys[0])
            client.set(zmq.CURVE_SECRETKEY, keys[1])
        with client.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED) as monitor:
            client.connect(address)
            with contextlib.suppress(zmq.Again):  # turned away already
                client.send(CANARY, zmq.NOBLOCK)
            assert monitor.poll(1000), "decided within a second"
            told = int.from_bytes(monitor.recv_multipart()[0][:2], "little")
            client.poll(300)  # whatever may still arrive, arrives
            client.disable_monitor()
        return told == zmq.EVENT_HANDSHAKE_SUCCEEDED


def test_a_client_with_the_keys_gets_in(server):
    address, at_server, _, path, folder = server
    client = ZmqTransport(folder, ZmqOptions(scheme="tcp", key_file=path))
    with Reader(client):
        client.dial(address).send([b"hello"])
        assert at_server.wait(1, "it arrives") == [[b"hello"]]
    client.close()


def test_a_stranger_that_has_the_key_would_get_in(server, context):
    """So the refusals below are those of the keys."""
    address, at_server, keys, *_ = server
    known = (keys.client_public.encode(), keys.client_secret.encode())
    assert stranger(context, address, keys.server_public, known)
    assert at_server.wait(1, "it arrives") == [[CANARY[1:]]]


class Relay:
    """Passes one connection on to a server, and records what the client says."""

    def __init__(self, server):
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.recorded = bytearray()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        client, _ = self._listener.accept()
        server = socket.create_connection(self._server)
        with client, server, contextlib.suppress(ConnectionError):
            while True:
                for end in select.select([client, server], [], [], 10)[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is client:
                        self.recorded += data
                    (server if end is client else client).sendall(data)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._thread.join(10)
        self._listener.close()
        assert not self._thread.is_alive()


@pytest.mark.parametrize("client", ["no key", "unknown key", "wrong server"])
def test_a_stranger_is_refused(server, context, caplog, client):
    address, at_server, keys, *_ = server
    if client == "no key":
        succeeded = stranger(context, address)
    elif client == "unknown key":
        succeeded = stranger(context, address, keys.server_public, zmq.curve_keypair())
    else:
        known = (keys.client_public.encode(), keys.client_secret.encode())
        succeeded = stranger(context, address, zmq.curve_keypair()[0].decode(), known)
    assert not succeeded
    assert at_server.events == []
    if client != "no key":  # that one may leave before it is refused
        eventually(lambda: caplog.records, "the refusal is told")
        (told,) = caplog.messages
        assert told.startswith(f"Refused a connection to {address}: ")
        assert ("not among those that are allowed" in told) == (client == "unknown key")


def test_refusals_are_told_once_a_second(caplog):
    now = 100.0
    refusals = Refusals(lambda: now)
    for _ in range(1000):
        refusals.note("tcp://here", "no key")
    now += 0.9
    refusals.note("tcp://here", "no key")
    assert caplog.messages == ["Refused a connection to tcp://here: no key"]
    now += 0.2
    refusals.note("tcp://here", "no key")
    refusals.note("tcp://here", "no key")
    assert caplog.messages[1:] == ["Refused a connection to tcp://here: no key (1001 since this was last told)"]


def test_raw_bytes_are_not_a_message(server):
    address, at_server, *_ = server
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", CANARY, b"\xff" * 10 + b"\x7f\x03" + bytes(52)):
        with socket.create_connection((host, int(port)), timeout=1) as raw:  # that soon it is closed
            raw.sendall(data)
            with contextlib.suppress(OSError):  # whichever end is first
                raw.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while raw.recv(4096):
                    pass
    assert at_server.events == []


def test_recorded_traffic_is_worth_nothing(server, folders):
    address, at_server, _, path, folder = server
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with Relay((host, int(port))) as relay:
        client = ZmqTransport(folder, ZmqOptions(scheme="tcp", key_file=path))
        with Reader(client):
            client.dial(relay.address).send([CANARY])
            assert at_server.wait(1, "it arrives") == [[CANARY]]
        client.close()
    eventually(at_server.ends, "the end of the client is told")
    at_server.events.clear()
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        raw.sendall(relay.recorded)
        with contextlib.suppress(ConnectionError):
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(4096):
                pass
    assert at_server.events == []


def test_a_client_with_other_keys_is_told_so(server, folders):
    address, at_server, keys, _, _ = server
    folder = folders()
    path = os.path.join(folder, "other.json")
    other = curve.make_keys()
    mixed = msgspec.structs.replace(other, server_public=keys.server_public)
    for given in (other, mixed):
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(given))
        client = ZmqTransport(folder, ZmqOptions(scheme="tcp", key_file=path))
        with pytest.raises(ConnectionError, match=address.removeprefix("tcp://")):
            client.connect(address, timeout_s=5.0)
        client.close()
    assert at_server.events == []


def test_further_clients_can_be_allowed(folders, context):
    folder = folders()
    public, secret = zmq.curve_keypair()
    keys = msgspec.structs.replace(curve.make_keys(), also_allowed=(public.decode(),))
    path = os.path.join(folder, "cluster.json")
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
        file.write(msgspec.json.encode(keys))
    transport = ZmqTransport(folder, ZmqOptions(scheme="tcp", key_file=path))
    with Reader(transport) as at_server:
        assert stranger(context, transport.listen("server"), keys.server_public, (public, secret))
        at_server.wait(1, "it arrives")
    transport.close()


def test_on_the_loopback_interface_the_session_makes_keys(folders, context):
    """Other users of the machine can reach the port, so it is as closed as any."""
    folder = folders()
    server, client = (ZmqTransport(folder, ZmqOptions(scheme="tcp")) for _ in range(2))
    path = os.path.join(folder, "zmq-keys.json")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with Reader(server) as at_server:
        address = server.listen("server")
        client.connect(address).send([b"hello"])
        assert at_server.wait(1, "it arrives") == [[b"hello"]]
        at_server.events.clear()
        assert not stranger(context, address)
        assert at_server.events == []
    client.close()
    server.close()
    assert os.listdir(folder) == ["zmq-keys.json"]


def test_processes_that_ask_at_once_get_the_same_keys(folders):
    from concurrent.futures import ThreadPoolExecutor

    folder = folders()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(curve.session_keys, [folder] * 8))
    assert len(set(map(msgspec.json.encode, found))) == 1
    assert os.listdir(folder) == ["zmq-keys.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_keys_that_others_may_read_are_not_used(folders, mode):
    path = os.path.join(folders(), "keys.json")
    curve.write_keys(path)
    os.chmod(path, mode)
    with pytest.raises(PluginError, match="chmod 600"):
        curve.read_keys(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[1]", b'{"server_public": "x"}', msgspec.json.encode(dict.fromkeys(
        ("server_public", "server_secret", "client_public", "client_secret"), "\\" * 40))],
    ids=["empty", "no keys", "list", "short", "not Z85"],
)  # fmt: skip
def test_a_file_without_keys_is_refused(folders, data):
    path = os.path.join(folders(), "keys.json")
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
        file.write(data)
    with pytest.raises(PluginError, match="cannot use the keys"):
        curve.read_keys(path)


def test_no_file_is_refused(folders):
    with pytest.raises(PluginError, match="No such file"):
        ZmqTransport(folders(), ZmqOptions(scheme="tcp", host="192.0.2.1", key_file="/nowhere/keys.json"))


def test_key_files_are_never_overwritten(folders):
    path = os.path.join(folders(), "keys.json")
    keys = curve.write_keys(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with pytest.raises(FileExistsError):
        curve.write_keys(path)
    assert curve.read_keys(path) == keys


def test_answers_of_the_authenticator():
    key = z85.decode(zmq.curve_keypair()[0])
    allowed = frozenset({key})
    request = [b"1.0", b"7", b"ray", b"127.0.0.1", b"id", b"CURVE", key]
    assert curve.answer(request, allowed) == [b"1.0", b"7", b"200", b"", b"", b""]
    wrong = [request[:6], [], [*request[:6], bytes(32)], [b"2.0", *request[1:]], [*request[:2], b"x", *request[3:]]]
    wrong += [[*request[:5], b"NULL"], [*request[:5], b"PLAIN", b"user", b"password"]]
    for other in wrong:
        assert curve.answer(other, allowed)[2] == b"400"
    assert curve.answer(request, frozenset())[2] == b"400"
