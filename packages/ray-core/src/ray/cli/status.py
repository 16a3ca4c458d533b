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
    found = report(cluster, waiting=True)
    if form == "json":
        print(as_json(found))
        return exits.DONE
    nodes = found["nodes"]
    alive = sum(node["state"] == "alive" for node in nodes)
    ended = sum(node["state"] == "dead" for node in nodes)
    dead = f", and {ended} that ended" if ended else ""
    print(f"Cluster {cluster.name!r} at {cluster.address}: {counted(alive, 'node')}{dead}.")
    total, free = found["resources"], found["available"]
    for resource, amount in sorted(total.items()):
        unheard = found["unheard"].get(resource, 0.0)
        taken = _amount(resource, amount - unheard - free.get(resource, 0.0))
        rest = f"; {_amount(resource, unheard)} on nodes that do not answer" if unheard else ""
        print(f"  {resource}: {taken} of {_amount(resource, amount)} in use{rest}")
    print(as_table([("NODE", "NAME", "MACHINE", "STATE", "LABELS", "OFFERS"), *(_row(node) for node in nodes)]))
    if any(node["state"] == "silent" for node in nodes):
        print("The node manager of the head does not answer this machine: it has ended, or cannot be reached.")
    if found["waiting"]:
        names = {node["node_id"]: node["node_name"] for node in nodes}
        head = ("WAIT FOR", "TO RUN", "EACH NEEDS", "ON NODE", "WHY")
        print(as_table([head, *(_waiting(demand, names) for demand in found["waiting"])]))
    return exits.DONE


def report(cluster: LocalCluster, *, waiting: bool = False) -> dict[str, Any]:
    """What a node of it on this machine knows of the cluster, for JSON; ``waiting``: all nodes are asked what waits.

    Raises:
        RayConnectionError: none of them answers.
    """
    for node in cluster.nodes:
        with contextlib.suppress(ConnectionError, TimeoutError, RayError):
            rows, director, (total, free, unheard), demands = _asked(node, waiting=waiting)
            here = {each.node_id: each for each in cluster.nodes}
            return {
                "name": cluster.name,
                "session": cluster.session,
                "address": cluster.address,
                "resources": total,
                "available": free,
                "unheard": unheard,
                "nodes": [_of_node(row, director, here.get(row["NodeID"])) for row in rows],
                "waiting": [_of_demand(row) for row in demands],
            }
    if cluster.keeper is not None:
        raise RayConnectionError(
            f"the node manager of the head of cluster {cluster.name!r} does not answer; if it has died, its keeper is "
            "starting another one: ask again"
        )
    raise RayConnectionError(f"no node of cluster {cluster.name!r} on this machine answers")


def _asked(
    node: LocalNode, *, waiting: bool
) -> tuple[list[dict[str, Any]], tuple[str, bool], list[dict[str, float]], list[dict[str, Any]]]:
    with contextlib.closing(SessionObserver(node.session_dir, node.facts)) as observer:
        rows, director = (observer.ask(what, _ANSWER_S) for what in ("nodes", "director"))
        demands = observer.ask("demands", _ANSWER_S) if waiting else []
        amounts = [_plain(observer.ask(what, _ANSWER_S)) for what in ("resources", "available", "unheard")]
    return rows, (director[0], director[1]), amounts, demands


def _plain(amounts: dict[str, int]) -> dict[str, float]:
    return {name: amount / UNIT for name, amount in amounts.items()}


def _of_node(row: dict[str, Any], director: tuple[str, bool], local: LocalNode | None) -> dict[str, Any]:
    head, is_heard = director
    is_head = row["NodeID"] == head
    facts: dict[str, Any] = {
        "node_id": row["NodeID"],
        "machine": row["NodeManagerHostname"],
        "state": "dead" if not row["Alive"] else "alive" if is_heard or not is_head else "silent",
        "pid": row["Pid"],
        "resources": _plain(row["Resources"]),
        "node_name": row["NodeName"],
        "labels": row["Labels"],
        "is_head": is_head,
    }
    if local is not None:
        facts |= {"host": local.cluster.host, "session_dir": local.session_dir}
    return facts


def _of_demand(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "node_id": row["home"],
        "job_id": row["job"],
        "name": row["name"],
        "resources": _plain(row["resources"]),
        "workers": row["count"],
        "reason": row["reason"],
        "waited_s": row["waited_ms"] / 1000,
    }


def _waiting(demand: dict[str, Any], names: dict[str, str]) -> tuple[str, ...]:
    count, home = counted(demand["workers"], "worker"), demand["node_id"]
    return count, demand["name"] or "a task", _amounts(demand["resources"]), names.get(home) or home, demand["reason"]


def _row(node: dict[str, Any]) -> tuple[str, ...]:
    state = f"{node['state']} (head)" if node["is_head"] else node["state"]
    labels = ",".join(f"{name}={value}" for name, value in sorted(node["labels"].items()))
    return node["node_id"], node["node_name"], node["machine"], state, labels or "-", _amounts(node["resources"])


def _amounts(resources: dict[str, float]) -> str:
    return ", ".join(f"{name} {_amount(name, amount)}" for name, amount in sorted(resources.items())) or "-"


def _amount(name: str, amount: float) -> str:
    return as_size(int(amount)) if name == "memory" else f"{amount:g}"
