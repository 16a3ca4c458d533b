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
from ray.runtime.process.node_start import ClusterConfig, NodeFacts
from ray.runtime.process.session_dirs import new_session_id, place_session, remove_session_dir
from ray.runtime.start_options import StartOptions

_STOP_S = 5.0


class StartedNode:
    """The program that has started a node may stop it, or leave it running. Not thread-safe."""

    def __init__(self, options: StartOptions, cluster: ClusterConfig | None = None, session: str = "") -> None:
        """Start it, and wait until it serves.

        Args:
            options: what it offers, and its plugins.
            cluster: that it founds or joins; None: it is alone.
            session: name of that cluster's session; empty: a new one.

        Raises:
            RaySystemError: it does not start; nothing is left of it.
        """
        instance = new_session_id()
        #: The session's name.
        self.session = session or instance
        self.session_dir = place_session(instance)
        config = node_config(options, self.session, self.session_dir, None)
        config = msgspec.structs.replace(config, cluster=cluster)
        log = NodeLog()
        ours, theirs = socket.socketpair()
        with ours, contextlib.closing(log):
            with theirs:
                self._process = launch_node_manager(instance, theirs.fileno(), log.file)
            facts = None
            try:
                with contextlib.suppress(OSError):  # it has died already
                    ours.sendall(config.to_json() + b"\n")
                facts = read_facts(ours)
                problem = "the process ended" if facts is None else facts.error
            except TimeoutError as error:
                problem = str(error)
            #: What it has answered.
            self.facts = NodeFacts() if facts is None else facts
            if problem:
                if not wait_for_end(self._process, _STOP_S):  # it cleans up
                    self._kill()
                kill_marked(instance)
                remove_session_dir(self.session_dir)
                raise RaySystemError(f"the node manager did not start: {problem}{log.tail()}")

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

    def leave(self) -> None:
        """Let it run on when this program ends."""
        self._process.returncode = 0  # or Python warns of a child that runs

    def _kill(self) -> None:
        """Its survivor cleans up."""
        self._process.kill()
        self._process.wait()
