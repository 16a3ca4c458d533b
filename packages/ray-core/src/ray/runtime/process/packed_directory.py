"""A directory as a ZIP in an open file, and how it is handed on in pieces that fit into messages."""

from __future__ import annotations

import os
from typing import IO

from ray.messages.jobs import PackagePiece
from ray.runtime.process.node_start import Package

#: Of one piece.
PIECE_BYTES = 1 << 20


def piece_of(fd: int, size: int, job: str, offset: int) -> PackagePiece:
    """A piece of an open file, or why there is none.

    Args:
        fd: of the file.
        size: that it should have.
        job: what it is of.
        offset: where the piece begins.
    """
    try:
        data = os.pread(fd, min(PIECE_BYTES, max(0, size - offset)), offset)
    except OSError as error:
        return PackagePiece(job, offset, error=f"its ZIP file cannot be read: {error.strerror}")
    return PackagePiece(job, offset, data) if data else PackagePiece(job, offset, error="its ZIP file is shorter")


class PackedDirectory:
    """The driver's: a file without a name, which is gone when it is closed. Closing it twice does no harm."""

    def __init__(self, root: str, package: Package, file: IO[bytes]) -> None:
        """``root``: the directory that was packed; ``file`` holds the ZIP."""
        self.root = root
        self.package = package
        self._file = file

    def piece(self, job: str, offset: int) -> PackagePiece:
        """What the node manager has asked for."""
        if self._file.closed:
            return PackagePiece(job, offset, error="the program has ended its session")
        return piece_of(self._file.fileno(), self.package.size, job, offset)

    def close(self) -> None:
        """Nobody asks any more."""
        self._file.close()
