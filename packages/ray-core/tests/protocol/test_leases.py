"""The lease table: every event by itself, then random lives of a node with all invariants after each event."""

import random
import time
from collections import Counter
from itertools import count

import pytest

from ray.abc.scheduler import NodeView, ResourceRequest
from ray.builtin.schedulers import HybridPolicy
from ray.messages.placement import LabelRule, Placement
from ray.protocol.leases import ZERO_COST_LEASES_PER_CPU, Grant, Infeasible, LeaseTable, RevokeLease, StartWorkers
from ray.protocol.resources import UNIT, NodeResources

NODE = b"node"
ONE = {"CPU": UNIT}


def make(**total):
    numbers = count(1)
    resources = NodeResources({name: round(amount * UNIT) for name, amount in (total or {"CPU": 2}).items()})
    return LeaseTable(NODE, resources, HybridPolicy(), lambda: b"lease%d" % next(numbers))


def ask(resources=None, depth=0, priority=0):
    return ResourceRequest(ONE if resources is None else resources, depth, priority)


def with_workers(table, *workers):
    for worker in workers:
        assert table.worker_ready(worker) == []
    return table


def of_type(kind, effects):
    return [effect for effect in effects if type(effect) is kind]


def granted(effects):
    assert all(type(effect) is Grant for effect in effects), effects
    return [effect.lease for effect in effects]


# --- one event at a time ----------------------------------------------------------------------------------------------


def test_a_demand_starts_a_worker_and_gets_it_when_ready():
    table = make()
    assert table.demand((b"a", 1), ask(), 1, "f") == [StartWorkers(1)]
    assert table.demand((b"a", 1), ask(), 1, "f") == []
    assert table.starting == 1
    (lease,) = granted(table.worker_ready(b"w"))
    assert (lease.worker, lease.key, lease.allocation.resources) == (b"w", (b"a", 1), ONE)
    assert (table.starting, table.demands, dict(table.idle)) == (0, {}, {})
    assert table.resources.available() == {"CPU": UNIT}


def test_a_worker_serves_its_own_job_alone():
    table = make(CPU=3)
    assert table.start_ahead(2, "1") == [StartWorkers(2, "1")]
    table.worker_ready(b"v", "1")
    table.worker_ready(b"w", "1")
    assert table.demand((b"b", 1), ask(), 1, job="2") == [StartWorkers(1, "2")]
    (first,) = granted(table.demand((b"a", 1), ask(), 1, job="1"))
    assert (first.worker, first.job) == (b"w", "1")
    (other,) = granted(table.worker_ready(b"x", "2"))
    assert (other.worker, other.job) == (b"x", "2")
    assert table.release(first.id) == table.release(other.id) == []
    assert dict(table.idle) == {b"v": "1", b"w": "1", b"x": "2"}
    assert (table.idle.of_others("1"), table.idle.of_others("2"), table.idle.of_others("3")) == (b"x", b"v", b"v")


def test_an_owner_of_another_job_gets_its_share():
    """It cannot have the worker, but what that holds."""
    table = with_workers(make(CPU=2))
    for worker in (b"v", b"w"):
        table.worker_ready(worker, "1")
    first, second = granted(table.demand((b"a", 1), ask(), 9, job="1"))
    (revoke,) = table.demand((b"b", 1), ask(), 1, job="2")
    assert revoke == RevokeLease(second)
    assert table.release(second.id) == [StartWorkers(1, "2")]
    (lease,) = granted(table.worker_ready(b"x", "2"))
    assert lease.key == (b"b", 1)
    assert list(table.leases.values()) == [first, lease]


def test_no_more_workers_are_started_than_there_is_room_for():
    table = make(CPU=3)
    assert table.demand((b"a", 1), ask(), 100) == [StartWorkers(3)]
    assert table.resources.available() == table.resources.total()


@pytest.mark.parametrize("resources", [{}, {"CPU": 0}])
def test_another_node_that_asks_for_any_number_of_workers_without_needs_gets_some(resources):
    assert make(CPU=2).room_for(ask(resources), (1 << 32) - 1) == 2 * ZERO_COST_LEASES_PER_CPU


def test_demands_of_one_each_start_their_workers_together():
    table = make(CPU=4)
    started = [table.demand((NODE, number), ask(), 1) for number in range(6)]
    assert started == [[StartWorkers(1)]] * 4 + [[], []]


