"""What has failed in local mode: listed for ``ray.error_info``, and printed unless the program asks for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ray.runtime.owner.reports import print_failure

#: As many as a node manager keeps.
_MAX_ERRORS = 1000


@dataclass(slots=True)
class Unread:
    """A failure that is printed when all objects that have it are gone, and none was asked for."""

    text: str
    objects: int


class Failures:
    """Of one session."""

    def __init__(self, show: Callable[[str], None] = print_failure) -> None:
        self._show = show
        self._rows: deque[dict[str, Any]] = deque(maxlen=_MAX_ERRORS)
        #: {id of an object that has failed: what to print of it}
        self._unread: dict[bytes, Unread] = {}

    def note(self, row: dict[str, Any], ids: Iterable[bytes]) -> None:
        """These objects have failed, under the lock of their table."""
        self._rows.append(row)
        ids = list(ids)
        unread = Unread(row["message"], len(ids))
        self._unread.update((id, unread) for id in ids)

    def rows(self) -> list[dict[str, Any]]:
        """The latest, oldest first; under the same lock."""
        return [dict(row) for row in self._rows]

    def asked_for(self, id: bytes) -> None:
        """The failure is raised to the user, or asked for."""
        self._unread.pop(id, None)  # the objects that are left are never all of them

    def passed_on(self, id: bytes, to: bytes) -> None:
        """The failure is to be told of with another object."""
        unread = self._unread.pop(id, None)
        if unread is not None:
            self._unread[to] = unread

    def tell(self, id: bytes) -> None:
        """The object has gone: a failure that nobody has asked for is printed."""
        unread = self._unread.pop(id, None)
        if unread is not None:
            unread.objects -= 1
            if not unread.objects:
                self._show(unread.text)

    def tell_now(self, text: str) -> None:
        """No object has this failure."""
        self._show(text)

    def close(self) -> None:
        """Nobody will ask any more."""
        for id in list(self._unread):
            self.tell(id)
