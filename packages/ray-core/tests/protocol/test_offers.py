"""What a lender takes back for another home: held when it comes, for a moment, and never lost."""

from __future__ import annotations

from itertools import count

from ray.abc.scheduler import NodeView, ResourceRequest
from ray.builtin.schedulers import HybridPolicy
from ray.protocol.leases import Grant, Lease, LeaseTable, RevokeLease
from ray.protocol.offers import HOLD_S, OfferTable
from ray.protocol.other_nodes import NoOtherNodes
from ray.protocol.resources import UNIT, NodeResources

A, B = b"home-a..", b"home-b.."
ONE, TWO = ResourceRequest({"CPU": UNIT}), ResourceRequest({"CPU": 2 * UNIT})


class Others(NoOtherNodes):
    """The homes of the jobs, which have nothing."""

    nodes = {home: NodeView(home, {}, {}) for home in (A, B)}


class Lender:
    """A node all of whose workers are lent to one job."""

    def __init__(self, cpus: int = 4) -> None:
        numbers = count(1)
        self.table = LeaseTable(
            b"lender..", NodeResources({"CPU": cpus * UNIT}), HybridPolicy(), lambda: b"lease%d" % next(numbers)
        )
        for number in range(cpus):
            self.table.worker_ready(b"a%d" % number, "a")
            self.table.worker_ready(b"b%d" % number, "b")
        self.table.demand((A, 1), ONE, cpus, job="a", on_loan=True)
        self.offers = OfferTable(self.table)
        self.cpus = cpus

    @property
    def free(self) -> int:
        return self.table.resources.available()["CPU"] // UNIT

    def claims(self, amount: int = 1, request: ResourceRequest = ONE, *, has_none: bool = False) -> list[Lease]:
        effects = self.offers.claim(B, "b", request, amount, for_life=False, has_none=has_none)
        self.offers.validate()
        assert all(isinstance(effect, RevokeLease) and not effect.soft for effect in effects)
        return [effect.lease for effect in effects if isinstance(effect, RevokeLease)]

    def looks(self, now: float = 0.0) -> int:
        made = self.offers.look(now)
        self.offers.validate()
        return len(made)


def test_what_comes_is_held_for_the_home_that_has_claimed_it() -> None:
    lender = Lender()
    first, second = lender.claims(9)
    assert (lender.looks(), lender.free) == (0, 0), "their tasks run"
    lender.table.release(first.id)
    assert (lender.looks(), lender.free) == (1, 0), "others do not see it"
    assert lender.table.room_for(ONE, 1) == 0
    assert not lender.offers.take(A, "a", ONE.resources, 1, for_life=False)
    assert not lender.offers.take(B, "b", ONE.resources, 1, for_life=True)
    assert lender.offers.take(B, "b", ONE.resources, 1, for_life=False)
    assert lender.table.room_for(ONE, 9) == 1
    (grant,) = lender.table.demand((B, 7), ONE, 1, job="b", on_loan=True)
    assert isinstance(grant, Grant)
    lender.table.release(second.id)
    assert lender.looks() == 1


def test_it_is_free_for_all_after_a_moment() -> None:
    lender = Lender()
    (lease,) = lender.claims(1)
    lender.table.release(lease.id)
    lender.looks(1.0)
    assert not lender.offers.expire(1.0 + HOLD_S - 0.01)
    assert lender.offers.expire(1.0 + HOLD_S)
    assert (lender.free, lender.offers.offers) == (1, [])


def test_what_comes_already_is_not_claimed_twice() -> None:
    lender = Lender()
    (lease,) = lender.claims(1)
    assert lender.claims(1) == [], "as many are coming as are wanted"
    assert len(lender.claims(2)) == 1
    assert lender.claims(9) == [], "as many as the others have left"
    lender.table.release(lease.id)
    lender.looks()
    assert lender.claims(9) == []
    lender.offers.take(B, "b", ONE.resources, 1, for_life=False)
    lender.table.forget([worker for worker in lender.table.idle if worker.startswith(b"b")])
    lender.table.demand((B, 7), ONE, 1, job="b", on_loan=True)  # its worker starts
    assert lender.claims(9) == []


