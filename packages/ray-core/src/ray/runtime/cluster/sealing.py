"""Seals on the bytes of users that lie in the control store: who can write there cannot have a node run anything."""

from __future__ import annotations

import hashlib
import hmac

from ray.runtime.cluster.key_file import read_key_file

_BYTES = 32


class Seal:
    """Of one life of a cluster."""

    def __init__(self, secret: bytes, session: str) -> None:
        self._secret = secret
        self._session = session.encode()

    @classmethod
    def of(cls, key_file: str, session: str) -> Seal:
        """With the key in the cluster's key file; without a file nobody else has the store.

        Raises:
            KeyFileError: it cannot be used.
        """
        return cls(bytes.fromhex(read_key_file(key_file).hmac_key) if key_file else b"", session)

    def seal(self, key: str, content: bytes) -> bytes:
        """What is to lie at ``key`` of the store."""
        return self._mark(key, content) + content

    def open(self, key: str, value: bytes) -> bytes | None:
        """What was sealed for ``key``; None: this was not."""
        mark, content = value[:_BYTES], value[_BYTES:]
        return content if hmac.compare_digest(mark, self._mark(key, content)) else None

    def _mark(self, key: str, content: bytes) -> bytes:
        where = b"%d:%s%d:%s" % (len(self._session), self._session, len(key.encode()), key.encode())
        return hmac.digest(self._secret, where + content, hashlib.sha256)
