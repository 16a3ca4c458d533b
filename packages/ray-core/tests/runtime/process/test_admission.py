"""What a process says of itself when it comes to its node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ray.builtin.inproc_transport import InprocTransport
from ray.messages import codec, wire
from ray.runtime.process.admission import knock


class Routed(InprocTransport):
    """Has another address for processes of other nodes, or cannot listen for these."""

    error: OSError | None = None

    def listen_far(self, address: str) -> str:
        if self.error is not None:
            raise self.error
        return f"{address}|far"


@pytest.fixture
def node() -> Iterator[InprocTransport]:
    transport = InprocTransport()
    yield transport
    transport.close()


@pytest.fixture
def worker() -> Iterator[Routed]:
    transport = Routed()
    yield transport
    transport.close()


def told(worker: Routed, node: InprocTransport, *, is_lent: bool) -> str:
    """The address that the node manager is told, which is that by which the process knows itself."""
    make = lambda address: wire.Hello(1, "s", "worker", b"w", address, 1)  # noqa: E731
    own, _ = knock(worker, "w", node.listen("node"), make, is_lent=is_lent)
    ((_, frames),) = node.poll(5.0)
    assert frames is not None
    assert codec.decode(frames).address == own
    return own


def test_a_worker_says_where_other_nodes_reach_it_if_these_are_going_to_dial_it(worker, node):
    assert told(worker, node, is_lent=True).endswith("|far")


def test_others_do_not_listen_for_other_nodes(worker, node):
    assert not told(worker, node, is_lent=False).endswith("|far")


def test_a_worker_that_cannot_listen_for_other_nodes_comes_nevertheless(worker, node):
    worker.error = OSError("each of the ports is in use")
    assert not told(worker, node, is_lent=True).endswith("|far")
