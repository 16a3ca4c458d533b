"""Frames encrypted with AES-256-GCM: nobody reads them, and none is taken that was changed, repeated or left out.

Each direction of each connection has a key of its own, made of the secret of its ticket and a number from either end,
and counts its frames: no key and count come twice.
"""

from __future__ import annotations

import socket
from typing import Any

from ray.runtime.object_manager.frames import (
    FRAME_BYTES,
    HEADER_BYTES,
    REQUEST_BYTES,
    ChangedError,
    Header,
    Request,
    receive_bytes,
    receive_exactly,
)

_TAG_BYTES, _NONCE_BYTES = 16, 12
#: A connection ends after so many frames of a direction.
MAX_FRAMES = 1 << 32
_REQUEST = b"request"


def is_possible() -> bool:
    """Whether the package for it is installed, in a version that works in place."""
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        return False
    return hasattr(AESGCM, "encrypt_into") and hasattr(AESGCM, "decrypt_into")


class SealedLine:
    """Implements ``Line``."""

    def __init__(self, connection: socket.socket, outgoing: bytes, incoming: bytes) -> None:
        """``outgoing`` and ``incoming``: the keys of the directions."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.connection = connection
        self._invalid: type[Exception] = InvalidTag
        self._outgoing: Any = AESGCM(outgoing)
        self._incoming: Any = AESGCM(incoming)
        self._sent = self._taken = 0
        self._scratch = memoryview(bytearray(FRAME_BYTES + _TAG_BYTES))
        self._header = b""

    def ask(self, request: Request) -> None:
        self.connection.sendall(self._seal(request.to_bytes(), _REQUEST))

    def asked(self) -> Request:
        found = bytearray(REQUEST_BYTES)
        self._open(memoryview(found), _REQUEST)
        return Request.from_bytes(bytes(found))

    def send(self, request: Request, offset: int, kind: int, data: bytes | memoryview) -> None:
        header = Header(request.stream, offset, len(data), kind, 0).to_bytes()
        sealed = self._seal(data, header + request.key)
        self.connection.sendall(header, socket.MSG_MORE)
        self.connection.sendall(sealed)

    def header(self) -> Header:
        self._header = receive_bytes(self.connection, HEADER_BYTES)
        return Header.from_bytes(self._header)

    def take(self, request: Request, header: Header, into: memoryview) -> None:
        self._open(into, self._header + request.key)

    def close(self) -> None:
        self.connection.close()

    def _seal(self, data: bytes | memoryview, about: bytes) -> memoryview:
        sealed = self._scratch[: len(data) + _TAG_BYTES]
        self._outgoing.encrypt_into(_nonce(self._sent), data, about, sealed)
        self._sent += 1
        return sealed

    def _open(self, into: memoryview, about: bytes) -> None:
        sealed = self._scratch[: len(into) + _TAG_BYTES]
        receive_exactly(self.connection, sealed)
        try:
            self._incoming.decrypt_into(_nonce(self._taken), sealed, about, into)
        except self._invalid:
            raise ChangedError("a frame that was not sealed by the other end, or is another one") from None
        self._taken += 1


def _nonce(count: int) -> bytes:
    if count >= MAX_FRAMES:
        raise ConnectionError("a connection that has had as many frames as it may")
    return count.to_bytes(_NONCE_BYTES, "big")
