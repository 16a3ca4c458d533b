"""Where the driver prints what workers wrote: plain lines, or a terminal with unfinished lines at its end.

On a terminal the unfinished line of each worker, such as a progress bar, is drawn below everything else and replaced in
place; whatever is printed through ``sys.stdout`` or ``sys.stderr`` meanwhile goes above, but for a line of the program
that has no end either, which stays the last. Elsewhere only finished lines are printed, and the newest state of an
unfinished one once a second.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TextIO

from ray.clock import monotonic, sleep
from ray.runtime.driver.own_line import OwnLine
from ray.runtime.process.program_streams import Shadow, flush, is_file, write

#: How often the states of an unfinished line are printed where they cannot be replaced.
PLAIN_S = 1.0
#: Lines that the program has wiped out, by printing something itself, are drawn anew so much later.
REDRAW_S = 0.25
#: The program may print a line in parts: its end is waited for, for so long.
END_S = 0.1
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x1f\x7f-\x9f]")
#: To the first column, and everything from there on wiped out.
_WIPE = "\r\x1b[J"

_screens: weakref.WeakSet[Screen] = weakref.WeakSet()

Key = tuple[str, int, int]
"""Whose line it is: (node, pid, stream)."""


class Unfinished:
    """A line that has no end yet."""

    __slots__ = ("prefix", "printed", "printed_at", "text")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.text = ""
        #: The state that was printed last, where it cannot be replaced.
        self.printed = ""
        self.printed_at = 0.0


class Screen:
    """Used by one thread; others may print through the streams of the program meanwhile."""

    def __init__(self, wait_s: float | None = None) -> None:
        """Nothing is drawn yet.

        Args:
            wait_s: how long each stream is waited for that takes nothing; None: until it does.
        """
        self._wait_s = wait_s
        self._lines: dict[Key, Unfinished] = {}
        #: How many lines are drawn at the end of the terminal, with the program's own, and on which stream.
        self._drawn = 0
        self._terminal: TextIO | None = None
        #: What the program has printed without its end.
        self._own = OwnLine()
        #: The streams of the program are shadowed also while nothing is drawn.
        self._attends = False
        self._lock = threading.RLock()
        #: Files whose ``write`` is ours, and what that is.
        self._shadowed: list[tuple[TextIO, Shadow]] = []
        _screens.add(self)

    def attend(self) -> None:
        """From now on take note of what the program prints, to know whether it is in the middle of a line."""
        with self._lock:
            self._attends = True
            self._shadow()

    def finish(self, key: Key, prefix: str, lines: list[str]) -> None:
        """Print lines; the first of them is the end of the unfinished one."""
        stream = _stream(key)
        self._let_end(stream)
        line = self._lines.pop(key, None)
        if line is not None and line.printed == lines[0] and line.printed:
            lines = lines[1:]  # it has just been printed
        text = "".join(f"{prefix}{each}\n" for each in lines)
        if text:
            self._print(stream, text)
        if line is not None or self._lines:
            with self._lock:
                self._draw()

    def update(self, key: Key, prefix: str, text: str) -> None:
        """Show the newest state of an unfinished line; an empty one takes it away."""
        if not text:
            self._lines.pop(key, None)
        else:
            line = self._lines.setdefault(key, Unfinished(prefix))
            line.prefix, line.text = prefix, text
        with self._lock:
            self._draw()

    def catch_up(self) -> float | None:
        """Print the states that cannot be replaced and are due, and draw anew what the program has wiped out.

        Returns:
            In how many seconds to come again, if that is necessary.
        """
        due = []
        with self._lock:
            if any(is_terminal(_stream(key)) for key in self._lines):
                if not self._drawn:
                    self._draw()
                due = [REDRAW_S]
        for key, line in self._lines.items():
            stream = _stream(key)
            if line.text == line.printed or is_terminal(stream):
                continue
            left_s = line.printed_at + PLAIN_S - monotonic()
            if left_s > 0:
                due.append(left_s)
                continue
            line.printed, line.printed_at = line.text, monotonic()
            write(stream, f"{line.prefix}{line.text}\n", self._wait_s)
        return min(due, default=None)

    def message(self, text: str) -> None:
        """Print what is not of a worker on stderr."""
        stream = sys.stderr
        self._let_end(stream)
        self._print(stream, text)
        with self._lock:
            self._draw()

    def close(self) -> None:
        """Nothing is replaced any more: what is drawn stays."""
        with self._lock:
            if self._drawn and self._terminal is not None and not self._own.text:
                write(self._terminal, "\n", self._wait_s)
            self._drawn = 0
            self._lines.clear()
            self._attends = False
            self._reveal()

    def _let_end(self, stream: TextIO) -> None:
        """Give the program a moment to end the line that it prints: ``print`` writes its end by itself.

        What the program has put in the place of the stream may draw on the terminal behind all the time: not for long.
        """
        end, own = monotonic() + (END_S if is_terminal(stream) else END_S / 10), self._own
        while (own.text or not own.is_known) and not own.is_bar and monotonic() < end:
            sleep(0.001)

    def _print(self, stream: TextIO, text: str) -> None:
        """Print whole lines in place of what is drawn, if anything is.

        Not under the lock where the stream is the program's own: it may have a lock, which other printing threads hold.
        """
        if not is_terminal(stream):
            write(stream, text, self._wait_s, above=True)
            return
        with self._lock:
            if not self._own.fits(_size(stream)[0]):
                text = f"\n{text}"
                self._own.clear()
            elif self._drawn or self._own.text:
                self._flush_own()
                text, self._drawn = f"{self._above(text)}{self._own.text}", 0
            write(stream, text, self._wait_s)

    def _flush_own(self) -> None:
        """What the program has printed of its line is to be where it can be wiped out."""
        for stream, _ in self._shadowed if self._own.text else ():
            flush(stream, self._wait_s)

    def _above(self, text: str) -> str:
        """Text that goes to where the drawn lines are, which are to be drawn anew after it, as is the program's own."""
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        return f"{up}{_WIPE}{text}"

    def _draw(self) -> None:
        """Draw the unfinished lines in place of the ones that are drawn; under the lock."""
        shown = [line for key, line in self._lines.items() if is_terminal(_stream(key))]
        if not shown and not self._drawn:
            self._reveal()
            return
        terminal = self._terminal if self._drawn and self._terminal is not None else _terminal()
        if terminal is None:
            return
        columns, rows = _size(terminal)
        if not self._own.fits(columns):
            return
        own = [self._own.text] if self._own.text else []
        rows -= len(own)
        texts = [fitted(f"{line.prefix}{line.text}", columns - 1) for line in shown]
        if len(texts) > rows - 1:
            hidden = len(texts) - max(1, rows - 2)
            texts = [*texts[: max(1, rows - 2)], fitted(f"… and {hidden} more", columns - 1)]
        text = "\n".join(texts + own)
        self._flush_own()
        write(terminal, self._above(text) if self._drawn or own else text, self._wait_s)
        self._terminal, self._drawn = terminal, len(texts + own) if texts else 0
        if texts:
            self._shadow()
        else:
            self._reveal()

    def _shadow(self) -> None:
        """While lines are drawn, what the program prints itself goes above them, or below where it has no end.

        What it has put in the place of a stream writes to Python's own, mostly.
        """
        for stream in _files():
            if all(stream is not other for other, _ in self._shadowed) and is_terminal(stream):
                shadow = Shadow(self._shadowing(stream.write))
                stream.write = shadow  # type: ignore[method-assign]
                self._shadowed.append((stream, shadow))

    def _shadowing(self, write: Callable[[str], int]) -> Callable[[str], int]:
        def shadowed(text: str) -> int:
            with self._lock:
                own, before = self._own, self._own.text
                own.take(text)
                if self._drawn and self._terminal is not None:
                    if "\n" not in text and own.fits(_size(self._terminal)[0]):
                        if own.text and not before:
                            write("\n")
                            self._drawn += 1
                    else:
                        self._terminal.flush()
                        wiped, self._drawn = f"{self._above('')}{before}", 0
                        write(wiped)
                return write(text)

        return shadowed

    def _let_go(self) -> None:
        """This is a copy of the process."""
        self._lock = threading.RLock()
        self._drawn = 0
        self._attends = False
        self._reveal()

    def _reveal(self) -> None:
        """Nothing is drawn: let the program's streams be as they were, unless they are attended to."""
        if self._attends:
            return
        self._own.clear()
        for stream, shadow in self._shadowed:
            if vars(stream).get("write") is shadow:  # else the program has put its own in front of it
                del stream.write
        self._shadowed.clear()


