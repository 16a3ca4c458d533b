"""Orders of events that clusters have stumbled over, as scripts: what comes in, and what each machine says to it.

A script is a list of lines; ``>`` is what comes in, ``<`` what is said then. The others of the list in the design are
scripts where the machine is that they are about:

1. beats wait for TCP's retransmission:
   ``test_membership.test_beats_that_wait_for_the_retransmission_of_tcp``
2. a node manager stands still, and its actor goes on:
   ``test_membership.test_a_node_manager_that_stands_still_is_ended_before_another_takes_its_place``
6. a director decides, is stopped, and writes under another's term:
   ``test_director.test_a_verdict_of_an_earlier_term_is_none``
7. an acknowledged count is lost in a failover:
   ``test_membership.test_a_counter_that_falls_back_gives_no_number_twice``
8. all data is lost between a look and a count:
   ``test_membership.test_a_counter_that_begins_anew_gives_no_number_of_the_past``
9. a giver dies with the credit in its queue:
   ``test_references.test_a_giver_that_dies_with_the_credit_in_its_queue``; another one dies while its word is still on
   its way: ``test_claims.test_the_word_of_a_living_giver_counts_once_however_late_it_comes``; it comes back, and has
   lost what was said: ``test_claims.test_one_that_has_come_back_holds_what_it_was_handed_since``
12. a firewall answers a dial: ``test_membership.test_a_reset_of_a_connection_is_no_death``, and for the director
    ``test_a_node_that_calls_is_not_dead_where_calls_to_it_are_refused``, for owners
    ``test_a_worker_of_another_node_that_cannot_be_reached_is_given_back``
"""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from tests.owners import Clock

from ray.abc.scheduler import ResourceRequest
from ray.abc.transport import Connection
from ray.builtin.schedulers import HybridPolicy
from ray.ids import edition_of, make_lease_ids, node_bytes, node_manager_of, object_of, stored_id
from ray.messages import cluster, codec, node, objects, wire
from ray.messages.cluster import NodeRecord
from ray.protocol.conversations import Conversation
from ray.protocol.leases import Grant, LeaseTable
from ray.protocol.lending import LendingTable
from ray.protocol.pulls import Begin, Delete, Failure, GiveUp, PullTable, Tell
from ray.protocol.resources import UNIT, NodeResources
from ray.runtime.cluster.borrowing import LeaseBorrowing
from ray.runtime.cluster.lending import LeaseLending
from ray.runtime.process.kept_connection import KeptConnection, opened

JOB = "00000001"
HOME, LENDER = node_bytes(1), node_bytes(2)
OWNER, OTHER = HOME + b"ownr", HOME + b"othr"
LEASES = [LENDER + number.to_bytes(8, "big") for number in range(1, 9)]


