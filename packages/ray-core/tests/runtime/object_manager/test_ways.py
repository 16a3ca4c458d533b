"""Connections to object managers of other nodes, which nobody uses for a while."""

from __future__ import annotations

from typing import Any

import pytest

from ray.runtime.object_manager import ways as module
from ray.runtime.object_manager.orders import Way
from ray.runtime.object_manager.ways import Ways

NODE = b"node"


class Line:
    closed = False

    def close(self) -> None:
        self.closed = True


def test_what_leads_to_a_dead_node_is_closed() -> None:
    ways, unused, used = Ways(lambda node: None), Line(), Line()
    lines: Any = (unused, used)
    ways.give(NODE, lines[0])
    ways.node_gone(NODE)
    assert unused.closed
    ways.give(NODE, lines[1])
    assert used.closed
    assert ways.idle(NODE) is None


def test_a_ticket_that_comes_too_late_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TICKET_S", 0.01)
    ways = Ways(lambda node: None)
    with pytest.raises(ConnectionError, match="no ticket"):
        ways.ask(NODE)
    ways.found(Way(NODE, id=b"old"))
    with pytest.raises(ConnectionError, match="no ticket"):
        ways.ask(NODE)


def test_no_more_tickets_are_kept_than_threads_wait_for() -> None:
    asked: list[bytes] = []

    def answer(node: bytes) -> None:
        for number in range(3):
            ways.found(Way(node, id=bytes([number])))
        asked.append(node)

    ways = Ways(answer)
    assert ways.ask(NODE).id == b"\0"
    assert ways.ask(NODE).id == b"\0"
    assert asked == [NODE, NODE]
