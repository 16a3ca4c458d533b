"""Objects that have gone to a disk, read back for callers that must not wait for it, such as event loops."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ray.runtime.owner.unreadable import raise_unreadable, value_of_ref
from ray.runtime.refs.session import Listener
from ray.serialization import deserialize
from ray.threads import UnawaitedThread

#: Threads that read at a time; there is none while nothing is to be read.
THREADS = 4


class Wanted(Protocol):
    """What is to be read."""

    def read(self, read: Callable[[bytes], memoryview]) -> None:
        """Called once, on a thread; ``read`` gives an object's memory."""


class Reader(Protocol):
    """Has objects read."""

    def put(self, wanted: OnDisk) -> None:
        """Have ``wanted.read`` called."""


class OnDisk:
    """One spilled object and the listener that waits for it: told when it is read, as if it were complete then."""

    __slots__ = ("_blob", "_error", "_restoring", "listener", "object_id")

    def __init__(self, object_id: bytes, restoring: Reader) -> None:
        self.object_id = object_id
        #: None: nobody waits.
        self.listener: Listener | None = None
        self._restoring = restoring
        self._blob: memoryview | None = None
        self._error: BaseException | None = None

    def subscribe(self, listener: Listener) -> bool:
        """Have it read; the listener is told, by the thread that reads, when it is in memory or cannot be."""
        self.listener = listener
        self._restoring.put(self)
        return True

    def unsubscribe(self, listener: Listener) -> bool:
        """Nobody waits any more: what has not begun is not read."""
        self.listener = None
        return True

    def read(self, read: Callable[[bytes], memoryview]) -> None:
        """Called once, on a thread."""
        if self.listener is None:
            return
        try:
            self._blob = read(self.object_id)
        except BaseException as error:
            self._error = error.with_traceback(None)  # the frame of this call has the listener
        listener, self.listener = self.listener, None  # it may lead back here
        if listener is not None:
            listener.told()

    def value(self) -> Any:
        """What was read, or raise why it was not. The memory is held for as long as this object or the value lives.

        Called once: an error that was kept for longer would keep the frames that it goes through, and they this object.
        """
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error
        assert self._blob is not None
        try:
            return deserialize(self._blob)
        except BaseException as error:
            raise_unreadable(error, value_of_ref(self.object_id), self.object_id)


class Restoring:
    """The threads, each for as long as there is something to read. Safe from any thread."""

    def __init__(self, read: Callable[[bytes], memoryview]) -> None:
        """Make it.

        Args:
            read: gives an object's memory, and may take its time.
        """
        self._read = read
        self._queue: deque[Wanted] = deque()
        self._threads = 0
        self._lock = threading.RLock()  # a finaliser may come while a thread is started

    def put(self, wanted: Wanted) -> None:
        """Have ``wanted.read`` called."""
        with self._lock:
            if self._threads < THREADS:
                try:
                    UnawaitedThread(target=self._run, name="ray-restore", daemon=True).start()
                    self._threads += 1
                except RuntimeError:  # no more threads: those that there are have to do
                    pass
            if self._threads:
                self._queue.append(wanted)
                return
        wanted.read(self._read)  # the loop waits for the disk for once

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                wanted = self._queue.popleft()
            wanted.read(self._read)
            del wanted  # it holds the memory
