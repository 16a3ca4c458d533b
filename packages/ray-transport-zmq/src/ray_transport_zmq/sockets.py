"""ZeroMQ as this transport uses it: one context per process, and sockets with every limit set."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from typing import TYPE_CHECKING

import zmq

from ray.exceptions import PluginError
from ray_transport_zmq import native
from ray_transport_zmq.settling import NAME_PREFIX
from ray_transport_zmq.wire import MAX_PART_BYTES

if TYPE_CHECKING:
    from ray_transport_zmq.curve import Authenticator, Keys

_MIN_LIBZMQ = (4, 3, 5)
_MONITORED = (
    zmq.EVENT_LISTENING
    | zmq.EVENT_CONNECTED
    | zmq.EVENT_ACCEPTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

#: For every socket. More units than ``HWM`` are never under way to one peer, see ``ray_transport_zmq.credit``.
HWM = 1024
LINGER_MS = 500
OPTIONS: dict[zmq.SocketOption, int] = {
    zmq.SNDHWM: HWM,
    zmq.RCVHWM: HWM,
    zmq.MAXMSGSIZE: MAX_PART_BYTES,
    zmq.HANDSHAKE_IVL: 3_000,
    zmq.LINGER: LINGER_MS,
    # Nothing here blocks in any case; a router that must not drop could, for ever.
    zmq.SNDTIMEO: 0,
    zmq.RCVTIMEO: 0,
    zmq.BACKLOG: 1024,
    # Never in practice: a connection that was lost is reported, and its peer opens another one if it wants to.
    zmq.RECONNECT_IVL: 3_600_000,
    zmq.RECONNECT_IVL_MAX: 0,
    zmq.IMMEDIATE: 0,
}
#: For sockets over TCP, in addition. On ``ipc`` the kernel tells at once when a peer dies, and a process that is
#: stopped for a while is not dead.
TCP_OPTIONS: dict[zmq.SocketOption, int] = {
    # A lost connection must not come before a cluster has declared a silent node dead (9 s). That the network is gone
    # the system finds out, which asks the other one each 2 s and waits for 12 s: 10 to 14 s after that.
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 2,
    zmq.TCP_KEEPALIVE_INTVL: 2,
    zmq.TCP_KEEPALIVE_CNT: 5,
    zmq.TCP_MAXRT: 12_000,
    # This is for processes that are silent while their system answers. Each one costs both ends two turns of their
    # threads, and of nodes there are pairs.
    zmq.HEARTBEAT_IVL: 30_000,
    zmq.HEARTBEAT_TIMEOUT: 10_000,
}
#: These can be set but not read back.
WRITE_ONLY: dict[zmq.SocketOption, int] = {zmq.ROUTER_MANDATORY: 1, zmq.ROUTER_HANDOVER: 0}

_lock = threading.RLock()  # a finaliser, or a signal handler, may open a transport of its own
_contexts: dict[int, Context] = {}
_numbers = itertools.count()


class Context:
    """The ``zmq.Context`` of this process, shared by its transports and ended by the last of them."""

    def __init__(self) -> None:
        self.zmq = zmq.Context(io_threads=1)  # one, so that what it reports comes in order
        self.zmq.set(zmq.THREAD_NAME_PREFIX, NAME_PREFIX)
        self.users = 0
        self.authenticator: Authenticator | None = None

    def end(self) -> None:
        """Wait until all sockets, closed before, have sent what they linger for; at most ``LINGER_MS``."""
        self.zmq.term()
        if self.authenticator is not None:
            self.authenticator.join()


def acquire() -> Context:
    """The context of this process, made if need be; the caller that acquires it releases it."""
    with _lock:
        context = _contexts.get(os.getpid())
        if context is None:
            context = _contexts.setdefault(os.getpid(), Context())
        context.users += 1
        return context


def release(context: Context) -> None:
    """Give it back, with all sockets closed; the last user ends it."""
    with _lock:
        context.users -= 1
        if context.users:
            return
        del _contexts[os.getpid()]
    context.end()


def disown(it: zmq.Socket[bytes] | zmq.Context[zmq.Socket[bytes]]) -> None:
    """In a forked child: have pyzmq neither end it nor warn that it is open, as it is the parent's."""
    it._shadow = True


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    for context in _contexts.values():
        disown(context.zmq)


os.register_at_fork(after_in_child=_after_fork_in_child)


def check_library() -> None:
    """Refuse a ZeroMQ that cannot be relied on.

    Raises:
        PluginError: it is too old, or cannot encrypt.
    """
    version = zmq.zmq_version_info()
    if version < _MIN_LIBZMQ:
        raise PluginError(
            f"transport='zmq' needs libzmq {'.'.join(map(str, _MIN_LIBZMQ))}, found is {zmq.zmq_version()}: "
            "pip install --upgrade pyzmq",
            seam="transport",
            plugin="zmq",
        )
    if not native.IS_COMPLETE:
        raise PluginError(
            "transport='zmq' needs the functions of libzmq, and pyzmq hides them: install pyzmq from a wheel",
            seam="transport",
            plugin="zmq",
        )
    if not zmq.has("curve"):
        raise PluginError(
            "transport='zmq' needs a libzmq that can encrypt (CURVE): install pyzmq from a wheel, or build libzmq with "
            "libsodium",
            seam="transport",
            plugin="zmq",
        )


def router(context: Context, scheme: str, keys: Keys | None, *, listens: bool) -> zmq.Socket[bytes]:
    """A socket with all its options set; ``keys`` are those of this cluster, None without encryption."""
    socket: zmq.Socket[bytes] = context.zmq.socket(zmq.ROUTER)
    try:
        for option, value in (OPTIONS | WRITE_ONLY | (TCP_OPTIONS if scheme == "tcp" else {})).items():
            socket.set(option, value)
        if keys is not None:
            keys.secure(socket, listens=listens)
        elif listens and sys.platform == "linux":
            socket.set(zmq.IPC_FILTER_UID, os.geteuid())  # nobody else, whatever he can reach
    except BaseException:
        socket.close(0)  # the context could never end
        raise
    return socket


def monitor(context: Context, socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    """A socket on which ZeroMQ tells what becomes of the connections of ``socket``; call before it has any."""
    address = f"inproc://ray-zmq-monitor-{next(_numbers)}"
    socket.monitor(address, _MONITORED)
    watching: zmq.Socket[bytes] = context.zmq.socket(zmq.PAIR)
    watching.set(zmq.RCVHWM, 0)  # ZeroMQ's own thread would wait for room
    watching.set(zmq.LINGER, 0)
    watching.connect(address)
    return watching
