"""Entry of the keeper, which a head has beside its node: ``python -c 'from … import main; main(fd)'``.

It keeps the control server and the node running, and ends both when it is stopped. ``fd`` is a socket to the program
that starts the head: one JSON line each way, then a byte when the answer was heard.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys

from ray.exceptions import KeyFileError, RayConnectionError, RayError
from ray.exceptions.base import printable
from ray.runtime import interface
from ray.runtime.cluster.keeper_start import HEARD, KeeperAnswer, KeeperConfig
from ray.runtime.mains.kept_cluster import KeptCluster
from ray.runtime.process.clean_signals import clean_signals
from ray.runtime.process.marks import mark_process
from ray.runtime.process.session_dirs import create_session_dir, remove_session_dir
from ray.runtime.process.standard_streams import print_to
from ray.runtime.process.titles import set_title

#: What a keeper prints, in its directory.
LOG = "keeper.log"


def main(fd: int) -> None:
    """Keep one cluster until it is stopped. The exit code is 0 if it was."""
    clean_signals()
    interface.own_process = "the keeper of a cluster"
    lifeline = socket.socket(fileno=fd)
    line = _line(lifeline)
    if not line.endswith(b"\n"):
        return
    config = KeeperConfig.from_json(line)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stopping = _watch_signals()
    umask = os.umask(0o077)
    mark_process(config.session)
    set_title("keeper")
    cluster = KeptCluster(config, umask)
    was_orderly = False
    try:
        create_session_dir(config.folder, os.getpid())
        print_to(os.path.join(config.folder, LOG))
        if _has_started(cluster, lifeline):
            if not config.is_foreground:
                lifeline.close()
            was_orderly = cluster.keep(stopping, lifeline if config.is_foreground else None)
    finally:
        cluster.end()
        remove_session_dir(config.folder)
    if not was_orderly:
        sys.exit(1)


def _has_started(cluster: KeptCluster, lifeline: socket.socket) -> bool:
    """Start it, and tell; False if there is nothing to keep."""
    try:
        answer = cluster.start()
    except Exception as error:
        text = str(error) if isinstance(error, RayError) else f"{type(error).__name__}: {error}"
        answer = KeeperAnswer(
            error=printable(text),
            is_unreachable=isinstance(error, RayConnectionError),
            key_reason=error.reason if isinstance(error, KeyFileError) else "",
        )
    with contextlib.suppress(OSError):  # it is gone, and so says nothing either
        lifeline.sendall(answer.to_json() + b"\n")
        return not answer.error and lifeline.recv(1) == HEARD
    return False


def _line(lifeline: socket.socket) -> bytes:
    """Not a byte more: what comes after it is read from the socket."""
    line = b""
    while not line.endswith(b"\n") and (data := lifeline.recv(65536)):
        line += data
    return line


def _watch_signals() -> int:
    """A descriptor that is readable once a signal has come."""
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read
