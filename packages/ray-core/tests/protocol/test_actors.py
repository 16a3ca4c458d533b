"""The life of actors: every transition by itself, then random lives with all invariants after each event."""

import random
from collections import Counter, defaultdict
from itertools import count

import msgspec
import pytest
from msgspec.structs import replace

from ray.messages.node import ActorSpec, ExitCause
from ray.protocol.actors import (
    ALIVE,
    DEAD,
    FREE_PLACES,
    FREE_RESTARTS,
    MAX_RESTART_DELAY_S,
    PLACING,
    RESTARTING,
    STARTING,
    TRANSITIONS,
    ActorTable,
    EndOrderly,
    ExpectEnd,
    KillWorker,
    Place,
    Publish,
    Settle,
    Unplace,
)

CRASH = ExitCause(exit_code=1)
SEEDS, EVENTS = 240, 220
OWNERS = [b"process1", b"process2", b"process3"]


def spec(id=b"a", **fields):
    return ActorSpec(id, "C", b"f", b"code", b"args", "unix:/owner", {}, {"CPU": 1}, b"handle", **fields)


def kinds(effects):
    return [type(effect) for effect in effects]


def in_state(state, id=b"a", **fields):
    table = ActorTable()
    table.create(spec(id, **fields))
    if state != PLACING:
        table.granted(id, b"w", 7, "address")
    if state in (ALIVE, RESTARTING):
        table.started(b"w", b"")
    if state == RESTARTING:
        table.worker_lost(b"w", CRASH)
    entry = table.actors[id]
    assert entry.state == state
    return table, entry


# --- one transition at a time -----------------------------------------------------------------------------------------


def test_a_life_without_trouble():
    table = ActorTable()
    (place,) = table.create(spec(max_concurrency=2))
    entry = table.actors[b"a"]
    assert place == Place(entry, 0.0)
    assert entry.state == PLACING
    assert table.granted(b"a", b"w", 7, "address") == []
    assert entry.state == STARTING
    assert table.started(b"w", b"") == [Settle(entry), Publish(entry)]
    update = entry.update()
    assert (update.state, update.address, update.pid, update.incarnation) == (ALIVE, "address", 7, 0)
    assert table.unheld(b"a") == [EndOrderly(b"w")]
    assert entry.state == ALIVE
    assert table.worker_lost(b"w", CRASH)[-1] == Publish(entry)
    assert (entry.state, entry.cause.reason) == (DEAD, "all handles to it went out of scope")
    assert not table.by_worker


def test_a_failed_init_is_the_end():
    table, entry = in_state(STARTING, max_restarts=-1, name="n")
    assert table.started(b"w", b"error") == [Publish(entry), KillWorker(b"w", "actor failed to start")]
    assert (entry.state, entry.error, entry.worker) == (DEAD, b"error", None)
    assert table.named("", "n") is None
    assert table.started(b"w", b"") == table.worker_lost(b"w", CRASH) == []
    assert not table.by_worker


def test_what_can_never_be_placed_is_dead():
    table = ActorTable()
    table.create(spec(b"actor", name="n", max_restarts=-1))
    effects = table.unplaceable(b"actor", "is to run where no node is")
    assert [type(effect) for effect in effects] == [Unplace, Publish]
    update = table.actors[b"actor"].update()
    assert (update.state, update.cause) == (DEAD, ExitCause(reason="is to run where no node is", unplaced=True))
    assert table.named("", "n") is None


def test_a_second_report_of_the_start_changes_nothing():
    table, entry = in_state(ALIVE)
    assert table.started(b"w", b"") == table.started(b"w", b"error") == table.started(b"x", b"") == []
    assert entry.state == ALIVE


