"""The session's own server, and the process that keeps it: a child of the node manager, and gone when that is gone."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import secrets
import select
import signal
import socket
import sys
import traceback
from typing import NoReturn

import msgspec

from ray.abc.control import ControlServer
from ray.builtin.redis_control.access import Access, save
from ray.builtin.redis_control.binary import check_version, find_server
from ray.builtin.redis_control.certificate import make_certificate
from ray.builtin.redis_control.commands import USER
from ray.builtin.redis_control.keeper import READY_S, Keeper, Told
from ray.builtin.redis_control.options import RedisOptions
from ray.builtin.redis_control.server import RedisServer
from ray.builtin.redis_control.settings import ServerSettings
from ray.exceptions import ControlStoreError

FOLDER = "redis"
_ACCESS = "access.json"
_MAX_PATH_BYTES = 100
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_END_S = 2.0


class OwnRedis(ControlServer):
    """The owner's handle on the keeper. The calling thread must be the main one, and the only one."""

    def __init__(self, session_dir: str, options: RedisOptions | None = None) -> None:
        """Start the server; it answers when this returns.

        Args:
            session_dir: the server has a folder in it.
            options: how it listens.

        Raises:
            ControlStoreError: there is no such server on this machine, or it does not start.
        """
        options = options or RedisOptions()
        try:
            self._binary = find_server(os.environ)
            check_version(self._binary)
            pems = make_certificate(options.host) if options.host else ("", "")
        except ValueError as error:
            raise ControlStoreError(reason=str(error)) from None
        self._folder = os.path.join(session_dir, FOLDER)
        os.mkdir(self._folder, 0o700)
        password = secrets.token_hex(32)
        port = (options.port or _free_port(options.host)) if options.host else 0
        settings = ServerSettings(
            folder=self._folder,
            name=options.name,
            password=password,
            host=options.host,
            port=port,
            memory_bytes=options.memory_bytes,
        )
        if len(os.fsencode(settings.socket)) > _MAX_PATH_BYTES:
            raise ControlStoreError(reason=f"the path of its socket is too long: {settings.socket}")
        here = Access(
            path=settings.socket,
            user=USER,
            password=password,
            name=options.name,
            session=os.path.basename(session_dir.rstrip("/")),
        )
        self.remote: Access | None = None
        """How other machines reach it."""
        if options.host:
            self.remote = msgspec.structs.replace(
                here, path="", hosts=[(options.host, port)], tls=True, certificate=pems[0]
            )
        server = RedisServer(self._binary, settings)
        if options.host:
            server.write_files(*pems)
        self._owner = os.getpid()
        self._lifeline, theirs = socket.socketpair()
        self.pid = os.fork()
        """Of the keeper."""
        if not self.pid:
            _run(self._owner, server, theirs)
        theirs.close()
        self._pidfd = os.pidfd_open(self.pid)
        try:
            self._await_ready()
            self.address = save(here, os.path.join(self._folder, _ACCESS))
        except BaseException:
            self.close()
            raise

    def _await_ready(self) -> None:
        self._lifeline.settimeout(READY_S + 5.0)
        told = b""
        with contextlib.suppress(OSError):
            while not told.endswith(b"\n") and (part := self._lifeline.recv(4096)):
                told += part
        error = msgspec.json.decode(told, type=Told).error if told else "the process that keeps it has ended"
        if error:
            raise ControlStoreError(reason=f"{self._binary}: {error}")

    def close(self) -> None:
        if self._pidfd < 0 or os.getpid() != self._owner:
            return
        self._lifeline.close()
        if not select.select([self._pidfd], [], [], _END_S)[0]:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)  # with it dies the server
        with contextlib.suppress(ChildProcessError):  # reaped elsewhere
            os.waitpid(self.pid, 0)
        os.close(self._pidfd)
        self._pidfd = -1


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def _run(parent: int, server: RedisServer, lifeline: socket.socket) -> NoReturn:
    """Be the keeper. Never returns to what the parent was doing."""
    try:
        _become_its_own(parent, lifeline.fileno())
        gc.freeze()
        Keeper(server, lifeline, lambda line: print(line, file=sys.stderr, flush=True)).keep()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _become_its_own(parent: int, kept: int) -> None:
    """Let go of everything of the parent, but die with it."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"ray::redis", 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o077)
    highest = max((int(name) for name in os.listdir("/proc/self/fd")), default=3)
    os.closerange(3, kept)
    os.closerange(kept + 1, highest + 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
