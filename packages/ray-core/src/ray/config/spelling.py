"""Help with misspelt names."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown ``word``: the nearest known name, else all of them.

    The result starts with a space, or is empty when nothing is known.
    """
    import difflib  # Only on the way to an error.

    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f" Did you mean {near[0]!r}?"
    if names:
        return f" Known: {', '.join(map(repr, names))}."
    return ""
