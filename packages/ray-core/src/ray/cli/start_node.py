"""``ray start --address``: one more node of a cluster that is there."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from ray.cli.cluster_parts import cluster_plan
from ray.cli.foreground import see_off
from ray.cli.node_of_options import (
    another_name,
    check_guarded,
    check_installed,
    check_ports,
    checked_host,
    cluster_config,
    start_options,
)
from ray.cli.trust import warn_of_trust
from ray.cli.which_cluster import wanted_cluster
from ray.exceptions import RayConnectionError, RaySystemError
from ray.runtime.cluster.attaching import key_of
from ray.runtime.cluster.control_access import control_address
from ray.runtime.cluster.control_server import answers, check_control
from ray.runtime.cluster.key_file import KeyFile, read_key_file
from ray.runtime.cluster.key_folder import FoundKey, KeyFolder, locked, write_key_file
from ray.runtime.cluster.key_lookup import key_in
from ray.runtime.cluster.local_clusters import local_clusters
from ray.runtime.cluster.own_host import host_towards
from ray.runtime.cluster.places import is_same
from ray.runtime.cluster.wanted import CONNECT_S
from ray.runtime.driver.launch import StartedNode
from ray.runtime.process.node_start import ClusterConfig
from ray.runtime.start_options import StartOptions

_ASK_S = 2.0
#: What a director says of a name that another node has.
_NAME_TAKEN = "there is a node of the name"
#: What is said of a node manager that another one has dialled in vain.
_UNREACHED = "cannot be reached"
_TRIES = 10


def start_node(given: Mapping[str, Any]) -> int:
    """Start it; returns the exit code.

    Raises:
        click.UsageError: it cannot be as it was asked for.
        RayError: it does not start; nothing is left of it.
    """
    check_installed("redis", "cryptography")
    check_ports(given)
    found = _key(given)
    key = found.key
    check_control(key, found.path, _source(given))
    host = _host_towards(key) if given["host"] is None else checked_host(given["host"])
    key_path = _kept(found) if given["key_file"] == "-" else found.path
    plan = cluster_plan(
        f"The cluster {key.name!r} at {key.place}",
        key.transport or None,
        {"name": key.name, "url": key.control[0]},
    )
    options = start_options(given, plan)
    cluster = msgspec.structs.replace(cluster_config(given, key.name, host), key_file=key_path, address=str(key.place))
    if key.session in local_clusters() and not given["node_name"]:
        cluster = msgspec.structs.replace(cluster, node_name=another_name())
    try:
        with control_address(key) as control:
            node = _started(options, msgspec.structs.replace(cluster, control=control), key.session, given["node_name"])
    except RaySystemError as error:
        check_control(key, found.path, _source(given))  # if it has ended meanwhile, the user is told that
        if _UNREACHED in str(error):
            raise RayConnectionError(str(error)) from None
        raise

    def show() -> None:
        click.echo(f"Node {node.name!r} of cluster {key.name!r} runs, at {host}.")
        click.echo(f'\nIn programs of this machine:  ray.init(address="{key.place}")')
        click.echo(f"To end this node:             ray stop --name {key.name} --node {shlex.quote(node.name)}")
        warn_of_trust()

    return see_off(node, show, block=given["block"], session_dir=node.session_dir)


def _started(options: StartOptions, cluster: ClusterConfig, session: str, fixed_name: str | None) -> StartedNode:
    """Start it; once more, under another name, if another node was faster to take that."""
    for _ in range(_TRIES - 1):
        try:
            return StartedNode(options, cluster, session)
        except RaySystemError as error:
            if _NAME_TAKEN not in str(error) or fixed_name:
                raise
            cluster = msgspec.structs.replace(cluster, node_name=another_name())
    return StartedNode(options, cluster, session)


def _source(given: Mapping[str, Any]) -> str:
    return f"--address {given['address']}" if given["address"] else f"--key-file {given['key_file']}"


def _key(given: Mapping[str, Any]) -> FoundKey:
    wanted = wanted_cluster(given["address"], "--address") if given["address"] else None
    if given["key_file"] is None:
        assert wanted is not None
        return key_of(wanted, KeyFolder(), CONNECT_S)
    found = key_in(given["key_file"])
    key = found.key
    if wanted is not None:
        fits = is_same(key.place, wanted.place) if wanted.place else wanted.name in ("", key.name)
        if not fits:
            raise RaySystemError(
                f"The key file {found.path} is that of cluster {key.name!r} at {key.place}, and {wanted.source} names "
                "another one."
            )
    return found


def _host_towards(key: KeyFile) -> str:
    try:
        host = host_towards(key.place)
    except OSError as error:
        raise RaySystemError(f"There is no way from this machine to {key.place}: {error}.") from None
    check_guarded(host)
    return host


def _kept(found: FoundKey) -> str:
    """Where the key file is from now on that came over standard input: node managers and programs read it."""
    folder = KeyFolder()
    folder.make()
    path = folder.path_of(found.key.name)
    with locked(path):
        with contextlib.suppress(FileNotFoundError):
            there = read_key_file(path)
            if there.session != found.key.session and answers(there, _ASK_S):
                raise RaySystemError(
                    f"A cluster {there.name!r} at {there.place} has its key file at {path}, where that of the cluster "
                    f"at {found.key.place} would be."
                )
        write_key_file(path, found.key)
    return path
