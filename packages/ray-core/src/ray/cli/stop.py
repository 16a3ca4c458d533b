"""``ray stop``: ends nodes of this user on this machine, and with that of the head its cluster."""

from __future__ import annotations

import contextlib
import os
import socket

import click

from ray.cli import exits
from ray.cli.commands import command
from ray.cli.which_cluster import local_cluster, with_cluster
from ray.clock import monotonic, sleep
from ray.exceptions import KeyFileError, RayConnectionError, RaySystemError
from ray.runtime.cluster.key_folder import KeyFolder, remove_key_file
from ray.runtime.cluster.local_clusters import LocalCluster, LocalNode
from ray.runtime.cluster.own_host import own_host
from ray.runtime.cluster.places import Place, parse_place
from ray.runtime.cluster.process_ends import GRACE_S, Process, end_processes
from ray.runtime.process.session_dirs import remove_session_dir, sweep_sessions
from ray.units import counted

#: A node manager that was killed has a survivor, which takes away what is left.
_SURVIVOR_S = 5.0
_LOOK_S = 0.02
_ASK_S = 2.0


@command("stop")
@with_cluster
@click.option("--node", metavar="NODE", help="End this node alone: its name, NodeID or pid.")
@click.option("--cluster", "whole", is_flag=True, help="End the whole cluster: all nodes, and the control server.")
def stop(name: str | None, address: str | None, node: str | None, whole: bool) -> int:
    """End the nodes of this user on this machine, all of one cluster; where its head is, the cluster ends with it."""
    if node is not None and whole:
        raise click.UsageError("--node and --cluster exclude each other")
    try:
        cluster = local_cluster(name, address)
        ends_cluster = _ends(cluster, node, whole=whole)
    finally:
        _sweep()
    nodes = cluster.nodes if node is None or ends_cluster else [_chosen(cluster, node)]
    wanted: list[Process] = []
    if ends_cluster and cluster.keeper is not None:
        wanted.append(cluster.keeper.process)  # the first, as it would have the node started again
    wanted += [each.process for each in nodes]
    killed = end_processes(wanted, GRACE_S)
    for each in nodes:
        _clear(each.session_dir)
    keeper = cluster.keeper or cluster.lost_keeper
    if ends_cluster:
        if cluster.keeper is not None:
            _clear(cluster.keeper.folder)
        remove_key_file(keeper.facts.key_path if keeper else KeyFolder().path_of(cluster.name), cluster.session)
        sweep_sessions()
    click.echo(f"Stopped {counted(len(nodes), 'node')} of cluster {cluster.name!r}{_rest(cluster, ends=ends_cluster)}.")
    if killed:
        pids = ", ".join(str(process.pid) for process in killed)
        click.echo(f"What did not end within {GRACE_S:g} s was killed: {pids}.", err=True)
    return exits.DONE


def _ends(cluster: LocalCluster, node: str | None, *, whole: bool) -> bool:
    """Whether the cluster ends with that; its other nodes here end with it then, and need not find out.

    Raises:
        RaySystemError: it is to end, and its head is not here.
    """
    if cluster.keeper is None and not _has_lost_head(cluster):
        if whole:
            raise RaySystemError(
                f"The head of cluster {cluster.name!r} is not on this machine: run `ray stop --cluster` where it was "
                "started."
            )
        return False
    return node is None or _chosen(cluster, node).cluster.is_head


def _has_lost_head(cluster: LocalCluster) -> bool:
    """Whether the head was on this machine, and has ended without a word: what is left of it here cannot go on."""
    if cluster.keeper is not None:
        return False
    if cluster.lost_keeper is not None or any(each.cluster.is_head for each in cluster.nodes):
        return True
    place = parse_place(cluster.address)
    try:
        if place is None or own_host(place.host) != place.host:
            return False
    except ValueError:  # it is no address of this machine
        return False
    return _has_own_server(cluster) and _is_refused(place)


def _has_own_server(cluster: LocalCluster) -> bool:
    """Whether the control server ends with the head; one that was there before may be down, and the head elsewhere."""
    with contextlib.suppress(OSError, KeyFileError):
        key = KeyFolder().read(cluster.name).key
        return key.session == cluster.session and key.has_own_server
    return False


def _is_refused(place: Place) -> bool:
    """Whether nobody listens there, and is not being started again either."""
    end = monotonic() + _ASK_S
    while True:
        try:
            socket.create_connection(place, _ASK_S).close()
        except ConnectionRefusedError:
            if monotonic() > end:
                return True
        except OSError:
            return False
        else:
            return False
        sleep(_LOOK_S)


def _rest(cluster: LocalCluster, *, ends: bool) -> str:
    if not ends:
        return ""
    if cluster.keeper is not None:
        return ", and the cluster has ended"
    return f"; its head at {cluster.address} had died before, and the cluster has ended with it"


def _sweep() -> None:
    """Take away what others have left that were killed."""
    swept = sweep_sessions()
    if swept:
        what = counted(swept, "dead session")
        click.echo(f"What {what} had left on this machine was taken away.", err=True)


def _chosen(cluster: LocalCluster, node: str) -> LocalNode:
    found: list[LocalNode] = []
    for said in (lambda each: each.cluster.node_name, lambda each: each.node_id, lambda each: str(each.process.pid)):
        found = found or [each for each in cluster.nodes if node == said(each)]
    names = ", ".join(
        f"{each.cluster.node_name} (NodeID {each.node_id}, process {each.process.pid})"
        for each in found or cluster.nodes
    )
    if not found:
        raise RayConnectionError(f"no node {node!r} of cluster {cluster.name!r} runs on this machine: there is {names}")
    if len(found) > 1:
        raise click.UsageError(f"--node {node}: that is more than one: {names}. Give the NodeID")
    return found[0]


def _clear(folder: str) -> None:
    """Have nothing left of it."""
    end = monotonic() + _SURVIVOR_S
    while os.path.exists(folder) and monotonic() < end:
        sleep(_LOOK_S)
    remove_session_dir(folder)
