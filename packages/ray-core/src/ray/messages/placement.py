"""Wire structs that say where a task or an actor may run. Rules as in ``ray.messages.wire``."""

from __future__ import annotations

from ray.messages.wire import Struct

#: Names of nodes, and names and values of labels, as a regular expression.
NAME_FORM = r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?"


class LabelRule(Struct, frozen=True):
    """What a label of a node has to be: one of ``values``, or none of them. None is that of a node without it."""

    name: str
    values: tuple[str | None, ...]
    none_of: bool = False


class Placement(Struct, frozen=True):
    """Where a task or an actor may run; by default on any node."""

    node: str = ""
    """Its number as 8 hexadecimal digits, or its name."""
    soft: bool = False
    """Elsewhere if there is no such node, or it has too little."""
    labels: tuple[LabelRule, ...] = ()
    preferred: tuple[LabelRule, ...] = ()
    """Any other nodes if there is none of these, or they have too little."""
    spread: bool = False
    """On as many nodes as possible."""