def _stream(key: Key) -> TextIO:
    return sys.stderr if key[2] == 2 else sys.stdout


def _terminal() -> TextIO | None:
    return next((stream for stream in (sys.stderr, sys.stdout) if is_terminal(stream)), None)


def _files() -> Iterator[TextIO]:
    """Where the program may write to the terminal."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            yield stream


def is_terminal(stream: TextIO) -> bool:
    """Whether lines can be replaced there.

    Not where somebody types at a prompt meanwhile, nor through what the program has put there, which may do with lines
    what it likes.
    """
    try:
        shows = is_file(stream) and stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        return shows and not hasattr(sys, "ps1")
    except Exception:  # none, closed, or the program's own, which may raise what it likes
        return False


def _size(terminal: TextIO) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(terminal.fileno())
    except Exception:  # as above
        return 80, 24
    return size.columns or 80, size.lines or 24


def fitted(text: str, columns: int) -> str:
    """A line without control characters that takes at most so many columns."""
    text = _CONTROLS.sub("", text)
    if len(text) <= columns and text.isascii():
        return text
    import unicodedata

    taken = 0
    for place, character in enumerate(text):
        taken += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if taken > columns:
            return text[:place]
    return text


def _after_fork_in_child() -> None:
    for screen in _screens:
        screen._let_go()


os.register_at_fork(after_in_child=_after_fork_in_child)
