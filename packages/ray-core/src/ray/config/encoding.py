"""Text that no message, no plan and no file name can hold."""

from __future__ import annotations

from collections.abc import Mapping


def lone_surrogate(value: object) -> str:
    """Which letter of a text, or of a text in a table or list, UTF-8 cannot encode: a clause, or nothing."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"{value[error.start]!r} at index {error.start}, a lone surrogate"
    elif isinstance(value, Mapping):
        return next(filter(None, map(lone_surrogate, [*value, *value.values()])), "")
    elif isinstance(value, (list, tuple, set, frozenset)):
        return next(filter(None, map(lone_surrogate, value)), "")
    return ""
