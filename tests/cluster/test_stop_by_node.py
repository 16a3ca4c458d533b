"""One node is ended, by whatever it is called; and a head that cannot be reached is not taken for lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.commands import LIMIT_S, Machine
from tests.redis_servers import RedisUnderTest

from ray.testing import eventually


def start(machine: Machine, *names: str) -> dict[str, dict]:
    """A head and these nodes of one CPU; returns what the status says of each, in its order."""
    machine.done("start", "--head", "--num-cpus", "1", "--node-name", "zero")
    for name in names:
        machine.done("start", "--address", "auto", "--num-cpus", "1", "--node-name", name)
    return {node["node_name"]: node for node in machine.status()["nodes"]}


def test_a_node_is_ended_by_its_node_id(machine: Machine) -> None:
    """As programs name it. The others are shown in the same order before and after, whichever node is asked."""
    nodes = start(machine, "b", "a")
    assert list(nodes) == ["zero", "b", "a"]
    shown = machine.run(
        f"""
        for name in ("zero", "a"):
            ray.init("unix:" + {{name: node["session_dir"] for name, node in {nodes!r}.items()}}[name])
            print(*(row["NodeName"] for row in ray.nodes()))
            ray.shutdown()
        """
    )
    assert shown == ["zero b a"] * 2
    said = machine.refused(3, "stop", "--node", "ffffffff")
    assert f"b (NodeID {nodes['b']['node_id']}, process {nodes['b']['pid']})" in said
    assert machine.done("stop", "--node", nodes["b"]["node_id"]) == "Stopped 1 node of cluster 'default'.\n"

    def order() -> list[tuple[str, str]]:
        return [(node["node_name"], node["state"]) for node in machine.status()["nodes"]]

    wanted = [("zero", "alive"), ("a", "alive"), ("b", "dead")]
    eventually(lambda: order() == wanted, LIMIT_S, "it is known to be dead, and stands last")
    assert machine.done("stop", "--node", str(nodes["a"]["pid"])) == "Stopped 1 node of cluster 'default'.\n"
    said = machine.done("stop", "--node", nodes["zero"]["node_id"])
    assert said == "Stopped 1 node of cluster 'default', and the cluster has ended.\n"


def test_a_name_that_reads_as_a_node_id_is_none(machine: Machine) -> None:
    said = machine.refused(2, "start", "--head", "--node-name", "0000002a")
    assert "'0000002a' is no name of a node: 8 hexadecimal digits are a NodeID" in said


def test_a_server_of_ones_own_that_is_down_is_no_lost_head(machines: Callable[[], Machine], tmp_path: Path) -> None:
    """Its nodes end where they are told to; the key file is needed when the server is there again."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisUnderTest(folder)
    try:
        head, other = machines(), machines()
        head.done("start", "--head", "--num-cpus", "1", "--control", f"redis://127.0.0.1:{server.port}")
        other.done("start", "--key-file", "-", "--num-cpus", "1", given=json.dumps(head.key()))
        key = other.key()
        server.kill()
        said = other.refused(1, "stop", "--cluster")
        assert "The head of cluster 'default' is not on this machine" in said
        assert other.done("stop") == "Stopped 1 node of cluster 'default'.\n"
        assert other.key() == key
        server.start()
        other.done("start", "--address", "auto", "--num-cpus", "1")
        assert other.done("stop") == "Stopped 1 node of cluster 'default'.\n"
        assert head.done("stop") == "Stopped 1 node of cluster 'default', and the cluster has ended.\n"
        other.key_path().unlink()
    finally:
        server.close()
