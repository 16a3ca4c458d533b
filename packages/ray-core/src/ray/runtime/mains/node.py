"""Entry of the node manager process: ``python -c 'from ray.runtime.mains.node import main; main(fd)'``.

``fd`` is a socket to the driver: one JSON line each way at the start, then a lifeline, whose end is the driver's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys

import msgspec

from ray.exceptions.base import printable
from ray.runtime import interface
from ray.runtime.node.node import NodeManager
from ray.runtime.process import descriptors
from ray.runtime.process.clean_signals import clean_signals
from ray.runtime.process.group_ends import TRACKER_S, children, end_children
from ray.runtime.process.session_dirs import (
    NodeConfig,
    SessionFacts,
    create_session_dir,
    publish_session,
    remove_session_dir,
    survivor_of,
)
from ray.runtime.process.supervision import become_subreaper, mark_session, wake_with_parent
from ray.runtime.process.titles import set_title

_CLOSE_S = 2.0


def main(fd: int) -> None:
    """Serve one node until the driver says stop or is gone."""
    clean_signals()
    interface.own_process = "the node manager"
    lifeline = socket.socket(fileno=fd)
    with lifeline.makefile("rb") as reader:
        line = reader.readline()
    if not line:
        return
    config = NodeConfig.from_json(line)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    umask = os.umask(0o077)
    mark_session(config.session)
    wake_with_parent()
    descriptors.raise_limit()  # for the workers as well
    try:
        create_session_dir(config.session_dir, config.driver_pid)
        _serve(config, lifeline, umask)
    except BaseException as error:
        with contextlib.suppress(OSError):
            lifeline.sendall(msgspec.json.encode({"error": printable(f"{type(error).__name__}: {error}")}) + b"\n")
        raise
    finally:
        signal.set_wakeup_fd(-1)
        survivor = survivor_of(config.session_dir)
        _end_children(survivor)
        remove_session_dir(config.session_dir)
        _end_survivor(survivor)


def _serve(config: NodeConfig, lifeline: socket.socket, umask: int) -> None:
    """Serve.

    Args:
        config: of the session.
        lifeline: to the driver.
        umask: the driver's; workers have it as well.
    """
    import ray.runtime.mains.worker  # noqa: F401 - imported before the zygote is forked, for all workers
    from ray.plugins.compose import Composition
    from ray.plugins.plan import ResolvedPlan
    from ray.runtime.mains import zygote

    become_subreaper()
    set_title("node")
    # Plugins may be modules beside the program. Behind everything else: none of them replaces what this process needs.
    sys.path.extend(path for path in config.sys_path if path not in sys.path)
    composition = Composition(ResolvedPlan.from_json(config.plan))
    control_server = composition.start_control(config.session_dir)
    control = composition.open_control(control_server.address)
    store_server = composition.start_store(config.session_dir, config.store_bytes)
    transport = composition.open_transport(config.session_dir)
    sinks = composition.event_sinks(config.session_dir)
    manager = NodeManager(
        msgspec.structs.replace(
            config, extra={"store_address": store_server.address, "events": bool(sinks), "umask": umask}
        ),
        transport,
        control,
        composition.make_scheduler(),
        store_server,
        sinks,
        composition.plan.digest,
    )
    try:
        manager.pool.lifeline = lifeline.fileno()
        manager.pool.begin(zygote.serve)
        manager.pool.node_address = transport.listen("node")
        for address in (manager.pool.node_address, store_server.address):
            manager.pool.place.need(address)
        manager.pool.count_room(store_server.max_clients)
        manager.prestart(config.prestart)
        _watch_signals(manager, lifeline)
        transport.watch(control.fileno(), control.deliver)
        address, store = manager.pool.node_address, store_server.address
        publish_session(
            config.session_dir, SessionFacts(config.session, address, store, config.plan, config.driver_pid)
        )
        answer = {
            "address": address,
            "store": store,
            "events": bool(sinks),
        }
        lifeline.sendall(msgspec.json.encode(answer) + b"\n")
        manager.run()
    finally:
        manager.pool.close()
        for sink in sinks:
            sink.close()
        transport.close()
        store_server.close()
        control.close()
        control_server.close()


def _watch_signals(manager: NodeManager, lifeline: socket.socket) -> None:
    """Deaths of children and the end of the driver arrive as readable descriptors."""
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)

    def on_signal() -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(read, 4096)
        manager.reap_due = True

    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGTERM, lambda number, frame: manager.stop())
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    manager.transport.watch(read, on_signal)
    lifeline.setblocking(False)
    manager.transport.watch(lifeline.fileno(), manager.stop)
    manager.pool.reap()


def _end_children(survivor: int) -> None:
    """End every descendant that is left, but the one that would do so if this process were killed here."""
    if not end_children(TRACKER_S, _CLOSE_S, survivor):
        print("children that could not be killed:", children(), file=sys.stderr)


def _end_survivor(pid: int) -> None:
    """The last thing that the node manager does for its session; with it ends what it has started itself."""
    if pid:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        _end_children(0)
