"""Starts of sessions, and joins to them, as ``ray.init`` asks for them."""

from __future__ import annotations

from ray.runtime.driver import joined_node
from ray.runtime.driver.driver import DriverRuntime
from ray.runtime.driver.embedded_node import EmbeddedNode
from ray.runtime.driver.guest import GuestNode
from ray.runtime.driver.joined_node import JoinedNode
from ray.runtime.driver.node_options import job_config
from ray.runtime.start_options import JoinOptions, StartOptions


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
    with options.code.kept():
        hosting = JoinedNode(options) if options.key is None else GuestNode(options, options.key)
        return DriverRuntime(hosting, hosting.plan, joined_node.job_config(options), options.code.directory)
