"""The right to direct and the director's records, against the control store that sessions on one machine have."""

from __future__ import annotations

from typing import Any

from ray.abc.control_operations import Claim, Get, Operation, Put
from ray.builtin.embedded_state import EmbeddedState
from ray.exceptions import ControlStoreError, ControlUnavailableError
from ray.messages.cluster import KeptDirector, KeptNode, NodeRecord
from ray.protocol.director import (
    AGAIN_S,
    DIRECTOR,
    FENCE,
    LEASE_S,
    RENEW_S,
    FoundDead,
    Ledger,
    Lives,
    Mandate,
    Outranked,
    Taken,
    Written,
    decode_director,
    decode_node,
    encode,
    node_key,
)
from ray.protocol.membership import ALIVE, DEAD, Proof

GONE = ControlUnavailableError("Claim", "key", "why")


def record(number: int) -> NodeRecord:
    return NodeRecord(number, f"unix:/node/{number}", f"n{number}")


class Store:
    """The store, and a clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self._state = EmbeddedState(lambda: self.now)

    def do(self, op: Operation[Any]) -> Any:
        answer, _ = self._state.do(op)
        assert not isinstance(answer, ControlStoreError), answer
        return answer

    def director(self) -> KeptDirector | None:
        value = self.do(Get(DIRECTOR))
        return None if value is None else decode_director(value)

    def node(self, number: int) -> KeptNode | None:
        value = self.do(Get(node_key(number)))
        return None if value is None else decode_node(value)

    def run(self, mandate: Mandate) -> None:
        """Let it ask for all that is due."""
        while True:
            op = mandate.ask(self.now)
            if op is None:
                return
            mandate.answered(self.do(op), self.now)

    def write(self, ledger: Ledger) -> list[Any]:
        """Let it write all that is due; returns what is new."""
        news: list[Any] = []
        while asked := ledger.ask():
            for number, op in asked:
                said = ledger.answered(number, self.do(op))
                news += [said] if said is not None else []
        return news


def directing(store: Store, number: int, *ended: int) -> Mandate:
    mandate = Mandate(record(number), ended)
    store.run(mandate)
    assert mandate.holds
    return mandate


# --- the right to direct ----------------------------------------------------------------------------------------------


def test_it_is_taken_where_it_is_free_and_renewed() -> None:
    store = Store()
    store.do(Claim(FENCE, None, b"100"))
    mandate = directing(store, 7)
    assert mandate.term == 101
    assert store.director() == KeptDirector(record(7), 101)
    for _ in range(20):
        store.now += RENEW_S
        store.run(mandate)
    assert (mandate.holds, mandate.term) == (True, 101)
    store.now += LEASE_S + 1
    assert store.director() is None, "it was not renewed"


def test_it_is_not_taken_from_a_node_that_lives() -> None:
    store = Store()
    directing(store, 1)
    other = Mandate(record(2))
    store.run(other)
    assert not other.holds
    assert other.other is not None
    assert other.other.record == record(1)
    store.now += LEASE_S + AGAIN_S
    store.run(other)
    assert other.holds
    assert other.other is None


def test_it_is_taken_at_once_from_one_that_has_certainly_ended() -> None:
    store = Store()
    first = directing(store, 1)
    second = directing(store, 2, 1)
    assert second.term > first.term
    store.now += RENEW_S
    store.run(first)
    assert not first.holds
    assert first.other is not None
    assert first.other.record == record(2)


def test_terms_grow_whatever_becomes_of_the_counter() -> None:
    store = Store()
    store.do(Claim(FENCE, None, b"1000"))
    assert directing(store, 500).term == 1001
    store.do(Put(FENCE, b"3"))
    assert directing(store, 501, 500).term == 1002
    store.do(Put(FENCE, b"3"))
    store.now += LEASE_S
    assert directing(store, 2000).term == 2001, "a node has a number from the same counter"


def test_one_that_has_stood_still_asks_before_it_decides() -> None:
    store = Store()
    mandate = directing(store, 1)
    mandate.doubt()
    assert not mandate.holds
    store.run(mandate)
    assert mandate.holds
    before = mandate.term
    store.now += LEASE_S + 1
    mandate.doubt()
    store.run(mandate)
    assert mandate.holds
    assert mandate.term > before, "another one may have had it meanwhile"


def test_what_the_store_could_not_do_is_asked_for_again() -> None:
    store = Store()
    store.do(Claim(FENCE, None, b"100"))
    mandate = Mandate(record(1))
    for _ in range(2):  # the look, the counter
        op = mandate.ask(store.now)
        assert op is not None
        mandate.answered(GONE, store.now)
        assert mandate.ask(store.now) is None
        store.now += AGAIN_S
        op = mandate.ask(store.now)
        assert op is not None
        mandate.answered(store.do(op), store.now)
    op = mandate.ask(store.now)
    assert isinstance(op, Claim)
    store.do(op)  # and the answer is lost
    mandate.answered(GONE, store.now)
    assert not mandate.holds
    store.now += AGAIN_S
    store.run(mandate)
    assert mandate.holds
    assert store.director() == KeptDirector(record(1), mandate.term)
    assert store.do(Get(FENCE)) == b"%d" % mandate.term, "no other term was taken for that"
    store.now += RENEW_S
    op = mandate.ask(store.now)
    assert op is not None
    mandate.answered(GONE, store.now)
    assert mandate.holds, "while the store says nothing, nobody else can have it"


def test_one_that_hears_of_a_higher_term_takes_one_that_is_higher_still() -> None:
    """A claim that was slow may come behind another director's time."""
    store = Store()
    mandate = directing(store, 1)
    before = mandate.term
    mandate.outranked(before)
    assert mandate.holds
    mandate.outranked(before + 10)
    assert not mandate.holds
    store.run(mandate)
    assert mandate.holds
    assert mandate.term == before + 11
    store.now += RENEW_S
    op = mandate.ask(store.now)
    assert op is not None
    mandate.outranked(before + 20)
    mandate.answered(store.do(op), store.now)  # that it was renewed matters no more
    store.run(mandate)
    assert mandate.term == before + 21


