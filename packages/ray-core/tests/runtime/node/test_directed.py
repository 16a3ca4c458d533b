"""A node as a home of actors that the director keeps: what it orders for its processes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.directors import HOME, HOST, OTHER, Link, Members, Processes, spec

from ray.exceptions import RemoteProtocolError
from ray.messages import cluster, node
from ray.protocol.actor_entries import DEAD
from ray.runtime.cluster.watching import ActorWatching
from ray.runtime.node.directed import Directed


class Orders:
    def __init__(self) -> None:
        self.given: list[tuple[str, Any]] = []
        self.answers: list[Any] = []

    def give(self, job: str, message: Any, on_answer: Any = None, undo: Any = None) -> None:
        self.given.append((job, message))
        self.answers.append(on_answer)


class Creator(Link):
    kind, job = "worker", "job"


class Home:
    def __init__(self) -> None:
        self.orders, self.processes, self.creator = Orders(), Processes(), Creator(HOME)
        director = Link(HOST)
        self.watching = ActorWatching(Members(director), self.processes, lambda: HOST)  # type: ignore[arg-type]
        self.directed = Directed(self.orders, self.watching, None, None, None)  # type: ignore[arg-type]

    def says(self, message: Any, client: Link | None = None) -> bool:
        return self.directed.pass_on(client or self.creator, message)  # type: ignore[arg-type]


def test_what_ends_with_a_job_does_not_make_it_known_to_the_director_again() -> None:
    """Workers end after the director was told that the job is over, and nobody would tell it so once more."""
    home, made = Home(), spec()
    for message in (node.CreateActor(1, made), node.ActorUnheld(made.id), node.KillActor(1, made.id, True, "killed")):
        assert home.says(message)
    home.directed.process_lost(home.creator)  # type: ignore[arg-type]
    assert [job for job, _ in home.orders.given] == ["job", "", "", ""]
    assert home.orders.given[-1][1] == cluster.ProcessGone(home.creator.id)


def test_what_the_director_would_refuse_costs_its_sender_alone() -> None:
    home = Home()
    with pytest.raises(RemoteProtocolError, match="needs"):
        home.says(node.CreateActor(1, spec(resources={"CPU": 2})))
    assert home.orders.given == []


@pytest.mark.parametrize("number", [0, 1])
def test_all_that_wait_for_an_actor_hear_that_it_is_not_made(number: int) -> None:
    """Also those that its creator has given it to: the director was to tell of it by itself, and was not asked."""
    home, made, other = Home(), spec(), Creator(OTHER)
    assert home.says(node.CreateActor(number, made))
    assert home.says(node.WatchActor(made.id), other)
    home.orders.answers[0](cluster.Ordered(1, False, "no store", True))
    update = node.ActorUpdate(made.id, DEAD, 0, cause=node.ExitCause(reason="no store", unplaced=True))
    assert home.processes.told == [(other.id, update)]
    assert home.creator.sent == [node.Answer(1, False, error="no store", unavailable=True) if number else update]
    assert home.watching._watchers == {}
