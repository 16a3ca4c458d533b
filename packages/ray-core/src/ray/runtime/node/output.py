"""The node manager's part in what workers print: it takes no more than the drivers have room for.

A driver says how much it has printed. Where that is too far behind, the pipes of the workers are not read for a while:
then they fill up, and a task that prints waits, as with any pipe. Nobody else waits; nothing is kept here beyond that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ray.abc.transport import Frame, Transport
from ray.exceptions import RemoteProtocolError
from ray.messages import node
from ray.runtime.node.line_reader import LineReader
from ray.runtime.process.output_window import WINDOW, weight
from ray.runtime.process.timers import Timers

#: A worker that is dead, or about to end, is not waited for: so much of its output is taken, the rest is dropped.
MOST = 8 * WINDOW


class NodeOutput:
    """Owns the pipes of the workers. Runs on the node manager's one thread."""

    def __init__(
        self, transport: Transport, timers: Timers, drivers: Callable[[], Iterable[Any]], *, is_shown: bool
    ) -> None:
        """There are no pipes yet.

        Args:
            transport: watches them.
            timers: of the node manager.
            drivers: the connected drivers, with ``id`` and ``send``.
            is_shown: whether drivers want to know what workers print.
        """
        self._transport = transport
        self._timers = timers
        self._drivers = drivers
        self._is_shown = is_shown
        #: {driver: what was sent to it and is not printed yet}
        self._unprinted: dict[bytes, int] = {}
        #: Lines that were dropped, and are still to be told of.
        self._dropped = 0
        #: Pipes in which something waits until a driver has room for it, in order.
        self._held: dict[LineReader, None] = {}

    @property
    def _fullest(self) -> int:
        return max(self._unprinted.values(), default=0)

    # --- pipes --------------------------------------------------------------------------------------------------------

    def open(self, stream: int) -> tuple[LineReader, int]:
        """A pipe for stdout (1) or stderr (2) of a worker: its reader, and the end that is the worker's.

        Raises:
            OSError: the system gives none.
        """
        read, write = os.pipe()
        os.set_blocking(read, False)
        reader = LineReader(read, stream, self.forward, self._timers.after)
        self._watch(reader)
        return reader, write

    def _watch(self, reader: LineReader) -> None:
        self._transport.watch(reader.fd, lambda: self._readable(reader))

    def _readable(self, reader: LineReader) -> None:
        if self._fullest >= (MOST if reader.is_last else WINDOW):
            self._transport.unwatch(reader.fd)
            self._held[reader] = None
        elif not reader.read():
            reader.drain()  # a last line without an end
            self.close(reader)

    def close(self, reader: LineReader) -> None:
        """Give up a pipe; no effect the second time."""
        if reader.fd >= 0:
            self._held.pop(reader, None)
            self._transport.unwatch(reader.fd)
            os.close(reader.fd)
            reader.fd = -1

    def take_last(self, reader: LineReader) -> None:
        """The worker is about to end, which is not to wait for a terminal."""
        reader.is_last = True
        if reader in self._held:
            del self._held[reader]
            self._watch(reader)

    # --- drivers ------------------------------------------------------------------------------------------------------

    def forward(self, logs: node.Logs) -> None:
        """Send it to the drivers."""
        if not self._is_shown:
            return
        if self._fullest >= MOST:
            self._dropped += len(logs.lines)
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            logs = node.Logs(logs.pid, logs.name, logs.stream, logs.lines, dropped, logs.rest)
        size = weight(logs)
        for driver in self._drivers():
            self._unprinted[driver.id] = self._unprinted.get(driver.id, 0) + size
            driver.send(logs)

    def printed(self, peer: Any, message: node.Printed, frames: Sequence[Frame]) -> None:
        """A driver has room for more."""
        left = self._unprinted.get(peer.id, 0) - message.amount
        if left < 0:
            raise RemoteProtocolError("a driver has printed more than it was sent")
        self._unprinted[peer.id] = left
        self._go_on()
        if self._dropped and self._fullest < WINDOW:
            self.forward(node.Logs(0, "", 1, []))  # tells of them

    def driver_lost(self, driver: bytes) -> None:
        """Nobody waits for it any more."""
        if self._unprinted.pop(driver, None) is not None:
            self._go_on()

    def _go_on(self) -> None:
        if self._held and self._fullest < WINDOW:
            held, self._held = self._held, {}
            for reader in held:
                self._watch(reader)
