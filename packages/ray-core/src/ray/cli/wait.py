"""``ray wait``: returns when a cluster is as large as one wants it."""

from __future__ import annotations

import math
from typing import Any

import click

from ray.cli import exits
from ray.cli.cluster_values import RESOURCES
from ray.cli.commands import command
from ray.cli.status import report
from ray.cli.which_cluster import local_cluster, with_cluster
from ray.clock import monotonic, sleep
from ray.exceptions import RayConnectionError
from ray.protocol.resources import UNIT

_LOOK_S = 0.2


@command("wait")
@with_cluster
@click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="So many nodes.")
@click.option("--cpus", type=float, default=0.0, help="With so many CPUs together.")
@click.option("--gpus", type=float, default=0.0, help="With so many GPUs together.")
@click.option("--resources", type=RESOURCES, help="With these resources together: 'disk=2,net=1' or JSON.")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Seconds, after which it fails.")
def wait(
    name: str | None, address: str | None, nodes: int, cpus: float, gpus: float, resources: Any, timeout: float
) -> int:
    """Wait until a cluster is there, with so many nodes and resources."""
    for option, number in (("--timeout", timeout), ("--cpus", cpus), ("--gpus", gpus)):
        if math.isnan(number) or number < 0 or (math.isinf(number) and option != "--timeout"):
            raise click.UsageError(f"{option} {number:g} cannot be waited for")
    wanted = {"nodes": float(nodes), "CPU": cpus, "GPU": gpus}
    wanted |= {key: amount / UNIT for key, amount in (resources or {}).items()}
    end = monotonic() + timeout
    while True:
        found = _found(name, address)
        less = [key for key, amount in wanted.items() if found.get(key, 0.0) < amount]
        if not less:
            return exits.DONE
        if monotonic() >= end:
            missing = " and ".join(f"{found.get(key, 0.0):g} of {wanted[key]:g} {key}" for key in less)
            raise TimeoutError(f"after {timeout:g} s, the cluster has {missing}")
        sleep(min(_LOOK_S, max(0.0, end - monotonic())))


def _found(name: str | None, address: str | None) -> dict[str, float]:
    try:
        found = report(local_cluster(name, address))
    except RayConnectionError:  # it may come
        return {}
    return {**found["resources"], "nodes": float(sum(node["state"] == "alive" for node in found["nodes"]))}
