"""What a lender says of itself, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ray.messages import cluster
from ray.runtime.cluster.lending import LeaseLending

FREE = {"CPU": 20_000}


class Home:
    def __init__(self, id: bytes) -> None:
        self.id = id
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def loads(self) -> list[dict[str, int]]:
        """What it was told since it was asked last."""
        sent, self.sent = self.sent, []
        return [message.free for message in sent if isinstance(message, cluster.Load)]


class Leases:
    """Of a node that has no room for others, at first."""

    def __init__(self) -> None:
        self.room = 0
        self.demands: dict[Any, Any] = {}
        self.resources = self
        self.free = dict(FREE)

    def available(self) -> dict[str, int]:
        return self.free

    def room_for(self, request: Any, count: int) -> int:
        return min(count, self.room)

    def demand(self, *what: Any, **more: Any) -> list[Any]:
        return []


class Serving:
    def serves(self, job: str) -> bool:
        return True


class Timers:
    """All that is to happen happens when the test says so."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.due.append(callback)

    def run(self) -> None:
        due, self.due = self.due, []
        for callback in due:
            callback()


@pytest.fixture
def homes() -> list[Home]:
    return [Home(b"a"), Home(b"b")]


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def lending(homes: list[Home], timers: Timers, leases: Leases) -> LeaseLending:
    return LeaseLending(leases, Serving(), timers, lambda: homes, lambda effects: None)  # type: ignore[arg-type]


def test_an_idle_node_says_nothing_again(lending: LeaseLending, homes: list[Home], timers: Timers) -> None:
    lending.greet()
    timers.run()
    assert [home.loads() for home in homes] == [[FREE], [FREE]]
    for _ in range(3):
        lending.changed()
        timers.run()
    assert [home.sent for home in homes] == [[], []]


def test_a_change_is_said_to_all(lending: LeaseLending, homes: list[Home], timers: Timers, leases: Leases) -> None:
    lending.greet()
    timers.run()
    leases.free = {"CPU": 10_000}
    lending.changed()
    timers.run()
    assert [home.loads() for home in homes] == 2 * [[FREE, {"CPU": 10_000}]]


def test_who_was_told_something_else_hears_of_the_change_back(
    lending: LeaseLending, homes: list[Home], timers: Timers, leases: Leases
) -> None:
    lending.greet()
    timers.run()
    leases.room, leases.free = 1, {"CPU": 10_000}
    lending.borrow(homes[0], cluster.Borrow(1, {"CPU": 10_000}, 1, "00000001", 0, 0, "f", False))
    timers.run()  # before anybody has looked for changes
    assert [home.loads() for home in homes] == [[FREE, {"CPU": 10_000}], [FREE]]
    leases.free = dict(FREE)
    lending.changed()
    timers.run()
    assert homes[0].loads()[-1] == FREE


def test_a_home_that_was_refused_is_told_until_it_is_served(
    lending: LeaseLending, homes: list[Home], timers: Timers, leases: Leases
) -> None:
    """It asks again when it hears that there is room, and may have to wait for longer than one such time."""
    borrow = cluster.Borrow(1, {"CPU": 10_000}, 2, "00000001", 0, 0, "f", False)
    lending.borrow(homes[0], borrow)
    assert homes[0].sent == [cluster.Refuse(1, 2)]
    for _ in range(3):
        timers.run()
        assert [home.loads() for home in homes] == [[FREE], []]
    leases.room = 2
    lending.borrow(homes[0], msgspec.structs.replace(borrow, number=2))
    timers.run()
    assert [home.loads() for home in homes] == [[FREE], []]
    timers.run()
    assert [home.sent for home in homes] == [[], []]


def test_a_home_that_has_gone_is_not_told(lending: LeaseLending, homes: list[Home], timers: Timers) -> None:
    lending.borrow(homes[1], cluster.Borrow(1, {"CPU": 10_000}, 2, "00000001", 0, 0, "f", False))
    gone = homes.pop()
    timers.run()
    homes.append(gone)
    timers.run()
    assert gone.loads() == []
