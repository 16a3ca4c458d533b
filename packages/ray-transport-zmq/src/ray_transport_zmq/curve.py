"""Keys, and which clients may connect: CURVE with a list of them.

CURVE proves the server to the client and encrypts. It lets in every client that has any key; that the key is a known
one is checked by the ``Authenticator``, which ZeroMQ asks for each new connection.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import tempfile
import threading
from typing import TYPE_CHECKING, Annotated

import msgspec
import zmq
from zmq.utils import z85

from ray.exceptions import PluginError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENDPOINT = "inproc://zeromq.zap.01"
_DOMAIN = "ray"
_KEY_CHARS = 40

Key = Annotated[str, msgspec.Meta(min_length=_KEY_CHARS, max_length=_KEY_CHARS)]


class Keys(msgspec.Struct, frozen=True):
    """The keys of a cluster, all in Z85. Every process has the same."""

    server_public: Key
    server_secret: Key
    client_public: Key
    client_secret: Key
    also_allowed: tuple[Key, ...] = ()
    """Public keys of further clients."""

    def __post_init__(self) -> None:
        for key in (self.server_public, self.server_secret, self.client_public, self.client_secret, *self.also_allowed):
            try:
                z85.decode(key)
            except (KeyError, struct.error) as error:
                raise ValueError(f"a key is not Z85: {error}") from None

    @property
    def allowed(self) -> frozenset[bytes]:
        """Public keys of the clients that may connect, as ZeroMQ reports them."""
        return frozenset(z85.decode(key) for key in (self.client_public, *self.also_allowed))

    def secure(self, socket: zmq.Socket[bytes], *, listens: bool) -> None:
        """Have a socket take part; call before it binds or connects."""
        if listens:
            socket.set(zmq.CURVE_SERVER, 1)
            socket.set(zmq.CURVE_SECRETKEY, self.server_secret.encode())
            socket.set_string(zmq.ZAP_DOMAIN, _DOMAIN)
            socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody to ask means nobody gets in
        else:
            socket.set(zmq.CURVE_SERVERKEY, self.server_public.encode())
            socket.set(zmq.CURVE_PUBLICKEY, self.client_public.encode())
            socket.set(zmq.CURVE_SECRETKEY, self.client_secret.encode())


def make_keys() -> Keys:
    """Fresh ones."""
    (server_public, server_secret), (client_public, client_secret) = zmq.curve_keypair(), zmq.curve_keypair()
    return Keys(server_public.decode(), server_secret.decode(), client_public.decode(), client_secret.decode())


def write_keys(path: str) -> Keys:
    """Make fresh keys and write them to ``path``, readable for the owner only.

    Raises:
        FileExistsError: there is something at ``path`` already.
    """
    keys = make_keys()
    handle, draft = tempfile.mkstemp(dir=os.path.dirname(path) or ".")  # mode 0600
    try:
        with open(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(keys)))
        os.link(draft, path)  # whole or not at all, and by one process only
    finally:
        os.unlink(draft)
    return keys


def read_keys(path: str) -> Keys:
    """The keys in a file.

    Raises:
        PluginError: there are none, or others than the owner can read them.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(1 << 20)
        if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid != os.geteuid():
            raise _refused(path, "others than its owner, who must be this user, may read or write it: chmod 600")
        return msgspec.json.decode(data, type=Keys)
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise _refused(path, str(error)) from error


def session_keys(session_dir: str) -> Keys:
    """The keys of one session on one machine: made by the first process that asks, in the session's directory."""
    path = os.path.join(session_dir, "zmq-keys.json")
    with contextlib.suppress(FileExistsError):
        if not os.path.exists(path):
            return write_keys(path)
    return read_keys(path)


def _refused(path: str, reason: str) -> PluginError:
    return PluginError(f"transport='zmq': cannot use the keys in {path!r}: {reason}", seam="transport", plugin="zmq")


class Authenticator:
    """Answers ZeroMQ's question whether a client may connect (ZAP, RFC 27), on a thread of its own.

    Not on the thread that polls: that one may be waiting for what another process does, which waits to connect here.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._allowed: frozenset[bytes] = frozenset()
        self._socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        self._socket.set(zmq.LINGER, 0)
        self._socket.bind(_ENDPOINT)
        self._thread = threading.Thread(target=self._run, name="ray-zmq-keys", daemon=True)
        self._thread.start()

    def allow(self, keys: frozenset[bytes]) -> None:
        """Let in clients with these keys, too."""
        self._allowed |= keys

    def join(self) -> None:
        """Wait for the end, which comes with that of the context."""
        self._thread.join()

    def _run(self) -> None:
        with contextlib.suppress(zmq.ContextTerminated), self._socket:
            while True:
                self._socket.send_multipart(answer(self._socket.recv_multipart(), self._allowed))


def answer(request: Sequence[bytes], allowed: frozenset[bytes]) -> list[bytes]:
    """The reply to one request of ZAP: 200 for a client that proved to have an allowed key, 400 for any other."""
    number = request[1] if len(request) > 1 else b""
    if len(request) == 7:
        version, _, domain, _, _, mechanism, key = request
        if (version, domain, mechanism) == (b"1.0", _DOMAIN.encode(), b"CURVE") and key in allowed:
            return [b"1.0", number, b"200", b"", b"", b""]
    return [b"1.0", number, b"400", b"not allowed", b"", b""]
