"""Names of processes, as ``ps`` and ``top`` show them: ``ray::node``, ``ray::IDLE``, ``ray::f``, ``ray::Actor.method``.

The kernel keeps 15 bytes of a name; where the package setproctitle is installed, the whole of it replaces the command
line.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Generic, TypeVar

from ray.clock import monotonic
from ray.serialization.imported import imported

C = TypeVar("C")

IDLE = "IDLE"
#: What runs for this long is named. Shorter calls cost nothing.
TITLE_S = 0.1
_COMM = "/proc/self/comm"


def set_title(what: str) -> None:
    """Name this process. Any thread; never raises."""
    title = f"ray::{what}"
    setproctitle = imported("setproctitle")
    if setproctitle is not None:
        setproctitle.setproctitle(title)
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open(_COMM, "wb", buffering=0) as comm:
            comm.write(title.encode(errors="replace")[:15])


class Title(Generic[C]):
    """The name of a worker. The thread that polls looks now and then at what runs; the calls themselves do nothing."""

    __slots__ = ("_base", "_shown", "_since", "call")

    def __init__(self) -> None:
        #: What ran at the last look; None for nothing.
        self.call: C | None = None
        self._since = 0.0
        self._base = IDLE
        self._shown = IDLE

    def based_on(self, actor: str) -> None:
        """The worker has become an actor."""
        self._base = self._shown = actor
        set_title(actor)

    def look(self, call: C | None, name_of: Callable[[C], str]) -> None:
        """Show ``call`` if it has run for ``TITLE_S`` by the looks so far; None: nothing runs."""
        if call is not self.call:
            self.call, self._since = call, monotonic()
            if call is None:
                self._show(self._base)
        elif call is not None and not self.shows(call) and monotonic() - self._since >= TITLE_S:
            self._since = 0.0
            self._show(name_of(call))

    def shows(self, call: C | None) -> bool:
        """Whether it is shown; if not, another look is wanted soon."""
        return call is self.call and not self._since

    def _show(self, what: str) -> None:
        if what != self._shown:
            self._shown = what
            set_title(what)
