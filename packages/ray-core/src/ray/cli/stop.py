"""``ray stop``: ends nodes of this user on this machine, and with that of the head its cluster."""

from __future__ import annotations

import os

import click

from ray.cli import exits
from ray.cli.commands import command
from ray.cli.which_cluster import local_cluster, with_cluster
from ray.clock import monotonic, sleep
from ray.exceptions import RayConnectionError, RaySystemError
from ray.runtime.cluster.key_folder import KeyFolder, remove_key_file
from ray.runtime.cluster.local_clusters import LocalCluster, LocalNode, clear_dead_keeper
from ray.runtime.cluster.process_ends import GRACE_S, Process, end_processes
from ray.runtime.process.session_dirs import remove_session_dir
from ray.units import counted

#: A node manager that was killed has a survivor, which takes away what is left.
_SURVIVOR_S = 5.0
_LOOK_S = 0.02


@command("stop")
@with_cluster
@click.option("--node", metavar="NODE", help="End this node alone: its name, or the number of its process.")
@click.option("--cluster", "whole", is_flag=True, help="End the whole cluster: all nodes, and the control server.")
def stop(name: str | None, address: str | None, node: str | None, whole: bool) -> int:
    """End the nodes of this user on this machine, all of one cluster; where its head is, the cluster ends with it."""
    cluster = local_cluster(name, address)
    if node is not None and whole:
        raise click.UsageError("--node and --cluster exclude each other")
    if whole and cluster.keeper is None:
        raise RaySystemError(
            f"The head of cluster {cluster.name!r} is not on this machine: run `ray stop --cluster` where it was "
            "started."
        )
    nodes = cluster.nodes if node is None else [_chosen(cluster, node)]
    ends_cluster = cluster.keeper is not None and (node is None or any(each.cluster.is_head for each in nodes))
    if ends_cluster:  # the others end with it, and need not find out
        nodes = cluster.nodes
    wanted: list[Process] = []
    if ends_cluster and cluster.keeper is not None:
        wanted.append(cluster.keeper.process)  # the first, as it would have the node started again
    wanted += [each.process for each in nodes]
    killed = end_processes(wanted, GRACE_S)
    for each in nodes:
        _clear(each.session_dir)
    if ends_cluster and cluster.keeper is not None:
        _clear(cluster.keeper.folder)
        remove_key_file(cluster.keeper.facts.key_path, cluster.session)
    elif any(each.cluster.is_head for each in nodes):  # its keeper was killed, and the control server with it
        clear_dead_keeper(cluster.session)
        remove_key_file(KeyFolder().path_of(cluster.name), cluster.session)
    rest = ", and the cluster has ended" if ends_cluster else ""
    click.echo(f"Stopped {counted(len(nodes), 'node')} of cluster {cluster.name!r}{rest}.")
    if killed:
        pids = ", ".join(str(process.pid) for process in killed)
        click.echo(f"What did not end within {GRACE_S:g} s was killed: {pids}.", err=True)
    return exits.DONE


def _chosen(cluster: LocalCluster, node: str) -> LocalNode:
    found = [each for each in cluster.nodes if node == each.cluster.node_name]
    found = found or [each for each in cluster.nodes if node == str(each.process.pid)]
    names = ", ".join(f"{each.cluster.node_name} (process {each.process.pid})" for each in found or cluster.nodes)
    if not found:
        raise RayConnectionError(f"no node {node!r} of cluster {cluster.name!r} runs on this machine: there is {names}")
    if len(found) > 1:
        raise click.UsageError(f"--node {node}: that is more than one: {names}. Give the number of the process")
    return found[0]


def _clear(folder: str) -> None:
    """Have nothing left of it."""
    end = monotonic() + _SURVIVOR_S
    while os.path.exists(folder) and monotonic() < end:
        sleep(_LOOK_S)
    remove_session_dir(folder)