class Managers:
    """A home and a lender with one worker each; what they say waits until the script hands it on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.said = Clock(), []  # type: ignore[var-annotated]
        for module in ("borrowing", "lending"):
            monkeypatch.setattr(f"ray.runtime.cluster.{module}.monotonic", lambda: self.clock.now)
        here: Any = self
        self.leases = self._table(HOME)
        self.lent = self.leases.others = LendingTable(HybridPolicy())
        self.borrowing = LeaseBorrowing(self.lent, self.leases, here, here, here, lambda effects: None, here, here)
        self.lends = self._table(LENDER)
        self.lends.worker_ready(LENDER + b"work", JOB)
        self.lending = LeaseLending(self.lends, here, here, lambda: [here], self._lent)
        # As the home knows the lender, and the lender the home.
        self.record, self.node, self.title = NodeRecord(2, "", total={"CPU": UNIT}), LENDER, "lender"
        self.id, self.job = node_manager_of(HOME), ""
        self.killed: list[bytes] = []
        self.borrowing.node_up(here)
        self.borrowing.load(here, cluster.Load({"CPU": UNIT}))
        self.said.clear()

    def _table(self, of: bytes) -> LeaseTable:
        resources = NodeResources({"CPU": UNIT if of == LENDER else 0})
        return LeaseTable(node_manager_of(of), resources, HybridPolicy(), make_lease_ids(of))

    def _lent(self, effects: Any) -> None:
        for effect in effects:
            if type(effect) is Grant:
                self.said.append(node.Granted(effect.lease.key[1], effect.lease.id, "", 0, [], effect.lease.worker))

    # --- what their shells ask for ---

    def send(self, *message: Any) -> bool:
        if not isinstance(message[-1], (cluster.AdoptJob, cluster.Load)):
            self.said.append(message[-1])
        return True

    def send_to(self, process: bytes, message: Any) -> bool:
        self.said.append((process, message))
        return True

    def after(self, delay_s: float, callback: Any) -> None:
        self.clock.after(delay_s, callback)

    def serves(self, job: str) -> bool:
        return True

    def config_of(self, job: str) -> bytes:
        return b""

    def kill(self, process: bytes, reason: str) -> None:
        self.killed.append(process)

    # --- the script ---

    def wants(self, owner: bytes, amount: int) -> None:
        self.leases.demand((owner, 1), ResourceRequest({"CPU": UNIT}), amount, job=JOB)
        self.borrowing.look()

    def hears(self, message: Any) -> None:
        """Whom it is for follows from what it is."""
        here: Any = self
        match message:
            case cluster.Borrow():
                self.lending.borrow(here, message)
            case node.Release():
                self._lent(self.lends.release(message.lease))
            case node.Granted():
                self.borrowing.granted(here, message)
            case cluster.Refuse():
                self.borrowing.refused(here, message)
            case cluster.LeasesLent():
                self.borrowing.compare(here, message)
            case cluster.LeasesHeld():
                self.lending.compare(here, message)
            case _:
                raise AssertionError(message)

    def takes(self) -> list[Any]:
        said, self.said[:] = self.said[:], []
        return said


@pytest.fixture
def managers(monkeypatch: pytest.MonkeyPatch) -> Managers:
    return Managers(monkeypatch)


def borrow(number: int) -> cluster.Borrow:
    return cluster.Borrow(number, {"CPU": UNIT}, 1, JOB)


def granted(number: int, lease: bytes) -> node.Granted:
    return node.Granted(number, lease, "", 0, [], LENDER + b"work")


def test_3_a_grant_that_takes_long_is_not_given_to_another_owner(managers: Managers) -> None:
    """The worker stays with the lease until that is given back: no push of an earlier owner ever reaches it."""
    managers.wants(OWNER, 1)
    assert managers.takes() == [borrow(1)]
    managers.hears(borrow(1))
    (on_its_way,) = managers.takes()
    assert on_its_way == granted(1, LEASES[0])
    managers.clock.passes(6.0)  # more than two seconds, and than the home's patience
    managers.takes()
    managers.hears(borrow(2))  # of another owner, meanwhile
    assert managers.takes() == [cluster.Refuse(2, 1)]
    managers.wants(OWNER, 0)
    managers.takes()
    managers.hears(on_its_way)  # nobody wants it any more
    assert managers.takes() == [node.Release(LEASES[0])]
    managers.hears(node.Release(LEASES[0]))
    managers.hears(borrow(3))
    assert managers.takes() == [granted(3, LEASES[1])]


def test_4_a_question_that_is_asked_again_is_answered_from_what_there_is(managers: Managers) -> None:
    managers.hears(borrow(1))
    managers.hears(borrow(1))
    assert managers.takes() == [granted(1, LEASES[0])] * 2
    managers.hears(node.Release(LEASES[0]))
    managers.hears(borrow(1))
    assert managers.takes() == [cluster.Refuse(1, 1)], "what was lent for it is not lent any more"


def test_5b_managers_that_meet_again_compare_their_leases(managers: Managers) -> None:
    """A grant and a release were lost with what was said; what the one does not name ends at the other."""
    managers.wants(OWNER, 1)
    managers.takes()
    managers.hears(borrow(1))
    managers.takes()  # lost
    here: Any = managers
    managers.lending.meet(here)
    managers.hears(managers.takes()[0])
    assert managers.takes() == [cluster.LeasesHeld([], 1)]
    managers.hears(cluster.LeasesHeld([], 1))
    managers.clock.passes(1.9)
    assert not managers.killed
    managers.clock.passes(0.2)
    assert managers.killed == [LENDER + b"work"]


def test_5c_what_the_lender_does_not_name_has_ended(managers: Managers) -> None:
    managers.wants(OWNER, 1)
    managers.takes()
    managers.hears(borrow(1))
    managers.hears(managers.takes()[0])
    managers.takes()
    managers.hears(cluster.LeasesLent([]))
    (ended, answer) = managers.takes()
    assert (ended[0], type(ended[1]), ended[1].lease) == (OWNER, node.LeaseEnded, LEASES[0])
    assert answer == cluster.LeasesHeld([])


class Line(Connection):
    """A connection that keeps what is sent until it is reset."""

    queued_bytes = 0

    def __init__(self) -> None:
        self.queue: list[Any] = []

    def send(self, frames: Any) -> None:
        self.queue.append(tuple(frames))

    def close(self) -> None:
        self.closed = True

    abort = close


def test_5_a_connection_is_reset_with_the_end_of_a_task_in_the_queue() -> None:
    """The worker says it again, once, and the owner has not asked for its end."""
    first = Line(), Line()
    owner, worker = (KeptConnection(Conversation(b"id"), line) for line in first)
    done = wire.Replies([wire.Done(b"task", True, [b"value"])])
    owner.send((codec.encode(wire.Push([])),))
    number, _ = opened(first[0].queue[0])
    assert worker.took(number, first[0].queue[0], lambda delay_s, then: None)
    worker.send([codec.encode(done)])
    for end in (owner, worker):  # the middlebox; what was queued is gone
        end.break_off(0.0)
    again = owner.again()
    second = Line(), Line()
    assert worker.go_on(second[1], again.have, again.ahead, answers=True)
    resumed, repeated = second[1].queue
    answer = codec.decode(resumed)
    assert answer == wire.GoesOn(1), "it has the push"
    assert owner.go_on(second[0], answer.have, answer.ahead, answers=False)
    assert second[0].queue == [], "which is not said again"
    number, said = opened(repeated)
    assert owner.took(number, repeated, lambda delay_s, then: None)
    assert codec.decode(said) == done
    assert not owner.took(number, repeated, lambda delay_s, then: None), "once"


def test_10_a_result_of_a_dead_attempt_is_never_found() -> None:
    """Each attempt that is made on another node has a key of its own, and none is the object's id."""
    object_id = bytes(range(20))[:8] + bytes(8) + bytes(4)
    keys = [stored_id(object_id, edition_of(attempt)) for attempt in range(3)]
    assert len({object_id, *keys}) == 4
    assert {object_of(key) for key in keys} == {object_id}


@pytest.mark.parametrize("came", [True, False])
def test_11_the_last_ref_goes_while_a_copy_is_under_way(came: bool) -> None:
    """The copy goes as well, whether it had come by then or not; nobody needs to tell the node."""
    table, numbers = PullTable(64 << 20), count(1)
    table.mover_ready()
    key = stored_id(LENDER + bytes(16), 1)
    asked = table.ask(b"reader", next(numbers), key, LENDER, 1 << 20, objects.GET)
    assert [type(effect) for effect in asked] == [Begin]
    assert [type(effect) for effect in table.let_go(b"reader", key, 1.0)] == [Tell, GiveUp]
    ended = table.ended(key, None) if came else table.ended(key, Failure("given up", ""))
    rested = table.rest_over(10.0)
    assert (Delete(key) in [*ended, *rested]) is came
    assert table.rests_until() is None
