"""A director keeps actors: what it says after it has written, what it asks hosts, and what the next one makes of it."""

from __future__ import annotations

import pytest
from tests.directors import HOME, HOST, OTHER, Director, Link, Store, spec

from ray.abc.control_operations import Append, Get, Keys, Put
from ray.messages import cluster, node
from ray.protocol.actor_entries import ALIVE, DEAD, PLACING, RESTARTING, STARTING
from ray.protocol.actors import INIT_RAISED

CRASH = node.ExitCause(exit_code=1)
FIRST, SECOND = HOST + b"wrk1", OTHER + b"wrk2"


def running(director: Director, made: node.ActorSpec, process: bytes = FIRST) -> None:
    director.create(made)
    director.store.deliver()
    director.lend(made.id, process)
    director.store.deliver()
    director.says(made.id, process, ALIVE)
    director.home.take(cluster.Ordered)


def test_nothing_is_said_and_started_before_it_is_written() -> None:
    director, made = Director(Store()), spec()
    director.store.is_there = False
    number = director.create(made)
    assert director.home.take(cluster.Ordered) == []
    assert not director.store.names()
    director.store.is_there = True
    director.store.deliver()
    assert director.home.take(cluster.Ordered) == [cluster.Ordered(number)]
    assert len(director.store.names()) == 1
    director.store.is_there = False
    director.lend(made.id, FIRST)
    assert director.host.take(cluster.StartDirected) == []
    director.store.is_there = True
    director.store.deliver()
    (start,) = director.host.take(cluster.StartDirected)
    assert (start.term, start.spec.id, start.incarnation) == (7, made.id, 0)
    director.says(made.id, FIRST, ALIVE)
    assert director.state(made.id) == (ALIVE, 0)
    (update,) = director.home.take(node.ActorUpdate)
    assert (update.state, update.process) == (ALIVE, FIRST)


def test_two_homes_want_a_name() -> None:
    director = Director(Store())
    first = director.create(spec(1, name="n"))
    second = director.order(node.CreateActor(1, spec(2, OTHER + b"proc", name="n")), director.other)
    director.store.deliver()
    assert director.home.take(cluster.Ordered) == [cluster.Ordered(first)]
    (answer,) = director.other.take(cluster.Ordered)
    text = "The name 'n' is already taken by a live actor in namespace 'default'."
    assert answer == cluster.Ordered(second, False, text)
    director.order(node.CreateActor(1, spec(2, OTHER + b"proc", name="n")), director.other, second)
    assert director.other.take(cluster.Ordered) == [answer]


def test_what_waits_for_an_actor_whose_name_is_taken_goes_on() -> None:
    """Nothing of it is written any more."""
    director, went = Director(Store()), []
    director.store.do(Put("name:7:default:n", b"of somebody else"))
    made = spec(name="n")
    director.create(made)
    director.book.when_written(made.id, lambda: went.append(made.id))
    director.store.deliver()
    assert went == [made.id]
    assert director.book._waiting == {}


def test_an_order_that_comes_twice_is_done_once() -> None:
    director, made = Director(Store()), spec()
    number = director.create(made)
    director.order(node.CreateActor(1, made), number=number)
    director.store.deliver()
    director.order(node.CreateActor(1, made), number=number)
    assert director.home.take(cluster.Ordered) == [cluster.Ordered(number)] * 3
    assert director.state(made.id) == (PLACING, 0)


def test_a_kill_is_answered_once_it_is_written() -> None:
    director, made = Director(Store()), spec()
    running(director, made)
    director.store.is_there = False
    number = director.order(node.KillActor(1, made.id, True, "killed"))
    assert director.elsewhere.killed == [FIRST]
    assert director.home.take(cluster.Ordered) == []
    director.store.is_there = True
    director.store.deliver()
    assert director.home.take(cluster.Ordered) == [cluster.Ordered(number)]
    assert director.store.names() == []


