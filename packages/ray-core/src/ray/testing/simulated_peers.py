"""What a simulated process has of its connections; stands for ``ray.runtime.process.peers.PeerTable``."""

from __future__ import annotations

from typing import Any

from ray.runtime.process.peers import Again, Peer
from ray.testing.simulated_world import Ways, World


class _Way:
    """Stands for a connection of a transport: messages are encoded, and decoded where they arrive."""

    def __init__(self, connections: Ways, here: str, there: str) -> None:
        self._connections = connections
        self._here = here
        self._there = there

    def send(self, frames: Any) -> None:
        """Send one message."""
        self._connections.send(self._here, self._there, tuple(frames))
        if isinstance(frames, list):
            frames[0] = None  # it is with the transport


class SimulatedPeers:
    """The other processes that one knows."""

    def __init__(self, world: World, here: str) -> None:
        self._world = world
        self._here = here
        #: {process id: peer}
        self.by_process: dict[bytes, Peer] = {}
        #: Values are kept by none of them.
        self.knows_far = False
        #: Those whose dial is decided, by whom it was asked for.
        self._decided: set[object] = set()

    def of(self, process: bytes, address: str) -> Peer:
        """The peer of that id, which a message came from."""
        peer = self.by_process.get(process)
        if peer is None:
            self._world.connections.connect(self._here, address)
            way: Any = _Way(self._world.connections, self._here, address)
            peer = self.by_process[process] = Peer(way, process, address)
        return peer

    def reach(self, process: bytes, address: str) -> Peer:
        """The peer of that id, to send it something.

        Raises:
            ConnectionError: it is dead.
        """
        if process not in self.by_process and address not in self._world.connections.ends:
            raise ConnectionError(f"nobody is at {address}")
        return self.of(process, address)

    def stand(
        self, process: bytes, address: str, key: object, again: Again, failure: ConnectionError | None
    ) -> Peer | None:
        """The same; at times it takes a while, and ``again`` is called then."""
        world = self._world
        if failure is not None:
            raise failure
        if process not in self.by_process and key not in self._decided and world.rng.random() < world.behaviour.dials:
            self._decided.add(key)
            world.clock.after(world.rng.uniform(0.0, 0.05), self._decide, address, key, again)
            return None
        return self.reach(process, address)

    def _decide(self, address: str, key: object, again: Again) -> None:
        connections = self._world.connections
        if self._here in connections.ends:
            again(None if address in connections.ends else ConnectionError(f"nobody is at {address}"))
            self._decided.discard(key)

    def forget(self, process: bytes) -> Peer | None:
        """The connection is lost."""
        peer = self.by_process.pop(process, None)
        if peer is not None:
            peer.lost = True
        return peer
