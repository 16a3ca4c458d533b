"""What a stream says to code that takes it for a list: its references come one by one, and nobody knows how many.

The methods are set by name, so that type checkers go on to see none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn


class NotAList:
    """Base of streams: what only lists can do raises a TypeError that says what to write instead."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


def _refusing(text: str) -> Callable[..., NoReturn]:
    def refuse(self: NotAList, *operands: Any) -> NoReturn:
        raise TypeError(f"{self!r} is a stream, whose references come one by one as its task yields: {text}")

    return refuse


for _name, _text in {
    "getitem": "it cannot be indexed. next(stream) gives the next reference, list(stream)[0] waits for all of them.",
    "len": "it has no length. len(list(stream)) waits for all of them.",
    "reversed": "it cannot be read backwards. reversed(list(stream)) waits for all of them.",
}.items():
    setattr(NotAList, f"__{_name}__", _refusing(_text))
