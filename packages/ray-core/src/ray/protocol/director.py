"""The right to direct a cluster, and what its director writes down: two pure machines over the control store.

A director holds the key ``director`` for a time, which it renews. Each of its terms has a number that is higher than
those of all before, and every order carries it: a node that has heard of a higher one obeys no lower one.

What a director decides of a node it writes at the node's key, if that still holds what it knows; and a director that
is new first writes each of these keys anew, with its own term. So a verdict of an earlier director, however late it
comes, finds another value than it expects, and is none. Verdicts for silence count once they are written. A node that
no director hears may write at its own key as well, see ``Proof`` of ``membership``: it is not silent then.

Invariants (see the tests, which let many of each live at random):
- no two terms have the same number, and a director that hears of a higher one takes one that is higher still;
- what is dead in the store stays dead;
- a node that has shown in the store that it lives is declared dead for silence only ``DEAD_S`` after that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from ray.abc.control_operations import Claim, Get, Incr, Operation
from ray.exceptions import ControlStoreError
from ray.messages.cluster import KeptDirector, KeptNode, NodeRecord
from ray.protocol.membership import ALIVE, DEAD

DIRECTOR, FENCE, NODES = "director", "fence", "node:"
#: A director that does not renew its right for so long has none.
LEASE_S = 5.0
RENEW_S = 1.0
#: What the store could not do, or somebody else has, is asked for again after so long.
AGAIN_S = 0.5
#: Records of dead nodes are kept for so long.
DEAD_KEPT_S = 3600.0

encode = msgspec.msgpack.encode
decode_director = msgspec.msgpack.Decoder(KeptDirector).decode
decode_node = msgspec.msgpack.Decoder(KeptNode).decode

_LOOK, _COUNT, _CLAIM, _RENEW = "look", "count", "claim", "renew"


def node_key(number: int) -> str:
    """Where the store has what is known of a node."""
    return f"{NODES}{number}"


class Mandate:
    """One node's right to direct the others. At most one question to the store is under way."""

    def __init__(self, record: NodeRecord, ended: Iterable[int] = ()) -> None:
        """This node wants it, and has it not.

        Args:
            record: of this node.
            ended: numbers of nodes that have certainly ended, so that their right need not be waited for.
        """
        self._record = record
        self._ended = frozenset(ended)
        #: The number of this node's term; 0 while it does not direct.
        self.term = 0
        #: Who directs instead, as far as this node knows.
        self.other: KeptDirector | None = None
        self._is_doubtful = False
        self._step = self._asked_step = _LOOK
        self._is_asked = False
        self._due = float("-inf")
        #: What the key holds, and what it is to hold.
        self._found: bytes | None = None
        self._value = b""
        #: The highest number of a term, or of a node, that this one has heard of.
        self._highest = record.number
        self._next_term = 0

    @property
    def holds(self) -> bool:
        """Whether this node directs, as far as it can know; while the store says nothing, nobody else can."""
        return self.term > 0 and not self._is_doubtful

    @property
    def right(self) -> bytes:
        """What the key holds while this node directs; empty while it does not, as far as it can know."""
        return self._value if self.holds else b""

    def doubt(self) -> None:
        """This node has stood still: before it decides anything, it has to renew its right."""
        self._is_doubtful, self._due = True, float("-inf")

    def outranked(self, term: int) -> None:
        """There was a director with a higher term, which nodes obey: this one needs a higher one still."""
        if term <= self.term:
            return
        self._highest = max(self._highest, term)
        self._found, self._next_term = self._value, 0
        self.term, self._step, self._due = 0, _COUNT, float("-inf")

    def ask(self, now: float) -> Operation[Any] | None:
        """What to ask the store for, if anything; ``answered`` is to be told."""
        if self._is_asked or now < self._due:
            return None
        self._is_asked, self._asked_step = True, self._step
        if self._step == _LOOK:
            return Get(DIRECTOR)
        if self._step == _COUNT:
            return Incr(FENCE, by=max(1, self._highest - self._next_term + 1) if self._next_term else 1)
        if self._step == _CLAIM:
            return Claim(DIRECTOR, self._found, self._value, ttl_s=LEASE_S)
        return Claim(DIRECTOR, self._value, self._value, ttl_s=LEASE_S)

    def answered(self, answer: Any, now: float) -> None:
        """The answer to what was asked for last."""
        self._is_asked = False
        if self._asked_step != self._step:
            return  # it matters no more
        if isinstance(answer, ControlStoreError):
            self._due = now + AGAIN_S
            if self._step == _CLAIM:  # it may have been done
                self._step = _LOOK
        elif self._step == _LOOK:
            self._looked(answer, now)
        elif self._step == _COUNT:
            self._next_term = answer
            if answer > self._highest:
                self._value = encode(KeptDirector(self._record, answer))
                self._highest = answer
                self._step = _CLAIM
        elif not answer:  # somebody else was faster, or this node was too slow
            self.term, self._is_doubtful, self._step = 0, False, _LOOK
        else:
            self._held(now)

    def _looked(self, value: bytes | None, now: float) -> None:
        self._found, self.other = value, None
        if value is not None and value == self._value:  # a claim of this node has succeeded, and it was not told
            self._held(now)
            return
        if value is not None:
            kept = decode_director(value)
            self._highest = max(self._highest, kept.term)
            if kept.record.number not in self._ended and kept.record.number != self._record.number:
                self.other = kept
                self._due = now + AGAIN_S
                return
        self._next_term, self._step = 0, _COUNT

    def _held(self, now: float) -> None:
        self.term, self._is_doubtful, self._step = decode_director(self._value).term, False, _RENEW
        self._due = now + RENEW_S


# --- what is known of nodes -------------------------------------------------------------------------------------------


