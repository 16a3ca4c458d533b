"""What a lender takes from one job for another: how much, from whom, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from ray.abc.scheduler import ResourceRequest
from ray.protocol.resources import UNIT
from ray.protocol.sharing import Claim, to_hand_on


@dataclass(eq=False)
class Held:
    """A lease, as far as it matters here."""

    job: str
    request: ResourceRequest
    key: tuple[bytes, int] = (b"home", 1)
    for_life: bool = False
    on_loan: bool = True
    revoked: bool = False
    blocked: bool = False


def needs(cpus: float = 1, depth: int = 0, **more: float) -> ResourceRequest:
    amounts = {"CPU": cpus, **more}
    return ResourceRequest({name: round(amount * UNIT) for name, amount in amounts.items() if amount}, depth)


def held(job: str, count: int, request: ResourceRequest | None = None, **more: Any) -> list[Held]:
    return [Held(job, request or needs(), **more) for _ in range(count)]


def taken(leases: list[Held], count: int = 9, request: ResourceRequest | None = None, **more: Any) -> str:
    """The jobs that give, in order; those that give together for one worker side by side."""
    free = more.pop("free", {"CPU": 0})
    groups = to_hand_on(Claim("b", request or needs(), count, **more), leases, free)
    return " ".join("".join(lease.job for lease in group) for group in groups)


@pytest.mark.parametrize(
    ("of_a", "of_b", "of_c", "found"),
    [
        (1, 0, 0, ""),  # it has one more, which is as even as it gets
        (2, 0, 0, "a"),
        (3, 0, 0, "a"),
        (3, 1, 0, "a"),
        (2, 1, 0, ""),
        (8, 0, 0, "a a a a"),
        (4, 0, 6, "c c a"),
        (1, 0, 1, ""),
    ],
)
def test_jobs_come_as_near_to_each_other_as_they_can(of_a: int, of_b: int, of_c: int, found: str) -> None:
    assert taken([*held("a", of_a), *held("b", of_b), *held("c", of_c)]) == found


@pytest.mark.parametrize("size", range(1, 12))
def test_nothing_goes_back(size: int) -> None:
    """Whoever claims after that, each for all that it could use, gets nothing more."""
    leases = held("a", size)
    for job in "bcabc":
        for (lease,) in to_hand_on(Claim(job, needs(), 99), leases, {"CPU": 0}):
            lease.job = job
    counts = [sum(lease.job == job for lease in leases) for job in "abc"]
    assert max(counts) - min(counts) <= 1
    assert all(to_hand_on(Claim(job, needs(), 99), leases, {"CPU": 0}) == [] for job in "abc")


def test_no_more_is_taken_than_is_wanted() -> None:
    assert taken(held("a", 8), 2) == "a a"
    assert taken(held("a", 8), 0) == ""
    assert taken(held("a", 8), coming=3) == "a a"  # five against three, then
    assert taken(held("a", 8), coming=5) == "a"
    assert taken(held("a", 8), coming=7) == ""


def test_a_job_with_nothing_anywhere_gets_one_where_others_have_one() -> None:
    assert taken(held("a", 1), has_none=True) == "a"
    assert taken([*held("a", 1), *held("c", 1)], has_none=True) == "a", "and one alone"
    assert taken([*held("a", 1), *held("b", 1, for_life=True)], has_none=True) == "a", "for tasks"
    assert taken([*held("a", 1), *held("b", 1)], has_none=True) == ""


def test_actors_get_what_tasks_have() -> None:
    assert taken([*held("a", 3), *held("b", 1)], 3, for_life=True) == "b a a", "those of their own job first"
    assert taken(held("a", 1), for_life=True) == "a", "and all that there is"
    assert taken(held("a", 2, for_life=True), 2, for_life=True) == ""


def test_actors_count() -> None:
    assert taken([*held("a", 2), *held("b", 1, for_life=True)]) == ""
    assert taken([*held("a", 3), *held("b", 1, for_life=True)]) == "a"
    assert taken([*held("a", 2), *held("a", 3, for_life=True), *held("b", 2)]) == "a"
    assert taken([*held("a", 1), *held("a", 3, for_life=True), *held("c", 2)]) == "a"


@pytest.mark.parametrize("kept", ["on_loan", "for_life", "revoked", "blocked"])
def test_what_is_not_taken(kept: str) -> None:
    """What is not on loan is not to spare; actors stay; the processor of a blocked worker is free already."""
    assert taken(held("a", 4, **{kept: kept != "on_loan"})) == ""


def test_deeper_tasks_keep_theirs() -> None:
    deeper = held("a", 4, needs(depth=1))
    assert taken(deeper) == ""
    assert taken(deeper, request=needs(depth=1)) == "a a"


def test_only_what_helps_is_taken() -> None:
    leases = [*held("a", 4, needs(0, disk=1)), *held("c", 2)]
    assert taken(leases) == "c"
    assert taken(leases, request=needs(disk=1), free={"CPU": UNIT, "disk": 0}) == "a"
    assert taken(held("a", 4), free={"CPU": UNIT}) == "", "there is room"


def test_several_give_for_one_that_needs_more() -> None:
    assert taken(held("a", 4), request=needs(2)) == "aa"
    assert taken(held("a", 4), 1, request=needs(2), free={"CPU": UNIT}) == "a"
    assert taken(held("a", 2), request=needs(2)) == "", "it would have none then"
    assert taken(held("a", 2), request=needs(2), has_none=True) == "aa"
    assert taken(held("a", 3), request=needs(4), has_none=True) == "", "that is not enough"
    assert taken([*held("b", 1), *held("a", 3)], request=needs(2), for_life=True) == "aa"
    assert taken([*held("a", 3), *held("c", 2, needs(2))], 1, request=needs(4), has_none=True) == "cc"


def test_what_needs_nothing_shares_what_needs_nothing() -> None:
    assert taken([*held("a", 3, needs(0)), *held("c", 4)], request=needs(0)) == "a"
