"""The distribution, what it registers, and what its options refuse."""

import contextlib
import socket
from importlib import import_module
from importlib.metadata import distribution

import msgspec
import pytest
import zmq

import ray_transport_zmq
from ray.exceptions import PluginError, PluginOptionsError
from ray.plugins import PLUGIN_API, resolve_plan
from ray.plugins.seams import SEAMS
from ray_transport_zmq import sockets
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.plugin import PLUGIN
from ray_transport_zmq.transport import ZmqTransport

ENTRIES = [entry for entry in distribution("ray-transport-zmq").entry_points if entry.group.startswith("ray.")]


def test_version_is_that_of_the_distribution() -> None:
    assert ray_transport_zmq.__version__ == distribution("ray-transport-zmq").version


def test_registers_the_transport() -> None:
    (entry,) = ENTRIES
    assert (entry.group, entry.name) == ("ray.transport", "zmq")
    assert import_module(entry.value).PLUGIN is PLUGIN
    assert (PLUGIN.seam, PLUGIN.name, PLUGIN.api) == ("transport", "zmq", PLUGIN_API)
    assert PLUGIN.capabilities == SEAMS["transport"].known["zmq"].capabilities


def test_is_chosen_by_name_and_never_by_default() -> None:
    assert resolve_plan(transport="zmq").transport.name == "zmq"
    assert SEAMS["transport"].preference == ("unix",)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scheme": "udp"}, "udp"),
        ({"host": "example.org"}, "not an IP address"),
        ({"scheme": "tcp", "host": "*"}, "not an IP address"),
        ({"scheme": "tcp", "host": "0.0.0.0"}, "every interface"),
        ({"scheme": "tcp", "host": "::"}, "every interface"),
        ({"scheme": "tcp", "host": "192.0.2.1"}, "key_file"),
        ({"port": 1}, "no option 'port'"),
        ({"ports": "41000"}, "not a range of ports"),
        ({"ports": "41000-41010-41020"}, "not a range of ports"),
        ({"ports": "41000-"}, "not a range of ports"),
        ({"ports": "41000-٤١٠١٠"}, "not a range of ports"),
        ({"ports": "+1000-41010"}, "not a range of ports"),
        ({"ports": "41010-41000"}, "not a range of ports"),
        ({"ports": "0-10"}, "not a range of ports"),
        ({"ports": "65000-65536"}, "not a range of ports"),
    ],
    ids=str,
)
def test_options_are_refused_before_anything_starts(options, text) -> None:
    with pytest.raises(PluginOptionsError, match=text.replace("*", r"\*")):
        resolve_plan(transport="zmq", options={"transport": options})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1"])
def test_loopback_needs_no_key_file(host) -> None:
    assert msgspec.convert({"scheme": "tcp", "host": host}, ZmqOptions).host == host


def test_an_old_library_is_refused(monkeypatch, folders) -> None:
    monkeypatch.setattr(zmq, "zmq_version_info", lambda: (4, 3, 4))
    with pytest.raises(PluginError, match=r"needs libzmq 4\.3\.5"):
        ZmqTransport(folders())


def test_a_library_that_cannot_encrypt_is_refused(monkeypatch, folders) -> None:
    monkeypatch.setattr(zmq, "has", lambda capability: False)
    with pytest.raises(PluginError, match="encrypt"):
        ZmqTransport(folders())


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
def test_every_option_of_a_socket_is_set(scheme) -> None:
    context = sockets.acquire()
    try:
        with sockets.router(context, scheme, None, listens=True) as socket:
            wanted = sockets.OPTIONS | (sockets.TCP_OPTIONS if scheme == "tcp" else {})
            assert {option: socket.get(option) for option in wanted} == wanted
            assert 0 < socket.get(zmq.LINGER) <= 500
            # What cannot be read back shows by what it does: nothing is dropped in silence.
            with pytest.raises(zmq.ZMQError) as raised:
                socket.send_multipart([b"nobody", b"x"])
            assert raised.value.errno == zmq.EHOSTUNREACH
        assert {zmq.ROUTER_MANDATORY, zmq.ROUTER_HANDOVER} == set(sockets.WRITE_ONLY)
    finally:
        sockets.release(context)


def test_a_process_has_one_context_made_when_it_is_needed(folders) -> None:
    made = [ZmqTransport(folders()) for _ in range(2)]
    try:
        assert sockets._contexts == {}
        address = made[0].listen("first")
        (context,) = sockets._contexts.values()
        assert context.users == 1
        made[1].connect(address)
        assert list(sockets._contexts.values()) == [context]
        assert context.users == 2
    finally:
        for transport in made:
            transport.close()
    assert sockets._contexts == {}
    assert context.zmq.closed


def test_a_path_that_is_too_long_is_refused_in_words(tmp_path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    transport = ZmqTransport(str(folder))
    with pytest.raises(OSError, match="TMPDIR"):
        transport.listen("server")
    transport.close()


def test_a_name_that_is_taken_is_refused(folders) -> None:
    folder = folders()
    first, second = ZmqTransport(folder), ZmqTransport(folder)
    first.listen("server")
    with pytest.raises(OSError, match="in use"):
        second.listen("server")
    first.close()
    second.listen("server")
    second.close()


def test_ports_are_taken_from_the_range(folders) -> None:
    folder = folders()
    with contextlib.ExitStack() as stack:
        taken = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        low = taken.getsockname()[1]
        options = ZmqOptions(scheme="tcp", ports=f"{low}-{min(low + 30, 65535)}")
        addresses = set()
        for _ in range(3):
            transport = ZmqTransport(folder, options)
            stack.callback(transport.close)
            addresses.add(int(transport.listen("x").rpartition(":")[2]))
        assert len(addresses) == 3
        assert addresses <= set(options.port_range) - {low}
        full = ZmqTransport(folder, ZmqOptions(scheme="tcp", ports=f"{low}-{low}"))
        stack.callback(full.close)
        with pytest.raises(OSError, match=f"each of the ports {low}-{low} is in use"):
            full.listen("x")


def test_what_is_of_one_machine_is_not_compared() -> None:
    plans = [
        resolve_plan(transport="zmq", options={"transport": {"scheme": "tcp", "host": host, "ports": ports}})
        for host, ports in (("127.0.0.1", ""), ("127.0.0.2", "41000-41010"))
    ]
    assert plans[0].digest == plans[1].digest
    plans = [
        resolve_plan(transport="routed", options={"transport": {"far_options": {"host": host, "ports": ports}}})
        for host, ports in (("127.0.0.1", ""), ("127.0.0.2", "41000-41010"))
    ]
    assert plans[0].digest == plans[1].digest
    assert plans[1].transport.inner["far"].options["ports"] == "41000-41010"
