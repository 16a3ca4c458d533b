"""A cluster that this program starts: its keeper, which has the control server and the first node."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

from ray._paths import KEEPER_MAIN
from ray.exceptions import KeyFileError, RayConnectionError, RaySystemError
from ray.runtime.cluster.keeper_start import HEARD, KeeperAnswer, KeeperConfig
from ray.runtime.driver.embedded_node import launch_node_manager, read_line, wait_for_end
from ray.runtime.driver.node_log import NodeLog

#: A node manager and a control server that has much to load.
_START_S = 75.0
#: A node ends within 5 s, and so does what keeps the control server.
_STOP_S = 12.0


class StartedHead:
    """Lives on when this program ends, unless it is in the foreground. Not thread-safe."""

    def __init__(self, config: KeeperConfig) -> None:
        """Start it, and wait until it serves.

        Raises:
            RayConnectionError: a server that it needs cannot be reached.
            KeyFileError: there is a key file that cannot be used, and may be that of another cluster.
            RaySystemError: it does not start. Nothing is left of it, in either case.
        """
        log = NodeLog()
        self._lifeline, theirs = socket.socketpair()
        with contextlib.closing(log):
            try:
                with theirs:
                    self._process = launch_node_manager(config.session, theirs.fileno(), log.file, KEEPER_MAIN)
                with contextlib.suppress(OSError):  # it has died already
                    self._lifeline.sendall(config.to_json() + b"\n")
                answer = self._read()
                if answer is None:
                    raise RaySystemError(f"the keeper of the cluster did not start{log.tail()}")
            except BaseException:
                self._lifeline.close()  # it ends, and takes along what it has started
                if hasattr(self, "_process"):
                    self._await_end()
                raise
        if answer.error:
            self._lifeline.close()
            self._await_end()
            if answer.key_reason:
                raise KeyFileError(config.key_path, answer.key_reason)
            raise (RayConnectionError if answer.is_unreachable else RaySystemError)(answer.error)
        self.answer = answer
        """Where it is."""
        self._lifeline.sendall(HEARD)

    @property
    def pid(self) -> int:
        """Of the keeper."""
        return self._process.pid

    def wait(self) -> int:
        """Wait for the end of the cluster; returns the exit code of the keeper."""
        return self._process.wait()

    def stop(self) -> None:
        """End the cluster, and what it has on this machine. Idempotent."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.kill(self._process.pid, signal.SIGTERM)
            self._await_end()
        self._lifeline.close()

    def leave(self) -> None:
        """Let it run on when this program ends."""
        self._lifeline.close()
        self._process.returncode = 0  # or Python warns of a child that runs

    def _await_end(self) -> None:
        if not wait_for_end(self._process, _STOP_S):
            self._process.kill()
            self._process.wait()

    def _read(self) -> KeeperAnswer | None:
        try:
            line = read_line(self._lifeline, _START_S)
        except TimeoutError:
            return None
        return None if line is None else KeeperAnswer.from_json(line)