def test_demands_without_cost_start_a_bounded_number_of_workers():
    table = make(CPU=2)
    limit = 2 * ZERO_COST_LEASES_PER_CPU
    for number in range(10 * limit):
        table.demand((NODE, number), ask({}), 1)
    assert table.starting == limit
    for worker in range(10 * limit):
        assert len(of_type(Grant, table.worker_ready(b"%d" % worker))) == 1
        assert table.starting <= limit
    assert (len(table.leases), table.starting) == (10 * limit, 0)


def test_tasks_without_cost_are_limited_by_number():
    table = make(CPU=1)
    with_workers(table, *(b"%d" % number for number in range(9)))
    leases = granted(table.demand((b"a", 1), ask({}), 9))
    assert len(leases) == ZERO_COST_LEASES_PER_CPU
    assert len(granted(table.blocked(leases[0].worker))) == 1
    assert len(granted(table.release(leases[1].id))) == 1


def test_a_withdrawn_demand_is_not_served():
    table = make()
    table.demand((b"a", 1), ask(), 1)
    assert table.demand((b"a", 1), ask(), 0) == []
    assert table.worker_ready(b"w") == []
    assert list(table.idle) == [b"w"]


def test_a_changed_demand_replaces_the_old_one():
    table = with_workers(make(), b"v", b"w")
    table.demand((b"a", 1), ask({"CPU": 2 * UNIT}), 1)
    assert len(table.leases) == 1
    table.demand((b"b", 1), ask({"CPU": 2 * UNIT}), 1)
    table.demand((b"b", 1), ask({}, priority=2), 3)
    assert table.demands[b"b", 1].request.priority == 2
    assert table.demands[b"b", 1].count == 2


def test_a_failed_start_is_made_up_for():
    table = make()
    table.demand((b"a", 1), ask(), 1)
    assert table.worker_failed_to_start() == [StartWorkers(1)]
    table.demand((b"a", 1), ask(), 0)
    assert table.worker_failed_to_start() == table.worker_failed_to_start() == []
    assert table.starting == 0


class Others:
    """What a node knows of other nodes."""

    def __init__(self, *nodes):
        self.nodes = {node.node_id: node for node in nodes}
        self.under_way = {}
        self.kept = set()

    def asked(self, key):
        return self.under_way.get(key, 0)

    def keeps(self, entry):
        return entry.key in self.kept


def other(name, free, cpus=4, **labels):
    return NodeView(name, {"CPU": cpus * UNIT}, {"CPU": free * UNIT} if free else {}, False, labels, name.decode())


def test_the_policy_may_prefer_other_nodes():
    table = with_workers(make(CPU=4), b"1", b"2", b"3", b"4")
    table.others = Others(other(b"oth1", 4), other(b"oth2", 0))
    assert len(granted(table.demand((b"a", 1), ask(), 4))) == 2
    [(entry, count)] = table.unmet()
    assert (entry.elsewhere, count) == (True, 2)
    table.others.under_way[b"a", 1] = 2
    assert table.schedule() == []
    assert list(table.unmet()) == [(entry, 2)]
    table.others.under_way[b"a", 1] = 1
    table.others.nodes = {b"oth1": other(b"oth1", 0)}
    assert len(granted(table.schedule())) == 1
    assert (entry.elsewhere, entry.count) == (False, 1)


def test_what_waits_for_the_node_of_its_arguments_is_not_served_here():
    table = with_workers(make(CPU=4), b"1", b"2", b"3")
    table.others = Others(other(b"oth1", 4))
    table.others.kept = {(b"a", 1)}
    assert table.demand((b"a", 1), ask(), 1, prefer=b"oth1") == []
    assert len(granted(table.demand((b"b", 1), ask(), 1))) == 1
    [(entry, count)] = table.unmet()
    assert (entry.prefer, count) == (b"oth1", 1)
    table.others.kept.clear()
    assert len(granted(table.schedule())) == 1


def test_where_the_arguments_are_here_nothing_goes_elsewhere():
    table = with_workers(make(CPU=4), b"1", b"2", b"3", b"4")
    table.others = Others(other(b"oth1", 4))
    assert len(granted(table.demand((b"a", 1), ask(), 2))) == 2
    assert table.demand((b"a", 2), ask(), 1) == []
    assert len(granted(table.demand((b"a", 3), ask(), 2, prefer=NODE))) == 2


