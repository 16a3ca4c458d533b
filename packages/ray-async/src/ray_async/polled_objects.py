"""Objects beside sockets, for object selectors that the kernel's selectors cannot watch."""

from __future__ import annotations

import selectors
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray_async.ready_flag import ReadyFlag

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

    from ray.abc.selector import ObjectSelector

#: While objects are awaited, sockets and other threads are looked after this often.
LOOK_S = 0.01
#: Looks at the objects take at most this part of the time, however many there are.
SHARE = 0.1
#: Where a look takes longer, waiting among the objects would hold up timers: the wait is for sockets, between looks.
CHEAP_S = 1e-4


class PolledObjects(selectors.BaseSelector):
    """A selector of the kernel's that looks after an object selector while objects are registered there.

    While they are few it waits among the objects: one that becomes ready ends the wait at once, a socket within
    ``LOOK_S``. While they are many it waits among the sockets, and looks at the objects every ``LOOK_S`` or less often.
    What is ready shows as ``flag``, which the owner registers here and clears.
    """

    def __init__(self, objects: ObjectSelector) -> None:
        self._objects = objects
        self._kernel = selectors.DefaultSelector()
        self.flag = ReadyFlag()
        #: What the last look at the objects has cost, and when the next one is due.
        self._cost_s = 0.0
        self._due = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self._objects.get_map():
            return self._kernel.select(timeout)
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            if time.monotonic() >= self._due:
                self._look()
            events = self._kernel.select(0)
            left_s = LOOK_S if end is None else end - time.monotonic()
            if events or left_s <= 0:
                return events
            if self._cost_s > CHEAP_S:
                events = self._kernel.select(min(left_s, max(0.0, self._due - time.monotonic())))
                if events:
                    return events
            elif self._objects.select(min(left_s, LOOK_S), 1):
                self.flag.set()

    def _look(self) -> None:
        started = time.thread_time()
        if self._objects.select(0, 1):
            self.flag.set()
        self._cost_s = time.thread_time() - started
        self._due = time.monotonic() + (max(LOOK_S, self._cost_s / SHARE) if self._cost_s > CHEAP_S else 0.0)

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._kernel.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._kernel.unregister(fileobj)

    def modify(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._kernel.modify(fileobj, events, data)

    def get_key(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._kernel.get_key(fileobj)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._kernel.get_map()

    def close(self) -> None:
        self._kernel.close()
        self.flag.close()