@pytest.mark.parametrize("is_new", [True, False])
def test_a_kill_that_was_carried_out_and_not_answered_is_not_done_again(is_new: bool) -> None:
    """It is given again to the next director, or to the same one where what was said is lost; the next is another."""
    store, made = Store(), spec(detached=True, max_restarts=2)
    director = Director(store)
    running(director, made)
    kill = node.KillActor(1, made.id, False, "killed")
    number = director.order(kill)
    store.deliver()
    director.home.take(cluster.Ordered)  # which is lost
    if is_new:
        director = Director(store, b"two")
    director.order(kill, number=number)
    store.deliver()
    assert director.state(made.id) == (RESTARTING, 1)
    assert director.home.take(cluster.Ordered) == [cluster.Ordered(number)]
    director.order(kill, number=number + 1)
    assert director.state(made.id) == (RESTARTING, 2)
    assert director.order(kill, director.other, number) == number
    assert director.state(made.id)[0] == DEAD


def test_a_restart_waits_for_the_certain_end_of_the_process_before() -> None:
    director, made = Director(Store()), spec()
    running(director, made)
    director.order(node.KillActor(1, made.id, False, "killed"))
    assert director.state(made.id) == (RESTARTING, 1)
    assert not director.waits(made.id)
    director.says(made.id, FIRST, DEAD, cause=CRASH)
    assert director.waits(made.id)


def test_what_a_host_does_not_have_any_more_has_ended() -> None:
    """And what it has that is not wanted is to end: the order for that was lost."""
    director, made, gone = Director(Store()), spec(1), spec(2, max_restarts=0)
    running(director, made)
    running(director, gone, HOST + b"wrk9")
    director.order(node.KillActor(1, made.id, False, "killed"))
    director.directed.node_up(director.host)  # type: ignore[arg-type]
    director.says(made.id, FIRST, ALIVE, whole=True)
    assert director.elsewhere.killed == [FIRST, FIRST]
    assert not director.waits(made.id)
    assert director.state(gone.id) == (DEAD, 0)
    assert director.actors.table.actors[gone.id].cause == node.ExitCause(
        reason="its node does not have its process any more"
    )


def test_a_lost_connection_is_no_death() -> None:
    """Its node manager stands still, its actor goes on. Nothing takes its place before the verdict."""
    director, made = Director(Store()), spec()
    running(director, made)
    director.directed._members.members.pop(HOST)  # type: ignore[attr-defined]
    assert director.state(made.id) == (ALIVE, 0)
    again = Link(HOST)
    director.directed._members.members[HOST] = again  # type: ignore[assignment]
    director.directed.node_up(again)  # type: ignore[arg-type]
    assert [asked.term for asked in again.take(cluster.AskHosted)] == [7]
    director.says(made.id, FIRST, ALIVE, whole=True)
    assert director.state(made.id) == (ALIVE, 0)
    director.directed.node_dead(HOST, node.ExitCause(reason="it was not heard of for 9 s", node="host"))
    assert director.state(made.id) == (RESTARTING, 1)
    assert director.waits(made.id)


def test_what_has_begun_since_it_was_asked_may_be_missing() -> None:
    director, made = Director(Store()), spec()
    director.directed.node_up(director.host)  # type: ignore[arg-type]
    running(director, made)
    director.hosts(HOST, [])
    assert director.state(made.id) == (ALIVE, 0)


def test_a_node_takes_along_what_its_processes_have_made() -> None:
    director, named, kept = Director(Store()), spec(1, max_restarts=0), spec(2, detached=True, max_restarts=0)
    running(director, named)
    running(director, kept, SECOND)
    director.directed.node_dead(HOME, node.ExitCause(reason="dead"))
    assert director.state(named.id)[0] == DEAD
    assert director.elsewhere.killed == [FIRST]
    assert director.state(kept.id)[0] == ALIVE


@pytest.mark.parametrize("detached", [False, True])
def test_a_creator_that_dies_before_its_actor_is_written(detached: bool) -> None:
    director, made = Director(Store()), spec(detached=detached)
    director.store.is_there = False
    director.create(made)
    director.order(cluster.ProcessGone(HOME + b"proc"))
    director.store.is_there = True
    director.store.deliver()
    assert director.state(made.id)[0] == (PLACING if detached else DEAD)
    assert len(director.store.names()) == detached


