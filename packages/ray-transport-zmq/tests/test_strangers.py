"""Processes of other users, on the sockets of this machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ray.testing.contracts._link import Reader
from ray_transport_zmq.options import ZmqOptions
from ray_transport_zmq.transport import ZmqTransport

#: ``python -c STRANGER uid address``: sends a message as that user, and prints whether the connection ends
#: before the server has said anything.
STRANGER = """
import contextlib, os, sys
import zmq
os.setuid(int(sys.argv[1]))
with zmq.Context() as context, context.socket(zmq.DEALER) as client:
    client.set(zmq.LINGER, 0)
    client.set(zmq.RECONNECT_IVL, -1)
    with client.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
        client.connect(sys.argv[2])
        with contextlib.suppress(zmq.Again):  # turned away already
            client.send(b"\\0canary", zmq.NOBLOCK)
        poller = zmq.Poller()
        for each in (client, monitor):
            poller.register(each, zmq.POLLIN)
        print([each is monitor for each, _ in poller.poll(5000)], flush=True)
        client.disable_monitor()
"""

OTHER_UID = 65534


@pytest.fixture
def open_door(folders):
    """A polled transport whose socket every user of the machine can reach."""
    folder = folders()
    transport = ZmqTransport(folder, ZmqOptions())
    address = transport.listen("server")
    path = address.removeprefix("ipc://")
    os.chmod(os.path.dirname(folder), 0o711)
    os.chmod(folder, 0o711)
    os.chmod(path, 0o666)
    with Reader(transport) as reader:
        yield address, reader
    transport.close()


def send_as(uid: int, address: str) -> bool:
    """Whether the server ended the connection."""
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, str(uid), address], capture_output=True, text=True, timeout=30, check=True
    )
    return {"[True]": True, "[False]": False}[done.stdout.strip()]


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root can be somebody else")
def test_another_user_is_not_let_in(open_door):
    address, reader = open_door
    assert send_as(OTHER_UID, address)
    assert reader.events == []


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root can be somebody else")
def test_the_same_user_is_heard(open_door):
    """So the refusal above is that of the user."""
    address, reader = open_door
    assert not send_as(os.geteuid(), address)
    assert reader.wait(1, "it arrives") == [[b"canary"]]
