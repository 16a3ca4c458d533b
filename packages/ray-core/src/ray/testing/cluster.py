"""Several nodes on this machine: real node managers, each a process with its workers, as one cluster.

    with Cluster(initialize_head=True, head_node_args={"num_cpus": 2}) as cluster:
        node = cluster.add_node(num_cpus=2, resources={"disk": 1})
        with ray.init(cluster.address):
            ...
            cluster.kill(node)

With ``isolation="netns"`` each node is on a host of its own, in a network namespace (for root on Linux), and

    with cluster.partition([node]), cluster.delay(other, 0.01):
        ...

The control store is a Redis server that the head starts, so ``redis-server`` or ``valkey-server`` has to be on PATH.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import signal
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from ray.api.options import custom_resources, node_count, quantity, seconds, whole_quantity
from ray.builtin.redis_control import access
from ray.builtin.redis_control.settings import CERTIFICATE
from ray.clock import monotonic, sleep
from ray.ids import node_bytes
from ray.plugins.plan import ResolvedPlan
from ray.plugins.planning import resolve_plan
from ray.runtime.cluster.key_file import CurveKeys
from ray.runtime.driver.launch import StartedNode
from ray.runtime.driver.observer import SessionObserver
from ray.runtime.process.node_start import LOOPBACK, ClusterConfig
from ray.runtime.process.session_dirs import session_in
from ray.runtime.start_options import StartOptions
from ray.testing import cluster_arguments as checked
from ray.testing.at_end import close_with_program
from ray.testing.namespaces import Host, Network
from ray.testing.slow_cable import bytes_per_s, delay_s, share_of_frames

_LOOK_S = 0.02
#: Of the Redis server on the head's host, where hosts have networks of their own.
_CONTROL_PORT = 6379


class ClusterNode:
    """One node of a cluster."""

    def __init__(self, started: StartedNode, name: str, host: Host | None = None) -> None:
        self.started = started
        self.name = name
        #: On which it runs; None: on this machine, as all do.
        self.host = host
        row = next(row for row in self.ask("nodes") if row["Pid"] == started.pid)
        #: As ``ray.nodes()`` and ``RuntimeContext.node_id`` give it.
        self.node_id: str = row["NodeID"]

    def __repr__(self) -> str:
        return f"ClusterNode({self.name!r}, node_id={self.node_id!r}, pid={self.pid})"

    @property
    def address(self) -> str:
        """What ``ray.init(address=...)`` takes to join the cluster at this node."""
        return self.started.address

    @property
    def pid(self) -> int:
        """Of the node manager."""
        return self.started.pid

    @property
    def number(self) -> bytes:
        """As the ids of its processes begin."""
        return node_bytes(int(self.node_id, 16))

    def ask(self, question: str) -> Any:
        """What its node manager answers."""
        facts = session_in(self.started.session_dir)
        with contextlib.closing(SessionObserver(self.started.session_dir, facts)) as observer:
            return observer.ask(question)

    def workers(self) -> list[int]:
        """Pids of its workers."""
        return list(self.ask("workers")["pids"])

    def log(self) -> str:
        """What its node manager has printed; empty if it has ended."""
        try:
            with open(os.path.join(self.started.session_dir, "node.log"), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""


class Cluster:
    """Nodes that are started and ended by this program. Not thread-safe."""

    def __init__(
        self,
        initialize_head: bool = False,
        *,
        head_node_args: Mapping[str, Any] | None = None,
        name: str = "test",
        data_encryption: str = "auto",
        isolation: Literal["process", "netns"] = "process",
        control_timeout_s: float = 60.0,
        same_host: bool = False,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        **parts: str,
    ) -> None:
        """There are no nodes, unless the head is to be started.

        With ``isolation="netns"`` the calling thread, and the threads and processes that it starts, have the network
        of the head's host until ``shutdown``. The session that joins the cluster is started after the head, and by
        this thread. The transport is ``routed``, and the Redis server listens at the head's host, with TLS.

        Args:
            initialize_head: start the head at once.
            head_node_args: for ``add_node``.
            name: of the cluster.
            data_encryption: of objects between nodes, as for ``ray start``.
            isolation: ``netns`` if each node is on a host of its own.
            control_timeout_s: how long nodes wait for a control store that does not answer.
            same_host: nodes may read each other's stores, as those of one machine do; else as if each were on its own.
            options: {part: {option: value}} as for ``ray.init``.
            **parts: ``store``, ``transport``, ``scheduler`` and others as for ``ray.init``; ``control`` is ``redis``.

        Raises:
            TypeError, ValueError: an argument is of no use.
            OSError: there can be no network namespaces here; it says why.
        """
        if isolation not in ("process", "netns"):
            raise ValueError(f"isolation={isolation!r}: it is 'process' or 'netns'")
        self.name = checked.cluster_name(name)
        self._data_encryption = checked.encryption(data_encryption)
        self._same_host = checked.flag("same_host", same_host)
        self._control_timeout_s = checked.control_timeout(control_timeout_s)
        parts = checked.parts(parts)
        self._end = contextlib.ExitStack()
        self._end.callback(close_with_program(self.shutdown))
        self._keys = self._end.enter_context(tempfile.TemporaryDirectory(prefix="ray-keys-"))
        self._network: Network | None = None
        if isolation == "netns":
            self._network = Network()
            self._end.callback(self._network.close)
            parts = {"transport": "routed", **parts}
            options = {"control": {"host": self._network.address_of(0), "port": _CONTROL_PORT}, **(options or {})}
        self._far_keys = ""
        if parts.get("transport") == "routed":  # all nodes have the same keys
            self._far_keys = os.path.join(self._keys, "far-keys.json")
            access.write_private(self._far_keys, msgspec.json.encode(CurveKeys.fresh()).decode())
        self._parts = {"control": "redis", **parts}
        self._options = options or {}
        self.nodes: list[ClusterNode] = []
        self._numbers = itertools.count()
        if initialize_head:
            try:
                self.add_node(**(head_node_args or {}))
            except BaseException:
                self.shutdown()
                raise

    def __repr__(self) -> str:
        return f"Cluster({self.name!r}, nodes={[node.name for node in self.nodes]})"

    @property
    def head_node(self) -> ClusterNode:
        """The first node, which is the director.

        Raises:
            ValueError: there is none.
        """
        if not self.nodes:
            raise ValueError("the cluster has no node: Cluster(initialize_head=True), or add_node()")
        return self.nodes[0]

    @property
    def address(self) -> str:
        """What ``ray.init(address=...)`` takes."""
        return self.head_node.address

    def add_node(
        self,
        *,
        num_cpus: float = 1,
        num_gpus: int = 0,
        resources: Mapping[str, float] | None = None,
        object_store_memory: int = 64 << 20,
        labels: Mapping[str, str] | None = None,
        node_name: str = "",
    ) -> ClusterNode:
        """Start one more node, which is the head if it is the first; returns once it is one of the others.

        Raises:
            TypeError, ValueError: an argument is of no use.
            RaySystemError: it does not start, or the cluster refuses it.
        """
        host = self._network.add_host() if self._network is not None else None
        options = StartOptions(
            self._plan(LOOPBACK if host is None else host.address),
            num_cpus=quantity("num_cpus", num_cpus),
            num_gpus=whole_quantity("num_gpus", num_gpus),
            resources=custom_resources(resources),
            object_store_bytes=checked.store_bytes(object_store_memory),
        )
        number = next(self._numbers)
        name = checked.node_name(node_name) if node_name != "" else f"{self.name}-{number}"
        head = self.nodes[0].started if self.nodes else None
        config = ClusterConfig(
            self.name,
            head is None,
            control="" if head is None else self._control(head),
            node_name=name,
            labels=checked.labels(labels),
            data_encryption=self._data_encryption,
            host=LOOPBACK if host is None else host.address,
            control_timeout_s=self._control_timeout_s,
            same_host=self._same_host,
        )
        with contextlib.nullcontext() if host is None else host.entered():
            node = ClusterNode(StartedNode(options, config, "" if head is None else head.session), name, host)
        if head is None and host is not None:
            self._end.enter_context(host.entered())
        self.nodes.append(node)
        return node

    @property
    def plan(self) -> ResolvedPlan:
        """The parts of all nodes."""
        return self._plan(LOOPBACK)

    def _control(self, head: StartedNode) -> str:
        """How other nodes reach the control store: from other hosts by their network alone."""
        if self._network is None:
            return head.facts.control
        here = access.load(head.facts.control)
        with open(os.path.join(os.path.dirname(here.path), CERTIFICATE), encoding="ascii") as file:
            certificate = file.read()
        place = (self._network.address_of(0), _CONTROL_PORT)
        far = msgspec.structs.replace(here, path="", hosts=[place], tls=True, certificate=certificate)
        return access.save(far, os.path.join(self._keys, f"control-{len(os.listdir(self._keys))}"))

    def _plan(self, host: str) -> ResolvedPlan:
        """Of a node that listens at this address."""
        options = self._options
        if self._far_keys:
            options = {"transport": {"far_options": {"host": host, "key_file": self._far_keys}}, **options}
        return resolve_plan(**self._parts, options=options)  # type: ignore[arg-type]

    def on(self, node: ClusterNode) -> AbstractContextManager[None]:
        """Give this thread, and what it starts, the network of the node's host, for as long as the block takes."""
        return _host(node).entered()

    def partition(
        self, nodes: ClusterNode | Iterable[ClusterNode], direction: Literal["both", "in", "out"] = "both"
    ) -> AbstractContextManager[None]:
        """Drop what is sent between these nodes and all others: both ways, or only to them, or only from them.

        Args:
            nodes: one, or several, between which all goes on.
            direction: ``both``; ``in``: what is sent to them; ``out``: what they send.

        Raises:
            TypeError: what is given are no nodes.
            ValueError: there is no such direction, no node, or none with a network of its own.
        """
        if direction not in ("both", "in", "out"):
            raise ValueError(f"direction={direction!r}: it is 'both', 'in' or 'out'")
        given: Any = [nodes] if isinstance(nodes, ClusterNode) else nodes
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise TypeError(f"nodes={nodes!r}: give a node that add_node has returned, or a list of them")
        cut = list(given)
        if not cut:
            raise ValueError("nodes=[]: give at least one node that is to be cut off")
        hosts = [_host(node) for node in cut]
        others = [_host(node).address for node in self.nodes if node not in cut]
        return _parted(hosts if others else [], f"{{ {', '.join(others)} }}", direction)

    def delay(self, node: ClusterNode, seconds: float) -> AbstractContextManager[None]:
        """Have each frame to and from the node's host arrive so much later."""
        return _host(node).slowed(delay_s=delay_s(seconds))

    def loss(self, node: ClusterNode, share: float) -> AbstractContextManager[None]:
        """Lose this share of the frames to and from the node's host, 0 to 1."""
        return _host(node).slowed(loss=share_of_frames(share))

    def rate(self, node: ClusterNode, rate: str) -> AbstractContextManager[None]:
        """Let so much through, to and from the node's host, in a second: ``"10mbit"``, ``"500kbit"``."""
        return _host(node).slowed(bytes_per_s=bytes_per_s(rate))

    def remove_node(self, node: ClusterNode) -> None:
        """Stop a node as ``ray stop`` does."""
        self._check(node)
        node.started.stop()
        self.nodes.remove(node)

    def kill(self, node: ClusterNode) -> None:
        """Kill a node's manager; its survivor ends the rest."""
        self._check(node)
        os.kill(node.pid, signal.SIGKILL)
        node.started.stop()
        self.nodes.remove(node)

    def pause(self, node: ClusterNode) -> AbstractContextManager[None]:
        """Stop a node's manager for as long as the block takes."""
        self._check(node)
        return _paused(node.pid)

    def _check(self, node: ClusterNode) -> None:
        """See that it runs: its process id may be another's by now."""
        if node not in self.nodes:
            _host_of(node)
            names = ", ".join(each.name for each in self.nodes) or "none"
            raise ValueError(f"{node!r} is no node of this cluster any more, or is one of another; there are: {names}")

    def wait_for_nodes(self, count: int | None = None, timeout: float | None = 30.0) -> None:
        """Wait until every node knows of so many that are alive, itself among them.

        Args:
            count: None: of all that were started and not ended.
            timeout: in seconds; None: as long as it takes.

        Raises:
            TimeoutError: it takes longer; it says which nodes know of fewer or more.
            TypeError, ValueError: an argument is of no use.
        """
        wanted = len(self.nodes) if count is None else node_count("count", count)
        timeout_s = seconds("timeout", timeout)
        end = math.inf if timeout_s is None else monotonic() + timeout_s
        while True:
            known = {node.name: sum(row["Alive"] for row in node.ask("nodes")) for node in self.nodes}
            if all(each == wanted for each in known.values()):
                return
            if monotonic() > end:
                shown = ", ".join(f"{name} of {each}" for name, each in known.items() if each != wanted)
                raise TimeoutError(f"after {timeout_s:g} s, not all nodes know of {wanted} that are alive: {shown}")
            sleep(_LOOK_S)

    def shutdown(self) -> None:
        """Stop all nodes, the head last. Idempotent."""
        while self.nodes:
            self.nodes.pop().started.stop()
        self._end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()


def _host(node: ClusterNode) -> Host:
    """Its host; TypeError: it is no node, ValueError: it has none of its own."""
    host = _host_of(node)
    if host is None:
        raise ValueError("the node has no network of its own: Cluster(isolation='netns')")
    return host


def _host_of(node: ClusterNode) -> Host | None:
    if not isinstance(node, ClusterNode):
        raise TypeError(f"node={node!r}: give a node that add_node has returned, or head_node")
    return node.host


@contextlib.contextmanager
def _parted(hosts: Iterable[Host], others: str, direction: str) -> Iterator[None]:
    """``others``: the addresses of hosts, as nft has a set of them."""
    with contextlib.ExitStack() as stack:
        for host in hosts:
            if direction != "in":
                stack.enter_context(host.dropping(f"ip daddr {others}"))
            if direction != "out":
                stack.enter_context(host.dropping(f"ip saddr {others}", "input"))
        yield


@contextlib.contextmanager
def _paused(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
