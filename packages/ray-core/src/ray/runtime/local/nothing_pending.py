"""Waiting, listening and cancelling in local mode, where each task has ended before the program can ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray.protocol.references import PENDING
from ray.runtime.local.entries import Entries
from ray.runtime.local.streams import LocalStream
from ray.runtime.refs.counted import CountedRef
from ray.runtime.refs.ref import ObjectRef
from ray.runtime.refs.session import Listener, Ref


class NothingPending:
    """Of one session. Only streams have not ended."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    def wait(
        self, refs: list[Ref], num_returns: int, timeout_s: float | None, fetch: bool = False
    ) -> tuple[list[Ref], list[Ref]]:
        """The first ready ones; at once, because nothing is ever pending."""
        ready = [ref for ref in refs if self._entries.of(ref).status != PENDING][:num_returns]
        chosen = set(ready)
        return ready, [ref for ref in refs if ref not in chosen]

    def remembers(self, refs: list[ObjectRef[Any]]) -> bool:
        """Nothing is remembered here."""
        return False

    def knows(self, ref: CountedRef[Any]) -> bool:
        """See ``Runtime``."""
        return ref._entry.table is self._entries.table

    def is_done(self, ref: CountedRef[Any]) -> bool:
        """See ``Runtime``: what comes next in a stream is made now; what else nobody has made will never be made."""
        stream = ref._entry.task
        if type(stream) is LocalStream:
            stream.go_on()
        return True

    def done_of(self, refs: Sequence[ObjectRef[Any]]) -> list[ObjectRef[Any]]:
        """See ``Runtime``."""
        return list(refs)

    def subscribe(self, listener: Listener) -> bool:
        """See ``Runtime``: nothing is ever pending."""
        return False

    def unsubscribe(self, listener: Listener) -> bool:
        """See ``Runtime``."""
        return False

    def on_disk(self, ref: CountedRef[Any]) -> None:
        """See ``Runtime``: there is no disk."""

    def check_blocking(self, call: str) -> None:
        """See ``Runtime``: nothing ever waits."""

    def wait_for_next(self, ref: CountedRef[Any]) -> None:
        """See ``Runtime``: nothing is ever pending."""

    def wait_for_future(self, ref: CountedRef[Any], wait: Callable[[float | None], bool]) -> None:
        """See ``Runtime``."""
        wait(None)

    def check_force(self, ref: CountedRef[Any]) -> None:
        """See ``Runtime``: everything has ended."""

    def cancel(self, ref: CountedRef[Any], force: bool, recursive: bool, *, again: bool = False) -> None:
        """End the stream that the ref is to come from; any other task has ended."""
        stream = self._entries.of(ref).task
        if type(stream) is LocalStream:
            stream.close()
