"""Work on files that takes too long for the node manager's loop: the zygote forks a process for each piece of it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from typing import Protocol

import msgspec

from ray.abc.transport import Transport
from ray.runtime.node import forking
from ray.runtime.node.unpacking import UnpackError, unpack
from ray.runtime.process.node_start import Package

#: What is said of a process that did not come to say anything.
DIED = "the process that was to do it has died"
_DONE = b"\0"
_MAX_TEXT_BYTES = 2048


class Chore(msgspec.Struct, frozen=True, array_like=True):
    """What is to be done: unpack a file into a folder, or remove both."""

    archive: str
    folder: str
    package: Package | None = None
    """What the file should be; None: it and the folder are removed."""


class Zygote(Protocol):
    """What forks processes."""

    def ask(self, request: bytes, fds: list[int]) -> None:
        """Send it a request, with descriptors.

        Raises:
            OSError: it takes none now.
        """


class Chores:
    """Of one node manager."""

    def __init__(self, zygote: Zygote, transport: Transport) -> None:
        self._zygote = zygote
        self._transport = transport

    def begin(self, chore: Chore, on_end: Callable[[str], None]) -> None:
        """Have it done; ``on_end`` gets an empty text then, or why it was not done."""
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        said = bytearray()

        def hear() -> None:
            try:
                data = os.read(read, _MAX_TEXT_BYTES)
            except BlockingIOError:
                return
            said.extend(data)
            if data:
                return
            self._transport.unwatch(read)
            os.close(read)
            on_end("" if said == _DONE else said.decode(errors="replace") or DIED)

        self._transport.watch(read, hear)
        try:
            self._zygote.ask(forking.encode(forking.ForkRequest(b"", "", 0, chore=msgspec.json.encode(chore))), [write])
        except OSError:  # the next zygote is asked, if it is tried again
            pass
        finally:
            os.close(write)


def do_chore(request: bytes, answer: int) -> None:
    """In a process of its own: do it, and say what came of it.

    Args:
        request: the chore.
        answer: descriptor of the pipe to the node manager.
    """
    chore = msgspec.json.decode(request, type=Chore)
    text = _DONE
    try:
        if chore.package is not None:
            unpack(chore.archive, chore.package, chore.folder)
        else:
            _remove(chore)
    except UnpackError as error:
        text = str(error).encode(errors="replace")[:_MAX_TEXT_BYTES]
    with contextlib.suppress(OSError):
        os.write(answer, text)


def _remove(chore: Chore) -> None:
    shutil.rmtree(chore.folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.unlink(chore.archive)
