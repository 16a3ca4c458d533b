"""What the node manager cannot do for the moment, as a driver sees it."""

from __future__ import annotations

from collections.abc import Callable

from ray.clock import monotonic
from ray.messages.node import ErrorRecord
from ray.runtime.node.held import HELD

#: How the texts begin that tell of workers which could not be started.
FAILED_START = "A worker process failed to start: "
#: The type of records that tell of workers which are not even tried.
NO_ROOM = "no_room_for_workers"
#: The node manager tries again within this time, and tells if it fails again.
_LASTS_S = 8.0
#: The same trouble is not told twice within this time.
_AGAIN_S = 60.0


class NodeTrouble:
    """Tells each trouble once; remembers the last one for as long as it may last. Called by the thread that polls."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        #: (text, or none yet; when it was told)
        self._last = ("", 0.0)
        #: {text, or type: when it was shown}
        self._shown: dict[str, float] = {}

    def note(self, record: ErrorRecord) -> None:
        """The node manager tells of an error."""
        text, now = record.message, monotonic()
        has_failed = text.startswith(FAILED_START)
        if has_failed or record.type in (NO_ROOM, HELD):
            self._last = text, now
            self._shown = {what: shown for what, shown in self._shown.items() if now - shown < _AGAIN_S}
            what = text if has_failed else record.type
            if what in self._shown:
                return
            self._shown[what] = now
            if has_failed:
                text += "\nWhat needs it waits until one can be started."
        self._show(f"[ray] {text}\n")

    def sentence(self) -> str:
        """Why tasks may have to wait at the moment; empty if nothing is known."""
        text, since = self._last
        if not text or monotonic() - since > _LASTS_S:
            return ""
        return text.splitlines()[0].removesuffix(".") + "."
