"""Hangs up on those that have come to a server over the network, and do not say the password in time.

The server itself would let them stay, until it has no descriptor for anybody else.
"""

from __future__ import annotations

import contextlib
import re
import socket

from ray.builtin.redis_control.plain_link import RedisLink, RefusedError
from ray.builtin.redis_control.settings import DOORMAN, ServerSettings

#: How often it looks, and how long one may be there without the password.
LOOK_S, ENTER_S = 2.0, 4
_ANSWER_S = 2.0
#: As the server lists those that have not said a password.
_STRANGER = re.compile(rb"^id=(\d+) .*? age=(\d+) .* user=default( |$)", re.MULTILINE)


class Doorman:
    """Of one server. It waits for answers of the server, as long as ``LOOK_S``."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings

    def look(self) -> None:
        """See who is there."""
        with contextlib.suppress(OSError, RefusedError), socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(_ANSWER_S)
            plain.connect(self._settings.socket)
            link = RedisLink(plain)
            link.call("AUTH", DOORMAN, self._settings.doorman_password)
            try:
                found = link.call("CLIENT", "LIST")
            except RefusedError:  # there are thousands: one that is just about to say the password comes again
                self._clear_out()
                return
            for id, age, _ in _STRANGER.findall(found if isinstance(found, bytes) else b""):
                if int(age) >= ENTER_S:
                    link.call("CLIENT", "KILL", "ID", id.decode())

    def _clear_out(self) -> None:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(_ANSWER_S)
            plain.connect(self._settings.socket)
            link = RedisLink(plain)
            link.call("AUTH", DOORMAN, self._settings.doorman_password)
            link.call("CLIENT", "KILL", "USER", "default")
