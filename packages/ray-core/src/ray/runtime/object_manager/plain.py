"""Frames as they are, with a checksum."""

from __future__ import annotations

import socket

from ray.runtime.object_manager.frames import (
    DATA,
    HEADER_BYTES,
    REQUEST_BYTES,
    SAMPLED,
    ChangedError,
    Header,
    Request,
    checksum,
    receive_bytes,
    receive_exactly,
)


class PlainLine:
    """Implements ``Line``."""

    def __init__(self, connection: socket.socket, *, sampled: bool = False) -> None:
        """``sampled``: whether samples of what is sent are checked, or all of it."""
        self.connection = connection
        self._sampled = sampled

    def ask(self, request: Request) -> None:
        self.connection.sendall(request.to_bytes())

    def asked(self) -> Request:
        return Request.from_bytes(receive_bytes(self.connection, REQUEST_BYTES))

    def send(self, request: Request, offset: int, kind: int, data: bytes | memoryview) -> None:
        if kind == DATA and self._sampled:
            kind = SAMPLED
        header = Header(request.stream, offset, len(data), kind, checksum(data, kind))
        self.connection.sendall(header.to_bytes(), socket.MSG_MORE if len(data) else 0)
        if len(data):
            self.connection.sendall(data)

    def header(self) -> Header:
        return Header.from_bytes(receive_bytes(self.connection, HEADER_BYTES))

    def take(self, request: Request, header: Header, into: memoryview) -> None:
        receive_exactly(self.connection, into)
        if checksum(into, header.kind) != header.checksum:
            raise ChangedError("a frame that has changed on its way")

    def close(self) -> None:
        self.connection.close()
