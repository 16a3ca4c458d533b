"""A look into a session from a program that is no part of it."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from ray.abc.store import Store
from ray.clock import monotonic
from ray.exceptions import NodeDiedError, RayConnectionError
from ray.messages import codec, node
from ray.plugins.compose import Composition
from ray.plugins.plan import ResolvedPlan
from ray.protocol import handshake
from ray.runtime.process.session_dirs import SessionFacts


class SessionObserver:
    """Asks the node manager and the processes of a session, and may open its store. Not thread-safe; close it."""

    def __init__(self, session_dir: str, facts: SessionFacts) -> None:
        """Connect.

        Raises:
            ConnectionError: the session has ended, or is about to.
        """
        self.facts = facts
        self._composition = Composition(ResolvedPlan.from_json(facts.plan))
        self._transport = self._composition.open_transport(session_dir)
        self._number = 0
        try:
            self._connection = self._transport.connect(facts.address)
        except BaseException:
            self._transport.close()
            raise
        membership = handshake.Membership(facts.session, digest=self._composition.plan.digest)
        self._hello = codec.encode(handshake.hello(membership, "observer", b"", "", os.getpid()))
        self._connection.send((self._hello,))

    def ask(self, what: str, timeout_s: float = 5.0) -> Any:
        """The decoded answer to a question.

        Raises:
            NodeDiedError: the node manager went away.
            TimeoutError: it does not answer.
        """
        self._number += 1
        self._connection.send((codec.encode(node.Question(self._number, what)),))
        deadline = monotonic() + timeout_s
        while (left_s := deadline - monotonic()) > 0:
            for _, frames in self._transport.poll(left_s):
                if frames is None:
                    raise NodeDiedError(self.facts.address, "the session has ended")
                message = codec.decode(frames)
                if isinstance(message, node.Answer) and message.request == self._number:
                    if not message.ok:
                        raise RayConnectionError(message.error)
                    return msgspec.msgpack.decode(message.data)
        raise TimeoutError(f"the node manager of session {self.facts.session} does not answer")

    def holders(self, ids: list[bytes], addresses: list[str], timeout_s: float = 3.0) -> dict[str, set[bytes]]:
        """Which of some objects the processes at some addresses have references to.

        Returns:
            ``{address: ids}`` of those that answer in time; one that computes without a pause does not.
        """
        self._number += 1
        question = codec.encode(node.Question(self._number, "held", msgspec.msgpack.encode(ids)))
        asked, found = {}, {}
        for address in addresses:
            try:
                connection = self._transport.dial(address)
                connection.send((self._hello,))
                connection.send((question,))
            except ConnectionError:  # it has ended meanwhile, and holds nothing
                found[address] = set[bytes]()
                continue
            asked[connection] = address
        deadline = monotonic() + timeout_s
        while asked and (left_s := deadline - monotonic()) > 0:
            for connection, frames in self._transport.poll(left_s):
                message = node.Answer(self._number, True, b"\x90") if frames is None else codec.decode(frames)
                if connection in asked and isinstance(message, node.Answer) and message.request == self._number:
                    found[asked.pop(connection)] = set(msgspec.msgpack.decode(message.data, type=list[bytes]))
        return found

    @property
    def store_name(self) -> str:
        """Name of the store in the session's plan."""
        return self._composition.plan.store.name

    def open_store(self) -> Store:
        """A client of the session's store; the caller closes it."""
        return self._composition.open_store(self.facts.store_address)

    def close(self) -> None:
        """Disconnect. Idempotent."""
        self._transport.close()
