"""The selector that comes with the core: stateless, one wait over everything registered for each ``select``."""

from __future__ import annotations

from typing import Any

from ray.abc.selector import KeyedSelector, SelectorKey
from ray.clock import monotonic, sleep
from ray.exceptions import RayConnectionError


class PollSelector(KeyedSelector):
    """Asks the session which objects are ready, as ``poll`` asks the kernel: each ``select`` costs O(registered)."""

    name = "poll"

    def __init__(self, runtime: Any) -> None:
        """Make a selector.

        Args:
            runtime: the session whose objects will be registered; its ``wait`` and ``done_of`` are used.
        """
        super().__init__()
        self._runtime = runtime
        #: {object id: ref}, in the order in which ``select`` reports.
        self._refs: dict[bytes, Any] = {}

    def select(self, timeout_s: float | None = None, max_keys: int | None = None) -> list[SelectorKey]:
        self._check_open()
        if not self._refs:
            return self._wait_for_nothing(timeout_s)
        limit = len(self._refs) if max_keys is None else min(max_keys, len(self._refs))
        refs = list(self._refs.values())
        ready = self._runtime.done_of(refs)[:limit]
        end = None if timeout_s is None else monotonic() + timeout_s
        left_s = timeout_s
        while not ready and (left_s is None or left_s > 0):
            try:
                self._runtime.wait(refs, 1, left_s)
            except RayConnectionError:  # the session is about to end: what is pending fails at any moment
                sleep(0.001)
            ready = self._runtime.done_of(refs)[:limit]
            left_s = None if end is None else end - monotonic()
        keys = [self._keys[ref.binary()] for ref in ready]
        if limit < len(refs):
            for key in keys:  # the others come first the next time
                self._refs[key.fd] = self._refs.pop(key.fd)
        return keys

    def _begin(self, id: bytes, ref: Any) -> None:
        self._runtime.wait([ref], 1, 0)  # refuses what belongs to a session that has ended
        self._refs[id] = ref

    def _end(self, id: bytes) -> None:
        del self._refs[id]
