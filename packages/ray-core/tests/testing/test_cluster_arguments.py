"""What ``ray.testing.Cluster`` says of arguments that are of no use: before anything is slowed, cut or killed."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ray.testing.cluster import Cluster, ClusterNode
from ray.testing.namespaces import Host


class Cable(Host):
    """A host that notes what is done to it."""

    def __init__(self, address: str) -> None:
        super().__init__("host", address, "cable", "port")
        self.done: list[str] = []

    def run(self, *command: str) -> str:
        self.done.append(command[-1])
        return ""


def node_of(cluster: Cluster, host: Host | None) -> ClusterNode:
    number = len(cluster.nodes) + 1
    node = ClusterNode.__new__(ClusterNode)
    node.started = SimpleNamespace(pid=0, address="unix:nowhere", stop=lambda: None)  # type: ignore[assignment]
    node.name, node.host, node.node_id = f"test-{number}", host, f"{number:08x}"
    cluster.nodes.append(node)
    return node


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        yield made


@pytest.fixture
def far(cluster: Cluster) -> ClusterNode:
    node_of(cluster, Cable("10.77.0.1"))
    return node_of(cluster, Cable("10.77.0.2"))


@pytest.mark.parametrize(
    ("method", "value", "error", "said"),
    [
        ("loss", 5, ValueError, "share=5: it is from 0 to 1, such as 0.05 for 5 %"),
        ("loss", -0.1, ValueError, "share=-0.1: it is from 0 to 1"),
        ("loss", float("nan"), ValueError, "share=nan: it is from 0 to 1"),
        ("loss", True, TypeError, "share=True: it is a number from 0 to 1"),
        ("loss", "5 %", TypeError, "share='5 %': it is a number from 0 to 1"),
        ("loss", None, TypeError, "share=None: it is a number from 0 to 1"),
        ("delay", -1, ValueError, "seconds=-1: it is a time such as 0.1"),
        ("delay", float("nan"), ValueError, "seconds=nan: it is a time"),
        ("delay", float("inf"), ValueError, "seconds=inf: it is a time"),
        ("delay", 10**400, ValueError, "it is a time"),
        ("delay", True, TypeError, "seconds=True: it is a number, such as 0.1"),
        ("delay", "0.1", TypeError, "seconds='0.1': it is a number"),
        ("delay", datetime.timedelta(seconds=1), TypeError, "it is a number"),
        ("rate", "-1mbit", ValueError, "rate='-1mbit': give one such as '10mbit'"),
        ("rate", "9" * 400 + "mbit", ValueError, "give one such as '10mbit'"),
        ("rate", "nanmbit", ValueError, "rate='nanmbit': give one such as"),
        ("rate", "infmbit", ValueError, "rate='infmbit': give one such as"),
        ("rate", 10, TypeError, "rate=10: give one such as '10mbit' or '500kbit'"),
        ("rate", True, TypeError, "rate=True: give one such as"),
        ("partition", "sideways", ValueError, "direction='sideways': it is 'both', 'in' or 'out'"),
    ],
)
def test_what_no_cable_can_do(
    cluster: Cluster, far: ClusterNode, method: str, value: Any, error: type[Exception], said: str
) -> None:
    """It is said at the call, also where the block is forgotten."""
    with pytest.raises(error) as told:
        getattr(cluster, method)(far, value)
    assert said in str(told.value)


@pytest.mark.parametrize("nodes", [lambda far: far, lambda far: [far], lambda far: iter((far,))])
def test_one_node_is_cut_off_as_a_list_of_one_is(cluster: Cluster, far: ClusterNode, nodes: Any) -> None:
    with cluster.partition(nodes(far), "out"):
        assert isinstance(far.host, Cable)
        [begun] = far.host.done
        assert begun.endswith("ip daddr { 10.77.0.1 } drop")
    assert far.host.done[1].startswith("delete table")


@pytest.mark.parametrize(
    ("nodes", "error", "said"),
    [
        ("test-1", TypeError, "nodes='test-1': give a node that add_node has returned, or a list of them"),
        (None, TypeError, "nodes=None: give a node"),
        (3, TypeError, "nodes=3: give a node"),
        ([], ValueError, "give at least one node"),
        (["test-1"], TypeError, "node='test-1': give a node that add_node has returned"),
    ],
)
def test_what_cannot_be_cut_off(
    cluster: Cluster, far: ClusterNode, nodes: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as told:
        cluster.partition(nodes)
    assert said in str(told.value)


@pytest.mark.parametrize("method", ["delay", "loss", "rate", "partition", "on", "pause", "kill", "remove_node"])
def test_what_is_no_node(cluster: Cluster, far: ClusterNode, method: str) -> None:
    value = {"delay": [1], "loss": [0.5], "rate": ["1mbit"]}.get(method, [])
    with pytest.raises(TypeError, match="'test-1': give a node that add_node has returned"):
        getattr(cluster, method)("test-1", *value)


@pytest.mark.parametrize("method", ["delay", "loss", "rate", "partition", "on"])
def test_a_node_without_a_cable(cluster: Cluster, method: str) -> None:
    value = {"delay": [1], "loss": [0.5], "rate": ["1mbit"]}.get(method, [])
    with pytest.raises(ValueError, match=r"Cluster\(isolation='netns'\)"):
        getattr(cluster, method)(node_of(cluster, None), *value)


@pytest.mark.parametrize("method", ["pause", "kill", "remove_node"])
def test_a_node_that_was_removed(cluster: Cluster, far: ClusterNode, method: str) -> None:
    """Its process id may be another's."""
    cluster.remove_node(far)
    with pytest.raises(ValueError, match=r"'test-2'.* is no node of this cluster any more.*; there are: test-1"):
        getattr(cluster, method)(far)


