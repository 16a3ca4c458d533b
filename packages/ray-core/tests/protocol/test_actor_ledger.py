"""What a director writes of its actors: step by step, then random lives of several directors and one store."""

import random
from collections import deque
from itertools import count

import pytest

from ray.abc.control_operations import Claim, Commit, Get, Keys, Put
from ray.builtin.embedded_state import EmbeddedState
from ray.exceptions import ControlFullError, ControlTimeoutError
from ray.protocol.actor_ledger import ACTORS, BORN, NAMES, ActorLedger, Failed, NameTaken, Written, actor_key, born_key
from ray.protocol.director import DIRECTOR

LATE = ControlTimeoutError("Commit", "director", 2.0)


class Store:
    def __init__(self):
        self.state = EmbeddedState(lambda: 0.0)
        self.do(Put(DIRECTOR, b"one"))

    def do(self, op):
        return self.state.do(op)[0]

    def holds(self):
        return {key: self.do(Get(key)) for key in self.do(Keys("")) if key != DIRECTOR}


def ledger(right=b"one"):
    made = ActorLedger()
    made.right = right
    return made


def turn(made, store):
    """Have all done that is due; returns what was heard of it."""
    heard = []
    while asked := made.ask():
        heard += [made.answered(actor, store.do(op)) for actor, op in asked]
    return [news for news in heard if news is not None]


def test_an_actor_is_written_with_its_name_and_goes_with_it():
    store, made = Store(), ledger()
    assert made.create(b"a", b"value", b"born", "name:n", b"named")
    assert made.pending(b"a")
    ((actor, op),) = made.ask()
    assert (actor, type(op), made.ask()) == (b"a", Commit, [])
    assert made.answered(b"a", store.do(op)) == Written(b"a", 1)
    assert not made.pending(b"a")
    assert store.holds() == {actor_key(b"a"): b"value", born_key(b"a"): b"born", "name:n": b"named"}
    version = made.write(b"a", b"started")
    assert turn(made, store) == [Written(b"a", version)]
    assert store.holds() == {actor_key(b"a"): b"started", born_key(b"a"): b"born", "name:n": b"named"}
    assert turn(made, store) == []
    made.write(b"a", b"dead", dead=True)
    assert len(turn(made, store)) == 1
    assert store.holds() == {actor_key(b"a"): b"dead"}
    assert made.write(b"a", b"again") == 0
    assert not made._due


def test_what_is_not_due_is_not_looked_at():
    store, made = Store(), ledger()
    for number in range(10):
        made.create(b"%d" % number, b"value", b"born")
    turn(made, store)
    assert not made._due
    made.write(b"3", b"dead", dead=True)
    assert list(made._due) == [b"3"]
    turn(made, store)
    assert not made._due


def test_a_name_of_a_living_actor_is_taken():
    store, made = Store(), ledger()
    made.create(b"a", b"1", b"", "name:n", b"a")
    assert not made.create(b"b", b"2", b"", "name:n", b"b")
    turn(made, store)
    assert not made.create(b"b", b"2", b"", "name:n", b"b")
    assert made.create(b"b", b"2", b"", "name:m", b"b")


def test_a_name_that_is_about_to_be_free_is_waited_for():
    store, made = Store(), ledger()
    made.create(b"a", b"1", b"", "name:n", b"a")
    turn(made, store)
    made.write(b"a", b"ends", frees=True)
    assert made.create(b"b", b"2", b"", "name:n", b"b")
    assert not made.create(b"c", b"3", b"", "name:n", b"c")
    assert [actor for actor, _ in made.ask()] == [b"a"]
    assert made.ask() == []
    made.answered(b"a", LATE)
    assert [type(news) for news in turn(made, store)] == [Written, Written]
    assert store.holds()["name:n"] == b"b"
    assert store.holds()[actor_key(b"a")] == b"ends"


def test_a_name_that_somebody_else_has_written_is_taken():
    store, made = Store(), ledger()
    store.do(Put("name:n", b"other"))
    made.create(b"a", b"1", b"", "name:n", b"a")
    assert turn(made, store) == [NameTaken(b"a")]
    assert store.holds() == {"name:n": b"other"}
    assert made.ask() == []


@pytest.mark.parametrize("was_done", [False, True])
def test_what_may_have_been_written_is_looked_at(was_done):
    store, made = Store(), ledger()
    made.create(b"a", b"1", b"born", "name:n", b"a")
    ((_, op),) = made.ask()
    if was_done:
        store.do(op)
    assert made.answered(b"a", LATE) is None
    assert isinstance(made.ask()[0][1], Get)
    assert made.answered(b"a", store.do(Get(actor_key(b"a")))) is None
    assert turn(made, store) == [Written(b"a", 1)]
    assert store.holds()["name:n"] == b"a"


def test_a_store_that_is_full_takes_no_new_actor():
    store, made = Store(), ledger()
    made.create(b"a", b"1", b"", "name:n", b"a")
    made.ask()
    full = ControlFullError("Commit", "director", "it is full")
    assert made.answered(b"a", full) == Failed(b"a", full)
    assert made.create(b"b", b"1", b"", "name:n", b"b")
    assert turn(made, store) == [Written(b"b", 1)]


