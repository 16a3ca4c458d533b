"""Random lives of node managers that lend each other workers: what is broken in a rule is found."""

from __future__ import annotations

from typing import Any

import pytest
from tests.quick import later

from ray.messages import cluster
from ray.protocol.offers import OfferTable
from ray.runtime.cluster.borrowing import LeaseBorrowing
from ray.runtime.cluster.lending import LeaseLending
from ray.testing import lending_lives


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_lives(first: int) -> None:
    for seed in range(first, first + 25):
        lending_lives.live(seed)


def names_nothing_unknown(self: LeaseLending, home: Any, message: cluster.LeasesHeld) -> None: ...


def believes_in_all(self: LeaseBorrowing, member: Any, message: cluster.LeasesLent) -> None:
    member.send(cluster.LeasesHeld([id for id in message.leases if id in self._table.lent], message.number))


def shares_nothing(self: OfferTable, *what: Any, **more: Any) -> list[Any]:
    return []


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [
        (LeaseLending, "compare", names_nothing_unknown),
        later(LeaseBorrowing, "compare", believes_in_all),
        (OfferTable, "claim", shares_nothing),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_rule_is_found(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, broken: Any) -> None:
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(AssertionError):
        all(lending_lives.live(seed) for seed in range(300))
