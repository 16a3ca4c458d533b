"""How the shell around a table does what the table has decided."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

E = TypeVar("E")


class Decides(Protocol[E]):
    """A table."""

    #: What is to be done.
    out: deque[E]


class CarryingOut(Generic[E]):
    """Takes effects from the ``out`` of a table, in order. Called under the runtime's lock."""

    __slots__ = ("_handlers", "_table")

    def __init__(self, table: Decides[E], handlers: Mapping[type, Callable[[Any], object]]) -> None:
        """Make one.

        Args:
            table: that has decided.
            handlers: {kind of effect: what does it}; each bears being called twice, one time inside the other.
        """
        self._table = table
        self._handlers = handlers

    def run(self) -> None:
        """Do what is to be done; a call that interrupts this goes on with it, from what this is in the middle of."""
        out, handlers = self._table.out, self._handlers
        while True:
            if not out:
                return
            effect = out[0]
            try:
                handlers[type(effect)](effect)
            except (RecursionError, MemoryError):
                raise  # where there is room it is done again
            except Exception:
                if out and out[0] is effect:
                    out.popleft()
                raise
            if out and out[0] is effect:
                out.popleft()
