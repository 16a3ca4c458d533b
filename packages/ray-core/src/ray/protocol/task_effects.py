"""What is to be done about tasks: their table appends these to ``out``, and its shell carries them out in order.

A call that interrupts the shell on its thread carries out what is left, beginning with what the shell is in the middle
of. So each may be carried out twice, one time inside the other, and has to do no harm then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

import msgspec

from ray.messages.node import ExitCause
from ray.protocol.run_slot import OpenRecall
from ray.protocol.task_records import Lease, SchedulingClass, Task

T = TypeVar("T", bound=Task)


class Push(msgspec.Struct, Generic[T]):
    """Send the ``batch`` of a lease to its worker."""

    lease: Lease[T]


class Ask(msgspec.Struct, Generic[T]):
    """Tell the node manager how many more workers a class can use now."""

    cls: SchedulingClass[T]


class Release(msgspec.Struct, Generic[T]):
    """Give a worker back. ``retired``: it ends by itself."""

    lease: Lease[T]
    retired: bool


class Forget(msgspec.Struct, Generic[T]):
    """The worker of a lease is dead, and what becomes of its tasks is decided."""

    lease: Lease[T]


class Suspect(msgspec.Struct, Generic[T]):
    """The connection to a worker is lost: ask the node manager how it ended."""

    lease: Lease[T]


class Recall(msgspec.Struct, Generic[T]):
    """Ask a worker to give back what it has not started."""

    lease: Lease[T]
    recall: OpenRecall


class Insist(msgspec.Struct, Generic[T]):
    """The worker has not answered: ask the node manager to put the recall in force."""

    lease: Lease[T]
    recall: OpenRecall


class After(msgspec.Struct):
    """Call ``then`` with the time, once, ``delay_s`` from now."""

    delay_s: float
    then: Callable[[float], None]


class Cancel(msgspec.Struct, Generic[T]):
    """A task that was cancelled will not run: end it so."""

    task: T


class Crash(msgspec.Struct, Generic[T]):
    """The worker of a task has died, and there is no retry left: end it so."""

    task: T
    cause: ExitCause


class RunAgain(msgspec.Struct, Generic[T]):
    """The worker of a task has died, and the task is going to run once more: tell of that if it goes on so."""

    task: T
    cause: ExitCause


Effect: TypeAlias = (
    "Push[T] | Ask[T] | Release[T] | Forget[T] | Suspect[T] | Recall[T] | Insist[T] | After | Cancel[T] | Crash[T]"
    " | RunAgain[T]"
)
