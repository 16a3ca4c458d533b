"""What is to be done about calls: their table appends these to ``out``, and its shell carries them out in order.

A call that interrupts the shell on its thread carries out what is left, beginning with what the shell is in the middle
of. So each may be carried out twice, one time inside the other, and has to do no harm then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

import msgspec

from ray.messages.node import ActorUpdate, ExitCause
from ray.protocol.call_records import Call, Callee
from ray.protocol.task_effects import After

T = TypeVar("T", bound=Call)


class Push(msgspec.Struct, Generic[T], gc=False):  # made in C, as there is one for each call that is sent alone
    """Send the ``batch`` of an actor to its process."""

    callee: Callee[T]


class Connect(msgspec.Struct, Generic[T]):
    """Reach the process of an actor where it is said to be, unless that is done or has been overtaken."""

    callee: Callee[T]
    update: ActorUpdate


class Drop(msgspec.Struct, Generic[T]):
    """The process of an actor has ended: what still comes from it is not heard."""

    callee: Callee[T]


class Soon(msgspec.Struct):
    """Call ``then`` with the time, once, ``delay_s`` from now, though the loop may be asleep for longer."""

    delay_s: float
    then: Callable[[float], None]


class End(msgspec.Struct, Generic[T]):
    """A call does not come to its end: its actor is dead, or its process was, or only the connection is lost."""

    call: T
    callee: Callee[T]
    #: What became of it; see ``fates``.
    fate: str
    #: None: that of the actor.
    cause: ExitCause | None = None
    error: bytes = b""
    restarts: bool = False
    #: The actor lives.
    lives: bool = False


class Refuse(msgspec.Struct, Generic[T]):
    """No process is reached that would run a call: end it with that error."""

    call: T
    error: Exception


class Cancel(msgspec.Struct, Generic[T]):
    """A call that was cancelled will not run: end it so."""

    call: T


class LetGo(msgspec.Struct, Generic[T]):
    """A call went on without a caller, and has ended: nobody needs its arguments."""

    call: T


class Placed(msgspec.Struct, Generic[T]):
    """An actor need not be kept for its ``__init__`` any more. ``runs``: it has a process again."""

    callee: Callee[T]
    runs: bool


class Restarts(msgspec.Struct, Generic[T]):
    """The process of an actor has died, and another one takes its place: tell of that if it goes on so."""

    callee: Callee[T]
    update: ActorUpdate


class Ended(msgspec.Struct, Generic[T]):
    """An actor is dead: its ``__init__`` will not run again."""

    callee: Callee[T]
    #: What its ``__init__`` has raised, if this process reports that; else empty.
    error: bytes
    #: Calls wait for the actor: they fail with that error, and tell it.
    asked: bool


Effect: TypeAlias = (
    "Push[T] | Connect[T] | Drop[T] | After | Soon | End[T] | Refuse[T] | Cancel[T] | LetGo[T] | Placed[T]"
    " | Restarts[T] | Ended[T]"
)