def test_an_actor_that_fails_is_dead_with_its_error() -> None:
    director, made = Director(Store()), spec()
    director.create(made)
    director.store.deliver()
    director.lend(made.id, FIRST)
    director.store.deliver()
    director.says(made.id, FIRST, DEAD, cause=node.ExitCause(reason=INIT_RAISED), error=b"error")
    assert director.state(made.id) == (DEAD, 0)
    assert director.actors.table.actors[made.id].error == b"error"


def test_a_worker_that_never_begins_costs_no_restart() -> None:
    director, made = Director(Store()), spec(max_restarts=0)
    director.create(made)
    director.store.deliver()
    director.lend(made.id, FIRST)
    director.directed.lease_ended(HOST + b"lease123", CRASH)
    director.store.deliver()
    assert director.host.take(cluster.StartDirected) == []
    assert director.state(made.id) == (PLACING, 0)
    assert director.waits(made.id)


def test_while_the_store_is_away_nothing_is_made_and_that_is_said() -> None:
    director, made = Director(Store()), spec()
    director.store.is_there = False
    number = director.create(made)
    director.store.fail()
    director.book._give_up(cluster.KeptActor(made.id), director.book._new[made.id])
    (answer,) = director.home.take(cluster.Ordered)
    assert answer == cluster.Ordered(number, False, "10.0.0.9:6379 has not been there for 3 s", True)
    director.store.is_there = True
    director.book.turn()
    director.store.deliver()
    director.book.turn()
    director.store.deliver()
    assert director.store.names() == []


# --- the next one -----------------------------------------------------------------------------------------------------


def test_the_next_director_waits_for_the_hosts() -> None:
    """It knows names and actors; what their hosts have is as it was, and watchers hear of it then."""
    store, made = Store(), spec(detached=True)
    running(Director(store), made)
    new = Director(store, b"two")
    assert new.jobs == ["job"]
    assert new.state(made.id) == (STARTING, 0)
    assert [asked.term for asked in new.host.take(cluster.AskHosted)] == [7]
    new.directed.watch(new.home, made.id)
    assert new.home.take(node.ActorUpdate) == []
    new.says(made.id, FIRST, ALIVE, whole=True)
    assert [update.state for update in new.home.take(node.ActorUpdate)] == [ALIVE]
    number = new.create(spec(2, name="n1"))
    store.deliver()
    assert [(answer.number, answer.ok) for answer in new.home.take(cluster.Ordered)] == [(number, False)]


@pytest.mark.parametrize("is_known", [False, True])
def test_what_died_meanwhile_is_started_again(is_known: bool) -> None:
    """Its host has it among the dead, or knows nothing of it."""
    store, made = Store(), spec(detached=True)
    running(Director(store), made)
    new = Director(store, b"two")
    if is_known:
        new.says(made.id, FIRST, DEAD, whole=True, cause=CRASH)
    else:
        new.hosts(HOST, [])
    assert new.waits(made.id)


def test_nodes_that_died_meanwhile() -> None:
    store = Store()
    old = Director(store)
    there, named, kept = spec(1, detached=True), spec(2), spec(3, detached=True)
    for made, process in ((there, FIRST), (named, SECOND), (kept, OTHER + b"wrk3")):
        running(old, made, process)
    new = Director(store, b"two", (OTHER,))
    assert new.state(there.id) == (RESTARTING, 1)
    assert new.waits(there.id)
    assert new.state(named.id)[0] == DEAD
    assert new.elsewhere.killed == [SECOND]
    assert new.state(kept.id)[0] == STARTING
    store.deliver()
    assert len(store.names()) == 2


def test_what_was_not_started_is_placed_and_what_is_dead_stays_so() -> None:
    store = Store()
    old = Director(store)
    waits, early, dead = spec(1), spec(2), spec(3)
    running(old, dead)
    old.create(waits)
    old.create(early, ready=False)
    old.order(node.KillActor(1, dead.id, True, "killed"))
    store.deliver()
    new = Director(store, b"two")
    assert new.waits(waits.id)
    assert not new.waits(early.id)
    assert new.state(dead.id)[0] == DEAD
    new.create(early)
    store.deliver()
    assert new.waits(early.id)


