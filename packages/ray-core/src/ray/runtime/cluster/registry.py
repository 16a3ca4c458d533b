"""The state of record of a cluster, in its control store: what it is, and which nodes it has and had."""

from __future__ import annotations

import os

import msgspec

from ray.abc.blocking_control import BlockingControl
from ray.abc.control import ControlStore
from ray.abc.control_operations import Claim, Get, Incr, Keys, Put
from ray.clock import monotonic, sleep
from ray.exceptions import RayConnectionError, RaySystemError
from ray.ids import node_bytes
from ray.messages.cluster import KeptDirector, NodeRecord
from ray.plugins.plan import ResolvedPlan
from ray.protocol.director import DIRECTOR, FENCE, NODES, decode_director, decode_node
from ray.protocol.membership import ALIVE

_META = "meta"
#: The numbers of nodes and terms begin anywhere below, so that those of a store that has lost its data are known.
_FIRST_BITS = 30
#: A new head directs within this time, or there is none.
_HEAD_S = 6.0
_LOOK_S = 0.2


class Meta(msgspec.Struct, frozen=True):
    """What all nodes of a cluster have in common."""

    session: str
    protocol: int
    python: str
    plan: str
    digest: str
    data_encryption: str = "auto"
    """Of objects between nodes, as the head was told."""

    def check(self, other: Meta) -> None:
        """See that a node of which ``other`` is true fits this cluster.

        Raises:
            RaySystemError: it does not; the text says in what.
        """
        for what, ours, theirs in (
            ("protocol", self.protocol, other.protocol),
            ("Python", self.python, other.python),
        ):
            if ours != theirs:
                raise RaySystemError(f"the nodes of the cluster have {what} {ours}, and this one {theirs}")
        if self.digest != other.digest:
            parts = ResolvedPlan.from_json(self.plan).differences(ResolvedPlan.from_json(other.plan))
            raise RaySystemError(
                f"the nodes of the cluster have other parts than this one: {'; '.join(parts)}. Install the same "
                "packages here, and choose the same parts: by the environment, such as RAY_STORE, or in ray.toml"
            )


class Registry:
    """What is found out before the node manager serves, so that it may be waited for."""

    def __init__(self, control: ControlStore) -> None:
        self._control = BlockingControl(control)

    def found(self, meta: Meta) -> None:
        """There is a new cluster, or its head starts again.

        Raises:
            RayConnectionError: there is another one in this store.
        """
        if not self._control.ask(Put(_META, msgspec.json.encode(meta), overwrite=False)) and self.meta() != meta:
            raise RayConnectionError("the control store holds the facts of another cluster")
        first = int.from_bytes(os.urandom(4), "big") >> 32 - _FIRST_BITS
        self._control.ask(Claim(FENCE, None, b"%d" % first))

    def meta(self) -> Meta:
        """What the cluster is.

        Raises:
            RayConnectionError: there is none.
        """
        data = self._control.ask(Get(_META))
        if data is None:
            raise RayConnectionError("the control store knows of no cluster: its head has not started, or has ended")
        return msgspec.json.decode(data, type=Meta)

    def next_node(self) -> bytes:
        """A number for a node, which no other one has had."""
        return node_bytes(self._control.ask(Incr(FENCE)))

    def director(self) -> KeptDirector:
        """The node that lets others in; if it has ended, its place is soon taken.

        Raises:
            RayConnectionError: there is none.
        """
        end = monotonic() + _HEAD_S
        while True:
            data = self._control.ask(Get(DIRECTOR))
            if data is not None:
                return decode_director(data)
            if monotonic() > end:
                raise RayConnectionError("the cluster has no director: its head has not started, or has ended")
            sleep(_LOOK_S)

    def alive_nodes(self) -> list[NodeRecord]:
        """The nodes that are alive."""
        found = [self._control.ask(Get(key)) for key in self._control.ask(Keys(NODES))]
        kept = [decode_node(data) for data in found if data is not None]
        return [each.record for each in kept if each.state == ALIVE]
