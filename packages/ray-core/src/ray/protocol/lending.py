"""What one node asks of others for the owners that wait at it: a pure machine.

A demand waits at its home, the node manager of its owner, and nowhere else. What finds no room there is asked for at
other nodes, as far as they are known to have room. They lend workers now, or refuse; nothing is passed on. So a message
that is lost, late or doubled costs a moment, and never a worker: what comes for nobody is given back.

Invariants (``validate``):
- a loan that is not settled has workers left to come, and its node is known;
- a lease that was lent is of exactly one owner, and of a node that is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ray.abc.scheduler import NodeView, ResourceRequest, SchedulerPolicy
from ray.ids import node_of
from ray.protocol.waiting import DemandKey

#: A loan that is not settled after this time is forgotten; what comes of it later is given back.
PATIENCE_S = 5.0
#: Loans of one class that may be under way at a time.
MOST_LOANS = 2
#: Workers that are asked for with one loan, where nothing but a number limits them.
MOST_FREE = 16


@dataclass(frozen=True, slots=True)
class Wish:
    """Workers that an owner waits for, and its own node has no room for."""

    key: DemandKey
    request: ResourceRequest
    count: int
    job: str
    name: str
    for_life: bool = False


@dataclass(slots=True)
class Loan:
    """A question to another node: lend workers."""

    number: int
    node: bytes
    wish: Wish
    #: Workers that were neither granted nor refused.
    left: int
    #: When it is given up.
    until: float


@dataclass(frozen=True, slots=True)
class Lent:
    """A lease of a worker on another node."""

    id: bytes
    key: DemandKey

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
        self._last = 0

    # --- nodes --------------------------------------------------------------------------------------------------------

    def node_up(self, node: bytes, total: Mapping[str, int], labels: Mapping[str, str]) -> None:
        """A node has come; what is free there is not known yet."""
        self.nodes[node] = NodeView(node, dict(total), {}, is_local=False, labels=dict(labels))

    def node_free(self, node: bytes, free: Mapping[str, int]) -> None:
        """A node says what is free there."""
        view = self.nodes.get(node)
        if view is not None:
            self.nodes[node] = replace(view, available=dict(free))

    def node_down(self, node: bytes) -> list[Lent]:
        """A node is dead; returns the leases that have ended with it."""
        self.nodes.pop(node, None)
        for number in [number for number, loan in self.loans.items() if loan.node == node]:
            del self.loans[number]
        ended = [lent for lent in self.lent.values() if lent.node == node]
        for lent in ended:
            del self.lent[lent.id]
        return ended

    def could_serve(self, request: ResourceRequest) -> bool:
        """Whether some node has as much as is needed, if it were free."""
        full = (replace(view, available=view.total) for view in self.nodes.values())
        return self._policy.choose(request, tuple(full)) is not None

    # --- loans --------------------------------------------------------------------------------------------------------

    def look(self, wishes: Iterable[Wish], now: float) -> list[Loan]:
        """Ask for what is missing; returns the loans to be asked for.

        Args:
            wishes: all that find no room at home, in the order of service.
            now: monotonic time in seconds.
        """
        asked: list[Loan] = []
        under_way: dict[DemandKey, list[Loan]] = {}
        for loan in self.loans.values():
            under_way.setdefault(loan.wish.key, []).append(loan)
        for wish in wishes:
            loans = under_way.get(wish.key, [])
            missing = wish.count - sum(loan.left for loan in loans)
            for _ in range(MOST_LOANS - len(loans)):
                if missing <= 0:
                    break
                new = self._ask(wish, missing, now)
                if new is None:
                    break
                missing -= new.left
                asked.append(new)
        return asked

    def _ask(self, wish: Wish, count: int, now: float) -> Loan | None:
        node = self._policy.choose(wish.request, tuple(self.nodes.values()))
        view = None if node is None else self.nodes[node]
        if view is None or not view.available:
            return None
        needs = {name: amount for name, amount in wish.request.resources.items() if amount > 0}
        room = min((view.available.get(name, 0) // amount for name, amount in needs.items()), default=MOST_FREE)
        count = min(count, room)
        self._last += 1
        loan = self.loans[self._last] = Loan(self._last, view.node_id, wish, count, now + PATIENCE_S)
        taken = {name: amount * count for name, amount in needs.items()}
        left = {name: free - taken.get(name, 0) for name, free in view.available.items()}
        self.nodes[view.node_id] = replace(view, available=left)
        return loan

    def granted(self, number: int, lease: bytes) -> DemandKey | None:
        """A node lends a worker; returns the demand that it is for, or None: it has to be given back."""
        loan = self.loans.get(number)
        if loan is None or loan.node != node_of(lease) or lease in self.lent:
            return None
        self.lent[lease] = Lent(lease, loan.wish.key)
        self._settle(loan, 1)
        return loan.wish.key

    def refused(self, number: int, count: int) -> None:
        """A node does not lend so many of what it was asked for; until it says more of itself, it has no room."""
        loan = self.loans.get(number)
        if loan is not None:
            self._settle(loan, count)
            self.node_free(loan.node, {})

    def _settle(self, loan: Loan, count: int) -> None:
        loan.left -= count
        if loan.left <= 0:
            del self.loans[loan.number]

    def tick(self, now: float) -> None:
        """Give up the loans whose time is over."""
        for number in [number for number, loan in self.loans.items() if loan.until <= now]:
            del self.loans[number]

    # --- leases -------------------------------------------------------------------------------------------------------

    def ended(self, lease: bytes) -> Lent | None:
        """A lease of another node is over, whoever has ended it; returns it, if it was one."""
        return self.lent.pop(lease, None)

    def owner_lost(self, owner: bytes) -> list[Lent]:
        """An owner has died; returns its leases, which have ended: their workers have to be."""
        ended = [lent for lent in self.lent.values() if lent.key[0] == owner]
        for lent in ended:
            del self.lent[lent.id]
        return ended

    def validate(self) -> None:
        """Check the invariants.

        Raises:
            AssertionError: one does not hold.
        """
        for number, loan in self.loans.items():
            assert number == loan.number, (number, loan)
            assert loan.left > 0, loan
            assert loan.node in self.nodes, loan
        for id, lent in self.lent.items():
            assert id == lent.id, (id, lent)
            assert lent.node in self.nodes, lent