@pytest.mark.parametrize("detached", [False, True])
def test_a_home_that_dies_before_it_directs_takes_along_what_it_has_ordered(detached: bool) -> None:
    store, made = Store(), spec(detached=detached)
    store.is_there = False
    director = Director(store)
    director.create(made)
    director.nodes.discard(HOME)
    director.directed.node_dead(HOME, node.ExitCause(reason="dead"))
    store.is_there = True
    store.deliver()
    assert director.state(made.id)[0] == (PLACING if detached else DEAD)
    assert len(store.names()) == detached


@pytest.mark.parametrize("host", [HOST, OTHER])
def test_earlier_processes_of_an_actor_say_nothing_of_its_newest(host: bytes) -> None:
    """Its host is told of the job when it speaks of that one, and watchers wait for it."""
    store, made, newest = Store(), spec(detached=True), HOST + b"wrk2"
    old = Director(store)
    running(old, made, host + b"wrk1")
    old.says(made.id, host + b"wrk1", DEAD, cause=CRASH)
    old.lend(made.id, newest)
    store.deliver()
    old.says(made.id, newest, ALIVE, 1)
    new = Director(store, b"two")
    new.directed.watch(new.home, made.id)
    before = cluster.HostedActor(made.id, 0, host + b"wrk1", DEAD, CRASH)
    now = cluster.HostedActor(made.id, 1, newest, ALIVE)
    if host == HOST:
        new.hosts(HOST, [before, now])
    else:
        new.hosts(OTHER, [before])
        assert new.home.take(node.ActorUpdate) == []
        new.hosts(HOST, [now])
    assert [update.state for update in new.home.take(node.ActorUpdate)] == [ALIVE]
    assert new.adopted == [(HOST, "job")]


def test_what_the_store_has_lost_is_ended_where_it_runs() -> None:
    made = spec(detached=True)
    running(Director(Store()), made)
    new = Director(Store(), b"two")
    new.says(made.id, FIRST, ALIVE, whole=True)
    assert new.elsewhere.killed == [FIRST]
    assert new.adopted == []
    new.directed.node_up(new.host)  # type: ignore[arg-type]
    new.hosts(HOST, [])
    new.says(made.id, FIRST, DEAD, cause=CRASH)
    assert made.id not in new.actors.table.actors


def test_what_died_under_another_director_is_ended_where_it_runs() -> None:
    """The order for that was lost with the director."""
    store, made = Store(), spec(detached=True)
    old = Director(store)
    running(old, made)
    old.order(node.KillActor(1, made.id, True, "killed"))
    store.deliver()
    new = Director(store, b"two")
    new.says(made.id, FIRST, ALIVE, whole=True)
    assert new.elsewhere.killed == [FIRST]
    assert new.adopted == []


def test_no_actor_of_a_job_of_which_nothing_is_known_any_more() -> None:
    director, made = Director(Store()), spec(detached=True)
    director.config = b""
    number = director.create(made)
    director.store.deliver()
    assert director.home.take(cluster.Ordered) == [cluster.Ordered(number, False, "its job is over")]
    assert director.store.do(Keys("")) == ["director"]


def test_what_comes_before_it_directs_waits() -> None:
    store, made = Store(), spec()
    store.is_there = False
    director = Director(store)
    number = director.create(made)
    director.directed.watch(director.home, made.id)
    assert director.home.take(cluster.Ordered) == []
    store.is_there = True
    store.deliver()
    assert director.home.take(cluster.Ordered) == [cluster.Ordered(number)]
    assert [update.state for update in director.home.take(node.ActorUpdate)] == [PLACING]


def test_keys_that_somebody_else_has_written_are_not_read() -> None:
    store, made = Store(), spec(detached=True)
    running(Director(store), made)
    store.do(Put("actor:mine", b"1"))
    store.do(Append("actor:0a", b"1"))
    new = Director(store, b"two")
    assert new.state(made.id)[0] == STARTING
    assert len(new.actors.table.actors) == 1


def test_what_somebody_else_has_written_is_not_used() -> None:
    store, made = Store(), spec(detached=True)
    running(Director(store), made)
    (key,) = store.do(Keys("born:"))
    value = store.do(Get(key))
    store.do(Put(key, value[:-1] + b"?"))
    new = Director(store, b"two")
    assert made.id not in new.actors.table.actors
    assert new.texts == [f"the record of actor {made.id.hex()} was not written by this cluster, and is not used"]
