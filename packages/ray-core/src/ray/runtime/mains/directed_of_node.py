"""The parts of a node manager for actors that the director keeps."""

from __future__ import annotations

from ray.abc.control import ControlStore
from ray.ids import node_bytes
from ray.runtime.cluster.actor_book import ActorBook
from ray.runtime.cluster.belonging import Belonging
from ray.runtime.cluster.borrowing import LeaseBorrowing
from ray.runtime.cluster.members import Members
from ray.runtime.cluster.names import ActorNames
from ray.runtime.cluster.office import Office
from ray.runtime.cluster.orders import Orders
from ray.runtime.cluster.sealing import Seal
from ray.runtime.cluster.watching import ActorWatching
from ray.runtime.node.directed import Directed
from ray.runtime.node.directed_actors import DirectedActors
from ray.runtime.node.hosted_actors import HostedActors
from ray.runtime.node.node import NodeManager
from ray.runtime.node.processes import NodeProcesses
from ray.runtime.process.node_start import ClusterConfig

#: The store's own troubles are told before that of a director which waits for it.
_GRACE_S = 2.0


class _Rest:
    """What is known of the rest. Implements ``Cluster``."""

    def __init__(self, own: bytes, belonging: Belonging, office: Office) -> None:
        self._own = own
        self._belonging = belonging
        self._office = office

    def term(self) -> int:
        """See ``Cluster``."""
        return self._office.term

    def alive(self) -> set[bytes]:
        """See ``Cluster``."""
        return {self._own, *(node_bytes(record.number) for record in self._belonging.others)}


class DirectedParts:
    """Makes them, and has what others need to know of them."""

    def __init__(
        self,
        manager: NodeManager,
        config: ClusterConfig,
        control: ControlStore,
        members: Members,
        processes: NodeProcesses,
        office: Office | None,
    ) -> None:
        """Nothing is made yet.

        Args:
            manager: of this node.
            config: of the cluster.
            control: the state of record.
            members: the other nodes.
            processes: of this node.
            office: the right to direct, if this node has it, or is to have it.
        """
        self._manager = manager
        self._config = config
        self._control = control
        self._members = members
        self._processes = processes
        self._office = office
        self._keeper: DirectedActors | None = None

    def term_begins(self) -> None:
        """This node directs from now on, or again."""
        if self._keeper is not None:
            self._keeper.begin()

    def make(self, belonging: Belonging, borrowing: LeaseBorrowing, watching: ActorWatching) -> Directed:
        """Make the parts, once there are those that they work with."""
        manager, config, processes = self._manager, self._config, self._processes
        seal = Seal.of(config.key_file, manager.config.session)
        limit_s = config.control_timeout_s
        names = ActorNames(self._control, seal, limit_s, _say)
        hosted = HostedActors(manager.leases, manager.actors, manager.pool, processes)
        processes.leads = lambda home: home == hosted.director
        manager.actors.records = hosted
        office = self._office
        if office is not None:
            book = ActorBook(self._control, seal, manager.timers, office.right, limit_s, _say)
            rest = _Rest(manager.node, belonging, office)
            self._keeper = DirectedActors(manager.actors, book, self._members, processes, rest, borrowing)
            manager.actors.records = self._keeper
        orders = Orders(
            lambda: node_bytes(belonging.director_number), self._members, borrowing, manager.timers, limit_s + _GRACE_S
        )
        return Directed(orders, watching, names, hosted, self._keeper)


def _say(text: str) -> None:
    print(text, flush=True)
