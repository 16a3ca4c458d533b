"""Who may open a data connection: a process with a ticket, which node managers hand over on a connection of their own.

A ticket serves one connection, once. Both ends prove that they have its secret, and neither says it: the client to be
let in, the server as any process of the machine might listen at a port.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
from collections.abc import Callable
from typing import NamedTuple

from ray.ids import PROCESS_ID_BYTES
from ray.runtime.object_manager.frames import receive_bytes

ID_BYTES, SECRET_BYTES, NONCE_BYTES, PROOF_BYTES = 16, 32, 16, 32


class Ticket(NamedTuple):
    """For one connection from the node manager ``client``'s node to that of ``server``."""

    id: bytes
    secret: bytes
    client: bytes
    """Process id of a node manager …"""
    server: bytes
    """… and of the other one."""
    sealed: bool = False
    """What goes over the connection is encrypted."""

    def proof(self, role: bytes, nonce: bytes) -> bytes:
        """What only an end with the secret can say for this nonce."""
        said = b"".join((role, nonce, self.id, self.server, self.client, bytes((self.sealed,))))
        return hmac.digest(self.secret, said, hashlib.sha256)

    def keys(self, server_nonce: bytes, client_nonce: bytes) -> Keys:
        """Those of the connection with these nonces: HKDF-SHA256 of the secret."""
        found = hmac.digest(server_nonce + client_nonce, self.secret, hashlib.sha256)
        return Keys(*(hmac.digest(found, role + b"\x01", hashlib.sha256) for role in (b"to client", b"to server")))


class Door(NamedTuple):
    """Where object managers of other nodes come in."""

    host: str
    """Empty: nowhere."""
    sealed: bool = False
    """What they are sent is encrypted."""
    store: str = ""
    """Address of the node's store; …"""
    machine: bytes = b""
    """… those of the same machine may read it there. Empty: none may."""


class Keys(NamedTuple):
    """Of the two directions of a connection."""

    to_client: bytes
    to_server: bytes


def new_ticket(client: bytes, server: bytes, *, sealed: bool = False) -> Ticket:
    """One that nobody has seen."""
    assert len(client) == len(server) == PROCESS_ID_BYTES
    return Ticket(os.urandom(ID_BYTES), os.urandom(SECRET_BYTES), client, server, sealed)


def enter(connection: socket.socket, ticket: Ticket) -> Keys:
    """Be let in, as the client of a new connection.

    Raises:
        OSError: the other end is not who gave the ticket, or does not take it.
    """
    nonce = receive_bytes(connection, NONCE_BYTES)
    own = os.urandom(NONCE_BYTES)
    connection.sendall(b"".join((ticket.id, own, ticket.proof(b"client", nonce))))
    if not hmac.compare_digest(receive_bytes(connection, PROOF_BYTES), ticket.proof(b"server", own)):
        raise ConnectionError("what listens there has not given the ticket")
    return ticket.keys(nonce, own)


def admit(connection: socket.socket, strike_off: Callable[[bytes], Ticket | None]) -> tuple[Ticket, Keys]:
    """Let the client of a new connection in. The ticket that it names is struck off, whatever the client proves.

    Raises:
        OSError: it has none.
    """
    nonce = os.urandom(NONCE_BYTES)
    connection.sendall(nonce)
    said = receive_bytes(connection, ID_BYTES + NONCE_BYTES + PROOF_BYTES)
    ticket = strike_off(said[:ID_BYTES])
    theirs, proof = said[ID_BYTES : ID_BYTES + NONCE_BYTES], said[ID_BYTES + NONCE_BYTES :]
    if ticket is None or not hmac.compare_digest(proof, ticket.proof(b"client", nonce)):
        raise ConnectionError("a connection without a ticket")
    connection.sendall(ticket.proof(b"server", theirs))
    return ticket, ticket.keys(nonce, theirs)