def test_who_does_not_direct_any_more_writes_nothing():
    store, made = Store(), ledger()
    made.create(b"a", b"1", b"", "name:n", b"a")
    store.do(Put(DIRECTOR, b"two"))
    ((_, op),) = made.ask()
    assert made.answered(b"a", store.do(op)) is None
    assert store.holds() == {}
    made.right = b""
    assert made.ask() == []
    made.right = b"two"  # it was let again
    assert turn(made, store) == [Written(b"a", 1)]


def test_only_an_actor_that_is_written_has_its_name():
    """It is dead before the first answer has come."""
    store, made = Store(), ledger()
    made.create(b"a", b"1", b"born", "name:n", b"a")
    ((_, op),) = made.ask()
    made.write(b"a", b"dead", dead=True)
    assert made.answered(b"a", store.do(op)) == Written(b"a", 1)
    assert turn(made, store) == [Written(b"a", 2)]
    assert store.holds() == {actor_key(b"a"): b"dead"}
    assert made.create(b"b", b"1", b"", "name:n", b"b")


class Life:
    """Directors, one after the other, write what becomes of actors; answers are lost, and come late."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.store = Store()
        self.numbers = count(1)
        self.terms = count(2)
        self.begin(b"one")

    def begin(self, right):
        """Another director begins with what the store holds; what the one before has asked for may still be done."""
        self.left = deque(self.left) if hasattr(self, "left") else deque()
        self.ledger = ledger(right)
        self.store.do(Put(DIRECTOR, right))
        #: {living actor: its name}, and what was said to be written: {actor: value}
        self.living, self.written, self.wanted = {}, {}, {}
        self.under_way = []
        held = self.store.holds()
        for key, value in held.items():
            if key.startswith(ACTORS) and value != b"dead":
                actor = bytes.fromhex(key.removeprefix(ACTORS))
                name = next((key for key, owner in held.items() if key.startswith(NAMES) and owner == actor), "")
                self.ledger.known(actor, value, name, actor if name else b"")
                self.living[actor] = name
                self.written[actor] = value

    def step(self):
        rng = self.rng
        actor = rng.choice(sorted(self.living)) if self.living else b""
        match rng.choices(range(7), [4, 4, 2, 3, 8, 1, 0.3])[0]:
            case 0:
                new, name = b"%d" % next(self.numbers), rng.choice(["", "name:n", "name:m"])
                if self.ledger.create(new, b"0", b"born", name, new if name else b""):
                    self.living[new] = name
                    self.wanted[new] = {1: b"0"}
            case 1 if actor:
                value = b"%d" % rng.randrange(1, 99)
                version = self.ledger.write(actor, value)
                self.wanted.setdefault(actor, {})[version] = value
            case 2 if actor:
                dead = rng.random() < 0.7
                value = b"dead" if dead else b"ends"
                version = self.ledger.write(actor, value, frees=not dead, dead=dead)
                self.wanted.setdefault(actor, {})[version] = value
                if dead:
                    del self.living[actor]
            case 3:
                self.under_way += self.ledger.ask()
            case 4 if self.under_way:
                self.answer(*self.under_way.pop(rng.randrange(len(self.under_way))))
            case 5 if self.left:
                self.store.do(self.left.popleft())
            case 6:
                self.left += [op for _, op in self.under_way]
                self.begin(b"%d" % next(self.terms))
        self.check()

    def answer(self, actor, op):
        lost = self.rng.random() < 0.2
        answer = self.store.do(op) if not lost or self.rng.random() < 0.5 else None
        news = self.ledger.answered(actor, LATE if lost else answer)
        if isinstance(news, Written):
            self.written[actor] = self.wanted[actor][news.version]
        elif isinstance(news, (NameTaken, Failed)):
            self.living.pop(actor, None)
            assert actor_key(actor) not in self.store.holds()

    def check(self):
        held = self.store.holds()
        for key, owner in held.items():
            if key.startswith(NAMES):
                assert held.get(actor_key(owner)) not in (None, b"dead", b"ends"), "a name without its actor"
            if key.startswith(BORN):
                assert held.get(ACTORS + key.removeprefix(BORN)) not in (None, b"dead"), "what is dead is born"
        for actor, value in self.written.items():
            newer = self.wanted.get(actor, {}).values()
            assert held.get(actor_key(actor)) in (value, *newer), "what was said to be written is not"

    def settle(self):
        """All is answered; then nothing is due, and each living actor has its name."""
        for _ in range(5):
            while self.under_way:
                actor, op = self.under_way.pop(0)
                news = self.ledger.answered(actor, self.store.do(op))
                if isinstance(news, (NameTaken, Failed)):
                    self.living.pop(actor, None)
            self.under_way += self.ledger.ask()
        assert not self.under_way
        held = self.store.holds()
        assert {key for key in held if key.startswith(BORN)} == {born_key(actor) for actor in self.living}
        self.check()


@pytest.mark.parametrize("block", range(8))
def test_a_random_life_keeps_every_invariant(block):
    for seed in range(block, 400, 8):
        life = Life(seed)
        try:
            for _ in range(120):
                life.step()
            life.settle()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_a_claim_of_a_commit_is_of_the_value_that_is_known():
    store, made = Store(), ledger()
    made.known(b"a", b"old", "name:n", b"named")
    made.write(b"a", b"new", frees=True)
    ((_, op),) = made.ask()
    assert op == Commit(DIRECTOR, b"one", (Claim(actor_key(b"a"), b"old", b"new"), Claim("name:n", b"named", None)))
    assert store.do(op) == [actor_key(b"a"), "name:n"]
