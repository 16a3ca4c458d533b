"""Objects looked for in the node's store when their owner does not answer: it may be busy, and they may be there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ray.clock import monotonic, sleep
from ray.exceptions import RayError
from ray.protocol.references import PENDING, ObjectEntry
from ray.serialization import pickle_of
from ray.threads import UnawaitedThread

if TYPE_CHECKING:
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.stored_views import StoredViews
    from ray.runtime.process.timers import Timers

#: An owner that has not answered for this long may be busy, or has nothing to say yet.
FIRST_LOOK_S = 0.03
#: Each pause is this much longer than the one before, up to the last one …
GROWTH, LAST_PAUSE_S = 1.5, 1.0
#: … and this much longer than the looks before it have taken, which may be many.
REST = 50.0
#: How soon it notices that the session has ended.
LOOK_UP_S = 0.1
#: Values that name what is ours may have refs inside, which only their owner can hand over.
_OURS = re.compile(rb"ray\.(?:runtime|api|actor)")
_CHUNK_BYTES = 1 << 20


class StoreLooks:
    """A thread that looks, for as long as some owner does not answer."""

    def __init__(self, views: StoredViews, lock: Any, timers: Timers, wake: Callable[[], None], here: Here) -> None:
        """Make one.

        Args:
            views: on the store.
            lock: the runtime's.
            timers: the runtime's.
            wake: has the thread that polls look at the timers, if it may sleep for long.
            here: this process.
        """
        self._views = views
        self._lock = lock
        self._timers = timers
        self._wake = wake
        self._here = here
        #: {object id: entry, and when it was asked for}
        self._asked: dict[bytes, tuple[ObjectEntry, float]] = {}
        self._armed = False

    def expect(self, entry: ObjectEntry) -> None:
        """The owner was asked for it. Called under the runtime's lock."""
        self._asked[entry.id] = entry, monotonic()
        if not self._armed:
            self._armed = True
            self._timers.after(FIRST_LOOK_S, self._due)
            self._wake()

    def _due(self) -> None:
        """Those that were answered need no look; a thread looks for the rest."""
        limit = monotonic() - FIRST_LOOK_S
        self._forget_answered()
        self._armed = False
        if not self._asked or self._here.closed:
            return
        self._armed = True
        if all(asked > limit for _, asked in list(self._asked.values())):
            self._timers.after(FIRST_LOOK_S, self._due)
            return
        try:
            UnawaitedThread(target=self._run, name="ray-look", daemon=True).start()
        except RuntimeError:  # there is no room for one more thread: later perhaps
            self._timers.after(LAST_PAUSE_S, self._due)

    def _forget_answered(self) -> None:
        for id, (entry, _) in list(self._asked.items()):
            if entry.status != PENDING or entry.freed:
                del self._asked[id]

    def _run(self) -> None:
        pause_s = FIRST_LOOK_S
        while True:
            with self._lock:
                self._forget_answered()
                if not self._asked or self._here.closed:
                    self._armed = False
                    return
                ids = list(self._asked)
            started = monotonic()
            for id in ids:
                self._look(id)
            self._pause(max(pause_s, REST * (monotonic() - started)))
            pause_s = min(pause_s * GROWTH, LAST_PAUSE_S)

    def _pause(self, pause_s: float) -> None:
        """Sleep, but not beyond the session."""
        end = monotonic() + pause_s
        while not self._here.closed and (left_s := end - monotonic()) > 0:
            sleep(min(left_s, LOOK_UP_S))

    def _look(self, object_id: bytes) -> None:
        try:
            blob = self._views.view(object_id)
        except RayError:
            return
        if blob is None:
            return
        plain = not _names_ours(pickle_of(blob))
        with self._lock:
            found = self._asked.pop(object_id, None)
            if found is not None and plain and found[0].status == PENDING and not found[0].freed:
                found[0].table.complete_stored(found[0], len(blob))


def _names_ours(stream: memoryview) -> bool:
    """In steps, so that other threads have their turns."""
    overlap = 16
    return any(
        _OURS.search(stream[start : start + _CHUNK_BYTES + overlap]) for start in range(0, len(stream), _CHUNK_BYTES)
    )