def test_what_workers_will_hold_that_start_is_not_free():
    table = make(CPU=4)
    table.others = Others(other(b"oth1", 0))
    assert table.demand((b"a", 1), ask(), 3) == [StartWorkers(3)]
    assert table.view().available == {"CPU": UNIT}
    table.demand((b"a", 1), ask(), 0)
    assert table.view().available == {"CPU": 4 * UNIT}


def test_nothing_is_taken_from_others_for_what_goes_elsewhere():
    table = with_workers(make(CPU=2), b"1", b"2")
    assert len(granted(table.demand((b"a", 1), ask(), 1))) == 1
    table.others = Others(other(b"oth1", 4))
    assert table.demand((b"b", 1), ask(), 1) == []
    assert [entry.elsewhere for entry, _ in table.unmet()] == [True]


def test_where_there_is_no_room_others_make_some_as_ever():
    table = with_workers(make(CPU=1), b"1")
    (lease,) = granted(table.demand((b"a", 1), ask(), 1))
    table.others = Others(other(b"oth1", 4))
    assert table.demand((b"b", 1), ask(), 1) == [RevokeLease(lease)]
    assert [entry.elsewhere for entry, _ in table.unmet()] == [False]


def test_what_is_lent_is_of_this_node():
    table = with_workers(make(CPU=4), b"1", b"2", b"3", b"4")
    table.others = Others(other(b"oth1", 4))
    assert len(granted(table.demand((b"home", 1), ask(), 4, on_loan=True))) == 4
    assert table.demand((b"home", 2), ask(), 1, on_loan=True) == []
    assert list(table.unmet()) == []


def test_a_demand_for_another_node_is_not_for_this_one():
    table = with_workers(make(CPU=4), b"1")
    (infeasible,) = table.demand((b"a", 1), ask(), 1, placement=Placement("oth1"))
    assert type(infeasible) is Infeasible
    assert [count for _, count in table.unmet()] == [1]
    (wish,) = granted(table.demand((b"a", 2), ask(), 1, placement=Placement("oth1", soft=True)))
    table.release(wish.id)
    table.others = Others(other(b"oth1", 4))
    assert of_type(Infeasible, table.demand((b"a", 3), ask(), 1, placement=Placement("oth1", soft=True)))
    table.others = Others()
    (lease,) = granted(table.nodes_changed())
    assert lease.key == (b"a", 3)
    assert [entry.key for entry, _ in table.unmet()] == [(b"a", 1)]


def test_what_waits_here_may_come_to_be_for_another_node():
    table = make(CPU=4)
    wish = Placement(preferred=(LabelRule("zone", ("a",)),))
    assert table.demand((b"a", 1), ask(), 1, placement=wish) == [StartWorkers(1)]
    table.others = Others(other(b"oth1", 4, zone="a"))
    assert table.nodes_changed() == []
    assert [entry.infeasible for entry, _ in table.unmet()] == [True]
    assert table.worker_ready(b"1") == []


def test_infeasible_is_said_once_and_blocks_nobody():
    table = with_workers(make(), b"w")
    (effect,) = table.demand((b"a", 1), ask({"GPU": UNIT}, depth=9, priority=9), 1, "f")
    assert type(effect) is Infeasible
    assert effect.entry.name == "f"
    assert table.demand((b"a", 1), ask({"GPU": UNIT}, depth=9), 2) == []
    assert len(granted(table.demand((b"b", 1), ask(), 1))) == 1


def test_a_released_worker_serves_the_next_and_a_retired_one_does_not():
    table = with_workers(make(CPU=1), b"w")
    (first,) = granted(table.demand((b"a", 1), ask(), 1))
    table.demand((b"b", 1), ask(), 1)
    (second,) = granted(table.release(first.id))
    assert (second.worker, second.key) == (b"w", (b"b", 1))
    assert table.release(first.id) == []
    assert table.release(second.id, retired=True) == []
    assert not table.idle
    assert not table.by_worker
    assert table.resources.available() == table.resources.total()


