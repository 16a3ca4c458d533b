"""What the zygote does when the node manager cannot clean up any more: it is the last of the session that can."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from typing import NoReturn

from ray.clock import boottime, monotonic
from ray.protocol.membership import SELF_END_S
from ray.runtime.node.forking import ForkRequest, decode_request
from ray.runtime.node.renewals import Renewals
from ray.runtime.process.group_ends import await_trackers
from ray.runtime.process.marks import kill_marked
from ray.runtime.process.node_start import NodeConfig
from ray.runtime.process.session_dirs import note_end, note_survivor, remove_session_dir
from ray.runtime.process.supervision import is_stopped, outlive_parent

#: The driver is gone: the node manager ends by itself, or has this long until it is killed.
ORPHAN_GRACE_S = 5.0
_LOOK_S = 0.1
_MAX_REQUEST_BYTES = 4096


class NodeSurvivor:
    """Waits for requests of the node manager, and looks after its end and after that of the driver."""

    def __init__(
        self, channel: socket.socket, lifeline: int, renewals: Renewals, node: int, config: NodeConfig
    ) -> None:
        """Become the process that survives the node manager.

        Args:
            channel: to the node manager; it ends with it.
            lifeline: descriptor of a channel that ends with the driver whose node this is; -1 if it is nobody's.
            renewals: until when the node may run, once the node manager says that it has to be looked at.
            node: pid of the node manager.
            config: of the session.
        """
        self._channel = channel
        self._lifeline = lifeline
        self._renewals = renewals
        self._node = node
        self._config = config
        self._poll = select.poll()
        for fd in (channel.fileno(), lifeline):
            if fd >= 0:
                self._poll.register(fd, select.POLLIN)
        #: When the node manager is killed, which has lost its driver.
        self._limit = 0.0
        #: When it had sent what others have heard of it, at the last look; 0: nobody has to hear of it.
        self._renewed = 0.0
        #: Of the node manager, once somebody has to hear of it.
        self._handle = -1
        note_survivor(config.session_dir, os.getpid())
        outlive_parent()

    def request(self) -> tuple[ForkRequest, list[int]]:
        """Wait for a request; returns it and its descriptors. Ends the process if there will be none any more."""
        while True:
            ready = self._poll.poll(self._patience_ms())
            for fd, _ in ready:
                if fd == self._lifeline:
                    self._poll.unregister(fd)
                    self._limit = monotonic() + ORPHAN_GRACE_S
                else:
                    data, fds = self._receive()
                    if not data:
                        self._bury()
                    request = decode_request(data)
                    if isinstance(request, ForkRequest):
                        return request, fds
                    self._watch_renewals()
            if self._limit:
                self._rouse()
            if not ready:  # else there may be more to hear of it
                self._end_cut_off()

    def rests(self, time_s: float) -> bool:
        """Whether there is nothing to hear in so long."""
        return not self._poll.poll(time_s * 1000)

    def _watch_renewals(self) -> None:
        self._renewed = self._renewals.newest()
        if self._handle < 0:
            self._handle = os.pidfd_open(self._node)

    def _patience_ms(self) -> float | None:
        if self._limit:
            return _LOOK_S * 1000
        if self._renewed:
            return max(0.0, self._renewed + SELF_END_S - boottime()) * 1000
        return None

    def _end_cut_off(self) -> None:
        """Kill a node manager that should have ended by itself: with it end its workers, before others replace them."""
        if not self._renewed:
            return
        self._renewed = self._renewals.newest()
        silence_s = boottime() - self._renewed
        if silence_s >= SELF_END_S:
            reason = (
                f"this machine was cut off from the cluster for {silence_s:.1f} s, or its node manager stood still: "
                "the node was ended, as the others take it for dead"
            )
            print(reason, flush=True)
            note_end(self._config.session_dir, reason)
            self._renewed = 0.0
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def _receive(self) -> tuple[bytes, list[int]]:
        """What has come; nothing if the node manager is dead. If it has left reports unread, that is an error."""
        try:
            data, fds, _, _ = socket.recv_fds(self._channel, _MAX_REQUEST_BYTES, 3)
        except ConnectionError:
            return b"", []
        return data, fds

    def _rouse(self) -> None:
        """Have a node manager end that has lost its driver, even one that was stopped."""
        if is_stopped(self._node):
            with contextlib.suppress(OSError):
                os.kill(self._node, signal.SIGCONT)
        if monotonic() > self._limit:
            with contextlib.suppress(OSError):
                os.kill(self._node, signal.SIGKILL)

    def _bury(self) -> NoReturn:
        """The node manager was killed: end what it has left."""
        await_trackers(kill_marked(self._config.instance))
        remove_session_dir(self._config.session_dir)
        os._exit(0)

    def close(self) -> None:
        """In a worker: it has nothing to do with this."""
        self._channel.close()
        self._renewals.close()
        if self._handle >= 0:
            os.close(self._handle)
        if self._lifeline >= 0:
            os.close(self._lifeline)
