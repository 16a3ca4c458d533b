"""The configuration of a server of our own. It goes to standard input: it is in no file and in no list of processes."""

from __future__ import annotations

import hashlib
import os

import msgspec

from ray.builtin.redis_control.commands import USER, acl_rules

SOCKET = "s"
#: The user that may hang up on others, and nothing else; of the process that keeps the server.
DOORMAN = "doorman"
CERTIFICATE = "certificate.pem"
KEY = "key.pem"
MEMORY_BYTES = 256 * 1024 * 1024


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One server."""

    folder: str
    """Its own, mode 0700: its socket and all that it writes."""
    name: str
    """Of the cluster whose keys the user may touch."""
    password: str
    host: str = ""
    """Listen there, with TLS, too; empty: on the unix socket alone."""
    port: int = 0
    memory_bytes: int = MEMORY_BYTES
    doorman_password: str = ""
    """Where it listens on a network."""

    def __repr__(self) -> str:
        return f"ServerSettings({self.folder!r}, host={self.host!r}, port={self.port})"

    @property
    def socket(self) -> str:
        """The path of the unix socket."""
        return os.path.join(self.folder, SOCKET)

    def text(self) -> str:
        """What the server reads."""
        lines = [
            f"unixsocket {_quoted(self.socket)}",
            "unixsocketperm 600",
            "port 0",
            f"dir {_quoted(self.folder)}",
            'logfile ""',
            "loglevel warning",
            "daemonize no",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            f"maxmemory {self.memory_bytes}",
            "maxmemory-policy noeviction",
            # Nobody can be that user. The server itself is when it reads its file, and drops what the user may not do.
            "user default off resetpass ~* &* +@all",
            f"user {USER} on #{hashlib.sha256(self.password.encode()).hexdigest()} {acl_rules(self.name)}",
        ]
        if self.host:
            secret = hashlib.sha256(self.doorman_password.encode()).hexdigest()
            lines += [
                f"user {DOORMAN} on #{secret} resetkeys resetchannels -@all +client|list +client|kill",
                f"bind {self.host}",
                f"tls-port {self.port}",
                f"tls-cert-file {_quoted(os.path.join(self.folder, CERTIFICATE))}",
                f"tls-key-file {_quoted(os.path.join(self.folder, KEY))}",
                "tls-auth-clients no",
                'tls-protocols "TLSv1.2 TLSv1.3"',
            ]
        return "\n".join(lines) + "\n"


def _quoted(path: str) -> str:
    """As the server's parser takes it, whatever letters it has."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in os.fsencode(path)
    )
    return f'"{escaped}"'
