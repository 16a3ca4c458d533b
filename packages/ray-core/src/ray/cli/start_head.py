"""``ray start --head``: a new cluster."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

import click

from ray.cli.cluster_parts import cluster_plan
from ray.cli.foreground import see_off
from ray.cli.node_of_options import (
    check_encryption,
    check_installed,
    check_ports,
    checked_host,
    cluster_config,
    start_options,
)
from ray.cli.trust import warn_of_trust
from ray.plugins.plan import ResolvedPlan
from ray.runtime.cluster.control_url import ControlUrl, parse_control_url
from ray.runtime.cluster.keeper_start import KeeperConfig
from ray.runtime.cluster.key_file import ROUTED, private_text
from ray.runtime.cluster.key_folder import KeyFolder
from ray.runtime.cluster.places import is_loopback
from ray.runtime.cluster.wanted import DEFAULT_NAME
from ray.runtime.driver.launch import started_config
from ray.runtime.driver.started_head import StartedHead
from ray.runtime.process.node_start import LOOPBACK
from ray.runtime.process.session_dirs import new_session_id, place_session

DEFAULT_PORT = 6379
#: As for a session on one machine.
CONTROL_FILE = "RAY_CONTROL_FILE"


def start_head(given: Mapping[str, Any]) -> int:
    """Start it; returns the exit code.

    Raises:
        click.UsageError: it cannot be as it was asked for.
        RayError: it does not start; nothing is left of it.
    """
    name = given["name"] or DEFAULT_NAME
    host = checked_host(LOOPBACK if given["host"] is None else given["host"])
    check_ports(given)
    check_encryption(given["data_encryption"] or "auto")
    check_installed("redis", "cryptography")
    url, text = _existing(given)
    plan = _plan(name, host, given["port"] or DEFAULT_PORT, url)
    options = start_options(given, plan)
    folder = KeyFolder()
    if given["key_file"] is None:
        folder.make()
    session = new_session_id()
    node = started_config(options, cluster_config(given, name, host), session)
    config = KeeperConfig(
        session=session,
        folder=place_session(session),
        key_path=os.path.abspath(given["key_file"] or folder.path_of(name)),
        host=host if url is None else url.place.host,
        port=(given["port"] or DEFAULT_PORT) if url is None else url.place.port,
        may_choose_port=given["port"] is None,
        node=node,
        control=text,
        is_foreground=given["block"],
    )
    head = StartedHead(config)
    return see_off(head, lambda: _show(config, head.answer.address), block=given["block"])


def _existing(given: Mapping[str, Any]) -> tuple[ControlUrl | None, str]:
    """The control server that is there, and its URL with the password."""
    text = given["control"]
    path = None if text else given["control_file"] or os.environ.get(CONTROL_FILE)
    if path:
        try:
            text = sys.stdin.read() if path == "-" else private_text(path)
        except (OSError, ValueError) as error:
            raise click.UsageError(f"--control-file {path}: {error}") from None
        text = text.strip().partition("\n")[0]
    if not text:
        return None, ""
    try:
        return parse_control_url(text), text
    except ValueError as error:
        raise click.UsageError(f"--control-file: {error}") from None


def _plan(name: str, host: str, port: int, url: ControlUrl | None) -> ResolvedPlan:
    options: dict[str, Any] = {"name": name}
    options |= {"host": host, "port": port} if url is None else {"url": url.shown}
    transport = None if is_loopback(host) else ROUTED  # the one that is made for several machines
    return cluster_plan(f"A cluster of several machines (--host {host})", transport, options)


def _show(config: KeeperConfig, address: str) -> None:
    cluster = config.node.cluster
    assert cluster is not None
    click.echo(f"Cluster {cluster.name!r} runs at {address}; its key file is {config.key_path}.")
    click.echo(f'\nIn programs of this machine:  ray.init(address="{address}")')
    click.echo(f"One more node:                ray start --address={address}")
    click.echo(f"To end it:                    ray stop --name {cluster.name}")
    warn_of_trust()
    if is_loopback(cluster.host):
        click.echo("\nOther machines cannot reach it: for a cluster of several, start it with --host ADDRESS.")
    else:
        click.echo("\nOn another machine, as the same user, with the same Python and packages:")
        click.echo("    mkdir -pm 700 ~/.ray/clusters")
        click.echo(f"    scp {cluster.host}:{shlex.quote(config.key_path)} ~/.ray/clusters/")
        click.echo(f"    ray start --address={address}")
