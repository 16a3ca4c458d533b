"""The selector that is told: a list of ready objects, fed by completions, behind one descriptor."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from ray.abc.selector import KeyedSelector, SelectorKey
from ray.clock import monotonic
from ray.runtime.completion import current_session, when_done
from ray_async.ready_flag import ReadyFlag


class EpollSelector(KeyedSelector):
    """Knows which objects are ready without asking: a ``select`` costs O(ready), however many are registered.

    Completions are told by the process that owns the object, so it works over every store.
    """

    name = "epoll"

    def __init__(self) -> None:
        super().__init__()
        #: {object id: watch}
        self._watches: dict[bytes, _Watch] = {}
        #: Left by the threads that complete objects; some may be of watches that have ended.
        self._told: deque[_Watch] = deque()
        #: {object id: None} of what is ready and registered, in the order in which ``select`` reports. A dict would
        #: walk over all that has been removed before its first key.
        self._ready: OrderedDict[bytes, None] = OrderedDict()
        #: Set whenever ``_told`` or ``_ready`` has something.
        self._flag = ReadyFlag()

    def fileno(self) -> int:
        self._check_open()
        return self._flag.fileno()

    def select(self, timeout_s: float | None = None, max_keys: int | None = None) -> list[SelectorKey]:
        self._check_open()
        self._take_told()
        if not self._keys:
            return self._wait_for_nothing(timeout_s)
        ready = self._ready
        if not ready and (timeout_s is None or timeout_s > 0):
            self._wait(timeout_s)
        if max_keys is None or max_keys >= len(ready):
            return [self._keys[id] for id in ready]
        first = list(islice(ready, max_keys))
        for id in first:  # the others come first the next time
            ready.move_to_end(id)
        return [self._keys[id] for id in first]

    def _wait(self, timeout_s: float | None) -> None:
        current_session().check_blocking("select")  # not on the event loop of an async actor
        end = None if timeout_s is None else monotonic() + timeout_s
        left_s = timeout_s
        while not self._ready and (left_s is None or left_s > 0):
            self._flag.wait(left_s)
            self._take_told()
            if end is not None:
                left_s = end - monotonic()

    def _take_told(self) -> None:
        told = self._told
        while told:
            watch = told.popleft()
            if self._watches.get(watch.id) is watch:
                self._ready[watch.id] = None
        self._settle()

    def _settle(self) -> None:
        """Unset the flag if nothing is ready."""
        if not self._ready:
            self._flag.clear()
            if self._told:  # told meanwhile, perhaps by a thread that found the flag set
                self._flag.set()

    def _begin(self, id: bytes, ref: Any) -> None:
        watch = self._watches[id] = _Watch(self, id)
        try:
            watch.withdraw = when_done(ref, watch.told)
        except BaseException:
            del self._watches[id]
            raise

    def _end(self, id: bytes) -> None:
        watch = self._watches.pop(id)
        watch.withdraw()
        del watch.withdraw  # it leads to the object, and back to the watch
        self._ready.pop(id, None)
        self._take_told()  # it may be among them, and holds the object

    def close(self) -> None:
        super().close()
        self._flag.close()


class _Watch:
    """One registration. An id may be registered again while word of its last time is on the way."""

    __slots__ = ("_flag", "_told", "id", "withdraw")

    withdraw: Callable[[], None]

    def __init__(self, selector: EpollSelector, id: bytes) -> None:
        self.id = id
        self._told = selector._told
        self._flag = selector._flag

    def told(self) -> None:
        """The object is ready or failed; called on any thread, under the lock of the session."""
        self._told.append(self)
        self._flag.set()
