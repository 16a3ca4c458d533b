"""What the home of a process knows of actors that other nodes keep, where what was said between the two is lost."""

from __future__ import annotations

from typing import Any

from tests.directors import HOME, HOST, Link, Members, Processes

from ray.messages import node
from ray.protocol.actor_entries import ALIVE
from ray.runtime.cluster.watching import ActorWatching

ACTOR = HOST + bytes(12)


class Asker(Link):
    """A process of this node."""

    kind, job = "worker", "job"


def test_an_actor_outlives_what_was_said_with_its_keeper() -> None:
    """It is asked for once more, and so is what was ordered."""
    keeper, asker, processes = Link(HOST), Asker(HOME), Processes()
    members: Any = Members(keeper)
    watching = ActorWatching(members, processes, lambda: b"dirx")  # type: ignore[arg-type]
    watching.watch(asker, node.WatchActor(ACTOR))
    watching.kill(asker, node.KillActor(7, ACTOR, False, "killed"))
    asked, keeper.sent = keeper.sent, []
    member: Any = keeper
    watching.ask_again(member)
    assert keeper.sent == asked == [node.WatchActor(ACTOR), node.KillActor(1, ACTOR, False, "killed")]
    assert asker.sent == processes.told == []
    watching.updated(member, node.ActorUpdate(ACTOR, ALIVE, 1))
    watching.answered(node.Answer(1, True))
    watching.answered(node.Answer(1, True))  # of what was asked before
    assert [message for _, message in processes.told] == [node.ActorUpdate(ACTOR, ALIVE, 1), node.Answer(7, True)]


def test_what_is_wanted_of_a_node_that_is_about_to_be_there_again_waits_for_it() -> None:
    keeper, asker, processes = Link(HOST), Asker(HOME), Processes()
    members: Any = Members(keeper)
    members.send = lambda number, message: False
    watching = ActorWatching(members, processes, lambda: b"dirx")  # type: ignore[arg-type]
    watching.watch(asker, node.WatchActor(ACTOR))
    watching.kill(asker, node.KillActor(7, ACTOR, False, "killed"))
    assert asker.sent == processes.told == []
    member: Any = keeper
    watching.ask_again(member)
    assert [type(message) for message in keeper.sent] == [node.WatchActor, node.KillActor]
