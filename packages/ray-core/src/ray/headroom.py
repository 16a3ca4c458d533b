"""How much room is left on a thread's stack.

A program that recurses without end, by mistake, gets its RecursionError wherever its thread is at that moment: often in
this package's code, which it would leave half done. What must not be left so looks first. It then leaves the work to
the thread that polls, or raises the error before anything has changed.
"""

from __future__ import annotations

import sys
from typing import Any


class Room:
    """Room for so many calls, one inside the other."""

    __slots__ = ("calls", "nested")

    def __init__(self, calls: int) -> None:
        self.calls = calls
        #: ``isinstance`` goes as deep, in C, and so meets the limit where it is: it has no other effect.
        self.nested: Any = ()
        for _ in range(calls):
            self.nested = (self.nested,)


#: To send a message, where that may take a new connection first.
SENDING = Room(60)
#: To take messages and do all that follows from them.
TAKING = Room(120)
_frame, _limit = sys._getframe, sys.getrecursionlimit
#: Python's own calls are not counted together with those in C: where they are, the one look tells of both.
_COUNTED_APART = sys.version_info >= (3, 12)


def lacks(room: Room) -> bool:
    """Whether this thread is too near to its limit of recursion for ``room``."""
    try:
        isinstance(None, room.nested)
    except RecursionError:
        return True
    return _COUNTED_APART and _lacks_frames(room.calls)


def _lacks_frames(calls: int) -> bool:
    try:
        _frame(max(0, _limit() - calls))
    except ValueError:  # the stack is not that deep
        return False
    return True


def check(room: Room) -> None:
    """See to it that what follows is not torn.

    Raises:
        RecursionError: there is not enough room for it.
    """
    if lacks(room):
        raise RecursionError("maximum recursion depth exceeded: there is no room left for a call of ray")
