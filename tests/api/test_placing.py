"""Options that say where to run: what they take, what they become, and what a session of one node makes of them."""

import pickle

import pytest

import ray
from ray.exceptions import ActorUnschedulableError, GetTimeoutError, TaskUnschedulableError
from ray.messages.placement import LabelRule, Placement
from ray.testing import eventually
from ray.util.scheduling_strategies import (
    DoesNotExist,
    Exists,
    In,
    NodeAffinitySchedulingStrategy,
    NodeLabelSchedulingStrategy,
    NotIn,
    PlacementGroupSchedulingStrategy,
)

LIMIT_S = 30.0


def task(**options):
    return ray.remote(**options)(lambda: None)._options.placement


def actor(**options):
    return ray.remote(**options)(type("A", (), {}))._ray_options.placement


def rule(name, *values, none_of=False):
    return LabelRule(name, values, none_of)


@pytest.mark.parametrize("of", [task, actor])
@pytest.mark.parametrize(
    ("given", "placement"),
    [
        ({}, None),
        ({"node": None, "labels": None, "soft": None, "scheduling_strategy": None}, None),
        ({"soft": False}, None),
        ({"labels": {}}, None),
        ({"scheduling_strategy": "DEFAULT"}, None),
        ({"scheduling_strategy": "SPREAD"}, Placement(spread=True)),
        ({"node": "a"}, Placement("a")),
        ({"node": "a", "soft": True}, Placement("a", soft=True)),
        ({"labels": {"b": "2", "a": "1"}}, Placement(labels=(rule("a", "1"), rule("b", "2")))),
        ({"labels": {"a": ["2", "1"]}}, Placement(labels=(rule("a", "1", "2"),))),
        ({"labels": {"a": NotIn("1")}}, Placement(labels=(rule("a", "1", none_of=True),))),
        ({"labels": {"a": "1"}, "soft": True}, Placement(preferred=(rule("a", "1"),))),
        (
            {"node": "n", "labels": {"a": "1"}, "soft": True},
            Placement("n", soft=True, preferred=(rule("a", "1"),)),
        ),
        ({"scheduling_strategy": NodeAffinitySchedulingStrategy("0000002a", True)}, Placement("0000002a", soft=True)),
        (
            {
                "scheduling_strategy": NodeLabelSchedulingStrategy(
                    {"a": In("1", "2"), "b": Exists()}, soft={"c": DoesNotExist()}
                )
            },
            Placement(
                labels=(rule("a", "1", "2"), rule("b", None, none_of=True)),
                preferred=(rule("c", None),),
            ),
        ),
    ],
)
def test_what_options_become(of, given, placement):
    assert of(**given) == placement
    assert hash(of(**given)) == hash(placement)


BAD = [
    ({"node": 3}, TypeError, "Node name must be a string, not 3"),
    ({"node": b"0000002a"}, TypeError, "node is a NodeID as ray.nodes.. gives it, or a name of a node: a string"),
    ({"node": ""}, ValueError, "Node name cannot be an empty string"),
    ({"node": "n1\0"}, ValueError, "node: 'n1.x00' is no name that a node or a label can have"),
    ({"node": "x" * 1000}, ValueError, "x'… is no name that a node"),
    ({"labels": {"a b": "c"}}, ValueError, "the name of a label: 'a b' is no name"),
    ({"soft": True}, ValueError, "soft=True says that node= or labels= is only a wish"),
    ({"node": "a", "soft": 1}, TypeError, "soft must be True or False, not 1"),
    ({"labels": ["a"]}, TypeError, "labels must be a dictionary of values by name"),
    ({"labels": {1: "a"}}, TypeError, "Label name must be a string"),
    ({"labels": {"a": 1}}, TypeError, "labels\\['a'\\]: the value of a label is a string, not 1"),
    ({"labels": {"a": []}}, ValueError, "must name a value at least"),
    ({"labels": {"a": ["b", None]}}, TypeError, "the value of a label is a string, not None"),
    ({"labels": {"a": "\ud800"}}, ValueError, "cannot be encoded in UTF-8"),
    ({"node": "a", "scheduling_strategy": "SPREAD"}, ValueError, "both say where to run: give one of them"),
    ({"scheduling_strategy": "PACK"}, ValueError, "must be 'DEFAULT', 'SPREAD', a Node.*, not 'PACK'"),
    ({"scheduling_strategy": NodeAffinitySchedulingStrategy("a", "yes")}, TypeError, "soft must be True or False"),
    ({"scheduling_strategy": NodeLabelSchedulingStrategy({"a": "b"})}, TypeError, "must be In.*, not 'b'"),
    ({"placement_group": 1}, ValueError, "It is not in this release. node=, labels="),
    ({"label_selector": {"a": "b"}}, ValueError, "It is not in this release. labels="),
]


