"""How a node manager starts its object manager."""

from __future__ import annotations

import gc
import os
import socket
import traceback
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from ray.runtime.object_manager.orders import MAX_PACKET_BYTES
from ray.runtime.process.supervision import die_with_parent
from ray.runtime.process.titles import set_title
from ray.server_process import become_server, highest_descriptor

Serve: TypeAlias = Callable[[socket.socket], object]
"""What the object manager does: with its channel to the node manager, until that has gone."""

_BUFFER_BYTES = 8 * MAX_PACKET_BYTES


def start(serve: Serve) -> tuple[int, socket.socket]:
    """Fork the object manager from this process, with which it ends; returns its pid and the channel to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        _run(serve, parent, theirs)
    theirs.close()
    ours.setblocking(False)
    return pid, ours


def _run(serve: Serve, parent: int, channel: socket.socket) -> NoReturn:
    """Be the object manager. Never returns to what the parent was doing."""
    try:
        die_with_parent(parent)
        become_server(parent, {channel.fileno()}, highest_descriptor())
        set_title("objects")
        gc.freeze()
        serve(channel)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
