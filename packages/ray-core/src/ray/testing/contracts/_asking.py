"""What the checks of control stores take, and how they ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from ray.abc.control import ControlStore
from ray.abc.control_operations import Operation
from ray.testing.contracts._expect import eventually, expect_equal

T = TypeVar("T")


@dataclass(frozen=True)
class ControlSubject:
    """A fresh, empty control store."""

    control: ControlStore
    connect: Callable[[], ControlStore]
    """Opens one more handle on the same store; the check closes it."""
    silence: Callable[[ControlStore], AbstractContextManager[object]] | None = None
    """Has the store say nothing to a handle, and do nothing for it, until the end of the block; None: it cannot be."""


Check: TypeAlias = Callable[[ControlSubject], None]


def answers_to(control: ControlStore, ops: Sequence[Operation[Any]]) -> list[Any]:
    """Ask all of them, and deliver until all are answered, in the order of the answers."""
    answers: list[Any] = []
    for op in ops:
        control.ask(op, answers.append)

    def answered() -> bool:
        control.deliver()
        return len(answers) >= len(ops)

    eventually(answered, "what is asked is answered")
    return answers


def answer_to(control: ControlStore, op: Operation[T]) -> T:
    """The answer to one; an error, if that is the answer."""
    answer: T = answers_to(control, [op])[0]
    return answer


def expect_answer(control: ControlStore, op: Operation[T], wanted: T, rule: str) -> None:
    """Fail with ``rule`` unless that is the answer, of that very type."""
    seen = answer_to(control, op)
    expect_equal((type(seen).__name__, seen), (type(wanted).__name__, wanted), rule)
