"""Until when a node may run, as its node manager knows it: in memory that the zygote shares."""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct

import msgspec

_TIME = struct.Struct("@d")


class Renewed(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Node manager to zygote: until when this node may run is in the renewals from now on."""


_RENEWED = msgspec.msgpack.encode(Renewed())


class Renewals:
    """The node manager writes often; the zygote, which messages would wake as often, reads when the time seems over."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _TIME.size)
        #: The channel to the zygote that knows of it.
        self._told: socket.socket | None = None

    def note(self, sent: float, zygote: socket.socket | None) -> None:
        """Others have heard what this node has sent at that time, by ``boottime``; ``zygote``: the channel, if any."""
        _TIME.pack_into(self._memory, 0, sent)
        if zygote is not self._told and zygote is not None:
            with contextlib.suppress(OSError):  # it is about to be replaced, or is told the next time
                zygote.send(_RENEWED)
                self._told = zygote

    def newest(self) -> float:
        """What was noted last; 0 before that. What is read while it is written is read once more."""
        while (found := _TIME.unpack_from(self._memory)) != _TIME.unpack_from(self._memory):
            pass
        return float(found[0])

    def close(self) -> None:
        """Let go of it: a worker has nothing to do with this."""
        self._memory.close()
