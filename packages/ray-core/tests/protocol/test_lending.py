"""What one node asks of others: every event by itself, then random lives of a home and its lenders."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

import pytest

from ray.abc.scheduler import NodeView, ResourceRequest
from ray.builtin.schedulers import HybridPolicy, SpreadPolicy
from ray.ids import make_lease_ids, node_of
from ray.messages.cluster import Offer
from ray.messages.placement import LabelRule, Placement
from ray.protocol.leases import Grant, LeaseTable
from ray.protocol.lending import HEAD_START_S, KEEP_S, MOST_FREE, MOST_LOANS, PATIENCE_S, LendingTable, Wish
from ray.protocol.resources import UNIT, NodeResources
from ray.protocol.shortages import AGAIN_S, CLAIM_S
from ray.protocol.waiting import DemandEntry

ONE = ResourceRequest({"CPU": UNIT})
HOME, A, B = b"\0\0\0\1", b"\0\0\0\2", b"\0\0\0\3"
OWNER = HOME + b"ownr"


def table(**free: float) -> LendingTable:
    made = LendingTable(HybridPolicy())
    for node in (A, B):
        made.node_up(node, {"CPU": 4 * UNIT, "disk": UNIT}, {})
    for name, amount in free.items():
        made.node_free({"a": A, "b": B}[name], {"CPU": round(amount * UNIT)})
    return made


def wish(amount: int = 1, request: ResourceRequest = ONE, key: int = 1, **more: Any) -> Wish:
    return Wish((OWNER, key), request, amount, "1", "f", **more)


def test_nothing_is_asked_of_nodes_that_have_said_nothing_or_have_no_room() -> None:
    made = table()
    assert made.look([wish()], 0.0) == []
    made.node_free(A, {"CPU": UNIT // 2})
    assert made.look([wish()], 0.0) == []
    made.validate()


def test_as_many_are_asked_for_as_there_is_room() -> None:
    made = table(a=3, b=4)
    loans = made.look([wish(20)], 0.0)
    assert {(loan.node, loan.left) for loan in loans} == {(A, 3), (B, 4)}
    assert made.look([wish(20)], 0.0) == []
    made.node_free(A, {"CPU": 4 * UNIT})
    assert [(loan.node, loan.left) for loan in made.look([wish(20)], 0.0)] == [(A, 4)]
    made.validate()


def test_what_was_asked_for_is_not_asked_for_again() -> None:
    made = table(a=4)
    assert [loan.left for loan in made.look([wish(2)], 0.0)] == [2]
    assert made.look([wish(2)], 0.0) == []
    assert [loan.left for loan in made.look([wish(3)], 0.0)] == [1]


def test_a_grant_is_for_the_owner_that_waits() -> None:
    made = table(a=1)
    (loan,) = made.look([wish()], 0.0)
    lease = make_lease_ids(A)()
    assert made.granted(loan.number, make_lease_ids(B)()) is None, "it is not of the node that was asked"
    assert made.granted(loan.number, lease) == (OWNER, 1)
    assert (made.loans, made.lent[lease].node) == ({}, A)
    assert made.granted(loan.number, make_lease_ids(A)()) is None, "more than was asked for goes back"
    assert made.nodes[A].leased == 1
    ended = made.ended(lease)
    assert ended is not None
    assert ended.key == (OWNER, 1)
    assert made.nodes[A].leased == 0
    assert made.ended(lease) is None


def test_where_no_node_has_room_those_that_could_have_it_are_asked_to_share() -> None:
    made = table(a=0, b=0)
    assert made.look([wish(3)], 1.0) == []
    assert made.look([wish(3)], 1.0 + CLAIM_S / 2) == []
    loans = made.look([wish(3)], 1.0 + CLAIM_S)
    assert [(loan.node, loan.left, loan.claims, loan.has_none) for loan in loans] == [
        (A, 2, True, True),
        (B, 2, True, True),
    ]
    assert made.asked((OWNER, 1)) == 0, "it is not counted on"
    made.validate()
    for loan in loans:
        made.refused(loan.number, loan.left)
    assert made.loans == {}
    assert made.nodes[A].available == {"CPU": 0}, "that is known already"
    assert made.look([wish(3)], 1.0 + CLAIM_S) == []
    assert len(made.look([wish(3)], 1.0 + CLAIM_S + AGAIN_S)) == 2


def test_what_waits_for_room_does_not_claim() -> None:
    """It was asked for, or its own node has room, or the node that it prefers may have it soon, or none ever has."""
    made = table(a=1, b=0)
    for more in (
        {"amount": 1},
        {"elsewhere": True},
        {"prefer": B, "starts": True},
        {"request": ResourceRequest({"x": 1})},
    ):
        asked = [made.look([wish(**more)], now) for now in (1.0, 1.0 + CLAIM_S)]  # type: ignore[arg-type]
        assert not any(loan.claims for loans in asked for loan in loans), more


def test_a_job_with_any_worker_for_tasks_does_not_say_that_it_has_none() -> None:
    made = table(a=1, b=0)
    (loan,) = made.look([wish(for_life=True)], 0.0)
    made.granted(loan.number, make_lease_ids(A)())
    made.look([wish()], 1.0)
    assert [loan.has_none for loan in made.look([wish()], 1.0 + CLAIM_S)] == [True], "that is an actor's"
    made = table(a=1, b=0)
    (loan,) = made.look([wish()], 0.0)
    made.granted(loan.number, make_lease_ids(A)())
    for more in ({}, {"served": True}):
        made.look([wish(key=2, **more)], 1.0)
        assert [loan.has_none for loan in made.look([wish(key=2, **more)], 1.0 + CLAIM_S)] == [False]
        made.look([], 1.5)


def test_an_offer_is_for_who_waits_for_just_that() -> None:
    made = table(a=0, b=0)
    others = [wish(key=1, request=ResourceRequest({"CPU": 2 * UNIT})), wish(key=2, for_life=True)]
    offer = Offer("1", {"CPU": UNIT})
    assert made.offered(A, offer, others, 0.0) is None
    loan = made.offered(A, offer, [*others, wish(3, key=3)], 0.0)
    assert loan is not None
    assert (loan.node, loan.left, loan.wish.key, loan.claims) == (A, 1, (OWNER, 3), False)
    assert made.asked((OWNER, 3)) == 1
    made.validate()
    assert made.offered(B, offer, [wish(1, key=3)], 0.0) is None, "it gets one already"
    actor = made.offered(B, Offer("1", {"CPU": UNIT}, True), others, 0.0)
    assert actor is not None
    assert actor.wish.for_life
    assert made.offered(B, Offer("2", {"CPU": UNIT}), [wish(9, key=3)], 0.0) is None, "it is of another job"
    assert made.offered(b"gone", offer, [wish(9, key=3)], 0.0) is None


def test_after_a_refusal_others_are_asked() -> None:
    made = table(a=4, b=4)
    (loan,) = made.look([wish(4)], 0.0)
    made.refused(loan.number, 4)
    (other,) = made.look([wish(4)], 0.0)
    assert other.node != loan.node
    made.refused(other.number, 4)
    assert made.look([wish(4)], 0.0) == []
    made.node_free(loan.node, {"CPU": UNIT})
    assert [(again.node, again.left) for again in made.look([wish(4)], 0.0)] == [(loan.node, 1)]


def test_who_has_refused_is_not_asked_until_it_says_more() -> None:
    made = table(a=4)
    (loan,) = made.look([wish(1)], 0.0)
    made.refused(loan.number, 1)
    assert made.look([wish(1)], 0.0) == [], "though it was asked for one of four"
    made.node_free(A, {"CPU": UNIT})
    assert len(made.look([wish(1)], 0.0)) == 1


def test_a_loan_is_given_up_after_a_time() -> None:
    made = table(a=4)
    (loan,) = made.look([wish()], 1.0)
    made.tick(1.0 + PATIENCE_S - 0.1)
    assert made.loans
    made.tick(1.0 + PATIENCE_S)
    assert not made.loans
    assert made.granted(loan.number, make_lease_ids(A)()) is None


# --- the node that has the arguments ----------------------------------------------------------------------------------


def home_view(free: float = 4) -> NodeView:
    return NodeView(HOME + bytes(4), {"CPU": 4 * UNIT}, {"CPU": round(free * UNIT)})


def entry(prefer: bytes = A, key: int = 1) -> DemandEntry:
    return DemandEntry((OWNER, key), ONE, 1, "f", 1, prefer=prefer)


def test_the_node_that_has_the_arguments_is_asked_first_and_alone() -> None:
    made = table(a=2, b=4)
    wishes = [wish(5, prefer=A, elsewhere=True)]
    assert [(loan.node, loan.left) for loan in made.look(wishes, 0.0, home_view())] == [(A, 2)]
    assert made.look(wishes, 0.1, home_view()) == []
    assert made.keeps(entry())
    assert made.keeps_until() is None, "what was asked for is on its way"
    made.validate()


def test_it_is_waited_for_while_it_is_full_but_not_for_long() -> None:
    made = table(a=0, b=4)
    assert made.look([wish(5, prefer=A)], 1.0) == []
    assert made.keeps_until() == 1.0 + KEEP_S
    assert made.look([wish(5, prefer=A)], 1.0 + KEEP_S / 2) == []
    assert made.keeps(entry())
    assert [(loan.node, loan.left) for loan in made.look([wish(5, prefer=A)], 1.0 + KEEP_S)] == [(B, 4)]
    assert not made.keeps(entry())
    assert made.keeps_until() is None


def test_it_has_as_long_again_after_each_worker_that_it_lends() -> None:
    made = table(a=1, b=4)
    (loan,) = made.look([wish(5, prefer=A)], 1.0)
    made.granted(loan.number, make_lease_ids(A)())
    assert made.look([wish(4, prefer=A)], 5.0) == []
    assert made.keeps_until() == 5.0 + KEEP_S


def test_one_that_was_given_up_is_asked_first_when_it_has_room_again() -> None:
    made = table(a=0, b=1)
    made.look([wish(5, prefer=A)], 1.0)
    assert [loan.node for loan in made.look([wish(5, prefer=A)], 2.0)] == [B]
    made.node_free(A, {"CPU": UNIT})
    assert made.keeps(entry())
    assert [loan.node for loan in made.look([wish(5, prefer=A)], 2.1)] == [A]
    assert not made.keeps(entry())


def test_others_are_asked_later_where_the_home_itself_has_the_arguments() -> None:
    made = table(a=4)
    wishes = [wish(2, prefer=HOME)]
    assert made.look(wishes, 1.0, home_view(0)) == []
    assert not made.keeps(entry(HOME)), "the home serves it as it has room"
    assert made.look([wish(2, prefer=HOME, starts=True)], 1.0 + KEEP_S, home_view(0)) == [], "workers start there"
    assert made.look(wishes, 2.0, home_view(0)) == []
    assert [loan.left for loan in made.look(wishes, 2.0 + KEEP_S, home_view(0))] == [2]


def test_a_demand_that_comes_again_is_patient_again() -> None:
    made = table(a=0, b=4)
    for now in (1.0, 2.0):
        made.look([wish(prefer=A)], now)
    assert not made.keeps(entry())
    made.look([], 3.0)
    assert made.keeps(entry())
    assert made.look([wish(prefer=A)], 4.0) == []


@pytest.mark.parametrize("placement", [Placement(node="b"), Placement(labels=[LabelRule("zone", ["b"])])])
def test_a_node_that_is_excluded_is_not_preferred(placement: Placement) -> None:
    made = table(a=4)
    made.node_up(B, {"CPU": 4 * UNIT}, {"zone": "b"}, "b")
    made.node_free(B, {"CPU": UNIT})
    assert [loan.node for loan in made.look([wish(prefer=A, placement=placement)], 0.0)] == [B]


def test_a_node_that_is_gone_is_not_waited_for() -> None:
    made = table(a=0, b=4)
    made.look([wish(prefer=A)], 1.0)
    made.node_down(A)
    assert not made.keeps(entry())
    assert [loan.node for loan in made.look([wish(prefer=A)], 1.0)] == [B]


def test_work_without_needs_goes_where_its_arguments_are() -> None:
    made = table(a=1, b=4)
    free = ResourceRequest({})
    assert [(loan.node, loan.left) for loan in made.look([wish(99, free, prefer=A)], 0.0)] == [(A, MOST_FREE)]


def test_tasks_that_need_nothing_are_asked_for_in_portions() -> None:
    made = table(a=4)
    assert [loan.left for loan in made.look([wish(1000, ResourceRequest({}))], 0.0)] == [MOST_FREE]
    for _ in range(2 * MOST_LOANS):
        made.look([wish(1000, ResourceRequest({}))], 0.0)
    assert len(made.loans) == MOST_LOANS


def home(free: float, cpus: int = 4) -> NodeView:
    return NodeView(HOME + bytes(4), {"CPU": cpus * UNIT}, {"CPU": round(free * UNIT)}, labels={"zone": "h"})


def test_others_are_asked_until_the_home_is_the_better_place() -> None:
    made = LendingTable(SpreadPolicy())
    for node in (A, B):
        made.node_up(node, {"CPU": 4 * UNIT}, {})
        made.node_free(node, {"CPU": 4 * UNIT})
    loans = made.look([wish(9, elsewhere=True)], 0.0, home(3))
    assert {(loan.node, loan.left) for loan in loans} == {(A, 1), (B, 1)}, "they are as full as the home then"
    made.validate()
    loans = made.look([wish(9, key=2)], 0.0, home(3))
    assert {(loan.node, loan.left) for loan in loans} == {(A, 3), (B, 3)}, "there is no room for it at home"
    made.validate()


def test_only_nodes_on_which_it_may_run_are_asked() -> None:
    made = LendingTable(HybridPolicy())
    for node, zone in ((A, "a"), (B, "b")):
        made.node_up(node, {"CPU": 4 * UNIT}, {"zone": zone}, f"node-{zone}")
        made.node_free(node, {"CPU": 4 * UNIT})

    def asked(placement: Placement) -> list[tuple[bytes, int]]:
        loans = made.look([wish(8, placement=placement)], 0.0, home(0))
        for loan in loans:
            made.node_free(loan.node, {"CPU": 4 * UNIT})
            made._drop(loan)
        return [(loan.node, loan.left) for loan in loans]

    label = (LabelRule("zone", ("b",)),)
    assert asked(Placement("node-b")) == [(B, 4)]
    assert asked(Placement("00000002")) == [(A, 4)]
    assert asked(Placement("nowhere")) == []
    assert sorted(asked(Placement("nowhere", soft=True))) == [(A, 4), (B, 4)]
    assert asked(Placement(labels=label)) == [(B, 4)]
    assert asked(Placement(preferred=label)) == [(B, 4)]
    assert asked(Placement(preferred=(LabelRule("zone", ("h",)),))) == [], "its home is what it prefers"
    assert made.could_serve(ONE, Placement("node-b"))
    assert not made.could_serve(ONE, Placement("nowhere"))
    assert not made.could_serve(ResourceRequest({"CPU": 5 * UNIT}), Placement("node-b"))


def test_what_was_asked_for_counts_for_a_moment() -> None:
    """Its home does not take a worker of its own for it; a node that takes long is not counted on any more."""
    made = table(a=4)
    (loan,) = made.look([wish(3)], 1.0)
    assert (made.asked((OWNER, 1)), made.asked((OWNER, 2))) == (3, 0)
    made.granted(loan.number, make_lease_ids(A)())
    assert made.asked((OWNER, 1)) == 2
    made.tick(1.0 + HEAD_START_S)
    assert (made.asked((OWNER, 1)), made.nodes[A].available, loan.left) == (0, {}, 2)
    made.validate()
    made.refused(loan.number, 2)
    assert (made.asked((OWNER, 1)), made.loans) == (0, {})
    made.validate()


def test_a_node_that_is_down_takes_its_leases_and_loans_along() -> None:
    made = table(a=4, b=4)
    (loan,) = made.look([wish(2)], 0.0)
    lease = make_lease_ids(loan.node)()
    made.granted(loan.number, lease)
    assert [lent.id for lent in made.node_down(loan.node)] == [lease]
    assert (made.loans, made.lent) == ({}, {})
    assert loan.node not in made.nodes
    made.node_free(loan.node, {"CPU": UNIT})
    made.refused(loan.number, 1)
    made.validate()


def test_an_owner_that_dies_takes_its_own_along() -> None:
    made = table(a=4)
    (loan,) = made.look([wish(2)], 0.0)
    leases = [make_lease_ids(A), make_lease_ids(A)]
    first = leases[0]()
    made.granted(loan.number, first)
    assert [lent.id for lent in made.owner_lost(OWNER)] == [first]
    assert made.owner_lost(OWNER) == []


def test_whether_any_node_could_ever_serve() -> None:
    made = table()
    assert made.could_serve(ResourceRequest({"CPU": 4 * UNIT, "disk": UNIT}))
    assert not made.could_serve(ResourceRequest({"CPU": 5 * UNIT}))


class Lender:
    """A node that lends as its shell does, without processes."""

    def __init__(self, node: bytes, cpus: int) -> None:
        self.node = node
        self.table = LeaseTable(
            node + b"\0\0\0\0", NodeResources({"CPU": cpus * UNIT}), HybridPolicy(), make_lease_ids(node)
        )
        self.workers = count(1)
        for _ in range(cpus):
            self.table.worker_ready(node + b"%04d" % next(self.workers), "1")

    def borrow(self, number: int, request: ResourceRequest, wanted: int) -> list[tuple[str, int, object]]:
        given = self.table.room_for(request, wanted)
        said: list[tuple[str, int, object]] = [("refuse", number, wanted - given)] if given < wanted else []
        if given:
            effects = self.table.demand((HOME, number), request, given, job="1")
            grants = [effect.lease.id for effect in effects if type(effect) is Grant]
            said += [("grant", number, lease) for lease in grants]
            if len(grants) < given:
                self.table.demand((HOME, number), request, 0)
                said.append(("refuse", number, given - len(grants)))
        return said


@pytest.mark.parametrize("seed", [*range(60), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(60, 200))])
def test_no_lease_is_lost_or_lent_twice(seed: int) -> None:
    """Messages are late and some are lost or come twice; what is lost with a connection is what a node loses."""
    rng = random.Random(seed)
    home = LendingTable(HybridPolicy())
    lenders = {node: Lender(node, rng.randint(1, 4)) for node in (A, B, b"\0\0\0\4")}
    for node, lender in lenders.items():
        home.node_up(node, lender.table.resources.total(), {})
    wanted = {(OWNER, key): rng.randint(1, 6) for key in range(3)}
    under_way: list[tuple[int, tuple[str, bytes, object]]] = []
    held: dict[bytes, tuple[bytes, int]] = {}
    now, loss, double = 0.0, rng.choice([0.0, 0.25]), rng.choice([0.0, 0.25])

    def send(message: tuple[str, bytes, object], *, sure: bool = False) -> None:
        if not sure and rng.random() < loss:
            return
        for _ in range(2 if not sure and rng.random() < double else 1):
            under_way.append((rng.randint(0, 8), message))

    def say_load(node: bytes) -> None:
        send(("load", node, dict(lenders[node].table.resources.available())))

    def give_back(lease: bytes) -> None:
        send(("release", node_of(lease), lease), sure=True)

    def take(kind: str, node: bytes, content: object) -> None:
        lender = lenders[node]
        if kind == "borrow":
            number, request, amount = content  # type: ignore[misc]
            for what, asked, value in lender.borrow(number, request, amount):
                send((what, node, (asked, value)), sure=what == "grant")
        elif kind == "release":
            lender.table.release(content)  # type: ignore[arg-type]
            say_load(node)
        elif kind == "load":
            home.node_free(node, content)  # type: ignore[arg-type]
        elif kind == "refuse":
            home.refused(*content)  # type: ignore[misc]
        else:
            number, lease = content  # type: ignore[misc]
            key = home.granted(number, lease)
            if key is None:
                give_back(lease)
            elif wanted.get(key, 0) > 0:
                wanted[key] -= 1
                held[lease] = key
            else:
                home.ended(lease)
                give_back(lease)

    for step in range(400):
        now += 0.1
        home.tick(now)
        if step < 300:
            for node in lenders:
                if rng.random() < 0.1:
                    say_load(node)
            wishes = [Wish(key, ONE, amount, "1", "f") for key, amount in wanted.items() if amount]
            for loan in home.look(wishes, now):
                send(("borrow", loan.node, (loan.number, loan.wish.request, loan.left)))
            if rng.random() < 0.3:
                key = rng.choice(list(wanted))
                wanted[key] = rng.randint(0, 6)
        if held and rng.random() < 0.4:
            lease = rng.choice(list(held))
            del held[lease]
            assert home.ended(lease) is not None
            give_back(lease)
        due = [each for each in under_way if each[0] <= 0]
        under_way[:] = [(left - 1, message) for left, message in under_way if left > 0]
        for _, message in due:
            take(*message)
            home.validate()
        assert held.keys() == home.lent.keys()
        lent = [lease for lender in lenders.values() for lease in lender.table.leases]
        assert set(held) <= set(lent)
    for lease in list(held):
        home.ended(lease)
        give_back(lease)
    while under_way:
        for _, message in [under_way.pop(0) for _ in range(len(under_way))]:
            take(*message)
    for lease in list(home.lent):
        home.ended(lease)
        lenders[node_of(lease)].table.release(lease)
    for lender in lenders.values():
        assert lender.table.leases == {}
        assert lender.table.resources.available() == lender.table.resources.total()
