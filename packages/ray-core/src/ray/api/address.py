"""The address of a cluster: where it comes from, and what it may look like."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import NoReturn

from ray.exceptions import RayConnectionError

_CONNECT_TIMEOUT_S = 3.0
_ENVIRONMENT = "RAY_ADDRESS"
_SESSION = "unix:"
NOT_RELEASED = "clusters are not in this release"
_PORTS = range(1024, 65536)


@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """A control server that ``init`` was told to join."""

    host: str
    port: int
    source: str
    """The argument or environment variable that gave it, as the user wrote it."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def cluster_address(address: object, redis_address: object, *, local_mode: bool) -> ClusterAddress | None:
    """The cluster to join, or None to start one on this machine.

    ``address`` and ``redis_address`` are synonyms; without them ``RAY_ADDRESS`` counts, except in local mode.
    ``"local"`` starts one here, in either place; ``"auto"`` is one that was found, and none can be.

    Raises:
        ValueError: both were given, or the address has no host or no usable port.
        TypeError: it is no string.
        RayConnectionError: ``"auto"``, unless it is an argument and ``RAY_ADDRESS`` says which.
    """
    if address is not None and redis_address is not None:
        raise ValueError(
            f"address={address!r} and redis_address={redis_address!r} are the same option: give one of them."
        )
    name = "redis_address" if address is None else "address"
    given = redis_address if address is None else address
    if given is not None and not isinstance(given, str):
        number = isinstance(given, (int, float)) and not isinstance(given, bool)
        instead = f". For a number of CPUs there is ray.init(num_cpus={given!r})" if number else _by_keyword(given)
        raise TypeError(
            f"{name} must be a string such as '10.0.0.5:6379', not {given!r} ({type(given).__name__}){instead}"
        )
    if given == "auto" or (given is None and not local_mode):
        from_environment = os.environ.get(_ENVIRONMENT)
        if from_environment:
            name, given = _ENVIRONMENT, from_environment
    if given is None or given == "local" or given.startswith(_SESSION):
        return None
    source = f"{name}={given!r}"
    if given == "auto":
        unset = "" if name == _ENVIRONMENT else f", since {_ENVIRONMENT} is not set"
        raise RayConnectionError(f"{source} found no cluster{unset}, and {NOT_RELEASED}. {_instead(source)}")
    return _parse(given, source)


def session_to_join(address: object, redis_address: object, *, local_mode: bool) -> str | None:
    """The directory of the session on this machine that ``init`` is to join, or None: ``unix:<directory>``.

    Where it may be given is as for ``cluster_address``, which is asked first and finds none then.
    """
    given = address if address is not None else redis_address
    if given == "auto" or (given is None and not local_mode):
        given = os.environ.get(_ENVIRONMENT)
    if not isinstance(given, str) or not given.startswith(_SESSION):
        return None
    return given.removeprefix(_SESSION)


def _by_keyword(given: object) -> str:
    return ". Options are given by name: ray.init(**options)" if isinstance(given, dict) else ""


def _parse(text: str, source: str) -> ClusterAddress:
    from urllib.parse import urlsplit  # here, as it takes as long to load as this file, and few give an address

    scheme, host, port = "", "", None
    with contextlib.suppress(ValueError):  # UnicodeError too: no name of a host
        split = urlsplit(text if "://" in text else f"redis://{text}")
        host, port = split.hostname or "", split.port
        host.encode("idna")
        scheme = split.scheme
    if not host or "\0" in host or port is None or port not in _PORTS or scheme != "redis":
        number = text.isdecimal() and not source.startswith(_ENVIRONMENT)
        instead = f"For a number of CPUs there is ray.init(num_cpus={int(text)})." if number else no_way_in(source)
        raise ValueError(
            f"Invalid address port or host in {source}: an address is 'host:port' (or 'redis://host:port') with a port "
            f"from {_PORTS.start} to {_PORTS.stop - 1}, such as '10.0.0.5:6379'. {instead}"
        )
    return ClusterAddress(host, port, source)


def refuse_to_join(address: ClusterAddress) -> NoReturn:
    """Say why the cluster cannot be joined. Blocks for a few seconds at most.

    Raises:
        RayConnectionError: always.
    """
    try:
        socket.create_connection((address.host, address.port), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise RayConnectionError(
            f"No cluster answers at {address} (from {address.source}): {error}. If one did, it could not be joined: "
            f"{NOT_RELEASED}. {_instead(address.source)}"
        ) from error
    raise RayConnectionError(
        f"What listens at {address} (from {address.source}) cannot be joined: {NOT_RELEASED}. "
        f"{_instead(address.source)}"
    )


def no_way_in(source: str) -> str:
    return f"A right one could not be joined either: {NOT_RELEASED}. {_instead(source)}"


def _instead(source: str) -> str:
    if source.startswith(_ENVIRONMENT):  # without an address it would count again
        return f"Unset {_ENVIRONMENT}, or call ray.init(address='local'), to start a session on this machine."
    return "Call ray.init() without an address to start a session on this machine."