def test_a_lost_worker_ends_its_lease():
    table = with_workers(make(), b"v", b"w")
    (lease,) = granted(table.demand((b"a", 1), ask(), 1))
    table.blocked(lease.worker)
    assert table.worker_lost(lease.worker) == (lease, [])
    assert table.worker_lost(lease.worker) == (None, [])
    assert table.worker_lost(b"v") == (None, [])
    assert not table.idle
    assert table.resources.available() == table.resources.total()


def test_a_retired_worker_still_gets_what_it_has_asked_for():
    table = with_workers(make(CPU=1), b"w")
    (lease,) = granted(table.demand((b"a", 1), ask(), 1))
    table.demand((b"w", 1), ask(depth=1), 1)
    ended, effects = table.worker_retired(b"w")
    assert ended is lease
    assert effects == [StartWorkers(1)]
    assert granted(table.worker_ready(b"v"))[0].key == (b"w", 1)
    table.demand((b"w", 2), ask(depth=1), 1)
    table.worker_lost(b"w")
    assert not table.demands


def test_a_blocked_worker_lends_its_cpu_and_takes_it_back():
    table = with_workers(make(CPU=1), b"v", b"w")
    (parent,) = granted(table.demand((b"a", 1), ask(), 1))
    assert table.demand((parent.worker, 1), ask(depth=1), 1) == [RevokeLease(parent)]
    (child,) = granted(table.blocked(parent.worker))
    assert table.blocked(parent.worker) == table.blocked(b"nobody") == []
    table.resumed(parent.worker)
    table.resumed(parent.worker)
    assert table.resources.available() == {"CPU": -UNIT}
    table.release(child.id)
    table.release(parent.id)
    assert table.resources.available() == {"CPU": UNIT}


def test_a_lost_owner_loses_demands_and_leases():
    table = with_workers(make(), b"v", b"w")
    (lease,) = granted(table.demand((b"a", 1), ask(), 1))
    (other,) = granted(table.demand((b"b", 1), ask(), 1))
    table.demand((b"a", 2), ask(), 1)
    table.demand((b"c", 1), ask(), 1)
    assert table.owner_lost(b"a") == [lease]
    assert list(table.leases.values()) == [other]
    assert list(table.demands) == [(b"c", 1)]
    assert lease.worker not in table.idle
    assert table.schedule() == [StartWorkers(1)]


def test_deeper_then_higher_priority_then_longest_waiting_goes_first():
    table = make(CPU=4)
    table.demand((b"old", 1), ask(), 2)
    table.demand((b"young", 1), ask(), 1)
    table.demand((b"high", 1), ask(priority=5), 1)
    table.demand((b"deep", 1), ask(depth=1, priority=-5), 1)
    order = [granted(of_type(Grant, table.worker_ready(b"%d" % number)))[0].key[0] for number in range(4)]
    assert order == [b"deep", b"high", b"old", b"young"]


def test_a_waiting_owner_takes_one_worker_from_whoever_holds_most():
    table = with_workers(make(CPU=3), b"u", b"v", b"w")
    table.demand((b"few", 1), ask(), 1)
    table.demand((b"many", 1), ask(), 9)
    (revoke,) = table.demand((b"new", 1), ask(), 1)
    assert (revoke.lease.key[0], revoke.soft) == (b"many", False)
    assert table.schedule() == []
    (lease,) = granted(table.release(revoke.lease.id))
    assert lease.key == (b"new", 1)


def test_only_a_worker_that_holds_what_is_lacking_is_taken():
    table = with_workers(make(CPU=4, disk=1), b"u", b"v", b"w")
    table.demand((b"many", 1), ask(), 2)
    (holder,) = granted(table.demand((b"few", 1), ask({"disk": UNIT}), 1))
    assert table.demand((b"new", 1), ask({"CPU": UNIT, "disk": UNIT}), 1) == [RevokeLease(holder)]


def test_an_owner_that_needs_nothing_but_a_place_gets_one_in_the_end():
    places = ZERO_COST_LEASES_PER_CPU
    table = with_workers(make(CPU=1), *(b"w%d" % number for number in range(places)))
    leases = granted(table.demand((b"greedy", 1), ask({}), places + 5))
    assert len(leases) == places
    (revoke,) = of_type(RevokeLease, table.demand((b"new", 1), ask({}), 1))
    assert revoke.lease in leases
    (lease,) = granted(table.release(revoke.lease.id))
    assert lease.key == (b"new", 1)


