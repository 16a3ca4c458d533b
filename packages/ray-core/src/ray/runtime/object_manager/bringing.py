"""One object on its way here: straight into the memory that the store has reserved for it."""

from __future__ import annotations

import contextlib
import socket

from ray.abc.store import Store
from ray.clock import sleep
from ray.exceptions import ObjectExistsError, ObjectStoreFullError, OutOfDiskError, RayError
from ray.protocol.pulls import AGAIN, FULL, LOST
from ray.runtime.object_manager.frames import REFUSED, WAIT, Request
from ray.runtime.object_manager.lines import ChangedError, Line
from ray.runtime.object_manager.orders import Bring, Ended
from ray.runtime.object_manager.ways import Ways

#: In a row, without a byte in between.
_MAX_FAILURES = 2
_PAUSE_S = 0.1


class _RefusedError(Exception):
    """The other node does not have it."""


class Bringing:
    """One transfer. ``run`` is called once, on a thread of its own."""

    def __init__(self, order: Bring, store: Store, ways: Ways) -> None:
        self._order = order
        self._store = store
        self._ways = ways
        #: What is here and right.
        self._offset = 0
        self._is_over = False
        self._connection: socket.socket | None = None
        #: Bytes that came, and frames that were not what they said.
        self.received = self.bad_frames = 0

    def give_up(self) -> None:
        """Nobody needs it any more. Any thread."""
        self._is_over = True
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def run(self) -> Ended:
        """Bring it; returns how that has ended."""
        key, store = self._order.key, self._store
        try:
            if store.contains(key):  # an object manager that has died had brought it
                return Ended(key)
            view = store.create(key, self._order.nbytes)
        except ObjectExistsError as error:
            return Ended(key, AGAIN, str(error))
        except ObjectStoreFullError as error:
            return Ended(key, FULL, str(error), full=(error.needed_bytes, error.capacity_bytes, error.used_bytes))
        except OutOfDiskError as error:
            return Ended(key, FULL, str(error), full=(error.needed_bytes, 0, 0))
        except RayError as error:
            return Ended(key, AGAIN, str(error))
        try:
            self._fill(view)
        except BaseException as error:
            view.release()
            with contextlib.suppress(RayError, KeyError):
                store.abort(key)
            return self._ended(LOST if isinstance(error, _RefusedError) else AGAIN, str(error))
        view.release()
        store.seal(key)
        return self._ended()

    def _ended(self, kind: str = "", text: str = "") -> Ended:
        return Ended(self._order.key, kind, text, self.received, self.bad_frames)

    def _fill(self, view: memoryview) -> None:
        node, failures = self._order.node, 0
        while self._offset < self._order.nbytes:
            before = self._offset
            used = self._ways.idle(node)
            try:
                line = used or self._ways.open(node)
                self._connection = line.connection
                try:
                    if self._is_over:
                        raise ConnectionError("it was given up")
                    self._receive(line, view)
                    self._ways.give(node, line)
                except BaseException:
                    line.close()
                    raise
                finally:
                    self._connection = None
            except OSError as error:
                self.bad_frames += isinstance(error, ChangedError)
                if self._is_over:
                    raise
                if used is not None:  # it may have been closed while nobody used it, and others as well
                    self._ways.close_idle(node)
                    if self._offset == before:
                        continue
                failures = 0 if self._offset > before else failures + 1
                if failures >= _MAX_FAILURES:
                    raise
                sleep(_PAUSE_S * failures)

    def _receive(self, line: Line, view: memoryview) -> None:
        request = Request(1, self._order.key, self._offset, self._order.nbytes)
        line.ask(request)
        while self._offset < request.nbytes:
            header = line.header()
            if header.stream != request.stream or header.offset != self._offset:
                raise ChangedError("a frame of another object, or of another place in it")
            if header.kind in (WAIT, REFUSED):
                reason = bytearray(header.length)
                line.take(request, header, memoryview(reason))
                if header.kind == REFUSED:
                    raise _RefusedError(reason.decode(errors="replace"))
                continue
            if not 0 < header.length <= request.nbytes - self._offset:
                raise ChangedError("a frame that does not fit into its object")
            with view[self._offset : self._offset + header.length] as part:
                line.take(request, header, part)
            self.received += header.length
            self._offset += header.length