@pytest.mark.parametrize("state", [STARTING, ALIVE])
def test_a_lost_worker_is_replaced_while_restarts_are_left(state):
    table, entry = in_state(state, max_restarts=1)
    assert table.worker_lost(b"w", CRASH) == [Publish(entry), Place(entry)]
    assert (entry.state, entry.incarnation, entry.worker, entry.address, entry.pid) == (RESTARTING, 1, None, "", 0)
    table.granted(b"a", b"v", 8, "other")
    assert table.worker_lost(b"w", CRASH) == []
    assert table.worker_lost(b"v", CRASH)[-1] == Publish(entry)
    assert (entry.state, entry.cause, entry.restarts) == (DEAD, msgspec.structs.replace(CRASH, restarts=1), 1)


def test_endless_restarts_wait_ever_longer_up_to_a_limit():
    table, _ = in_state(RESTARTING, max_restarts=-1)
    delays = [0.0]
    for _ in range(1100):
        table.granted(b"a", b"w", 7, "address")
        (place,) = (effect for effect in table.worker_lost(b"w", CRASH) if type(effect) is Place)
        delays.append(place.delay_s)
    assert delays[:FREE_RESTARTS] == [0.0] * FREE_RESTARTS
    assert delays[FREE_RESTARTS] > 0
    assert delays == sorted(delays)
    assert delays[-1] == MAX_RESTART_DELAY_S


@pytest.mark.parametrize("state", [STARTING, ALIVE])
def test_killing_for_good_ends_the_worker_at_once(state):
    table, entry = in_state(state, max_restarts=-1)
    effects = table.kill(b"a", True, "killed")
    assert effects[-1] == KillWorker(b"w", "killed")
    assert Publish(entry) in effects
    assert (entry.state, entry.cause.reason, entry.worker) == (DEAD, "killed", None)
    assert table.kill(b"a", True, "again") == table.worker_lost(b"w", CRASH) == table.unheld(b"a") == []
    assert entry.cause.reason == "killed"


@pytest.mark.parametrize("state", [PLACING, RESTARTING])
def test_killing_one_without_a_worker(state):
    """It loses the process to come: with restarts left it waits on, for the next one."""
    table, entry = in_state(state, max_restarts=2)
    restarts = entry.restarts
    assert table.kill(b"a", False, "killed") == [Publish(entry)]
    assert (entry.state, entry.restarts, entry.incarnation) == (RESTARTING, restarts + 1, restarts + 1)
    assert table.kill(b"a", True, "killed") == [Unplace(entry), Publish(entry)]
    assert entry.state == DEAD
    table, entry = in_state(PLACING)
    assert table.kill(b"a", False, "killed") == [Unplace(entry), Publish(entry)]
    assert (entry.state, entry.cause.reason) == (DEAD, "killed")
    assert table.kill(b"nobody", True, "killed") == []


def test_an_actor_is_known_before_its_arguments_are_there():
    table = ActorTable()
    assert table.create(spec(name="n", max_restarts=1), ready=False) == []
    entry = table.named("", "n")
    with pytest.raises(ValueError, match="already taken"):
        table.create(spec(b"b", name="n"))
    assert table.kill(b"a", False, "killed") == [Publish(entry)]
    whole = spec(name="n", max_restarts=1, max_concurrency=3)
    assert table.create(whole) == [Place(entry)]
    assert table.create(whole) == []
    assert entry.spec.max_concurrency == 3
    table.create(spec(b"b"), ready=False)
    other = table.actors[b"b"]
    assert table.kill(b"b", True, "an argument failed", b"error") == [Unplace(other), Publish(other)]
    assert (other.error, other.update().error) == (b"error", b"error")
    assert table.create(spec(b"b")) == []


def test_a_detached_actor_without_its_arguments_dies_with_its_creator():
    table = ActorTable()
    table.create(spec(detached=True), ready=False)
    assert Publish(table.actors[b"a"]) in table.owner_lost(b"a")
    assert table.actors[b"a"].state == DEAD