# --- records of nodes -------------------------------------------------------------------------------------------------


def test_what_is_decided_is_written_with_the_term() -> None:
    store, ledger = Store(), Ledger()
    assert ledger.begin(5, {}) == []
    ledger.keep(record(1), ALIVE)
    assert store.write(ledger) == [Written(KeptNode(record(1), ALIVE, term=5))]
    assert store.node(1) == KeptNode(record(1), ALIVE, term=5)
    ledger.keep(record(1), DEAD, "silence", certain=False)
    assert store.write(ledger) == [Written(KeptNode(record(1), DEAD, "silence", 5))]
    ledger.keep(record(1), ALIVE)
    assert store.write(ledger) == []
    kept = store.node(1)
    assert kept is not None
    assert kept.state == DEAD, "what is dead stays dead"


def found_in(store: Store, *numbers: int) -> dict[int, bytes]:
    return {number: store.do(Get(node_key(number))) for number in numbers}


def of_term(store: Store, term: int, *numbers: int) -> Ledger:
    """A ledger of a director of this term, in which these nodes are alive."""
    ledger = Ledger()
    ledger.begin(term, {})
    for number in numbers:
        ledger.keep(record(number), ALIVE)
    store.write(ledger)
    return ledger


def test_a_verdict_of_an_earlier_term_is_none() -> None:
    """A director decides a death, stands still before it is written, and goes on under another's term."""
    store = Store()
    first = of_term(store, 5, 1)
    first.keep(record(1), DEAD, "silence", certain=False)
    ((number, late),) = first.ask()
    second = Ledger()
    assert second.begin(6, found_in(store, 1)) == [KeptNode(record(1), ALIVE, term=5)]
    store.write(second)
    assert first.answered(number, store.do(late)) is None
    assert store.write(first) == [Outranked(6)]
    assert store.node(1) == KeptNode(record(1), ALIVE, term=6)


