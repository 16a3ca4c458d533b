"""What a session can choose about the plasma store."""

from __future__ import annotations

import tempfile
from typing import Annotated

import msgspec

#: Smaller arenas hold no object that is large enough to go into one.
MIN_CAPACITY_BYTES = 1 << 20


class PlasmaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the plasma store."""

    capacity_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Of the arena; 0 for what ``ray.init(object_store_memory=...)`` says."""
    spill: bool = True
    """Whether objects go to the disk when the arena is full."""
    spill_dir: str = ""
    """Directory on a disk for them; empty for ``TMPDIR``, else ``/var/tmp``, else the system's."""
    spill_limit_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How much may be there; 0 for as much as the disk takes."""
    full_timeout_s: Annotated[float, msgspec.Meta(ge=0, le=30)] = 3.0
    """How long ``create``, and ``get`` of a spilled object, wait for room that the disk does not make."""
    memcopy_threads: Annotated[int, msgspec.Meta(ge=1, le=16)] = 2
    """Threads that may copy one large value, where that is faster than with one."""

    def __post_init__(self) -> None:
        if 0 < self.capacity_bytes < MIN_CAPACITY_BYTES:
            raise ValueError(
                f"capacity_bytes must be 0 or at least {MIN_CAPACITY_BYTES:,}, not {self.capacity_bytes:,}"
            )

    def check_machine(self) -> None:
        """Whether the session could spill; called once, before anything is started.

        Raises:
            ValueError: no file can be written where the options say.
        """
        if self.spill and self.spill_dir:
            try:
                with tempfile.TemporaryFile(dir=self.spill_dir):
                    pass
            except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
                reason = getattr(error, "strerror", None) or error
                raise ValueError(
                    f"option 'spill_dir': no file can be written under {self.spill_dir!r} ({reason}); give a "
                    "directory that exists, on a disk with room"
                ) from None
