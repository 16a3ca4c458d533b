"""Objects that nobody holds: what is freed with each, here and elsewhere. Under the runtime's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from ray.messages import codec
from ray.protocol.references import READY, STORED, ObjectEntry
from ray.runtime.interface import STREAMING
from ray.runtime.owner.handed_refs import ActorLife
from ray.runtime.owner.promises import Promise
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.protocol.references import ReferenceTable
    from ray.runtime.owner.borrowing import Borrowing
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.values import Values
    from ray.runtime.process.peers import PeerTable


class Lives(Protocol):
    """The entries that count handles to actors."""

    by_life: dict[bytes, bytes]

    def handle_gone(self, life: ObjectEntry) -> None: ...


class LettingGo:
    """Frees what the table has counted out."""

    def __init__(
        self,
        here: Here,
        table: ReferenceTable,
        values: Values,
        borrowing: Borrowing,
        peers: PeerTable,
        lives: Lives,
        actor_unheld: Callable[[bytes], None],
        unwanted: Callable[[ObjectEntry], None],
    ) -> None:
        """Make one.

        Args:
            here: this process.
            table: its objects.
            values: in stores.
            borrowing: tells owners that what is borrowed is not held any more.
            peers: the others; they may keep copies of values.
            lives: told of handles.
            actor_unheld: told that nobody holds a handle to that actor of this process.
            unwanted: told that nobody wants what comes next in a stream.
        """
        self._here = here
        self._table = table
        self._values = values
        self._borrowing = borrowing
        self._peers = peers
        self._lives = lives
        self._actor_unheld = actor_unheld
        self._unwanted = unwanted

    def collect(self) -> None:
        """Free what nobody holds; the caller has room for it on its stack."""
        self._free(self._table.collect())

    def _free(self, entries: Iterable[ObjectEntry]) -> None:
        """Let go of entries that nobody holds."""
        lives, values = self._lives, self._values
        for entry in entries:
            if lives.by_life:
                lives.handle_gone(entry)
            status, value, task = entry.status, entry.value, entry.task  # its task may end in the middle of this
            if status >= STORED:
                values.views.drop(entry.id)
                values.away.let_go(entry)
                if self._peers.knows_far:
                    self._forget_copies(entry)
            if entry.owner is not None:
                if entry.handed:
                    handed = self._table.take_handed(entry)
                    self._borrowing.give_back(entry, handed)
                if status == READY and value is not None and len(value) >= codec.OUT_OF_BAND_BYTES:
                    entry.table.drop_value(entry)
                    self._forget_copies(entry)
            elif status == STORED:
                values.delete(entry)
            elif type(task) is ActorLife:
                self._actor_unheld(task.actor_id)
            elif type(task) is Promise:
                task.unheld()
            elif type(task) is TaskRecord and task.num_returns == STREAMING:
                self._unwanted(entry)
            elif status == READY and value is not None and len(value) >= codec.OUT_OF_BAND_BYTES:
                self._free_large(entry)
            entry.table.drop_value(entry)

    def _free_large(self, entry: ObjectEntry) -> None:
        """The value may be in this process's store, and workers may keep copies."""
        entry.table.drop_value(entry)
        self._values.release(entry)
        self._forget_copies(entry)

    def _forget_copies(self, entry: ObjectEntry) -> None:
        """Those that workers keep of a value that they were sent as an argument."""
        for peer in list(self._peers.by_process.values()):
            if entry.id in peer.kept:
                peer.drop_kept(entry.id)
                peer.send_forgets()
