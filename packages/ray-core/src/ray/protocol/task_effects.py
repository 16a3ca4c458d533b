"""What is to be done about tasks: their table appends these to ``out``, and its shell carries them out in order.

A call that interrupts the shell on its thread carries out what is left, beginning with what the shell is in the middle
of. So each may be carried out twice, one time inside the other, and has to do no harm then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from ray.messages.node import ExitCause
from ray.protocol.run_slot import OpenRecall
from ray.protocol.task_records import Lease, SchedulingClass, Task

T = TypeVar("T", bound=Task)


@dataclass(slots=True)
class Push(Generic[T]):
    """Send the ``batch`` of a lease to its worker."""

    lease: Lease[T]


@dataclass(slots=True)
class Ask(Generic[T]):
    """Tell the node manager how many more workers a class can use now."""

    cls: SchedulingClass[T]


@dataclass(slots=True)
class Release(Generic[T]):
    """Give a worker back. ``retired``: it ends by itself."""

    lease: Lease[T]
    retired: bool


@dataclass(slots=True)
class Forget(Generic[T]):
    """The worker of a lease is dead, and what becomes of its tasks is decided."""

    lease: Lease[T]


@dataclass(slots=True)
class Suspect(Generic[T]):
    """The connection to a worker is lost: ask the node manager how it ended."""

    lease: Lease[T]


@dataclass(slots=True)
class Recall(Generic[T]):
    """Ask a worker to give back what it has not started."""

    lease: Lease[T]
    recall: OpenRecall


@dataclass(slots=True)
class Insist(Generic[T]):
    """The worker has not answered: ask the node manager to put the recall in force."""

    lease: Lease[T]
    recall: OpenRecall


@dataclass(slots=True)
class After:
    """Call ``then`` with the time, once, ``delay_s`` from now."""

    delay_s: float
    then: Callable[[float], None]


@dataclass(slots=True)
class Cancel(Generic[T]):
    """A task that was cancelled will not run: end it so."""

    task: T


@dataclass(slots=True)
class Crash(Generic[T]):
    """The worker of a task has died, and there is no retry left: end it so."""

    task: T
    cause: ExitCause


@dataclass(slots=True)
class RunAgain(Generic[T]):
    """The worker of a task has died, and the task is going to run once more: tell of that if it goes on so."""

    task: T
    cause: ExitCause


Effect: TypeAlias = (
    "Push[T] | Ask[T] | Release[T] | Forget[T] | Suspect[T] | Recall[T] | Insist[T] | After | Cancel[T] | Crash[T]"
    " | RunAgain[T]"
)
