"""What is brought to a node: every event by itself, then random lives of a table and what it is told to do."""

from __future__ import annotations

import random
from itertools import count

import pytest

from ray.messages.objects import ARGUMENT, GET, WAIT
from ray.protocol.pulls import (
    AGAIN,
    FULL,
    LOST,
    MAX_TRANSFERS,
    MAX_TRIES,
    REST_S,
    Begin,
    Delete,
    Effect,
    Failure,
    GiveUp,
    Gone,
    PullTable,
    Tell,
)

NODE, OTHER = b"\0\0\0\1", b"\0\0\0\2"
A, B = b"asker-a1", b"asker-b2"
CAPACITY = 4000  # so 1000 may be on their way


def key(number: int) -> bytes:
    return number.to_bytes(20, "big")


@pytest.fixture
def table() -> PullTable:
    made = PullTable(CAPACITY)
    assert made.mover_ready() == []
    return made


def ask(
    table: PullTable, number: int, nbytes: int = 10, asker: bytes = A, urgency: int = GET, node: bytes = NODE
) -> list[Effect]:
    effects = table.ask(asker, number, key(number), node, nbytes, urgency)
    table.validate()
    return effects


def begun(effects: list[Effect]) -> list[int]:
    return [int.from_bytes(effect.key, "big") for effect in effects if isinstance(effect, Begin)]


def test_an_object_comes_once_for_all_that_ask(table: PullTable) -> None:
    assert ask(table, 1) == [Begin(key(1), NODE, 10)]
    assert ask(table, 1, asker=B) == []
    assert table.ended(key(1), None) == [Tell(A, 1), Tell(B, 1)]
    assert ask(table, 1, asker=B) == [Tell(B, 1)]
    table.validate()


def test_nothing_begins_before_there_is_a_mover() -> None:
    table = PullTable(CAPACITY)
    assert ask(table, 1) == []
    assert begun(table.mover_ready()) == [1]


def test_a_copy_goes_a_while_after_the_last_that_needs_it(table: PullTable) -> None:
    ask(table, 1)
    ask(table, 1, asker=B)
    table.ended(key(1), None)
    assert table.let_go(A, key(1), 1.0) == []
    assert table.rests_until() is None
    assert table.let_go(B, key(1), 2.0) == []
    assert table.rests_until() == 2.0 + REST_S
    assert table.rest_over(2.0) == []
    assert table.rest_over(2.0 + REST_S) == [Delete(key(1))]
    assert table.copies == {}


def test_a_copy_that_is_needed_again_stays(table: PullTable) -> None:
    ask(table, 1)
    table.ended(key(1), None)
    table.let_go(A, key(1), 1.0)
    assert ask(table, 1, asker=B) == [Tell(B, 1)]
    assert table.rest_over(9.0) == []


def test_what_nobody_waits_for_any_more_is_given_up(table: PullTable) -> None:
    ask(table, 1)
    ask(table, 1, asker=B)
    (answer,) = table.let_go(A, key(1), 0.0)
    assert isinstance(answer, Tell)
    assert (answer.asker, answer.request) == (A, 1), "it need not keep the question"
    assert answer.failure is not None
    assert table.let_go(B, key(1), 0.0)[1:] == [GiveUp(key(1))]
    assert table.let_go(B, key(1), 0.0) == []
    table.validate()
    assert table.ended(key(1), Failure(AGAIN)) == []
    assert table.copies == {}


def test_what_was_given_up_and_came_all_the_same_goes(table: PullTable) -> None:
    ask(table, 1)
    table.let_go(A, key(1), 0.0)
    assert table.ended(key(1), None) == [Delete(key(1))]


@pytest.mark.parametrize("came", [True, False])
def test_what_is_asked_for_while_it_is_given_up(table: PullTable, came: bool) -> None:
    ask(table, 1)
    table.let_go(A, key(1), 0.0)
    assert ask(table, 1, asker=B) == []  # no second transfer beside the first
    effects = table.ended(key(1), None if came else Failure(AGAIN))
    assert effects == ([Tell(B, 1)] if came else [Begin(key(1), NODE, 10)])


def test_a_process_that_ends_lets_all_go(table: PullTable) -> None:
    ask(table, 1)
    ask(table, 2)
    ask(table, 2, asker=B)
    assert table.asker_lost(A, 0.0) == [GiveUp(key(1))]
    assert table.ended(key(2), None) == [Tell(B, 2)]


