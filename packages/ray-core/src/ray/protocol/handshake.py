"""Who may talk to whom: what a ``Hello`` must say before anything else is heard."""

from __future__ import annotations

from ray.exceptions import RemoteProtocolError
from ray.messages.codec import PROTOCOL_VERSION
from ray.messages.wire import Hello

KINDS = frozenset({"driver", "worker", "node", "observer"})


def hello(session: str, kind: str, process: bytes, address: str, pid: int) -> Hello:
    """This side's first message."""
    return Hello(PROTOCOL_VERSION, session, kind, process, address, pid)


def check(message: object, session: str) -> Hello:
    """Accept a peer's first message.

    Raises:
        RemoteProtocolError: it is not a Hello, of another protocol version or of another session; the text names both
        sides.
    """
    if not isinstance(message, Hello):
        raise RemoteProtocolError(f"peer began with {type(message).__name__}, not with Hello")
    if message.protocol != PROTOCOL_VERSION:
        raise RemoteProtocolError(f"peer speaks protocol {message.protocol}, this process speaks {PROTOCOL_VERSION}")
    if message.session != session:
        raise RemoteProtocolError(f"peer belongs to session {message.session}, this process to {session}")
    if message.kind not in KINDS:
        raise RemoteProtocolError(f"peer is of unknown kind {message.kind!r}")
    return message
