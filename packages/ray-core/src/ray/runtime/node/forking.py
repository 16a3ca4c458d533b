"""How the node manager starts the zygote, and what the two say to each other."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, TypeAlias

import msgspec

from ray.exceptions.shadowed import shadowing
from ray.protocol.run_slot import SLOT_BYTES
from ray.runtime.node.renewals import Renewals, Renewed
from ray.runtime.process.node_start import NodeConfig
from ray.runtime.process.supervision import die_with_parent
from ray.server_process import highest_descriptor

Serve: TypeAlias = Callable[[socket.socket, NodeConfig, int, memoryview, Renewals, int], NoReturn]
"""What the zygote does: (its channel, the configuration, the node manager's pid, the slots, renewals, lifeline)."""
#: Of a traceback, its last part; a report has to fit into as many bytes as a request.
MAX_TEXT_CHARS = 900


def place(slot: int) -> slice:
    """Where a worker's slot lies in the shared memory."""
    return slice(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES)


class ForkRequest(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Node manager to zygote, with the write ends of the worker's stdout and stderr attached.

    A third descriptor is the directory in which the worker begins; without it that is the zygote's.
    """

    worker: bytes
    address: str
    slot: int
    job: str = ""
    chore: bytes = b""
    """What is to be done instead of a worker's work, with the write end of a pipe attached: see ``chores``."""


class Forked(msgspec.Struct, frozen=True, array_like=True):
    """Zygote to node manager: the worker's pid, or why there is none. Of no worker: why the zygote ends."""

    worker: bytes
    pid: int
    error: str = ""


encode = msgspec.msgpack.encode
decode_request = msgspec.msgpack.Decoder(ForkRequest | Renewed).decode
decode_forked = msgspec.msgpack.Decoder(Forked).decode


def start(
    serve: Serve, config: NodeConfig, slots: memoryview, renewals: Renewals, lifeline: int
) -> tuple[int, socket.socket]:
    """Fork the zygote from the node manager, which must have no threads; returns its pid and the channel to it.

    Args:
        serve: what it does then.
        config: of the session.
        slots: memory that the node manager and all workers share: one slot a worker, where it notes what it runs.
        renewals: until when the node may run.
        lifeline: descriptor of a channel that ends with the driver whose node this is; -1 if it is nobody's.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    node = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    try:
        die_with_parent(node)
        _close_all_but(*(fd for fd in (theirs.fileno(), lifeline) if fd >= 0))
        serve(theirs, config, node, slots, renewals, lifeline)
    except BaseException as error:
        text = "".join((*traceback.format_exception(error), shadowing(error)))
        with contextlib.suppress(OSError):
            theirs.send(encode(Forked(b"", 0, text[-MAX_TEXT_CHARS:])))
    finally:
        os._exit(1)


def _close_all_but(*kept: int) -> None:
    """The child needs nothing of what the node manager had open."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = 3
    for fd in (*sorted(kept), os.sysconf("SC_OPEN_MAX") if sys.platform != "linux" else highest_descriptor() + 1):
        os.closerange(first, fd)
        first = fd + 1