def test_so_many_come_at_a_time(table: PullTable) -> None:
    for number in range(MAX_TRANSFERS):
        assert begun(ask(table, number)) == [number]
    assert ask(table, 100) == []
    assert begun(table.ended(key(0), None)) == [100]


def test_so_many_bytes_come_at_a_time_and_a_larger_one_alone(table: PullTable) -> None:
    assert begun(ask(table, 1, 600)) == [1]
    assert ask(table, 2, 600) == []
    assert ask(table, 3, 1) == []  # it does not overtake, or what is large would wait for ever
    assert begun(table.ended(key(1), None)) == [2, 3]
    assert ask(table, 4, 5000) == []
    assert begun(table.ended(key(2), None)) == []
    assert begun(table.ended(key(3), None)) == [4]


def test_what_a_program_waits_for_comes_before_arguments(table: PullTable) -> None:
    ask(table, 1, 900)
    for number, urgency in ((2, ARGUMENT), (3, WAIT), (4, GET), (5, ARGUMENT)):
        assert ask(table, number, 900, urgency=urgency) == []
    ask(table, 5, 900, asker=B, urgency=GET)
    order = [begun(table.ended(key(number), None)) for number in (1, 4, 5, 3)]
    assert order == [[4], [5], [3], [2]]


def test_a_transfer_that_breaks_off_is_begun_anew_a_few_times(table: PullTable) -> None:
    ask(table, 1)
    for _ in range(MAX_TRIES - 1):
        assert begun(table.ended(key(1), Failure(AGAIN, "cut"))) == [1]
    assert table.ended(key(1), Failure(AGAIN, "cut")) == [Tell(A, 1, Failure(AGAIN, "cut"))]
    assert begun(ask(table, 1)) == [1]


def test_what_is_lost_is_not_tried_again(table: PullTable) -> None:
    ask(table, 1)
    assert table.ended(key(1), Failure(LOST, "gone")) == [Tell(A, 1, Failure(LOST, "gone"))]


def test_copies_that_rest_make_room(table: PullTable) -> None:
    ask(table, 1)
    table.ended(key(1), None)
    table.let_go(A, key(1), 0.0)
    ask(table, 2)
    assert table.ended(key(2), Failure(FULL)) == [Delete(key(1)), Begin(key(2), NODE, 10)]
    assert table.ended(key(2), Failure(FULL, "full")) == [Tell(A, 2, Failure(FULL, "full"))]


def test_a_mover_that_dies_is_given_everything_again(table: PullTable) -> None:
    ask(table, 1)
    ask(table, 2)
    table.let_go(A, key(2), 0.0)
    ask(table, 3)
    table.ended(key(3), None)
    assert table.mover_lost() == []
    table.validate()
    assert ask(table, 4) == []
    assert begun(table.mover_ready()) == [1, 4]
    assert ask(table, 3, asker=B) == [Tell(B, 3)]


def test_movers_that_die_again_and_again(table: PullTable) -> None:
    ask(table, 1)
    for _ in range(MAX_TRIES - 1):
        assert table.mover_lost() == []
        assert begun(table.mover_ready()) == [1]
    (told,) = table.mover_lost()
    assert isinstance(told, Tell)
    assert told.failure is not None


def test_a_node_that_dies(table: PullTable) -> None:
    ask(table, 1)
    table.ended(key(1), None)
    ask(table, 2, 900)
    ask(table, 3, 900)
    ask(table, 4, 900, node=OTHER)
    assert table.node_down(NODE, "dead") == [Gone(NODE)]
    table.validate()
    assert table.ended(key(2), None) == [Tell(A, 2), Begin(key(3), NODE, 900, anywhere=True)]
    assert table.ended(key(3), Failure(LOST)) == [Tell(A, 3, Failure(LOST, "dead")), Begin(key(4), OTHER, 900)]
    assert ask(table, 1, asker=B) == [Tell(B, 1)]  # the copy is here
    assert ask(table, 5) == [Begin(key(5), NODE, 10, anywhere=True)]
    assert table.ended(key(5), None) == [Tell(A, 5)]


def test_what_others_have_of_a_dead_node_comes_all_the_same(table: PullTable) -> None:
    ask(table, 1)
    assert table.node_down(NODE, "dead") == [Gone(NODE)]
    assert table.ended(key(1), None) == [Tell(A, 1)]
    table.validate()


def test_what_others_do_not_have_either_is_lost_with_its_node(table: PullTable) -> None:
    ask(table, 1)
    table.node_down(NODE, "dead")
    assert table.ended(key(1), Failure(LOST, "not here")) == [Begin(key(1), NODE, 10, anywhere=True)]
    assert table.ended(key(1), Failure(AGAIN, "nor there")) == [Tell(A, 1, Failure(LOST, "dead"))]
    assert table.copies == {}


