"""A node that no driver owns: it runs until it is stopped, and drivers join it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

import msgspec

from ray.exceptions import RaySystemError
from ray.runtime.driver.embedded_node import launch_node_manager, read_facts, wait_for_end
from ray.runtime.driver.node_log import NodeLog
from ray.runtime.driver.node_options import node_config
from ray.runtime.process.marks import kill_marked
from ray.runtime.process.node_start import ClusterConfig, NodeConfig, NodeFacts
from ray.runtime.process.session_dirs import new_session_id, place_session, remove_session_dir
from ray.runtime.start_options import StartOptions

_STOP_S = 5.0


def started_config(options: StartOptions, cluster: ClusterConfig | None = None, session: str = "") -> NodeConfig:
    """What a node without a driver is told: see ``StartedNode``.

    Raises:
        RaySystemError: no directory is safe for its session.
    """
    instance = new_session_id()
    config = node_config(options, session or instance, place_session(instance), None)
    return msgspec.structs.replace(config, cluster=cluster)


class StartedNode:
    """The program that has started a node may stop it, or leave it running. Not thread-safe."""

    def __init__(
        self, options: StartOptions | NodeConfig, cluster: ClusterConfig | None = None, session: str = ""
    ) -> None:
        """Start it, and wait until it serves.

        Args:
            options: what it offers, and its plugins; or all that it is told.
            cluster: that it founds or joins; None: it is alone.
            session: name of that cluster's session; empty: a new one.

        Raises:
            RaySystemError: it does not start; nothing is left of it.
        """
        config = options if isinstance(options, NodeConfig) else started_config(options, cluster, session)
        #: The session's name.
        self.session = config.session
        self.session_dir = config.session_dir
        #: Of the node, in its cluster; empty if it is alone.
        self.name = config.cluster.node_name if config.cluster else ""
        #: What it has answered.
        self.facts = NodeFacts()
        log = NodeLog()
        ours, theirs = socket.socketpair()
        with ours, contextlib.closing(log):
            with theirs:
                self._process = launch_node_manager(config.instance, theirs.fileno(), log.file)
            try:
                problem = self._begin(ours, config)
            except BaseException:  # the user does not want it any more
                self.stop()
                self._clear_away(config.instance)
                raise
            if problem:
                if not wait_for_end(self._process, _STOP_S):  # it cleans up
                    self._kill()
                self._clear_away(config.instance)
                raise RaySystemError(f"the node manager did not start: {problem}{log.tail()}")

    def _begin(self, lifeline: socket.socket, config: NodeConfig) -> str:
        """Tell it what it is, and hear of it; returns what is wrong, if anything is."""
        try:
            with contextlib.suppress(OSError):  # it has died already
                lifeline.sendall(config.to_json() + b"\n")
            facts = read_facts(lifeline)
        except TimeoutError as error:
            return str(error)
        if facts is None:
            return "the process ended"
        self.facts = facts
        return facts.error

    def _clear_away(self, instance: str) -> None:
        kill_marked(instance)
        remove_session_dir(self.session_dir)

    @property
    def address(self) -> str:
        """What ``ray.init(address=...)`` takes."""
        return f"unix:{self.session_dir}"

    @property
    def pid(self) -> int:
        """Of the node manager."""
        return self._process.pid

    def stop(self) -> None:
        """End the node and everything on it; its drivers are told. Idempotent."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.kill(self._process.pid, signal.SIGTERM)
            if not wait_for_end(self._process, _STOP_S):
                self._kill()

    @property
    def ended(self) -> bool:
        """Whether the node manager has ended; it is reaped then."""
        return self._process.poll() is not None

    @property
    def was_orderly(self) -> bool:
        """Whether it has ended by itself, and without a failure."""
        return self._process.returncode == 0

    def wait(self) -> int:
        """Wait for its end; returns the exit code of the node manager."""
        return self._process.wait()

    def leave(self) -> None:
        """Let it run on when this program ends."""
        self._process.returncode = 0  # or Python warns of a child that runs

    def _kill(self) -> None:
        """Its survivor cleans up."""
        self._process.kill()
        self._process.wait()
