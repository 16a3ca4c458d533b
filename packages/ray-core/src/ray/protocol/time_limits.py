"""What the node manager does about a task that is over its time, by how far it is: pure.

The worker does all of this by itself, and a moment earlier, where its interpreter has time for it.
"""

from __future__ import annotations

import msgspec

#: So long after its time a task is interrupted, its owner is told, and its process is ended.
INTERRUPT_S, TELL_S, END_S = 0.05, 0.2, 1.25


class Step(msgspec.Struct, frozen=True):
    """What is due, and when to look again (seconds after the deadline), if then."""

    interrupt: bool = False
    tell: bool = False
    end: bool = False
    next_s: float | None = None


def step(over_s: float, *, heard: bool) -> Step:
    """What to do about a task that runs.

    Args:
        over_s: for how long it has been over its time; negative before.
        heard: the worker knows, and sees to it; but it may not get to the end of that.
    """
    if over_s < INTERRUPT_S:
        return Step(next_s=INTERRUPT_S)
    if over_s < TELL_S:
        return Step(interrupt=not heard, next_s=TELL_S)
    if over_s < END_S:
        return Step(tell=not heard, next_s=END_S)
    return Step(tell=True, end=True)
