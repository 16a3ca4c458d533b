"""``ray status``: the nodes of a cluster, and what they have."""

from __future__ import annotations

import contextlib
from typing import Any

from ray.cli import exits
from ray.cli.commands import command, with_format
from ray.cli.output import as_json, as_size, as_table
from ray.cli.which_cluster import local_cluster, with_cluster
from ray.exceptions import RayConnectionError, RayError
from ray.protocol.resources import UNIT
from ray.runtime.cluster.local_clusters import LocalCluster, LocalNode
from ray.runtime.driver.observer import SessionObserver
from ray.units import counted

_ANSWER_S = 2.0


@command("status")
@with_cluster
@with_format
def status(name: str | None, address: str | None, form: str) -> int:
    """List the nodes of a cluster that has one on this machine: what they offer, and how much of it is taken."""
    cluster = local_cluster(name, address)
    found = report(cluster)
    if form == "json":
        print(as_json(found))
        return exits.DONE
    nodes = found["nodes"]
    alive = sum(node["state"] == "alive" for node in nodes)
    dead = f", and {len(nodes) - alive} that ended" if alive < len(nodes) else ""
    print(f"Cluster {cluster.name!r} at {cluster.address}: {counted(alive, 'node')}{dead}.")
    total, free = found["resources"], found["available"]
    for resource, amount in sorted(total.items()):
        taken = _amount(resource, amount - free.get(resource, 0.0))
        print(f"  {resource}: {taken} of {_amount(resource, amount)} in use")
    print(as_table([("NODE", "NAME", "MACHINE", "STATE", "OFFERS"), *(_row(node) for node in nodes)]))
    return exits.DONE


def report(cluster: LocalCluster) -> dict[str, Any]:
    """What a node of it on this machine knows of the cluster, for JSON.

    Raises:
        RayConnectionError: none of them answers.
    """
    for node in cluster.nodes:
        with contextlib.suppress(ConnectionError, TimeoutError, RayError):
            rows, director, total, free = _asked(node)
            here = {f"{each.facts.node:08x}": each for each in cluster.nodes}
            return {
                "name": cluster.name,
                "session": cluster.session,
                "address": cluster.address,
                "resources": total,
                "available": free,
                "nodes": [_of_node(row, director, here.get(row["NodeID"])) for row in rows],
            }
    raise RayConnectionError(f"no node of cluster {cluster.name!r} on this machine answers")


def _asked(node: LocalNode) -> tuple[list[dict[str, Any]], str, dict[str, float], dict[str, float]]:
    with contextlib.closing(SessionObserver(node.session_dir, node.facts)) as observer:
        rows, director = (observer.ask(what, _ANSWER_S) for what in ("nodes", "director"))
        total, free = (observer.ask(what, _ANSWER_S) for what in ("resources", "available"))
    return rows, director, _plain(total), _plain(free)


def _plain(amounts: dict[str, int]) -> dict[str, float]:
    return {name: amount / UNIT for name, amount in amounts.items()}


def _of_node(row: dict[str, Any], director: str, local: LocalNode | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "node_id": row["NodeID"],
        "machine": row["NodeManagerHostname"],
        "state": "alive" if row["Alive"] else "dead",
        "pid": row["Pid"],
        "resources": _plain(row["Resources"]),
        "node_name": row["NodeName"],
        "labels": row["Labels"],
        "is_head": row["NodeID"] == director,
    }
    if local is not None:
        facts |= {"host": local.cluster.host, "session_dir": local.session_dir}
    return facts


def _row(node: dict[str, Any]) -> tuple[str, ...]:
    offers = ", ".join(f"{name} {_amount(name, amount)}" for name, amount in sorted(node["resources"].items()))
    state = f"{node['state']} (head)" if node["is_head"] else node["state"]
    return node["node_id"], node["node_name"], node["machine"], state, offers or "-"


def _amount(name: str, amount: float) -> str:
    return as_size(int(amount)) if name == "memory" else f"{amount:g}"
