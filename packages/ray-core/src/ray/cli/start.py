"""``ray start``: starts a node, as the head of a new cluster or to join one; it runs on when the command has ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from ray.cli.cluster_values import (
    CLUSTER_NAME,
    CONTROL_URL,
    CPUS,
    GPUS,
    LABELS,
    NODE_NAME,
    PORT,
    PORT_RANGE,
    RESOURCES,
    SECONDS,
    SIZE,
)
from ray.cli.commands import command
from ray.cli.exits import DONE, INTERRUPTED
from ray.cli.foreground import Terminated, terminable
from ray.runtime.cluster.given_names import ENCRYPTIONS

_ENCRYPTION = click.Choice(ENCRYPTIONS)
#: Options that say something of the whole cluster, which its head decides.
_OF_HEAD = {
    "port": "--port",
    "name": "--name",
    "control": "--control",
    "control_file": "--control-file",
    "data_encryption": "--data-encryption",
}


@command("start")
@click.option("--head", is_flag=True, help="Start a new cluster, with this node as its first.")
@click.option(
    "--address", "--redis-address", metavar="HOST:PORT", help="Join this cluster; its name will do, or 'auto'."
)
@click.option("--name", type=CLUSTER_NAME, help="Of the new cluster: 'default', if it is not given.")
@click.option("--node-name", type=NODE_NAME, help="What this node is called: the name of the machine.")
@click.option("--num-cpus", type=CPUS, help="CPUs that the node offers: those that there are.")
@click.option("--num-gpus", type=GPUS, help="GPUs that the node offers: those that there are.")
@click.option("--resources", type=RESOURCES, help="Further resources: 'disk=2,net=1' or JSON.")
@click.option("--labels", type=LABELS, help="Facts about the node, for labels= of tasks and actors: 'zone=a,kind=big'.")
@click.option("--memory", type=SIZE, help="What tasks may ask for with memory=: '8GiB'.")
@click.option("--object-store-memory", type=SIZE, help="Of the node's object store: '512MiB'.")
@click.option(
    "--host",
    metavar="ADDRESS",
    help="Where others reach this node: an address, a name or an interface such as 'ib0'. "
    "Of a head 127.0.0.1, which is this machine alone; of others, the one from which it reaches the head.",
)
@click.option("--port", "--redis-port", type=PORT, help="Of the head's control server: 6379 if that is free.")
@click.option("--port-range", type=PORT_RANGE, help="Where the node's processes listen: '20000-20100'.")
@click.option("--control", type=CONTROL_URL, help="A Redis server that the new cluster uses: 'redis://HOST:PORT'.")
@click.option("--control-file", metavar="PATH", help="A file with such a URL and its password; '-': standard input.")
@click.option("--key-file", metavar="PATH", help="The key file of the cluster; '-': standard input.")
@click.option("--data-encryption", type=_ENCRYPTION, help="Of objects between nodes: 'auto', if it is not given.")
@click.option(
    "--control-timeout",
    type=SECONDS,
    metavar="SECONDS",
    help="What needs the control store waits so long for one that does not answer: 60.",
)
@click.option("--block", is_flag=True, help="Stay in the foreground; the node ends with this command.")
def start(**given: Any) -> int:
    """Start a node on this machine: the head of a new cluster, or one more of a cluster that is there."""
    if given["head"] == bool(given["address"]) and not (given["key_file"] and not given["head"]):
        problem = "--head and --address exclude each other" if given["head"] else "say which cluster"
        raise click.UsageError(f"{problem}: --head starts a new one, --address HOST:PORT joins one that is there")
    if not given["head"]:
        wrong = [option for name, option in _OF_HEAD.items() if given[name] is not None]
        if wrong:
            raise click.UsageError(f"{' and '.join(wrong)} can be said to --head only, for the whole cluster")
        from ray.cli.start_node import start_node

        return _terminable(start_node, given)
    if given["control"] and given["control_file"]:
        raise click.UsageError("--control and --control-file are the same option: give one of them")
    if given["port"] and (given["control"] or given["control_file"]):
        raise click.UsageError("--port is that of a control server which is started; the URL of another names its own")
    if given["key_file"] == "-":
        raise click.UsageError("--key-file of a head is where it writes the file: a path, and not '-'")
    from ray.cli.start_head import start_head

    return _terminable(start_head, given)


def _terminable(starting: Callable[[Mapping[str, Any]], int], given: Mapping[str, Any]) -> int:
    """Whenever SIGTERM comes, it ends what was started, also in the middle of a start."""
    try:
        with terminable():
            return starting(given)
    except Terminated:
        return DONE if given["block"] else INTERRUPTED
