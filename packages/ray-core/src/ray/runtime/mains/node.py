"""Entry of the node manager process: ``python -c 'from ray.runtime.mains.node import main; main(fd)'``.

``fd`` is a socket to the driver: one JSON line each way at the start, then a lifeline, whose end is the driver's.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys

import msgspec

from ray.abc.blocking_control import BlockingControl
from ray.abc.control import ControlStore
from ray.abc.control_operations import Incr
from ray.exceptions import RayError, RaySystemError
from ray.exceptions.base import printable
from ray.ids import embedded_node, node_number
from ray.messages.codec import PROTOCOL_VERSION
from ray.plugins.plan import ResolvedPlan
from ray.runtime import interface
from ray.runtime.node.node import NodeManager
from ray.runtime.node.reception import JOBS
from ray.runtime.process import descriptors
from ray.runtime.process.clean_signals import clean_signals
from ray.runtime.process.group_ends import TRACKER_S, children, end_children
from ray.runtime.process.marks import mark_process
from ray.runtime.process.node_start import ClusterConfig, JobConfig, NodeConfig, NodeFacts, python_version
from ray.runtime.process.session_dirs import (
    ClusterFacts,
    SessionFacts,
    create_session_dir,
    note_end,
    publish_session,
    remove_session_dir,
    survivor_of,
)
from ray.runtime.process.standard_streams import print_to
from ray.runtime.process.supervision import become_subreaper, wake_with_parent
from ray.runtime.process.titles import set_title

_CLOSE_S = 2.0
#: Where a node manager prints that outlives the program which has started it; in the session's directory.
NODE_LOG = "node.log"


def main(fd: int) -> None:
    """Serve one node until it is stopped, or the driver whose node it is says so or is gone."""
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
    mark_process(config.instance)
    if config.owner_pid:
        wake_with_parent()
    descriptors.raise_limit()  # for the workers as well
    try:
        create_session_dir(config.session_dir, config.owner_pid or os.getpid())
        if config.cluster is not None:
            note_end(config.session_dir, "")
        if not config.owner_pid:
            print_to(os.path.join(config.session_dir, NODE_LOG))
        _serve(config, lifeline, umask)
    except BaseException as error:
        text = str(error) if isinstance(error, RayError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            lifeline.sendall(NodeFacts(error=printable(text)).to_json() + b"\n")
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
        lifeline: to the program that has started the node; if that is to end with a driver, it ends with the lifeline.
        umask: of that program; workers have it as well.
    """
    import ray.runtime.mains.worker  # before the zygote is forked, for all workers
    from ray.plugins.compose import Composition
    from ray.runtime.mains import zygote

    become_subreaper()
    set_title("node")
    # Plugins may be modules beside the program. Behind everything else: none of them replaces what this process needs.
    sys.path.extend(path for path in config.sys_path if path not in sys.path)
    plan, cluster = ResolvedPlan.from_json(config.plan), config.cluster
    shared = config.plan  # without what is of this life of this node alone
    if cluster is not None:
        from ray.runtime.cluster.far_keys import with_far_keys

        plan = with_far_keys(plan, cluster, config.session_dir)
        config = msgspec.structs.replace(config, plan=plan.to_json().decode())
    composition = Composition(plan)
    control_server, control_address = None, "" if cluster is None else cluster.control
    if not control_address:
        control_server = composition.start_control(config.session_dir)
        control_address = control_server.address
    control = composition.open_control(control_address)
    node_id, director = embedded_node(), None
    if cluster is not None:
        from ray.runtime.cluster.enrolment import Enrolment
        from ray.runtime.cluster.registry import Meta

        meta = Meta(
            config.session, PROTOCOL_VERSION, python_version(), shared, composition.plan.digest, cluster.data_encryption
        )
        enrolment = Enrolment(lambda: composition.open_control(control_address), meta, is_head=cluster.is_head)
        import ray.runtime.mains.joining  # noqa: F401 - meanwhile

        composition.import_inner(config.session_dir)
        zygote.import_needed()
        enrolled = enrolment.wait()
        node_id, director = enrolled.node, enrolled.director
        cluster = msgspec.structs.replace(cluster, data_encryption=enrolled.data_encryption)
    gc.freeze()  # what is forked from here on shares this memory, until one of them writes there
    store_server = composition.start_store(config.session_dir, config.store_bytes)
    transport = composition.open_transport(config.session_dir, node_number(node_id))
    sinks = composition.event_sinks(config.session_dir)
    manager = NodeManager(
        msgspec.structs.replace(config, store_address=store_server.address, events=bool(sinks)),
        transport,
        control,
        composition.make_scheduler(),
        store_server,
        sinks,
        composition.plan.digest,
        node_id,
    )
    try:
        manager.jobs.umask = umask
        if config.owner_pid:
            manager.pool.lifeline = lifeline.fileno()
        manager.pool.begin(zygote.serve)
        address = transport.listen("node")
        if cluster is not None:
            address = transport.listen_far(address)
        manager.pool.node_address = address
        store = store_server.address
        for needed in (*transport.contacts(address), store):
            manager.pool.place.need(needed)
        manager.pool.count_room(store_server.max_clients)
        job = _open_own_job(manager, control, config.job) if config.job else ""
        manager.prestart(config.prestart)
        _watch_signals(manager)
        transport.watch(control.fileno(), control.deliver)
        version = python_version()
        owner_pid = config.owner_pid or os.getpid()
        facts = NodeFacts(address, store, bool(sinks), job, control_address, node=node_number(node_id))

        def ready() -> None:
            publish_session(
                config.session_dir,
                SessionFacts(
                    config.session,
                    address,
                    store,
                    config.plan,
                    owner_pid,
                    bool(sinks),
                    version,
                    node_number(node_id),
                    _cluster_facts(config.session, cluster),
                ),
            )
            lifeline.sendall(facts.to_json() + b"\n")
            if config.owner_pid:
                lifeline.setblocking(False)
                transport.watch(lifeline.fileno(), manager.owner_ended)
            else:
                lifeline.close()

        if cluster is None:
            ready()
        else:
            from ray.runtime.mains.joining import join

            join(manager, cluster, director, control, composition.make_scheduler(), composition, store_server, ready)
        if cluster is not None and cluster.keeper:
            _watch_keeper(manager, cluster)
        manager.run()
        if manager.reason and cluster is not None:  # who has started it is told, or its exit code says so
            raise RaySystemError(manager.reason)
    finally:
        manager.pool.close()
        for sink in sinks:
            sink.close()
        transport.close()
        store_server.close()
        control.close()
        if control_server is not None:
            control_server.close()


