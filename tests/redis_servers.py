"""Redis servers that tests start: on a unix socket and a port of the loopback interface, with an administrator."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ray.builtin.redis_control.access import Access
from ray.builtin.redis_control.commands import USER, acl_rules
from ray.testing import eventually

_APT = "apt-get install -y --no-install-recommends redis-server"
_LIBC = ctypes.CDLL(None)


def server_binary() -> str:
    """The program; the test is skipped where there is none, or fails where there has to be one."""
    found = shutil.which(os.environ.get("RAY_TEST_REDIS") or "redis-server") or shutil.which("valkey-server")
    if found is None:
        reason = f"needs a Redis server: {_APT}"
        if os.environ.get("RAY_REQUIRE_REDIS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    pytest.importorskip("redis")
    if os.environ.get("RAY_TEST_REDIS"):
        os.environ["RAY_REDIS_SERVER"] = found  # sessions start that one, too
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _die_with_parent() -> None:
    _LIBC.prctl(1, signal.SIGKILL, 0, 0, 0)


class RedisUnderTest:
    """One server, which the test may treat as it likes. ``default`` may do everything there, without a password."""

    def __init__(self, folder: Path, *lines: str, is_sentinel: bool = False) -> None:
        """Start it.

        Args:
            folder: of its own.
            lines: more of its configuration.
            is_sentinel: it watches others, and has no data.
        """
        self.binary = server_binary()
        self.folder = folder
        self.path = str(folder / "u")
        self.password = secrets.token_hex(16)
        self.config = folder / "redis.conf"
        self._arguments = ["--sentinel"] if is_sentinel else []
        self.process: subprocess.Popen[bytes] | None = None
        for attempt in range(5):
            self.port = free_port()
            self._configure(lines, is_sentinel)
            try:
                self.start()
                return
            except AssertionError as error:  # others look for free ports as well
                if "in use" not in str(error) or attempt == 4:
                    raise

    def _configure(self, lines: tuple[str, ...], is_sentinel: bool) -> None:
        self.config.write_text(
            "\n".join(
                [
                    f"unixsocket {self.path}", "unixsocketperm 600", "bind 127.0.0.1", f"port {self.port}",
                    f"dir {self.folder}", "appendonly yes", 'save ""', "maxmemory-policy noeviction", 'logfile "log"',
                    *([] if is_sentinel else [f"user {USER} on >{self.password} {acl_rules('default')}"]), *lines, "",
                ]
            )
        )  # fmt: skip

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.binary, str(self.config), *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # It dies with the thread that starts it.
            preexec_fn=_die_with_parent if threading.current_thread() is threading.main_thread() else None,
        )
        eventually(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        with contextlib.suppress(Exception):
            return bool(self.admin("PING"))
        return False

    def admin(self, *command: Any) -> Any:
        """What the server answers to its administrator."""
        with self.administrator() as client:
            return client.execute_command(*command)

    def administrator(self) -> Any:
        """A client of redis-py, which the caller closes."""
        import redis

        return redis.Redis(unix_socket_path=self.path, socket_timeout=5)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        assert self.process is not None
        with stopped(self.process.pid):
            yield

    def access(self, kind: str, **changes: Any) -> Access:
        """How ``ray`` reaches it, over ``unix`` or ``tcp``."""
        place: dict[str, Any] = {"path": self.path} if kind == "unix" else {"hosts": [("127.0.0.1", self.port)]}
        return Access(**place | {"user": USER, "password": self.password, "session": "s1"} | changes)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def server_of(keeper: int) -> int:
    """The server that a process keeps."""
    return int(eventually(lambda: [child.pid for child in psutil.Process(keeper).children()])[0])


def servers_in(folder: str) -> list[int]:
    """All servers that have their socket there."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if (
            any(folder in part for part in process.info["cmdline"] or ())
            and "redis-server" in process.info["cmdline"][0]
        ):
            found.append(process.pid)
    return found
