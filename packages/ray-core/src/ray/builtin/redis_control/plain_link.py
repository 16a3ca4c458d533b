"""A conversation in the protocol of Redis, over a connection that is there: without any library."""

from __future__ import annotations

import socket
from typing import TypeAlias

Reply: TypeAlias = "bytes | int | list[Reply] | None"

_MOST_BYTES = 1 << 20
_OTHER = "what listens there is no Redis server"


class RefusedError(Exception):
    """The server's answer is an error."""


class RedisLink:
    """Not thread-safe; close it."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connection, whose timeout counts for each reply."""
        self._socket = connection
        self._data = b""

    def call(self, *words: str) -> Reply:
        """The reply to one command.

        Raises:
            OSError: the connection has ended, or nothing comes.
            RefusedError: the reply is an error.
        """
        parts = [word.encode() for word in words]
        asked = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(b"*%d\r\n%b" % (len(parts), asked))
        return self._reply()

    def _reply(self) -> Reply:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise RefusedError(rest.decode(errors="replace"))
        if kind == b"+":
            return rest
        if kind in b":$*_" and (rest.lstrip(b"-").isdigit() or kind == b"_"):
            number = int(rest or -1)
            if kind == b":":
                return number
            if kind == b"_" or number < 0:
                return None
            if number <= _MOST_BYTES:
                return self._bulk(number) if kind == b"$" else [self._reply() for _ in range(number)]
        raise RefusedError(_OTHER)

    def _bulk(self, nbytes: int) -> bytes:
        while len(self._data) < nbytes + 2:
            self._read()
        found, self._data = self._data[:nbytes], self._data[nbytes + 2 :]
        return found

    def _line(self) -> bytes:
        while b"\r\n" not in self._data:
            if len(self._data) > _MOST_BYTES:
                raise RefusedError(_OTHER)
            self._read()
        line, _, self._data = self._data.partition(b"\r\n")
        return line

    def _read(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionResetError("the server has closed the connection")
        self._data += data

    def close(self) -> None:
        """Disconnect. Idempotent."""
        self._socket.close()
