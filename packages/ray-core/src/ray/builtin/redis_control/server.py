"""A server of our own: its process. What runs this ends it, and it ends with that: see ``keeper``."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
from typing import NoReturn

from ray.builtin.redis_control.commands import USER
from ray.builtin.redis_control.plain_link import RedisLink, RefusedError
from ray.builtin.redis_control.settings import ServerSettings
from ray.clock import monotonic, sleep
from ray.exceptions.base import exit_text

_LOG = "log"
_LOG_TAIL_BYTES = 2000
_LOOK_S = 0.005
_PR_SET_PDEATHSIG = 1
#: What a server is given to write out what it has, before it is killed.
END_S = 2.0


class RedisServer:
    """One server at a time. One thread uses it, and stays: the server dies with the thread that has started it."""

    def __init__(self, binary: str, settings: ServerSettings) -> None:
        self._binary = binary
        self._settings = settings
        self._libc = ctypes.CDLL(None)
        self.pid = 0
        #: Readable once the server has ended; -1 while there is none.
        self.pidfd = -1

    def start(self) -> None:
        """Start it. What a server before it has written is there again.

        Raises:
            OSError: the system gives no process.
        """
        log = os.open(os.path.join(self._settings.folder, _LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        reading, writing = os.pipe()
        parent = os.getpid()
        try:
            os.write(writing, self._settings.text().encode())  # less than a pipe holds
            os.close(writing)
            pid = os.fork()
            if not pid:
                self._become(parent, reading, log)
        finally:
            os.close(reading)
            os.close(log)
        self.pid, self.pidfd = pid, os.pidfd_open(pid)

    def _become(self, parent: int, reading: int, log: int) -> NoReturn:
        try:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() == parent:
                os.setsid()  # a Ctrl-C in the terminal is none of its business
                for fd, target in ((reading, 0), (log, 1), (log, 2)):
                    os.dup2(fd, target)
                for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM):
                    signal.signal(number, signal.SIG_DFL)
                os.execv(self._binary, [self._binary, "-"])
        finally:
            os._exit(127)

    def is_ready(self, timeout_s: float) -> bool:
        """Wait until it answers; False: it has ended, or the time is over."""
        end = monotonic() + timeout_s
        while monotonic() < end and not self.has_ended():
            if self._answers():
                return True
            sleep(_LOOK_S)
        return False

    def has_ended(self) -> bool:
        """Whether the server has ended, or there is none."""
        return self.pidfd < 0 or bool(select.select([self.pidfd], [], [], 0)[0])

    def _answers(self) -> bool:
        """No library is loaded for that."""
        with contextlib.suppress(OSError, RefusedError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(self._settings.socket)
            link = RedisLink(probe)
            return link.call("AUTH", USER, self._settings.password) == b"OK" and link.call("PING") == b"PONG"
        return False

    def reap(self) -> str:
        """Take note of its end; returns how it ended."""
        with contextlib.suppress(ChildProcessError):
            status = os.waitpid(self.pid, 0)[1]
            self._forget()
            if os.WIFSIGNALED(status):
                return exit_text(signal=os.WTERMSIG(status))
            return exit_text(os.waitstatus_to_exitcode(status))
        self._forget()
        return exit_text()

    def _forget(self) -> None:
        os.close(self.pidfd)
        self.pid, self.pidfd = 0, -1

    def end(self, grace_s: float) -> None:
        """End it; with a grace, what was written in the last second is in its files."""
        if self.pidfd < 0:
            return
        if grace_s > 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)
                select.select([self.pidfd], [], [], grace_s)
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self.reap()

    def log_tail(self) -> str:
        """The last line that tells something of what it has said."""
        with contextlib.suppress(OSError), open(os.path.join(self._settings.folder, _LOG), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines()]
            return next((line for line in reversed(lines) if line.strip("* #")), "")
        return ""
