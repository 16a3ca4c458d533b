"""Sends over unix sockets that Ctrl-C ends at any point, and what other threads send afterwards."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

import pytest

import ray.builtin
from ray.builtin.unix_transport import UnixTransport
from ray.testing.contracts._expect import eventually
from ray.testing.contracts._link import Reader
from ray.testing.interruption import interrupted

_CODE = os.path.dirname(ray.builtin.__file__) + os.sep
#: More than a socket takes at a time.
_LARGE = b"x" * 400_000


@pytest.fixture
def make(tmp_path) -> Iterator[Callable[[], UnixTransport]]:
    made: list[UnixTransport] = []

    def make_one() -> UnixTransport:
        made.append(UnixTransport(str(tmp_path)))
        return made[-1]

    yield make_one
    for transport in made:
        transport.close()


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("body", [b"small", _LARGE], ids=["small", "large"])
def test_ctrl_c_in_a_send_holds_up_nobody(make, body) -> None:
    server, client = make(), make()
    with Reader(server) as at_server, Reader(client):
        out = client.connect(server.listen("server"))
        out.send([b"hello"])
        at_server.wait(1, "it arrives")
        point, ended = 1, list[bool]()

        def send() -> None:
            with contextlib.suppress(KeyboardInterrupt):
                interrupted(lambda: out.send([b"first", body]), point, interrupt, lambda path: path.startswith(_CODE))
                ended.append(True)

        while not ended:
            at_server.events.clear()
            # Where a tracer raises in an ``except`` block, Python 3.11 keeps the thread's exception for ever.
            for target in (send, lambda: out.send([b"other", _LARGE])):
                thread = threading.Thread(target=target)
                thread.start()
                thread.join(10)
            at_server.wait(1, "something arrives")
            while [b"other", _LARGE] not in at_server.messages():
                at_server.wait(len(at_server.messages()) + 1, f"what another thread sends arrives (point {point})")
            assert at_server.messages() in ([[b"first", body], [b"other", _LARGE]], [[b"other", _LARGE]]), point
            point += 1
        assert point > 20
        # The last bytes may arrive before the thread that has sent them has noted so.
        eventually(lambda: out.queued_bytes == 0, "what was sent is not queued any more")
