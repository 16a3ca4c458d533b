"""Where the arguments of a task are, and so where it is to run if there is room soon. Under the runtime's lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from ray.ids import node_of
from ray.protocol.references import STORED, ObjectEntry
from ray.protocol.task_records import SchedulingClass
from ray.runtime.owner.away import AWAY_BYTES
from ray.runtime.owner.records import TaskRecord

if TYPE_CHECKING:
    from ray.runtime.owner.here import Here
    from ray.runtime.owner.values import Values


class Entries(Protocol):
    """The objects of a process."""

    entries: dict[bytes, ObjectEntry]


class Locality:
    """Of one owner."""

    def __init__(
        self,
        here: Here,
        table: Entries,
        values: Values,
        near: Callable[[SchedulingClass[TaskRecord], bytes], SchedulingClass[TaskRecord]],
    ) -> None:
        """Make it.

        Args:
            here: this process.
            table: its objects.
            values: in stores.
            near: gives the class of tasks that are to run on a node.
        """
        self._here = here
        self._table = table
        self._values = values
        self._near = near

    def nearest(self, cls: SchedulingClass[TaskRecord], record: TaskRecord) -> SchedulingClass[TaskRecord]:
        """The class for a task of ``cls`` with arguments, which are all there; ``record.place`` is that then."""
        if self._values.serves and not _is_elsewhere(cls):
            node = self._node_of_most(record)
            if node:
                cls = record.place = self._near(cls, node)
        return cls

    def _node_of_most(self, record: TaskRecord) -> bytes:
        """The node that has 1 MiB more of them than this one, or if it is this one, than any other; else none."""
        own = node_of(self._here.process_id)
        amounts = Counter({own: 0})
        for entry in self._arguments(record):
            for node in self._values.nodes_of(entry):
                amounts[node] += entry.nbytes
        (best, most), *rest = amounts.most_common(2)
        less = amounts[own] if best != own else rest[0][1] if rest else 0
        return best if most - less >= AWAY_BYTES else b""

    def _arguments(self, record: TaskRecord) -> Iterable[ObjectEntry]:
        """Those that are in a store, each once."""
        found = {entry.id: entry for _, entry in record.deps if entry.status >= STORED}
        packed = self._table.entries.get(record.stored) if record.stored else None
        if packed is not None and packed.status >= STORED:
            found[packed.id] = packed
        return found.values()


def _is_elsewhere(cls: SchedulingClass[TaskRecord]) -> bool:
    """Whether the program says where its tasks run, however large their arguments are."""
    placement = cls.placement
    return placement is not None and (placement.spread or bool(placement.node and not placement.soft))