def test_all_that_one_worker_needs_is_held_until_it_is_there() -> None:
    lender = Lender()
    first, second = lender.claims(9, TWO)
    lender.table.release(first.id)
    assert (lender.looks(), lender.free) == (0, 0)
    lender.table.release(second.id)
    assert (lender.looks(), lender.free) == (1, 0)
    assert lender.offers.take(B, "b", TWO.resources, 1, for_life=False)
    assert lender.free == 2


def test_what_is_held_for_one_kind_of_work_is_not_taken_by_another_one_of_the_job() -> None:
    lender = Lender()
    first, second = lender.claims(9, TWO)
    lender.table.release(first.id)
    lender.table.release(second.id)
    assert lender.looks() == 1
    for wanted in (0, 2):
        assert not lender.offers.take(B, "b", ONE.resources, wanted, for_life=False)
    assert lender.free == 0
    assert lender.offers.take(B, "b", TWO.resources, 0, for_life=False)
    assert lender.free == 2


def test_nothing_is_waited_for_that_is_blocked() -> None:
    """Its processor is free, and it may take long."""
    lender = Lender()
    (lease,) = lender.claims(1)
    lender.table.blocked(lease.worker)
    assert lender.claims(1) == [], "there is room"
    lender.table.worker_ready(b"a9", "a")
    lender.table.demand((A, 2), ONE, 1, job="a", on_loan=True)
    assert len(lender.claims(1)) == 1, "another one is asked for"
    lender.looks()
    assert (len(lender.offers.offers), lender.free) == (1, 0)


def test_parts_are_free_again_where_the_rest_is_blocked() -> None:
    lender = Lender()
    first, second = lender.claims(9, TWO)
    lender.table.release(first.id)
    lender.looks()
    lender.table.blocked(second.worker)
    lender.looks()
    assert (lender.offers.offers, lender.free) == ([], 2)


def test_others_may_have_had_it_first() -> None:
    """A worker that was blocked takes its processor back."""
    lender = Lender()
    blocked = next(iter(lender.table.leases.values()))
    lender.table.blocked(blocked.worker)
    lender.table.demand((A, 2), ONE, 1, job="b", on_loan=True)
    (lease,) = lender.claims(2)
    lender.table.release(lease.id)
    lender.table.resumed(blocked.worker)
    assert (lender.looks(), lender.offers.offers, lender.free) == (0, [], 0)


def test_what_a_worker_that_starts_will_hold_is_not_there_to_hand_on() -> None:
    """What was taken back beside it would come back for nothing: both together are what is wanted."""
    lender = Lender(5)
    lender.table.others = Others()
    *_, last = lender.table.leases.values()
    lender.table.release(last.id, retired=True)
    lender.table.forget([worker for worker in lender.table.idle if worker.startswith(b"a")])
    lender.table.demand((A, 2), ONE, 1, job="a", on_loan=True)  # its worker starts
    assert lender.free == 1
    leases = lender.claims(1, TWO)
    lender.table.worker_ready(b"a9", "a")
    for lease in leases:
        lender.table.release(lease.id)
    assert (len(leases), lender.looks()) == (2, 1)


def test_owners_of_the_node_come_first() -> None:
    lender = Lender()
    lender.table.demand((b"lendown.", 1), ONE, 1, job="own")
    assert lender.claims(9) == []


def test_one_processor_goes_to_a_job_that_has_nothing() -> None:
    lender = Lender(1)
    assert lender.claims(1) == []
    (lease,) = lender.claims(1, has_none=True)
    assert lender.claims(9, has_none=True) == []
    lender.table.release(lease.id)
    assert lender.looks() == 1
