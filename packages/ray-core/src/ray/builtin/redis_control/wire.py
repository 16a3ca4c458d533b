"""redis-py's connection: what is used of it, and how one is made for a server."""

from __future__ import annotations

import inspect
import os
import socket
from _thread import RLock
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from ray.builtin.redis_control.access import Access
from ray.builtin.redis_control.failures import LinkLostError, cause_of

#: How long the server may take for one answer, or to let somebody in, before another connection is tried.
PATIENCE_S = 1.0

#: Held while modules are imported. A child that is forked meanwhile could never import those.
_importing = RLock()
os.register_at_fork(before=_importing.acquire, after_in_parent=_importing.release, after_in_child=_importing.release)


def load_library() -> None:
    """Import all that a connection needs. The first time takes a tenth of a second."""
    with _importing:
        import ssl  # noqa: F401

        import redis.backoff
        import redis.connection
        import redis.exceptions
        import redis.retry
        import redis.sentinel  # noqa: F401

        "localhost".encode("idna")


class Wire(Protocol):
    """Of all the versions of the library that serve."""

    _sock: socket.socket | None

    def connect(self) -> None: ...

    def pack_commands(self, commands: Iterable[Sequence[Any]]) -> list[bytes]: ...

    def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None: ...

    def send_command(self, *command: Any, check_health: bool = True) -> None: ...

    def can_read(self, timeout: float = 0) -> bool: ...

    def read_response(self) -> Any: ...

    def disconnect(self) -> None: ...


def make_wire(access: Access, client_name: str) -> Wire:
    """A connection that is not open yet.

    Raises:
        LinkLostError: no Sentinel knows the primary.
    """
    import redis.connection
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    kinds: Any = redis.connection
    # What is asked for is sent again by the handle alone, which knows what may be.
    given: dict[str, Any] = {
        "socket_timeout": PATIENCE_S,
        "retry": Retry(NoBackoff(), 0),
        "client_name": client_name,
        "protocol": 2,
        "username": access.user or None,
        "password": access.password or None,
    }
    # Servers before 7.2 do not know the command by which a library tells its name.
    known = _parameters(kinds.Connection)
    given |= dict.fromkeys({"driver_info"} & known or {"lib_name", "lib_version"})
    if access.path:
        kind: Any = kinds.UnixDomainSocketConnection
        place: dict[str, Any] = {"path": access.path}
    else:
        given |= {"socket_connect_timeout": PATIENCE_S, "socket_keepalive": True}
        host, port = _primary(access, given) if access.service else access.hosts[0]
        kind, place = kinds.Connection, {"host": host, "port": port}
    if access.tls:
        kind = kinds.SSLConnection
        given["ssl_cert_reqs"] = "required"
    if access.certificate:  # that one, whatever the name of the host is
        given |= {"ssl_ca_data": access.certificate, "ssl_check_hostname": False}
    wire: Wire = kind(**place, **given)
    return wire


def _parameters(kind: type) -> set[str]:
    return {name for cls in kind.__mro__ for name in inspect.signature(cls).parameters}


def _primary(access: Access, given: dict[str, Any]) -> tuple[str, int]:
    """Ask the Sentinels.

    Raises:
        LinkLostError: none of them knows.
    """
    import redis.sentinel
    from redis.exceptions import RedisError

    sentinels: Any = redis.sentinel
    options = {name: given[name] for name in ("socket_timeout", "socket_connect_timeout", "retry", "protocol")}
    try:
        host, port = sentinels.Sentinel(access.hosts, sentinel_kwargs=options).discover_master(access.service)
    except (RedisError, OSError) as error:
        raise LinkLostError(f"no Sentinel tells the primary of {access.service!r}: {cause_of(error)}") from None
    return str(host), int(port)