def test_no_two_nodes_get_the_same_name(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster would refuse the second one."""
    started = SimpleNamespace(pid=0, session="", facts=SimpleNamespace(control=""), stop=lambda: None)
    monkeypatch.setattr("ray.testing.cluster.StartedNode", lambda *what: started)
    monkeypatch.setattr(ClusterNode, "ask", lambda self, question: [{"Pid": 0, "NodeID": "00000001"}])
    nodes = [cluster.add_node(node_name=name) for name in ("", "special", "", "")]
    cluster.remove_node(nodes[2])
    cluster.add_node()
    assert [node.name for node in cluster.nodes] == ["test-0", "special", "test-3", "test-4"]


def test_a_cluster_without_nodes(cluster: Cluster) -> None:
    for name in ("head_node", "address"):
        with pytest.raises(ValueError, match=r"the cluster has no node: Cluster\(initialize_head=True\)"):
            getattr(cluster, name)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": True}, TypeError),
        ({"timeout": "1"}, TypeError),
        ({"count": 0}, ValueError),
        ({"count": True}, TypeError),
        ({"count": "2"}, TypeError),
    ],
)
def test_waits_of_no_use(cluster: Cluster, given: dict[str, Any], error: type[Exception]) -> None:
    """One for ``nan`` seconds would have no end."""
    with pytest.raises(error):
        cluster.wait_for_nodes(**given)


def test_what_is_waited_for_in_vain(cluster: Cluster, far: ClusterNode) -> None:
    knows = {"test-1": 2, "test-2": 1}
    for node in cluster.nodes:
        count = knows[node.name]
        node.ask = lambda question, count=count: [{"Alive": True}] * count  # type: ignore[method-assign, misc]
    with pytest.raises(TimeoutError, match=r"after 0 s, not all nodes know of 2 that are alive: test-2 of 1$"):
        cluster.wait_for_nodes(timeout=0)


def test_how_they_are_shown(cluster: Cluster, far: ClusterNode) -> None:
    assert repr(far) == "ClusterNode('test-2', node_id='00000002', pid=0)"
    assert repr(cluster) == "Cluster('test', nodes=['test-1', 'test-2'])"


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"data_encryption": "foo"}, ValueError, "data_encryption='foo': it is one of 'auto', 'aes-gcm', 'none'"),
        ({"data_encryption": True}, ValueError, "data_encryption=True: it is one of"),
        ({"control_timeout_s": float("nan")}, ValueError, "control_timeout_s=nan: it is from 0.1 to 86400 seconds"),
        ({"control_timeout_s": -1}, ValueError, "control_timeout_s=-1: it is from 0.1"),
        ({"control_timeout_s": "x"}, TypeError, "control_timeout_s takes seconds, not 'x'"),
        ({"control_timeout_s": True}, TypeError, "control_timeout_s takes seconds, not True"),
        ({"same_host": "no"}, TypeError, "same_host is True or False, not 'no'"),
        ({"name": 3}, TypeError, "name takes text, not 3"),
        ({"name": "a b"}, ValueError, "'a b' is no name of a cluster"),
        ({"name": "auto"}, ValueError, "'auto' is no name of a cluster: as an address"),
        ({"bogus": 1}, TypeError, "Cluster has no argument 'bogus'; parts of nodes are"),
    ],
)
def test_a_cluster_that_cannot_be(given: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        Cluster(**given)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"object_store_memory": 0}, ValueError, "object_store_memory must be at least 1,048,576 bytes, not 0"),
        ({"node_name": "a b"}, ValueError, "'a b' is no name"),
        ({"node_name": "0000002a"}, ValueError, "8 hexadecimal digits are a NodeID"),
        ({"node_name": 3}, TypeError, "node_name takes text, not 3"),
        ({"labels": 3}, TypeError, "labels takes a mapping such as {'zone': 'a'}, not 3"),
        ({"labels": {1: "a"}}, TypeError, "labels takes text, not 1"),
        ({"labels": {"a": ["b"]}}, TypeError, "labels takes text, not ['b']"),
        ({"labels": {"": "x"}}, ValueError, "'' is no label"),
    ],
)
def test_a_node_that_cannot_be(cluster: Cluster, given: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=re.escape(said)):
        cluster.add_node(**given)
    assert cluster.nodes == []