@pytest.mark.parametrize(("given", "error", "text"), BAD)
def test_what_is_refused(given, error, text):
    for of in (task, actor):
        with pytest.raises(error, match=text):
            of(**given)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: NodeAffinitySchedulingStrategy("a", False, _spill_on_unavailable=True), "not in this release"),
        (lambda: PlacementGroupSchedulingStrategy(placement_group=None), "Placement groups are not in this release"),
        (NodeLabelSchedulingStrategy, "needs hard= or soft="),
        (In, "needs one value"),
    ],
)
def test_strategies_that_mean_nothing(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_the_last_of_two_ways_counts():
    spread = ray.remote(scheduling_strategy="SPREAD")(lambda: None)
    assert spread.options(node="a")._options.placement == Placement("a")
    assert spread.options(node="a").options(labels={"x": "y"})._options.placement.node == "a"
    assert spread.options(node="a").options(scheduling_strategy="DEFAULT")._options.placement is None
    assert spread.options(num_cpus=2)._options.placement == Placement(spread=True)
    cls = ray.remote(node="a", soft=True)(type("A", (), {}))
    assert cls.options(scheduling_strategy="SPREAD")._ray_options.placement == Placement(spread=True)
    assert cls.options(node="b")._ray_options.placement == Placement("b", soft=True)


def test_matches_are_values():
    for match in (In("a", "b"), NotIn("a"), Exists(), DoesNotExist()):
        assert pickle.loads(pickle.dumps(match)) == match
    assert [repr(match) for match in (In("a", "b"), Exists())] == ["In('a', 'b')", "Exists()"]
    assert In("a") != NotIn("a")
    assert len({In("a"), In("a"), NotIn("a")}) == 2
    function = ray.remote(labels={"x": NotIn("a")})(lambda: None)
    assert pickle.loads(ray.cloudpickle.dumps(function))._options.placement == function._options.placement


# --- a session of one node --------------------------------------------------------------------------------------------


@ray.remote
def where():
    return ray.get_runtime_context().node_id


@ray.remote
class Actor:
    def where(self):
        return ray.get_runtime_context().node_id


def test_the_own_node(start):
    start(num_cpus=2)
    [row] = ray.nodes()
    own = row["NodeID"]
    assert (row["NodeName"], row["Labels"]) == ("", {})
    wishes = [
        {"node": own}, {"node": own, "soft": True}, {"node": "nowhere", "soft": True},
        {"labels": {"zone": "a"}, "soft": True}, {"labels": {"zone": NotIn("a")}}, {"scheduling_strategy": "SPREAD"},
        {"scheduling_strategy": NodeAffinitySchedulingStrategy(own, False)},
    ]  # fmt: skip
    refs = [where.options(**wish).remote() for wish in wishes for _ in range(3)]
    refs += [Actor.options(**wish).remote().where.remote() for wish in wishes]
    assert ray.get(refs, timeout=LIMIT_S) == [own] * len(refs)


def test_a_node_that_is_not_there(start):
    start(num_cpus=1, log_to_driver=False)
    own = ray.nodes()[0]["NodeID"]
    for name in ("ffffffff", "nowhere"):
        text = f"The task where is to run on the node {name}, which is not there; there is {own}. Name another node"
        with pytest.raises(TaskUnschedulableError, match=text):
            ray.get(where.options(node=name).remote(), timeout=LIMIT_S)
        with pytest.raises(ActorUnschedulableError, match=f"is to run on the node {name}, which is not there"):
            ray.get(Actor.options(node=name).remote().where.remote(), timeout=LIMIT_S)
    with pytest.raises(TaskUnschedulableError, match=f"{own}, which has .*'CPU': 1.0.* of the .*'CPU': 2.0"):
        ray.get(where.options(node=own, num_cpus=2).remote(), timeout=LIMIT_S)
    many = [where.options(node="ffffffff").remote() for _ in range(100)]
    for ref in many:
        with pytest.raises(TaskUnschedulableError):
            ray.get(ref, timeout=LIMIT_S)
    assert ray.get(where.remote(), timeout=LIMIT_S) == own


def test_what_hangs_on_a_task_that_cannot_run_fails_with_it(start):
    start(num_cpus=1, log_to_driver=False)
    lost = where.options(node="ffffffff").remote()
    with pytest.raises(TaskUnschedulableError):
        ray.get(ray.remote(lambda given: given).remote(lost), timeout=LIMIT_S)
    kept = Actor.options(node="ffffffff", name="kept").remote()
    with pytest.raises(ActorUnschedulableError):
        ray.get(kept.where.remote(), timeout=LIMIT_S)
    with pytest.raises(ValueError, match="kept"):
        ray.get_actor("kept")
    text = "Actor Actor is to run on the node ffffffff, which is not there; there is "
    eventually(lambda: any(row["message"].startswith(text) for row in ray.error_info()), 5.0, "it is recorded")


def test_labels_that_no_node_has(start):
    start(num_cpus=1, log_to_driver=False)
    own = ray.nodes()[0]["NodeID"]
    ref = where.options(labels={"zone": ["a", "b"]}).remote()
    found = eventually(lambda: [r["message"] for r in ray.error_info() if r["type"] == "infeasible_task"], 5.0, "none")
    text = "where needs {'CPU': 1.0} on a node with the label zone=a or b, which no node has; the nearest is "
    assert found == [f"{text}{own}, which has no label zone. As it is, it waits for ever."]
    with pytest.raises(GetTimeoutError, match="which has no label zone"):
        ray.get(ref, timeout=0.1)
    ray.cancel(ref)


def test_local_mode_runs_everything_here():
    with ray.init(local_mode=True):
        assert ray.get(where.options(node="nowhere").remote()) == ray.get(where.remote())
