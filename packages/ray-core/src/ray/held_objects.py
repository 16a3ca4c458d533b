"""What a client of a store holds, by object id: for clients without a lock.

A finaliser that the garbage collector runs, or a signal handler, may interrupt code with a lock, and wait for a thread
that waits for it. So what is decided, and what is done about it, follow one another here without a call in between:
nothing comes there, and no other thread. Code that finds that something else has come before decides anew.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class Counted(Protocol):
    """One object that is held."""

    #: How many ``get`` have no ``release`` yet.
    unreleased: int


H = TypeVar("H", bound=Counted)


class HeldObjects(Generic[H]):
    """Of each id the object that it means now, and those that it meant before and are not released."""

    def __init__(self) -> None:
        #: {object id: what it means now}
        self.current: dict[bytes, H] = {}
        #: {object id: what it meant before, and is not released}, oldest first
        self.aside: dict[bytes, tuple[H, ...]] = {}

    def becomes(self, object_id: bytes, held: H) -> None:
        """From now on the id means this object."""
        while object_id not in self.current or self.current[object_id] is not held:
            self.put_aside(object_id)
            if object_id not in self.current:
                self.current[object_id] = held
                return

    def release(self, object_id: bytes) -> H | None:
        """End one hold, of the oldest object that has any; returns that object, or None."""
        while True:
            before, current = self.aside.get(object_id, ()), self.current.get(object_id)
            for held in (*before, current):
                if held is not None and held.unreleased:
                    held.unreleased -= 1
                    if not held.unreleased:
                        self.bury(object_id)
                    return held
            if (
                (self.aside[object_id] if object_id in self.aside else ()) is before  # noqa: SIM401 - that would be a call
                and (self.current[object_id] if object_id in self.current else None) is current  # noqa: SIM401
            ):
                return None

    def put_aside(self, object_id: bytes) -> H | None:
        """The id means its object no more, which is still to be released as often as it is held; returns it."""
        while (held := self.current.get(object_id)) is not None:
            before = self.aside.get(object_id, ())
            after = (*before, held)
            if (
                object_id in self.current
                and self.current[object_id] is held
                and (self.aside[object_id] if object_id in self.aside else ()) is before  # noqa: SIM401 - see ``release``
            ):
                del self.current[object_id]
                if held.unreleased:
                    self.aside[object_id] = after
                return held
        return None

    def bury(self, object_id: bytes) -> None:
        """Forget what was put aside and is released."""
        while object_id in self.aside:
            before = self.aside.get(object_id, ())
            after = tuple([held for held in before if held.unreleased])
            if (self.aside[object_id] if object_id in self.aside else ()) is before:  # noqa: SIM401 - see ``release``
                if after:
                    self.aside[object_id] = after
                elif before:
                    del self.aside[object_id]
                return

    def forget(self, object_id: bytes, held: H) -> None:
        """What is released is needed no more, unless a call has taken it up again."""
        if object_id in self.current and self.current[object_id] is held and not held.unreleased:
            del self.current[object_id]

    def all(self) -> list[H]:
        """Everything, released or not."""
        found = [held for aside in self.aside.copy().values() for held in aside]
        return [*self.current.copy().values(), *found]

    def clear(self) -> None:
        self.current.clear()
        self.aside.clear()