class Written(msgspec.Struct, frozen=True):
    """The store has what was to be written of a node."""

    kept: KeptNode


class Lives(msgspec.Struct, frozen=True):
    """A node has shown in the store that it lives."""

    number: int


class FoundDead(msgspec.Struct, frozen=True):
    """A director has declared the node dead."""

    number: int
    cause: str


class Taken(msgspec.Struct, frozen=True):
    """The number is another node's."""

    number: int
    address: str


class Outranked(msgspec.Struct, frozen=True):
    """A director with a higher term has written."""

    term: int


News: TypeAlias = Written | Lives | FoundDead | Taken | Outranked


class _Page:
    """What the store has of a node, and is to have."""

    __slots__ = ("asked", "is_certain", "is_due", "known", "looks", "proofs", "wanted")

    def __init__(self, wanted: KeptNode, known: bytes | None, proofs: int) -> None:
        self.wanted = wanted
        #: The value at its key, as far as it is known.
        self.known = known
        self.proofs = proofs
        self.is_due = True
        #: The key has to be read before it is written.
        self.looks = False
        #: What is under way: the value that is written, or b"" for a look; None: nothing.
        self.asked: bytes | None = None
        #: A death for which there is proof, and not just silence.
        self.is_certain = False


class Ledger:
    """What a director has written of nodes, and has to. At most one question for each node is under way."""

    def __init__(self) -> None:
        self.term = 0
        self._pages: dict[int, _Page] = {}

    def begin(self, term: int, found: Mapping[int, bytes]) -> list[KeptNode]:
        """A term begins: every record is to carry it. Returns what is known of all nodes.

        Args:
            term: its number.
            found: {node number: value at its key}, read after the term had begun.
        """
        self.term = term
        known: list[KeptNode] = []
        for number, value in found.items():
            kept = decode_node(value)
            known.append(kept)
            page = self._pages.get(number)
            if page is None:
                page = self._pages[number] = _Page(kept, value, kept.proofs)
            page.known, page.proofs = value, kept.proofs
            if kept.state == DEAD:
                page.wanted, page.is_due = kept, False
                continue
            if page.wanted.state != DEAD or not page.is_certain:
                page.wanted = kept
        for page in self._pages.values():
            if page.wanted.state == ALIVE or page.is_certain:
                page.wanted = msgspec.structs.replace(page.wanted, term=term)
                page.is_due = True
        return known

    def keep(self, record: NodeRecord, state: str, cause: str = "", *, certain: bool = True) -> None:
        """Have it written that a node is alive, or dead; ``certain``: whether or not it says something meanwhile."""
        page = self._pages.get(record.number)
        wanted = KeptNode(record, state, cause, self.term, page.proofs if page else 0)
        if page is None:
            page = self._pages[record.number] = _Page(wanted, None, 0)
        elif page.wanted.state == DEAD and (state != DEAD or page.is_certain or not certain):
            return  # it is dead, or about to be
        page.wanted, page.is_certain, page.is_due = wanted, certain, True

    def dooms(self, number: int) -> bool:
        """Whether it is about to be written that a node is dead: nothing may be promised to it meanwhile."""
        page = self._pages.get(number)
        return page is not None and page.wanted.state == DEAD

    def forget(self, number: int) -> None:
        """Nothing has to be written of a node any more: it was never one of them."""
        self._pages.pop(number, None)

    def ask(self) -> list[tuple[int, Operation[Any]]]:
        """What to ask the store for: (number of the node, question)."""
        asked: list[tuple[int, Operation[Any]]] = []
        for number, page in self._pages.items():
            if not page.is_due or page.asked is not None:
                continue
            if page.looks:
                page.asked = b""
                asked.append((number, Get(node_key(number))))
            else:
                page.asked = encode(page.wanted)
                ttl_s = DEAD_KEPT_S if page.wanted.state == DEAD else None
                asked.append((number, Claim(node_key(number), page.known, page.asked, ttl_s=ttl_s)))
        return asked

    def answered(self, number: int, answer: Any) -> News | None:
        """The answer to what was asked for of a node."""
        page = self._pages.get(number)
        if page is None or page.asked is None:
            return None
        asked, page.asked = page.asked, None
        if isinstance(answer, ControlStoreError):  # it may have been done
            page.looks = True
            return None
        if not asked:
            page.looks = False
            return self._looked(number, page, answer)
        if not answer:
            page.looks = True
            return None
        page.known = asked
        return self._written(page, asked)

    def _written(self, page: _Page, value: bytes) -> News:
        kept = decode_node(value)
        page.is_due = encode(page.wanted) != value
        return Written(kept)

    def _looked(self, number: int, page: _Page, value: bytes | None) -> News | None:
        page.known = value
        if value is None:  # the store has lost it
            return None
        if value == encode(page.wanted):
            return self._written(page, value)
        kept = decode_node(value)
        if kept.term > self.term:
            page.is_due = False
            return Outranked(kept.term)
        if kept.record.address != page.wanted.record.address:
            page.is_due = False
            return Taken(number, kept.record.address)
        if kept.state == DEAD:
            was_dead = page.wanted.state == DEAD
            page.wanted, page.is_certain, page.is_due = kept, True, False
            return Written(kept) if was_dead else FoundDead(number, kept.cause)
        has_proof = kept.proofs > page.proofs
        page.proofs = kept.proofs
        if has_proof and page.wanted.state == DEAD and not page.is_certain:
            page.wanted = msgspec.structs.replace(kept, term=self.term)
            page.is_due = kept.term != self.term
        else:
            page.wanted = msgspec.structs.replace(page.wanted, proofs=kept.proofs, term=self.term)
        return Lives(number) if has_proof else None
