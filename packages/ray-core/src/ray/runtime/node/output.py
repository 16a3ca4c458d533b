"""The node manager's part in what workers print: it takes no more than the driver of their job has room for.

A driver says how much it has printed. Where that is too far behind, the pipes of its workers are not read for a while:
then they fill up, and a task that prints waits, as with any pipe. No other job waits; nothing is kept here beyond that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from ray.abc.transport import Frame, Transport
from ray.exceptions import RemoteProtocolError
from ray.messages import node
from ray.runtime.node.line_reader import LineReader
from ray.runtime.process.output_window import WINDOW, weight
from ray.runtime.process.timers import Timers

#: A worker that is dead, or about to end, is not waited for: so much of its output is taken, the rest is dropped.
MOST = 8 * WINDOW


class _Backlog:
    """What is on its way to one driver."""

    __slots__ = ("dropped", "held", "unprinted")

    def __init__(self) -> None:
        #: What was sent to it and is not printed yet.
        self.unprinted = 0
        #: Lines that were dropped, and are still to be told of.
        self.dropped = 0
        #: Pipes in which something waits until the driver has room for it, in order.
        self.held: dict[LineReader, None] = {}


class NodeOutput:
    """Owns the pipes of the workers. Runs on the node manager's one thread."""

    def __init__(self, transport: Transport, timers: Timers, hears: Callable[[str], Any]) -> None:
        """There are no pipes yet.

        Args:
            transport: watches them.
            timers: of the node manager.
            hears: the driver of a job, with ``send``, if it is there and wants to know what workers print.
        """
        self._transport = transport
        self._timers = timers
        self._hears = hears
        #: {job: what is on its way to its driver}
        self._backlogs: dict[str, _Backlog] = {}

    def _backlog(self, job: str) -> _Backlog:
        backlog = self._backlogs.get(job)
        if backlog is None:
            backlog = self._backlogs[job] = _Backlog()
        return backlog

    # --- pipes --------------------------------------------------------------------------------------------------------

    def open(self, stream: int, job: str) -> tuple[LineReader, int]:
        """A pipe for stdout (1) or stderr (2) of a worker: its reader, and the end that is the worker's.

        Raises:
            OSError: the system gives none.
        """
        read, write = os.pipe()
        os.set_blocking(read, False)
        reader = LineReader(read, stream, partial(self.forward, job), self._timers.after, job)
        self._watch(reader)
        return reader, write

    def _watch(self, reader: LineReader) -> None:
        self._transport.watch(reader.fd, lambda: self._readable(reader))

    def _readable(self, reader: LineReader) -> None:
        backlog = self._backlog(reader.job)
        if backlog.unprinted >= (MOST if reader.is_last else WINDOW):
            self._transport.unwatch(reader.fd)
            backlog.held[reader] = None
        elif not reader.read():
            reader.drain()  # a last line without an end
            self.close(reader)

    def close(self, reader: LineReader) -> None:
        """Give up a pipe; no effect the second time."""
        if reader.fd >= 0:
            self._backlog(reader.job).held.pop(reader, None)
            self._transport.unwatch(reader.fd)
            os.close(reader.fd)
            reader.fd = -1

    def take_last(self, reader: LineReader) -> None:
        """The worker is about to end, which is not to wait for a terminal."""
        reader.is_last = True
        held = self._backlog(reader.job).held
        if reader in held:
            del held[reader]
            self._watch(reader)

    # --- drivers ------------------------------------------------------------------------------------------------------

    def forward(self, job: str, logs: node.Logs) -> None:
        """Send it to the driver of the job."""
        driver = self._hears(job)
        if driver is None:
            return
        backlog = self._backlog(job)
        if backlog.unprinted >= MOST:
            backlog.dropped += len(logs.lines)
            return
        if backlog.dropped:
            dropped, backlog.dropped = backlog.dropped, 0
            logs = msgspec.structs.replace(logs, dropped=dropped)
        backlog.unprinted += weight(logs)
        driver.send(logs)

    def printed(self, peer: Any, message: node.Printed, frames: Sequence[Frame]) -> None:
        """A driver has room for more."""
        self.has_room(peer.job, message.amount)

    def has_room(self, job: str, amount: int) -> None:
        """The driver of a job has dealt with so much more.

        Raises:
            RemoteProtocolError: it was not sent as much.
        """
        backlog = self._backlog(job)
        if amount > backlog.unprinted:
            raise RemoteProtocolError("a driver has printed more than it was sent")
        backlog.unprinted -= amount
        self._go_on(backlog)
        if backlog.dropped and backlog.unprinted < WINDOW:
            self.forward(job, node.Logs(0, "", 1, []))  # tells of them

    def driver_lost(self, job: str) -> None:
        """Its pipes wait no more: nobody prints what comes of them."""
        backlog = self._backlogs.get(job)
        if backlog is not None:
            backlog.unprinted = backlog.dropped = 0
            self._go_on(backlog)

    def forget(self, job: str) -> None:
        """The last worker of the job has ended."""
        self._backlogs.pop(job, None)

    def _go_on(self, backlog: _Backlog) -> None:
        if backlog.held and backlog.unprinted < WINDOW:
            held, backlog.held = backlog.held, {}
            for reader in held:
                self._watch(reader)
