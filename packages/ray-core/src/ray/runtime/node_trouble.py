"""What the node manager cannot do for the moment, as a driver sees it."""

from __future__ import annotations

import time
from collections.abc import Callable

from ray.messages.node import ErrorRecord

#: How the texts begin that tell of workers which could not be started.
FAILED_START = "A worker process failed to start: "
#: The node manager tries again within this time, and tells if it fails again.
_LASTS_S = 8.0
#: The same trouble is not told twice within this time.
_AGAIN_S = 60.0


class NodeTrouble:
    """Tells each trouble once, and remembers the last one for as long as it may last. Called by whoever polls."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._last = ("", -_AGAIN_S)
        #: {text: when it was shown}
        self._shown: dict[str, float] = {}

    def note(self, record: ErrorRecord) -> None:
        """The node manager tells of an error."""
        text, now = record.message, time.monotonic()
        if text.startswith(FAILED_START):
            self._last = text, now
            self._shown = {text: shown for text, shown in self._shown.items() if now - shown < _AGAIN_S}
            if text in self._shown:
                return
            self._shown[text] = now
            text += "\nWhat needs it waits until one can be started."
        self._show(f"[ray] {text}\n")

    def sentence(self) -> str:
        """Why tasks may have to wait at the moment; empty if nothing is known."""
        text, since = self._last
        if time.monotonic() - since > _LASTS_S:
            return ""
        return text.splitlines()[0].removesuffix(".") + "."
