"""What one node asks of others for the owners that wait at it: a pure machine.

A demand waits at its home, the node manager of its owner, and nowhere else. What finds no room there is asked for at
other nodes, as far as they are known to have room. They lend workers now, or refuse; nothing is passed on. So a message
that is lost, late or doubled costs a moment, and never a worker: what comes for nobody is given back.

Whom a home asks, and for how many, the scheduler's policy says for each worker, among the nodes on which the work may
run.

Invariants (``validate``):
- a loan that is not settled has workers left to come, and its node is known;
- ``asked`` counts what is left of the loans that were asked for just now;
- a lease that was lent is of exactly one owner, and of a node that is known, which counts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import msgspec

from ray.abc.scheduler import NodeView, ResourceRequest, SchedulerPolicy
from ray.ids import node_of
from ray.messages.cluster import Offer
from ray.messages.placement import Placement
from ray.protocol.placement import candidates, has
from ray.protocol.shortages import Kind, Shortages
from ray.protocol.waiting import DemandEntry, DemandKey

#: A loan that is not settled after this time is forgotten; what comes of it later is given back.
PATIENCE_S = 5.0
#: Its home gives no worker of its own for what it has asked for, for so long.
HEAD_START_S = 0.5
#: A demand waits so long for the node that it prefers, where nothing is on its way from there.
KEEP_S = 0.2
#: Loans of one class that may be under way at a time.
MOST_LOANS = 8
#: Workers of one class that are asked for at a time.
MOST_ASKED = 64
#: Workers that are asked for with one loan, where nothing but a number limits them.
MOST_FREE = 16


class Wish(msgspec.Struct, frozen=True):
    """Workers that an owner waits for, and its own node has no room for."""

    key: DemandKey
    request: ResourceRequest
    count: int
    job: str
    name: str
    for_life: bool = False
    placement: Placement | None = None
    #: Its own node has room, and is not the one that the policy prefers.
    elsewhere: bool = False
    #: Number of the node that is to be asked first; empty: none.
    prefer: bytes = b""
    #: Workers start for it at its own node.
    starts: bool = False
    #: Tasks of its job have a worker of its own node.
    served: bool = False


class Loan(msgspec.Struct):
    """A question to another node: lend workers."""

    number: int
    node: bytes
    wish: Wish
    #: Workers that were neither granted nor refused.
    left: int
    #: When it is given up.
    until: float
    #: It counts in ``LendingTable.asked``.
    is_new: bool = True
    #: The node has no room that is known of, and is asked to share: that it will is not counted on.
    claims: bool = False
    #: With ``claims``: tasks of the job have no worker at all.
    has_none: bool = False


class Lent(msgspec.Struct, frozen=True):
    """A lease of a worker on another node."""

    id: bytes
    key: DemandKey
    #: Of its owner; empty for an actor.
    job: str = ""

    @property
    def node(self) -> bytes:
        """Number of the lender."""
        return node_of(self.id)


class LendingTable:
    """Of one home."""

    def __init__(self, policy: SchedulerPolicy) -> None:
        self._policy = policy
        #: {node number: what is known of it}; what was asked for and not answered counts as taken.
        self.nodes: dict[bytes, NodeView] = {}
        #: {number: loan that is not settled}
        self.loans: dict[int, Loan] = {}
        #: {lease id: lease of another node}
        self.lent: dict[bytes, Lent] = {}
        self._asked: Counter[DemandKey] = Counter()
        #: {demand: since when nothing is on its way from the node that it prefers}
        self._since: dict[DemandKey, float] = {}
        #: Those that have waited long enough for that: any node will do.
        self._tired: set[DemandKey] = set()
        self._shortages = Shortages()
        self._last = 0

    # --- nodes --------------------------------------------------------------------------------------------------------

    def node_up(self, node: bytes, total: Mapping[str, int], labels: Mapping[str, str], name: str = "") -> None:
        """A node has come, or is heard again; what is free there is not known yet."""
        before = self.nodes.get(node)
        leased = 0 if before is None else before.leased
        self.nodes[node] = NodeView(
            node, dict(total), {}, is_local=False, labels=dict(labels), name=name, leased=leased
        )

    def node_free(self, node: bytes, free: Mapping[str, int]) -> None:
        """A node says what is free there."""
        view = self.nodes.get(node)
        if view is not None:
            self.nodes[node] = replace(view, available=dict(free))

    def node_down(self, node: bytes) -> list[Lent]:
        """A node is dead; returns the leases that have ended with it."""
        self.nodes.pop(node, None)
        for number in [number for number, loan in self.loans.items() if loan.node == node]:
            self._drop(self.loans[number])
        ended = [lent for lent in self.lent.values() if lent.node == node]
        for lent in ended:
            del self.lent[lent.id]
        return ended

    def could_serve(self, request: ResourceRequest, placement: Placement | None = None) -> bool:
        """Whether some node on which it may run has as much as is needed, if it were free."""
        able = candidates(placement, request.resources, self.nodes.values())
        full = tuple(replace(view, available=view.total) for view in able)
        return self._policy.choose(request, full) is not None

    # --- loans --------------------------------------------------------------------------------------------------------

    def asked(self, key: DemandKey) -> int:
        """How many workers were asked for just now and are to come, for a demand."""
        return self._asked[key] if self._asked else 0

    def look(self, wishes: Iterable[Wish], now: float, home: NodeView | None = None) -> list[Loan]:
        """Ask for what is missing; returns the loans to be asked for.

        Args:
            wishes: all that find no room at home, in the order of service.
            now: monotonic time in seconds.
            home: the node where they wait.
        """
        wishes = list(wishes)
        if self._since or self._tired:
            keys = {wish.key for wish in wishes}
            self._since = {key: since for key, since in self._since.items() if key in keys}
            self._tired &= keys
        asked: list[Loan] = []
        under_way: dict[DemandKey, list[Loan]] = {}
        for loan in self.loans.values():
            if not loan.claims:
                under_way.setdefault(loan.wish.key, []).append(loan)
        short: dict[Kind, tuple[Wish, int]] = {}
        for wish in wishes:
            loans = under_way.get(wish.key, [])
            missing = wish.count - sum(loan.left for loan in loans)
            most = MOST_LOANS - len(loans)
            chosen = self._preferred(wish, missing) if wish.prefer and most > 0 else {}
            coming = {loan.node for loan in loans} | chosen.keys()
            if not (wish.prefer and self._waits(wish, coming, now, home)):
                chosen |= self._chosen(wish, missing - sum(chosen.values()), most - len(chosen), home)
                missing -= sum(chosen.values())
                if missing > 0 and not wish.elsewhere:
                    shape = frozenset(wish.request.resources.items())
                    short.setdefault((wish.job, wish.for_life, shape, wish.placement), (wish, missing))
            for node, count in chosen.items():
                self._asked[wish.key] += count
                asked.append(self._ask(Loan(self._last + 1, node, wish, count, now + PATIENCE_S)))
        for kind in self._shortages.due(short, now):
            asked += self._claims(kind, *short[kind], now, home)
        return asked

    def _ask(self, loan: Loan) -> Loan:
        self._last = loan.number
        self.loans[loan.number] = loan
        return loan

    def _claims(self, kind: Kind, wish: Wish, missing: int, now: float, home: NodeView | None) -> list[Loan]:
        """No node has room: ask some that could have it to share what they have lent to other jobs."""
        has_none = not wish.served and all(lent.job != wish.job for lent in self.lent.values())
        turns = self._shortages.share(kind, [node.node_id for node in self._able(wish, home)], min(missing, MOST_ASKED))
        return [
            self._ask(Loan(self._last + 1, node, wish, count, now + PATIENCE_S, False, True, has_none))
            for node, count in turns.items()
        ]

    def offered(
        self, node: bytes, offer: Offer, wishes: Iterable[Wish], now: float, home: NodeView | None = None
    ) -> Loan | None:
        """A node keeps room for one worker: the loan to be asked for; None if nobody waits for that any more."""
        kind = (offer.job, offer.for_life, offer.resources)
        for wish in wishes:
            if (wish.job, wish.for_life, dict(wish.request.resources)) != kind:
                continue
            coming = sum(loan.left for loan in self.loans.values() if loan.wish.key == wish.key and not loan.claims)
            if coming < wish.count and any(view.node_id == node for view in self._able(wish, home)):
                self._asked[wish.key] += 1
                return self._ask(Loan(self._last + 1, node, wish, 1, now + PATIENCE_S))
        return None

    def _able(self, wish: Wish, home: NodeView | None) -> list[NodeView]:
        """The other nodes on which it may run, if all they have were free."""
        there = self.nodes.values() if home is None else (home, *self.nodes.values())
        return [node for node in candidates(wish.placement, wish.request.resources, there) if node is not home]

    # --- the node that a demand prefers -------------------------------------------------------------------------------

    def keeps(self, entry: DemandEntry) -> bool:
        """See ``OtherNodes``."""
        view = self.nodes.get(entry.prefer)
        return view is not None and (entry.key not in self._tired or _has_room(view, entry.request.resources))

    @property
    def remembers(self) -> bool:
        """Whether anything is noted of demands that prefer a node: ``look`` forgets it where they are no more."""
        return bool(self._since or self._tired or self._shortages)

    def keeps_until(self) -> float | None:
        """When the first of those that wait for one node have waited long enough; None: none do."""
        left = [since for key, since in self._since.items() if key not in self._tired]
        return min(left) + KEEP_S if left else None

    def _preferred(self, wish: Wish, missing: int) -> dict[bytes, int]:
        """How many workers the preferred node is to be asked for: what it has room for."""
        view = self.nodes.get(wish.prefer)
        if view is None or missing <= 0 or not candidates(wish.placement, wish.request.resources, (view,)):
            return {}
        needs = {name: amount for name, amount in wish.request.resources.items() if amount > 0}
        count, most = 0, min(missing, MOST_ASKED if needs else MOST_FREE)
        while count < most and _has_room(view, needs):
            left = {name: free - needs.get(name, 0) for name, free in view.available.items()}
            view = replace(view, available=left)
            count += 1
        self.nodes[wish.prefer] = view
        return {wish.prefer: count} if count else {}

    def _waits(self, wish: Wish, coming: Collection[bytes], now: float, home: NodeView | None) -> bool:
        """Whether it waits for that node alone, as it may serve soon."""
        key, view = wish.key, self.nodes.get(wish.prefer)
        is_home = home is not None and node_of(home.node_id) == wish.prefer
        if view is None and is_home:
            view = home
        if key in self._tired:
            return False
        if view is None or not candidates(wish.placement, wish.request.resources, (view,)):
            self._tired.add(key)
            return False
        if wish.starts or wish.prefer in coming:
            self._since.pop(key, None)
            return True
        if now < self._since.setdefault(key, now) + KEEP_S:
            return True
        self._tired.add(key)
        return False

    def _chosen(self, wish: Wish, missing: int, most: int, home: NodeView | None) -> dict[bytes, int]:
        """How many workers each of up to ``most`` nodes is to be asked for; from now on that much is not free there."""
        counts: dict[bytes, int] = {}
        if missing <= 0 or most <= 0:
            return counts
        nodes = list(self.nodes.values())
        if wish.placement is not None:
            nodes = self._able(wish, home)
        views = {node.node_id: node for node in nodes if node.available}
        here = (home,) if home is not None and wish.elsewhere else ()
        needs = {name: amount for name, amount in wish.request.resources.items() if amount > 0}
        missing = min(missing, MOST_ASKED)
        while missing > 0:
            node = self._policy.choose(wish.request, (*here, *views.values()))
            if node not in views or (node not in counts and len(counts) == most):
                break
            count = 1 if needs else min(missing, MOST_FREE)
            counts[node] = counts.get(node, 0) + count
            missing -= count
            left = {name: free - needs.get(name, 0) for name, free in views[node].available.items()}
            views[node] = replace(views[node], available=left, leased=views[node].leased + count)
            if not needs:
                break
        for node in counts:
            self.nodes[node] = replace(self.nodes[node], available=views[node].available)
        return counts

    def granted(self, number: int, lease: bytes) -> DemandKey | None:
        """A node lends a worker; returns the demand that it is for, or None: it has to be given back."""
        loan = self.loans.get(number)
        if loan is None or loan.node != node_of(lease) or lease in self.lent:
            return None
        self.lent[lease] = Lent(lease, loan.wish.key, "" if loan.wish.for_life else loan.wish.job)
        self._has_leased(loan.node, 1)
        self._settle(loan, 1)
        return loan.wish.key

    def _has_leased(self, node: bytes, more: int) -> None:
        view = self.nodes[node]
        self.nodes[node] = replace(view, leased=view.leased + more)

    def refused(self, number: int, count: int) -> None:
        """A node does not lend so many of what it was asked for; until it says more of itself, it has no room."""
        loan = self.loans.get(number)
        if loan is not None:
            self._settle(loan, count)
            if not loan.claims:
                self.node_free(loan.node, {})

    def _settle(self, loan: Loan, count: int) -> None:
        if count >= loan.left:
            self._drop(loan)
            return
        loan.left -= count
        if loan.is_new:
            self._asked[loan.wish.key] -= count

    def _drop(self, loan: Loan) -> None:
        """Nothing more is expected of it."""
        del self.loans[loan.number]
        self._no_longer_new(loan)

    def _no_longer_new(self, loan: Loan) -> None:
        key = loan.wish.key
        if loan.is_new:
            loan.is_new = False
            self._asked[key] -= loan.left
            if not self._asked[key]:
                del self._asked[key]

    def tick(self, now: float) -> None:
        """Give up the loans whose time is over; nodes that take long are not counted on until they say more."""
        for loan in list(self.loans.values()):
            if loan.until <= now:
                self._drop(loan)
            elif loan.is_new and loan.until - (PATIENCE_S - HEAD_START_S) <= now:
                self._no_longer_new(loan)
                self.node_free(loan.node, {})

    # --- leases -------------------------------------------------------------------------------------------------------

    def ended(self, lease: bytes) -> Lent | None:
        """A lease of another node is over, on either side; returns it, if it was one."""
        lent = self.lent.pop(lease, None)
        if lent is not None:
            self._has_leased(lent.node, -1)
        return lent

    def owner_lost(self, owner: bytes) -> list[Lent]:
        """An owner has died; returns its leases, which have ended: their workers have to be."""
        ended = [lent for lent in self.lent.values() if lent.key[0] == owner]
        for lent in ended:
            self.ended(lent.id)
        return ended

    def validate(self) -> None:
        """Check the invariants.

        Raises:
            AssertionError: one does not hold.
        """
        new: Counter[DemandKey] = Counter()
        for number, loan in self.loans.items():
            new[loan.wish.key] += loan.left if loan.is_new else 0
            assert number == loan.number, (number, loan)
            assert loan.left > 0, loan
            assert loan.node in self.nodes, loan
        assert +new == self._asked, (new, self._asked)
        for id, lent in self.lent.items():
            assert id == lent.id, (id, lent)
            assert lent.node in self.nodes, lent
        counts = Counter(lent.node for lent in self.lent.values())
        for node, view in self.nodes.items():
            assert view.leased == counts[node], (view, counts)


def _has_room(view: NodeView, needs: Mapping[str, int]) -> bool:
    """Whether a node has said that there is room."""
    return bool(view.available) and has(view.available, needs)
