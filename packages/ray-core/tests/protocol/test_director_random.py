"""Lives at random of nodes, of directors one after the other, and of the store between them.

Directors are killed, stand still and are replaced, also before they have ended; links are cut, nodes stand still, and
the store says nothing for a while. A node is never declared dead for its silence while it may run; what is dead stays
dead; terms are given once; and when all is quiet, one director knows every node that runs, and all of them obey it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from ray.abc.control_operations import Claim, Get, Keys, Operation
from ray.builtin.embedded_state import EmbeddedState
from ray.exceptions import ControlStoreError, ControlUnavailableError
from ray.messages.cluster import KeptDirector, NodeRecord
from ray.protocol.director import (
    DIRECTOR,
    NODES,
    FoundDead,
    Ledger,
    Lives,
    Mandate,
    Outranked,
    Written,
    decode_director,
    decode_node,
    node_key,
)
from ray.protocol.membership import ALIVE, BEAT_S, DEAD, LATE_S, Following, Proof, Roster, Standing

SILENCE = "silence"
#: How long the world is rough, and then quiet.
ROUGH_S, QUIET_S = 60.0, 30.0
_ANSWER_S = 2.0


class World:
    """A clock, what happens when, and the store."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self._next: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count().__next__
        self._state = EmbeddedState(lambda: self.now)
        self.nodes: dict[int, Node] = {}
        self.directors: dict[int, Boss] = {}
        self.store_back = 0.0
        #: {term: who had it}
        self.terms: dict[int, int] = {}
        self._dead: set[int] = set()

    def after(self, delay_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._next, (self.now + delay_s, self._numbers(), what))

    def run(self, until: float) -> None:
        while self._next and self._next[0][0] <= until:
            self.now, _, what = heapq.heappop(self._next)
            what()
        self.now = until

    @property
    def is_rough(self) -> bool:
        return self.now < ROUGH_S

    def delay(self) -> float:
        return self.chance.choice([0.001, 0.01, 0.1, 0.7] if self.is_rough else [0.001])

    def do(self, op: Operation[Any]) -> Any:
        answer, _ = self._state.do(op)
        self._check(op, answer)
        return answer

    def _check(self, op: Operation[Any], answer: Any) -> None:
        if type(op) is not Claim or answer is not True or op.new is None:
            return
        if op.key == DIRECTOR:
            kept_director = decode_director(op.new)
            number = kept_director.record.number
            assert self.terms.setdefault(kept_director.term, number) == number, "a term is of one director"
        elif op.key.startswith(NODES):
            kept = decode_node(op.new)
            number = kept.record.number
            assert number not in self._dead or kept.state == DEAD
            if kept.state == DEAD and number not in self._dead:
                self._dead.add(number)
                if kept.cause == SILENCE:
                    assert not self.nodes[number].may_run, f"node {number} runs at {self.now:.2f}"


