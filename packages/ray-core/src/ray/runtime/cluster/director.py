"""The director's shell: lets nodes in that it can reach, hears their beats, and says who is dead."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ray.clock import boottime, monotonic
from ray.ids import node_bytes, node_of
from ray.messages import cluster
from ray.messages.cluster import KeptNode, NodeRecord
from ray.protocol.director import FoundDead, Lives, News, Outranked, Taken, Written
from ray.protocol.membership import ALIVE, BEAT_S, DEAD, DEAD_S, LATE_S, Roster
from ray.runtime.cluster.data_calls import DataCalls
from ray.runtime.cluster.members import Member, Members
from ray.runtime.cluster.office import Office
from ray.runtime.cluster.peering import Caller, Sender
from ray.runtime.process.timers import Timers

#: A new node has to answer the director's call within this time.
DIAL_BACK_S = 2.0
#: A call that ends within this time was refused; one that takes longer says nothing.
REFUSED_S = 1.0
#: Of the dead, how many every node is told again.
_TOLD_DEAD = 100
_ENDED = "its node manager has ended"


class Director:
    """Of a cluster: a role of one of its node managers, which is a member itself."""

    def __init__(
        self,
        record: NodeRecord,
        ended: int,
        members: Members,
        office: Office,
        timers: Timers,
        clients: Callable[[], Iterable[Caller]],
        apply: Callable[[cluster.Roster], None],
        on_term: Callable[[], None],
    ) -> None:
        """It directs nobody yet.

        Args:
            record: of this node.
            ended: number of the node that directed before, if that has certainly ended; 0: none is known of.
            members: the other nodes, as this one knows them.
            office: has the right to direct, and keeps what is decided.
            timers: of this node manager.
            clients: the connections that other node managers have dialled.
            apply: takes every new roster, as other nodes do.
            on_term: told whenever this node directs, from then on or again.
        """
        self._record = record
        self._own = record.number
        self._ended = ended
        self._members = members
        self._office = office
        office.on_term, office.on_news = self._begin_term, self._hear
        self._timers = timers
        self._clients = clients
        self._apply = apply
        self._on_term = on_term
        self.roster = Roster()
        #: Records of nodes that were dead when this one began to direct.
        self.gone: list[NodeRecord] = []
        #: {node number: who has asked to join, and is called back}
        self._joining: dict[int, Sender] = {}
        #: {node number: the same, once it has answered, until it is written down}
        self._answered: dict[int, tuple[Sender, Member]] = {}
        #: Who has asked to join before this node directs.
        self._early: list[tuple[Sender, cluster.Join]] = []
        #: Calls the data ports of those; None: the values of this cluster travel in messages.
        self.data: DataCalls | None = None
        self._has_begun = False
        self._turned = boottime()

    def begin(self, on_ready: Callable[[], None], fail: Callable[[str], None]) -> None:
        """Ask for the right to direct.

        Args:
            on_ready: told once this node directs.
            fail: ends this node manager, for a reason.
        """
        self._on_ready, self._fail = on_ready, fail
        self._tick()

    def _begin_term(self, found: list[KeptNode]) -> None:
        """This node directs from now on, or again."""
        now = boottime()
        self.gone = self.roster.recover(found, now)
        ended = self.roster.members.get(self._ended)
        if ended is not None:
            self.gone.append(ended.record)
            self._bury(ended.record, _ENDED)
        if self._own not in self.roster.members:
            refused = self.roster.join(self._record, now)
            if refused:
                self._fail(f"the cluster refuses its head: {refused}")
                return
            self.roster.admit(self._own, now)
            self._office.keep(self._record, ALIVE)
        self._announce()
        self._on_term()
        if not self._has_begun:
            self._has_begun = True
            self._on_ready()
        early, self._early = self._early, []
        for client, message in early:
            self.join(client, message)

    def awake(self, now: float) -> None:
        """A turn of the loop begins: if this node has stood still, it decides nothing before its right is renewed."""
        if now - self._turned - BEAT_S > LATE_S:
            self._office.doubt()
        self._turned = now

    # --- joining ------------------------------------------------------------------------------------------------------

    def join(self, client: Sender, message: cluster.Join) -> None:
        """A node asks to be let in, or has found this director: it is called back, or known."""
        if self._office.holds:
            self._office.outranked(message.term)
        if not self._office.holds:
            self._early.append((client, message))
            return
        record = message.record
        known = self.roster.members.get(record.number)
        if known is not None and known.record.address == record.address:
            if known.state == ALIVE:
                client.send(self._words())
            return
        reason = self.roster.join(record, boottime(), returns=message.term > 0)
        if reason:
            client.send(cluster.JoinRefused(reason))
            return
        self._joining[record.number] = client
        try:
            self._members.dial(record).is_joining = True
        except OSError as error:
            self._unreached(record, str(error))
            return
        self._timers.after(DIAL_BACK_S, lambda: self._unreached(record, f"no answer within {DIAL_BACK_S:g} s"))

    def reached(self, member: Member) -> None:
        """A node has answered the director's call: its data port is called as well."""
        if member.record.number not in self._joining:
            return
        if self.data is None:
            self._answers(member)
        else:
            self.data.begin(member, lambda why: self._unreached(member.record, why) if why else self._answers(member))

    def _answers(self, member: Member) -> None:
        """A node was reached: it is one of them once that is written down."""
        client = self._joining.pop(member.record.number, None)
        if client is not None:
            self._answered[member.record.number] = client, member
            self._office.keep(member.record, ALIVE)

    def _admit(self, number: int) -> None:
        _, member = self._answered.pop(number, (None, None))
        if member is not None:
            member.is_joining = False
            self.roster.admit(number, boottime())
            self._announce()

    def _unreached(self, record: NodeRecord, why: str) -> None:
        client = self._joining.pop(record.number, None)
        if client is not None:
            place = self.data.place_of(node_bytes(record.number)) if self.data is not None else ""
            place = f"{place} (data)" if place else self._members.place_of(record)
            self.roster.declare_dead(record.number, why)
            if self.data is not None:
                self.data.give_up(node_bytes(record.number))
            client.send(
                cluster.JoinRefused(
                    f"{place} of this node cannot be reached from the director at "
                    f"{self._members.place_of(self._record)}: {why}. Open that port, or start with --port-range or "
                    "--host"
                )
            )
            self._announce()

    # --- verdicts -----------------------------------------------------------------------------------------------------

    def lost(self, member: Member) -> None:
        """The connection to a node has ended, or was refused."""
        number = member.record.number
        if number in self._joining:
            self._unreached(member.record, "the connection was refused")
        elif not member.stands and monotonic() - member.dialled < REFUSED_S and not self._is_called_by(member.node):
            self.declare_dead(number, _ENDED)  # it was called again, in vain

    def _is_called_by(self, node: bytes) -> bool:
        """Whether the connection that a node has dialled stands: where calls to it fail, that is not its fault."""
        return any(node_of(client.id) == node and client.is_there for client in self._clients())

    def suspect(self, number: int) -> None:
        """Another node has lost its connection to one: the director's own is looked at, or dialled, by its members."""

    def leave(self, number: int, reason: str) -> None:
        """A node ends by its own will."""
        self.declare_dead(number, reason or "it was stopped")

    def end(self) -> None:
        """This node was asked to end, and the cluster ends with it: the others need not find out."""
        if self._office.holds:
            for client in self._clients():
                client.send(cluster.ClusterOver())

    def declare_dead(self, number: int, cause: str) -> None:
        """There is proof of its end. If this node may not decide, it hears of it again: it goes on to call the dead."""
        member = self.roster.members.get(number)
        if member is not None and number != self._own and self._office.holds:
            self._bury(member.record, cause)
            self._announce()

    def _bury(self, record: NodeRecord, cause: str) -> None:
        self.roster.declare_dead(record.number, cause)
        self._answered.pop(record.number, None)
        self._office.keep(record, DEAD, cause)

    def beat(self, client: Caller, number: int, message: cluster.Beat) -> None:
        """A node says that it lives; one that was declared dead gets no answer."""
        is_in = self.roster.beat(number, boottime())
        if not self._office.holds or (is_in and self._office.dooms(number)):
            return
        if is_in:
            client.say(cluster.Heard(message.number))
        if not is_in or message.version != self.roster.version:  # what was said last may have been lost
            client.send(self._words())

    def _tick(self) -> None:
        now = boottime()
        self.roster.beat(self._own, now)
        for number in self.roster.tick(now):
            record = self.roster.members[number].record
            self._office.keep(record, DEAD, f"it was not heard of for {DEAD_S:g} s", certain=False)
        self._office.turn()
        other = self._office.other
        if other is not None and self._has_begun:
            self._fail(f"node {other.record.number} directs the cluster instead of this one")
            return
        self._timers.about(BEAT_S, self._tick)

    def _hear(self, news: News) -> None:
        """The store has something to say of a node."""
        if isinstance(news, Written):
            number = news.kept.record.number
            if news.kept.state == DEAD:
                self._dead(number, news.kept.cause)
            else:
                self._admit(number)
        elif isinstance(news, FoundDead):
            self._dead(news.number, news.cause)
        elif isinstance(news, Lives):
            self.roster.beat(news.number, boottime())
        elif isinstance(news, Taken):
            self._refuse(news.number, f"its number, {news.number}, is that of the node at {news.address}")
        else:
            assert isinstance(news, Outranked)
            self._office.outranked(news.term)

    def _dead(self, number: int, cause: str) -> None:
        """The store has it that a node is dead."""
        self._office.forget(number)
        self._refuse(number, cause)
        if self.roster.declare_dead(number, cause):
            self._announce()

    def _refuse(self, number: int, reason: str) -> None:
        """A node that has answered cannot be one of them."""
        client, _ = self._answered.pop(number, (None, None))
        if client is not None:
            client.send(cluster.JoinRefused(reason))
            self.roster.declare_dead(number, reason)
            self._office.forget(number)
            self._announce()

    def _words(self) -> cluster.Roster:
        dead = list(self.roster.dead.items())[-_TOLD_DEAD:]
        return cluster.Roster(self.roster.version, self.roster.alive(), dead, self._office.term)

    def _announce(self) -> None:
        words = self._words()
        for client in self._clients():
            client.send(words)
        self._apply(words)
