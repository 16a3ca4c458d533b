"""What a node manager prints, for the program that has started it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import IO

_TAIL_BYTES = 8192


class NodeLog:
    """A file without a name, which goes with its last descriptor."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.file: IO[bytes] = os.fdopen(os.memfd_create("ray-node-log"), "w+b")
        else:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``close``

    def tail(self) -> str:
        """The last lines, introduced; empty if there are none."""
        try:
            size = os.fstat(self.file.fileno()).st_size
            text = os.pread(self.file.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES)).decode(errors="replace")
        except (OSError, ValueError):  # the program has closed what is not its own
            return ""
        lines = text.splitlines()[-20:]
        return "; its log ends:\n" + "\n".join(lines) if lines else ""

    def close(self) -> None:
        """Give it up."""
        with contextlib.suppress(OSError):
            self.file.close()