def test_actors_of_one_class_that_wait_do_not_rely_on_those_that_live():
    table = with_workers(make(CPU=2), b"v", b"w")
    granted(table.demand((NODE, 1), ask(), 1))
    (lease,) = granted(table.demand((b"a", 1), ask(), 5))
    assert table.demand((NODE, 1), ask(), 1) == [RevokeLease(lease)]
    (actor,) = granted(table.release(lease.id))
    assert actor.key == (NODE, 1)
    (lease,) = granted(table.release(actor.id))
    assert table.demand((NODE, 1), ask(), 1) == [RevokeLease(lease)]


def test_a_job_with_less_takes_from_the_one_with_most_until_they_have_as_much():
    table = make(CPU=5)
    for number in range(5):
        table.worker_ready(b"a%d" % number, "1")
        table.worker_ready(b"b%d" % number, "2")
    assert len(granted(table.demand((b"a", 1), ask(), 9, job="1"))) == 5
    effects = table.demand((b"b", 1), ask(), 9, job="2")
    for _ in range(8):
        for revoke in of_type(RevokeLease, effects):
            assert (revoke.lease.job, revoke.soft) == ("1", False)
            effects = table.release(revoke.lease.id)
    assert Counter(lease.job for lease in table.leases.values()) == {"1": 3, "2": 2}
    (lease,) = granted(table.release(next(each.id for each in table.leases.values() if each.job == "1")))
    assert lease.job == "1"  # nothing goes to and fro
    assert table.schedule() == []


def test_what_is_lent_is_taken_back_for_the_nodes_own():
    table = make(CPU=4)
    for number in range(4):
        table.worker_ready(b"a%d" % number, "1")
        table.worker_ready(b"b%d" % number, "2")
    assert len(granted(table.demand((b"far", 1), ask(), 4, job="1", on_loan=True))) == 4
    effects = table.demand((b"b", 1), ask(), 9, job="2")
    for _ in range(4):
        (revoke, *_) = of_type(RevokeLease, effects)
        effects = table.release(revoke.lease.id)
    assert {lease.job for lease in table.leases.values()} == {"2"}
    assert of_type(RevokeLease, table.demand((b"far", 1), ask(), 1, job="1", on_loan=True)) != []  # it has none
    table.demand((b"far", 1), ask(), 0, job="1")


def test_owners_of_one_job_do_not_share():
    table = with_workers(make(CPU=4), b"t", b"u", b"v", b"w")
    assert len(granted(table.demand((b"a", 1), ask(), 9))) == 4
    (revoke,) = table.demand((b"b", 1), ask(), 9)
    assert len(granted(table.release(revoke.lease.id))) == 1
    assert table.schedule() == []


def test_deeper_workers_are_only_asked_for_softly():
    table = with_workers(make(CPU=1), b"v", b"w")
    (parent,) = granted(table.demand((b"a", 1), ask(), 1))
    table.demand((b"v", 1), ask(depth=1), 1)
    (child,) = granted(table.blocked(parent.worker))
    assert table.demand((b"b", 1), ask(), 1) == [RevokeLease(child, soft=True)]
    assert table.schedule() == []


def test_actors_are_not_revoked_and_do_not_hide_those_who_can_be():
    table = with_workers(make(CPU=4), b"t", b"u", b"v", b"w")
    for number in range(3):
        table.demand((NODE, number), ask(depth=number), 1)
    (lease,) = granted(table.demand((b"a", 1), ask(), 5))
    assert table.demand((b"b", 1), ask(), 1) == [RevokeLease(lease)]


def test_a_placed_actor_gives_back_what_it_needed_only_to_be_placed():
    table = with_workers(make(CPU=1, GPU=2), b"v", b"w")
    (actor,) = granted(table.demand((NODE, 1), ask({"CPU": UNIT, "GPU": UNIT}), 1))
    table.demand((b"a", 1), ask(), 1)
    assert len(granted(table.shrink(actor, {"GPU": UNIT}))) == 1
    assert table.shrink(actor, {"GPU": UNIT}) == []
    assert table.resources.available() == {"CPU": 0, "GPU": UNIT}


