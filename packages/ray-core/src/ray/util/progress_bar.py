"""``progress``: a bar on the terminal of the program, or in its notebook, while tasks end."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Iterator
from datetime import timedelta
from typing import Generic, TextIO, TypeVar

from ray.api.objects import wait
from ray.api.options import seconds
from ray.clock import monotonic
from ray.exceptions import GetTimeoutError
from ray.runtime.refs.ref import ObjectRef

__all__ = ["Progress", "progress"]

#: The bar is drawn anew no more often, and no less often while nothing ends.
_LEAST_S, _MOST_S = 0.1, 1.0
_LONGEST = 40

R = TypeVar("R")


def progress(refs: Iterable[ObjectRef[R]], description: str = "", *, timeout: float | None = None) -> Progress[R]:
    """Draw a bar on stderr while objects become ready; nothing is drawn where that is no terminal and no notebook.

    ``for ref in progress(refs): ...`` takes them as they become ready; ``progress(refs).wait()`` returns all. Failed
    tasks count as ready; ``ray.get`` raises their errors.

    Args:
        refs: no two alike.
        description: stands before the bar.
        timeout: seconds from the first step for all of them.

    Raises:
        RayConnectionError: there is no session.
        TypeError, ValueError: an argument that is wrong.
    """
    if isinstance(refs, ObjectRef) or not isinstance(refs, Iterable):
        raise TypeError(f"progress() needs a list of object refs, not {refs!r}")
    given = list(refs)
    wait(given, max(1, len(given)), 0)  # which checks them
    return Progress(given, description, seconds("timeout", timeout))


class Progress(Generic[R]):
    """References, and the bar that is drawn while they become ready. Made by ``progress``."""

    def __init__(self, refs: list[ObjectRef[R]], description: str, timeout_s: float | None) -> None:
        self._refs = refs
        self._description = description
        self._timeout_s = timeout_s

    def __len__(self) -> int:
        return len(self._refs)

    def __iter__(self) -> Iterator[ObjectRef[R]]:
        """The references as they become ready.

        Raises:
            TimeoutError: not all are ready in time; nothing is cancelled.
        """
        return self._ready()

    def wait(self) -> list[ObjectRef[R]]:
        """Wait until all are ready.

        Returns:
            All, in the order in which they were given.

        Raises:
            TimeoutError: not all are ready in time; nothing is cancelled.
        """
        for _ in self._ready():
            pass
        return self._refs

    def _ready(self) -> Generator[ObjectRef[R], None, None]:
        pending = self._refs
        end = None if self._timeout_s is None else monotonic() + self._timeout_s
        bar = _Bar(self._description, len(pending))
        try:
            while pending:
                bar.show(len(self._refs) - len(pending))
                left_s = _MOST_S if end is None else min(_MOST_S, max(0.0, end - monotonic()))
                ready, pending = wait(pending, 1, timedelta(seconds=left_s))
                if pending and ready:
                    more, pending = wait(pending, len(pending), 0)
                    ready += more
                if not ready and end is not None and monotonic() >= end:
                    raise GetTimeoutError(self._timeout_s, len(pending), len(self._refs))
                yield from ready
            bar.show(len(self._refs), is_last=True)
        finally:
            bar.close()


class _Bar:
    """One line, written again and again from its beginning."""

    def __init__(self, description: str, total: int) -> None:
        self._before = f"{description}: " if description else ""
        self._total = total
        self._file = _place()
        self._began = monotonic()
        self._drawn_at: float | None = None
        self._width = 0

    def show(self, done: int, *, is_last: bool = False) -> None:
        """Draw how many are done, if it is time."""
        now = monotonic()
        if self._file is None or (not is_last and self._drawn_at is not None and now - self._drawn_at < _LEAST_S):
            return
        self._drawn_at = now
        text = self._text(done, now - self._began, _columns(self._file) - 1)
        self._write(f"\r{text:<{self._width}}")
        self._width = len(text)

    def close(self) -> None:
        """Let what was drawn stay."""
        if self._drawn_at is not None:
            self._write("\n")
        self._file = None

    def _text(self, done: int, passed_s: float, columns: int) -> str:
        total = self._total
        share = done / total if total else 1.0
        before = f"{self._before}{share:4.0%} |"
        after = f"| {done:,}/{total:,} [{_clock(passed_s)}"
        if 0 < done < total:
            after += f"<{_clock(passed_s / done * (total - done))}"
        after += f", {done / passed_s:.1f}/s]" if done and passed_s > 0 else "]"
        room = max(0, min(_LONGEST, columns - len(before) - len(after)))
        full = int(share * room)
        return f"{before}{'█' * full}{' ' * (room - full)}{after}"[: max(0, columns)]

    def _write(self, text: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(text)
            self._file.flush()
        except (OSError, ValueError):  # the terminal has gone, or cannot show this; the waiting goes on
            self._file = None


def _place() -> TextIO | None:
    """Where a bar can be drawn, if anywhere: a terminal, or the output of a notebook's cell."""
    stream = sys.stderr
    try:
        if type(stream).__module__.startswith("ipykernel."):
            return stream
        return stream if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb" else None
    except (AttributeError, OSError, ValueError):  # none, closed, or the program's own
        return None


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (AttributeError, OSError, ValueError):  # as of a notebook
        return 80


def _clock(passed_s: float) -> str:
    minutes, rest = divmod(int(passed_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
