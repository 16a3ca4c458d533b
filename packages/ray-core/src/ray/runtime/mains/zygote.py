"""The zygote: a single-threaded process with everything imported, which forks workers in milliseconds.

Their parent is the node manager (a subreaper): that one reaps them, learns how they ended, and takes them along when it
dies itself.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import linecache
import os
import signal
import socket
import sys
import traceback
from typing import NoReturn

import msgspec

from ray.exceptions.shadowed import shadowing
from ray.plugins.compose import Composition
from ray.plugins.plan import ResolvedPlan
from ray.protocol.run_slot import SLOT_BYTES
from ray.runtime.node.births import fork_grandchild
from ray.runtime.node.survivor import NodeSurvivor
from ray.runtime.process.session_dirs import NodeConfig
from ray.runtime.process.supervision import die_with_parent
from ray.runtime.process.titles import IDLE, set_title
from ray.runtime.worker.native_threads import NativeThreads

#: Of a traceback, its last part; a report has to fit into as many bytes as a request.
_MAX_TEXT_CHARS = 900
#: What every worker comes to import; pickles of functions and classes name it.
_NEEDED = ("cloudpickle", "ray.api.decorator", "ray.api.objects", "ray.api.actors", "ray.api.inspection")


def place(slot: int) -> slice:
    """Where a worker's slot lies in the shared memory."""
    return slice(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES)


class ForkRequest(msgspec.Struct, frozen=True, array_like=True):
    """Node manager to zygote, with the write ends of the worker's stdout and stderr attached."""

    worker: bytes
    address: str
    slot: int


class Forked(msgspec.Struct, frozen=True, array_like=True):
    """Zygote to node manager: the worker's pid, or why there is none. Of no worker: why the zygote ends."""

    worker: bytes
    pid: int
    error: str = ""


encode = msgspec.msgpack.encode
_decode_request = msgspec.msgpack.Decoder(ForkRequest).decode
decode_forked = msgspec.msgpack.Decoder(Forked).decode


def start(config: NodeConfig, slots: memoryview, lifeline: int) -> tuple[int, socket.socket]:
    """Fork the zygote from the node manager, which must have no threads; returns its pid and the channel to it.

    Args:
        config: of the session.
        slots: memory that the node manager and all workers share: one slot a worker, where it notes what it runs.
        lifeline: descriptor of a channel that ends with the driver.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    node = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    try:
        die_with_parent(node)
        _close_all_but(theirs.fileno(), lifeline)
        _serve(theirs, config, node, slots, lifeline)
    except BaseException as error:
        text = "".join((*traceback.format_exception(error), shadowing(error)))
        with contextlib.suppress(OSError):
            theirs.send(encode(Forked(b"", 0, text[-_MAX_TEXT_CHARS:])))
    finally:
        os._exit(1)


def _close_all_but(*kept: int) -> None:
    """The child needs nothing of what the node manager had open."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    first = 3
    for fd in (*sorted(kept), os.sysconf("SC_OPEN_MAX") if sys.platform != "linux" else _highest_fd() + 1):
        os.closerange(first, fd)
        first = fd + 1


def _highest_fd() -> int:
    return max((int(name) for name in os.listdir("/proc/self/fd")), default=3)


def _serve(channel: socket.socket, config: NodeConfig, node: int, slots: memoryview, lifeline: int) -> NoReturn:
    sys.path[:] = config.sys_path
    threads = NativeThreads()
    for name in (*_NEEDED, *config.preload):
        with contextlib.suppress(Exception):  # a module that cannot be preloaded fails where it is used
            importlib.import_module(name)
    with contextlib.suppress(ImportError):  # it shows more of a name than the kernel keeps
        importlib.import_module("setproctitle")
    linecache.cache.pop("<string>", None)  # what began this process; in workers the name is that of the user's text
    set_title("zygote")
    composition = Composition(ResolvedPlan.from_json(config.plan))
    composition.prepare()
    gc.collect()
    gc.freeze()
    survivor = NodeSurvivor(channel, lifeline, node, config)
    while True:
        data, fds = survivor.request()
        request = _decode_request(data)
        if fork_grandchild(functools.partial(_announce, channel, request.worker)):
            _be_worker(survivor, config, composition, node, request, fds, slots, threads)
        for fd in fds:
            os.close(fd)


def _announce(channel: socket.socket, worker: bytes, pid: int, why: str) -> None:
    with contextlib.suppress(OSError):  # the node manager's end is seen to elsewhere
        channel.send(encode(Forked(worker, pid, "" if pid else why[:_MAX_TEXT_CHARS])))


def _be_worker(
    survivor: NodeSurvivor,
    config: NodeConfig,
    composition: Composition,
    node: int,
    request: ForkRequest,
    fds: list[int],
    slots: memoryview,
    threads: NativeThreads,
) -> NoReturn:
    try:
        survivor.close()
        if sys.platform == "linux":
            die_with_parent(node)
        os.setpgid(0, 0)
        os.dup2(fds[0], 1)
        os.dup2(fds[1], 2)
        for fd in fds:
            os.close(fd)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # for the programs that its tasks start
        set_title(IDLE)
        from ray.runtime.mains.worker import worker_main

        worker_main(config, composition, request.worker, request.address, slots[place(request.slot)], threads)
    except BaseException as error:
        traceback.print_exc()
        print(shadowing(error), end="", file=sys.stderr, flush=True)
    finally:
        os._exit(1)
