"""The key file of a cluster: all that it takes to come in. One that has it may run code on every node."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from typing import Annotated, Self

import msgspec

from ray.exceptions import KeyFileError
from ray.runtime.cluster import curve_keys
from ray.runtime.cluster.control_url import parse_control_url
from ray.runtime.cluster.places import Place
from ray.runtime.cluster.wanted import NAME

VERSION = 1
#: The transport with which other machines reach the nodes of a cluster.
ROUTED = "routed"
#: What is larger is no key file.
_MOST_BYTES = 1 << 18
_SECRET_BYTES = 32

CurveKey = Annotated[str, msgspec.Meta(min_length=40, max_length=40)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class CurveKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """What ZeroMQ encrypts with between nodes, all in Z85; the same for every process of the cluster."""

    server_public: CurveKey
    server_secret: CurveKey
    client_public: CurveKey
    client_secret: CurveKey
    also_allowed: tuple[CurveKey, ...] = ()
    """Public keys of further clients."""

    def __repr__(self) -> str:
        return "CurveKeys(...)"

    @classmethod
    def fresh(cls) -> Self:
        """New ones."""
        (server_public, server_secret), (client_public, client_secret) = curve_keys.make_pair(), curve_keys.make_pair()
        return cls(server_public, server_secret, client_public, client_secret)


class KeyFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is in it. Fields are only ever added, with a default."""

    version: int = VERSION
    name: str
    """Of the cluster."""
    session: str
    """The id of this life of the cluster: the next one under the same name has another."""
    host: str
    """With ``port``, the address that users give: that of the control server."""
    port: Port
    curve: CurveKeys
    hmac_key: str
    """In hexadecimal: signs what passes through the control server."""
    control: tuple[str, ...]
    """URLs of the control server, without secrets."""
    transport: str = ""
    """Between the processes of all nodes; empty: what each node takes by itself."""
    user: str = ""
    """Of the control server, with ``password``."""
    password: str = ""
    certificate: str = ""
    """What alone is trusted of a control server with TLS, as PEM; empty: what the machine trusts."""

    def __repr__(self) -> str:
        return f"KeyFile(name={self.name!r}, session={self.session!r}, address='{self.place}')"

    @property
    def place(self) -> Place:
        """The address that users give."""
        return Place(self.host, self.port)

    @property
    def has_own_server(self) -> bool:
        """The control server was started for the cluster, and ends with it."""
        return bool(self.certificate)

    def to_json(self) -> bytes:
        """As it is in the file."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"


def fresh_hmac_key() -> str:
    """A new one."""
    return secrets.token_hex(_SECRET_BYTES)


def read_key_file(path: str) -> KeyFile:
    """The keys in the file at ``path``; ``-`` is standard input.

    Raises:
        FileNotFoundError: there is none.
        KeyFileError: it cannot be used, with the reason and what to do.
    """
    if path == "-":
        return _decoded("standard input", sys.stdin.buffer.read(_MOST_BYTES + 1))
    return _decoded(path, _read_private(path))


def read_given_up(path: str) -> KeyFile:
    """The same of a file that is about to be removed, even if others can read it by now.

    Raises:
        FileNotFoundError: there is none.
        KeyFileError: it is no key file, or somebody else's.
    """
    return _decoded(path, _read_private(path, is_private=False))


def private_text(path: str) -> str:
    """The text of another file that holds a secret, of which the same is asked.

    Raises:
        OSError: it is not there.
        ValueError: it cannot be used.
    """
    try:
        return _read_private(path).decode()
    except KeyFileError as error:
        raise ValueError(error.reason) from None


def _read_private(path: str, *, is_private: bool = True) -> bytes:
    """What is asked of the file is asked of what was opened: the name may be another's by then."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = "it is a symbolic link" if os.path.islink(path) else str(error.strerror)
        raise KeyFileError(path, reason) from None
    try:
        found = os.fstat(descriptor)
        mode = stat.S_IMODE(found.st_mode)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileError(path, "it is no file")
        if found.st_uid != os.geteuid():
            raise KeyFileError(
                path, f"it belongs to user {found.st_uid}, and you are user {os.geteuid()}: make a copy of your own"
            )
        if is_private and mode & 0o077:
            raise KeyFileError(
                path,
                f"its mode is {mode:04o}, so that others than you can use it, and should be 0600: chmod 600 {path}",
            )
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(_MOST_BYTES + 1)
    finally:
        os.close(descriptor)


def _decoded(where: str, data: bytes) -> KeyFile:
    if len(data) > _MOST_BYTES:
        raise KeyFileError(where, "it is too large for one")
    if not data.strip():
        raise KeyFileError(where, "it is empty")
    with contextlib.suppress(msgspec.DecodeError, KeyError):
        version = msgspec.json.decode(data, type=dict[str, msgspec.Raw])["version"]
        if bytes(version) != str(VERSION).encode():
            reason = (
                f"it is of version {bytes(version).decode(errors='replace')[:20]}, and this release reads {VERSION}"
            )
            raise KeyFileError(where, reason)
    try:
        found = msgspec.json.decode(data, type=KeyFile)
        bytes.fromhex(found.hmac_key)
    except (msgspec.MsgspecError, ValueError) as error:
        raise KeyFileError(where, f"it is damaged, or cut short ({error}): copy it again") from None
    if not NAME.fullmatch(found.name):
        raise KeyFileError(where, f"{found.name[:50]!r} is no name of a cluster")
    try:
        parse_control_url("".join(found.control[:1]))
    except ValueError:
        raise KeyFileError(where, "it names no control server") from None
    return found
