"""What is known of a node that somebody names, and that is not there."""

from __future__ import annotations

from enum import Enum, auto


class Absence(Enum):
    """Whether it may come."""

    JOINS = auto()
    """It has joined, and has not answered this node yet."""
    AWAITED = auto()
    """It is a name, which a node may have that joins."""
    UNKNOWN = auto()
    """It is a number of which nothing is known: the node has just joined, or there is none."""
    OVER = auto()
    """It never comes: its number is that of a node that has died, or no node can join."""