def test_killing_with_restart_counts_as_one():
    table, entry = in_state(ALIVE, max_restarts=1)
    assert table.kill(b"a", False, "killed") == [Publish(entry), Place(entry), KillWorker(b"w", "killed")]
    assert table.worker_lost(b"w", CRASH) == []
    table.granted(b"a", b"v", 8, "other")
    assert KillWorker(b"v", "killed") in table.kill(b"a", False, "killed")
    assert entry.state == DEAD


@pytest.mark.parametrize("state", [PLACING, RESTARTING])
def test_a_process_that_ends_before_it_has_begun_costs_nothing(state):
    """So often in a row."""
    table, entry = in_state(state, max_restarts=1)
    restarts = entry.restarts
    for _ in range(2):
        for number in range(FREE_PLACES):
            table.granted(b"a", b"v%d" % number, 8, "other")
            assert table.worker_lost(b"v%d" % number, CRASH, begun=False) == [Place(entry)]
            assert (entry.state, entry.restarts, entry.incarnation) == (state, restarts, restarts)
            assert (entry.worker, entry.address, entry.pid) == (None, "", 0)
        table.granted(b"a", b"v", 8, "other")
        if not restarts:
            assert table.worker_lost(b"v", CRASH, begun=False) == [Publish(entry), Place(entry)]
            restarts, state = 1, RESTARTING
        else:
            assert table.worker_lost(b"v", CRASH, begun=False)[-1] == Publish(entry)
            assert (entry.state, entry.cause) == (DEAD, msgspec.structs.replace(CRASH, restarts=1))
            break


def test_the_count_of_those_that_had_not_begun_ends_with_one_that_starts():
    table, entry = in_state(PLACING, max_restarts=5)
    for restarts in range(3):
        for worker in (b"u", b"v", b"w"):
            table.granted(b"a", worker, 8, "other")
            assert table.worker_lost(worker, CRASH, begun=False) == [Place(entry)]
        table.granted(b"a", b"x", 8, "other")
        table.started(b"x", b"")
        table.worker_lost(b"x", CRASH, begun=False)  # it has, whatever it has noted
        assert entry.restarts == restarts + 1


def test_who_was_about_to_end_is_not_placed_again():
    table, entry = in_state(STARTING, max_restarts=-1)
    table.unheld(b"a")
    assert Place not in kinds(table.worker_lost(b"w", CRASH, begun=False))
    assert entry.state == DEAD


@pytest.mark.parametrize("restarts", [0, 3, -1])
def test_an_announced_end_is_not_restarted(restarts):
    table, entry = in_state(ALIVE, max_restarts=restarts)
    table.exiting(b"w", "exit_actor")
    table.exiting(b"nobody", "exit_actor")
    assert entry.state == ALIVE
    table.worker_lost(b"w", CRASH)
    assert (entry.state, entry.cause.reason) == (DEAD, "exit_actor")


def test_nobody_restarts_an_actor_that_was_about_to_end():
    table, entry = in_state(ALIVE, max_restarts=-1)
    table.unheld(b"a")
    assert Place not in kinds(table.kill(b"a", False, "killed"))
    assert entry.state == DEAD


@pytest.mark.parametrize("state", [PLACING, RESTARTING])
def test_an_unheld_actor_without_worker_dies_at_once(state):
    table, entry = in_state(state, max_restarts=-1)
    assert table.unheld(b"a") == [Unplace(entry), Publish(entry)]
    assert entry.state == DEAD


def test_a_detached_actor_outlives_handles_and_owner():
    table, entry = in_state(ALIVE, detached=True, name="n")
    assert table.unheld(b"a") == table.owner_lost(b"a") == []
    assert table.named("", "n") is entry
    assert KillWorker(b"w", "killed") in table.kill(b"a", True, "killed")


def test_a_lost_owner_takes_its_actors_along():
    """Those whose ids begin with its id."""
    table, entry = in_state(ALIVE, b"theowner1", max_restarts=-1)
    table.create(spec(b"theowner2"))
    table.create(spec(b"another-1"))
    effects = table.owner_lost(b"theowner")
    assert Counter(kinds(effects))[KillWorker] == 1
    assert [actor.state for actor in table.actors.values()] == [DEAD, DEAD, PLACING]
    assert entry.cause.reason == "the process that created it has ended"
    assert table.owner_lost(b"theowner") == []


