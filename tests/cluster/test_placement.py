"""Where tasks and actors run: on a named node, by labels, spread, and what is said where no node will do."""

from __future__ import annotations

import collections
import time

import pytest

import ray
from ray.exceptions import (
    ActorUnschedulableError,
    GetTimeoutError,
    NodeDiedError,
    RayActorError,
    TaskUnschedulableError,
)
from ray.protocol.resources import UNIT
from ray.testing import eventually, inside
from ray.testing.cluster import Cluster
from ray.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
)

LIMIT_S = 60


@ray.remote
def where():
    return ray.get_runtime_context().node_id


@ray.remote
def slow(seconds):
    time.sleep(seconds)
    return ray.get_runtime_context().node_id


@ray.remote
def begins(path):
    path.touch()
    time.sleep(60)


@ray.remote
def relay(resources):
    """Asks from the node where this runs."""
    return ray.get(where.options(name="wanted", resources=resources).remote())


@ray.remote
class Actor:
    def where(self):
        return ray.get_runtime_context().node_id


@pytest.fixture
def zones(request, kept_cluster):
    """A head, and nodes in the zones a and b."""
    parts = getattr(request, "param", {})

    def make():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "node_name": "head"}, **parts)
        cluster.add_node(num_cpus=2, node_name="first", labels={"zone": "a", "kind": "big"})
        cluster.add_node(num_cpus=2, node_name="second", labels={"zone": "b"})
        cluster.wait_for_nodes()
        return cluster

    with ray.init(kept_cluster.take(tuple(parts), make).address):
        yield kept_cluster.take(tuple(parts), make)
        inside.settled()
    kept_cluster.give_back()


def ids(cluster):
    return {node.name: node.node_id for node in cluster.nodes}


def get(refs):
    return ray.get(refs, timeout=LIMIT_S)


def warnings():
    return [row["message"] for row in ray.error_info() if row["type"] == "infeasible_task"]


def warned(text):
    return eventually(lambda: [row for row in warnings() if text in row], 5.0, f"a warning with {text!r}")[0]


def test_on_a_named_node(zones):
    nodes = ids(zones)
    for name, node_id in nodes.items():
        for given in ({"node": name}, {"node": node_id}, {"node": name, "soft": True}):
            assert get([where.options(**given).remote() for _ in range(8)]) == [node_id] * 8
        actor = Actor.options(node=name).remote()
        assert get(actor.where.remote()) == node_id
        strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
        assert get(where.options(scheduling_strategy=strategy).remote()) == node_id

    @ray.remote(node="second")
    def there():
        return get(where.options(node="first").remote()), ray.get_runtime_context().node_id

    assert get(there.remote()) == (nodes["first"], nodes["second"])


def test_more_than_a_node_has_room_for_waits_for_it(zones):
    refs = [slow.options(node="first").remote(0.2) for _ in range(8)]
    assert set(get(refs)) == {ids(zones)["first"]}
    assert set(get([slow.options(node="head").remote(0.1) for _ in range(8)])) == {ids(zones)["head"]}


def test_a_wish_is_one(zones):
    for given in (
        {"node": "nowhere"},
        {"node": "ffffffff"},
        {"labels": {"zone": "z"}},
        {"node": "first", "num_cpus": 3},
    ):
        if "num_cpus" not in given:
            assert get(where.options(**given, soft=True).remote()) in ids(zones).values()
            assert get(Actor.options(**given, soft=True).remote().where.remote()) in ids(zones).values()
    for _ in range(5):
        assert get(where.options(labels={"zone": "b"}, soft=True).remote()) == ids(zones)["second"]


