"""Connections to object managers of other nodes, which nobody uses for a while."""

from __future__ import annotations

from typing import Any

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