def test_an_actor_that_ends_in_order_may_do_so_after_its_owner():
    for announce in (lambda table: table.unheld(b"a"), lambda table: table.exiting(b"w", "exit_actor")):
        table, entry = in_state(ALIVE, max_restarts=-1)
        announce(table)
        assert table.owner_lost(b"a") == [ExpectEnd(b"w")]
        assert entry.state == ALIVE
        assert Publish(entry) in table.worker_lost(b"w", CRASH)
        assert entry.state == DEAD


def test_names_are_taken_per_namespace_until_death():
    table, entry = in_state(PLACING, name="n", namespace="s")
    with pytest.raises(ValueError, match="already taken"):
        table.create(spec(b"b", name="n", namespace="s"))
    assert list(table.actors) == [b"a"]
    table.create(spec(b"c", name="n", namespace="t"))
    table.kill(b"a", True, "killed")
    assert table.named("s", "n") is None
    table.create(spec(b"d", name="n", namespace="s"))
    assert table.named("s", "n").spec.id == b"d"
    assert entry.update().state == DEAD


def test_a_name_is_free_as_soon_as_its_actor_is_about_to_end():
    for announce in (lambda table: table.unheld(b"a"), lambda table: table.exiting(b"w", "exit_actor")):
        table, _ = in_state(ALIVE, name="n")
        announce(table)
        assert table.named("", "n") is None
        table.create(spec(b"b", name="n"))
        table.worker_lost(b"w", CRASH)
        assert table.named("", "n").spec.id == b"b"


def test_the_dead_keep_only_what_answers_questions():
    table, entry = in_state(PLACING, name="n")
    table.kill(b"a", True, "killed")
    assert (entry.spec.code, entry.spec.args, entry.spec.handle) == (b"", b"", b"")
    assert (entry.spec.class_name, entry.spec.address, entry.spec.name) == ("C", "unix:/owner", "n")


def test_the_dead_are_forgotten_oldest_first_even_before_their_workers_end():
    table = ActorTable(max_dead=2)
    for number in range(5):
        actor, worker = b"a%d" % number, b"w%d" % number
        table.create(spec(actor))
        table.granted(actor, worker, number, "address")
        table.started(worker, b"error")
    assert list(table.actors) == [b"a3", b"a4"]
    for number in range(5):
        table.exiting(b"w%d" % number, "late")
        assert table.worker_lost(b"w%d" % number, CRASH) == []


def test_a_lost_watcher_is_not_told_any_more():
    table, entry = in_state(ALIVE)
    entry.watchers |= {b"p", b"q"}
    table.watcher_lost(b"p")
    assert entry.watchers == {b"q"}


# --- random lives -----------------------------------------------------------------------------------------------------


EVENTS_OF_TABLE = sorted({event for events in TRANSITIONS.values() for event in events})


def note_changes(table):
    """{(state, the next one): events of the table that have brought it about}, filled from now on."""
    seen, under_way = defaultdict(set), []

    def noted(event, call):
        def act(*args, **named):
            if under_way:  # an event that another one consists of
                return call(*args, **named)
            before = {actor: (entry, entry.state, entry.incarnation) for actor, entry in table.actors.items()}
            under_way.append(event)
            try:
                return call(*args, **named)
            finally:
                under_way.pop()
                for entry, state, incarnation in before.values():
                    if (entry.state, entry.incarnation) != (state, incarnation):
                        seen[state, entry.state].add(event)
                for actor in table.actors.keys() - before.keys():
                    seen[None, table.actors[actor].state].add(event)

        return act

    for event in EVENTS_OF_TABLE:
        setattr(table, event, noted(event, getattr(table, event)))
    return seen


