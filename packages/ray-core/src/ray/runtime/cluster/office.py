"""A director's dealings with the control store: its right to direct, and what it writes of nodes. It never waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ray.abc.control import ControlStore
from ray.abc.control_operations import Get, Keys, Operation
from ray.clock import boottime
from ray.exceptions import ControlStoreError
from ray.messages.cluster import KeptDirector, KeptNode, NodeRecord
from ray.protocol.director import AGAIN_S, NODES, Ledger, Mandate, News
from ray.runtime.process.timers import Timers

#: What has no answer after so long is asked again.
_ANSWER_S = 2.0


class Office:
    """Of a node manager that directs, or wants to."""

    #: Told when a term begins, of what is known of nodes; set before ``turn`` is called first.
    on_term: Callable[[list[KeptNode]], None]
    #: Told what the store says of nodes.
    on_news: Callable[[News], None]

    def __init__(self, control: ControlStore, record: NodeRecord, ended: int, timers: Timers) -> None:
        """Ask for nothing yet.

        Args:
            control: the state of record.
            record: of this node.
            ended: number of a node that directed, and has certainly ended; 0: none is known of.
            timers: of this node manager.
        """
        self._control = control
        self._timers = timers
        self._mandate = Mandate(record, (ended,))
        self._ledger = Ledger()
        #: The number of the term whose records were read.
        self.term = 0

    @property
    def holds(self) -> bool:
        """Whether this node may decide: it has a term, and knows what earlier ones have left."""
        return self._mandate.holds and self.term == self._mandate.term

    def right(self) -> bytes:
        """See ``Mandate``; empty before it is known what earlier directors have left."""
        return self._mandate.right if self.holds else b""

    @property
    def other(self) -> KeptDirector | None:
        """Who directs instead of this node, as far as is known."""
        return self._mandate.other

    def doubt(self) -> None:
        """This node has stood still: see ``Mandate.doubt``."""
        self._mandate.doubt()
        self.turn()

    def outranked(self, term: int) -> None:
        """A director of this term is heard of: see ``Mandate.outranked``."""
        self._mandate.outranked(term)
        self.turn()

    def keep(self, record: NodeRecord, state: str, cause: str = "", *, certain: bool = True) -> None:
        """See ``Ledger.keep``."""
        self._ledger.keep(record, state, cause, certain=certain)
        self.turn()

    def dooms(self, number: int) -> bool:
        """See ``Ledger.dooms``."""
        return self._ledger.dooms(number)

    def forget(self, number: int) -> None:
        """See ``Ledger.forget``."""
        self._ledger.forget(number)

    def turn(self) -> None:
        """Ask the store for what is due."""
        op = self._mandate.ask(boottime())
        if op is not None:
            self._ask(op, self._answered)
        if self.holds:
            for number, question in self._ledger.ask():
                self._ask(question, partial(self._noted, number))

    def _ask(self, op: Operation[Any], on_answer: Callable[[Any], None]) -> None:
        self._control.ask(op, on_answer, timeout_s=_ANSWER_S)

    def _answered(self, answer: Any) -> None:
        before = self._mandate.term
        self._mandate.answered(answer, boottime())
        if self._mandate.term not in (0, before):
            self._read()
        self.turn()

    def _noted(self, number: int, answer: Any) -> None:
        news = self._ledger.answered(number, answer)
        if news is not None:
            self.on_news(news)
        if not isinstance(answer, ControlStoreError):  # else it is tried again with the next turn
            self.turn()

    # --- the beginning of a term --------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read what earlier directors have left."""
        self._ask(Keys(NODES), partial(self._listed, self._mandate.term))

    def _listed(self, term: int, keys: Sequence[str] | ControlStoreError) -> None:
        if self._mandate.term != term:
            return
        if isinstance(keys, ControlStoreError):
            self._again(term)
            return
        found: dict[int, bytes] = {}
        left = set(keys)

        def got(key: str, value: bytes | ControlStoreError | None) -> None:
            if isinstance(value, bytes):
                found[int(key.removeprefix(NODES))] = value
            elif value is not None:
                left.add("")  # it is unknown what is there: all is read again
            left.discard(key)
            if not left:
                self._begin(term, found)
            elif left == {""}:
                self._again(term)

        for key in keys:
            self._ask(Get(key), partial(got, key))
        if not keys:
            self._begin(term, found)

    def _again(self, term: int) -> None:
        self._timers.after(AGAIN_S, lambda: self._read() if self._mandate.term == term else None)

    def _begin(self, term: int, found: dict[int, bytes]) -> None:
        if self._mandate.term != term:
            return
        known = self._ledger.begin(term, found)
        self.outranked(max((kept.term for kept in known), default=0))
        if self._mandate.term == term:
            self.term = term
            self.on_term(known)
            self.turn()
