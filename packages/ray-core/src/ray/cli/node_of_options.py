"""What ``ray start`` is told about a node, checked against this machine, as the runtime takes it."""

from __future__ import annotations

import importlib.util
import math
import os
import secrets
import socket
from collections.abc import Mapping
from typing import Any

import click

from ray.api.options import memory_bytes
from ray.api.session import MIN_STORE_BYTES, MOST_GPUS
from ray.exceptions import RaySystemError
from ray.plugins.plan import ResolvedPlan
from ray.protocol.resources import UNIT
from ray.runtime.cluster.own_host import own_host
from ray.runtime.cluster.places import is_loopback
from ray.runtime.process import hardware
from ray.runtime.process.node_start import ClusterConfig
from ray.runtime.start_options import StartOptions
from ray.units import counted

#: A node listens on so many ports, and on so many more for each CPU.
_PORTS, _PORTS_PER_CPU = 3, 2


def start_options(given: Mapping[str, Any], plan: ResolvedPlan) -> StartOptions:
    """What the node offers.

    Raises:
        click.UsageError: there cannot be such a node.
    """
    gpus, memory, store = given["num_gpus"], given["memory"], given["object_store_memory"]
    if gpus is not None and gpus > MOST_GPUS * UNIT:
        raise click.UsageError(f"--num-gpus must be at most {MOST_GPUS}, as each gets an id")
    if store is not None and store < MIN_STORE_BYTES:
        raise click.UsageError(f"--object-store-memory must be at least {MIN_STORE_BYTES:,} bytes, not {store:,}")
    for option, amount in (("--memory", memory), ("--object-store-memory", store)):
        try:
            memory_bytes(option, amount or 0)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    return StartOptions(
        plan,
        num_cpus=given["num_cpus"],
        num_gpus=gpus,
        resources=given["resources"] or {},
        memory_bytes=memory,
        object_store_bytes=store,
    )


def check_ports(given: Mapping[str, Any]) -> tuple[int, int]:
    """The range of ports; zeros: any.

    Raises:
        click.UsageError: it is too small.
    """
    if given["port_range"] is None:
        return 0, 0
    first, last = given["port_range"]
    cpus = hardware.cpu_count() if given["num_cpus"] is None else math.ceil(given["num_cpus"] / UNIT)
    needed = _PORTS + _PORTS_PER_CPU * cpus
    if last - first + 1 < needed:
        raise click.UsageError(
            f"--port-range {first}-{last} holds {last - first + 1} ports, and a node of {counted(cpus, 'CPU')} needs "
            f"{needed}: {_PORTS} and {_PORTS_PER_CPU} for each CPU"
        )
    return first, last


def checked_host(given: str) -> str:
    """The address that ``--host`` means.

    Raises:
        click.UsageError: it is none of this machine.
        RaySystemError: others can reach it, and there is nothing to keep strangers out.
    """
    try:
        host = own_host(given)
    except ValueError as error:
        raise click.UsageError(f"--host: {error}") from None
    check_guarded(host)
    return host


def check_installed(*modules: str) -> None:
    """See that what every cluster needs is there.

    Raises:
        RaySystemError: it is not.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise RaySystemError(
            f"A cluster needs packages that are not installed here: {', '.join(missing)}. "
            "pip install 'ray-core[cluster]' brings them."
        )


def check_guarded(host: str) -> None:
    """See that what listens where others can reach it lets in those that have the keys, and nobody else.

    Raises:
        RaySystemError: the packages are missing that do that.
    """
    if is_loopback(host):
        return
    needed = {"ray_transport_zmq": "ray-transport-zmq", "redis": "redis", "cryptography": "cryptography"}
    missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise RaySystemError(
            f"A node that others reach, at {host}, is guarded by the keys of its cluster; that takes packages that are "
            f"not installed here: {', '.join(missing)}. pip install 'ray-core[cluster]' brings them. Without them, "
            "a cluster can be on one machine: leave out --host."
        )


def check_encryption(wanted: str) -> None:
    """See that it can be done.

    Raises:
        RaySystemError: the package is missing that does it.
    """
    if wanted == "aes-gcm" and importlib.util.find_spec("cryptography") is None:
        raise RaySystemError(
            "--data-encryption aes-gcm needs the package cryptography: pip install 'ray-core[cluster]'"
        )


def cluster_config(given: Mapping[str, Any], name: str, host: str, node_name: str = "") -> ClusterConfig:
    """The node's part in the cluster, but for what only the control server and the key file say.

    Args:
        given: on the command line.
        name: of the cluster.
        host: of the node.
        node_name: of the node, if none was given; empty: the name of the machine.
    """
    return ClusterConfig(
        name=name,
        is_head=given["head"],
        host=host,
        ports=check_ports(given),
        node_name=given["node_name"] or node_name or machine_name(),
        labels=given["labels"] or {},
        data_encryption=given["data_encryption"] or "auto",
        same_host=_same_host(),
        **({"control_timeout_s": given["control_timeout"]} if given["control_timeout"] else {}),
    )


def _same_host() -> bool:
    """Whether nodes of this machine may read each other's stores.

    Raises:
        click.UsageError: ``RAY_SAME_HOST`` is nothing that says so.
    """
    said = os.environ.get("RAY_SAME_HOST", "") or "1"
    if said not in ("0", "1"):
        raise click.UsageError(f"RAY_SAME_HOST={said!r}: it is 0 or 1")
    return said == "1"


def machine_name() -> str:
    """Of this machine, as the name of a node."""
    return socket.gethostname().partition(".")[0] or "node"


def another_name() -> str:
    """Of a further node on this machine."""
    return f"{machine_name()}-{secrets.token_hex(2)}"