class Process:
    """Asks the store in order, hears its answers in order, and hears nothing while it stands still."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.record = NodeRecord(number, f"unix:/{number}")
        self.is_killed = False
        self.still_until = 0.0
        self._free = self._heard = 0.0
        self.every(BEAT_S, self.turn)

    def every(self, period_s: float, what: Callable[[], None]) -> None:
        def again() -> None:
            if not self.is_killed:
                self.act(what)
                self.world.after(period_s, again)

        self.world.after(self.world.chance.random() * period_s, again)

    def act(self, what: Callable[[], None]) -> None:
        """Now, or when it goes on."""
        if self.still_until > self.world.now:
            self.world.after(self.still_until - self.world.now, partial(self.act, what))
        elif not self.is_killed:
            self.awake()
            if not self.is_killed:
                what()

    def ask(self, op: Operation[Any], on_answer: Callable[[Any], None]) -> None:
        world, sent = self.world, self.world.now
        self._free = max(self._free, world.now + world.delay(), world.store_back)

        def do() -> None:
            if world.now - sent > _ANSWER_S:
                answer: Any = ControlUnavailableError("", "", "")
                if world.chance.random() < 0.5 and not self.is_killed:
                    world.do(op)  # its answer was lost
            else:
                answer = world.do(op)
            self._heard = max(self._heard, world.now + world.delay())
            world.after(self._heard - world.now, lambda: self.act(lambda: on_answer(answer)))

        world.after(self._free - world.now, do)

    def awake(self) -> None:
        pass

    def turn(self) -> None:
        raise NotImplementedError


class Node(Process):
    """One that obeys."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.standing = Standing(world.now)
        self.proof = Proof(node_key(number))
        self.following = Following(KeptDirector(NodeRecord(0, ""), 0))
        self.cut_until = 0.0
        self.is_in = False
        #: When it has asked first to be let in.
        self.asked: float | None = None

    @property
    def may_run(self) -> bool:
        """Also one that stands still is ended in time, by what knows of the last answer that it has heard."""
        return self.is_in and not self.is_killed and not self.standing.is_over(self.world.now)

    def awake(self) -> None:
        if self.is_in and self.standing.is_over(self.world.now):
            self.is_killed = True

    def turn(self) -> None:
        now = self.world.now
        if not self.is_in:
            self.standing = Standing(now)
        if self.standing.is_quiet(now) or not self.is_in:
            self.ask(Get(DIRECTOR), self._found)
            if self.is_in:
                self._prove()
        self._send("beat", self.standing.beat(now))

    def _found(self, value: Any) -> None:
        if isinstance(value, bytes):
            self.following.found(decode_director(value))
            if self.asked is None:
                self.asked = self.world.now
            self._send("join", self.following.term if self.is_in else 0)

    def _prove(self) -> None:
        op = self.proof.ask(self.world.now)
        if op is not None:
            self.ask(op, self._proven)

    def _proven(self, answer: Any) -> None:
        sent = self.proof.answered(answer)
        if sent is not None:
            self.standing.shown(sent)
        elif self.proof.is_dead:
            self.is_killed = True
        elif self.proof.has_looked:
            self._prove()

    def _send(self, what: str, value: int) -> None:
        boss = self.world.directors.get(self.following.record.number)
        if boss is not None and self.cut_until <= self.world.now:
            self.world.after(self.world.delay(), lambda: boss.act(lambda: getattr(boss, what)(self, value)))

    def hear(self, what: Callable[[], None]) -> None:
        if self.cut_until <= self.world.now:
            self.world.after(self.world.delay(), lambda: self.act(what))

    def take(self, boss: NodeRecord, term: int, version: int, alive: list[int], dead: list[int]) -> None:
        own = self.record.number
        if not self.following.obeys(boss, term, version):
            return
        if own in dead:
            self.is_killed = True
        elif own in alive and not self.is_in and self.asked is not None:
            self.is_in, self.standing = True, Standing(self.asked)

    def answered(self, boss: NodeRecord, number: int) -> None:
        if boss.number == self.following.record.number and self.is_in:
            self.standing.answered(number)


