"""Connections to processes of other nodes that were lost: what is said goes on by a new one, while both ends live.

A lost connection is a question, which the node manager of the other process answers. If that process has ended, it is
lost, as one of this node is with its connection. If it lives, the end that has dialled does so again, and what the
other one lacks is said once more. Called under the runtime's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ray.abc.transport import Connection, Frame
from ray.clock import monotonic
from ray.messages import finding, node, wire
from ray.runtime.process.kept_connection import RECONNECT_S

if TYPE_CHECKING:
    from ray.runtime.owner.here import Here
    from ray.runtime.process.node_link import NodeLink
    from ray.runtime.process.peers import Peer, PeerTable
    from ray.runtime.process.timers import Timers

#: Pauses between two tries: the first, and the longest.
_AGAIN_S, _MAX_AGAIN_S = 0.02, 1.0


class Reconnecting:
    """Of one process. Implements ``Conversations``."""

    def __init__(
        self,
        here: Here,
        peers: PeerTable,
        timers: Timers,
        node_link: NodeLink,
        give_up: Callable[[Peer], None],
    ) -> None:
        """Nothing is lost.

        Args:
            here: this process.
            peers: the others.
            timers: the runtime's.
            node_link: the node manager is asked what has become of them.
            give_up: told of a peer that is lost for good.
        """
        self._here = here
        self._peers = peers
        self._timers = timers
        self._node = node_link
        self._give_up = give_up

    # --- what is said -------------------------------------------------------------------------------------------------

    def took(self, peer: Peer, number: int, frames: Sequence[Frame]) -> None:
        """See ``Conversations``."""
        if peer.talk is not None:
            peer.talk.took(number, frames, self._timers.after)

    def on_got(self, peer: Peer, message: wire.Got, frames: Sequence[Frame]) -> None:
        """It confirms what it has."""
        if peer.talk is not None:
            peer.talk.conversation.confirmed(message.have, message.ahead)

    # --- losses -------------------------------------------------------------------------------------------------------

    def broken(self, peer: Peer, connection: Connection) -> bool:
        """See ``Conversations``."""
        talk = peer.talk
        if talk is None or talk.is_over or peer.lost or not peer.stands or self._here.closed:
            return False
        if connection is talk.trying:
            talk.trying = None  # it is tried again when its time has come
            return True
        if not talk.is_open or (connection is not talk.inner and connection is not peer.second):
            return True  # another one has taken its place
        self._peers.resuming.break_off(peer)
        self._ask(peer, talk.losses, _AGAIN_S)
        return True

    def _ask(self, peer: Peer, loss: int, pause_s: float) -> None:
        told = partial(self._told, peer, loss, pause_s)
        self._node.request_later(lambda request: finding.Lives(request, peer.process), told)

    def _is_over(self, peer: Peer, loss: int) -> bool:
        """Whether nothing is to be done about that loss any more."""
        talk = peer.talk
        return talk is None or talk.is_open or talk.is_over or peer.lost or talk.losses != loss or self._here.closed

    def _told(self, peer: Peer, loss: int, pause_s: float, answer: node.Answer) -> None:
        """Its node manager has said whether it lives."""
        talk = peer.talk
        if talk is None or self._is_over(peer, loss):
            return
        if not answer.ok or monotonic() - talk.lost_at > RECONNECT_S:
            self._lose(peer)
            return
        if talk.trying is None and self._peers.resuming.is_to_dial(peer):
            try:
                self._peers.resuming.dial(peer)
            except ConnectionError:
                talk.trying = None
        self._timers.after(pause_s, lambda: self._again(peer, loss, pause_s))

    def _again(self, peer: Peer, loss: int, pause_s: float) -> None:
        if not self._is_over(peer, loss):
            self._ask(peer, loss, min(2 * pause_s, _MAX_AGAIN_S))

    def on_resumed(self, peer: Peer, message: wire.GoesOn, frames: Sequence[Frame]) -> None:
        """It has answered the new call."""
        if not self._peers.resuming.answered(peer, message):
            self._lose(peer)

    def on_forgotten(self, peer: Peer, message: wire.Forgotten, frames: Sequence[Frame]) -> None:
        """It does not go on."""
        if not peer.lost:
            self._lose(peer)

    def _lose(self, peer: Peer) -> None:
        if peer.talk is not None:
            peer.talk.abort()
        self._give_up(peer)