def test_by_labels(zones):
    nodes = ids(zones)

    def places(**given):
        found = set(get([slow.options(**given).remote(0.1) for _ in range(12)]))
        return {name for name, node_id in nodes.items() if node_id in found}

    assert places(labels={"zone": "a"}) == {"first"}
    assert places(labels={"zone": ["a", "b"]}) == {"first", "second"}
    assert places(labels={"zone": NotIn("a")}) == {"head", "second"}
    assert places(labels={"zone": ["a", "b"], "kind": "big"}) == {"first"}
    for hard, names in (
        ({"zone": In("b")}, {"second"}),
        ({"zone": Exists(), "kind": DoesNotExist()}, {"second"}),
        ({"zone": DoesNotExist()}, {"head"}),
    ):
        assert places(scheduling_strategy=NodeLabelSchedulingStrategy(hard)) == names
    wish = NodeLabelSchedulingStrategy({"zone": Exists()}, soft={"kind": In("big")})
    assert places(scheduling_strategy=wish) == {"first"}
    assert get(Actor.options(labels={"zone": "b"}).remote().where.remote()) == nodes["second"]
    assert [row["Labels"] for row in ray.nodes()] == [{}, {"zone": "a", "kind": "big"}, {"zone": "b"}]
    assert [row["NodeName"] for row in ray.nodes()] == ["head", "first", "second"]


def test_a_node_that_is_not_there(zones):
    with pytest.raises(TaskUnschedulableError, match="node ffffffff, which is not there; there are head") as caught:
        get(where.options(node="ffffffff").remote())
    assert all(f"{name} ({node_id})" in str(caught.value) for name, node_id in ids(zones).items())
    actor = Actor.options(node="ffffffff", name="lost").remote()
    with pytest.raises(ActorUnschedulableError, match="The actor Actor is to run on the node ffffffff") as caught:
        get(actor.where.remote())
    assert isinstance(caught.value, RayActorError)
    with pytest.raises(TaskUnschedulableError, match=r"first .*has {'CPU': 2.0} of the {'CPU': 3.0} that it"):
        get(where.options(node=ids(zones)["first"], num_cpus=3).remote())
    with pytest.raises(TaskUnschedulableError, match="which has the label zone=a"):
        get(where.options(node=ids(zones)["first"], labels={"zone": "b"}).remote())
    assert get([where.remote() for _ in range(10)])


def test_a_node_that_dies(zones, tmp_path):
    """What ran there is tried again where it is to run, and that is nowhere."""
    first, gone = zones.nodes[1], ids(zones)["first"]
    actor = Actor.options(node=gone, max_restarts=-1, max_task_retries=-1).remote()
    wish = Actor.options(node=gone, soft=True, max_restarts=-1, max_task_retries=-1).remote()
    assert get([actor.where.remote(), wish.where.remote()]) == [gone, gone]  # before others take all processors
    eventually(lambda: ray.available_resources()["CPU"] == 6, LIMIT_S, "only their starts take any")
    once = begins.options(node=gone, max_retries=0).remote(tmp_path / "begun")
    eventually((tmp_path / "begun").exists, LIMIT_S, "it runs, so that it counts as tried")
    often = [slow.options(node=gone).remote(60), slow.options(node=gone).remote(60)]
    later = where.options(node="first").remote
    eventually(lambda: ray.available_resources()["CPU"] == 4, LIMIT_S, "they run")
    zones.kill(first)
    with pytest.raises(NodeDiedError):
        get(once)
    for ref in often:
        with pytest.raises(TaskUnschedulableError, match=f"node {gone}, which has died: "):
            get(ref)
    with pytest.raises(ActorUnschedulableError, match="which has died: "):
        get(actor.where.remote())
    assert get(wish.where.remote()) != gone
    waiting = later()
    assert "is to run on the node first, which has died: " in warned("node first")
    node = zones.add_node(num_cpus=1, node_name="first")
    assert get(waiting) == node.node_id


def test_what_may_come_is_waited_for(zones):
    named, labelled = where.options(node="third").remote(), where.options(labels={"zone": "c"}).remote()
    actor = Actor.options(node="third").remote()
    big = where.options(resources={"disk": 2}).remote()
    row = warned("node third")
    assert row.startswith("where is to run on the node third, which is not there; there are head (")
    assert row.endswith("It waits until a node joins that has it.")
    assert "needs {'CPU': 1.0} on a node with the label zone=c, which no node has; the nearest is " in warned("zone=c")
    assert "which no node has (the most any node has is {'disk': 0.0}; the nearest is " in warned("disk")
    with pytest.raises(GetTimeoutError, match="is to run on the node third, which is not there"):
        ray.get(named, timeout=0.1)
    node = zones.add_node(num_cpus=2, node_name="third", labels={"zone": "c"}, resources={"disk": 2})
    began = time.monotonic()
    assert get([named, labelled, big, actor.where.remote()]) == [node.node_id] * 4
    assert time.monotonic() - began < 5


