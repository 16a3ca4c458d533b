"""How much of what workers print may be on its way to a driver, or wait for its terminal; both ends count it alike."""

from __future__ import annotations

from ray.messages.node import Logs

#: In the unit of ``weight``.
WINDOW = 4 << 20
#: What a message and a line take besides their bytes.
_MESSAGE_BYTES, _LINE_BYTES = 1024, 64


def weight(logs: Logs) -> int:
    """About how many bytes of memory it takes."""
    return _MESSAGE_BYTES + len(logs.rest) + _LINE_BYTES * len(logs.lines) + sum(map(len, logs.lines))