def test_a_verdict_that_was_written_before_the_next_term_counts() -> None:
    store = Store()
    first = of_term(store, 5, 1)
    first.keep(record(1), DEAD, "silence", certain=False)
    second = Ledger()
    second.begin(6, found_in(store, 1))
    store.write(first)
    assert store.write(second) == [FoundDead(1, "silence")]
    kept = store.node(1)
    assert kept is not None
    assert kept.state == DEAD


def test_a_node_that_shows_in_the_store_that_it_lives_is_not_silent() -> None:
    store = Store()
    ledger, proof = of_term(store, 5, 1), Proof(node_key(1))
    for _ in range(2):
        op = proof.ask(0.0)
        assert op is not None
        proof.answered(store.do(op))
    ledger.keep(record(1), DEAD, "silence", certain=False)
    assert store.write(ledger) == [Lives(1)]
    assert store.node(1) == KeptNode(record(1), ALIVE, term=5, proofs=1)
    ledger.keep(record(1), DEAD, "it has ended", certain=True)
    op = proof.ask(0.0)
    assert op is not None
    proof.answered(store.do(op))
    assert Written(KeptNode(record(1), DEAD, "it has ended", 5, 2)) in store.write(ledger)
    op = proof.ask(0.0)
    while op is not None:
        assert proof.answered(store.do(op)) is None
        op = proof.ask(0.0)
    assert proof.verdict == "it has ended"


def test_proof_counts_as_a_sign_of_life_for_the_next_director_too() -> None:
    store = Store()
    of_term(store, 5, 1)
    ledger = Ledger()
    ledger.begin(6, found_in(store, 1))
    proof = Proof(node_key(1))
    for _ in range(2):
        op = proof.ask(0.0)
        assert op is not None
        proof.answered(store.do(op))
    assert store.write(ledger) == [Lives(1), Written(KeptNode(record(1), ALIVE, term=6, proofs=1))]


def test_a_number_that_another_node_has_is_not_written_over() -> None:
    """An acknowledged INCR was lost, and two nodes have one number."""
    store = Store()
    of_term(store, 5, 1)
    ledger = Ledger()
    ledger.begin(6, {})
    ledger.keep(NodeRecord(1, "unix:/elsewhere"), ALIVE)
    assert store.write(ledger) == [Taken(1, "unix:/node/1")]
    assert store.node(1) == KeptNode(record(1), ALIVE, term=5)


def test_what_the_store_has_lost_is_written_again() -> None:
    store = Store()
    ledger = of_term(store, 5, 1, 2)
    lost = Store()
    ledger.begin(6, {2: encode(KeptNode(record(2), ALIVE, term=5))})
    lost.do(Put(node_key(2), encode(KeptNode(record(2), ALIVE, term=5))))
    lost.write(ledger)
    assert lost.node(1) == KeptNode(record(1), ALIVE, term=6)
    assert lost.node(2) == KeptNode(record(2), ALIVE, term=6)


def test_an_answer_that_is_lost_is_looked_for() -> None:
    store = Store()
    ledger = of_term(store, 5, 1)
    ledger.keep(record(1), DEAD, "silence", certain=False)
    ((number, op),) = ledger.ask()
    store.do(op)
    assert ledger.answered(number, GONE) is None
    assert store.write(ledger) == [Written(KeptNode(record(1), DEAD, "silence", 5))]


def test_what_is_not_decided_for_good_is_forgotten_with_the_term() -> None:
    store = Store()
    ledger = of_term(store, 5, 1, 2)
    ledger.keep(record(1), DEAD, "silence", certain=False)
    ledger.keep(record(2), DEAD, "it has ended", certain=True)
    ledger.begin(6, found_in(store, 1, 2))
    store.write(ledger)
    assert store.node(1) == KeptNode(record(1), ALIVE, term=6)
    assert store.node(2) == KeptNode(record(2), DEAD, "it has ended", 6)
