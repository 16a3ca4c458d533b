"""A server that is there already. The session has keys of its own in it, and frees them at its end."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback

import msgspec

from ray.abc.control import ControlServer
from ray.builtin.redis_control.access import Access, save
from ray.builtin.redis_control.failures import LinkLostError, RefusedError
from ray.builtin.redis_control.handle import CLIENT_NAME
from ray.builtin.redis_control.index import Index
from ray.builtin.redis_control.keys import KeySpace
from ray.builtin.redis_control.link import Link
from ray.builtin.redis_control.pauses import Pauses
from ray.clock import monotonic, sleep
from ray.exceptions import ControlStoreError

FOLDER = "redis"
_ACCESS = "access.json"
#: How long a server may be away when a session starts, as in a failover.
_REACH_S = 5.0
_PAGE = 500


class ExistingRedis(ControlServer):
    """What a session owns of it."""

    def __init__(self, session_dir: str, access: Access) -> None:
        """See that the server can be used.

        A child process does: no library is to be in the node manager before it forks.

        Raises:
            ControlStoreError: it cannot, with the reason.
        """
        self._access = msgspec.structs.replace(access, session=os.path.basename(session_dir.rstrip("/")))
        reason = _in_child(self._access)
        if reason:
            raise ControlStoreError(reason=reason)
        folder = os.path.join(session_dir, FOLDER)
        os.mkdir(folder, 0o700)
        self.address = save(self._access, os.path.join(folder, _ACCESS))
        self._owner = os.getpid()
        self._is_closed = False

    def close(self) -> None:
        if self._is_closed or os.getpid() != self._owner:
            return
        self._is_closed = True
        try:
            _free_all(self._access)
        except Exception as error:
            print(f"ray: keys of the session are left in {self._access.where}: {error}", file=sys.stderr, flush=True)


def why_not(access: Access) -> str:
    """Why the server cannot be used; empty: it can."""
    end = monotonic() + _REACH_S
    pauses = Pauses()
    while True:
        try:
            Link(access, CLIENT_NAME).close()
        except LinkLostError as error:
            if monotonic() > end:
                return f"{access.where} cannot be used: {error}; see that it runs, and that its URL is right"
            sleep(pauses.failed())
        except RefusedError as error:
            return str(error)
        else:
            return ""


def _in_child(access: Access) -> str:
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            os.write(writing, why_not(access).encode("utf-8", "replace")[:4000])
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with open(reading, "rb") as file:
        reason = file.read().decode("utf-8", "replace")
    status = 0
    with contextlib.suppress(ChildProcessError):
        status = os.waitpid(pid, 0)[1]
    return reason or ("the look at it has failed" if status else "")


def _free_all(access: Access) -> None:
    """Free all keys of the session."""
    keys = KeySpace(access.name, access.session)
    link = Link(access, CLIENT_NAME)
    try:
        names = Index(keys).names(link, "")
        for begin in range(0, len(names), _PAGE):
            link.call(("DEL", *(keys.key(name) for name in names[begin : begin + _PAGE])))
        link.call(("DEL", keys.index))
    finally:
        link.close()