def test_a_placed_actor_keeps_the_gpu_it_was_told_of():
    table = with_workers(make(CPU=4, GPU=2), b"u", b"v", b"w")
    half = {"CPU": UNIT, "GPU": UNIT // 2}
    actors = [granted(table.demand((NODE, number), ask(half), 1))[0] for number in range(3)]
    assert [actor.allocation.gpu_ids for actor in actors] == [("0",), ("0",), ("1",)]
    table.release(actors[0].id)
    table.shrink(actors[2], {"GPU": UNIT // 2})
    assert actors[2].allocation.gpu_ids == ("1",)


def test_an_actor_may_be_placed_while_blocked_or_oversubscribed():
    table = with_workers(make(CPU=2), b"v", b"w")
    (actor,) = granted(table.demand((NODE, 1), ask({"CPU": 2 * UNIT}), 1))
    table.blocked(actor.worker)
    (task,) = granted(table.demand((b"a", 1), ask({"CPU": 2 * UNIT}), 1))
    table.shrink(actor, ONE)
    assert table.resources.available() == {"CPU": 0}
    table.resumed(actor.worker)
    assert table.resources.available() == {"CPU": -UNIT}
    table.release(task.id)
    table.release(actor.id)
    assert table.resources.available() == {"CPU": 2 * UNIT}


def test_surplus_workers_are_the_longest_idle():
    table = with_workers(make(), b"a", b"b", b"c")
    assert table.surplus(3) == table.surplus(4) == []
    surplus = table.surplus(1)
    assert surplus == [b"a", b"b"]
    table.forget(surplus)
    assert list(table.idle) == [b"c"]
    table.demand((b"o", 1), ask(), 2)
    assert len(granted(table.stayed(b"a"))) == 1


# --- scale ------------------------------------------------------------------------------------------------------------


def test_2000_demands_from_500_owners_are_all_served(capsys):
    table, rng = make(CPU=16), random.Random(7)
    with_workers(table, *(b"w%d" % number for number in range(16)))
    running, served, decisions, workers = [], Counter(), 0, count()
    wanted = {(b"o%d" % (number % 500), number // 500): 1 + number % 3 for number in range(2000)}
    began = time.perf_counter()

    def take(effects):
        nonlocal decisions
        decisions += 1
        for effect in effects:
            if type(effect) is Grant:
                running.append(effect.lease.id)
                served[effect.lease.key] += 1
            elif type(effect) is StartWorkers:
                for _ in range(effect.count):
                    take(table.worker_ready(b"x%d" % next(workers)))

    keys = iter(wanted)
    for key in keys:
        take(table.demand(key, ask(depth=rng.randrange(2), priority=rng.randrange(3)), wanted[key]))
        if len(running) > 12 and len(table.demands) > 40:
            take(table.release(running.pop(rng.randrange(len(running)))))
            take(table.release(running.pop(rng.randrange(len(running)))))
        if len(table.demands) > 100:
            while len(table.demands) > 20:
                take(table.release(running.pop(rng.randrange(len(running)))))
    while running:
        take(table.release(running.pop()))
    elapsed = time.perf_counter() - began
    with capsys.disabled():
        print(f" [{decisions} decisions, {elapsed / decisions * 1e6:.0f} µs each]", end="")
    assert served == wanted
    assert table.resources.available() == table.resources.total()


@pytest.mark.parametrize("owners", [2, 5])
def test_equal_owners_are_served_alike(owners):
    table = with_workers(make(CPU=1), b"w")
    keys = [(b"o%d" % number, 1) for number in range(owners)]
    served = Counter()
    leases = []
    for key in keys:
        leases += granted(of_type(Grant, table.demand(key, ask(), 50)))
    while leases:
        lease = leases.pop()
        served[lease.key] += 1
        if served.total() == owners * 20:
            break
        leases += granted(of_type(Grant, table.release(lease.id)))
    assert max(served.values()) - min(served.values()) <= 2


def test_more_workers_start_when_those_are_ready_that_may_start_at_a_time():
    table = make(CPU=1, tenth=100)
    most = ZERO_COST_LEASES_PER_CPU
    started = 0
    effects = table.demand((b"a", 1), ask({"tenth": UNIT}), 3 * most)
    for number in range(3 * most):
        started += sum(effect.count for effect in of_type(StartWorkers, effects))
        assert started > number, "nobody starts any more"
        effects = table.worker_ready(b"w%d" % number)
        assert len(of_type(Grant, effects)) == 1
    assert len(table.leases) == 3 * most