class Boss(Process):
    """One that directs, or wants to."""

    def __init__(self, world: World, number: int, *ended: int) -> None:
        self.mandate = Mandate(NodeRecord(number, f"unix:/{number}"), ended)
        self.ledger, self.roster = Ledger(), Roster()
        self._read_term = 0
        self._turned = world.now
        super().__init__(world, number)

    @property
    def holds(self) -> bool:
        return self.mandate.holds and self._read_term == self.mandate.term

    def awake(self) -> None:
        if self.world.now - self._turned - BEAT_S > LATE_S:
            self.mandate.doubt()
        self._turned = self.world.now

    def turn(self) -> None:
        for number in self.roster.tick(self.world.now):
            self.ledger.keep(self.roster.members[number].record, DEAD, SILENCE, certain=False)
        for number in [number for number in self.roster.members if self.world.nodes[number].is_killed]:
            if self.holds and self.world.chance.random() < 0.3:  # its call was refused
                member = self.roster.members[number]
                self.roster.declare_dead(number, "ended")
                self.ledger.keep(member.record, DEAD, "ended")
        self.pump()

    def pump(self) -> None:
        op = self.mandate.ask(self.world.now)
        if op is not None:
            self.ask(op, self._answered)
        if self.holds:
            for number, question in self.ledger.ask():
                self.ask(question, partial(self._noted, number))

    def _answered(self, answer: Any) -> None:
        before = self.mandate.term
        self.mandate.answered(answer, self.world.now)
        if self.mandate.term not in (0, before):
            self._read(self.mandate.term)
        self.pump()

    def _noted(self, number: int, answer: Any) -> None:
        news = self.ledger.answered(number, answer)
        if isinstance(news, Written) and news.kept.state == ALIVE:
            self.roster.admit(number, self.world.now)
        elif isinstance(news, Written | FoundDead):
            self.roster.declare_dead(number, SILENCE)
            self.ledger.forget(number)
        elif isinstance(news, Lives):
            self.roster.beat(number, self.world.now)
        elif isinstance(news, Outranked):
            self.mandate.outranked(news.term)
        if not isinstance(answer, ControlStoreError):
            self.pump()

    def _read(self, term: int) -> None:
        def listed(keys: Any) -> None:
            if isinstance(keys, ControlStoreError):
                self.world.after(BEAT_S, lambda: self.act(lambda: self._read(term)))
                return
            found: dict[str, Any] = {}

            def got(key: str, value: Any) -> None:
                found[key] = value
                if len(found) == len(keys):
                    self._begin(term, found)

            for key in keys:
                self.ask(Get(key), partial(got, key))
            if not keys:
                self._begin(term, found)

        if self.mandate.term == term:
            self.ask(Keys(NODES), listed)

    def _begin(self, term: int, found: dict[str, Any]) -> None:
        if self.mandate.term != term:
            return
        if any(isinstance(value, ControlStoreError) for value in found.values()):
            self._read(term)
            return
        values = {int(key.removeprefix(NODES)): value for key, value in found.items() if value is not None}
        known = self.ledger.begin(term, values)
        self.mandate.outranked(max((kept.term for kept in known), default=0))
        if self.mandate.term == term:
            self._read_term = term
            self.roster.recover(known, self.world.now)
        self.pump()

    def join(self, node: Node, term: int) -> None:
        if self.holds:
            self.mandate.outranked(term)
        if not self.holds:
            return
        if not self.roster.join(node.record, self.world.now, returns=term > 0):
            self.ledger.keep(node.record, ALIVE)
            self.pump()
        self._tell(node)

    def beat(self, node: Node, number: int) -> None:
        is_in = self.roster.beat(node.record.number, self.world.now)
        if not self.holds or self.ledger.dooms(node.record.number):
            return
        if is_in:
            node.hear(lambda: node.answered(self.record, number))
        self._tell(node)

    def _tell(self, node: Node) -> None:
        alive = [record.number for record in self.roster.alive()]
        facts = self.record, self._read_term, self.roster.version, alive, list(self.roster.dead)
        node.hear(lambda: node.take(*facts))


def _trouble(world: World) -> None:
    """Something happens now and then."""
    if not world.is_rough:
        for node in world.nodes.values():
            node.cut_until = node.still_until = 0.0
        return
    chance = world.chance
    nodes = [node for node in world.nodes.values() if not node.is_killed]
    what = chance.random()
    length_s = chance.choice([0.5, 1.2, 3.0, 5.0, 8.0, 12.0])
    if what < 0.3 and nodes:
        chance.choice(nodes).cut_until = world.now + length_s
    elif what < 0.5 and nodes:
        chance.choice(nodes).still_until = world.now + length_s
    elif what < 0.6:
        world.store_back = world.now + length_s
    elif what < 0.9:
        old = max(world.directors)
        boss = world.directors[old]
        if what < 0.75:
            boss.is_killed = True
            world.after(1.0, partial(_replace, world, old))
        else:  # somebody takes it for dead
            boss.still_until = world.now + length_s
            if what < 0.82:
                world.directors[max(*world.nodes, old) + 1] = Boss(world, max(*world.nodes, old) + 1)
    elif nodes:
        chance.choice(nodes).is_killed = True
    world.after(chance.random() * 4, partial(_trouble, world))


def _replace(world: World, ended: int) -> None:
    number = max(*world.nodes, *world.directors) + 1
    world.directors[number] = Boss(world, number, ended)


@pytest.mark.parametrize("seed", [*range(50), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(50, 150))])
def test_lives_at_random(seed: int) -> None:
    world = World(seed)
    world.do(Claim("fence", None, b"%d" % (100 if seed % 2 else 1)))
    world.nodes = {number: Node(world, number) for number in range(1, 6)}
    world.directors = {50: Boss(world, 50)}
    world.after(3.0, partial(_trouble, world))
    world.run(ROUGH_S)
    if all(boss.is_killed for boss in world.directors.values()):
        _replace(world, max(world.directors))
    world.run(ROUGH_S + QUIET_S)
    (boss,) = [each for each in world.directors.values() if each.holds and not each.is_killed]
    running = [number for number, node in world.nodes.items() if not node.is_killed]
    assert {world.nodes[number].following.term for number in running} <= {boss.mandate.term}
    assert [record.number for record in boss.roster.alive()] == running
    kept = [decode_node(world.do(Get(key))) for key in world.do(Keys(NODES))]
    assert {each.record.number for each in kept if each.state == ALIVE} == set(running)
