"""Where a process is reached from other nodes: it listens for them once one wants to dial it."""

from __future__ import annotations

from ray.abc.transport import Transport
from ray.exceptions import PluginError
from ray.messages import finding
from ray.runtime.owner.here import Here
from ray.runtime.process.node_link import NodeLink
from ray.runtime.process.peers import PeerTable


class Reachable:
    """Of one process; on the thread that polls."""

    def __init__(self, transport: Transport, here: Here, peers: PeerTable, link: NodeLink) -> None:
        self._transport = transport
        self._here = here
        self._peers = peers
        self._link = link

    def listen(self, message: finding.ListenFar) -> None:
        """Listen, and tell the node manager where. From now on this process gives that address away."""
        try:
            address = self._transport.listen_far(self._here.address)
        except (OSError, PluginError) as error:
            self._link.send(finding.Listens("", str(error)))
            return
        self._here.address = self._peers.address = address
        self._link.send(finding.Listens(address))
