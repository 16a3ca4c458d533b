"""A driver on a machine without a node: a node of another machine is its home, and no process is started here."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from typing import Any

import msgspec

from ray.exceptions import RayConnectionError
from ray.ids import embedded_node, node_number
from ray.messages.cluster import NodeRecord
from ray.messages.codec import PROTOCOL_VERSION
from ray.plugins.compose import Composition
from ray.plugins.plan import ResolvedPlan
from ray.plugins.planning import resolve_plan
from ray.runtime.cluster.control_access import control_address
from ray.runtime.cluster.far_keys import with_far_keys
from ray.runtime.cluster.key_folder import FoundKey
from ray.runtime.cluster.own_host import host_towards
from ray.runtime.cluster.places import parse_place
from ray.runtime.cluster.registry import Meta, Registry
from ray.runtime.driver.joined_node import check_choice, check_python
from ray.runtime.driver.leaving import NodeLeavesError
from ray.runtime.process import hardware
from ray.runtime.process.node_start import ClusterConfig, NodeFacts
from ray.runtime.process.session_dirs import create_session_dir, new_session_id, place_session, remove_session_dir
from ray.runtime.start_options import JoinOptions

_REACH_S = 2.0


class GuestNode:
    """Implements ``Hosting``.

    The driver gets its id from its home, as others there do. Its address has a number of its own, by which everybody
    sees that it is on another machine; its values are in its own memory.
    """

    is_owner = False
    is_guest = True

    def __init__(self, options: JoinOptions, key: FoundKey) -> None:
        """Ask the control server what the cluster is.

        Raises:
            RayConnectionError: its nodes cannot be reached from here, or this program does not fit them.
            IncompatiblePluginsError: the session has other plugins than the program has chosen.
        """
        meta, self._nodes = _read(key)
        self._key = key
        self.session = meta.session
        check_python(self.session, meta.python)
        if meta.protocol != PROTOCOL_VERSION:
            raise RayConnectionError(
                f"the nodes of the cluster {key.key.name!r} have protocol {meta.protocol}, and this program "
                f"{PROTOCOL_VERSION}: install the same release of ray-core"
            )
        plan = ResolvedPlan.from_json(meta.plan)
        check_choice(options, plan)
        try:
            self._host = host_towards(key.key.place)
        except OSError as error:
            raise RayConnectionError(f"There is no way from this machine to {key.key.place}: {error}") from None
        self.session_dir = place_session(new_session_id())
        create_session_dir(self.session_dir, os.getpid())
        try:
            cluster = ClusterConfig(key.key.name, False, key_file=key.path, host=self._host)
            self.plan = _for_guests(with_far_keys(plan, cluster, self.session_dir), plan.digest)
        except BaseException:
            self.clear_away()
            raise

    def begin(self) -> None:
        """See ``Hosting``: nothing runs here."""

    def await_facts(self) -> NodeFacts:
        """See ``Hosting``: any node that is reached is the home."""
        transport = Composition(self.plan).open_transport(self.session_dir, 0)
        try:
            home = self._reached([(node, transport.contacts(node.address)[-1]) for node in self._nodes])
        finally:
            transport.close()
        return NodeFacts(
            home.address,
            f"heap:{hardware.memory_limit_bytes()}",
            bool(self.plan.observers),
            node=node_number(embedded_node()),
            host=self._host,
            cluster=str(self._key.key.place),
            home=home.name or home.node_id,
        )

    def _reached(self, nodes: list[tuple[NodeRecord, str]]) -> NodeRecord:
        """A node that can be reached.

        Raises:
            RayConnectionError: none can.
        """
        failures, is_refused = [], False
        for node, contact in random.sample(nodes, len(nodes)):
            place = parse_place(contact.partition("://")[2])
            if place is None:
                failures.append(f"{node.name} listens for its own machine only")
                continue
            try:
                socket.create_connection(place, _REACH_S).close()
            except OSError as error:
                failures.append(f"{node.name} at {place}: {error}")
                is_refused |= isinstance(error, ConnectionRefusedError)
            else:
                return node
        shown = "; ".join(failures[:5]) or "there is none"
        text = f"No node of cluster {self._key.key.name!r} can be reached from this machine: {shown}"
        raise (NodeLeavesError if is_refused else RayConnectionError)(text)

    def how_it_ended(self, patience_s: float) -> str:
        """See ``Hosting``: it is not of this machine."""
        return ""

    def log_tail(self) -> str:
        """See ``Hosting``: it is not of this machine."""
        return ""

    def why_it_ended(self) -> str:
        """See ``Hosting``: it is not of this machine."""
        return ""

    def lost(self, *, orderly: bool) -> None:
        """See ``Hosting``."""

    def end(self) -> None:
        """See ``Hosting``."""

    def clear_away(self) -> None:
        """See ``Hosting``."""
        remove_session_dir(self.session_dir)

    def after_fork_in_child(self) -> None:
        """See ``Hosting``."""


def _read(found: FoundKey) -> tuple[Meta, list[NodeRecord]]:
    key = found.key
    own: dict[str, Any] = {"control": {"name": key.name, "url": key.control[0]}}
    composition = Composition(resolve_plan(control="redis", options=own))
    with control_address(key) as address, contextlib.closing(composition.open_control(address)) as control:
        registry = Registry(control)
        return registry.meta(), registry.alive_nodes()


def _for_guests(plan: ResolvedPlan, digest: str) -> ResolvedPlan:
    """The same, with values in this process's own memory."""
    heap = resolve_plan(store="heap")
    parts = {**plan.parts, "store": heap.store}
    if heap.selector is None:
        parts.pop("selector", None)
    else:
        parts["selector"] = heap.selector
    return msgspec.structs.replace(plan, parts=parts, stands_for=digest)
