"""Addresses that users give: ``host:port``, and when two of them are the same."""

from __future__ import annotations

import contextlib
import socket
from typing import NamedTuple

#: Of a control server; the system uses those below for itself.
PORTS = range(1024, 65536)


class Place(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_place(text: str) -> Place | None:
    """``host:port``, ``redis://host:port`` or ``[::1]:port``; None if it is none of these."""
    from urllib.parse import urlsplit  # here, as it takes as long to load as this file, and few give an address

    with contextlib.suppress(ValueError):  # UnicodeError too: no name of a host
        split = urlsplit(text if "://" in text else f"redis://{text}")
        host, port = split.hostname or "", split.port
        host.encode("idna")
        rest = split.path or split.query or split.fragment or split.username or split.password
        if split.scheme == "redis" and host and "\0" not in host and port is not None and port in PORTS and not rest:
            return Place(host, port)
    return None


def without_password(address: str) -> str:
    """As messages may show it."""
    before, found, rest = address.rpartition("@")
    scheme, slashes, _ = before.partition("//")
    return f"{scheme}{slashes}***@{rest}" if slashes else f"***@{rest}" if found else address


def is_same(one: Place, other: Place) -> bool:
    """Whether two addresses lead to the same server: the same port, and a host in common."""
    if one.port != other.port:
        return False
    return one.host == other.host or not _numbers(one.host).isdisjoint(_numbers(other.host))


def is_loopback(host: str) -> bool:
    """Whether ``host`` is an address, in numbers, that only this machine reaches."""
    import ipaddress  # programs without a cluster do not need it

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _numbers(host: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()