def test_what_waits_is_shown(zones):
    """On every node, of all nodes: with how many workers, and why they are not there."""
    zones.add_node(num_cpus=1, node_name="third")
    zones.wait_for_nodes()
    refs = [where.options(resources={"tape": 1}).remote() for _ in range(2)]
    refs += [slow.options(num_cpus=1).remote(600) for _ in range(20)]
    nested = relay.options(node="third", num_cpus=0).remote({"drum": 2})
    warned("tape")

    def rows(node):
        return {row["name"]: row for row in node.ask("demands")}

    for node in zones.nodes:
        eventually(lambda node=node: rows(node).keys() == {"where", "slow", "wanted"}, LIMIT_S, "all of it is shown")
        found = rows(node)
        assert found["where"]["count"] >= 1
        assert found["where"]["resources"] == {"CPU": UNIT, "tape": UNIT}
        assert "needs {'CPU': 1.0, 'tape': 1.0}, which no node has (" in found["where"]["reason"]
        assert found["where"]["home"] == zones.nodes[0].node_id
        assert "is in use" in found["slow"]["reason"]
        assert found["wanted"]["home"] == zones.nodes[-1].node_id
    for ref in [nested, *refs]:
        ray.cancel(ref, force=True)


def test_the_nearest_miss(zones):
    zones.add_node(num_cpus=1, num_gpus=1, node_name="third")
    zones.wait_for_nodes()
    ref = where.options(num_gpus=2).remote()
    assert "{'GPU': 2.0}" not in warned("GPU")
    assert "(the most any node has is {'GPU': 1.0}; the nearest is third (" in warned("GPU")
    together = where.options(num_cpus=2, num_gpus=1, name="together").remote()
    assert "(the nearest is " in warned("together")
    for each in (ref, together):
        ray.cancel(each)


def test_spread(zones):
    spread = slow.options(scheduling_strategy="SPREAD")
    counts = collections.Counter(get([spread.remote(1.0) for _ in range(3)]))
    assert counts == dict.fromkeys(ids(zones).values(), 1)
    actors = [Actor.options(num_cpus=1, scheduling_strategy="SPREAD").remote() for _ in range(6)]
    counts = collections.Counter(get([actor.where.remote() for actor in actors]))
    assert counts == dict.fromkeys(ids(zones).values(), 2)


def test_actors_that_hold_nothing_spread_one_after_the_other(zones):
    actors, counts = [], collections.Counter()
    for _ in range(6):
        actors.append(Actor.options(scheduling_strategy="SPREAD").remote())
        counts[get(actors[-1].where.remote())] += 1
    assert counts == dict.fromkeys(ids(zones).values(), 2)


@pytest.mark.parametrize("zones", [{"scheduler": "spread"}], indirect=True)
def test_a_session_that_spreads(zones):
    counts = collections.Counter(get([slow.remote(1.0) for _ in range(6)]))
    assert counts == dict.fromkeys(ids(zones).values(), 2)


def test_half_of_the_home_then_the_others(zones):
    home = ids(zones)["head"]
    assert get(slow.remote(0.1)) == home
    counts = collections.Counter(get([slow.remote(1.0) for _ in range(3)]))
    assert counts == dict.fromkeys(ids(zones).values(), 1)
    counts = collections.Counter(get([slow.remote(0.3) for _ in range(24)]))
    assert counts.keys() == set(ids(zones).values())
    assert min(counts.values()) >= 4


def test_different_places_share_no_workers(zones):
    nodes = ids(zones)
    refs = [(name, where.options(node=name).remote()) for _ in range(50) for name in nodes]
    assert all(get(ref) == nodes[name] for name, ref in refs)
