"""Which tasks of an owner have the same needs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from ray.protocol.task_records import SchedulingClass
from ray.runtime.owner.records import TaskRecord, pickle_types

if TYPE_CHECKING:
    from ray.runtime.interface import TaskOptions


class SchedulingClasses:
    """All classes of an owner. Called under the runtime's lock."""

    def __init__(self, by_number: dict[int, SchedulingClass[TaskRecord]]) -> None:
        """Make them; each new one is added to ``by_number``."""
        self._by_needs: dict[tuple[Any, ...], SchedulingClass[TaskRecord]] = {}
        self._by_number = by_number
        self._numbers = itertools.count(1).__next__
        #: {id(options): (options, class, whether the options change nothing but resources)}
        self._by_options: dict[int, tuple[TaskOptions, SchedulingClass[TaskRecord], bool]] = {}

    def find(self, options: TaskOptions, depth: int) -> tuple[TaskOptions, SchedulingClass[TaskRecord], bool]:
        """The scheduling class of ``options``, and whether a worker needs to know nothing of them.

        Raises:
            UnpicklableError: they hold a class that no message can hold.
        """
        found = self._by_options.get(id(options))
        if found is not None and found[0] is options:
            return found
        key = (tuple(sorted(options.resources.items())), options.priority, options.placement, b"")
        cls = self._by_needs.get(key)
        if cls is None:
            cls = SchedulingClass(self._numbers(), options.resources, options.priority, depth, options.placement)
            cls = self._by_needs.setdefault(key, cls)
            self._by_number[cls.number] = cls
        if isinstance(options.retry_exceptions, tuple):
            pickle_types(options.retry_exceptions)  # what cannot be sent is refused while nothing is queued
        plain = not (options.retry_exceptions or options.max_calls or options.name or options.timeout_s)
        if len(self._by_options) > 1000:
            self._by_options.clear()
        found = self._by_options[id(options)] = (options, cls, plain)
        return found

    def near(self, cls: SchedulingClass[TaskRecord], node: bytes) -> SchedulingClass[TaskRecord]:
        """The class of those of ``cls`` that are to run on a node if that is soon."""
        key = (tuple(sorted(cls.resources.items())), cls.priority, cls.placement, node)
        found = self._by_needs.get(key)
        if found is None:
            made = SchedulingClass[TaskRecord](
                self._numbers(), cls.resources, cls.priority, cls.depth, cls.placement, node
            )
            found = self._by_needs.setdefault(key, made)
            self._by_number[found.number] = found
        return found
