"""What a ``Hello`` must say before anything else of a peer is heard."""

from __future__ import annotations

from ray.exceptions import RemoteProtocolError
from ray.ids import PROCESS_ID_BYTES
from ray.messages.codec import PROTOCOL_VERSION
from ray.messages.wire import Hello

MAX_ADDRESS_CHARS = 1000
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
    if len(message.process) != PROCESS_ID_BYTES or len(message.address) > MAX_ADDRESS_CHARS:
        raise RemoteProtocolError(
            f"peer has an id of {len(message.process)} bytes and an address of {len(message.address)} characters"
        )
    return message
