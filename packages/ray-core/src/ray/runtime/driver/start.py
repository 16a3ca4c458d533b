"""Starts of sessions, and joins to them, as ``ray.init`` asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.runtime.driver import joined_node
from ray.runtime.driver.driver import DriverRuntime
from ray.runtime.driver.embedded_node import EmbeddedNode
from ray.runtime.driver.joined_node import JoinedNode
from ray.runtime.driver.node_options import job_config
from ray.runtime.start_options import JoinOptions, StartOptions

if TYPE_CHECKING:
    from ray.runtime.driver.guest import GuestNode


def start(options: StartOptions) -> DriverRuntime:
    """Start a session on this machine, which ends with this program."""
    job = job_config(options)
    with options.code.kept():
        return DriverRuntime(EmbeddedNode(options, job), options.plan, job, options.code.directory)


def join(options: JoinOptions) -> DriverRuntime:
    """Become a job of a node that runs: on this machine, or, where the cluster has none here, on another one.

    Raises:
        RayConnectionError: there is none, or it refuses this program.
        IncompatiblePluginsError: the session has other plugins than the program has chosen.
    """
    hosting: JoinedNode | GuestNode
    with options.code.kept():
        if options.key is None:
            hosting = JoinedNode(options)
        else:
            from ray.runtime.driver.guest import GuestNode  # with all that it takes to find a cluster

            hosting = GuestNode(options, options.key)
        return DriverRuntime(hosting, hosting.plan, joined_node.job_config(options), options.code.directory)