def _watch_keeper(manager: NodeManager, cluster: ClusterConfig) -> None:
    """Without its keeper the head has no control server, nobody can join, and nobody would end it."""
    from ray.runtime.cluster.key_end import give_up_name

    def ended() -> None:
        manager.fail("the keeper of the cluster has died, and with it the cluster")
        give_up_name(cluster.key_file, manager.config.session)

    try:
        keeper = os.pidfd_open(cluster.keeper)
    except ProcessLookupError:
        ended()
        return
    manager.transport.watch(keeper, ended)


def _cluster_facts(session: str, config: ClusterConfig | None) -> ClusterFacts | None:
    """What programs on this machine are told of the node's part in its cluster."""
    if config is None:
        return None
    return ClusterFacts(
        config.name, session, config.address, config.host, config.node_name, config.is_head, config.labels
    )


def _open_own_job(manager: NodeManager, control: ControlStore, config: JobConfig) -> str:
    """The job of the driver whose node this is; nothing else is served yet, so that the store may be waited for."""
    return manager.open_own_job(BlockingControl(control).ask(Incr(JOBS)), config)


def _watch_signals(manager: NodeManager) -> None:
    """Deaths of children arrive at a readable descriptor."""
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)

    def on_signal() -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(read, 4096)
        manager.reap_due = True

    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGTERM, lambda number, frame: manager.terminate())
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    manager.transport.watch(read, on_signal)
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
