"""How a Redis server is reached, with the password: kept in a file that only its owner can read, and shown nowhere."""

from __future__ import annotations

import os
import re
import stat
from urllib.parse import unquote, urlsplit

import msgspec

from ray.exceptions import RayConnectionError

SCHEME = "redis-access:"
PORT = 6379
SENTINEL_PORT = 26379
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_KINDS = "redis://host:6379, rediss://host:6379, unix:///path or redis+sentinel://host1,host2/primary"


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """One server, or the one that Sentinels name, and the part of its keys that is one session's."""

    path: str = ""
    """Of a unix socket; empty: over TCP."""
    hosts: list[tuple[str, int]] = []
    """The server; with ``service``, the Sentinels."""
    service: str = ""
    """The name by which Sentinels know the primary; empty: there are none."""
    tls: bool = False
    user: str = ""
    password: str = ""
    certificate: str = ""
    """With ``tls``: what alone is trusted, as PEM; empty: what the machine trusts, for that host."""
    name: str = "default"
    """Of the cluster: all keys begin with it."""
    session: str = ""

    def __repr__(self) -> str:
        return f"Access({self.where!r}, name={self.name!r}, session={self.session!r})"

    @property
    def where(self) -> str:
        """The server as messages name it: never with a password."""
        if self.path:
            return f"unix://{self.path}"
        places = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        if self.service:
            return f"redis+sentinel://{places}/{self.service}"
        return f"{'rediss' if self.tls else 'redis'}://{places}"


def parse_url(url: str) -> Access:
    """What a URL says; user and password may be in it, with ``%`` and two hex digits for special characters.

    Raises:
        ValueError: it is none of these; the text holds no password.
    """
    try:
        split = urlsplit(url.strip())
        scheme, place, path = split.scheme, split.netloc, unquote(split.path)
    except ValueError:
        raise ValueError(f"the URL of a control store is {_KINDS}") from None
    login, _, place = place.rpartition("@")
    user, _, password = (unquote(part) for part in login.partition(":"))
    if split.query or split.fragment:
        raise ValueError("the URL of a control store has nothing behind '?' or '#'")
    if scheme == "unix":
        if place or not path.startswith("/"):
            raise ValueError("a URL with a unix socket has its full path: unix:///run/redis/redis.sock")
        return Access(path=path, user=user, password=password)
    if scheme not in ("redis", "rediss", "redis+sentinel") or not place:
        raise ValueError(f"the URL of a control store is {_KINDS}")
    service = path.strip("/")
    if scheme == "redis+sentinel":
        if not service:
            raise ValueError("the URL of Sentinels ends in the name of the primary: redis+sentinel://host1,host2/name")
        hosts = [_host(part, SENTINEL_PORT) for part in place.split(",")]
        return Access(hosts=hosts, service=service, user=user, password=password)
    if service not in ("", "0"):
        raise ValueError(f"a control store uses database 0 of its server, not {service!r}: leave it out of the URL")
    return Access(hosts=[_host(place, PORT)], tls=scheme == "rediss", user=user, password=password)


def _host(text: str, usual: int) -> tuple[str, int]:
    try:
        split = urlsplit(f"//{text}")
        host, port = split.hostname, split.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ValueError(f"{text!r} is no host and port, such as 10.0.0.5:{usual} or [::1]:{usual}")
    return host, usual if port is None else port


def check_name(name: str) -> None:
    """See that ``name`` can be that of a cluster.

    Raises:
        ValueError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name={name!r}: up to 40 of a-z 0-9 . _ -, the first a letter or digit")


def read_private(path: str) -> str:
    """The text of a file that only its owner can read.

    Raises:
        ValueError: it cannot be read, is not this user's alone, or is a symbolic link. What it holds is not told.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ValueError(f"{path} is no file")
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        if found.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(found.st_mode) & 0o077:
            raise ValueError(f"{path} holds a password, and others than you can read it: chmod 600 {path}")
        return file.read(1 << 20)


def write_private(path: str, text: str) -> None:
    """Write a new file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def save(access: Access, path: str) -> str:
    """Write it down for handles; returns the address that ``load`` takes."""
    write_private(path, msgspec.json.encode(access).decode())
    return f"{SCHEME}{path}"


def load(address: str) -> Access:
    """What ``save`` has written.

    Raises:
        RayConnectionError: nothing is there.
    """
    path = address.removeprefix(SCHEME)
    try:
        if not address.startswith(SCHEME):
            raise ValueError("that is no address of a Redis control store")
        return msgspec.json.decode(read_private(path).encode(), type=Access)
    except (ValueError, msgspec.DecodeError) as error:
        raise RayConnectionError(f"no Redis control store at {address!r}: {error}") from None
