"""What a node manager answers of the cluster: in one order, and nothing that it does not know."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec

from ray.abc.scheduler import NodeView
from ray.messages import node
from ray.runtime.node.questions import Questions


def row(number: int, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": f"{number:08x}", "Alive": alive}


class World:
    """A node manager that is asked; its node has the number 3."""

    def __init__(self) -> None:
        self.rows = [row(2), row(9), row(1, alive=False), row(0, alive=False)]
        self.head = "00000009"
        self.views: tuple[NodeView, ...] = ()
        elsewhere: Any = SimpleNamespace(
            rows=lambda: self.rows, director=lambda: (self.head, True), views=lambda: self.views
        )
        self.answers: list[node.Answer] = []
        self.asker: Any = SimpleNamespace(send=self.answers.append)
        actors: Any = SimpleNamespace(find_named=None, describe=None)
        nothing: Any = SimpleNamespace()
        self.questions = Questions(
            nothing, actors, nothing, {}, nothing, lambda: row(3), lambda: elsewhere, lambda: nothing
        )

    def ask(self, what: str) -> Any:
        self.questions.handlers()[node.Question](self.asker, node.Question(1, what), ())
        return msgspec.msgpack.decode(self.answers.pop().data)


def test_nodes_are_in_one_order_whoever_is_asked() -> None:
    """The head, the others as they have joined, those that have ended."""
    world = World()
    numbers = ["00000009", "00000002", "00000003", "00000000", "00000001"]
    assert [each["NodeID"] for each in world.ask("nodes")] == numbers
    world.rows.reverse()
    assert [each["NodeID"] for each in world.ask("nodes")] == numbers
    world.head = ""
    assert [each["NodeID"] for each in world.ask("nodes")][:3] == ["00000002", "00000003", "00000009"]


def test_what_nodes_have_that_say_nothing_of_it() -> None:
    world = World()
    heard = NodeView(b"2", {"CPU": 4}, {"CPU": 0}, is_local=False)
    silent = [NodeView(bytes([number]), {"CPU": 2, "disk": 1}, {}, is_local=False) for number in (5, 6)]
    world.views = (heard, *silent)
    assert world.ask("unheard") == {"CPU": 4, "disk": 2}
    world.views = (heard,)
    assert world.ask("unheard") == {}
