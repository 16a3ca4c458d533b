"""Objects of local mode whose last reference has gone.

They are freed at the next call after that: there is no thread that could do it sooner.
"""

from __future__ import annotations

from collections.abc import Callable

from ray.runtime.local.entries import Entries
from ray.runtime.local.streams import LocalStream
from ray.runtime.owner.promises import Promise


class Freeing:
    """Of one session. Safe from several threads."""

    def __init__(self, entries: Entries, freed: Callable[[bytes], None]) -> None:
        """Make one.

        Args:
            entries: the objects.
            freed: called with the id of each that has gone.
        """
        self._table = entries.table
        self._lock = entries.lock
        self._freed = freed

    def collect(self) -> None:
        """Free what nobody refers to any more."""
        streams, promises = [], []
        while self._table.dropped:
            with self._lock:
                freed = list(self._table.collect())
            for entry in freed:
                self._table.drop_value(entry)
                if type(entry.task) is LocalStream:
                    streams.append(entry.task)
                elif type(entry.task) is Promise:
                    promises.append(entry.task)
                self._freed(entry.id)
        for stream in streams:
            stream.close()
        for promise in promises:
            promise.unheld()

    def close_streams(self) -> None:
        """The session ends."""
        for entry in list(self._table.entries.values()):
            if type(entry.task) is LocalStream:
                entry.task.close()
