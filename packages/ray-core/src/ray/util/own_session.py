"""The session of programs that start none: the first executor or pool does, and the last one ends it."""

from __future__ import annotations

import threading

from ray.api import session
from ray.runtime import interface

_lock = threading.RLock()
#: What ``init`` has returned, and how many use it; None while the program has a session of its own, or none.
_started: session.RayContext | None = None
_users = 0


class OwnSession:
    """A right to have a session. Where there is one already that the program has started, it is left alone."""

    def __init__(self) -> None:
        """Have one; starts it if need be.

        Raises:
            RayError: as ``ray.init``.
        """
        global _started, _users
        self._context: session.RayContext | None = None
        with _lock:
            if interface.current() is None:
                _started, _users = session.init(), 0
            if _started is not None and _started.is_current():
                self._context = _started
                _users += 1

    def end(self) -> None:
        """Give it back; the last one ends the session. Idempotent."""
        global _started, _users
        with _lock:
            context, self._context = self._context, None
            if context is None or context is not _started:
                return
            _users -= 1
            if not _users:
                _started = None
                context.disconnect()
