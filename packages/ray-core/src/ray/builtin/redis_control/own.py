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
import traceback
from typing import NoReturn

import msgspec
from msgspec import structs

from ray.abc.control import ControlServer
from ray.builtin.redis_control.access import Access, save, write_private
from ray.builtin.redis_control.binary import check_version, find_server
from ray.builtin.redis_control.certificate import make_certificate
from ray.builtin.redis_control.commands import USER
from ray.builtin.redis_control.doorman import Doorman
from ray.builtin.redis_control.keeper import READY_S, Keeper, Told
from ray.builtin.redis_control.options import RedisOptions
from ray.builtin.redis_control.server import RedisServer
from ray.builtin.redis_control.settings import CERTIFICATE, KEY, SOCKET, ServerSettings
from ray.exceptions import ControlStoreError
from ray.server_process import become_server, highest_descriptor

FOLDER = "redis"
_ACCESS = "access.json"
_MAX_PATH_BYTES = 100
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_END_S = 2.0
_ATTEMPTS = 5


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
        here = Access(
            path=os.path.join(self._folder, SOCKET),
            user=USER,
            password=password,
            name=options.name,
            session=os.path.basename(session_dir.rstrip("/")),
        )
        if len(os.fsencode(here.path)) > _MAX_PATH_BYTES:
            raise ControlStoreError(reason=f"the path of its socket is too long: {here.path}")
        settings = ServerSettings(
            folder=self._folder, name=options.name, password=password, host=options.host,
            port=options.port, memory_bytes=options.memory_bytes, doorman_password=secrets.token_hex(32),
        )  # fmt: skip
        if options.host:
            write_private(os.path.join(self._folder, CERTIFICATE), pems[0])
            write_private(os.path.join(self._folder, KEY), pems[1])
        self._owner = os.getpid()
        port = self._start(settings)
        self.remote: Access | None = None
        """How other machines reach it."""
        if options.host:
            self.remote = structs.replace(here, path="", hosts=[(options.host, port)], tls=True, certificate=pems[0])
        self.address = save(here, os.path.join(self._folder, _ACCESS))

    def _start(self, settings: ServerSettings) -> int:
        """Start it; returns the port for other machines."""
        attempts = 1 if settings.port or not settings.host else _ATTEMPTS
        while True:
            port = (settings.port or _free_port(settings.host)) if settings.host else 0
            self._fork(structs.replace(settings, port=port))
            error = self._await_ready()
            if not error:
                return port
            self.close()
            attempts -= 1
            # Somebody else may have taken the port that was free.
            if not attempts or "listen" not in error.lower():
                raise ControlStoreError(reason=f"{self._binary}: {error}")

    def _fork(self, settings: ServerSettings) -> None:
        server = RedisServer(self._binary, settings)
        self._lifeline, theirs = socket.socketpair()
        self.pid = os.fork()
        """Of the keeper."""
        if not self.pid:
            _run(self._owner, server, settings, theirs)
        theirs.close()
        self._pidfd = os.pidfd_open(self.pid)

    def _await_ready(self) -> str:
        """Wait; returns why there is no server, or an empty text."""
        self._lifeline.settimeout(READY_S + 5.0)
        told = b""
        with contextlib.suppress(OSError):
            while not told.endswith(b"\n") and (part := self._lifeline.recv(4096)):
                told += part
        return msgspec.json.decode(told, type=Told).error if told else "the process that keeps it has ended"

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


def _run(parent: int, server: RedisServer, settings: ServerSettings, lifeline: socket.socket) -> NoReturn:
    """Be the keeper. Never returns to what the parent was doing."""
    try:
        _become_its_own(parent, lifeline.fileno())
        gc.freeze()
        Keeper(server, lifeline, _say, doorman=Doorman(settings) if settings.host else None).keep()
    except BaseException:
        _say(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def _say(line: str) -> None:
    """To where the owner's errors go, unless nobody reads that any more."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode("utf-8", "replace"))


def _become_its_own(parent: int, kept: int) -> None:
    """Let go of everything of the parent, but die with it."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, b"ray::redis", 0, 0, 0)
    become_server(parent, (kept,), highest_descriptor())
