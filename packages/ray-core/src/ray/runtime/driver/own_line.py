"""The line that the program itself has begun on the terminal, such as a progress bar of its own, and not ended yet."""

from __future__ import annotations

import re
import unicodedata

#: What moves the cursor or wipes something out: where the line is afterwards is not known. Colours do neither.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MOVES = re.compile(r"[\x00-\x0c\x0e-\x1f\x7f-\x9f]")
_MOST = 4096


class OwnLine:
    """Kept in such a form that writing it again at the beginning of a row makes it look the same."""

    __slots__ = ("is_bar", "is_known", "text")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """The program is at the beginning of a row."""
        self.text = ""
        #: Whether ``text`` is all of the line.
        self.is_known = True
        #: It begins anew again and again, and its end is not to be waited for.
        self.is_bar = False

    def take(self, text: str) -> None:
        """The program writes this."""
        _, ended, rest = text.rpartition("\n")
        if ended:
            self.clear()
        if not rest:
            return
        self.is_bar = self.is_bar or "\r" in rest
        if self.is_known:
            self.text = _newest(self.text + rest)
            self.is_known = len(self.text) <= _MOST and not _MOVES.search(_COLOUR.sub("", self.text))
            self.text = self.text if self.is_known else ""

    def fits(self, columns: int) -> bool:
        """Whether it is known and takes one row."""
        return self.is_known and max(map(width, self.text.split("\r"))) < columns


def _newest(text: str) -> str:
    """Without the states of a line that later ones have covered."""
    if "\r" not in text:
        return text
    states = text.split("\r")
    widths = list(map(width, states))
    widest = max(widths)
    last = max(place for place, each in enumerate(widths) if each == widest)
    return "\r".join(states[last:])


def width(text: str) -> int:
    """How many columns a text takes, whatever its colours."""
    if text.isascii() and "\x1b" not in text:
        return len(text)
    text = _COLOUR.sub("", text)
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
