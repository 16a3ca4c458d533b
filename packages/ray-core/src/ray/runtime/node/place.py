"""What a node manager needs of the files of its session, so that others find it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence

_ADVICE = (
    "nobody new can join the session without it. Have whatever removes old temporary files spare it, or set TMPDIR to "
    "a directory where nothing does"
)


class NodePlace:
    """The session's directory, and the sockets to which every process of it connects."""

    def __init__(self, folder: str, contacts: Callable[[str], Sequence[str]]) -> None:
        """``contacts`` gives those that an address holds, or raises ConnectionError."""
        self._folder = folder
        self._contacts = contacts
        #: {path: what it is}
        self._needed = {folder: "the directory of the session"}

    def need(self, address: str) -> None:
        """New processes are to connect to this address, which may be the path of a socket, behind a scheme."""
        path = "/" + address.partition(":")[2].lstrip("/")
        with contextlib.suppress(OSError, ValueError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                self._needed[path] = "a socket of the session"

    def remove(self, address: str) -> None:
        """A process that was killed has left the socket where it listened."""
        with contextlib.suppress(ConnectionError):  # it had not said where, or nothing that makes sense
            for contact in self._contacts(address):
                self._remove(contact)

    def _remove(self, contact: str) -> None:
        folder, name = os.path.split("/" + contact.partition(":")[2].lstrip("/"))
        if name and folder == self._folder:
            with contextlib.suppress(OSError, ValueError):
                os.unlink(os.path.join(folder, name))

    def lack(self) -> str:
        """What was removed, as a reason to end; empty if nothing was."""
        for path, what in self._needed.items():
            try:
                os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                return f"{what}, {path}, was removed while it ran: {_ADVICE}"
            except OSError:  # the system cannot say
                continue
        return ""
