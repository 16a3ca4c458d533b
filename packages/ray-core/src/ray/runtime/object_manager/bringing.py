"""One object on its way here: straight into the memory that the store has reserved for it.

Other nodes may be sent what is here and right of it before it is complete; no other process of this one sees that.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from ray.abc.store import Store
from ray.clock import monotonic, sleep
from ray.exceptions import ObjectExistsError, ObjectStoreFullError, OutOfDiskError, RayError
from ray.ids import NODE_NUMBER_BYTES
from ray.protocol.pulls import AGAIN, FULL, LOST
from ray.runtime.object_manager.frames import BUSY, FRAME_BYTES, HOLDERS, REFUSED, WAIT, ChangedError, Request
from ray.runtime.object_manager.lines import Line
from ray.runtime.object_manager.neighbours import Neighbours
from ray.runtime.object_manager.orders import Bring, Ended
from ray.runtime.object_manager.sources import RefusedError, Sources
from ray.runtime.object_manager.ways import PROGRESS_S, Ways

#: What has become of a transfer, as those see it who are sent a part of it.
GROWS, DONE, STUCK = range(3)


class _BusyError(Exception):
    """The other node has enough others to send it to."""


class Bringing:
    """One transfer. ``run`` is called once, on a thread of its own."""

    def __init__(self, order: Bring, own: bytes, store: Store, ways: Ways, neighbours: Neighbours) -> None:
        """``own``: the number of this node."""
        self._order = order
        self._store = store
        self._ways = ways
        self._neighbours = neighbours
        self._sources = Sources(own, order.node)
        if order.others is not None:
            self._sources.gone(order.node)
            self._sources.named(order.others)
        self._changed = threading.Condition()
        #: Where it is written to, for as long as it is.
        self._view: memoryview | None = None
        #: What is here and right, and since when.
        self._offset, self._since = 0, monotonic()
        self._state = GROWS
        self._is_over = False
        #: The one that sends it now, and the node at its other end.
        self._connection: socket.socket | None = None
        self._from = b""
        #: Bytes that came over the network, and from memory of this machine; frames that were not what they said.
        self.received = self.copied = self.bad_frames = 0

    def give_up(self) -> None:
        """Nobody needs it any more. Any thread."""
        self._is_over = True
        self._hang_up()

    def node_gone(self, node: bytes) -> None:
        """A node is dead; others may have the object. Any thread."""
        self._sources.gone(node)
        if self._from == node:
            self._hang_up()

    def _hang_up(self) -> None:
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def read(self, offset: int, into: memoryview, wait_s: float) -> tuple[int, int]:
        """Copy what there is from ``offset`` on, for which it waits; how much that was, and the state. Any thread.

        DONE: the store has it. STUCK: nothing more comes, as far as can be told.
        """
        with self._changed:
            if self._order.others is not None and not self._offset and self._state == GROWS:
                return 0, STUCK  # who asks seeks it as well: two that have nothing do not wait for each other
            self._changed.wait_for(lambda: self._offset > offset or self._state != GROWS, wait_s)
            if self._state != GROWS:
                return 0, self._state
            count = min(len(into), self._offset - offset)
            if self._view is not None and count > 0:
                with self._view[offset : offset + count] as part:
                    into[:count] = part
                return count, GROWS
            return 0, GROWS if monotonic() - self._since < PROGRESS_S else STUCK

    def run(self) -> Ended:
        """Bring it; returns how that has ended."""
        state = STUCK
        try:
            ended = self._run()
            state = STUCK if ended.kind else DONE
        finally:
            with self._changed:
                self._state = state
                self._changed.notify_all()
        return ended

    def _run(self) -> Ended:
        key, store = self._order.key, self._store
        try:
            view = store.create(key, self._order.nbytes)
        except ObjectExistsError as error:
            return self._exists(error)
        except ObjectStoreFullError as error:
            return Ended(key, FULL, error.reason, full=(error.needed_bytes, error.capacity_bytes, error.used_bytes))
        except OutOfDiskError as error:
            return Ended(key, FULL, str(error), full=(error.needed_bytes, 0, 0))
        except RayError as error:
            return Ended(key, AGAIN, str(error))
        try:
            self._view, self._since = view, monotonic()
            self._fill(view)
        except BaseException as error:
            with self._changed:  # nobody reads it now
                self._view = None
                view.release()
            with contextlib.suppress(RayError, KeyError):
                store.abort(key)
            return self._ended(LOST if isinstance(error, RefusedError) else AGAIN, str(error))
        with self._changed:
            self._view = None
            view.release()
        store.seal(key)
        return self._ended()

    def _exists(self, error: ObjectExistsError) -> Ended:
        """An object manager that has died had brought it, or it is about to go."""
        key = self._order.key
        try:
            return Ended(key) if self._store.contains(key) else Ended(key, AGAIN, str(error))
        except RayError as lost:
            return Ended(key, AGAIN, str(lost))

    def _ended(self, kind: str = "", text: str = "") -> Ended:
        return Ended(self._order.key, kind, text, self.received, self.copied, self.bad_frames)

    def _fill(self, view: memoryview) -> None:
        sources = self._sources
        while self._offset < self._order.nbytes:
            node = sources.next()
            if node is None:
                sleep(sources.again(monotonic()))
                if self._is_over:
                    raise ConnectionError("it was given up")
                continue
            before = self._offset
            try:
                self._bring_from(node, view)
            except _BusyError:
                sources.busy(node)
            except RefusedError as error:
                sources.refused(node, str(error))
            except OSError as error:
                if self._is_over:
                    raise
                sources.failed(node, error)
            if self._offset > before:
                sources.sent()

    def _bring_from(self, node: bytes, view: memoryview) -> None:
        """Copy it, if it is complete on this machine; else over a connection that nobody uses, if one is not closed."""
        if self._copy_from(node, view):
            return
        before, used = self._offset, self._ways.idle(node)
        if used is not None:
            try:
                self._bring_over(used, node, view)
            except OSError:
                self._ways.close_idle(node)
                if self._is_over or self._offset > before:
                    raise
            else:
                return
        way = self._ways.ask(node)
        if way.store:
            self._neighbours.meet(node, way.store)
            if self._copy_from(node, view):
                return
        self._bring_over(self._ways.open(way), node, view)

    def _copy_from(self, node: bytes, view: memoryview) -> bool:
        """Copy it from the store of a node of this machine; whether it was there."""
        nbytes = self._order.nbytes
        with self._neighbours.reading(node, self._order.key) as found:
            if found is None or len(found) != nbytes:
                return False
            while self._offset < nbytes:
                if self._is_over:
                    raise ConnectionError("it was given up")
                count = min(FRAME_BYTES, nbytes - self._offset)
                with found[self._offset : self._offset + count] as part:
                    view[self._offset : self._offset + count] = part
                self.copied += count
                self._add(count)
        return True

    def _bring_over(self, line: Line, node: bytes, view: memoryview) -> None:
        self._from, self._connection = node, line.connection
        try:
            if self._is_over:
                raise ConnectionError("it was given up")
            self._receive(line, view)
        except _BusyError:
            self._ways.give(node, line)
            raise
        except BaseException as error:
            self.bad_frames += isinstance(error, ChangedError)
            line.close()
            raise
        else:
            self._ways.give(node, line)
        finally:
            self._connection, self._from = None, b""

    def _receive(self, line: Line, view: memoryview) -> None:
        request = Request(1, self._order.key, self._offset, self._order.nbytes)
        line.ask(request)
        while self._offset < request.nbytes:
            header = line.header()
            if header.stream != request.stream or header.offset != self._offset:
                raise ChangedError("a frame of another object, or of another place in it")
            if header.kind in (WAIT, REFUSED, HOLDERS, BUSY):
                said = bytearray(header.length)
                line.take(request, header, memoryview(said))
                self._hear(header.kind, bytes(said))
                continue
            if not 0 < header.length <= request.nbytes - self._offset:
                raise ChangedError("a frame that does not fit into its object")
            with view[self._offset : self._offset + header.length] as part:
                line.take(request, header, part)
            self.received += header.length
            self._add(header.length)

    def _add(self, count: int) -> None:
        """So much more is here and right."""
        with self._changed:
            self._offset += count
            self._since = monotonic()
            self._changed.notify_all()

    def _hear(self, kind: int, said: bytes) -> None:
        if kind == REFUSED:
            raise RefusedError(said.decode(errors="replace"))
        if kind in (HOLDERS, BUSY):
            count = NODE_NUMBER_BYTES
            self._sources.named(said[at : at + count] for at in range(0, len(said) - count + 1, count))
        if kind == BUSY:
            raise _BusyError
