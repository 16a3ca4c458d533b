"""Which cluster a command is about: the one that was named, or the only one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ray.cli.cluster_values import CLUSTER_NAME
from ray.exceptions import RayConnectionError
from ray.runtime.cluster.local_clusters import LocalCluster, local_clusters
from ray.runtime.cluster.places import is_same, parse_place, without_password
from ray.runtime.cluster.wanted import WantedCluster, may_be_name

F = TypeVar("F", bound=Callable[..., Any])


def with_cluster(function: F) -> F:
    """Decorator: ``--name`` and ``--address``."""
    for option in (
        click.option("--address", "--redis-address", metavar="HOST:PORT", help="The cluster, by its address."),
        click.option("--name", type=CLUSTER_NAME, help="The cluster, by its name. By default the only one."),
    ):
        function = option(function)
    return function


def wanted_cluster(text: str, option: str) -> WantedCluster:
    """What the value of an option names.

    Raises:
        click.UsageError: it is no address and no name.
    """
    source = f"{option} {without_password(text)}"
    if text == "auto":
        return WantedCluster(source)
    place = parse_place(text)
    if place is not None:
        return WantedCluster(source, place)
    if may_be_name(text):
        return WantedCluster(source, name=text)
    raise click.UsageError(
        f"{source}: an address is HOST:PORT with a port from 1024 to 65535, such as 10.0.0.5:6379 or [::1]:6379, the "
        "name of a cluster, or auto"
    )


def local_cluster(name: str | None, address: str | None) -> LocalCluster:
    """The cluster, of this user and with a part on this machine, that is meant.

    Raises:
        click.UsageError: there are several.
        RayConnectionError: there is none.
    """
    every = list(local_clusters().values())
    wanted = wanted_cluster(address, "--address") if address else WantedCluster("")
    found = [each for each in every if name in (None, each.name) and _fits(each, wanted)]
    if not found:
        which = f" {name!r}" if name else f" at {wanted}" if address else ""
        others = f"; those of {_listed(every)} run" if every else ""
        raise RayConnectionError(f"no node of a cluster{which} runs here (of this user, on this machine){others}")
    if len(found) > 1:
        raise click.UsageError(f"nodes of several clusters run here: {_listed(found)}. Say which with --name")
    return found[0]


def _fits(cluster: LocalCluster, wanted: WantedCluster) -> bool:
    if wanted.place is None:
        return wanted.name in ("", cluster.name)
    place = parse_place(cluster.address)
    return place is not None and is_same(place, wanted.place)


def _listed(clusters: list[LocalCluster]) -> str:
    return ", ".join(sorted(f"{each.name} ({each.address})" for each in clusters))