def test_what_came_from_a_dead_node_is_sought_when_the_mover_dies(table: PullTable) -> None:
    ask(table, 1)
    table.node_down(NODE, "dead")
    table.mover_lost()
    assert table.mover_ready() == [Begin(key(1), NODE, 10, anywhere=True)]


class Node:
    """A table, what was told to the mover, and what processes wait for."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.table = PullTable(self.random.choice([0, CAPACITY]))
        self.now = 0.0
        self.requests = count(1)
        self.sizes = {key(number): self.random.choice([1, 10, 300, 2000]) for number in range(12)}
        #: What is on its way, and what the store has.
        self.coming: set[bytes] = set()
        self.store: set[bytes] = set()
        self.is_up = False
        #: {(asker, request): key} of those that wait, and what each asker has been given.
        self.waiting: dict[tuple[bytes, int], bytes] = {}
        self.given: set[tuple[bytes, bytes]] = set()

    def take(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Begin):
                assert self.is_up
                assert effect.key not in self.coming
                assert effect.key not in self.store
                assert effect.anywhere == (effect.node in self.table._gone)
                self.coming.add(effect.key)
            elif isinstance(effect, GiveUp):
                assert effect.key in self.coming
            elif isinstance(effect, Gone):
                assert effect.node == OTHER
            elif isinstance(effect, Delete):
                assert effect.key in self.store
                assert not any(held == effect.key for _, held in self.given)
                self.store.remove(effect.key)
            else:
                wanted = self.waiting.pop((effect.asker, effect.request))
                if effect.failure is None:
                    assert wanted in self.store
                    self.given.add((effect.asker, wanted))
        self.table.validate()

    def let_go(self, asker: bytes, wanted: bytes) -> None:
        self.given.discard((asker, wanted))
        self.take(self.table.let_go(asker, wanted, self.now))
        assert not any(waits[0] == asker and at == wanted for waits, at in self.waiting.items())

    def end(self, ended: bytes, failure: Failure | None) -> None:
        self.coming.remove(ended)
        if failure is None:
            self.store.add(ended)
        self.take(self.table.ended(ended, failure))

    def step(self) -> None:
        self.now += self.random.random() * 0.1
        what = self.random.random()
        asker = self.random.choice([A, B, b"asker-c3"])
        wanted = self.random.choice(list(self.sizes))
        if what < 0.35:
            request = next(self.requests)
            self.waiting[asker, request] = wanted
            node = OTHER if wanted[-1] % 2 else NODE
            urgency = self.random.choice([GET, WAIT, ARGUMENT])
            self.take(self.table.ask(asker, request, wanted, node, self.sizes[wanted], urgency))
        elif what < 0.55:
            self.let_go(asker, wanted)
        elif what < 0.85 and self.coming:
            kinds = [None, None, None, Failure(AGAIN), Failure(FULL), Failure(LOST)]
            self.end(self.random.choice(sorted(self.coming)), self.random.choice(kinds))
        elif what < 0.9:
            self.take(self.table.rest_over(self.now))
        elif what < 0.94:
            self.is_up = not self.is_up
            if not self.is_up:
                self.coming.clear()
            self.take(self.table.mover_ready() if self.is_up else self.table.mover_lost())
        elif what < 0.96:
            self.take(self.table.node_down(OTHER, "dead"))
        elif what < 0.98:
            for held in [held for given, held in self.given if given == asker]:
                self.given.discard((asker, held))
            self.waiting = {waits: at for waits, at in self.waiting.items() if waits[0] != asker}
            self.take(self.table.asker_lost(asker, self.now))

    def settle(self) -> None:
        """All comes, all is let go, and nothing is left."""
        if not self.is_up:
            self.is_up = True
            self.take(self.table.mover_ready())
        while self.coming:
            self.end(min(self.coming), None)
        assert not self.waiting
        for asker in (A, B, b"asker-c3"):
            self.given = {(given, held) for given, held in self.given if given != asker}
            self.take(self.table.asker_lost(asker, self.now))
        self.take(self.table.rest_over(self.now + REST_S))
        assert not self.store
        assert not self.table.copies


@pytest.mark.parametrize("seed", range(60))
def test_random_lives(seed: int) -> None:
    node = Node(seed)
    for _ in range(400):
        node.step()
    node.settle()
