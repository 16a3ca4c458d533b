"""Dials over TCP to where no packet is answered, and what ZeroMQ tells of attempts that were given up."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from ray.testing.contracts._checks_transport_dialling import BLACK_HOLES
from ray.testing.contracts._expect import eventually
from ray.testing.contracts._link import Reader, TransportSubject
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.transport import ZmqTransport


@contextlib.contextmanager
def full_port() -> Iterator[str]:
    """A listener whose queue is full, so that the system answers no client that connects."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("check", BLACK_HOLES, ids=lambda check: check.__name__)
def test_where_no_packet_is_answered(folders, check):
    folder, made = folders(), []

    def make():
        made.append(ZmqTransport(folder, ZmqOptions(scheme="tcp")))
        return made[-1]

    check(TransportSubject(make, full_port))
    for transport in made:
        transport.close()


def test_what_is_looked_for_while_it_is_dialled(folders):
    folder = folders()
    server, client = ZmqTransport(folder), ZmqTransport(folder)
    address = server.listen("server")
    with Reader(server) as at_server, Reader(client) as at_client:
        sent, found = client.dial_later("that one")
        sent.send([b"first"])
        for number in range(50):
            sent.send([b"%d" % number])
        nobody, lost = client.dial_later("somebody", timeout_s=0.2)
        left, late = client.dial_later("another one")
        left.send([b"never"])
        left.abort()
        time.sleep(0.3)  # longer than the dial may take once its address is known
        assert sent.dialling
        assert nobody.dialling
        lost("", "it has ended")
        eventually(at_client.ends, "what is not found is reported")
        assert str(nobody.failure) == "cannot connect to somebody: it has ended"
        late(address, "")
        found(address, "")
        seen = at_server.wait(51, "what was sent meanwhile goes out, in order")
        assert [frames[0] for frames in seen] == [b"first", *(b"%d" % number for number in range(50))]
        unreached, there = client.dial_later("a third one", timeout_s=0.2)
        there(f"{address}.not", "")
        eventually(lambda: unreached.closed, "one that does not listen where it should is reported")
        assert f"cannot connect to a third one at {address}.not: " in str(unreached.failure)
    _closing, too_late = client.dial_later("a fourth one")
    client.close()
    too_late(address, "")
    server.close()


def test_a_dial_that_was_given_up_does_not_pass_for_the_next_one(folders):
    """ZeroMQ tells of attempts by address only."""
    folder = folders()
    server, client = ZmqTransport(folder), ZmqTransport(folder)
    address = server.listen("server")
    with Reader(server) as at_server, Reader(client):
        standing = client.dial(address)
        standing.send([b"standing"])
        for number in range(20):
            client.dial(address).abort()
            out = client.dial(address)
            out.send([b"%d" % number])
            at_server.wait(2 + number, "what is dialled next stands")
            assert not out.closed
        assert sorted(at_server.messages()) == sorted([[b"standing"], *([b"%d" % number] for number in range(20))])
        standing.send([b"again"])
        at_server.wait(22, "others are left alone")
        monitor = client._connector.monitor
        eventually(lambda: not monitor.pending, "nothing is left on record")
        assert not client._connector.dials.open
        assert client._connector.dials.users == {address: 21}
    for transport in (client, server):
        transport.close()


def test_who_waits_for_another_dial_to_the_same_address_has_a_time_of_its_own(folders):
    path = f"{folders()}/mute.sock"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(path)
        mute.listen()
        client = ZmqTransport(folders())
        with Reader(client) as at_client:
            first, second = client.dial(f"ipc://{path}", 2.0), client.dial(f"ipc://{path}", 0.2)
            eventually(at_client.ends, "the second one fails")
            assert at_client.ends() == [second]
            assert first.dialling
            assert "no answer within 0.2 s" in str(second.failure)
        client.close()
        assert not first.dialling
