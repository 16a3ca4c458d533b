"""Objects beside sockets, for object selectors that the kernel's selectors cannot watch."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ray.clock import monotonic, thread_time
from ray.runtime.completion import when_done
from ray_async.ready_flag import ReadyFlag

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

    from ray.abc.selector import ObjectSelector

#: While objects are awaited, sockets and other threads are looked after this often.
LOOK_S = 0.01
#: Looks at the objects take at most this part of the time, however many there are.
SHARE = 0.1
#: Where there are more objects, or a look takes longer, a wait among the objects would hold up timers before it begins:
#: the wait is for sockets, between looks.
FEW = 1000
CHEAP_S = 1e-4


class PolledObjects(selectors.BaseSelector):
    """A selector of the kernel's that looks after an object selector while objects are registered there.

    While they are few it waits among the objects: one that becomes ready ends the wait at once, a socket within
    ``LOOK_S``. While they are many it waits among the sockets, and looks at the objects every ``LOOK_S`` or less often.
    What is ready shows as ``flag``, which the owner registers here and clears.

    While it waits among the sockets one of the objects is listened to, in the name of all: the session then knows that
    a loop waits, and takes messages at once and in portions, and a worker lets others have its processor.
    """

    def __init__(self, objects: ObjectSelector) -> None:
        self._objects = objects
        self._kernel = selectors.DefaultSelector()
        self.flag = ReadyFlag()
        #: Whether it waits among the sockets, and when the next look at the objects is due then.
        self._many = False
        self._due = 0.0
        #: The id of the object that is listened to, and what ends that.
        self._spokesman: bytes | None = None
        self._withdraw: Callable[[], None] = _nothing

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self._objects.get_map():
            return self._kernel.select(timeout)
        end = None if timeout is None else monotonic() + timeout
        while True:
            if monotonic() >= self._due:
                self._look()
            events = self._kernel.select(0)
            left_s = LOOK_S if end is None else end - monotonic()
            if events or left_s <= 0:
                return events
            if self._many:
                self._listen()
                events = self._kernel.select(min(left_s, max(0.0, self._due - monotonic())))
                if events:
                    return events
            elif self._objects.select(min(left_s, LOOK_S), 1):
                self.flag.set()

    def _look(self) -> None:
        started = thread_time()
        if self._objects.select(0, 1):
            self.flag.set()
        cost_s = thread_time() - started
        self._many = cost_s > CHEAP_S or len(self._objects.get_map()) > FEW
        self._due = monotonic() + (max(LOOK_S, cost_s / SHARE) if self._many else 0.0)

    def _listen(self) -> None:
        if self._spokesman is not None:
            return
        self._spokesman, key = next(iter(self._objects.get_map().items()))
        try:
            self._withdraw = when_done(getattr(key.fileobj, "object_id", key.fileobj), self._told)
        except ConnectionError:  # the session has ended: the next look shows what that means
            self._spokesman = None
        if self._spokesman is None:
            self._withdraw = _nothing  # it holds the object

    def _told(self) -> None:
        """Called on any thread, under the lock of the session."""
        self._spokesman, self._withdraw = None, _nothing
        self.flag.set()

    def forget(self, object_id: bytes) -> None:
        """The object is not awaited any more."""
        if object_id == self._spokesman:
            self._withdraw()
            self._spokesman, self._withdraw = None, _nothing

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
        if self._spokesman is not None:
            self._withdraw()
        self._kernel.close()
        self.flag.close()


def _nothing() -> None:
    """Withdraws nothing."""
