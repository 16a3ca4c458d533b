"""The state of record of a cluster, in its control store: what it is, and which nodes it has and had."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from ray.abc.blocking_control import BlockingControl
from ray.abc.control import ControlStore
from ray.abc.control_operations import Get, Incr, Operation, Put, StreamAppend
from ray.exceptions import ControlStoreError, RayConnectionError, RaySystemError
from ray.ids import node_bytes
from ray.messages.cluster import NodeRecord
from ray.plugins.plan import ResolvedPlan
from ray.protocol.membership import ALIVE, DEAD

T = TypeVar("T")

_META, _FENCE, _DIRECTOR, _CHANGES = "meta", "fence", "director", "changes"
#: Records of dead nodes are kept for so long.
_DEAD_S = 3600.0


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


class Standing(msgspec.Struct, frozen=True):
    """What is kept of a node."""

    number: int
    name: str
    address: str
    hostname: str
    state: str
    cause: str = ""


class Registry:
    """Of one node manager. What blocks is called before the node manager serves; nothing else waits."""

    def __init__(self, control: ControlStore, say: Callable[[str], None]) -> None:
        self._control = control
        self._say = say
        #: Told of the number of a node that has died, as its ids begin.
        self.on_dead: Callable[[bytes], None] = lambda node: None

    # --- before the node manager serves -------------------------------------------------------------------------------

    def found(self, meta: Meta) -> None:
        """There is a new cluster, or its head starts again.

        Raises:
            RayConnectionError: there is another one in this store.
        """
        blocking = BlockingControl(self._control)
        if not blocking.ask(Put(_META, msgspec.json.encode(meta), overwrite=False)) and self.meta() != meta:
            raise RayConnectionError("the control store holds the facts of another cluster")

    def meta(self) -> Meta:
        """What the cluster is.

        Raises:
            RayConnectionError: there is none.
        """
        data = BlockingControl(self._control).ask(Get(_META))
        if data is None:
            raise RayConnectionError("the control store knows of no cluster: its head has not started, or has ended")
        return msgspec.json.decode(data, type=Meta)

    def next_node(self) -> bytes:
        """A number for a node, which no other one has had."""
        number = BlockingControl(self._control).ask(Incr(_FENCE))
        return node_bytes(number)

    def director(self) -> NodeRecord:
        """The node that lets others in.

        Raises:
            RayConnectionError: there is none.
        """
        data = BlockingControl(self._control).ask(Get(_DIRECTOR))
        if data is None:
            raise RayConnectionError("the cluster has no director: its head has not started, or has ended")
        return msgspec.msgpack.decode(data, type=NodeRecord)

    # --- while it serves ----------------------------------------------------------------------------------------------

    def direct(self, record: NodeRecord) -> None:
        """This node is the director."""
        self._write(Put(_DIRECTOR, msgspec.msgpack.encode(record)))

    def alive(self, record: NodeRecord) -> None:
        """See ``Facts``."""
        self._keep(record, ALIVE, "", None)

    def dead(self, record: NodeRecord, cause: str) -> None:
        """See ``Facts``."""
        self._keep(record, DEAD, cause, _DEAD_S)
        self.on_dead(node_bytes(record.number))

    def _keep(self, record: NodeRecord, state: str, cause: str, ttl_s: float | None) -> None:
        kept = Standing(record.number, record.name, record.address, record.hostname, state, cause)
        self._write(Put(f"node:{record.number}", msgspec.json.encode(kept), ttl_s=ttl_s))
        self._write(StreamAppend(_CHANGES, f"node {record.number} {state}".encode()))

    def _write(self, op: Operation[T]) -> None:
        def on_answer(answer: T | ControlStoreError) -> None:
            if isinstance(answer, ControlStoreError):
                self._say(f"the control store does not have {op.key}: {answer}")

        self._control.ask(op, on_answer)
