"""What a session can choose about the Redis control store."""

from __future__ import annotations

import importlib.util
import os

import msgspec

from ray.builtin.redis_control.access import Access, check_name, parse_url, read_private
from ray.builtin.redis_control.binary import check_version, find_server
from ray.builtin.redis_control.settings import MEMORY_BYTES

VARIABLE = "RAY_CONTROL_FILE"
_LEAST_BYTES = 8 * 1024 * 1024


class RedisOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the Redis control store. Without ``url`` and ``file`` the session starts a server of its own."""

    url: str = ""
    """A server that is there: ``redis://``, ``rediss://``, ``unix://`` or ``redis+sentinel://``; without a password."""
    file: str = ""
    """A file that only its owner can read, whose first line is such a URL, with its password. Without both,
    ``RAY_CONTROL_FILE`` counts."""
    ca_file: str = ""
    """With ``rediss://``: the certificates that alone are trusted, as PEM; empty: those that the machine trusts."""
    name: str = "default"
    """Of the cluster: all keys begin with it."""
    host: str = ""
    """Of an own server: the address at which other machines may reach it, with TLS; empty: only this machine."""
    port: int = 0
    """Of an own server with a ``host``; 0: one that is free."""
    memory_bytes: int = MEMORY_BYTES
    """Of an own server: what it holds at most."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.url and self.file:
            raise ValueError("url and file are the same option: give one of them")
        if self.url and parse_url(self.url).password:
            raise ValueError(
                "url holds a password, which a plan is no place for: write the URL into a file that only you can read, "
                "and give file=..."
            )
        if self.memory_bytes < _LEAST_BYTES:
            raise ValueError(f"memory_bytes={self.memory_bytes}: at least {_LEAST_BYTES}")
        if not 0 <= self.port < 65536:
            raise ValueError(f"port={self.port} is none")
        if any(letter.isspace() for letter in self.host):
            raise ValueError(f"host={self.host!r} is no address")

    def check_machine(self) -> None:
        """Whether this machine has what is needed; called once, before anything is started.

        Raises:
            ValueError: it does not.
        """
        if importlib.util.find_spec("redis") is None:
            raise ValueError('it needs the package redis: pip install "ray-core[redis]"')
        if self.existing(os.environ.get(VARIABLE, "")) is None:
            check_version(find_server(os.environ))

    def existing(self, file_of_environment: str) -> Access | None:
        """How to reach the server that is there; None: the session starts one.

        Raises:
            ValueError: what was given cannot be read, or is no such URL.
        """
        path = "" if self.url else self.file or file_of_environment
        if not self.url and not path:
            return None
        text = self.url or read_private(path).strip().partition("\n")[0]
        access = parse_url(text)
        if self.ca_file:
            if not access.tls:
                raise ValueError("ca_file is for rediss:// only")
            access = msgspec.structs.replace(access, certificate=_read(self.ca_file))
        return msgspec.structs.replace(access, name=self.name)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
