"""Concurrency groups: which of them a call may name."""

from __future__ import annotations

from collections.abc import Collection


def check_group(method: str, group: str, groups: Collection[str]) -> None:
    """See that an actor has the concurrency group that a call asks for.

    Raises:
        ValueError: it has not.
    """
    if group not in groups:
        has = f"these: {', '.join(map(repr, groups))}" if groups else "none"
        raise ValueError(
            f"{method} was called in the concurrency group {group!r}, which its actor does not have; by "
            f"concurrency_groups= of its class it has {has}."
        )