class Life:
    """Drives a table as a node manager would, keeps its own books and compares."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.event = 0
        self.max_dead = self.rng.choice([1, 5, 1000])
        self.table = ActorTable(self.max_dead)
        self.changes = note_changes(self.table)
        self.numbers = count(1)
        self.entries, self.specs = {}, {}
        #: Actors that wait for a worker, and for their arguments.
        self.placing, self.incomplete = set(), set()
        #: Processes that live: {worker: actor}; some were told to end.
        self.processes, self.doomed = {}, set()
        self.delays, self.deaths, self.announced = {}, Counter(), set()

    def step(self):
        rng, table = self.rng, self.table
        actor = rng.choice(list(self.entries)) if self.entries else b""
        worker = rng.choice(list(self.processes)) if self.processes else b""
        match rng.choices(range(11), [6, 12, 12, 5, 2, 3, 1, 1, 0.3, 4, 1])[0]:
            case 0:
                self.create()
            case 1 if self.placing:
                actor = rng.choice(sorted(self.placing))
                self.placing.remove(actor)
                worker = b"w%d" % next(self.numbers)
                self.processes[worker] = actor
                self.apply(table.granted(actor, worker, 7, "address"))
            case 2 if worker:
                self.apply(table.started(worker, b"error" if rng.random() < 0.1 else b""))
            case 3 if worker:
                self.lose(worker)
            case 4 if actor:
                self.apply(table.kill(actor, False, "killed"))
            case 5 if actor:
                self.apply(table.kill(actor, True, "killed"))
                assert self.entries[actor].state == DEAD
            case 6 if worker:
                table.exiting(worker, "announced")
                if worker in table.by_worker:
                    self.announced.add(self.processes[worker])
            case 7 if actor:
                if self.entries[actor].state != DEAD and not self.specs[actor].detached:
                    self.announced.add(actor)
                self.apply(table.unheld(actor))
            case 8:
                self.lose_owner(rng.choice(OWNERS))
            case 9 if self.incomplete:
                actor = rng.choice(sorted(self.incomplete))
                if self.entries[actor].state != DEAD:
                    self.apply(table.create(self.specs[actor]), late=True)
                self.incomplete.discard(actor)
            case 10 if self.placing:
                self.apply(table.unplaceable(rng.choice(sorted(self.placing)), "is to run where no node is"))
        self.check()

    def create(self):
        rng = self.rng
        new = spec(
            rng.choice(OWNERS) + b"%d" % next(self.numbers), name=rng.choice(["", "", "n", "m"]),
            max_restarts=rng.choice([0, 1, 5, -1]), detached=rng.random() < 0.2,
        )  # fmt: skip
        taken = any(
            entry.state != DEAD and actor not in self.announced and new.name == self.specs[actor].name != ""
            for actor, entry in self.entries.items()
        )
        try:
            complete = rng.random() < 0.7
            effects = self.table.create(new, ready=complete)
        except ValueError:
            assert taken
            return
        assert not taken
        self.entries[new.id], self.specs[new.id] = self.table.actors[new.id], new
        if not complete:
            self.incomplete.add(new.id)
        self.apply(effects)

    def lose(self, worker):
        actor = self.processes.pop(worker)
        was_its_worker = worker in self.table.by_worker
        self.doomed.discard(worker)
        begun, entry = self.rng.random() < 0.5, self.entries[actor]
        before = entry.restarts, entry.unbegun
        self.apply(self.table.worker_lost(worker, CRASH, begun=begun), late=not begun)
        if entry.restarts == before[0] and entry.state != DEAD and was_its_worker:
            assert not begun
            assert entry.unbegun == before[1] + 1
        if was_its_worker and actor in self.announced:
            assert self.entries[actor].state == DEAD

    def lose_owner(self, owner):
        self.apply(self.table.owner_lost(owner))
        for actor, entry in self.entries.items():
            if actor.startswith(owner) and (not self.specs[actor].detached or not entry.ready):
                assert entry.state == DEAD or actor in self.announced

    def apply(self, effects, late=False):
        published = set()
        for effect in effects:
            match effect:
                case Place(entry, delay_s):
                    actor = entry.spec.id
                    assert actor not in self.placing
                    assert entry.state in (PLACING, RESTARTING)
                    assert actor not in self.announced
                    assert delay_s <= MAX_RESTART_DELAY_S
                    assert delay_s == 0 or entry.restarts > FREE_RESTARTS
                    if not late:
                        assert self.delays.get(actor, 0.0) <= delay_s
                        assert (delay_s > 0) == (entry.restarts > FREE_RESTARTS)
                        self.delays[actor] = delay_s
                    self.placing.add(actor)
                case Unplace(entry):
                    self.placing.discard(entry.spec.id)
                case Publish(entry):
                    published.add(entry.spec.id)
                    self.deaths[entry.spec.id] += entry.state == DEAD
                case Settle(entry):
                    assert entry.state == ALIVE
                case KillWorker(worker):
                    assert worker in self.processes
                    assert worker not in self.table.by_worker
                    self.doomed.add(worker)
                case EndOrderly(worker) | ExpectEnd(worker):
                    assert self.table.by_worker[worker] == self.processes[worker] in self.announced
        changed = {actor for actor, state in self.states().items() if self.before.get(actor, PLACING) != state}
        assert changed <= published, "a change was not told"
        self.before = self.states()

    before: dict[bytes, str] = {}

    def states(self):
        """As they are told: of one that is about to start, that it is placed."""
        placed = {actor: RESTARTING if entry.incarnation else PLACING for actor, entry in self.entries.items()}
        return {
            actor: placed[actor] if entry.state == STARTING else entry.state for actor, entry in self.entries.items()
        }

    def check(self):
        table = self.table
        table.validate()
        live = {actor: entry for actor, entry in self.entries.items() if entry.state != DEAD}
        assert table.actors.keys() >= live.keys()
        assert len(table.actors) - len(live) <= self.max_dead
        assert table.by_worker == {entry.worker: actor for actor, entry in live.items() if entry.worker is not None}
        free = self.processes.keys() - self.doomed
        assert table.by_worker.keys() == free
        assert max(Counter(self.processes[worker] for worker in free).values(), default=0) <= 1
        waiting = {actor for actor, entry in live.items() if entry.worker is None}
        assert self.placing == waiting - self.incomplete
        names = {("", self.specs[actor].name): actor for actor in live.keys() - self.announced}
        names.pop(("", ""), None)
        assert table.names == names
        for actor, entry in self.entries.items():
            limit = self.specs[actor].max_restarts
            assert entry.restarts == entry.incarnation
            assert limit < 0 or entry.restarts <= limit
            assert entry.unbegun <= FREE_PLACES
            assert self.deaths[actor] == (entry.state == DEAD)
            assert (entry.worker is not None) == (entry.state in (STARTING, ALIVE))
            assert bool(entry.address) == (entry.state in (STARTING, ALIVE))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("block", [*range(3), *(pytest.param(block, marks=pytest.mark.slow) for block in range(3, 8))])
def test_a_random_life_keeps_every_invariant(block):
    for seed in range(block, SEEDS, 8):
        life = Life(seed)
        try:
            for life.event in range(EVENTS):
                life.step()
            for worker in list(life.processes):
                life.lose(worker)
            for actor in list(life.entries):
                life.apply(life.table.kill(actor, True, "the end"))
        except Exception as error:
            error.add_note(f"seed {seed}, event {life.event}")
            raise
        assert not life.placing
        assert not life.table.by_worker
        assert not life.table.names
        assert len(life.table.actors) <= life.max_dead


def moved_from(life):
    """What another table has of the actors of a life goes on in it; returns its changes."""
    table = ActorTable()
    changes = note_changes(table)
    for entry in life.entries.values():
        if entry.state == DEAD:
            table.bury(entry)
            continue
        state = STARTING if entry.worker else RESTARTING if entry.incarnation else PLACING
        table.restore(replace(entry, state=state, watchers=set()))
        table.validate()
    assert table.by_worker == life.table.by_worker
    assert table.names == life.table.names
    for worker, actor in list(table.by_worker.items()):
        table.started(worker, b"")
        assert table.actors[actor].state == ALIVE
    table.host(spec(b"hosted", max_restarts=-1), "job", 3, b"worker", 7, "address")
    table.validate()
    return changes


def test_states_follow_each_other_as_the_table_of_transitions_says():
    """And each of them does."""
    seen = defaultdict(set)
    for seed in range(SEEDS):
        life = Life(seed)
        for _ in range(EVENTS):
            life.step()
        moved = moved_from(life)
        for changes in (life.changes, moved):
            for change, events in changes.items():
                seen[change] |= events
    assert {change: set(events) for change, events in TRANSITIONS.items()} == seen


# --- of other tables --------------------------------------------------------------------------------------------------


def hosted(begins=True):
    table = ActorTable()
    table.host(spec(name="n", max_restarts=-1), "job", 2, b"w", 7, "address")
    if begins:
        table.started(b"w", b"")
    return table, table.actors[b"a"]


def test_a_hosted_process_is_the_last_of_its_actor_here():
    """Another table has the name, decides on restarts, and on the end of its job."""
    table, entry = hosted()
    assert (entry.state, entry.incarnation, table.names) == (ALIVE, 2, {})
    assert table.outlives("job")
    assert table.owner_lost(b"a") == []
    assert table.create(spec(b"other", name="n"))
    assert kinds(table.worker_lost(b"w", CRASH)) == [Unplace, Publish]
    assert (entry.state, entry.begun) == (DEAD, True)
    assert not table.outlives("job")
    table.validate()


def test_a_hosted_process_that_does_not_begin_is_over_as_well():
    table, entry = hosted(begins=False)
    table.worker_lost(b"w", CRASH, begun=False)
    assert (entry.state, entry.begun) == (DEAD, False)


def test_a_hosted_actor_may_come_again_once_it_has_ended():
    table, _ = hosted()
    with pytest.raises(ValueError, match="process of the actor 61 already"):
        table.host(spec(max_restarts=-1), "job", 3, b"w2", 7, "address")
    table.worker_lost(b"w", CRASH)
    table.host(spec(max_restarts=-1), "job", 3, b"w2", 8, "address")
    assert (table.actors[b"a"].state, table.by_worker) == (STARTING, {b"w2": b"a"})
    table.validate()


def test_the_actors_of_a_node_end_with_it():
    table = ActorTable()
    table.create(spec(b"node1---one"))
    table.create(spec(b"node1---two", detached=True))
    table.create(spec(b"node2---one"))
    table.owner_lost(b"node1")
    assert [entry.state for entry in table.actors.values()] == [DEAD, PLACING, PLACING]


@pytest.mark.parametrize(
    ("state", "breaks", "what"),
    [
        (ALIVE, lambda table, entry: setattr(entry, "state", "asleep"), "an actor that is asleep"),
        (ALIVE, lambda table, entry: setattr(entry, "state", PLACING), "that is placing, and its process"),
        (PLACING, lambda table, entry: setattr(entry, "state", RESTARTING), "that has had no process"),
        (ALIVE, lambda table, entry: setattr(entry, "state", DEAD), "a dead actor is counted as alive"),
        (ALIVE, lambda table, entry: table.by_worker.update(x=b"a"), "an actor has two processes"),
        (PLACING, lambda table, entry: setattr(entry, "exiting", "soon"), "about to end has its name"),
        (RESTARTING, lambda table, entry: setattr(entry, "restarts", 9), "a process that was no restart"),
    ],
)
def test_what_is_wrong_is_found(state, breaks, what):
    table, entry = in_state(state, name="n", max_restarts=1)
    table.validate()
    breaks(table, entry)
    with pytest.raises(AssertionError, match=what):
        table.validate()
