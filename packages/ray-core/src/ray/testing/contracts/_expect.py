"""What the checks of all contracts share. Nothing here, or in a check, needs pytest."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

from ray.clock import monotonic, sleep

#: How long a check waits for what must happen soon. A part that is merely slow passes; one that hangs fails.
DEADLINE_S = 10.0


class ContractViolationError(AssertionError):
    """A part does not do what its seam's contract says. The text is the broken rule, and what was seen."""


def expect(condition: object, rule: str) -> None:
    """Fail with ``rule`` unless ``condition`` holds. Works under ``python -O``, unlike an assertion."""
    if not condition:
        raise ContractViolationError(rule)


def expect_equal(seen: object, wanted: object, rule: str) -> None:
    """Fail with ``rule`` and both values unless they are equal."""
    if seen != wanted:
        raise ContractViolationError(f"{rule}: expected {_short(wanted)}, got {_short(seen)}")


@contextmanager
def expect_raises(kind: type[BaseException], rule: str) -> Iterator[list[BaseException]]:
    """Fail with ``rule`` unless the block raises ``kind``; yields a list that then holds the error."""
    raised: list[BaseException] = []
    try:
        yield raised
    except kind as error:
        raised.append(error)
    except Exception as error:
        raise ContractViolationError(f"{rule}: expected {kind.__name__}, got {error!r}") from error
    else:
        raise ContractViolationError(f"{rule}: expected {kind.__name__}, nothing was raised")


def eventually(condition: Callable[[], object], rule: str, deadline_s: float | None = None) -> None:
    """Fail with ``rule`` unless ``condition()`` becomes true in time."""
    deadline_s = DEADLINE_S if deadline_s is None else deadline_s
    end = monotonic() + deadline_s
    while not condition():
        if monotonic() > end:
            raise ContractViolationError(f"{rule}: not within {deadline_s:g} s")
        sleep(0.001)


def in_time(action: Callable[[], object], rule: str, deadline_s: float | None = None) -> None:
    """Run ``action`` on a thread of its own; fail with ``rule`` if it does not end in time.

    What it raises is raised here. After a failure the thread is left behind (a daemon): it hangs.
    """
    deadline_s = DEADLINE_S if deadline_s is None else deadline_s
    errors: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="contract-check", daemon=True)
    thread.start()
    thread.join(deadline_s)
    if thread.is_alive():
        raise ContractViolationError(f"{rule}: still running after {deadline_s:g} s")
    if errors:
        raise errors[0]


def on_threads(count: int, action: Callable[[int], object], rule: str) -> None:
    """Run ``action(0..count-1)`` at the same time, as ``in_time`` does one."""
    start = threading.Barrier(count)

    def run(index: int) -> None:
        start.wait(DEADLINE_S)
        action(index)

    def all_of_them() -> None:
        errors: list[BaseException] = []

        def guarded(index: int) -> None:
            try:
                run(index)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=(index,), daemon=True) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    in_time(all_of_them, rule)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:100]} … {text[-60:]}"


@contextmanager
def leaping_time() -> Iterator[None]:
    """Each reading of the module ``time`` is a day after the last one, as the tests of a program may have it."""
    later = itertools.count(0.0, 24 * 3600.0).__next__
    with mock.patch.multiple("time", monotonic=later, perf_counter=later, time=later):
        yield
