"""What ZeroMQ says before it aborts a process: ``Bad file descriptor (src/epoll.cpp:118)``."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SAID = re.compile(r"(.+) \((?:\S*/)?src/\w+\.cpp:[0-9]+\)")
#: What it says where it is not about descriptors that are not what they were.
_LACK = re.compile(r"memory|too many|no buffer space", re.IGNORECASE)


def abort_reason(lines: Sequence[str]) -> str:
    """Why ZeroMQ has aborted a process, from the last lines of its stderr: a clause; empty if it has not."""
    for line in reversed(lines):
        said = _SAID.fullmatch(line.strip())
        if said is not None:
            text = f"ZeroMQ aborted it ({said[1]})"
            if _LACK.search(said[1]):
                return text
            return f"{text}: code of a task may have closed descriptors that are not its own, as os.closerange() does"
    return ""
